"""The program as its users run it: real server and agent processes, asked by the real command line.

Every wait has a limit and ends on what the program itself says (a command that waits, an event stream, a log line).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from restic_manager.client import Client, ServerAddress
from restic_manager.domain.errors import UnreachableError
from restic_manager.protocol import api

T = TypeVar("T")
ALL_ALLOWED = 'kinds = ["*"]\nrestore_targets = ["/"]\nrepositories = ["*"]\n'
"""The policy of a host whose administrator lets its server do what it has hooks and commands for."""
CHECKOUT = Path(__file__).parents[2]
PATIENCE = 40.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(what: str, ask: Callable[[], T | None], *, seconds: float = PATIENCE) -> T:
    """Ask until the answer is truthy and return it; fail, naming what was waited for, when the time is up."""
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Whether this process runs still: one that nobody has reaped yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in {"Z", "X"}


class Program:
    """One running `restic-manager server` or `agent`."""

    def __init__(self, name: str, argv: list[str], env: dict[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "restic_manager", *argv],
                env=env,
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self, *, seconds: float = PATIENCE) -> int:
        """SIGTERM, and the exit code it leads to."""
        self.process.terminate()
        return self.ended(seconds=seconds)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def ended(self, *, seconds: float = PATIENCE) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {seconds:g} s:\n{self.said()[-2000:]}") from None

    def resident_mb(self, part: str = "VmRSS") -> float:
        """The process's resident memory in MB (10^6 bytes); or a part of it, by its name in /proc/PID/status."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{part}:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise AssertionError(f"no {part}")

    def is_light(self) -> bool:
        """Whether it takes no more than an idle agent may: 30 MB of its own, and with the libraries 52.

        Alone it is at 28.6 and 48.3. How much of the libraries' files is mapped depends on what the machine has cached:
        2 MB more or less.
        """
        return self.resident_mb("RssAnon") < 30 and self.resident_mb() < 52


class Stage:
    """A folder with one server, any number of agents, and the commands an operator types."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"ws://127.0.0.1:{self.port}"
        self.data = folder / "server"
        self.server: Program | None = None
        self.agents: dict[str, Program] = {}
        self._programs: list[Program] = []

    @property
    def client(self) -> Client:
        return Client(ServerAddress(path=self.data / "server.sock"))

    def env(self, data_dir: Path, **more: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        return {**kept, "RESTIC_MANAGER_DATA_DIR": str(data_dir), "TZ": "UTC", "NO_COLOR": "1", **more}

    def start_server(self, *flags: str) -> Program:
        argv = ["server", "--listen", f"127.0.0.1:{self.port}", *flags]
        self.server = Program("server", argv, self.env(self.data), self.folder / "server.log")
        self._programs.append(self.server)
        self.ok("status", "--wait", "30")
        return self.server

    def start_agent(
        self,
        name: str,
        *flags: str,
        restic: Path | str | None = None,
        wait: bool = True,
        policy: str | None = ALL_ALLOWED,
    ) -> Program:
        """Start (or start again) this host's agent; the first time it is invited and joins, with this policy."""
        data = self.folder / f"agent-{name}"
        known = (data / "agent-identity.json").exists() or (data / "agent-policy.toml").exists()
        if policy is not None and not known:
            self.allow(name, policy)
        argv = ["agent", "--server", self.url, "--catch-up-delay", "0s", "--reconnect-max", "2s", *flags]
        if restic is not None:
            argv += ["--restic", str(restic)]
        if not (data / "agent-identity.json").exists() and "--token" not in flags:
            argv += ["--token", str(self.json("host", "invite", name)["token"])]
        agent = Program(f"agent {name}", argv, self.env(data), self.folder / f"agent-{name}.log")
        self.agents[name] = agent
        self._programs.append(agent)
        if wait:
            until(f"{name} to be online", lambda: self.online(name))
        return agent

    def adopt(self, program: Program) -> None:
        """Given a program that a test started itself, end it with the stage."""
        self._programs.append(program)

    def allow(self, name: str, policy: str) -> Path:
        """Write a host's policy, as its administrator does."""
        data = self.folder / f"agent-{name}"
        data.mkdir(mode=0o700, exist_ok=True)
        path = data / "agent-policy.toml"
        path.write_text(policy, encoding="utf-8")
        path.chmod(0o600)
        return path

    def online(self, name: str) -> bool:
        try:
            return self.client.host(name).online
        except UnreachableError:
            return False

    def run(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Type a command; return what it printed and its exit code."""
        return subprocess.run(
            [sys.executable, "-m", "restic_manager", *words],
            env=self.env(self.data),
            cwd=CHECKOUT,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def ok(self, *words: str, stdin: str | None = None) -> str:
        """Type a command that must succeed; return its stdout."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *words: str) -> Any:
        """Type a command with --json that must succeed; return its data."""
        return json.loads(self.ok(*words, "--json"))

    def add_repo(self, name: str = "main", *, password: str = "pw", url: str | None = None) -> Path:
        folder = self.folder / f"repo-{name}"
        self.ok("repo", "add", name, url or str(folder), "--password-file", "-", stdin=password + "\n")
        return folder

    def jobs(self, **asked: Any) -> list[api.JobView]:
        return self.client.jobs(limit=1000, **asked)

    def finished(self, job_id: str, *, seconds: float = PATIENCE) -> api.JobView:
        """Wait for a job's end (not its attempts') and return it."""

        def ended() -> api.JobView | None:
            job = self.client.job(job_id)
            return job if job.status.terminal else None

        return until(f"job {job_id} to end", ended, seconds=seconds)

    def log_lines(self, job_id: str) -> list[str]:
        events = self.client.events(job_id, follow=False, logs=True)
        return [event.text for event in events if isinstance(event, api.LogEvent)]

    def stop_all(self) -> None:
        for program in reversed(self._programs):
            if program.process.poll() is None:
                program.process.terminate()
        for program in self._programs:
            try:
                program.process.wait(20)
            except subprocess.TimeoutExpired:
                program.kill()


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Given an empty folder, a stage whose processes all end with the block."""
    set_up = Stage(folder)
    try:
        yield set_up
    finally:
        set_up.stop_all()
