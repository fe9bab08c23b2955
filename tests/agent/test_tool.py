"""This agent's restic with a fake one that is a real executable: what a server may have carried out, and what not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest
import trio

from restic_manager.agent.tool import CARRIED_OUT, ResticTool
from restic_manager.domain.model import Outcome, RepoAccess, Status, kind_of
from restic_manager.domain.specs import BackupSpec, InitSpec, Spec
from restic_manager.protocol.messages import CommandRun
from tests.protocol.samples import SPECS
from tests.support.fake_restic import FakeRestic, install, make_repo

REFUSED = [spec for spec in SPECS.values() if kind_of(spec) not in CARRIED_OUT]


async def carried_out(folder: Path, spec: Spec) -> tuple[Outcome, FakeRestic]:
    """Hand this spec to a tool whose repository exists."""
    fake = install(folder / "bin")
    make_repo(folder / "repo", "pw")
    order = CommandRun(
        job_id="job-1",
        spec=spec,
        repo=RepoAccess(repo_id="r1", url=str(folder / "repo"), password="pw"),
        restic_host="web1",
        ordered_at=datetime(2026, 3, 1, tzinfo=UTC),
    )

    async def ignore(_stream: object, _lines: Sequence[str]) -> None: ...

    with trio.fail_after(30):
        outcome = await ResticTool(str(fake.path), cache_dir=folder / "cache", kill_after=5).run(
            order, on_lines=ignore, on_progress=lambda _: None, on_spawned=lambda _: None, stop=trio.Event()
        )
    return outcome, fake


async def test_a_backup_is_carried_out(tmp_path: Path) -> None:
    outcome, fake = await carried_out(tmp_path, BackupSpec(paths=("/etc",)))
    assert outcome.status is Status.SUCCEEDED
    assert len(fake.invocations("backup")) == 1


def test_the_samples_have_every_other_kind() -> None:
    assert {type(spec) for spec in REFUSED} == set(get_args(Spec)) - {BackupSpec, InitSpec}


@pytest.mark.parametrize("spec", {kind_of(spec): spec for spec in REFUSED}.values(), ids=kind_of)
async def test_what_removes_overwrites_or_reads_out_is_not(tmp_path: Path, spec: Spec) -> None:
    """The server may be a stolen one: it decides when a host backs up, not what else may be done there."""
    outcome, fake = await carried_out(tmp_path, spec)
    assert outcome.status is Status.FAILED
    assert outcome.error is not None
    assert outcome.error.code == "not_permitted"
    assert f"does not carry out {kind_of(spec)}" in outcome.error.message
    assert fake.invocations() == []
