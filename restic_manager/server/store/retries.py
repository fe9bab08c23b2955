"""Further attempts of a run, on the rows: reading its chain, asking whether there is another, and storing that one.

Which end is worth another attempt `domain.retrying` decides; what an end leads to besides is `jobs`. It refuses to know
who is online and what is sent when.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, bindparam, func, select

from restic_manager.domain import retrying
from restic_manager.domain.model import Actor, Status, attempt_job_id
from restic_manager.domain.retrying import SUPERSEDED, Again, Allowed, Attempt, Enough
from restic_manager.server.store import job_rows, schedules
from restic_manager.server.store.job_rows import JobRow
from restic_manager.server.store.schema import assignments, jobs

_NEWEST_LOOKED_AT: Final = 20


def chain_of(tx: Connection, job: JobRow) -> list[JobRow]:
    """Given a job, return all attempts of its run in their order; itself as given."""
    first = job.attempt_of or job.id
    rows = tx.execute(_CHAIN, {"first_id": first}).fetchall()
    return [job if row.id == job.id else job_rows.row_of(row) for row in rows]


def attempts(chain: list[JobRow]) -> list[Attempt]:
    """Given rows of one run, return what deciding needs of them."""
    return [
        Attempt(
            status=job.status,
            code=None if job.state.error is None else job.state.error.code,
            has_snapshot=job.state.snapshot_id is not None,
            stop_wanted=job.state.cancel_requested_at is not None,
        )
        for job in chain
    ]


def decide(tx: Connection, job: JobRow, chain: list[JobRow], now: datetime) -> Again | Enough:
    """Given a job that has just ended and its run's attempts through it, return whether there is to be another."""
    first = chain[0]
    return retrying.decide(attempts(chain), _allowed(tx, job), later_slot=_later_slot(tx, first), now=now)


def add(
    tx: Connection, job: JobRow, number: int, *, now: datetime, at: datetime | None, behind: str | None = None
) -> JobRow:
    """Given the attempt before, store the next one (the run's `number`-th), not to be sent before `at`.

    behind: a job that has to end first.
    """
    first = job.attempt_of or job.id
    return job_rows.insert(
        tx,
        job_id=attempt_job_id(first, number - 1),
        spec=job.spec,
        host_id=job.host_id,
        repo_id=job.repo_id,
        actor=Actor.RETRY,
        now=now,
        schedule_id=job.schedule_id,
        attempt=number,
        attempt_of=first,
        waits_for_job=behind,
        not_before=at,
        limits=job.limits,
    )


def is_spare(job: JobRow) -> bool:
    """Given an attempt, return whether it was ended because it was not needed: it does not count as one made."""
    error = job.state.error
    return job.status is Status.CANCELLED and error is not None and error.code == SUPERSEDED


def is_waiting(job: JobRow) -> bool:
    """Given an attempt, return whether no host knows of it yet, and it waits for nothing but its turn."""
    return (
        job.actor is Actor.RETRY
        and job.status is Status.QUEUED
        and job.state.sent_at is None
        and job.waits_for_job is None
    )


def overtaken(tx: Connection, schedule_id: str, host_id: str, slot: datetime) -> list[JobRow]:
    """Given a slot that has got a job, return the waiting attempts of earlier slots' runs whose place it takes."""
    asked = {"schedule_id": schedule_id, "host_id": host_id, "slot": slot}
    return [job_rows.row_of(row) for row in tx.execute(_OVERTAKEN, asked)]


def next_turn(tx: Connection, now: datetime) -> datetime | None:
    """Return the earliest instant after now at which a waiting attempt has its turn, None if none waits for one."""
    turn: datetime | None = tx.execute(_NEXT_TURN, {"now": now}).scalar()
    return turn


def hosts_with_turns(tx: Connection, since: datetime, now: datetime) -> list[str]:
    """Return the hosts of attempts whose turn came in (since, now]."""
    return sorted(tx.execute(_WITH_TURNS, {"since": since, "now": now}).scalars())


_FIRST = jobs.alias("first")
_CHAIN = (
    select(jobs)
    .where((jobs.c.id == bindparam("first_id")) | (jobs.c.attempt_of == bindparam("first_id")))
    .order_by(jobs.c.attempt)
)
_WAITS = (jobs.c.status == Status.QUEUED.value, jobs.c.sent_at.is_(None))
_OVERTAKEN = (
    select(jobs)
    .join(_FIRST, _FIRST.c.id == jobs.c.attempt_of)
    .where(
        jobs.c.host_id == bindparam("host_id"),
        jobs.c.schedule_id == bindparam("schedule_id"),
        jobs.c.actor_kind == Actor.RETRY.value,
        jobs.c.waits_for_job.is_(None),
        _FIRST.c.slot < bindparam("slot"),
        *_WAITS,
    )
    .order_by(jobs.c.serial)
)
_NEXT_TURN = select(func.min(jobs.c.not_before)).where(jobs.c.not_before > bindparam("now"), *_WAITS)
_WITH_TURNS = (
    select(jobs.c.host_id)
    .distinct()
    .where(jobs.c.not_before > bindparam("since"), jobs.c.not_before <= bindparam("now"), *_WAITS)
)
"""Made once: they are asked at every slot and every round of the dispatcher."""


def _allowed(tx: Connection, job: JobRow) -> Allowed | None:
    """What the schedule allows now, None where it was removed or is not this host's any more."""
    if job.schedule_id is None:
        return None
    schedule = schedules.find(tx, job.schedule_id)
    mine = select(assignments.c.id).where(
        assignments.c.schedule_id == job.schedule_id,
        assignments.c.host_id == job.host_id,
        assignments.c.valid_to.is_(None),
    )
    if schedule is None or schedule.removed_at is not None or tx.execute(mine.limit(1)).first() is None:
        return None
    return Allowed(schedule.retry, timedelta(seconds=schedule.retry_backoff))


def _later_slot(tx: Connection, first: JobRow) -> bool:
    """Return whether a later slot of the same schedule has a job on this host: the newest jobs tell."""
    query = (
        select(jobs.c.slot)
        .where(jobs.c.schedule_id == first.schedule_id, jobs.c.host_id == first.host_id, jobs.c.slot.is_not(None))
        .order_by(jobs.c.serial.desc())
        .limit(_NEWEST_LOOKED_AT)
    )
    return first.slot is not None and any(slot > first.slot for slot in tx.execute(query).scalars())
