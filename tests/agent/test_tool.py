"""This agent's restic with a fake one that is a real executable: every kind gets there, and its rows come back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, get_args

import pytest
import trio

from restic_manager.agent.lookup import Lookup
from restic_manager.agent.tool import ResticTool
from restic_manager.domain.model import Kind, Outcome, RepoAccess, Status, kind_of
from restic_manager.domain.results import Row
from restic_manager.domain.specs import BackupSpec, CopySpec, InitSpec, Spec
from restic_manager.protocol.messages import CommandRun
from tests.protocol.samples import SPECS
from tests.support.fake_restic import FakeRestic, install, make_repo

EVERY: Final[dict[Kind, Spec]] = {
    kind_of(spec): spec for spec in reversed((BackupSpec(paths=("/etc",)), *SPECS.values()))
}
"""Of each kind the plain sample, which comes first there."""
FIRST: Final = {
    Kind.TAG: "snapshots",
    Kind.PROBE: "snapshots",
    Kind.VERIFY: "ls",
    Kind.LOCKS: "list",
    Kind.DUMP: "ls",
    Kind.UNLOCK: "list",
}
"""What restic is asked first, where that is not the kind's own command."""


async def carried_out(folder: Path, spec: Spec, rows: list[Row]) -> tuple[Outcome, FakeRestic]:
    """Hand this spec to a tool whose repository exists."""
    fake = install(folder / "bin")
    make_repo(folder / "repo", "pw")
    make_repo(folder / "source", "pw")
    wanted = spec.from_repo if isinstance(spec, CopySpec) else spec.chunker_from if isinstance(spec, InitSpec) else None
    order = CommandRun(
        job_id="job-1",
        spec=spec,
        repo=RepoAccess(repo_id="r1", url=str(folder / "repo"), password="pw"),
        restic_host="web1",
        ordered_at=datetime(2026, 3, 1, tzinfo=UTC),
        source=None if wanted is None else RepoAccess(repo_id=wanted, url=str(folder / "source"), password="pw"),
    )

    async def ignore(_stream: object, _lines: Sequence[str]) -> None: ...

    async def take(given: Sequence[Row]) -> None:
        rows.extend(given)

    with trio.fail_after(30):
        lookup = Lookup(data_dir=folder, environ={}, find_command=Path)
        outcome = await ResticTool(str(fake.path), cache_dir=folder / "cache", kill_after=5, lookup=lookup).run(
            order,
            on_lines=ignore,
            on_progress=lambda _: None,
            on_rows=take,
            on_spawned=lambda _: None,
            stop=trio.Event(),
        )
    return outcome, fake


def test_the_samples_have_every_kind() -> None:
    assert {type(spec) for spec in EVERY.values()} == set(get_args(Spec))


@pytest.mark.parametrize("spec", EVERY.values(), ids=kind_of)
async def test_every_kind_reaches_restic(tmp_path: Path, spec: Spec) -> None:
    outcome, fake = await carried_out(tmp_path, spec, [])
    kind = kind_of(spec)
    asked = [record["argv"][0] for record in fake.invocations()]
    assert next(command for command in asked if command not in {"version", "cat"}) == FIRST.get(kind, kind)
    assert outcome.status.terminal
    assert outcome.error is None or outcome.error.code in {"snapshot_missing", "repo_exists"}


async def test_rows_come_back(tmp_path: Path) -> None:
    rows: list[Row] = []
    fake = install(tmp_path / "bin")
    make_repo(tmp_path / "repo", "pw")
    await carried_out(tmp_path, EVERY[Kind.BACKUP], rows)
    assert rows == []
    outcome, _ = await carried_out(tmp_path, SPECS["snapshots"], rows)
    assert (outcome.status, len(rows)) == (Status.SUCCEEDED, 1), fake
