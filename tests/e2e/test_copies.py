"""With real processes: a server put back from its copy, damaged files, files of a newer program."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from restic_manager.domain.model import Status
from tests.e2e.stage import Stage, stage, until
from tests.e2e.test_loop import every_slot_is_explained
from tests.support.fake_restic import install

pytestmark = pytest.mark.timeout(180)


def events_of(here: Stage, what: str) -> list[str]:
    with sqlite3.connect(f"file:{here.data / 'server.db'}?mode=ro", uri=True) as db:
        found = [str(row[0]) for row in db.execute("SELECT detail FROM events WHERE what = ? ORDER BY id", (what,))]
    db.close()
    return found


def test_a_server_put_back_from_its_copy_is_told_what_it_forgot(tmp_path: Path) -> None:
    fake = install(tmp_path / "bin", backup={"steps": [{"stderr": "one line"}, {"run": True}]})
    copy = tmp_path / "copy.tar"
    with stage(tmp_path) as here:
        server = here.start_server()
        for name in ("web1", "web2"):
            here.start_agent(name, restic=fake.path)
        here.add_repo()
        here.ok("repo", "init", "main", "--host", "web1", "--wait")
        here.ok("schedule", "add", "often", "--host", "web1", "--every", "1s", "--repo", "main", "/etc")
        until("a run", lambda: here.jobs(schedule="often", status=Status.SUCCEEDED))
        told = here.json("server", "backup", str(copy))
        assert told["copy"]["database"]["schedules"] == 1
        until("more runs", lambda: len(here.jobs(schedule="often", status=Status.SUCCEEDED)) >= 6)
        here.ok("schedule", "disable", "often")
        until("all to be over", lambda: all(job.status.terminal for job in here.jobs()))
        slots = every_slot_is_explained(here, "often", 1)
        before = {job.id: job.status for job in here.jobs(schedule="often")}
        running = here.run("server", "restore", str(copy), "--force")
        assert running.returncode == 1
        assert str(server.pid) in running.stderr
        server.kill()
        refused = here.run("server", "restore", str(copy))
        assert refused.returncode == 2
        assert "--force" in refused.stderr
        restored = here.json("server", "restore", str(copy), "--force")
        assert restored["epoch"] != told["copy"]["database"]["epoch"]
        here.start_server()
        until("all agents", lambda: here.online("web1") and here.online("web2"))
        here.ok("schedule", "disable", "often")  # it was enabled when the copy was made
        until(
            "what the copy forgot",
            lambda: before.items() <= {job.id: job.status for job in here.jobs(schedule="often")}.items(),
        )
        until("all to be over", lambda: all(job.status.terminal for job in here.jobs()))
        after = every_slot_is_explained(here, "often", 1)
        assert {slot: after.get(slot) for slot in slots} == slots
        assert len(events_of(here, "new_epoch")) == 1, "the agents that come back make no more of them"
        lost = [job for job in here.jobs(schedule="often") if any("lost" in line for line in here.log_lines(job.id))]
        assert lost
        shown = here.run("job", "logs", lost[0].id)
        assert "lost" in shown.stdout
        assert "not kept" in shown.stderr
        ran = [record["env"]["RESTIC_MANAGER_JOB_ID"] for record in fake.invocations("backup")]
        assert len(ran) == len(set(ran)), "nothing ran twice"


def test_a_damaged_journal_is_refused_until_it_is_reset_and_that_is_audited(tmp_path: Path) -> None:
    fake = install(tmp_path / "bin")
    with stage(tmp_path) as here:
        here.start_server()
        agent = here.start_agent("web1", restic=fake.path)
        assert agent.stop() == 0
        journal = tmp_path / "agent-web1" / "agent.db"
        journal.write_bytes(journal.read_bytes()[:5_000])
        left = journal.read_bytes()
        agent = here.start_agent("web1", restic=fake.path, wait=False)
        assert agent.ended() == 1
        assert "--reset-journal" in agent.said()
        assert "Traceback" not in agent.said()
        assert journal.read_bytes() == left
        here.start_agent("web1", "--reset-journal", restic=fake.path)
        (aside,) = (tmp_path / "agent-web1").glob("agent.db.damaged-*")
        assert aside.read_bytes() == left
        assert len(events_of(here, "new_journal")) == 1
        assert "is kept as" in here.agents["web1"].said()
        # A unit file that keeps the flag does no harm.
        assert here.agents["web1"].stop() == 0
        here.start_agent("web1", "--reset-journal", restic=fake.path)
        assert len(events_of(here, "new_journal")) == 1


@pytest.mark.parametrize("damage", ["truncated", "empty", "gone"])
def test_a_damaged_database_is_refused_and_a_copy_puts_it_right(tmp_path: Path, damage: str) -> None:
    with stage(tmp_path) as here:
        server = here.start_server()
        here.json("host", "invite", "web1")
        here.ok("server", "backup", str(tmp_path / "copy.tar"))
        assert server.stop() == 0
        database = here.data / "server.db"
        if damage == "gone":
            database.unlink()
        else:
            database.write_bytes(database.read_bytes()[: 50_000 if damage == "truncated" else 0])
        done = here.run("server", "--listen", "127.0.0.1:0")
        assert done.returncode == 1
        assert "server restore FILE --force" in done.stderr
        assert "Traceback" not in done.stderr
        here.ok("server", "restore", str(tmp_path / "copy.tar"), "--force")
        here.start_server()
        assert [host.name for host in here.client.hosts()] == ["web1"]


def test_files_of_a_newer_program_are_refused_by_both(tmp_path: Path) -> None:
    with stage(tmp_path) as here:
        server = here.start_server()
        agent = here.start_agent("web1")
        assert agent.stop() == 0
        assert server.stop() == 0
        with sqlite3.connect(tmp_path / "agent-web1" / "agent.db") as db:
            db.execute("PRAGMA user_version=99")
        db.close()
        with sqlite3.connect(here.data / "server.db") as db:
            db.execute("UPDATE alembic_version SET version_num = '9999'")
        db.close()
        for words in (["server", "--listen", "127.0.0.1:0"], ["server", "backup", str(tmp_path / "copy.tar")]):
            done = here.run(*words)
            assert done.returncode == 1
            assert "newer restic-manager" in done.stderr
        for flags in ((), ("--reset-journal",)):
            agent = here.start_agent("web1", *flags, wait=False)
            assert agent.ended() == 1
            assert "newer restic-manager" in agent.said()
