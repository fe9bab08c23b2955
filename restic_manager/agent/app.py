"""The agent's composition root: the journal, and round it the nursery of signals, scheduler, runner and session.

Owns the order in which things start and stop. The first SIGTERM or SIGINT drains: nothing new starts, what runs is
asked to stop, its verdict is journaled and, if the link is up, sent. The second cancels.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import trio

from restic_manager.agent import records, schedule_rows
from restic_manager.agent.announce import WaitingFile, announce
from restic_manager.agent.book import IdentityBook
from restic_manager.agent.carrying import Restic, ResticFacts
from restic_manager.agent.cutoff import Sealing, Vault
from restic_manager.agent.grace import Grace
from restic_manager.agent.housekeeping import keep_house
from restic_manager.agent.identity import Identity, IdentityFiles, establish, joins_with
from restic_manager.agent.journal import Journal, open_journal, reset_journal
from restic_manager.agent.lookup import Lookup
from restic_manager.agent.permitting import Gate, Places, find_command
from restic_manager.agent.policy_edit import allow
from restic_manager.agent.policy_file import PolicyBook, book_of, load
from restic_manager.agent.repositories import take_those_in_use
from restic_manager.agent.runner import Runner
from restic_manager.agent.scheduler import Scheduler
from restic_manager.agent.session import Session
from restic_manager.agent.slots import Slots
from restic_manager.agent.standing import StandingOrders, ask_anew_unless_open, seal_with
from restic_manager.agent.tool import ResticTool
from restic_manager.config import AgentConfig
from restic_manager.domain.cron import splay_offset
from restic_manager.domain.errors import InputError, NotPermittedError, UntrustedError
from restic_manager.link import Link, dial, shown_pin
from restic_manager.protocol import codec
from restic_manager.protocol.address import check_pinned_url
from restic_manager.runtime import datadir
from restic_manager.runtime.bell import Bell
from restic_manager.runtime.clock import Clock, SystemClock
from restic_manager.runtime.redact import Redactor
from restic_manager.runtime.signals import StopSignals, watch_signals
from restic_manager.runtime.wakeup import open_alarm
from restic_manager.secrets import open_sealer

logger = logging.getLogger(__name__)

JOURNAL: Final = "agent.db"
KEY: Final = "agent.key"
_FAREWELL_WITHIN: Final = 10.0
"""Seconds for the last reports to leave when the agent stops."""


@dataclass(frozen=True)
class Offline:
    """How an agent goes on without its server: what seals its orders, the grace in seconds, how long they hold."""

    sealing: Sealing
    grace: float
    lease: timedelta


async def run_agent(
    config: AgentConfig,
    redactor: Redactor | None = None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Given its config, run the agent until a signal ends it; started once it has joined and its journal is loaded.

    redactor: what this process's log goes through; it is told the secrets that are opened here.
    Raise StorageError if the data directory cannot be used or another agent has it, InputError or RefusedError if this
    host has not joined and cannot.
    """
    datadir.prepare(config.data_dir)
    with datadir.lock(config.data_dir, "agent"):
        _settle_policy(config)
        async with trio.open_nursery() as nursery:
            signals: StopSignals = await nursery.start(watch_signals, name="signals")
            nursery.start_soon(_cancel_when, signals.cancel, nursery.cancel_scope, name="second signal")
            identity = await _join(config, signals.drain)
            if identity is not None:
                if identity.pins:
                    check_pinned_url(config.server_url)
                if redactor is not None:
                    redactor.add(identity.credential)
                await _run_as(identity, config, redactor, signals.drain, task_status)
            nursery.cancel_scope.cancel()


async def _join(config: AgentConfig, drain: trio.Event) -> Identity | None:
    """Return who this host is; None when a signal came first."""
    identity = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_when, drain, nursery.cancel_scope, name="signal while joining")
        files = IdentityFiles(config.data_dir)
        if config.token is None and files.load() is None:
            identity = await _announce(files, config)
        else:
            identity = await establish(
                files,
                config.token,
                lambda token: dial(
                    config.server_url, path="/join", bearer=token.text, decoder=codec.join_answer, pins=token.pins
                ),
                reconnect_max=config.reconnect_max,
            )
        WaitingFile(config.data_dir).forget()  # of an announcement that became this host, or is not needed any more
        nursery.cancel_scope.cancel()
    return identity


