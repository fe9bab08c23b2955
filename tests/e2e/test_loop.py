"""The whole loop with real processes: ticks, jobs, restic, logs, verdicts, and the terminal that tells of them."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from restic_manager.domain.model import Status, slot_job_id
from restic_manager.protocol import api
from tests.e2e.stage import Stage, stage, until
from tests.support.fake_restic import install, saved_snapshots
from tests.support.restic_binaries import REAL_RESTICS, RealRestic

pytestmark = pytest.mark.timeout(180)


def some_files(folder: Path) -> Path:
    source = folder / "source"
    source.mkdir()
    for number in range(20):
        (source / f"file-{number}.txt").write_text(f"{number}\n" * 1000, encoding="utf-8")
    return source


def every_slot_is_explained(here: Stage, schedule: str, seconds: int) -> dict[datetime, str]:
    """Return what became of each slot from the first to the last that is known; fail on a hole or a second fate."""
    jobs = [job for job in here.jobs(schedule=schedule) if job.slot is not None]
    fates: dict[datetime, str] = {}
    for job in jobs:
        assert job.slot is not None
        assert job.slot not in fates, f"slot {job.slot} has two jobs"
        fates[job.slot] = "ran"
    for first, count in coalesced(here):
        for number in range(count):
            slot = first + timedelta(seconds=seconds * number)
            assert slot not in fates, f"slot {slot} ran and is {fates[slot]}"
            fates[slot] = "coalesced"
    slots = sorted(fates)
    steps = {(after - before).total_seconds() for before, after in itertools.pairwise(slots)}
    assert steps == {float(seconds)}, f"a slot is missing: steps {steps}"
    return fates


def coalesced(here: Stage) -> list[tuple[datetime, int]]:
    """Return the coalesced ranges of the ledger. The ledger's own commands come later; its table is there now."""
    import sqlite3

    with sqlite3.connect(f"file:{here.data / 'server.db'}?mode=ro", uri=True) as db:
        rows = db.execute("SELECT first_slot, count FROM fates WHERE fate = 'coalesced'").fetchall()
    db.close()
    return [(datetime.fromtimestamp(first / 1e6, UTC), int(count)) for first, count in rows]


@pytest.mark.parametrize("real", REAL_RESTICS)
def test_a_schedule_backs_up_with_real_restic(tmp_path: Path, real: RealRestic) -> None:
    with stage(tmp_path) as here:
        source = some_files(tmp_path)
        here.start_server()
        here.start_agent("web1", restic=real.path)
        repo = here.add_repo()
        added = here.json(
            *("schedule", "add", "often", "--host", "web1", "--every", "2s", "--repo", "main", "--exclude", "*-7.txt"),
            *("--tag", "mine", str(source)),
        )
        # The repository does not exist yet: the first backup says so, one init makes it, one attempt follows.
        retried = until(
            "the attempt after the init",
            lambda: next((job for job in here.jobs() if job.actor_kind == "retry" and job.status.terminal), None),
        )
        assert retried.status is Status.SUCCEEDED, retried.error
        inits = [job for job in here.jobs() if job.kind == "init"]
        assert [(job.status, job.actor_kind) for job in inits] == [(Status.SUCCEEDED, "server")]
        first = here.client.job(str(retried.attempt_of))
        assert first.error is not None
        assert (first.status, first.error.code) == (Status.FAILED, "repo_missing")

        run = until(
            "a scheduled success",
            lambda: next((job for job in here.jobs(schedule="often", status=Status.SUCCEEDED) if job.slot), None),
        )
        host = here.client.host("web1")
        assert run.slot is not None
        assert run.id == slot_job_id(str(added["id"]), host.id, run.slot)
        assert (run.kind, run.actor_kind, run.host, run.schedule, run.repo) == (
            "backup",
            "schedule",
            "web1",
            "often",
            "main",
        )
        assert run.stats is not None
        assert run.stats.total_files_processed == 19
        here.ok("schedule", "disable", "often")
        by_hand = here.run("schedule", "run", "often", "--wait")
        assert by_hand.returncode == 0, by_hand.stderr

        # What restic itself says of the repository is what `job list` says.
        until("the last job", lambda: all(job.status.terminal for job in here.jobs()))
        snapshots = json.loads(real.run(str(repo), "snapshots", "--json"))
        succeeded = [job for job in here.jobs(status=Status.SUCCEEDED) if job.kind == "backup"]
        assert sorted(str(s["id"])[:8] for s in snapshots) == sorted(str(job.snapshot_id)[:8] for job in succeeded)
        for snapshot in snapshots:
            assert snapshot["hostname"] == "web1"
            assert "mine" in snapshot["tags"]
            assert f"rm:{added['id']}" in snapshot["tags"]
        assert {tag for s in snapshots for tag in s["tags"] if tag.startswith("rmj:")} == {
            f"rmj:{job.id}" for job in succeeded
        }
        assert "no errors" in real.run(str(repo), "check")


