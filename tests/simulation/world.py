"""One server and many agents in one process: real code on both sides, memory streams, virtual time, a pretend restic.

What may be killed is run inside a `Fuse`: once blown, nothing of it reaches streams, store or journal any more,
whatever its `finally` blocks try; then it is cancelled, and started again from the same files.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import trio
import trio.lowlevel
import trio.testing
from sqlalchemy import Connection

from restic_manager.agent.app import Offline, live
from restic_manager.agent.identity import Identity
from restic_manager.agent.journal import Journal, open_journal
from restic_manager.agent.tool import ResticFacts
from restic_manager.config import ServerConfig
from restic_manager.domain.errors import UnreachableError
from restic_manager.domain.model import BackupStats, Failure, InitSpec, Outcome, Progress, Status
from restic_manager.link import Link, dial
from restic_manager.protocol import codec
from restic_manager.protocol.messages import CommandRun
from restic_manager.runtime.clock import DrivenClock
from restic_manager.secrets import Sealer
from restic_manager.server.agents import AgentsDoor
from restic_manager.server.dispatch import Dispatcher
from restic_manager.server.hub import Hub
from restic_manager.server.janitor import Janitor
from restic_manager.server.services import Services
from restic_manager.server.store.writer import Store, open_store


class Fuse:
    """Whether something that was killed may still have an effect: it may not."""

    def __init__(self) -> None:
        self.blown = False
        self.scope = trio.CancelScope()

    def blow(self) -> None:
        self.blown = True
        self.scope.cancel()


class FusedStream(trio.abc.Stream):
    """A stream that breaks when its fuse blows, or after so many sends."""

    def __init__(self, inner: trio.abc.Stream, fuse: Fuse, sends: int | None) -> None:
        self._inner = inner
        self._fuse = fuse
        self._sends = sends
        self.broken = False

    def _check(self) -> None:
        if self._fuse.blown or self.broken:
            raise trio.BrokenResourceError("cut")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._check()
        if self._sends is not None:
            self._sends -= 1
            if self._sends < 0:
                await self.cut()
                self._check()
        await self._inner.send_all(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        self._check()
        return await self._inner.receive_some(max_bytes)

    async def wait_send_all_might_not_block(self) -> None:
        self._check()
        await self._inner.wait_send_all_might_not_block()

    async def cut(self) -> None:
        """Break it: what was on the way is lost, both sides notice."""
        self.broken = True
        await trio.aclose_forcefully(self._inner)

    async def aclose(self) -> None:
        await self._inner.aclose()


@dataclass
class Run:
    """One time the pretend restic was started."""

    job_id: str
    host: str
    at: datetime
    lines: list[str] = field(default_factory=list)
    ended: bool = False


class PretendRestic:
    """A host's restic: random durations, outcomes and logs; its processes die with the agent's fuse."""

    def __init__(self, world: World, host: str, clock: DrivenClock, dice: random.Random) -> None:
        self._world = world
        self._host = host
        self._clock = clock
        self._dice = dice
        self._saved: dict[str, str] = {}

    async def run(
        self,
        order: CommandRun,
        *,
        on_lines: Callable[..., Awaitable[None]],
        on_progress: Callable[[Progress], None],
        on_spawned: Callable[[int], None],
        stop: trio.Event,
    ) -> Outcome:
        run = Run(order.job_id, self._host, self._clock.now())
        self._world.runs.append(run)
        on_spawned(self._dice.randrange(2, 2**15))
        if isinstance(order.spec, InitSpec):
            await trio.sleep(self._dice.uniform(0.1, 3))
            self._world.initialised = True
            return Outcome(status=Status.SUCCEEDED, exit_code=0)
        if not self._world.initialised:
            failure = Failure(code="repo_missing", message="there is no repository")
            return Outcome(status=Status.FAILED, exit_code=10, error=failure)
        for number in range(self._dice.randrange(1, 6)):
            on_progress(Progress(percent_done=number / 6))
            line = f"{order.job_id[:8]} line {number}"
            run.lines.append(line)
            await on_lines("stdout", [line])
            with trio.move_on_after(self._dice.expovariate(1 / 40)):
                await stop.wait()
                return Outcome(status=Status.CANCELLED, error=Failure(code="cancelled", message="stopped"))
        fate = self._dice.random()
        if fate < 0.1:
            run.ended = True
            return Outcome(status=Status.FAILED, exit_code=1, error=Failure(code="failed", message="no luck"))
        snapshot = self._saved[order.job_id] = f"{self._dice.getrandbits(64):016x}"
        await trio.sleep(self._dice.uniform(0, 2))
        run.ended = True
        warned = Failure(code="source_unreadable", message="one file") if fate < 0.2 else None
        status = Status.SUCCEEDED if warned is None else Status.WARNING
        return Outcome(status=status, exit_code=0, snapshot_id=snapshot, stats=BackupStats(), error=warned)

    async def end_left_over(self, job_ids: Sequence[str]) -> None:
        return

    async def look_up(self, order: CommandRun, pid: int | None) -> str | None:
        return self._saved.get(order.job_id)


class SimHost:
    """One host: its clock, its files, and its agent, running or not."""

    def __init__(self, world: World, number: int, identity: Identity) -> None:
        self.world = world
        self.name = identity.host_name
        self.identity = identity
        self.clock = DrivenClock(world.start, trio.current_time)
        self.path = world.folder / f"agent-{number}.db"
        self.dice = random.Random(world.dice.getrandbits(64))
        self.restic = PretendRestic(world, self.name, self.clock, self.dice)
        self.sealer = Sealer(bytes([number]) * 32)
        self.fuse: Fuse | None = None
        self.cut_off_until = 0.0
        self.streams: list[FusedStream] = []
        self.flaky: int | None = None
        self.journal: Journal | None = None
        self.skew = timedelta()  # the most its clock was ever off

    async def start(self) -> None:
        if self.fuse is None:
            self.fuse = Fuse()
            await self.world.nursery.start(self._live, self.fuse)

    def kill(self) -> None:
        if self.fuse is not None:
            self.fuse.blow()
            self.fuse = None

    async def cut(self) -> None:
        for stream in self.streams:
            await stream.cut()
        self.streams.clear()

    async def _live(self, fuse: Fuse, task_status: trio.TaskStatus[None]) -> None:
        with fuse.scope:
            async with open_journal(self.path, threads=False) as journal:
                self.journal = journal
                _fuse_writes(journal, fuse)
                await live(
                    self.identity,
                    journal,
                    self.clock,
                    dial_agent=lambda credential: self._dial(credential, fuse),
                    restic=self.restic,
                    restic_facts=_facts,
                    offline=Offline(self.sealer, 60.0, timedelta(days=30)),
                    drain=trio.Event(),
                    reconnect_max=30,
                    catch_up_delay=5,
                    task_status=task_status,
                )

    @asynccontextmanager
    async def _dial(self, credential: str, fuse: Fuse) -> AsyncIterator[Link]:
        server = self.world.server
        await trio.lowlevel.checkpoint()
        if server is None or trio.current_time() < self.cut_off_until:
            raise UnreachableError("nobody there")
        ours, theirs = trio.testing.memory_stream_pair()
        flaky, self.flaky = self.flaky, None
        mine = FusedStream(ours, fuse, flaky)
        self.streams = [stream for stream in self.streams if not stream.broken]
        self.streams.append(mine)
        server.nursery.start_soon(server.door.handle, FusedStream(theirs, server.fuse, None))

        async def stream() -> trio.abc.Stream:
            return mine

        async with dial(
            "ws://server:1", path="/agent", bearer=credential, decoder=codec.from_server, open_stream=stream
        ) as link:
            yield link


@dataclass
class SimServer:
    """The running server: its services, its door, and the nursery its connections live in."""

    services: Services
    door: AgentsDoor
    nursery: trio.Nursery
    fuse: Fuse


class World:
    """Everything there is. `dice` decides all of it."""

    def __init__(self, folder: Path, seed: int, nursery: trio.Nursery, start: datetime) -> None:
        self.folder = folder
        self.dice = random.Random(seed)
        self.nursery = nursery
        self.start = start
        self.clock = DrivenClock(start, trio.current_time)
        self.server: SimServer | None = None
        self.hosts: list[SimHost] = []
        self.runs: list[Run] = []
        self.initialised = False

    async def start_server(self) -> None:
        if self.server is None:
            self.server = await self.nursery.start(self._serve)

    def kill_server(self) -> None:
        if self.server is not None:
            self.server.fuse.blow()
            self.server = None

    async def _serve(self, task_status: trio.TaskStatus[SimServer]) -> None:
        fuse = Fuse()
        with fuse.scope:
            async with AsyncExitStack() as stack:
                path = self.folder / "server.db"
                store = await stack.enter_async_context(open_store(path, clock=self.clock, threads=False))
                _fuse_writes(store, fuse)
                hub = Hub()
                sealer = Sealer(b"k" * 32)
                dispatcher = Dispatcher(store=store, hub=hub, clock=self.clock, sealer=sealer)
                services = Services(
                    store=store,
                    hub=hub,
                    dispatcher=dispatcher,
                    clock=self.clock,
                    sealer=sealer,
                    config=ServerConfig(data_dir=self.folder, timezone="UTC"),
                    started_at=self.start,
                    listening="127.0.0.1:8787",
                )
                nursery = await stack.enter_async_context(trio.open_nursery())
                nursery.start_soon(dispatcher.run)
                nursery.start_soon(Janitor(services).run)
                task_status.started(SimServer(services, AgentsDoor(services), nursery, fuse))
                await trio.sleep_forever()

    async def change(self, change: Callable[[Connection], Any]) -> Any:
        """Change the running server's rows."""
        assert self.server is not None
        return await self.server.services.store.write(change)

    def online(self) -> bool:
        """Whether the server runs and every host has a session."""
        return self.server is not None and self.server.services.hub.count() == len(self.hosts)


def _fuse_writes(what: Store | Journal, fuse: Fuse) -> None:
    write: Callable[..., Awaitable[Any]] = what.write

    async def fused(change: Callable[..., Any]) -> Any:
        if fuse.blown:
            raise trio.BrokenResourceError("killed")
        return await write(change)

    what.write = fused  # type: ignore[method-assign]  # the fuse is for tests alone: the product knows none


async def _facts() -> ResticFacts:
    return ResticFacts("0.18.0", None)


@asynccontextmanager
async def open_world(folder: Path, seed: int, start: datetime) -> AsyncIterator[World]:
    """Given an empty folder and a seed, a world with a running server; nothing of it outlives the block."""
    async with trio.open_nursery() as nursery:
        world = World(folder, seed, nursery, start)
        await world.start_server()
        yield world
        nursery.cancel_scope.cancel()
