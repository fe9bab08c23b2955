"""The program in a real terminal (pty): bars that draw, questions that are asked, escapes shown and not obeyed."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path

import pytest

from restic_manager.domain.model import Status
from restic_manager.protocol import api
from tests.cli import samples
from tests.cli.stub_server import Stream, StubServer

pytestmark = pytest.mark.terminal

JOB = samples.JOB_ID
WAIT = f"/v1/jobs/{JOB}/events?follow=1&logs=0&attempts=1"
LIMIT = 20.0


class Terminal:
    """A command on a terminal of 80 columns: what it wrote so far, and its keyboard."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self._master = master
        self.process = process
        self.seen = ""

    def wait_for(self, words: str) -> None:
        """Read until the words were written; fail when they do not come."""
        deadline = time.monotonic() + LIMIT
        while words not in self.seen:
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(f"{words!r} never came; seen: {self.seen!r}")

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def end(self) -> int:
        """Read to the end; return the exit code."""
        deadline = time.monotonic() + LIMIT
        while self._read(deadline - time.monotonic()):
            pass
        return self.process.wait(LIMIT)

    def _read(self, patience: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(patience, 0))
        if not ready:
            return False
        try:
            piece = os.read(self._master, 65_536)
        except OSError:  # how Linux says that the other end is closed
            return False
        self.seen += piece.decode("utf-8", "replace")
        return bool(piece)


@contextlib.contextmanager
def terminal(*words: str, env: dict[str, str] | None = None) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", **(env or {})}
    process = subprocess.Popen(
        [sys.executable, "-m", "restic_manager", *words],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads in the child, and getpass wants a /dev/tty
    )
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        process.kill()
        process.wait(LIMIT)
        os.close(master)