@pytest.mark.parametrize("real", REAL_RESTICS[-1:])
def test_every_four_seconds_over_forty_each_slot_has_exactly_one_job(tmp_path: Path, real: RealRestic) -> None:
    with stage(tmp_path) as here:
        source = some_files(tmp_path)
        here.start_server()
        here.start_agent("web1", restic=real.path)
        repo = here.add_repo()
        here.ok("repo", "init", "main", "--host", "web1", "--wait")
        here.ok("schedule", "add", "four", "--host", "web1", "--every", "4s", "--repo", "main", str(source))
        until("ten runs", lambda: len(here.jobs(schedule="four", status=Status.SUCCEEDED)) >= 10, seconds=60)
        here.ok("schedule", "disable", "four")
        until("the last run", lambda: all(job.status.terminal for job in here.jobs()))
        fates = every_slot_is_explained(here, "four", 4)
        assert len(fates) >= 10
        assert set(fates.values()) == {"ran"}
        snapshots = json.loads(real.run(str(repo), "snapshots", "--json"))
        assert len(snapshots) == len(here.jobs(schedule="four", status=Status.SUCCEEDED)) == len(fates)


def test_an_interval_shorter_than_a_backup_runs_or_coalesces_every_slot(tmp_path: Path) -> None:
    fake = install(tmp_path / "bin", backup={"steps": [{"sleep": 2.5}, {"run": True}]})
    with stage(tmp_path) as here:
        here.start_server()
        here.start_agent("web1", restic=fake.path)
        repo = here.add_repo()
        here.ok("repo", "init", "main", "--host", "web1", "--wait")
        here.ok("schedule", "add", "short", "--host", "web1", "--every", "1s", "--repo", "main", "/etc")
        until("five runs", lambda: len(here.jobs(schedule="short", status=Status.SUCCEEDED)) >= 5, seconds=60)
        here.ok("schedule", "disable", "short")
        until("the last run", lambda: all(job.status.terminal for job in here.jobs()))
        fates = every_slot_is_explained(here, "short", 1)
        counted = Counter(fates.values())
        assert counted["coalesced"] >= 5
        assert len(saved_snapshots(repo)) == counted["ran"] == len(fake.invocations("backup"))


def test_a_killed_server_costs_neither_the_job_nor_its_log(tmp_path: Path) -> None:
    go = tmp_path / "go"
    lines = [{"stderr": f"before {number}"} for number in range(200)]
    late = [{"stderr": f"after {number}"} for number in range(200)]
    steps = [*lines, {"touch": str(tmp_path / "half")}, {"wait_for": str(go)}, *late, {"run": True}]
    fake = install(tmp_path / "bin", backup={"steps": steps})
    with stage(tmp_path) as here:
        server = here.start_server()
        here.start_agent("web1", restic=fake.path)
        here.add_repo()
        here.ok("repo", "init", "main", "--host", "web1", "--wait")
        here.ok("schedule", "add", "hourly", "--host", "web1", "--every", "1h", "--repo", "main", "/etc")
        job = here.json("schedule", "run", "hourly")[0]
        until("the backup to be under way", (tmp_path / "half").exists)
        server.kill()
        go.touch()
        until("restic to be through", lambda: fake.records("end")[-1]["code"] == 0 if fake.records("end") else None)
        here.start_server()
        ended = here.finished(job["id"])
        assert ended.status is Status.SUCCEEDED
        said = here.log_lines(job["id"])
        wanted = [f"before {number}" for number in range(200)] + [f"after {number}" for number in range(200)]
        assert [line for line in said if re.fullmatch(r"(before|after) \d+", line)] == wanted
        assert ended.log_lines_dropped == 0
        assert len(fake.invocations("backup")) == 1


