"""Wishes for hosts that stay away: kept for a while, then ended with the reason, so that nothing is done long after.

A request that has not begun ends `cancelled` (`expired`), and a host that was sent it is told when it comes back. A
wish to cancel is dropped: the job goes on as its host tells. The server's own wish to have a lock removed ends much
sooner: others wait for it. It refuses to know how long is long for operators.
"""

from __future__ import annotations

from collections.abc import Container
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, and_, or_, select

from restic_manager.domain import lifecycle
from restic_manager.domain.instants import duration_text
from restic_manager.domain.model import Actor, Failure, Kind, Status
from restic_manager.server.store import events, job_rows, jobs
from restic_manager.server.store.job_rows import UNFINISHED, JobRow
from restic_manager.server.store.ripple import Ripple
from restic_manager.server.store.schema import hosts
from restic_manager.server.store.schema import jobs as table

UNLOCK_WAITS: Final = timedelta(minutes=10)
"""How long a server's unlock waits for its host."""
EXPIRED: Final = "expired"
"""The code of a request that was not carried out in time."""


def expire(tx: Connection, *, online: Container[str], after: timedelta, now: datetime) -> Ripple:
    """Given who is there, end the requests and drop the wishes to cancel that are older than `after`, of hosts that
    have been away for as long.
    """
    ripple = Ripple()
    before = now - after
    first = table.alias("first")
    asked = or_(table.c.actor_kind == Actor.OPERATOR.value, first.c.actor_kind == Actor.OPERATOR.value)
    request = and_(table.c.status == Status.QUEUED.value, asked, table.c.created_at < before)
    query = (
        select(table)
        .join(hosts, hosts.c.id == table.c.host_id)
        .join(first, first.c.id == table.c.attempt_of, isouter=True)
        .where(
            table.c.status.in_(UNFINISHED),
            or_(hosts.c.last_seen_at.is_(None), hosts.c.last_seen_at < before),
            or_(request, table.c.cancel_requested_at < before),
        )
        .order_by(table.c.serial)
    )
    for row in tx.execute(query).fetchall():
        job = job_rows.row_of(row)
        if job.host_id in online:
            continue
        if job.state.cancel_requested_at is not None and job.state.cancel_requested_at < before:
            job = _drop_cancel(tx, job, after, now, ripple)
        if _is_request(tx, job) and job.status is Status.QUEUED and job.created_at < before:
            _end(tx, job, after, now, ripple)
    return ripple


def give_up_unlocks(tx: Connection, *, online: Container[str], now: datetime) -> Ripple:
    """Given who is there, end the server's own unlocks that were never sent because their hosts have gone."""
    ripple = Ripple()
    unsent = select(table).where(
        table.c.kind == Kind.UNLOCK.value,
        table.c.actor_kind == Actor.SERVER.value,
        table.c.status == Status.QUEUED.value,
        table.c.sent_at.is_(None),
        table.c.created_at < now - UNLOCK_WAITS,
    )
    for row in tx.execute(unsent).fetchall():
        job = job_rows.row_of(row)
        if job.host_id not in online:
            _end(tx, job, UNLOCK_WAITS, now, ripple)
    return ripple


def _end(tx: Connection, job: JobRow, after: timedelta, now: datetime, ripple: Ripple) -> None:
    message = f"the host has been away for more than {duration_text(after)}: the request has expired; ask again"
    error = Failure(code=EXPIRED, message=message)
    told = job.state.sent_at is not None
    step = lifecycle.apply_server_end(job.state, Status.CANCELLED, error, tell_host=told, now=now)
    jobs.settle(tx, job, step, now=now, ripple=ripple)
    _note(tx, job, f"job {job.id} was not begun and has expired", now)


def _drop_cancel(tx: Connection, job: JobRow, after: timedelta, now: datetime, ripple: Ripple) -> JobRow:
    _note(
        tx,
        job,
        f"the wish to cancel job {job.id} has expired: its host has been away for more than {duration_text(after)}",
        now,
    )
    return jobs.settle(tx, job, lifecycle.apply_cancel_expired(job.state), now=now, ripple=ripple)


def _is_request(tx: Connection, job: JobRow) -> bool:
    """Whether an operator asked for it, or for the run it is a further attempt of."""
    if job.actor is Actor.RETRY and job.attempt_of is not None:
        first = job_rows.find(tx, job.attempt_of)
        return first is not None and first.actor is Actor.OPERATOR
    return job.actor is Actor.OPERATOR


def _note(tx: Connection, job: JobRow, detail: str, now: datetime) -> None:
    events.record(tx, now=now, actor="server", what="expired", host_id=job.host_id, detail=detail)
