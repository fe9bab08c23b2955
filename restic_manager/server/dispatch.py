"""The dispatcher: one task that sends queued jobs to the hosts that are there, and the door for operators' wishes.

Rung by doorbells that say where something changed; then it reads rows, lets `domain.dispatching` choose, stores that a
job is being sent, and only then sends. An order lost on the way is sent again at the host's next hello. Owns the set of
places to look at; refuses to know why a job ended and what restic is.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final, Protocol, TypeVar

import trio
from msgspec import UnsetType
from sqlalchemy import Connection

from restic_manager.domain.errors import ManagerError, StorageError
from restic_manager.domain.model import Actor, InitSpec, new_id
from restic_manager.protocol.api import JobRequest
from restic_manager.protocol.messages import CommandRun
from restic_manager.runtime.bell import Bell
from restic_manager.runtime.clock import Clock
from restic_manager.secrets import Sealer
from restic_manager.server.hub import Hub
from restic_manager.server.orders import end_unsent, fill_orders, write_orders
from restic_manager.server.per_job import PerJob
from restic_manager.server.store import job_lists, job_rows, jobs, queue, retries, schedules, wishes
from restic_manager.server.store.job_rows import JobRow
from restic_manager.server.store.ripple import Ripple
from restic_manager.server.store.writer import Change, Store

logger = logging.getLogger(__name__)
T = TypeVar("T")

ROUND: Final = 500
"""Hosts looked at in one transaction."""
RETRY_SECONDS: Final = 5.0
"""How long to wait before looking again when the store could not be written."""


class Within(Protocol):
    """What an operator's wish is put into before it is stored: a row of the audit, say."""

    def __call__(self, change: Change[T], /) -> Change[T]:
        """Given a change, return one that does it, and more, in the same transaction."""


def alone(change: Change[T]) -> Change[T]:
    """Given a change, return it: a wish that nobody else has to know of."""
    return change


