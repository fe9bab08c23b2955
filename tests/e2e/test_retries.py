"""Retries, lost runs, limits and pauses with real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from restic_manager.domain.model import Status, attempt_job_id
from tests.e2e.stage import Stage, stage, until
from tests.support.fake_restic import FakeRestic, install, make_repo, saved_snapshots

pytestmark = pytest.mark.timeout(180)

UNREACHABLE = {
    "steps": [
        {"stderr": "Fatal: unable to open repository: dial tcp 127.0.0.1:1: connect: connection refused"},
        {"exit": 1},
    ]
}


def ready(here: Stage, fake: FakeRestic, *options: str) -> Path:
    """A server, an agent, a repository that is there, and the schedule `s`, whose slots are far away."""
    here.start_server()
    here.start_agent("web1", restic=fake.path)
    repo = here.add_repo()
    make_repo(repo, "pw")
    here.ok("schedule", "add", "s", "--host", "web1", "--every", "30d", "--repo", "main", *options, "/etc")
    return repo


def test_network_errors_are_retried_to_success_while_somebody_waits(tmp_path: Path) -> None:
    fake = install(tmp_path / "bin", backup=[UNREACHABLE, UNREACHABLE, {}])
    with stage(tmp_path) as here:
        repo = ready(here, fake, "--retry", "2", "--retry-backoff", "1s")
        ran = here.run("schedule", "run", "s", "--wait")
        assert ran.returncode == 0, ran.stderr
        assert "succeeded" in ran.stdout
        assert "waits for its turn at" in ran.stderr
        jobs = {job.attempt: job for job in here.jobs()}
        assert [jobs[attempt].status for attempt in (1, 2, 3)] == [Status.FAILED, Status.FAILED, Status.SUCCEEDED]
        assert [jobs[attempt].id for attempt in (2, 3)] == [attempt_job_id(jobs[1].id, n) for n in (1, 2)]
        assert jobs[1].error is not None
        assert jobs[1].error.code == "network"
        first_end, second_end = jobs[1].finished_at, jobs[2].finished_at
        assert first_end is not None
        assert second_end is not None
        assert jobs[2].started_at is not None
        assert jobs[3].started_at is not None
        assert (jobs[2].started_at - first_end).total_seconds() >= 0.9
        assert (jobs[3].started_at - second_end).total_seconds() >= 1.9
        assert len(saved_snapshots(repo)) == 1


def test_a_run_lost_with_its_agent_is_made_up_for(tmp_path: Path) -> None:
    fake = install(tmp_path / "bin", backup=[{"steps": [{"stderr": "at work"}, {"sleep": 120}]}, {}])
    with stage(tmp_path) as here:
        repo = ready(here, fake)
        job = here.json("schedule", "run", "s")[0]
        until("the run", lambda: here.client.job(job["id"]).status is Status.RUNNING)
        here.agents["web1"].kill()
        here.start_agent("web1", restic=fake.path)
        assert here.finished(job["id"]).status is Status.INTERRUPTED  # once the repository was asked for its snapshot
        assert here.finished(attempt_job_id(job["id"], 1)).status is Status.SUCCEEDED
        assert len(saved_snapshots(repo)) == 1


@pytest.mark.parametrize(("option", "code"), [("--time-limit", "time_limit"), ("--stall-limit", "stalled")])
def test_limits_end_a_run(tmp_path: Path, option: str, code: str) -> None:
    fake = install(tmp_path / "bin", backup={"steps": [{"stderr": "at work"}, {"sleep": 120}]})
    with stage(tmp_path) as here:
        ready(here, fake, option, "1s")
        ran = here.run("schedule", "run", "s", "--wait")
        assert ran.returncode == 1
        (job,) = here.jobs()
        assert job.error is not None
        assert (job.status, job.error.code) == (Status.FAILED, code)


def test_a_paused_schedule_runs_when_asked_and_when_resumed(tmp_path: Path) -> None:
    fake = install(tmp_path / "bin")
    with stage(tmp_path) as here:
        repo = ready(here, fake)
        said = here.ok("pause", "--reason", "storage moves")
        assert "the fleet is paused: the fleet (storage moves)" in said
        here.ok("schedule", "add", "often", "--host", "web1", "--every", "1s", "--repo", "main", "/etc")
        assert "the fleet is paused" in here.ok("status")
        ran = here.run("schedule", "run", "often", "--wait")
        assert (ran.returncode, "paused since" in ran.stderr) == (0, True), ran.stderr
        assert [job.slot for job in here.jobs()] == [None]
        here.ok("resume")
        until("a slot's run", lambda: any(job.slot for job in here.jobs(status=Status.SUCCEEDED)))
        assert len(saved_snapshots(repo)) >= 2
