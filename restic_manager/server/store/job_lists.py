"""Questions about jobs that people ask: by id or its beginning, lists, the next attempt, counts. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, func, or_, select

from restic_manager.domain.errors import NotFoundError
from restic_manager.domain.model import Actor, Kind, Status
from restic_manager.domain.names import MIN_PREFIX, id_prefix
from restic_manager.server.store import job_rows
from restic_manager.server.store.job_rows import UNFINISHED, JobRow, parts
from restic_manager.server.store.schema import jobs


def resolve(tx: Connection, reference: str) -> JobRow:
    """Given a job's id or the beginning of it, return the job; raise NotFoundError for none or several."""
    prefix = id_prefix(reference)
    if prefix is not None:
        # "g" sorts after every digit of an id, so this range is the prefix, and an index answers it.
        rows = tx.execute(select(jobs).where(jobs.c.id >= prefix, jobs.c.id < prefix + "g").limit(3)).fetchall()
        if len(rows) == 1:
            return job_rows.row_of(rows[0])
        if rows:
            shown = ", ".join(row.id[:13] + "…" for row in rows)
            raise NotFoundError(f"{reference!r} fits several jobs ({shown}): write more of the id")
    raise NotFoundError(
        f"there is no job {reference[:80]!r} (write the first {MIN_PREFIX} or more digits of an id): "
        "`restic-manager job list` shows what there is"
    )


def not_upkeep() -> ColumnElement[bool]:
    """Return what holds for jobs that are somebody's, and not only the server's own lists of snapshots."""
    return or_(jobs.c.kind != Kind.SNAPSHOTS.value, jobs.c.actor_kind != Actor.SERVER.value)


def listing(
    tx: Connection,
    *,
    limit: int,
    host_id: str | None = None,
    schedule_id: str | None = None,
    repo_id: str | None = None,
    kind: Kind | None = None,
    statuses: Sequence[Status] = (),
) -> list[JobRow]:
    """Return the newest jobs of this host, schedule, repository, kind and these statuses (all where not given), newest
    first; those that only list snapshots for the server itself where their kind is given.
    """
    query = select(jobs).order_by(jobs.c.serial.desc()).limit(limit)
    if host_id is not None:
        query = query.where(jobs.c.host_id == host_id)
    if schedule_id is not None:
        query = query.where(jobs.c.schedule_id == schedule_id)
    if repo_id is not None:
        query = query.where(jobs.c.repo_id == repo_id)
    query = query.where(not_upkeep() if kind is None else jobs.c.kind == kind.value)
    if statuses:
        query = query.where(jobs.c.status.in_([status.value for status in statuses]))
    return [job_rows.row_of(row) for row in tx.execute(query)]


def next_attempts(tx: Connection, rows: Iterable[JobRow]) -> dict[str, str]:
    """Given jobs, return for each that has been tried again the id of the attempt that came right after it."""
    found: dict[tuple[str, int], str] = {}
    given = list(rows)
    chains = sorted({job.attempt_of or job.id for job in given})
    for part in parts(chains):
        query = select(jobs.c.id, jobs.c.attempt_of, jobs.c.attempt).where(jobs.c.attempt_of.in_(part))
        found.update(((row.attempt_of, row.attempt), row.id) for row in tx.execute(query))
    following = {job.id: found.get((job.attempt_of or job.id, job.attempt + 1)) for job in given}
    return {job_id: attempt for job_id, attempt in following.items() if attempt is not None}


def counts(tx: Connection) -> dict[Status, int]:
    """Return how many jobs there are of each status."""
    query = select(jobs.c.status, func.count()).group_by(jobs.c.status)
    return {Status(status): count for status, count in tx.execute(query)}


def counts_since(tx: Connection, since: datetime) -> dict[Status, int]:
    """Return how many jobs have ended since an instant, by outcome, the server's own lists left out."""
    query = select(jobs.c.status, func.count()).where(jobs.c.finished_at >= since, not_upkeep()).group_by(jobs.c.status)
    return {Status(status): count for status, count in tx.execute(query) if Status(status).terminal}


class OfHost(NamedTuple):
    """How many unfinished jobs a host has."""

    running: int
    queued: int


def unfinished_by_host(tx: Connection) -> dict[str, OfHost]:
    """Return for each host with unfinished jobs how many run and how many wait."""
    found: dict[str, OfHost] = {}
    query = (
        select(jobs.c.host_id, jobs.c.status, func.count())
        .where(jobs.c.status.in_(UNFINISHED))
        .group_by(jobs.c.host_id, jobs.c.status)
    )
    for host_id, status, count in tx.execute(query):
        before = found.get(host_id, OfHost(0, 0))
        running = status == Status.RUNNING.value
        found[host_id] = before._replace(running=count) if running else before._replace(queued=count)
    return found