class Dispatcher:
    """Sends what may be sent. `run` is its task; everything else tells it where to look, or asks for a job."""

    def __init__(self, *, store: Store, hub: Hub, clock: Clock, sealer: Sealer) -> None:
        self._store = store
        self._hub = hub
        self._clock = clock
        self._sealer = sealer
        self.per_job = PerJob()
        """The logins that came with jobs that are not over."""
        self._bell = Bell()
        self._hosts: dict[str, None] = {}  # a set that keeps its order: who rang first is looked at first
        self._repos: dict[str, None] = {}  # on which something ended, or changed
        self._left: set[str] = set()
        self._moved = False
        self._turn: datetime | None = None  # when the next attempt has its turn; looked for at the start
        self._turns_seen = datetime(1970, 1, 1, tzinfo=UTC)  # attempts whose turn came by then have been looked at

    # -- where to look -------------------------------------------------------------------------------------------------

    def apply(self, ripple: Ripple) -> None:
        """Given what a committed change calls for, do it: ring, tell, look."""
        for host_id, job_id in ripple.over:
            self._hub.job_over(host_id, job_id)
            self.per_job.drop(job_id)
        for host_id, message in ripple.cancels:
            self._hub.send(host_id, message)
        self._hub.ring(ripple.jobs)
        self._hosts.update(dict.fromkeys(ripple.hosts))
        self._repos.update(dict.fromkeys(sorted(ripple.repos)))
        self._moved = self._moved or ripple.homeless
        if ripple.hosts or ripple.repos or ripple.homeless:
            self._bell.ring()

    def host_came(self, host_id: str) -> None:
        """A host is online and its job list has been taken: it may be sent jobs."""
        self._hosts[host_id] = None
        self._left.discard(host_id)
        self._moved = True
        self._bell.ring()

    def host_left(self, host_id: str) -> None:
        """A host went offline: an init that waits for it may have to move, and others need not wait for its queue."""
        self._left.add(host_id)
        self._moved = True
        self._bell.ring()

    def look_at(self, repo_ids: Iterable[str]) -> None:
        """Repositories have changed so that more may go on there now (they take more jobs at once, say)."""
        self._repos.update(dict.fromkeys(repo_ids))
        self._bell.ring()

    def look_everywhere(self) -> None:
        """Look at every host that is there: what was changed without a ring (who runs what, say) is found by this."""
        self._hosts.update(dict.fromkeys(sorted(self._hub.online_hosts())))
        self._moved = True
        self._bell.ring()

    # -- the task ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look and send whenever rung, and when an attempt has its turn, for ever."""
        look = True  # at the start for the turns alone: no host is there yet
        while True:
            while look or self._hosts or self._repos or self._left or self._moved:
                try:
                    await self._round()
                    look = False
                except StorageError as error:
                    logger.warning("dispatcher: %s; looking again in %g s", error.message, RETRY_SECONDS)
                    await trio.sleep(RETRY_SECONDS)
            look = await self._rung_or_due()

    async def _rung_or_due(self) -> bool:
        """Wait for the bell or for the next turn; return whether a turn has come.

        A wall clock that is set meanwhile is noticed at the next ring: the janitor rings every few minutes.
        """
        left = math.inf if self._turn is None else (self._turn - self._clock.now()).total_seconds()
        with trio.move_on_after(max(0.0, left)):
            await self._bell.wait()
        return self._turn is not None and self._turn <= self._clock.now()

    async def _round(self) -> None:
        """Look at what was rung for, at most ROUND hosts of it, and send what may be sent."""
        hosts_, repos_, left, moved = self._hosts, self._repos, self._left, self._moved
        self._hosts, self._repos, self._left, self._moved = {}, {}, set(), False
        online = self._hub.online_hosts()
        now = self._clock.now()
        ripple = Ripple()
        rest: list[str] = []
        turns: list[datetime | None] = []

        def look(tx: Connection) -> list[tuple[str, CommandRun]]:
            wanted = dict.fromkeys(hosts_)
            free = set(repos_)
            for host_id in left:
                free |= queue.repos_of_queue(tx, host_id)
            if moved:
                wanted.update(dict.fromkeys(sorted(queue.rehome(tx, online=online))))
            wanted.update(dict.fromkeys(retries.hosts_with_turns(tx, self._turns_seen, now)))
            turns[:] = [retries.next_turn(tx, now)]
            there = [host_id for host_id in wanted if host_id in online]
            rest[:] = there[ROUND:]
            orders, unfilled = fill_orders(tx, queue.take(tx, there[:ROUND], repo_ids=free, online=online, now=now))
            written = write_orders(tx, orders, unseal=self._sealer.unseal, per_job=self.per_job)
            end_unsent(tx, [*unfilled, *written.unsent], now=now, ripple=ripple)
            return written.messages

        try:
            messages = await self._store.write(look)
        except BaseException:
            self._hosts.update(hosts_)
            self._repos.update(repos_)
            self._left |= left
            self._moved = self._moved or moved
            raise
        self._hosts.update(dict.fromkeys(rest))
        self._turn, self._turns_seen = turns[0], now
        for host_id, message in messages:
            self._hub.send(host_id, message)
        self._hub.ring(message.job_id for _, message in messages)
        self.apply(ripple)

    # -- what operators ask for ----------------------------------------------------------------------------------------

    async def run_schedule(self, schedule_ref: str, host_ref: str | None, *, within: Within = alone) -> list[JobRow]:
        """Given a schedule (and one of its hosts), queue its work now, on that host or on all; return the jobs.

        Raise NotFoundError for a name that is none, InputError for a host that is not one of the schedule's,
        ConflictError when the schedule has no hosts.
        """
        now = self._clock.now()

        def change(tx: Connection) -> list[JobRow]:
            schedule = schedules.resolve(tx, schedule_ref)
            targets = wishes.targets(tx, schedule, host_ref)
            return [
                job_rows.insert(
                    tx,
                    job_id=new_id(),
                    spec=schedule.spec,
                    host_id=host_id,
                    repo_id=schedule.repo_id,
                    actor=Actor.OPERATOR,
                    now=now,
                    schedule_id=schedule.id,
                    limits=schedule.limits,
                )
                for host_id in targets
            ]

        return await self._queue(within(change))

    async def ask(self, request: JobRequest, *, within: Within = alone) -> JobRow:
        """Given what an operator wants, queue the job that does it and return it.

        Raise InputError for what cannot be right, NotFoundError for a name that is none, ConflictError where no host
        is there to do it, or its agent is too old, or it is about to be done already.
        """
        now, online = self._clock.now(), self._hub.online_hosts()
        with_login: list[str] = []

        def change(tx: Connection) -> list[JobRow]:
            job = wishes.ask(tx, request, online=online, now=now)
            login = request.maintainer_env
            if not isinstance(login, UnsetType):
                wishes.check_login(tx, job, login)
                # Before the commit: the job may be sent as soon as its row is there.
                self.per_job.keep(job.id, login)
                with_login.append(job.id)
            return [job]

        try:
            return (await self._queue(within(change)))[0]
        except ManagerError:
            for job_id in with_login:
                self.per_job.drop(job_id)
            raise

    async def preview_forget(self, schedule_ref: str, host_ref: str | None, *, within: Within = alone) -> list[JobRow]:
        """Given a schedule (and one of its hosts), queue a dry run of its retention for that host, or for each.

        Raise as `run_schedule`, and ConflictError for a schedule that keeps everything.
        """
        now, online = self._clock.now(), self._hub.online_hosts()

        def change(tx: Connection) -> list[JobRow]:
            return wishes.preview_forget(tx, schedule_ref, host_ref, online=online, now=now)

        return await self._queue(within(change))

    async def init_repo(self, repo_ref: str, host_ref: str, *, within: Within = alone) -> JobRow:
        """Given a repository and a host, queue its creation; raise ConflictError when that is under way already."""
        return await self.ask(JobRequest(spec=InitSpec(), repo=repo_ref, host=host_ref), within=within)

    async def _queue(self, change: Callable[[Connection], list[JobRow]]) -> list[JobRow]:
        made = await self._store.write(change)
        self.apply(Ripple(jobs={job.id for job in made}, hosts={job.host_id for job in made}))
        return made

    async def cancel(self, job_ref: str, reason: str = "cancelled by an operator", *, within: Within = alone) -> JobRow:
        """Given a job's id (or its beginning), end it; return the job as it is now.

        Never sent: it is cancelled. With its host: the wish is kept and told until the host says how it ended. Raise
        ConflictError when it is over already, NotFoundError when there is none.
        """
        now = self._clock.now()
        ripple = Ripple()

        def change(tx: Connection) -> JobRow:
            job = job_lists.resolve(tx, job_ref)
            return jobs.request_cancel(tx, job, reason=reason, now=now, ripple=ripple)

        after = await self._store.write(within(change))
        self.apply(ripple)
        return after
