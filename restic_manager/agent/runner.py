"""Which orders run, and what is reported of them. One heavy job at a time, in order; beside it a few that only read.

Owns the jobs of this process from `command.run` to the verdict in the outbox. Decides nothing about slots (that is
`slots`) and knows nothing of restic but that running a task gives an outcome. A job is journaled before anything is
spawned; an id that is known is never run twice. Each job has its own barrier.
"""

from __future__ import annotations

import functools
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import trio
from msgspec.structs import replace

from restic_manager.agent import records
from restic_manager.agent.carrying import Restic
from restic_manager.agent.cutoff import CutOffs, Vault, cut_off
from restic_manager.agent.joblog import JobLogWriter, LogBudget
from restic_manager.agent.journal import Journal, insist
from restic_manager.agent.listings import Listing, Listings, Send
from restic_manager.agent.slots import Slots
from restic_manager.domain.errors import StorageError
from restic_manager.domain.model import Failure, Kind, Outcome, Progress, Status, kind_of
from restic_manager.protocol.messages import CommandCancel, CommandRun, JobClaim, JobFinished, JobProgress, JobStarted
from restic_manager.runtime.bell import Bell
from restic_manager.runtime.clock import Clock

logger = logging.getLogger(__name__)

_ENDING_WITHIN: Final = 30.0
"""Seconds a verdict may take to reach the journal while everything around is being cancelled."""
READING_AT_ONCE: Final = 4
"""Jobs that only ask a repository run beside the heavy one, so many at once."""


@dataclass
class _Job:
    order: CommandRun
    stop: trio.Event = field(default_factory=trio.Event)
    cancelled: bool = False
    stopping_agent: bool = False
    log_lines: int | None = None


