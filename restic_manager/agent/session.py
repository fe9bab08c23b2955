"""The agent's one connection: dial, hello, welcome, then listen and report until it breaks, and dial again.

Owns the link's life and the order of what is sent: answers, then fires, then progress, then the outbox. Hands what the
server says to `slots`, `sets` and `runner`, and decides nothing about it. A lost link never stops a job or a schedule.
"""

from __future__ import annotations

import functools
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Final, assert_never

import trio

from restic_manager import __version__
from restic_manager.agent import facts, records, retelling
from restic_manager.agent.book import IdentityBook
from restic_manager.agent.carrying import ResticFacts
from restic_manager.agent.identity import backoff, duration_text_of, spread
from restic_manager.agent.journal import TRY_AGAIN, Journal
from restic_manager.agent.runner import Runner
from restic_manager.agent.sets import ScheduleSets
from restic_manager.agent.slots import Slots
from restic_manager.agent.strangers import Strangers
from restic_manager.domain.errors import RefusedError, StorageError, UnreachableError, UntrustedError
from restic_manager.domain.instants import instant_text
from restic_manager.domain.model import new_id
from restic_manager.link import Link, LinkClosed
from restic_manager.protocol.codec import WireError
from restic_manager.protocol.fitting import claims_that_fit
from restic_manager.protocol.messages import (
    CAP_RECOVER,
    CAP_ROWS,
    PROTOCOL_VERSION,
    Ack,
    CommandCancel,
    CommandRun,
    CredentialHeld,
    CredentialRotate,
    Error,
    FromServer,
    Goodbye,
    Heartbeat,
    Hello,
    Refused,
    ScheduleFired,
    ScheduleSet,
    Welcome,
)
from restic_manager.protocol.session import refusal_error, welcome_fits
from restic_manager.runtime.bell import Bell
from restic_manager.runtime.clock import Clock
from restic_manager.runtime.localzone import local_timezone
from restic_manager.runtime.tzdata import tzdata_version

logger = logging.getLogger(__name__)

Dial = Callable[[str], AbstractAsyncContextManager[Link]]
"""Given the credential, dial the server's `/agent`."""

_ANSWER_WITHIN: Final = 30.0
_REFUSED_PAUSE: Final = 600.0
"""Seconds between tries after a refusal that asking again cannot help: somebody has to act first."""
_BATCH: Final = 256 << 10
_PROGRESS_EVERY: Final = 1.0


class _WrongJournalError(Exception):
    """The report the server calls the last acked is not ours: this journal is an old copy."""


