"""How much history is kept, and taking the rest away in small bites. Owns the limits of growth of the server's tables.

By age: what ended more than HISTORY ago goes, but never the newest KEEP_LEAST jobs of a schedule on a host. By count:
of a schedule on a host at most KEEP_MOST jobs stay, so that one that runs every few seconds stays bounded, too. A job's
log and fate go with it; logs alone go earlier. It refuses to know when it is called.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, func, select

from restic_manager.server.store import audit, credentials, events, listings
from restic_manager.server.store.fates import Pair
from restic_manager.server.store.job_rows import UNFINISHED, parts
from restic_manager.server.store.schema import assignments, fates, invites, jobs, log_chunks, pauses, quarantine

HISTORY: Final = timedelta(days=400)
"""Jobs, fates and events older than this go: a year can be compared with the one before."""
LOGS: Final = timedelta(days=90)
"""Logs of jobs that ended longer ago go."""
KEEP_LEAST: Final = 1_000
"""So many jobs of a schedule on a host stay, however old."""
KEEP_MOST: Final = 50_000
"""More jobs of a schedule on a host than this do not stay, however young."""
AUDIT_MOST: Final = 1_000_000
"""Rows of the audit kept at most."""
AUDIT_BITE: Final = 10_000
"""Rows of the audit taken away at once: each time costs a row that says so."""
BITE: Final = 200
"""Jobs taken away in one closure."""
_UNUSED_INVITES: Final = timedelta(days=7)


def pairs(tx: Connection) -> list[Pair]:
    """Return every schedule on every host that ever had it."""
    query = select(assignments.c.schedule_id, assignments.c.host_id).distinct()
    return [Pair(row.schedule_id, row.host_id) for row in tx.execute(query)]


def kept_from(tx: Connection, pair: Pair, now: datetime) -> datetime:
    """Given a schedule on a host, return from when on its ledger is kept: what is missing before that was pruned."""
    by_age = now - HISTORY
    mine = and_(jobs.c.schedule_id == pair.schedule_id, jobs.c.host_id == pair.host_id)
    nearly_most = select(jobs.c.serial).where(mine).order_by(jobs.c.serial.desc()).limit(1).offset(KEEP_MOST - BITE)
    if tx.execute(nearly_most).scalar() is None:
        return by_age
    oldest: datetime | None = tx.execute(
        select(fates.c.first_slot)
        .where(fates.c.schedule_id == pair.schedule_id, fates.c.host_id == pair.host_id)
        .order_by(fates.c.last_slot)
        .limit(1)
    ).scalar()
    return by_age if oldest is None else max(by_age, oldest)


def surplus(tx: Connection, pairs: Iterable[Pair], now: datetime) -> list[str]:
    """Given schedules on hosts, return the ids of at most BITE jobs of one of them that are to go, none if all fit."""
    for pair in pairs:
        mine = and_(jobs.c.schedule_id == pair.schedule_id, jobs.c.host_id == pair.host_id)
        found = _oldest(tx, mine, beyond=KEEP_LEAST, ended_before=now - HISTORY)
        found = found or _oldest(tx, mine, beyond=KEEP_MOST, ended_before=None)
        if found:
            return found
    return []


def surplus_of_none(tx: Connection, now: datetime) -> list[str]:
    """Return the ids of at most BITE jobs of no schedule that are to go."""
    query = (
        select(jobs.c.id)
        .where(jobs.c.schedule_id.is_(None), jobs.c.finished_at < now - HISTORY, jobs.c.status.not_in(UNFINISHED))
        .order_by(jobs.c.finished_at)
        .limit(BITE)
    )
    return list(tx.execute(query).scalars())


def forget_jobs(tx: Connection, job_ids: list[str]) -> None:
    """Given jobs that are over, take them away with their logs, listings and fates."""
    for part in parts(job_ids):
        tx.execute(log_chunks.delete().where(log_chunks.c.job_id.in_(part)))
        listings.forget(tx, part)
        tx.execute(fates.delete().where(fates.c.job_id.in_(part)))
        tx.execute(jobs.update().where(jobs.c.attempt_of.in_(part)).values(attempt_of=None))
        tx.execute(jobs.update().where(jobs.c.waits_for_job.in_(part)).values(waits_for_job=None))
        tx.execute(jobs.delete().where(jobs.c.id.in_(part)))


def forget_logs(tx: Connection, now: datetime) -> int:
    """Take the logs of at most BITE jobs away that ended long ago; return of how many."""
    query = (
        select(jobs.c.id)
        .where(jobs.c.finished_at < now - LOGS, jobs.c.log_bytes > 0)
        .order_by(jobs.c.finished_at.desc())
        .limit(BITE)
    )
    found = list(tx.execute(query).scalars())
    if found:
        tx.execute(log_chunks.delete().where(log_chunks.c.job_id.in_(found)))
        tx.execute(jobs.update().where(jobs.c.id.in_(found)).values(log_bytes=0, log_lines_dropped=jobs.c.log_lines))
    return len(found)


def forget_fates(tx: Connection, pairs: Iterable[Pair], now: datetime) -> None:
    """Given schedules on hosts, take old fates without a job away; the newest fate stays: it is a baseline."""
    for pair in pairs:
        mine = and_(fates.c.schedule_id == pair.schedule_id, fates.c.host_id == pair.host_id)
        newest = tx.execute(select(func.max(fates.c.last_slot)).where(mine)).scalar()
        if newest is not None:
            before = min(now - HISTORY, newest)
            tx.execute(fates.delete().where(mine, fates.c.job_id.is_(None), fates.c.last_slot < before))


def forget_rest(tx: Connection, now: datetime) -> int:
    """Take old events, old quarantined reports, pauses long over and tokens nobody used away; return how many events,
    BITE at most.
    """
    tx.execute(pauses.delete().where(pauses.c.ended_at < now - HISTORY))
    tx.execute(quarantine.delete().where(quarantine.c.at < now - LOGS))
    credentials.forget_before(tx, now - HISTORY)
    tx.execute(invites.delete().where(invites.c.used_at.is_(None), invites.c.expires_at < now - _UNUSED_INVITES))
    return events.forget_before(tx, now - HISTORY, limit=BITE)


def forget_audit(tx: Connection, now: datetime) -> int:
    """Take old rows of the audit away, a row saying so; return how many, AUDIT_BITE at most."""
    return audit.forget(tx, before=now - HISTORY, keep=AUDIT_MOST, limit=AUDIT_BITE, now=now)


def _oldest(tx: Connection, mine: ColumnElement[bool], *, beyond: int, ended_before: datetime | None) -> list[str]:
    """Return the ids of at most BITE of the oldest finished jobs that are not among the newest `beyond`."""
    last_kept = select(jobs.c.serial).where(mine).order_by(jobs.c.serial.desc()).limit(1).offset(beyond - 1)
    serial = tx.execute(last_kept).scalar()
    if serial is None:
        return []
    query = select(jobs.c.id).where(mine, jobs.c.serial < serial, jobs.c.status.not_in(UNFINISHED))
    if ended_before is not None:
        query = query.where(jobs.c.finished_at < ended_before)
    return list(tx.execute(query.order_by(jobs.c.serial).limit(BITE)).scalars())