def test_eight_hosts_one_new_repository_the_same_slot_one_init(tmp_path: Path) -> None:
    fake = install(tmp_path / "bin")
    with stage(tmp_path) as here:
        here.start_server()
        names = [f"host{number}" for number in range(8)]
        for name in names:
            here.start_agent(name, restic=fake.path, wait=False)
        until("all to be online", lambda: sum(host.online for host in here.client.hosts()) == 8)
        repo = here.add_repo()
        here.ok("schedule", "add", "all", "--all", "--every", "3s", "--repo", "main", "/etc")
        until(
            "every host's backup",
            lambda: len({job.host for job in here.jobs(status=Status.SUCCEEDED) if job.kind == "backup"}) == 8,
        )
        here.ok("schedule", "disable", "all")
        until("the last run", lambda: all(job.status.terminal for job in here.jobs()))
        assert len([job for job in here.jobs() if job.kind == "init"]) == 1
        assert len(fake.invocations("init")) == 1
        # Four at once are let to a repository: those found none. The others were let to it when the init had made it.
        failed = list(here.jobs(status=Status.FAILED))
        assert 1 <= len(failed) <= 4
        tried_again = {job.attempt_of for job in here.jobs(status=Status.SUCCEEDED) if job.actor_kind == "retry"}
        assert tried_again == {job.id for job in failed}
        assert all(job.error is not None and job.error.code == "repo_missing" for job in failed)
        succeeded = [job for job in here.jobs(status=Status.SUCCEEDED) if job.kind == "backup"]
        assert len(saved_snapshots(repo)) == len(succeeded)


def test_without_restic_the_agent_connects_and_its_jobs_say_what_to_do(tmp_path: Path) -> None:
    with stage(tmp_path) as here:
        here.start_server()
        here.start_agent("bare", restic="/nowhere/restic")
        here.add_repo()
        here.ok("schedule", "add", "s", "--host", "bare", "--every", "1h", "--repo", "main", "/etc")
        done = here.run("schedule", "run", "s", "--wait")
        assert done.returncode == 1
        job = here.jobs()[0]
        assert job.error is not None
        assert job.error.code == "restic_missing"
        assert "install restic" in job.error.message
        host = here.client.host("bare")
        assert host.restic_version is None
        assert host.restic_problem is not None
        assert "install restic" in host.restic_problem
        assert "install restic" in " ".join(here.client.status().problems)


def test_a_missing_source_is_a_warning_and_none_left_a_failure(tmp_path: Path) -> None:
    fake = install(tmp_path / "bin")
    with stage(tmp_path) as here:
        here.start_server()
        here.start_agent("web1", restic=fake.path)
        here.add_repo()
        here.ok("repo", "init", "main", "--host", "web1", "--wait")
        here.ok("schedule", "add", "half", "--host", "web1", "--every", "1h", "--repo", "main", "/etc", "/not/there")
        half = here.run("schedule", "run", "half", "--wait")
        assert half.returncode == 3, half.stderr
        here.ok("schedule", "add", "none", "--host", "web1", "--every", "1h", "--repo", "main", "/not/there")
        none = here.run("schedule", "run", "none", "--wait")
        assert none.returncode == 1
        job = here.jobs(schedule="none")[0]
        assert job.error is not None
        assert job.error.code == "source_missing"
        assert "/not/there" in job.error.message + " ".join(job.error.lines)


def test_logs_follow_a_live_run_and_a_cancel_ends_it(tmp_path: Path) -> None:
    fake = install(tmp_path / "bin", backup={"steps": [{"stderr": "hello from restic"}, {"sleep": 60}]})
    with stage(tmp_path) as here:
        here.start_server()
        here.start_agent("web1", restic=fake.path)
        here.add_repo()
        here.ok("repo", "init", "main", "--host", "web1", "--wait")
        here.ok("schedule", "add", "s", "--host", "web1", "--every", "1h", "--repo", "main", "/etc")
        job = here.json("schedule", "run", "s")[0]
        events = here.client.events(job["id"], follow=True)
        line = next(event for event in events if isinstance(event, api.LogEvent) and "hello" in event.text)
        assert line.text == "hello from restic"
        began = time.monotonic()
        here.ok("job", "cancel", job["id"][:8])
        last = [event for event in events if isinstance(event, api.JobEvent)][-1]
        assert last.job.status is Status.CANCELLED
        assert time.monotonic() - began < 30
        assert here.run("job", "logs", job["id"]).stdout.count("hello from restic") == 1
