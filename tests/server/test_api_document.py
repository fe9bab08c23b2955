"""docs/api.md names every operation there is, and none that is not."""

from __future__ import annotations

import re
from pathlib import Path

from restic_manager.server.api.app import operations
from restic_manager.server.store import listings

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


def told() -> set[tuple[str, str]]:
    """The operations of the table. A row's methods and paths go together as far as there is such an operation."""
    there = {(one.method, one.path) for one in operations()}
    found: set[tuple[str, str]] = set()
    for line in PAGE.splitlines():
        cells = line.split("|")
        if len(cells) == 5:
            methods = re.findall(r"`(GET|POST|PATCH|DELETE)`", cells[1])
            paths = re.findall(r"`(/[^`]*)`", cells[2])
            pairs = {(method, path) for method in methods for path in paths}
            assert not paths or pairs & there, line
            for path in paths:
                assert any((method, path) in there for method in methods), (methods, path)
            found |= pairs & there
    return found


def test_every_operation_is_told() -> None:
    assert told() == {(one.method, one.path) for one in operations()}


def test_the_limits_are_those_of_the_program() -> None:
    assert f"{listings.MAX_ROWS:,} or {listings.MAX_TEXT >> 20} MiB" in PAGE
