"""A server that somebody has stolen: it speaks the protocol to a real agent process, and says what it likes.

Over real sockets, by the same link that the real server uses. It commits nothing and believes everything.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import trio

from restic_manager.domain.model import Outcome, RepoAccess, Spec
from restic_manager.link import Admission, Knock, Link, LinkClosed, answer
from restic_manager.protocol import codec
from restic_manager.protocol.codec import WireError
from restic_manager.protocol.jointoken import make_token
from restic_manager.protocol.messages import (
    Ack,
    CommandRun,
    Error,
    Hello,
    JobFinished,
    JobLog,
    JobStarted,
    Join,
    Joined,
    Message,
    ScheduleAck,
    ScheduleFire,
    SlotDecided,
    Welcome,
)
from tests.e2e.stage import CHECKOUT

HOST = "host-1"


@dataclass
class HostileServer:
    """What it has heard, and the session it has now."""

    repositories: tuple[str, ...]
    port: int = 0
    hellos: list[Hello] = field(default_factory=list)
    finished: dict[str, Outcome] = field(default_factory=dict)
    fires: list[ScheduleFire] = field(default_factory=list)
    acks: list[ScheduleAck] = field(default_factory=list)
    errors: list[Error] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    link: Link | None = None
    _moved: trio.Event = field(default_factory=trio.Event)
    _numbers: Any = field(default_factory=itertools.count)

    async def until(self, what: str, happened: Any, *, seconds: float = 40.0) -> None:
        """Wait until something that was heard makes this true."""
        with trio.move_on_after(seconds):
            while not happened():
                await self._moved.wait()
            return
        raise AssertionError(f"waited {seconds:g} s in vain for {what}")

    async def session(self) -> Link:
        """Return a session that stands: the agent dials again after whatever was done to the one before."""
        await self.until("a session", lambda: self.link is not None and not self.link.closed)
        assert self.link is not None
        return self.link

    async def order(self, spec: Spec, repo: RepoAccess, *, job_id: str | None = None, **facts: Any) -> Outcome:
        """Order a job and return what became of it."""
        job_id = job_id or f"job-{next(self._numbers)}"
        self.finished.pop(job_id, None)
        said: dict[str, Any] = {"restic_host": "web1", "ordered_at": datetime.now(UTC)}
        command = CommandRun(job_id=job_id, spec=spec, repo=repo, **(said | facts))
        for _ in range(20):
            # Said again, as servers do: a verdict whose ack is still on its way to the agent is not repeated at once.
            await (await self.session()).send(command)
            with trio.move_on_after(2):
                await self.until(f"the end of {spec!r}", lambda: job_id in self.finished)
                return self.finished[job_id]
        raise AssertionError(f"ordered twenty times in vain: {spec!r}")

    async def handle(self, stream: trio.abc.Stream) -> None:
        async def admit(knock: Knock) -> Admission[str]:
            return (knock.path, codec.join_request if knock.path == "/join" else codec.from_agent)

        try:
            async with answer(stream, admit=admit, remote="the agent") as answered:
                if answered is not None:
                    path, link = answered
                    await (self._join(link) if path == "/join" else self._live(link))
        except LinkClosed:
            pass
        finally:
            self._move()

    async def _join(self, link: Link) -> None:
        assert isinstance((await link.receive()).message, Join)
        await link.send(Joined(host_id=HOST, host_name="web1", repositories=self.repositories))

    async def _live(self, link: Link) -> None:
        hello = (await link.receive()).message
        assert isinstance(hello, Hello)
        self.hellos.append(hello)
        await link.send(
            Welcome(
                host_id=HOST,
                host_name="web1",
                epoch="epoch-1",
                clock=datetime.now(UTC),
                heartbeat_interval=30,
                acked_through=hello.outbox.acked,
                reconnect_spread=0,
            )
        )
        self.link = link
        self._move()
        while True:
            message = (await link.receive()).message
            await self._take(link, message)
            self._move()

    async def _take(self, link: Link, message: Message | WireError) -> None:
        match message:
            case JobFinished():
                self.finished[message.job_id] = message.outcome
            case JobLog():
                self.logs.append(message.text)
            case ScheduleFire():
                self.fires.append(message)
            case ScheduleAck():
                self.acks.append(message)
            case Error():
                self.errors.append(message)
            case _:
                pass
        if isinstance(message, JobFinished | JobLog | JobStarted | SlotDecided):
            await link.send(Ack(through=message.seq))

    def _move(self) -> None:
        self._moved.set()
        self._moved = trio.Event()


@asynccontextmanager
async def hostile_server(*repositories: str) -> AsyncIterator[HostileServer]:
    """Given the places that a join brings, open the server on a port of its own."""
    server = HostileServer(repositories)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, server.handle, 0, name="hostile server")
        server.port = listeners[0].socket.getsockname()[1]
        yield server
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def agent_of(server: HostileServer, data: Path, restic: Path, log: Path) -> AsyncIterator[trio.Process]:
    """Start a real agent that joins this server, and end it with the block."""
    words = ["agent", "--server", f"ws://127.0.0.1:{server.port}", "--restic", str(restic), "--reconnect-max", "1s"]
    words += ["--token", make_token(bytes(32)).text, "--catch-up-delay", "0s", "--offline-grace", "1s"]
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with log.open("wb") as out:
        run = partial(
            trio.run_process,
            [sys.executable, "-m", "restic_manager", *words],
            env={**kept, "RESTIC_MANAGER_DATA_DIR": str(data), "TZ": "UTC"},
            cwd=CHECKOUT,
            stdout=out,
            stderr=out,
            check=False,
        )
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(run)
            yield process
            process.terminate()
