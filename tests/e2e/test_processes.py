"""Processes that are stopped, killed, started twice, and tokens that are used twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from restic_manager.domain.model import Status
from tests.e2e.stage import is_running, stage, until
from tests.support.fake_restic import install

pytestmark = pytest.mark.timeout(180)


def test_a_second_server_on_one_data_directory_says_why(tmp_path: Path) -> None:
    with stage(tmp_path) as here:
        server = here.start_server()
        second = here.run("server", "--listen", "127.0.0.1:0")
        assert second.returncode == 1
        assert str(server.pid) in second.stderr
        assert str(here.data) in second.stderr
        assert here.run("status").returncode == 0


def test_sigterm_drains_both_and_both_come_back(tmp_path: Path) -> None:
    fake = install(tmp_path / "bin", backup={"steps": [{"stderr": "at work"}, {"sleep": 60}]})
    with stage(tmp_path) as here:
        server = here.start_server()
        agent = here.start_agent("web1", restic=fake.path)
        here.add_repo()
        here.ok("repo", "init", "main", "--host", "web1", "--wait")
        here.ok("schedule", "add", "s", "--host", "web1", "--every", "1h", "--repo", "main", "/etc")
        job = here.json("schedule", "run", "s")[0]
        until("the run", lambda: here.client.job(job["id"]).status is Status.RUNNING)
        assert agent.stop() == 0
        assert here.client.job(job["id"]).status is Status.INTERRUPTED
        until("web1 to be offline", lambda: not here.online("web1"))
        here.start_agent("web1", restic=fake.path)
        assert server.stop() == 0
        here.start_server()
        until("web1 to be back", lambda: here.online("web1"))


def test_a_killed_agent_is_offline_at_once_its_restic_ended_and_its_job_interrupted(tmp_path: Path) -> None:
    fake = install(tmp_path / "bin", backup={"steps": [{"stderr": "at work"}, {"sleep": 120}]})
    with stage(tmp_path) as here:
        here.start_server()
        agent = here.start_agent("web1", restic=fake.path)
        here.add_repo()
        here.ok("repo", "init", "main", "--host", "web1", "--wait")
        here.ok("schedule", "add", "s", "--host", "web1", "--every", "1h", "--repo", "main", "/etc")
        job = here.json("schedule", "run", "s")[0]
        until("the run", lambda: here.client.job(job["id"]).status is Status.RUNNING)
        agent.kill()
        until("web1 to be offline", lambda: not here.online("web1"), seconds=5)
        here.start_agent("web1", restic=fake.path)
        ended = here.finished(job["id"])
        assert ended.status is Status.INTERRUPTED
        restic = fake.invocations("backup")[0]["pid"]
        assert not is_running(restic)


def test_an_idle_agent_stays_small(tmp_path: Path) -> None:
    fake = install(tmp_path / "bin")
    with stage(tmp_path) as here:
        here.start_server()
        agent = here.start_agent("web1", restic=fake.path)
        assert agent.is_light()


def test_a_used_token_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with stage(tmp_path) as here:
        here.start_server()
        token = str(here.json("host", "invite", "web1")["token"])
        here.start_agent("web1", "--token", token, wait=True)
        thief = here.start_agent("thief", "--token", token, wait=False)
        assert thief.ended() == 6
        assert "invite" in thief.said()
        assert token not in thief.said()


def test_a_rejoin_keeps_the_id_and_ends_the_old_credential(tmp_path: Path) -> None:
    with stage(tmp_path) as here:
        here.start_server()
        old = here.start_agent("web1")
        before = here.client.host("web1")
        assert old.stop() == 0
        os.rename(here.folder / "agent-web1", here.folder / "old-disk")  # noqa: PTH104 - a disk that was replaced
        here.start_agent("web1")
        after = here.client.host("web1")
        assert (after.id, after.joined_at is not None) == (before.id, True)
        os.rename(here.folder / "agent-web1", here.folder / "new-disk")  # noqa: PTH104 - the same
        os.rename(here.folder / "old-disk", here.folder / "agent-web1")  # noqa: PTH104 - the old disk comes back
        ghost = here.start_agent("web1", wait=False)
        until("the refusal", lambda: "refuses this agent" in ghost.said())
