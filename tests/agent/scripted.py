"""A real agent in virtual time, and a server whose every word a test writes itself, over memory streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import trio
import trio.testing

from restic_manager.agent.app import Offline, live
from restic_manager.agent.carrying import ResticFacts
from restic_manager.agent.identity import Identity
from restic_manager.agent.journal import Journal, open_journal
from restic_manager.domain.errors import UnreachableError
from restic_manager.domain.model import (
    BackupSpec,
    BackupStats,
    Kind,
    Outcome,
    Overlap,
    Progress,
    RepoAccess,
    Spec,
    Status,
    Timing,
    Turn,
    kind_of,
    slot_job_id,
)
from restic_manager.domain.model import (
    Offline as OfflineRule,
)
from restic_manager.domain.results import ListStats, Row
from restic_manager.link import Link, LinkClosed, answer, dial
from restic_manager.protocol import codec
from restic_manager.protocol.messages import (
    CAP_RECOVER,
    CAP_ROWS,
    Ack,
    CommandRun,
    Ended,
    Entry,
    Hello,
    JobFinished,
    Message,
    Refused,
    ScheduleAck,
    ScheduleFire,
    ScheduleFired,
    ScheduleSet,
    StandingOrder,
    Welcome,
)
from restic_manager.runtime.clock import DrivenClock

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOST = Identity(host_id="host-1", host_name="web1", credential="rmc1-x", token_sha256="t")
REPO = RepoAccess(repo_id="repo-1", url="/srv/repo", password="a-planted-secret")
SPEC = BackupSpec(paths=("/etc",))
M = TypeVar("M", bound=Message)


def entry(
    schedule_id: str = "s1",
    *,
    cron: str = "* * * * *",
    revision: int = 1,
    enabled: bool = True,
    since: datetime = START,
    overlap: Overlap = Overlap.QUEUE,
    splay: int = 0,
    offline: OfflineRule = OfflineRule.RUN,
    with_order: bool = False,
    off_reason: str | None = None,
    turns: tuple[Turn, ...] = (),
) -> Entry:
    return Entry(
        schedule_id=schedule_id,
        name=f"schedule-{schedule_id}",
        revision=revision,
        timing=Timing(cron=cron, timezone="UTC", anchor=START, splay=splay),
        enabled=enabled,
        overlap=overlap,
        offline=offline,
        effective_from=since,
        standing_order=StandingOrder(spec=SPEC, repo=REPO, restic_host="web1") if with_order else None,
        off_reason=off_reason,
        turns=turns,
    )


def schedule_set(*entries: Entry, version: int = 1, epoch: str = "e1", ended: tuple[Ended, ...] = ()) -> ScheduleSet:
    raw = tuple(codec.encode_entry(item) for item in entries)
    return ScheduleSet(epoch=epoch, version=version, entries=raw, ended=ended)


def order(
    slot: datetime | None, schedule_id: str | None = "s1", *, job_id: str | None = None, spec: Spec = SPEC
) -> CommandRun:
    if job_id is None:
        assert slot is not None
        assert schedule_id is not None
        job_id = slot_job_id(schedule_id, HOST.host_id, slot)
    return CommandRun(
        job_id=job_id,
        spec=spec,
        repo=REPO,
        restic_host="web1",
        schedule_id=schedule_id,
        scheduled_at=slot,
        ordered_at=START,
    )


def dispatched(fire: ScheduleFire) -> ScheduleFired:
    return ScheduleFired(
        schedule_id=fire.schedule_id,
        revision=fire.revision,
        scheduled_at=fire.scheduled_at,
        answer="dispatched",
        job_id=slot_job_id(fire.schedule_id, HOST.host_id, fire.scheduled_at),
        status=Status.QUEUED,
    )


@dataclass
class PretendRestic:
    """Runs an order for so many virtual seconds; remembers what it ran and when."""

    seconds: float = 5.0
    lines: Sequence[str] = ("one", "two")
    ran: list[tuple[str, datetime]] = field(default_factory=list)
    now: int = 0
    most_at_once: int = 0
    clock: DrivenClock | None = None

    left_over: list[str] = field(default_factory=list)
    snapshots: dict[str, str] = field(default_factory=dict)
    unreachable: int = 0
    look_up_seconds: float = 0
    looked_up: list[tuple[str, int | None]] = field(default_factory=list)
    batches: Sequence[Sequence[Row]] = ()
    """Rows of a job that is no backup: a batch at the start, and one after each further `seconds`."""

    async def end_left_over(self, job_ids: Sequence[str]) -> None:
        self.left_over += job_ids

    async def look_up(self, order: CommandRun, pid: int | None) -> str | None:
        if self.unreachable:
            self.unreachable -= 1
            raise UnreachableError("the repository is away")
        await trio.sleep(self.look_up_seconds)
        self.looked_up.append((order.job_id, pid))
        return self.snapshots.get(order.job_id)

    async def run(
        self,
        order: CommandRun,
        *,
        on_lines: Callable[..., Awaitable[None]],
        on_progress: Callable[[Progress], None],
        on_rows: Callable[[Sequence[Row]], Awaitable[None]],
        on_spawned: Callable[[int], None],
        stop: trio.Event,
    ) -> Outcome:
        assert self.clock is not None
        on_spawned(4711)
        self.ran.append((order.job_id, self.clock.now()))
        self.now += 1
        self.most_at_once = max(self.most_at_once, self.now)
        try:
            on_progress(Progress(percent_done=0.5))
            await on_lines("stdout", self.lines)
            for batch in self.batches if kind_of(order.spec) is not Kind.BACKUP else ():
                await on_rows(batch)
                with trio.move_on_after(self.seconds):
                    await stop.wait()
            with trio.move_on_after(self.seconds):
                await stop.wait()
                return Outcome(status=Status.CANCELLED, result=ListStats(rows=7))
            if kind_of(order.spec) is not Kind.BACKUP:
                return Outcome(status=Status.SUCCEEDED, exit_code=0, result=ListStats(rows=sum(map(len, self.batches))))
            return Outcome(status=Status.SUCCEEDED, exit_code=0, snapshot_id="abcd1234", stats=BackupStats())
        finally:
            self.now -= 1


@dataclass
class Desk:
    """The scripted server's side of one link: says what the test says, remembers all it heard."""

    link: Link
    hello: Hello
    heard: list[tuple[datetime, Message]]
    clock: DrivenClock
    unread: list[Message] = field(default_factory=list)

    async def next(self, kind: type[M]) -> M:
        """Return the next message of this kind; what comes before it is kept for later questions."""
        for message in self.unread:
            if isinstance(message, kind):
                self.unread.remove(message)
                return message
        with trio.fail_after(4 * 3600):
            while True:
                incoming = await self.link.receive()
                assert not isinstance(incoming.message, codec.WireError), incoming
                self.heard.append((self.clock.now(), incoming.message))
                if isinstance(incoming.message, kind):
                    return incoming.message
                self.unread.append(incoming.message)

    async def say(self, message: Message) -> None:
        await self.link.send(message)

    async def apply(self, *entries: Entry, version: int = 1, ended: tuple[Ended, ...] = ()) -> ScheduleAck:
        await self.say(schedule_set(*entries, version=version, ended=ended))
        return await self.next(ScheduleAck)

    async def run_next(self) -> JobFinished:
        """Let the next fire have its run and return the verdict, acknowledged."""
        fire = await self.next(ScheduleFire)
        await self.say(dispatched(fire))
        await self.say(order(fire.scheduled_at, fire.schedule_id))
        finished = await self.next(JobFinished)
        await self.say(Ack(through=finished.seq))
        return finished

    def count(self, kind: type[Message]) -> int:
        return sum(isinstance(message, kind) for _, message in self.heard)