def plain(text: str) -> str:
    """Given what was written to a terminal, return it without the sequences that move and colour."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.fixture
def at(tmp_path: Path) -> list[str]:
    return ["--server", str(tmp_path / "server.sock")]


def test_run_wait_draws_a_bar_that_moves_and_stays(server: StubServer, at: list[str]) -> None:
    stream = Stream().put(api.JobEvent(job=samples.job(Status.RUNNING)))
    server.on("POST", "/v1/schedules/nightly/run", (201, [samples.job(Status.QUEUED, host="web\x1b[2J1")]))
    server.on("GET", WAIT, stream)
    with terminal("schedule", "run", "nightly", "--wait", *at) as screen:
        stream.put(api.ProgressEvent(job_id=JOB, progress=samples.progress(0.25)))
        screen.wait_for("25%")
        stream.put(api.ProgressEvent(job_id=JOB, progress=samples.progress(0.75)))
        screen.wait_for("75%")
        stream.put(api.JobEvent(job=samples.job(Status.WARNING))).end()
        assert screen.end() == 3
        shown = plain(screen.seen)
        assert "768.0 MiB of 1.0 GiB, 750 of 1,000 files, 1 min left" in shown
        assert "web1: backup warning in 1 min" in shown
        assert "━" in shown
        assert "\x1b[2J" not in screen.seen
        assert "web\\x1b[2J1" in shown
        # The cursor is shown again.
        assert screen.seen.rindex("\x1b[?25h") > screen.seen.rindex("\x1b[?25l")
        # Nothing wider than the terminal: a wrapped bar would leave its lines behind.
        assert max(len(line) for frame in shown.split("\r") for line in frame.split("\n")) <= 80


def test_many_jobs_have_one_bar(server: StubServer, at: list[str]) -> None:
    jobs = [samples.job(Status.QUEUED, id=f"job-{number}", host=f"host{number}") for number in range(12)]
    server.on("POST", "/v1/schedules/nightly/run", (201, jobs))
    for job in jobs:
        ended = api.JobEvent(job=samples.job(id=job.id, host=job.host))
        server.on("GET", WAIT.replace(JOB, job.id), Stream().put(ended).end())
    with terminal("schedule", "run", "nightly", "--wait", *at) as screen:
        assert screen.end() == 0
        assert "12 of 12 ended" in plain(screen.seen)


def test_ctrl_c_on_the_bar_says_that_the_job_goes_on(server: StubServer, at: list[str]) -> None:
    stream = Stream().put(api.JobEvent(job=samples.job(Status.RUNNING)))
    server.on("POST", "/v1/schedules/nightly/run", (201, [samples.job(Status.QUEUED)]))
    server.on("GET", WAIT, stream)
    with terminal("schedule", "run", "nightly", "--wait", *at) as screen:
        screen.wait_for("running")
        screen.type("\x03")
        assert screen.end() == 130
        assert "no longer waiting; the job goes on" in plain(screen.seen)
        assert screen.seen.rindex("\x1b[?25h") > screen.seen.rindex("\x1b[?25l")
    stream.end()


def test_no_color_leaves_the_bar_and_takes_the_colour(server: StubServer, at: list[str]) -> None:
    server.on("GET", "/v1/hosts", [samples.host()])
    with terminal("host", "list", *at) as screen:
        assert screen.end() == 0
        assert "\x1b[32m" in screen.seen
    with terminal("host", "list", *at, env={"NO_COLOR": "1"}) as screen:
        assert screen.end() == 0
        assert "online" in screen.seen
        assert "\x1b" not in screen.seen


def test_logs_on_a_terminal_show_escapes_and_do_not_obey_them(server: StubServer, at: list[str]) -> None:
    events = [api.JobEvent(job=samples.job()), samples.line(1, "\x1b]0;owned\x07 caf\u202ee\tx")]
    server.on("GET", f"/v1/jobs/{JOB}/events?follow=0&logs=1&attempts=0", Stream().put(*events).end())
    with terminal("job", "logs", JOB, *at) as screen:
        assert screen.end() == 0
        assert "\x1b" not in screen.seen
        assert "\\x1b]0;owned\\x07 caf\\u202ee\tx" in screen.seen


@pytest.mark.parametrize(("key", "removed"), [("y\r", True), ("\r", False), ("\x04", False)])
def test_remove_asks_and_names_what(server: StubServer, at: list[str], key: str, removed: bool) -> None:
    host = samples.host()
    server.on("GET", "/v1/hosts/web1", host)
    server.on("DELETE", f"/v1/hosts/{host.id}", host)
    with terminal("host", "remove", "web1", *at) as screen:
        screen.wait_for("[y/N] ")
        screen.type(key)
        assert screen.end() == 0
        assert "remove host web1 (online)?" in screen.seen
        assert ("is removed" in screen.seen) is removed
        assert ("nothing was changed" in screen.seen) is not removed
    assert [asked.method for asked in server.asked] == (["GET", "DELETE"] if removed else ["GET"])


@pytest.mark.parametrize("flag", ["--yes", "-y", "--json"])
def test_yes_and_json_ask_nothing(server: StubServer, at: list[str], flag: str) -> None:
    server.on("DELETE", "/v1/hosts/web1", samples.host())
    with terminal("host", "remove", "web1", flag, *at) as screen:
        assert screen.end() == 0
        assert "[y/N]" not in screen.seen
    assert [asked.method for asked in server.asked] == ["DELETE"]


def test_edit_shows_what_changes_before_it_asks(server: StubServer, at: list[str]) -> None:
    server.on("GET", "/v1/schedules/nightly", samples.schedule())
    with terminal("schedule", "edit", "nightly", "--cron", "0 4 * * *", *at) as screen:
        screen.wait_for("change schedule nightly? [y/N] ")
        assert "when: 30 2 * * * → 0 4 * * *" in screen.seen
        screen.type("n\r")
        assert screen.end() == 0
    assert [asked.method for asked in server.asked] == ["GET"]


def test_a_password_is_asked_for_twice_and_not_echoed(server: StubServer, at: list[str]) -> None:
    server.on("POST", "/v1/repos", (201, samples.repo()))
    with terminal("repo", "add", "main", "/srv/restic", *at) as screen:
        screen.wait_for("repository password: ")
        screen.type("hunter2\r")
        screen.wait_for("once more: ")
        screen.type("hunter2\r")
        assert screen.end() == 0
        assert "hunter2" not in screen.seen
    assert server.asked[0].body["password"] == "hunter2"


def test_two_passwords_that_differ_are_stored_nowhere(server: StubServer, at: list[str]) -> None:
    with terminal("repo", "add", "main", "/srv/restic", *at) as screen:
        screen.wait_for("repository password: ")
        screen.type("hunter2\r")
        screen.wait_for("once more: ")
        screen.type("hunter3\r")
        assert screen.end() == 2
        assert "differ" in screen.seen
        assert "hunter" not in screen.seen
    assert server.asked == []
