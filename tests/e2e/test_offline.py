"""Promise 2 with real processes: the server is down, every due backup runs, and afterwards every slot is explained."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from restic_manager.domain.model import Status
from tests.e2e.stage import Stage, stage, until
from tests.e2e.test_loop import every_slot_is_explained
from tests.support.fake_restic import install, saved_snapshots

pytestmark = pytest.mark.timeout(180)


def test_backups_go_on_while_the_server_is_down_and_are_told_afterwards(tmp_path: Path) -> None:
    fake = install(tmp_path / "bin")
    with stage(tmp_path) as here:
        server = here.start_server()
        here.start_agent("web1", "--offline-grace", "1s", restic=fake.path)
        repo = here.add_repo()
        here.ok("repo", "init", "main", "--host", "web1", "--wait")
        here.ok("schedule", "add", "four", "--host", "web1", "--every", "4s", "--repo", "main", "/etc")
        until("a run", lambda: here.jobs(schedule="four", status=Status.SUCCEEDED))
        server.kill()
        before = len(fake.invocations("backup"))
        until("five runs without the server", lambda: len(fake.invocations("backup")) >= before + 5, seconds=60)
        here.start_server()
        until("web1 to be back", lambda: here.online("web1"))
        backed_up = len(fake.invocations("backup"))
        until("what was missed", lambda: len(here.jobs(schedule="four", status=Status.SUCCEEDED)) >= backed_up)
        here.ok("schedule", "disable", "four")
        until("the last run", lambda: all(job.status.terminal for job in here.jobs()))
        fates = every_slot_is_explained(here, "four", 4)
        assert set(fates.values()) == {"ran"}
        assert len(saved_snapshots(repo)) == len(fates) == len(fake.invocations("backup"))
        assert all(here.log_lines(job.id) for job in here.jobs(schedule="four"))


def test_a_pause_ends_while_the_server_is_down(tmp_path: Path) -> None:
    fake = install(tmp_path / "bin")
    with stage(tmp_path) as here:
        server = here.start_server()
        here.start_agent("web1", "--offline-grace", "1s", restic=fake.path)
        here.add_repo()
        here.ok("repo", "init", "main", "--host", "web1", "--wait")
        here.ok("schedule", "add", "two", "--host", "web1", "--every", "2s", "--repo", "main", "/etc")
        until("a run", lambda: here.jobs(schedule="two", status=Status.SUCCEEDED))
        (pause,) = here.json("schedule", "pause", "two", "--reason", "disks", "--for", "8s")
        ends = datetime.fromisoformat(pause["until"])
        until("the pause to be applied", lambda: "in use" in here.agents["web1"].said().rpartition("version 3")[2])
        server.kill()
        assert datetime.now(UTC) < ends, "the server was killed before the end"
        paused = len(fake.invocations("backup"))
        until("runs after the end", lambda: len(fake.invocations("backup")) >= paused + 4, seconds=60)
        assert datetime.now(UTC) > ends
        here.start_server()
        until("web1 to be back", lambda: here.online("web1"))
        here.ok("schedule", "disable", "two")
        until("the last run", lambda: all(job.status.terminal for job in here.jobs()))
        told = until("what was run", lambda: _settled(here, len(fake.invocations("backup"))))
        slots = [at + timedelta(seconds=2 * number) for at, count, _, _ in told for number in range(count)]
        assert slots == sorted(set(slots)), "no slot twice"
        assert len({b - a for a, b in pairwise(slots)}) == 1, "and none left out"
        skipped = [(at, count) for at, count, fate, reason in told if (fate, reason) == ("skipped", "paused: disks")]
        assert sum(count for _, count in skipped) == 4
        last = max(at + timedelta(seconds=2 * (count - 1)) for at, count in skipped)
        assert last <= ends < last + timedelta(seconds=2)
        after = [fate for at, _, fate, _ in told if last < at and fate != "skipped"]
        assert set(after) <= {"ran", "coalesced"}
        assert after.count("ran") >= 4


def _settled(here: Stage, runs: int) -> list[tuple[datetime, int, str, str | None]] | None:
    """Return the history, oldest first: slot, count, fate, reason; None until every run is told."""
    entries = here.json("schedule", "history", "two", "--host", "web1")
    found = [
        (datetime.fromisoformat(one["slot"]), int(one["count"]), str(one["fate"]), one["reason"])
        for one in reversed(entries)
    ]
    ran = sum(fate == "ran" for _, _, fate, _ in found)
    return found if ran == runs and not {fate for _, _, fate, _ in found} & {"pending", "unknown"} else None


@pytest.mark.parametrize("flags", [(), ("--no-offline",)], ids=["keeps secrets", "keeps none"])
def test_a_backup_cut_off_after_its_snapshot_counts(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """An agent that kept nothing to ask the repository with is given the access by the server."""
    steps = [{"snapshot": True}, {"touch": str(tmp_path / "saved")}, {"sleep": 120}]
    fake = install(tmp_path / "bin", backup={"steps": steps})
    with stage(tmp_path) as here:
        here.start_server()
        agent = here.start_agent("web1", *flags, restic=fake.path)
        repo = here.add_repo()
        here.ok("repo", "init", "main", "--host", "web1", "--wait")
        here.ok("schedule", "add", "s", "--host", "web1", "--every", "1h", "--repo", "main", "/etc")
        job = here.json("schedule", "run", "s")[0]
        until("the snapshot", (tmp_path / "saved").exists)
        agent.kill()
        here.start_agent("web1", *flags, restic=fake.path)
        ended = here.finished(job["id"])
        assert ended.status is Status.SUCCEEDED, ended.error
        assert ended.snapshot_id == saved_snapshots(repo)[0]["id"]
        assert len(saved_snapshots(repo)) == len(here.jobs(schedule="s")) == 1


def test_an_idle_agent_with_standing_orders_stays_small(tmp_path: Path) -> None:
    fake = install(tmp_path / "bin")
    with stage(tmp_path) as here:
        here.start_server()
        agent = here.start_agent("web1", restic=fake.path)
        here.add_repo()
        here.ok("schedule", "add", "s", "--host", "web1", "--every", "1h", "--repo", "main", "/etc")
        here.ok("schedule", "run", "s", "--wait")
        assert agent.is_light()