class World:
    """One agent (which may be started and stopped) and the line to its server (which may be up or down)."""

    def __init__(self, path: Path, nursery: trio.Nursery) -> None:
        self.clock = DrivenClock(START, trio.current_time)
        self.restic = PretendRestic(clock=self.clock)
        self.path = path
        self.nursery = nursery
        self.up = True
        self.dials: list[datetime] = []
        self.bearers: list[str] = []
        self.refusal: Refused | None = None
        self._desks_in, self._desks = trio.open_memory_channel[Desk](10)
        self._knocks: set[trio.CancelScope] = set()
        self.agent: trio.CancelScope | None = None
        self.drain = trio.Event()
        self.journal: Journal | None = None
        self.welcome = Welcome(
            host_id=HOST.host_id,
            host_name=HOST.host_name,
            epoch="e1",
            clock=START,
            heartbeat_interval=15,
            acked_through=0,
            reconnect_spread=5,
        )
        self.acked = 0
        self.epoch = "e1"
        self.catch_up_delay = 0.0
        self.offline: Offline | None = None
        self.reconnect_max = 60.0
        self.server_ahead = timedelta()
        self.capabilities: tuple[str, ...] = (CAP_RECOVER, CAP_ROWS)

    async def start(self) -> None:
        self.agent = await self.nursery.start(self._agent)

    def kill(self) -> None:
        assert self.agent is not None
        self.agent.cancel()

    async def _agent(self, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        self.drain = trio.Event()
        with trio.CancelScope() as scope:
            async with open_journal(self.path, threads=False) as self.journal, trio.open_nursery() as nursery:

                async def run(task_status: trio.TaskStatus[None]) -> None:
                    assert self.journal is not None
                    await live(
                        HOST,
                        self.journal,
                        self.clock,
                        dial_agent=self._dial,
                        restic=self.restic,
                        restic_facts=self._facts,
                        offline=self.offline,
                        drain=self.drain,
                        reconnect_max=self.reconnect_max,
                        catch_up_delay=self.catch_up_delay,
                        task_status=task_status,
                    )

                await nursery.start(run)
                task_status.started(scope)

    async def _facts(self) -> ResticFacts:
        return ResticFacts("0.18.0", None)

    @asynccontextmanager
    async def _dial(self, credential: str) -> AsyncIterator[Link]:
        self.dials.append(self.clock.now())
        self.bearers.append(credential)
        if not self.up:
            raise UnreachableError("nobody there")
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self._answer, theirs)

        async def stream() -> trio.abc.Stream:
            return ours

        async with dial(
            "ws://server:1", path="/agent", bearer=credential, decoder=codec.from_server, open_stream=stream
        ) as link:
            yield link

    async def _answer(self, stream: trio.abc.Stream) -> None:
        async def admit(_knock: object) -> tuple[str, codec.Decoder] | Refused:
            return self.refusal or (HOST.host_id, codec.from_agent)

        with trio.CancelScope() as scope:
            self._knocks.add(scope)
            async with answer(stream, admit=admit, remote="agent") as admitted:
                if admitted is None:
                    return
                link = admitted[1]
                try:
                    hello = (await link.receive()).message
                except LinkClosed:
                    return
                assert isinstance(hello, Hello)
                await self._desks_in.send(Desk(link, hello, [], self.clock))
                await trio.sleep_forever()

    async def connected(self, *, welcome: bool = True) -> Desk:
        """Wait for the agent's next hello, and welcome it."""
        with trio.fail_after(4 * 3600):
            desk = await self._desks.receive()
        if welcome:
            reply = Welcome(
                host_id=HOST.host_id,
                host_name=HOST.host_name,
                epoch=self.epoch,
                clock=self.clock.now() + self.server_ahead,
                heartbeat_interval=15,
                acked_through=max(self.acked, desk.hello.outbox.acked),
                reconnect_spread=5,
                capabilities=self.capabilities,
            )
            desk.link.start_heartbeat(15, self.clock)
            await desk.say(reply)
        return desk

    def cut(self, *, for_good: bool = False) -> None:
        """Break every link; with for_good nobody answers until `up` is set again."""
        self.up = not for_good
        for scope in self._knocks:
            scope.cancel()
        self._knocks.clear()


@asynccontextmanager
async def world(path: Path) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        yield World(path / "agent.db", nursery)
        nursery.cancel_scope.cancel()


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)
