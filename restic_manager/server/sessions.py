"""The life of one agent's session, from its hello to its end.

Owns the order of a start: one process an identity, take the hello and the job list, welcome, only then be online and be
sent anything. After that three tasks that die together: listen, take in, keep the schedule set current. It refuses to
know what reports do to rows (`reports`) and what a hello means (`greeting`).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

import trio
from sqlalchemy import Connection

from restic_manager.domain.errors import StorageError
from restic_manager.link import Link
from restic_manager.protocol.codec import WireError
from restic_manager.protocol.messages import (
    CAP_PINS,
    CAP_RECOVER,
    CAP_REFERENCES,
    CAP_ROWS,
    CAP_STANDING_ORDERS,
    Error,
    Goodbye,
    Hello,
    JobProgress,
    Message,
    Refused,
    ScheduleSet,
    Welcome,
)
from restic_manager.runtime.seldom import Seldom
from restic_manager.runtime.tzdata import tzdata_version
from restic_manager.server import greeting as greetings
from restic_manager.server.greeting import Greeting
from restic_manager.server.hub import Session
from restic_manager.server.intake import Intake
from restic_manager.server.orders import end_unsent
from restic_manager.server.reports import Sender
from restic_manager.server.services import Services
from restic_manager.server.store import assignments, events, hosts
from restic_manager.server.store.hosts import HostRow
from restic_manager.server.store.slots import Caller

logger = logging.getLogger(__name__)

HELLO_SECONDS: Final = 10.0
"""How long a connection may take to its first message, and before that to its request."""
PROBE_SECONDS: Final = 5.0
"""How long an agent has to prove that it is still there when another instance of it comes."""
HOSTS_A_SECOND: Final = 300
"""Reconnects a second that a server takes without sweat: a fleet is asked to spread its own over that."""
_LAST_WRITE_SECONDS: Final = 5.0


class HostSessions:
    """Meets agents whose credential was found good."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def meet(self, host: HostRow, credential_sha256: str, link: Link, greeted: Callable[[], None]) -> None:
        """Given a host, the hash of the credential that let it in and the link, live the session.

        `greeted` is called after a good hello. Raise LinkClosed when the link is over, StorageError when the store
        cannot be used, alone or in a group.
        """
        hello = await first_message(link)
        if not isinstance(hello, Hello):
            await turn_away(link, hello)
            return
        heard_at = self._services.clock.now()
        hub = self._services.hub
        refusal = await self._only_one(host, hello)
        if refusal is not None:
            await _refuse(link, refusal)
            return
        session = Session(host_id=host.id, instance_id=hello.instance_id, link=link)
        hub.greet(session)
        try:
            with session.scope:
                greet = functools.partial(
                    greetings.greet,
                    host_id=host.id,
                    hello=hello,
                    credential_sha256=credential_sha256,
                    heard_at=heard_at,
                )
                await self._greet(session, hello, greet, greeted)
        finally:
            if hub.leave(session):
                self._services.dispatcher.host_left(host.id)
                logger.info("agents' door: %s (%s) is offline", host.name, link.remote)
                await self._note_seen(host.id)
        if session.close_code is not None:
            await link.close(session.close_code, "the session is over")

    async def _only_one(self, host: HostRow, hello: Hello) -> Refused | None:
        """One process an identity: end an older session of the same instance, or of one that does not answer."""
        hub = self._services.hub
        while (other := hub.current(host.id)) is not None:
            if other.instance_id != hello.instance_id and await other.link.answers(PROBE_SECONDS):
                now = self._services.clock.now()
                await self._services.store.write(functools.partial(_note_duplicate, host=host, other=other, now=now))
                return Refused(
                    code="duplicate",
                    message=f"another agent is connected as {host.name}: two processes use one data directory's copy",
                    retry=True,
                )
            other.end("the agent has connected again")
            await other.left.wait()
        return None

    async def _greet(
        self,
        session: Session,
        hello: Hello,
        greet: Callable[[Connection], Greeting | Refused],
        greeted: Callable[[], None],
    ) -> None:
        services = self._services
        # Not heard_at: what an older session was sent while this one waited for its end may be lost with it.
        greeted_at = services.clock.now()
        result = await services.store.write(greet)
        if isinstance(result, Refused):
            await _refuse(session.link, result)
            return
        session.jobs |= result.jobs
        if not session.link.put(self._welcome(result, hello)):
            return
        services.hub.enter(session)
        greeted()
        session.link.start_heartbeat(services.config.heartbeat_interval, services.clock)
        logger.info("agents' door: %s (%s) is online", result.host.name, session.link.remote)
        if result.new_epoch:
            logger.warning("this database is an old copy: it has a new epoch, and every agent has to say hello again")
            services.hub.close_all("the server has a new epoch", but=session.host_id)
        for message in await self._first_messages(result, hello, greeted_at):
            session.link.put(message)
        services.dispatcher.apply(result.ripple)
        services.dispatcher.host_came(session.host_id)
        await self._live(session, hello, result)

    def _welcome(self, greeting: Greeting, hello: Hello) -> Welcome:
        config = self._services.config
        return Welcome(
            host_id=greeting.host.id,
            host_name=greeting.host.name,
            epoch=greeting.epoch,
            clock=self._services.clock.now(),
            heartbeat_interval=config.heartbeat_interval,
            acked_through=greeting.accepted.acked_through,
            acked_hash=greeting.accepted.acked_hash,
            reconnect_spread=max(config.reconnect_spread, (self._services.hub.count() + 1) / HOSTS_A_SECOND),
            capabilities=(CAP_RECOVER, CAP_ROWS),
            pins=self._services.pins() if CAP_PINS in hello.capabilities else (),
        )

    async def _first_messages(self, greeting: Greeting, hello: Hello, greeted_at: datetime) -> list[Message]:
        """Return what the host is told right after the welcome: what ended here, and what it still owes an answer."""
        services = self._services
        unseal, per_job = services.sealer.unseal, services.dispatcher.per_job
        owed = await services.store.read(
            lambda tx: greetings.owed(tx, greeting, hello.jobs, unseal=unseal, per_job=per_job, since=greeted_at)
        )
        if owed.lost:
            now = services.clock.now()
            await services.store.write(lambda tx: end_unsent(tx, owed.lost, now=now, ripple=greeting.ripple))
        return [*greeting.ended, *owed.messages]

    async def _live(self, session: Session, hello: Hello, greeting: Greeting) -> None:
        """Listen, take in and keep the set current until one of the three ends."""
        services = self._services
        caller = Caller(
            host_id=session.host_id,
            clock_offset=greeting.clock_offset,
            same_tzdata=hello.tzdata == tzdata_version() != "unknown",
        )
        sender = Sender(
            caller=caller,
            host_name=greeting.host.name,
            journal_id=hello.journal_id,
            gap_allowed=greeting.accepted.behind,
        )
        intake = Intake(
            store=services.store, clock=services.clock, session=session, sender=sender, apply=services.dispatcher.apply
        )
        async with trio.open_nursery() as tasks:

            async def take_in() -> None:
                await intake.run()
                session.close_code = 1008  # what came last ends the session
                tasks.cancel_scope.cancel()

            tasks.start_soon(take_in, name=f"intake {greeting.host.name}")
            tasks.start_soon(self._keep_set, session, hello, name=f"schedules {greeting.host.name}")
            await self._listen(session, intake)

    async def _listen(self, session: Session, intake: Intake) -> None:
        """Read, and hand over; the one thing that waits here is a full intake."""
        remote = session.link.remote
        told = Seldom(logger)
        while True:
            incoming = await session.link.receive()
            match incoming.message:
                case WireError() as error if not error.durable:
                    self._misunderstood(session, error)
                case JobProgress(job_id=job_id, progress=progress):
                    self._services.hub.note_progress(session, job_id, progress)
                case Hello():
                    session.link.put(Error(code="out_of_order", message="a second hello in one session", ref="hello"))
                case Goodbye(reason=reason):
                    told.say(logging.INFO, "agents' door: %s says goodbye: %s", remote, reason)
                case Error(ref=ref, message=said):
                    told.say(logging.WARNING, "agents' door: %s did not accept a message (%s): %s", remote, ref, said)
                case _:
                    await intake.offer(incoming)

    def _misunderstood(self, session: Session, error: WireError) -> None:
        session.misunderstood += 1
        self._services.hub.misunderstood += 1
        if session.misunderstood == 1:
            logger.warning("agents' door: %s: a message was not understood: %s", session.link.remote, error.message)
        if not error.fatal:
            session.link.put(Error(code=error.code, message=error.message, ref=error.type))

    async def _keep_set(self, session: Session, hello: Hello) -> None:
        """Send the host's schedule set whenever it is not the one the agent has, for ever."""
        standing_orders = CAP_STANDING_ORDERS in hello.capabilities
        unseal = self._services.sealer.unseal
        has: tuple[str | None, int] = (hello.applied_epoch, hello.applied_version)

        def look(tx: Connection) -> list[ScheduleSet]:
            epoch, version = greetings.set_wanted(tx, session.host_id)
            if has == (epoch, version):
                return []
            version, entries, ended = assignments.schedule_set(
                tx,
                session.host_id,
                epoch=epoch,
                standing_orders=standing_orders,
                references=CAP_REFERENCES in hello.capabilities,
                unseal=unseal,
                now=self._services.clock.now(),
            )
            return assignments.set_message_parts(version, epoch, entries, ended)

        while True:
            parts = await self._services.store.read(look)
            for part in parts:
                await session.link.send(part)
            if parts:
                has = (parts[0].epoch, parts[0].version)
            await session.sets.wait()

    async def _note_seen(self, host_id: str) -> None:
        now = self._services.clock.now()
        with trio.move_on_after(_LAST_WRITE_SECONDS, shield=True):
            try:
                await self._services.store.write(lambda tx: hosts.note_seen(tx, [host_id], now))
            except StorageError as error:
                logger.warning("when host %s was last seen could not be stored: %s", host_id, error.message)


