"""Data directories that are full, read-only or no folders: said in a line, nothing half-written, nothing lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from restic_manager.domain.model import Status
from restic_manager.protocol.jointoken import make_token
from tests.e2e.stage import stage, until
from tests.support.fake_restic import install

pytestmark = pytest.mark.timeout(180)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a disk of this size at the folder, for the block."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {os.fsdecode(mounted.stderr).strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_one_below_a_file_is_said(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("not a folder", encoding="utf-8")
    with stage(tmp_path) as here:
        done = here.run("server", "--data-dir", str(target / "below"), "--listen", "127.0.0.1:0")
        assert done.returncode == 1
        assert str(target) in done.stderr
        assert done.stderr.count("\n") <= 2


def test_a_read_only_one_is_said_by_both(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk, stage(tmp_path) as here:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        token = make_token(bytes(32)).text
        for words in (["server", "--listen", "127.0.0.1:0"], ["agent", "--server", here.url, "--token", token]):
            done = here.run(*words, "--data-dir", str(disk / "data"))
            assert done.returncode == 1, done.stderr
            assert str(disk) in done.stderr
            assert "read-only" in done.stderr.lower()
            assert "Traceback" not in done.stderr


def test_a_full_one_is_said_and_used_again_when_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "2m") as disk, stage(tmp_path) as here:
        filler = disk / "filler"
        filler.write_bytes(b"x" * (2 << 20))
        done = here.run("server", "--listen", "127.0.0.1:0", "--data-dir", str(disk / "data"))
        assert done.returncode == 1
        assert "full" in done.stderr or "No space" in done.stderr
        assert "Traceback" not in done.stderr
        filler.unlink()
        here.data = disk / "data"
        here.start_server()
        assert here.json("host", "list") == []


def test_an_agent_outlives_a_full_disk(tmp_path: Path) -> None:
    """Slots wait in time for the journal to have room again; the run that was under way is told in full."""
    go = tmp_path / "go"
    steps = [{"touch": str(tmp_path / "half")}, {"wait_for": str(go)}, {"flood": 2000}, {"run": True}]
    fake = install(tmp_path / "bin", backup=[{"steps": steps}, {}])
    with small_disk(tmp_path / "agent-web1", "1m") as disk, stage(tmp_path) as here:
        here.start_server()
        agent = here.start_agent("web1", restic=fake.path)
        here.add_repo()
        here.ok("repo", "init", "main", "--host", "web1", "--wait")
        here.ok("schedule", "add", "s", "--host", "web1", "--every", "1h", "--repo", "main", "/etc")
        job = here.json("schedule", "run", "s")[0]
        until("the backup to be under way", (tmp_path / "half").exists)
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"x" * 512):
                pass
        go.touch()
        until("the agent to say it", lambda: "the disk is full" in agent.said())
        assert agent.process.poll() is None
        filler.unlink()
        assert here.finished(job["id"]).status is Status.SUCCEEDED
        assert here.run("schedule", "run", "s", "--wait").returncode == 0
