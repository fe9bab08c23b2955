"""docs/limits.md is what the program does: every bound is in it, with its value, and names a test that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.limits.constants import bounds
from tests.limits.document import DOCUMENT, rendered
from tests.limits.table import INNER, PARTS, Row

TESTS = Path(__file__).parents[1]
ROWS = [row for rows in PARTS.values() for row in rows]


def test_it_is_up_to_date() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == rendered(), "run python -m tests.limits.document"


def test_every_bound_is_in_it_once() -> None:
    listed = [row.constant for row in ROWS]
    assert len(set(listed)) == len(listed)
    inner = {name for names in INNER.values() for name in names}
    assert not inner & set(listed)
    missing = sorted(set(bounds()) - set(listed) - inner)
    assert missing == [], (
        "these bounds are in no row of tests/limits/table.py: add one, with a test at the edge and past it; or say in "
        "INNER why nobody outside comes to be past it"
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.constant)
def test_its_test_is_there(row: Row) -> None:
    file, _, name = row.test.partition("::")
    assert re.search(rf"^ *(?:async )?def {name}\(", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE), row.test
    assert row.what
    assert row.past


def test_a_new_bound_is_noticed(tmp_path: Path) -> None:
    """The search itself works: it finds what is named like a bound, and nothing else."""
    found = bounds()
    assert found["protocol.messages.MAX_MESSAGE"] == 1 << 20
    assert found["server.asgi.Limits.idle"] == 10.0
    assert "protocol.messages.PROTOCOL_VERSION" not in found
    assert len(found) > 150