async def first_message(link: Link) -> object:
    """Given a link, return the first message or what was wrong with it; None when none came in time."""
    with trio.move_on_after(HELLO_SECONDS):
        return (await link.receive()).message
    return None


async def turn_away(link: Link, message: object) -> None:
    """Given a link that began with the wrong message (None: with none in time), say so and end it."""
    if message is None:
        logger.info("agents' door: %s said nothing for %g s", link.remote, HELLO_SECONDS)
        await link.close(1008, "no message came in time")
        return
    what = message.message if isinstance(message, WireError) else f"it began with {type(message).__name__}"
    logger.info("agents' door: %s did not begin as it should: %s", link.remote, what)
    link.put(Error(code="out_of_order", message=f"the first message was not the one expected: {what}"[:2_000]))
    await link.close(1008, "not the message expected")


async def _refuse(link: Link, refused: Refused) -> None:
    logger.info("agents' door: %s refused: %s", link.remote, refused.message)
    link.put(refused)
    await link.close(1008, refused.code)


def _note_duplicate(tx: Connection, *, host: HostRow, other: Session, now: datetime) -> None:
    detail = f"a second agent came with its credential while {other.link.remote} answered: one data directory, twice"
    events.record_of_host(tx, now=now, actor=host.name, what="duplicate", host_id=host.id, detail=detail)
