"""A server without sockets and threads, in virtual time, and scripted agents that speak to it over memory streams."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import trio
import trio.testing
from sqlalchemy import Connection

from restic_manager.config import ServerConfig
from restic_manager.domain.model import BackupSpec, Failure, Outcome, Status, new_id, slot_job_id
from restic_manager.link import Link, dial
from restic_manager.protocol import codec
from restic_manager.protocol.api import ScheduleRequest
from restic_manager.protocol.codec import encode
from restic_manager.protocol.messages import (
    Ack,
    CommandRun,
    Hello,
    JobClaim,
    JobFinished,
    JobStarted,
    Message,
    OutboxHead,
    ScheduleFire,
    ScheduleFired,
    ScheduleSet,
    Welcome,
)
from restic_manager.protocol.session import frame_hash
from restic_manager.runtime.clock import DrivenClock
from restic_manager.runtime.exposure import TlsChoice
from restic_manager.runtime.tzdata import tzdata_version
from restic_manager.secrets import Sealer, write_keys
from restic_manager.server.agents import AgentsDoor
from restic_manager.server.certificates import OwnCertificate
from restic_manager.server.dispatch import Dispatcher
from restic_manager.server.hub import Hub
from restic_manager.server.keys import Keys
from restic_manager.server.places import KEY_FILE
from restic_manager.server.services import Services
from restic_manager.server.store import host_changes, hosts, job_rows, repos, schedule_changes
from restic_manager.server.store.job_rows import JobRow
from restic_manager.server.store.writer import Store, open_store
from tests.support.linked import Gate, gated_streams

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SPEC = BackupSpec(paths=("/etc",))
T = TypeVar("T")
M = TypeVar("M", bound=Message)


class World:
    """One server. `join` makes hosts, `agent` connects one."""

    def __init__(self, services: Services, door: AgentsDoor, nursery: trio.Nursery) -> None:
        self.services = services
        self.door = door
        self.nursery = nursery
        self.credentials: dict[str, str] = {}
        self.server_gate, self.agent_gate = Gate(), Gate()
        """Of the connection made last: what the server sends, what the agent sends."""

    @property
    def store(self) -> Store:
        return self.services.store

    @property
    def hub(self) -> Hub:
        return self.services.hub

    @property
    def dispatcher(self) -> Dispatcher:
        return self.services.dispatcher

    def now(self) -> datetime:
        return self.services.clock.now()

    async def write(self, change: Callable[[Connection], T]) -> T:
        return await self.store.write(change)

    async def read(self, question: Callable[[Connection], T]) -> T:
        return await self.store.read(question)

    async def job(self, job_id: str) -> JobRow:
        return await self.read(lambda tx: job_rows.get(tx, job_id))

    async def invite(self, name: str) -> tuple[str, str]:
        """Return the host's id and a join token."""
        made = await self.write(
            lambda tx: host_changes.invite(tx, name=name, labels={}, now=self.now(), default_zone="UTC")
        )
        return made.host.id, made.token

    async def join(self, name: str) -> str:
        """Make a host that has joined; return its id."""
        host_id, token = await self.invite(name)
        credential = f"credential-of-{name}"
        digest = hashlib.sha256(credential.encode()).hexdigest()
        await self.write(lambda tx: hosts.redeem(tx, host_changes.token_sha256(token), digest, self.now()))
        self.credentials[host_id] = credential
        return host_id

    async def repo(self, name: str = "repo") -> str:
        added = await self.write(
            lambda tx: repos.add(
                tx,
                name=name,
                url=f"/srv/{name}",
                password="secret",
                env={},
                seal=self.services.sealer.seal,
                now=self.now(),
            )
        )
        return added.repo.id

    async def schedule(
        self, name: str, *host_names: str, repo: str = "repo", cron: str = "@every 60s", **more: Any
    ) -> str:
        request = ScheduleRequest(name=name, cron=cron, repo=repo, spec=SPEC, hosts=host_names, **more)
        changed = await self.write(lambda tx: schedule_changes.add(tx, request, now=self.now(), default_zone="UTC"))
        self.hub.sets_changed(changed.hosts)
        return changed.schedule.id

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[trio.abc.Stream]:
        """Yield the client's end of a connection to the agents' door."""
        ours, theirs, self.server_gate, self.agent_gate = gated_streams()
        self.nursery.start_soon(self.door.handle, theirs)
        async with ours:
            yield ours

    @asynccontextmanager
    async def link(
        self, credential: str | None, *, path: str = "/agent", decoder: codec.Decoder | None = None
    ) -> AsyncIterator[Link]:
        decoder = decoder or (codec.from_server if path == "/agent" else codec.join_answer)
        async with self.stream() as stream:

            async def open_stream() -> trio.abc.Stream:
                return stream

            async with dial(
                "ws://server:8787", path=path, bearer=credential, decoder=decoder, open_stream=open_stream
            ) as link:
                yield link

    @asynccontextmanager
    async def agent(self, host_id: str, **hello: Any) -> AsyncIterator[ScriptedAgent]:
        """Connect as this host and be welcomed."""
        async with self.link(self.credentials[host_id]) as link:
            agent = ScriptedAgent(self, host_id, link)
            await agent.greet(**hello)
            yield agent

    async def settled(self) -> None:
        """Wait until nobody has anything to do at this instant."""
        await trio.testing.wait_all_tasks_blocked(0.001)


