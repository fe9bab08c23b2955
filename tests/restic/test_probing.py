"""A probe's answer is what is there afterwards, never an exit code: with a fake restic that lies in every way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from restic_manager.domain.model import Outcome, RepoAccess, Status
from restic_manager.domain.results import ProbeStats
from restic_manager.domain.specs import ProbeSpec
from restic_manager.restic.probing import HOST, PROBE
from restic_manager.restic.run import Task, find_binary, run_task
from tests.support.fake_restic import FakeRestic, install, make_repo

THERE = {"stdout": json.dumps([{"id": "ab" * 32, "time": "2026-01-01T00:00:00Z", "tags": [f"rmj:{PROBE}"]}])}
GONE = {"stdout": "[]"}
DENIED = {"stderr": "Remove(<snapshot/abababab>) failed: unexpected HTTP response (403): 403 Forbidden"}
STAYS = {"stderr": f"unable to remove snapshot/{'ab' * 32} from the repository"}


async def probed(folder: Path, **scenario: object) -> tuple[Outcome, FakeRestic, list[str]]:
    fake = install(folder / "bin", **scenario)
    make_repo(folder / "repo", "pw")
    said: list[str] = []

    async def lines(_stream: str, given: Sequence[str]) -> None:
        said.extend(given)

    with trio.fail_after(30):
        outcome = await run_task(
            Task("job-1", None, ProbeSpec(), RepoAccess(repo_id="r", url=str(folder / "repo"), password="pw"), "web1"),
            binary=await find_binary(str(fake.path)),
            cache_dir=folder / "cache",
            on_lines=lines,
            on_progress=lambda _: None,
            stop=trio.Event(),
        )
    return outcome, fake, said


def asked(fake: FakeRestic) -> list[str]:
    return [one["argv"][0] for one in fake.invocations()][1:]


def does(*steps: object) -> dict[str, object]:
    return {"steps": list(steps)}


async def test_a_snapshot_of_its_own_is_made_and_deleted(tmp_path: Path) -> None:
    outcome, fake, _ = await probed(tmp_path, snapshots=[does(GONE), does(THERE), does(GONE)], forget=does({"exit": 0}))
    assert outcome == Outcome(status=Status.SUCCEEDED, exit_code=0, result=ProbeStats(deletion="possible"))
    assert asked(fake) == ["snapshots", "backup", "snapshots", "forget", "snapshots"]
    (backup,) = fake.invocations("backup")
    assert {f"--host={HOST}", f"--tag=rmj:{PROBE}"} <= set(backup["argv"])
    (forget,) = fake.invocations("forget")
    assert forget["argv"][-2:] == ["--", "ab" * 32]
    assert list((tmp_path / "cache").glob("probe-*")) == []


@pytest.mark.parametrize("code", [0, 1, 3])
async def test_a_refusal_is_one_whatever_restic_ends_with(tmp_path: Path, code: int) -> None:
    outcome, fake, said = await probed(tmp_path, snapshots=does(THERE), forget=does(DENIED, STAYS, {"exit": code}))
    assert (outcome.status, outcome.result) == (Status.SUCCEEDED, ProbeStats(deletion="refused"))
    assert asked(fake) == ["snapshots", "forget", "snapshots"], "one that is left from before is tried again"
    assert any("cannot delete" in line for line in said)


@pytest.mark.parametrize(
    "forget",
    [
        does({"exit": 0}),
        does({"stderr": "Fatal: unable to open repository: dial tcp: connection refused"}, {"exit": 1}),
        does({"stderr": "unable to create lock in backend: repository is already locked"}, {"exit": 11}),
    ],
    ids=["nothing said", "network", "locked"],
)
async def test_what_was_neither_done_nor_refused_is_not_known(tmp_path: Path, forget: object) -> None:
    outcome, _, _ = await probed(tmp_path, snapshots=does(THERE), forget=forget)
    assert (outcome.status, outcome.result) == (Status.FAILED, ProbeStats(deletion="unknown"))
    assert outcome.error is not None
    assert "could not be found out" in outcome.error.message


async def test_a_repository_that_does_not_answer_is_not_known(tmp_path: Path) -> None:
    silent = does({"stderr": "Fatal: wrong password or no key found"}, {"exit": 12})
    outcome, fake, _ = await probed(tmp_path, snapshots=silent)
    assert (outcome.status, outcome.result) == (Status.FAILED, ProbeStats(deletion="unknown"))
    assert asked(fake) == ["snapshots"], "nothing is tried where nothing is known"


async def test_a_snapshot_that_cannot_be_made_is_a_failed_backup(tmp_path: Path) -> None:
    full = does({"stderr": "Fatal: unable to save snapshot: no space left on device"}, {"exit": 1})
    outcome, fake, _ = await probed(tmp_path, snapshots=does(GONE), backup=full)
    assert outcome.status is Status.FAILED
    assert asked(fake) == ["snapshots", "backup"]
    assert list((tmp_path / "cache").glob("probe-*")) == []