async def _announce(files: IdentityFiles, config: AgentConfig) -> Identity:
    """Wait until somebody has approved this machine, and return who it is; raise as `announce`, and InputError where
    the person who started it has to say which server it is to believe."""
    pins = () if config.pin is None else (config.pin,)
    waiting_file = WaitingFile(config.data_dir)
    try:
        return await announce(
            files,
            waiting_file,
            lambda: dial(config.server_url, path="/announce", bearer=None, decoder=codec.announce_answer, pins=pins),
            pins=pins,
            say=_say,
            reconnect_max=config.reconnect_max,
        )
    except UntrustedError as error:
        pin = await shown_pin(config.server_url)
        raise InputError(
            f"{error.message.partition(':')[0]}: no CA of this system vouches for its certificate, whose pin is {pin}. "
            "Compare that with `restic-manager server cert show` on the server; if it is the same, start this agent "
            f"with --pin {pin}"
        ) from None


def _say(text: str) -> None:
    """Tell the person who started it, whatever the log level."""
    sys.stderr.write(text)
    sys.stderr.flush()


async def _run_as(
    identity: Identity,
    config: AgentConfig,
    redactor: Redactor | None,
    drain: trio.Event,
    task_status: trio.TaskStatus[None],
) -> None:
    identities = IdentityBook(identity, IdentityFiles(config.data_dir))
    book, places = _book(config), Places(config.data_dir)
    tool = ResticTool(
        config.restic_path,
        cache_dir=config.data_dir / "restic-cache",
        kill_after=config.cancel_grace,
        lookup=Lookup(
            data_dir=config.data_dir,
            environ=dict(os.environ),
            find_command=functools.partial(find_command, book, places),
            redactor=redactor,
        ),
    )
    if config.reset_journal:
        _reset(config.data_dir / JOURNAL)
    clock, offline = SystemClock(), _offline(config)
    async with open_journal(await _journal_of(identity, config.data_dir)) as journal:
        await take_those_in_use(journal, None if offline is None else offline.sealing, clock.now())
        gate = Gate(
            tool,
            book=book,
            places=places,
            journal=journal,
            clock=clock,
            joined_with=identity.repositories,
            redactor=redactor,
        )
        await live(
            identity,
            journal,
            clock,
            dial_agent=lambda credential: dial(
                config.server_url, path="/agent", bearer=credential, decoder=codec.from_server, pins=identities.pins
            ),
            book=identities,
            restic=gate,
            restic_facts=gate.facts,
            at_once=gate.jobs_at_once,
            offline=offline,
            drain=drain,
            reconnect_max=config.reconnect_max,
            catch_up_delay=config.catch_up_delay,
            task_status=task_status,
        )


