"""Two ends of one link in one process, over memory streams: for tests in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import NamedTuple

import trio
import trio.testing

from restic_manager.link import Admission, Knock, Link, answer, dial
from restic_manager.protocol import codec
from restic_manager.runtime.clock import DrivenClock

START = datetime(2026, 3, 1, tzinfo=UTC)


class Gate:
    """A connection that can be stopped: while shut, what is sent towards the other end gets stuck."""

    def __init__(self) -> None:
        self._open = trio.Event()
        self._open.set()

    def shut(self) -> None:
        self._open = trio.Event()

    def open(self) -> None:
        self._open.set()

    def guard(self, stream: trio.testing.MemorySendStream) -> None:
        """Hold back what is sent into this stream while the gate is shut."""
        pump = stream.send_all_hook
        assert pump is not None

        async def wait_then_pump() -> None:
            await self._open.wait()
            await pump()

        stream.send_all_hook = wait_then_pump


class Pair(NamedTuple):
    """The agent's link, the server's link, and the gates of what the server and what the agent sends."""

    agent: Link
    server: Link
    server_sends: Gate
    agent_sends: Gate


def virtual_clock() -> DrivenClock:
    """A wall clock that moves with trio's mock clock."""
    return DrivenClock(START, trio.current_time)


def gated_streams() -> tuple[trio.abc.Stream, trio.abc.Stream, Gate, Gate]:
    """Return (agent's stream, server's stream, gate of what the server sends, gate of what the agent sends)."""
    ours, theirs = trio.testing.memory_stream_pair()
    server_gate, agent_gate = Gate(), Gate()
    server_gate.guard(theirs.send_stream)
    agent_gate.guard(ours.send_stream)
    return ours, theirs, server_gate, agent_gate


@asynccontextmanager
async def linked() -> AsyncIterator[Pair]:
    """Yield both ends of a link, each held open by a task of its own until the block is over."""
    agent_stream, server_stream, server_gate, agent_gate = gated_streams()
    done = trio.Event()

    async def serve(task_status: trio.TaskStatus[Link]) -> None:
        async def admit(knock: Knock) -> Admission[Knock]:
            return knock, codec.from_agent

        async with answer(server_stream, admit=admit, remote="agent") as answered:
            assert answered is not None
            task_status.started(answered[1])
            await done.wait()

    async def call(task_status: trio.TaskStatus[Link]) -> None:
        async def open_stream() -> trio.abc.Stream:
            return agent_stream

        async with dial(
            "ws://server:8787", path="/agent", bearer="secret", decoder=codec.from_server, open_stream=open_stream
        ) as link:
            task_status.started(link)
            await done.wait()

    async def start_server(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        ends.append(await nursery.start(serve))

    ends: list[Link] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(start_server)
        agent = await nursery.start(call)
        while not ends:
            await trio.testing.wait_all_tasks_blocked()
        yield Pair(agent, ends[0], server_gate, agent_gate)
        server_gate.open()
        agent_gate.open()
        done.set()
