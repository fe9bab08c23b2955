"""Hooks round a job: which run, what they are told, what their end means; what always runs, runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio
import trio.testing

from restic_manager.domain.hooks import Hooks
from restic_manager.domain.model import Failure, Outcome, RepoAccess, Status
from restic_manager.domain.specs import BackupSpec
from tests.agent.gatehouse import Gatehouse, gatehouse
from tests.e2e.stage import is_running

SPEC = BackupSpec(paths=("/etc",))
ALL = Hooks(before=("first",), after=("well",), on_failure=("badly",), finally_=("last",), time_limit=20)
FAILED = Outcome(status=Status.FAILED, error=Failure(code="network", message="no route"))


def ready(house: Gatehouse, **scripts: str) -> None:
    """Each hook notes that it ran; a script of its own follows."""
    house.policy("hooks = ['*']\n")
    for name in ("first", "well", "badly", "last"):
        house.program(f"hooks/{name}", f'echo {name} >> "$RESTIC_MANAGER_DATA_DIR/ran"\n{scripts.get(name, "")}')


def ran(house: Gatehouse) -> list[str]:
    path = house.data / "ran"
    return path.read_text().split() if path.exists() else []


async def test_a_job_that_ends_well(tmp_path: Path) -> None:
    async with gatehouse(tmp_path) as house:
        ready(house)
        outcome = await house.run(SPEC, hooks=ALL)
        assert outcome == house.inner.outcome
        assert ran(house) == ["first", "well", "last"]


async def test_a_job_that_fails(tmp_path: Path) -> None:
    async with gatehouse(tmp_path) as house:
        ready(house)
        house.inner.outcome = FAILED
        assert await house.run(SPEC, hooks=ALL) == FAILED
        assert ran(house) == ["first", "badly", "last"]


async def test_before_failing_means_that_nothing_is_started(tmp_path: Path) -> None:
    async with gatehouse(tmp_path) as house:
        ready(house, first="echo 'no database' >&2; exit 3")
        outcome = await house.run(SPEC, hooks=ALL)
        assert house.inner.ran == []
        assert outcome.status is Status.FAILED
        assert outcome.error is not None
        assert outcome.error.code == "hook_failed"
        assert "hook first (before) failed (exit code 3)" in outcome.error.message
        assert "hook first (before): no database" in house.lines
        assert ran(house) == ["first", "badly", "last"]


@pytest.mark.parametrize("name", ["well", "last"])
async def test_one_that_fails_afterwards_is_a_warning_and_the_snapshot_counts(tmp_path: Path, name: str) -> None:
    async with gatehouse(tmp_path) as house:
        ready(house, **{name: "exit 1"})
        outcome = await house.run(SPEC, hooks=ALL)
        assert (outcome.status, outcome.snapshot_id) == (Status.WARNING, house.inner.outcome.snapshot_id)
        assert outcome.error is not None
        assert outcome.error.code == "hook_failed"
        assert ran(house) == ["first", "well", "last"]


async def test_a_failure_stays_what_it_was(tmp_path: Path) -> None:
    async with gatehouse(tmp_path) as house:
        ready(house, last="exit 1")
        house.inner.outcome = FAILED
        outcome = await house.run(SPEC, hooks=ALL)
        assert outcome.error is not None
        assert outcome.error.code == "network"
        assert outcome.error.message == "no route; hook last (finally) failed (exit code 1)"


async def test_one_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    async with gatehouse(tmp_path) as house:
        ready(house, first="sleep 1000")
        outcome = await house.run(SPEC, hooks=Hooks(before=("first",), finally_=("last",), time_limit=1))
        assert outcome.error is not None
        assert "took more than 1 s and was ended" in outcome.error.message
        assert ran(house) == ["first", "last"]


async def test_a_cancel_ends_a_hook_and_what_always_runs_runs(tmp_path: Path) -> None:
    async with gatehouse(tmp_path) as house:
        ready(house, first="echo there; sleep 1000")

        async def cancel() -> None:
            await house.heard.wait()
            house.stop.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel)
            outcome = await house.run(SPEC, hooks=ALL)
        assert outcome.status is Status.CANCELLED
        assert house.inner.ran == []
        assert ran(house) == ["first", "last"]


async def test_what_always_runs_does_so_when_everything_is_cut_off(tmp_path: Path) -> None:
    async with gatehouse(tmp_path) as house:
        ready(house)
        started = trio.Event()

        async def hang() -> Outcome:
            started.set()
            await trio.sleep_forever()
            raise AssertionError

        house.inner.then = hang
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(house.run, SPEC)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            started = trio.Event()
            async with trio.open_nursery() as nursery:

                async def run() -> None:
                    await house.run(SPEC, hooks=ALL)

                nursery.start_soon(run)
                await started.wait()
                nursery.cancel_scope.cancel()
        assert ran(house) == ["first", "last"]


async def test_an_agent_that_died_leaves_nothing_undone(tmp_path: Path) -> None:
    async with gatehouse(tmp_path) as house:
        ready(house)
        await house.gate.look_up(house.order(SPEC, hooks=ALL), None)
        assert ran(house) == ["last"]
        # The server's access to look a run up by is no order to run hooks.
        await house.gate.look_up(house.order(SPEC, hooks=ALL, recover=True), None)
        assert ran(house) == ["last"]


async def test_a_hook_is_told_the_jobs_facts_and_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTIC_MANAGER_TOKEN", "rmi1-planted")
    monkeypatch.setenv("LD_PRELOAD_OF_SOMEBODY", "x")
    repo = RepoAccess(
        repo_id="r1", url="rest:http://u:s3cret@h/x", password="right-horse", env={"AWS_SECRET_ACCESS_KEY": "planted"}
    )
    async with gatehouse(tmp_path, joined_with=["rest:http://h/x"]) as house:
        house.policy("hooks = ['*']\n")
        house.program("hooks/tell", '/usr/bin/env -0 > "$RESTIC_MANAGER_DATA_DIR/env"; echo s3cret looked-up-here')
        await house.run(SPEC, hooks=Hooks(finally_=("tell",)), repo=repo, schedule_id="s1\n$(reboot)")
        told = dict(line.split("=", 1) for line in (house.data / "env").read_text().split("\0") if line)
        ours = {name.removeprefix("RESTIC_MANAGER_"): told[name] for name in told if name.startswith("RESTIC_MANAGER")}
        assert ours == {
            "JOB_ID": "j1",
            "KIND": "backup",
            "SCHEDULE": "s1$(reboot)",
            "SLOT": "",
            "HOST": "web1",
            "REPO": "rest:http://h/x",
            "PHASE": "finally",
            "STATUS": "succeeded",
            "SNAPSHOT": "ab" * 32,
            "ERROR": "",
            "DATA_DIR": str(house.data),
        }
        assert set(told) - {f"RESTIC_MANAGER_{name}" for name in ours} <= {
            *("PATH", "HOME", "LANG", "TZ", "TMPDIR", "PWD", "SHLVL", "_", "OLDPWD")
        }
        assert "planted" not in json.dumps(told)
        assert house.lines == ["hook tell (finally): *** ***"]


async def test_all_that_a_hook_has_started_ends_with_it(tmp_path: Path) -> None:
    async with gatehouse(tmp_path) as house:
        ready(house, first='sleep 1000 & echo $! > "$RESTIC_MANAGER_DATA_DIR/child"; sleep 1000')
        await house.run(SPEC, hooks=Hooks(before=("first",), time_limit=1))
        child = int((house.data / "child").read_text())
        assert not is_running(child)