class Session:
    """Keeps this agent connected."""

    def __init__(
        self,
        *,
        book: IdentityBook,
        dial: Dial,
        journal: Journal,
        slots: Slots,
        runner: Runner,
        clock: Clock,
        bell: Bell,
        wake_scheduler: Callable[[], None],
        restic: Callable[[], Awaitable[ResticFacts]],
        standing_orders: bool,
        reconnect_max: float,
    ) -> None:
        self._book = book
        self._dial = dial
        self._journal = journal
        self._slots = slots
        self._runner = runner
        self._clock = clock
        self._bell = bell
        self._wake_scheduler = wake_scheduler
        self._restic = restic
        self._standing_orders = standing_orders
        self._reconnect_max = reconnect_max
        self._strangers = Strangers()
        self._instance_id = new_id()
        self._spread = 0.0
        self._acked = 0
        self._welcomed_at = clock.now()
        self._link: Link | None = None
        self._life = trio.CancelScope()  # of the link that stands, or is being made
        self._shrunk = trio.Event()  # set, and replaced, whenever the outbox got shorter or the link ended

    async def run(self) -> None:
        """Connect, and connect again whenever it ends, for ever."""
        attempt = 0
        while True:
            pause = 0.0
            try:
                with trio.CancelScope() as self._life:
                    async with self._dial(self._book.credential) as link:
                        welcome = await self._greet(link)
                        attempt = 0
                        self._strangers.gone()
                        self._spread = welcome.reconnect_spread
                        await self._book.welcomed()
                        if not await self._book.learn(welcome.pins):
                            await self._live(link, welcome)
                pause = spread(min(self._spread, self._reconnect_max))
                logger.info("saying hello again, as things are now, in %s", duration_text_of(pause))
            except RefusedError as refusal:
                if refusal.code == "rekey":
                    await self._rekey(refusal.message)
                    pause = backoff(attempt, self._reconnect_max)
                elif refusal.code == "unknown" and self._book.unknown():
                    logger.warning("%s; trying the credential it had before", refusal.message)
                    pause = backoff(attempt, self._reconnect_max)
                elif refusal.retry:
                    pause = refusal.retry_after + backoff(attempt, self._reconnect_max)
                    told = duration_text_of(pause)
                    logger.warning("the server refused this agent for now: %s; next try in %s", refusal.message, told)
                else:
                    longest = max(_REFUSED_PAUSE, self._reconnect_max)
                    pause = spread(longest, least=longest / 2)
                    words = (refusal.code, refusal.message, duration_text_of(pause))
                    logger.log(logging.ERROR, "the server refuses this agent (%s): %s. It asks again in %s", *words)
            except _WrongJournalError:
                await self._rekey("the server's last report of this journal is not the one held here")
                pause = backoff(attempt, self._reconnect_max)
            except UntrustedError as error:
                pause = backoff(attempt, self._reconnect_max)
                self._strangers.met(error, duration_text_of(pause))
            except UnreachableError as error:
                pause = backoff(attempt, self._reconnect_max)
                logger.warning("%s; next try in %s", error.message, duration_text_of(pause))
            except StorageError as error:
                pause = backoff(attempt, self._reconnect_max, first=TRY_AGAIN)
                logger.error("%s; dialling again in %s", error.message, duration_text_of(pause))  # noqa: TRY400 - the message says it all
            except LinkClosed as closed:
                # The first try after a loss is spread over what the server asked for: a whole fleet comes back at once.
                pause = spread(min(self._spread, self._reconnect_max))
                logger.warning("connection lost (%s); next try in %s", closed, duration_text_of(pause))
            attempt += 1
            await trio.sleep(pause)

    def meet_again(self) -> None:
        """The clock here was set: end the link, and say hello with it as it is now.

        Both sides translate instants by what the last hello told of the clocks. Until the next, no fire leaves.
        """
        self._slots.link_down()
        self._life.cancel()

    async def flush(self) -> None:
        """Return once the server has acknowledged everything, or the link is gone."""
        while self._link is not None:
            shrunk = self._shrunk
            if await self._journal.read(records.outbox_size) == 0:
                return
            await shrunk.wait()

    async def goodbye(self, reason: str) -> None:
        """End the link on purpose, sending what is queued first."""
        link = self._link
        if link is not None and not link.closed:
            link.put(Goodbye(reason=reason))
            await link.close(1001, reason)

    # -- hello -------------------------------------------------------------------------------------------------------

    async def _greet(self, link: Link) -> Welcome:
        remembered = await self._journal.read(records.remembered)
        restic = await self._restic()
        pins = self._book.pins
        same_kind = remembered.with_orders is self._standing_orders
        await link.send(
            Hello(
                protocol=PROTOCOL_VERSION,
                capabilities=facts.capabilities(standing_orders=self._standing_orders, pinned=bool(pins)),
                pins=pins,
                kinds=restic.kinds,
                agent_version=__version__,
                restic_version=restic.version,
                restic_problem=restic.problem,
                os=facts.operating_system(),
                machine=facts.machine(),
                timezone=local_timezone(),
                tzdata=tzdata_version(),
                boot_id=facts.boot_id(),
                instance_id=self._instance_id,
                journal_id=remembered.journal_id,
                outbox=remembered.outbox,
                applied_epoch=remembered.applied_epoch,
                # A set applied without standing orders is not the one we want now, nor the other way round.
                applied_version=remembered.applied_version if same_kind else 0,
                jobs=claims_that_fit(self._runner.claims(remembered.jobs)),
                clock=self._clock.now(),
            )
        )
        with trio.move_on_after(_ANSWER_WITHIN):
            incoming = await link.receive()
            match incoming.message:
                case Welcome() as welcome:
                    held = await self._journal.read(lambda db: records.report_hash(db, welcome.acked_through))
                    if not welcome_fits(welcome, remembered.outbox, held):
                        raise _WrongJournalError
                    return welcome
                case Refused() as refused:
                    raise refusal_error(refused)
                case other:
                    raise LinkClosed(None, f"the server answered a hello with {type(other).__name__}")
        raise LinkClosed(None, f"the server did not answer the hello within {_ANSWER_WITHIN:g} s")

    async def _rekey(self, why: str) -> None:
        journal_id = await self._journal.write(records.rekey)
        logger.warning("%s; going on as journal %s, every unacknowledged report is sent again", why, journal_id)

    # -- the live link -------------------------------------------------------------------------------------------------

    async def _live(self, link: Link, welcome: Welcome) -> None:
        self._welcomed_at = self._clock.now()
        sets = ScheduleSets(
            self._slots,
            self._clock,
            server_ahead=welcome.clock - self._welcomed_at,
            with_orders=self._standing_orders,
            applied=self._wake_scheduler,
        )
        self._acked = welcome.acked_through
        self._link = link
        link.start_heartbeat(welcome.heartbeat_interval, self._clock)
        logger.info("connected to %s as host %s", link.remote, welcome.host_name)
        retold = await self._journal.write(functools.partial(_take_welcome, welcome=welcome, at=self._welcomed_at))
        if retold:
            logger.info("the server was restored from a copy: it is told again what it may have forgotten")
        self._runner.welcomed(
            recovers=CAP_RECOVER in welcome.capabilities, rows=link.send if CAP_ROWS in welcome.capabilities else None
        )
        try:
            await self._slots.link_up(self._clock.now())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._report, link, welcome.acked_through, name="session sender")
                nursery.start_soon(sets.run, link, name="session schedule sets")
                if retold:
                    nursery.start_soon(self._retell, name="session retelling")
                await self._listen(link, sets)
        except BaseExceptionGroup as group:
            raise _cause(group) from None
        finally:
            self._slots.link_down()
            self._runner.parted()
            self._link = None
            self._note_shrunk()

    async def _listen(self, link: Link, sets: ScheduleSets) -> None:
        while True:
            incoming = await link.receive()
            if isinstance(incoming.message, WireError):
                await self._not_understood(link, incoming.message)
            else:
                await self._take(link, incoming.message, sets)

    async def _take(self, link: Link, message: FromServer, sets: ScheduleSets) -> None:
        match message:
            case ScheduleSet():
                sets.take(message)
            case ScheduleFired():
                await self._slots.answered(message, self._clock.now())
            case CommandRun():
                await self._runner.accept(message)
            case CommandCancel():
                await self._runner.cancel(message)
            case Ack(through=through):
                self._acked = max(self._acked, through)
                self._bell.ring()
            case CredentialRotate() | CredentialHeld():
                await self._book.told(message, link.put)
            case Error():
                logger.warning("the server did not accept a message (%s): %s", message.ref, message.message)
            case Goodbye():
                logger.info("the server says goodbye: %s", message.reason)
            case Refused():
                raise refusal_error(message)
            case Welcome():
                link.put(Error(code="out_of_order", message="a second welcome", ref="welcome"))
            case Heartbeat():
                return  # the link counts them
            case _ as unreachable:
                assert_never(unreachable)

    async def _not_understood(self, link: Link, error: WireError) -> None:
        logger.warning("a message from the server was not understood: %s", error.message)
        if not error.fatal:
            link.put(Error(code=error.code, message=error.message, ref=error.type))

    # -- sending -------------------------------------------------------------------------------------------------------

    async def _report(self, link: Link, acked: int) -> None:
        sent = forgotten = acked
        next_progress = trio.current_time()
        while True:
            for fire in self._slots.take_fires():
                await link.send(fire)
            if trio.current_time() >= next_progress:
                for progress in self._runner.take_progress():
                    await link.send(progress)
                    next_progress = trio.current_time() + _PROGRESS_EVERY
            if self._acked > forgotten:
                forgotten = self._acked
                await self._forget(forgotten)
            batch = await self._journal.read(functools.partial(records.reports_after, seq=sent, characters=_BATCH))
            for seq, frame in batch:
                await link.send_frame(frame)
                sent = seq
            if not batch:
                await self._bell.wait()

    async def _forget(self, through: int) -> None:
        def forget(db: sqlite3.Connection) -> int:
            records.acknowledge(db, through)
            return records.outbox_size(db)

        self._runner.acknowledged(await self._journal.write(forget))
        self._note_shrunk()

    async def _retell(self) -> None:
        """Tell again, batch after batch, each when what came before it has left the outbox."""
        while True:
            shrunk = self._shrunk
            if not await self._journal.write(retelling.tell_more):
                return
            self._bell.ring()
            await shrunk.wait()

    def _note_shrunk(self) -> None:
        self._shrunk.set()
        self._shrunk = trio.Event()


def _take_welcome(db: sqlite3.Connection, welcome: Welcome, at: datetime) -> bool:
    """Given a welcome and when it came, journal what it says; return whether things have to be told again."""
    records.acknowledge(db, welcome.acked_through)
    records.set_meta(db, "contact_at", instant_text(at))
    return retelling.note_epoch(db, welcome.epoch)


def _cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Given what ended a live link, return the one reason: reader and sender die together, often of the same.

    A cancellation among them is not lost: it comes again at the next checkpoint.
    """
    leaves = list(_leaves(group))
    expected = (StorageError, RefusedError, LinkClosed)
    if all(isinstance(leaf, (*expected, trio.Cancelled)) for leaf in leaves):
        for kind in expected:
            found = [leaf for leaf in leaves if isinstance(leaf, kind)]
            if found:
                return found[0]
    return group


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