class Runner:
    """Accepts orders and cancels, runs jobs, keeps the latest progress of each."""

    def __init__(
        self,
        journal: Journal,
        slots: Slots,
        clock: Clock,
        restic: Restic,
        *,
        ring: Callable[[], None],
        vault: Vault | None = None,
        at_once: Callable[[], int | None] = lambda: None,
    ) -> None:
        """`vault` keeps what is needed to look a cut-off run up; None: nothing is kept. at_once: how many jobs of any
        sort may run; None: as many as there are.
        """
        self._at_once = at_once
        self._journal = journal
        self._slots = slots
        self._clock = clock
        self._restic = restic
        self._ring = ring
        self._vault = vault
        self._waiting: deque[_Job] = deque()
        self._running: dict[str, _Job] = {}
        self._cut_offs = CutOffs(restic, finish=self._finish)
        self._progress: dict[str, Progress] = {}
        self._listings = Listings()
        self._bell = Bell()
        self._draining = False
        self._idle = trio.Event()
        self._budget = LogBudget()

    # -- what the server says -----------------------------------------------------------------------------------------

    async def accept(self, order: CommandRun) -> None:
        """Take an order: queue it, or answer with what is known of its id."""
        if order.job_id in self._cut_offs:
            if order.recover:
                self._cut_offs.access(order)
            return
        if self._find(order.job_id) is not None or self._draining:
            return  # it is under way, or this agent is: after the restart it is not in the hello, so it comes again
        known, forgotten = await self._journal.read(
            lambda db: (records.find_job(db, order.job_id), records.forgot_before(db))
        )
        if known is not None:
            await self._report_again(known)
            if known.outcome is not None:  # a clock that was wrong had run this slot before its time: it does not again
                await self._slots.ended_elsewhere(order.job_id, self._clock.now())
        elif forgotten is not None and order.ordered_at < forgotten:
            failure = Failure(
                code="unknown_too_old",
                message="this order is older than what this agent remembers: it may have run, so it was not run again",
            )
            await self._finish(_key(order), Outcome(status=Status.INTERRUPTED, error=failure))
        elif order.recover:
            failure = Failure(
                code="unknown_job", message="this agent knows nothing of this job: there is no run to look for"
            )
            await self._finish(_key(order), Outcome(status=Status.INTERRUPTED, error=failure))
        elif self._find(order.job_id) is None:
            self._waiting.append(_Job(order))
            self._slots.job_accepted(order.job_id, order.schedule_id)
            self._bell.ring()

    async def cancel(self, command: CommandCancel) -> None:
        """Take a cancel: stop the job, or remember that it is never to start; or hear that it ended on the server."""
        if command.status is not None:
            if command.status is Status.INTERRUPTED:
                self._cut_offs.no_access(command.job_id, command.reason)
            await self._ended_elsewhere(command.job_id)
            return
        if command.job_id in self._cut_offs:
            self._cut_offs.cancel(command.job_id)
            return
        job = self._find(command.job_id)
        if job is not None and job not in self._waiting:
            job.cancelled = True
            job.stop.set()
            return
        if job is None:
            known = await self._journal.read(lambda db: records.find_job(db, command.job_id))
            if known is not None:
                await self._report_again(known)
                return
        else:
            self._waiting.remove(job)
        failure = Failure(
            code="cancelled", message=f"cancelled before it started: {command.reason or 'by an operator'}"
        )
        # A fire that waits for just this job ends with it, in the same commit: no order will ever come for it.
        key = self._slots.key_of(command.job_id) if job is None else _key(job.order)
        await self._finish(key, Outcome(status=Status.CANCELLED, error=failure))

    async def _ended_elsewhere(self, job_id: str) -> None:
        """A job has ended on the server without having run here: what waits for it here goes on without."""
        job = self._find(job_id)
        if job is not None and job in self._waiting:
            self._waiting.remove(job)
            await self._slots.job_ended(_key(job.order), self._clock.now())
        await self._slots.ended_elsewhere(job_id, self._clock.now())

    def claims(self, journaled: Sequence[JobClaim]) -> tuple[JobClaim, ...]:
        """Given the jobs the journal tells of, return what the hello says: those for which the server is asked for
        access are marked, and those that wait for the runner come with them.
        """
        asking = self._cut_offs.asking()
        told = [replace(claim, recover=True) if claim.job_id in asking else claim for claim in journaled]
        waiting = [
            JobClaim(
                job_id=job.order.job_id,
                state="accepted",
                schedule_id=job.order.schedule_id,
                scheduled_at=job.order.scheduled_at,
            )
            for job in self._waiting
        ]
        return (*told, *waiting)

    def welcomed(self, *, recovers: bool, rows: Send | None) -> None:
        """A server has answered the claims. recovers: it is one that gives the access they ask for. rows: how those of
        listings are sent to it, None if it takes none.
        """
        self._listings.opened(rows)
        if not recovers:
            self._cut_offs.ask_nobody()

    def parted(self) -> None:
        """The link to the server is over."""
        self._listings.closed()

    def take_progress(self) -> list[JobProgress]:
        """Return the latest progress of each job that has moved since it was last taken."""
        taken = [JobProgress(job_id=job_id, progress=progress) for job_id, progress in self._progress.items()]
        self._progress.clear()
        return taken

    def acknowledged(self, waiting: int) -> None:
        """The outbox shrank to this many characters: there is room for logs again."""
        self._budget.set_waiting(waiting)

    # -- running -------------------------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Before anything runs: end what the process before left running, and say what is known of its jobs.

        A backup that was cut off may have made its snapshot all the same: it is looked up by `run`, as long as that
        takes, and counts as unfinished meanwhile. One whose order is not kept here waits for the server to give the
        access; that may take for ever, so the schedule's next slots do not wait for it.
        """
        left = await self._journal.read(records.running_jobs)
        await self._restic.end_left_over([record.key.job_id for record in left])
        for record in left:
            order = None if self._vault is None else self._vault.open_order(record)
            if order is not None and kind_of(order.spec) is not Kind.BACKUP:
                await self._finish(record.key, cut_off(None))
                continue
            self._cut_offs.add(record, order)
            if order is not None:
                self._slots.job_accepted(record.key.job_id, record.key.schedule_id)
            else:
                await self._slots.job_ended(record.key, self._clock.now())
        self._budget.set_waiting(await self._journal.read(records.outbox_size))

    async def run(self) -> None:
        """Start waiting jobs as the runner gets free, for ever; each in the `jobs` nursery."""
        async with trio.open_nursery() as self._jobs:
            self._cut_offs.start(self._jobs)
            while True:
                while not self._draining and (job := self._next()) is not None:
                    self._waiting.remove(job)
                    self._running[job.order.job_id] = job
                    self._jobs.start_soon(self._run_job, job, name=f"job {job.order.job_id[:8]}")
                if self._draining and not self._running:
                    self._idle.set()
                await self._bell.wait()

    def _note_pid(self, job_id: str, pid: int) -> None:
        self._jobs.start_soon(self._store_pid, job_id, pid, name=f"pid of job {job_id[:8]}")

    async def _store_pid(self, job_id: str, pid: int) -> None:
        try:
            await self._journal.write(lambda db: records.note_pid(db, job_id, pid))
        except StorageError as error:
            logger.warning("job %s: its process could not be noted: %s", job_id, error.message)

    async def drain(self) -> None:
        """Start nothing more, ask what runs to stop, and return when it has ended and its verdict is journaled."""
        self._draining = True
        for job in self._running.values():
            job.stopping_agent = True
            job.stop.set()
        self._bell.ring()
        await self._idle.wait()

    def _next(self) -> _Job | None:
        """Return the first job that may start now: neither sort holds up the other, and each keeps its order."""
        running = [kind_of(job.order.spec) for job in self._running.values()]
        ceiling = self._at_once()
        if ceiling is not None and len(running) >= ceiling:
            return None
        heavy = any(kind.heavy for kind in running)
        reading = sum(kind.reading for kind in running) >= READING_AT_ONCE
        for job in self._waiting:
            kind = kind_of(job.order.spec)
            if not (kind.heavy and heavy) and not (kind.reading and reading):
                return job
        return None

    async def _run_job(self, job: _Job) -> None:
        try:
            key = _key(job.order, self._clock.now())
            sealed = None if self._vault is None else self._vault.seal_order(job.order)
            await insist(
                f"the start of job {key.job_id}",
                lambda: self._slots.job_started(key, also=lambda db: _write_started(db, key, sealed)),
            )
            outcome = await self._outcome(job)
            try:
                await insist(
                    f"the verdict of job {key.job_id}", lambda: self._finish(key, outcome, log_lines=job.log_lines)
                )
            except trio.Cancelled:
                with trio.move_on_after(_ENDING_WITHIN, shield=True):
                    await self._finish(key, outcome, log_lines=job.log_lines)
                raise
        finally:
            del self._running[job.order.job_id]
            self._progress.pop(job.order.job_id, None)
            self._bell.ring()

    async def _outcome(self, job: _Job) -> Outcome:
        """Run the order behind its own crash barrier: a bug of ours is one failed job, not a stopped agent."""
        log = JobLogWriter(self._journal, self._clock, self._budget, job.order.job_id, ring=self._ring)
        listing = Listing(self._listings, job.order.job_id, job.order.spec, job.stop)
        try:
            outcome = await self._restic.run(
                job.order,
                on_lines=log.lines,
                on_rows=listing.take,
                on_spawned=functools.partial(self._note_pid, job.order.job_id),
                on_progress=lambda progress: self._note_progress(job.order.job_id, progress),
                stop=job.stop,
            )
            await log.close()
            job.log_lines = log.count
        except Exception as error:  # the job's barrier
            logger.exception("job %s: the agent failed", job.order.job_id)
            failure = Failure(
                code="internal", message=f"the agent failed while running this job: {type(error).__name__}; see its log"
            )
            return Outcome(status=Status.FAILED, error=failure)
        if job.stopping_agent and outcome.status is Status.CANCELLED:
            failure = Failure(code="agent_stopped", message="the agent was stopped while this job ran")
            return replace(outcome, status=Status.INTERRUPTED, error=failure)
        return outcome if job.cancelled and outcome.status is Status.CANCELLED else listing.judged(outcome)

    async def _finish(
        self,
        key: records.JobKey,
        outcome: Outcome,
        *,
        finished_at: datetime | None = None,
        log_lines: int | None = None,
    ) -> None:
        """Commit a verdict: the job's row, its report and the release of what waited for it, in one transaction."""
        at = finished_at or self._clock.now()

        def report(seq: int) -> JobFinished:
            return JobFinished(
                seq=seq,
                job_id=key.job_id,
                outcome=outcome,
                started_at=key.started_at,
                finished_at=at,
                schedule_id=key.schedule_id,
                scheduled_at=key.slot,
                log_lines=log_lines,
            )

        def write(db: sqlite3.Connection) -> None:
            seq = records.append_reports(db, [report])
            records.job_finished(db, key, finished_at=at, outcome=outcome, report_seq=seq, log_lines=log_lines)

        await self._slots.job_ended(key, self._clock.now(), also=write)
        level = logging.INFO if outcome.status is Status.SUCCEEDED else logging.WARNING
        said = "" if outcome.error is None else f": {outcome.error.message}"
        logger.log(level, "job %s %s%s", key.job_id, outcome.status, said)

    async def _report_again(self, known: records.JobRecord) -> None:
        """The server asks about a job that ended here: say the verdict again, unless it is still on its way."""
        acked = await self._journal.read(lambda db: int(records.get_meta(db, "outbox_acked") or 0))
        on_its_way = known.report_seq is not None and known.report_seq > acked
        if known.outcome is not None and not on_its_way:
            await self._finish(known.key, known.outcome, finished_at=known.finished_at, log_lines=known.log_lines)

    def _find(self, job_id: str) -> _Job | None:
        if job_id in self._running:
            return self._running[job_id]
        return next((job for job in self._waiting if job.order.job_id == job_id), None)

    def _note_progress(self, job_id: str, progress: Progress) -> None:
        self._progress[job_id] = progress
        self._ring()


def _key(order: CommandRun, started_at: datetime | None = None) -> records.JobKey:
    return records.JobKey(order.job_id, order.schedule_id, order.scheduled_at, started_at)


def _write_started(db: sqlite3.Connection, key: records.JobKey, sealed: bytes | None) -> None:
    started_at = key.started_at
    if started_at is None:
        raise ValueError("a job starts at an instant")

    def report(seq: int) -> JobStarted:
        return JobStarted(
            seq=seq,
            job_id=key.job_id,
            started_at=started_at,
            schedule_id=key.schedule_id,
            scheduled_at=key.slot,
        )

    records.job_started(db, key, sealed)
    records.append_reports(db, [report])