async def live(
    identity: Identity,
    journal: Journal,
    clock: Clock,
    *,
    dial_agent: Callable[[str], AbstractAsyncContextManager[Link]],
    restic: Restic,
    restic_facts: Callable[[], Awaitable[ResticFacts]],
    offline: Offline | None,
    drain: trio.Event,
    reconnect_max: float,
    catch_up_delay: float,
    book: IdentityBook | None = None,
    at_once: Callable[[], int | None] = lambda: None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Given who it is, its journal, its clock and its ways out, be this host's agent until `drain` is set.

    Everything outside the process comes in as an argument, so that tests run it in virtual time. Durations in seconds;
    a catch_up_delay of 0 means that missed slots run at once. at_once: how many jobs may run beside each other.
    Without a book no change of its identity is stored.
    """
    bell, waited = Bell(), Bell()
    sealing = None if offline is None else offline.sealing
    slots = Slots(
        journal,
        host_id=identity.host_id,
        ring=bell.ring,
        grace=Grace(None if offline is None else offline.grace),
        seal=seal_with(sealing),
        waited=waited.ring,
    )
    vault = None if sealing is None else Vault(sealing)
    runner = Runner(journal, slots, clock, restic, ring=bell.ring, vault=vault, at_once=at_once)
    if sealing is None:
        await journal.write(schedule_rows.drop_orders)
    else:
        await ask_anew_unless_open(journal, sealing)
    await slots.load(clock.now())
    await runner.recover()
    async with open_alarm(clock) as alarm:
        session = Session(
            book=book or IdentityBook(identity),
            dial=dial_agent,
            journal=journal,
            slots=slots,
            runner=runner,
            clock=clock,
            bell=bell,
            wake_scheduler=alarm.ring,
            restic=restic_facts,
            standing_orders=offline is not None,
            reconnect_max=reconnect_max,
        )
        settle = _settle(catch_up_delay, identity.host_id)
        scheduler = Scheduler(slots, journal, clock, alarm, settle=settle, clock_set=session.meet_again)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scheduler.run, name="scheduler")
            nursery.start_soon(runner.run, name="runner")
            nursery.start_soon(session.run, name="session")
            nursery.start_soon(keep_house, journal, clock, name="housekeeping")
            if offline is not None:
                standing = StandingOrders(
                    journal=journal,
                    slots=slots,
                    runner=runner,
                    clock=clock,
                    sealing=offline.sealing,
                    host_id=identity.host_id,
                    lease=offline.lease,
                    bell=waited,
                )
                nursery.start_soon(standing.run, name="standing orders")
            task_status.started()
            await drain.wait()
            await runner.drain()
            with trio.move_on_after(_FAREWELL_WITHIN):
                await session.flush()
                await session.goodbye("the agent stops")
            await scheduler.stamp()
            nursery.cancel_scope.cancel()
    logger.info("the agent has stopped")


def _book(config: AgentConfig) -> PolicyBook:
    return book_of(config.data_dir, config.policy)


def _settle_policy(config: AgentConfig) -> None:
    """Prove that the policy can be believed, after writing into it what the joining line allows.

    Raise InputError if it cannot: an agent that would refuse every job is not started.
    """
    book = _book(config)
    try:
        if config.allow:
            if joins_with(IdentityFiles(config.data_dir), config.token):
                added = allow(book.path, "kinds", config.allow)
                if added:
                    logger.warning("allowed from now on, in %s: jobs of kind %s", book.path, ", ".join(added))
            else:
                logger.info("--allow counts when a host joins: `restic-manager agent policy allow-kind` changes it now")
        loaded = load(book.path, named=config.policy is not None and not config.allow)
    except NotPermittedError as error:
        raise InputError(error.message, code="bad_policy") from None
    where = "the safe default, there is no policy file" if loaded.path is None else loaded.path
    logger.info("policy: %s", where)


def _offline(config: AgentConfig) -> Offline | None:
    """Return how this agent goes on without the server; None when it is told to keep no standing orders."""
    if not config.offline:
        return None
    sealer = open_sealer(config.data_dir / KEY, create=True, choice=config.key)
    return Offline(sealer, config.offline_grace, timedelta(seconds=config.offline_lease))


def _settle(catch_up_delay: float, host_id: str) -> timedelta:
    """Return how long catch-up runs wait after a start or a resume: the delay and this host's own stable offset."""
    whole = round(catch_up_delay)
    return timedelta(seconds=catch_up_delay + splay_offset(whole, host_id=host_id, schedule_id="catch-up"))


def _reset(path: Path) -> None:
    """Move a damaged journal aside, and say what that means."""
    aside = reset_journal(path, now=SystemClock().now())
    if aside is None:
        logger.info("--reset-journal: the journal is whole, and stays")
        return
    logger.warning(
        "the journal was damaged: it is kept as %s, and this agent begins a fresh one. What the server had not been "
        "told is lost with it; jobs it was running are recorded as interrupted",
        aside,
    )


async def _journal_of(identity: Identity, data_dir: Path) -> Path:
    """Return the path of this host's journal. One of another host (this machine was invited under another name) is
    moved aside: its schedules and sequences are not ours."""
    path = data_dir / JOURNAL
    async with open_journal(path) as journal:
        owner = await journal.read(lambda db: records.get_meta(db, "host_id"))
        if owner is None:
            await journal.write(lambda db: records.set_meta(db, "host_id", identity.host_id))
    if owner is not None and owner != identity.host_id:
        aside = data_dir / f"agent-{owner[:8]}.db"
        logger.warning("this host joined anew as %s: the old host's journal is kept as %s", identity.host_name, aside)
        for suffix in ("", "-wal", "-shm"):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.replace(aside.with_name(aside.name + suffix))
        return await _journal_of(identity, data_dir)
    return path


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