class ScriptedAgent:
    """The other end of a session, saying exactly what a test makes it say."""

    def __init__(self, world: World, host_id: str, link: Link) -> None:
        self.world = world
        self.host_id = host_id
        self.link = link
        self.seq = 0
        self.frames: dict[int, str] = {}
        self.heard: list[Message] = []

    def hello(self, **changes: Any) -> Hello:
        said: dict[str, Any] = {
            "protocol": 1,
            "agent_version": "0.1.0",
            "os": "test",
            "timezone": "UTC",
            "tzdata": tzdata_version(),
            "boot_id": "boot",
            "instance_id": f"instance-of-{self.host_id}"[:64],
            "journal_id": f"journal-of-{self.host_id}"[:64],
            "outbox": OutboxHead(),
            "clock": self.world.now(),
        } | changes
        return Hello(**said)

    async def greet(self, **changes: Any) -> Welcome:
        hello = self.hello(**changes)
        self.seq = hello.outbox.head
        await self.link.send(hello)
        welcome = await self.hear(Welcome)
        self.link.start_heartbeat(welcome.heartbeat_interval, self.world.services.clock)
        return welcome

    async def hear(self, kind: type[M], within: float = 30.0) -> M:
        """Return the next message of this kind; what came before it stays in `heard`."""
        for at, message in enumerate(self.heard):
            if isinstance(message, kind):
                del self.heard[at]
                return message
        with trio.fail_after(within):
            while True:
                message = (await self.link.receive()).message
                if isinstance(message, kind):
                    return message
                self.heard.append(message)

    async def hears_nothing(self, kind: type[Message], seconds: float = 1.0) -> bool:
        """Return whether no message of this kind comes within so many seconds."""
        try:
            await self.hear(kind, within=seconds)
        except trio.TooSlowError:
            return True
        return False

    async def fire(self, schedule_id: str, slot: datetime, *, revision: int = 1) -> ScheduleFired:
        await self.link.send(
            ScheduleFire(schedule_id=schedule_id, revision=revision, scheduled_at=slot, trigger="tick")
        )
        return await self.hear(ScheduleFired)

    async def report(self, make: Callable[[int], Message]) -> int:
        """Send the next durable report; return its sequence."""
        self.seq += 1
        frame = encode(make(self.seq))
        self.frames[self.seq] = frame
        await self.link.send_frame(frame)
        return self.seq

    async def acked(self, seq: int) -> None:
        """Wait until this sequence is acked."""
        while (await self.hear(Ack)).through < seq:
            pass

    async def start(self, order: CommandRun) -> int:
        return await self.report(
            lambda seq: JobStarted(
                seq=seq,
                job_id=order.job_id,
                started_at=self.world.now(),
                schedule_id=order.schedule_id,
                scheduled_at=order.scheduled_at,
            )
        )

    async def finish(self, order: CommandRun, outcome: Outcome, *, started: bool = True) -> int:
        return await self.report(
            lambda seq: JobFinished(
                seq=seq,
                job_id=order.job_id,
                outcome=outcome,
                started_at=self.world.now() if started else None,
                finished_at=self.world.now(),
                schedule_id=order.schedule_id,
                scheduled_at=order.scheduled_at,
            )
        )

    def head(self, *, acked: int | None = None) -> OutboxHead:
        """Where the outbox stands, for the next hello."""
        through = self.seq if acked is None else acked
        frame = self.frames.get(through)
        return OutboxHead(head=self.seq, acked=through, acked_hash=None if frame is None else frame_hash(frame))


DONE = Outcome(status=Status.SUCCEEDED, exit_code=0, snapshot_id="abcd1234")


def failed(code: str) -> Outcome:
    return Outcome(status=Status.FAILED, exit_code=10, error=Failure(code=code, message=f"it ended {code}"))


def claim(order: CommandRun, state: Any = "running") -> JobClaim:
    return JobClaim(job_id=order.job_id, state=state, schedule_id=order.schedule_id, scheduled_at=order.scheduled_at)


def slot_after(start: datetime, seconds: int) -> datetime:
    return start + timedelta(seconds=seconds)


@asynccontextmanager
async def open_world(
    tmp_path: Path, *, start: datetime = START, dispatching: bool = True, tls: bool = False
) -> AsyncIterator[World]:
    """Yield a server in virtual time, with a certificate of its own if wanted. Needs `autojump_clock`."""
    clock = DrivenClock(start, trio.current_time)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(tmp_path / "server.db", clock=clock, threads=False))
        hub = Hub()
        sealer = Sealer(b"k" * 32)
        write_keys(tmp_path / KEY_FILE, [b"k" * 32])
        dispatcher = Dispatcher(store=store, hub=hub, clock=clock, sealer=sealer)
        services = Services(
            store=store,
            hub=hub,
            dispatcher=dispatcher,
            clock=clock,
            sealer=sealer,
            keys=Keys(tmp_path / KEY_FILE, sealer=sealer, threads=False),
            config=ServerConfig(data_dir=tmp_path, tls=TlsChoice("auto" if tls else "off")),
            started_at=start,
            listening="127.0.0.1:8787",
            tls=OwnCertificate(tmp_path, now=start) if tls else None,
        )
        door = AgentsDoor(services)
        nursery = await stack.enter_async_context(trio.open_nursery())
        if dispatching:
            nursery.start_soon(dispatcher.run)
        yield World(services, door, nursery)
        nursery.cancel_scope.cancel()


__all__ = [
    "DONE",
    "SPEC",
    "START",
    "ScheduleSet",
    "ScriptedAgent",
    "World",
    "claim",
    "failed",
    "new_id",
    "open_world",
    "slot_after",
    "slot_job_id",
]
