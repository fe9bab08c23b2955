"""What the status page asks of the rows: the fleet at a glance, in a bounded number of questions, each on an index."""

from __future__ import annotations

from collections.abc import Container
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from msgspec import Struct
from sqlalchemy import Connection, func, select

from restic_manager.domain.ledger import PAST_DUE
from restic_manager.domain.model import Failure, Fate, Kind, Status, Timing
from restic_manager.domain.spans import slots_of, timetable
from restic_manager.server.store import job_lists, job_rows
from restic_manager.server.store.schema import assignments, fates, hosts, jobs, quarantine, schedules

_GOOD: Final = (Status.SUCCEEDED.value, Status.WARNING.value)
_OUTCOMES: Final = tuple(status.value for status in Status if status.terminal)
SAMPLE: Final = 200
"""At most so many rows of one sort of trouble are told in full."""


class LastRun(Struct, frozen=True, kw_only=True):
    """The last finished run of one schedule on one host that has it now."""

    job_id: str
    schedule: str
    host: str
    status: Status
    finished_at: datetime | None
    error: Failure | None


class HostJob(NamedTuple):
    """A host's newest job."""

    job_id: str
    status: Status
    at: datetime


class Plan(NamedTuple):
    """An enabled schedule as one host has it."""

    host_id: str
    timing: Timing


class Unheard(NamedTuple):
    """A schedule on a host that is away: since which slot nothing is known, and how many slots that is."""

    schedule: str
    host: str
    since: datetime
    slots: int


class BadFates(NamedTuple):
    """Slots of a schedule on a host that did not run though they should have, all for one reason."""

    schedule: str
    host: str
    fate: Fate
    slots: int
    reason: str | None


def newest_jobs(tx: Connection) -> dict[str, HostJob]:
    """Return each live host's newest job; that it listed snapshots for the server itself is no news of it."""
    newest = (
        select(jobs.c.serial)
        .where(jobs.c.host_id == hosts.c.id, job_lists.not_upkeep())
        .order_by(jobs.c.serial.desc())
        .limit(1)
        .scalar_subquery()
    )
    serials = select(newest).where(hosts.c.removed_at.is_(None))
    query = select(
        jobs.c.host_id, jobs.c.id, jobs.c.status, jobs.c.created_at, jobs.c.started_at, jobs.c.finished_at
    ).where(jobs.c.serial.in_(serials))
    return {
        row.host_id: HostJob(row.id, Status(row.status), row.finished_at or row.started_at or row.created_at)
        for row in tx.execute(query)
    }


def last_successes(tx: Connection) -> dict[str, datetime]:
    """Return when each live host last ended a backup that made a snapshot."""
    found: dict[str, datetime] = {}
    for status in _GOOD:
        latest = (
            select(func.max(jobs.c.finished_at))
            .where(jobs.c.host_id == hosts.c.id, jobs.c.status == status, jobs.c.kind == Kind.BACKUP.value)
            .scalar_subquery()
        )
        for host_id, at in tx.execute(select(hosts.c.id, latest).where(hosts.c.removed_at.is_(None))):
            if at is not None and (host_id not in found or at > found[host_id]):
                found[host_id] = at
    return found


def bad_last_runs(tx: Connection) -> tuple[list[LastRun], int]:
    """Return the last runs that did not simply succeed, the newest first, at most SAMPLE; and how many there are."""
    last = (
        select(jobs.c.serial)
        .where(
            jobs.c.schedule_id == assignments.c.schedule_id,
            jobs.c.host_id == assignments.c.host_id,
            jobs.c.status.in_(_OUTCOMES),
        )
        .order_by(jobs.c.serial.desc())
        .limit(1)
        .scalar_subquery()
    )
    serials = select(last).where(assignments.c.valid_to.is_(None))
    bad = [status for status in _OUTCOMES if status not in {Status.SUCCEEDED.value, Status.CANCELLED.value}]
    which = (jobs.c.serial.in_(serials), jobs.c.status.in_(bad))
    total = tx.execute(select(func.count()).select_from(jobs).where(*which)).scalar_one()
    query = (
        select(jobs, schedules.c.name.label("schedule_name"), hosts.c.name.label("host_name"))
        .join(schedules, schedules.c.id == jobs.c.schedule_id)
        .join(hosts, hosts.c.id == jobs.c.host_id)
        .where(*which)
        .order_by(jobs.c.serial.desc())
        .limit(SAMPLE)
    )
    rows = [(job_rows.row_of(row), row) for row in tx.execute(query)] if total else []
    return [_last_run(job, row) for job, row in rows], total


def plans(tx: Connection) -> list[Plan]:
    """Return every enabled schedule of every live host, with the timing it has there."""
    query = select(
        assignments.c.host_id,
        assignments.c.cron,
        assignments.c.timezone,
        assignments.c.anchor,
        assignments.c.splay,
    ).where(assignments.c.valid_to.is_(None), assignments.c.enabled.is_(True))
    return [
        Plan(row.host_id, Timing(cron=row.cron, timezone=row.timezone, anchor=row.anchor, splay=row.splay))
        for row in tx.execute(query)
    ]


def schedules_without_hosts(tx: Connection) -> list[str]:
    """Return the names of enabled schedules that no host runs."""
    has = select(assignments.c.id).where(assignments.c.schedule_id == schedules.c.id, assignments.c.valid_to.is_(None))
    query = (
        select(schedules.c.name)
        .where(schedules.c.removed_at.is_(None), schedules.c.enabled.is_(True), ~has.exists())
        .order_by(schedules.c.name)
    )
    return list(tx.execute(query).scalars())


def schedule_counts(tx: Connection) -> tuple[int, int]:
    """Return how many schedules there are, and how many of them are enabled."""
    query = select(schedules.c.enabled, func.count()).where(schedules.c.removed_at.is_(None))
    found: dict[bool, int] = {row[0]: row[1] for row in tx.execute(query.group_by(schedules.c.enabled))}
    return sum(found.values()), found.get(True, 0)


def unfinished_inits(tx: Connection) -> list[job_rows.JobRow]:
    """Return jobs that make repositories and are not over."""
    query = select(jobs).where(jobs.c.status.in_(job_rows.UNFINISHED), jobs.c.kind == Kind.INIT.value).limit(SAMPLE)
    return [job_rows.row_of(row) for row in tx.execute(query)]


def quarantined_since(tx: Connection, since: datetime) -> dict[str, int]:
    """Return for each host how many of its reports were set aside since an instant."""
    query = select(quarantine.c.host_id, func.count()).where(quarantine.c.at >= since).group_by(quarantine.c.host_id)
    return {row[0]: row[1] for row in tx.execute(query)}


def unheard(tx: Connection, online: Container[str], now: datetime) -> list[Unheard]:
    """Return schedules whose slots on hosts that are away have been past due for more than an interval.

    Asked for hosts that have joined and are not online; of each (schedule, host) only the newest fate is looked at.
    """
    decided = (
        select(fates.c.last_slot)
        .where(fates.c.schedule_id == assignments.c.schedule_id, fates.c.host_id == assignments.c.host_id)
        .order_by(fates.c.last_slot.desc())
        .limit(1)
        .scalar_subquery()
    )
    joined = select(hosts.c.id).where(hosts.c.removed_at.is_(None), hosts.c.joined_at.is_not(None))
    away = [host_id for host_id in tx.execute(joined.order_by(hosts.c.name)).scalars() if host_id not in online]
    query = (
        select(assignments, schedules.c.name.label("schedule"), hosts.c.name.label("host"), decided.label("decided"))
        .join(schedules, schedules.c.id == assignments.c.schedule_id)
        .join(hosts, hosts.c.id == assignments.c.host_id)
        .where(
            assignments.c.valid_to.is_(None),
            assignments.c.enabled.is_(True),
        )
        .order_by(schedules.c.name, hosts.c.name)
    )
    known: dict[tuple[str, str, datetime, datetime, datetime], tuple[datetime, int] | None] = {}
    found: list[Unheard] = []
    for row in (row for part in job_rows.parts(away) for row in tx.execute(query.where(hosts.c.id.in_(part)))):
        after = row.valid_from if row.decided is None else max(row.valid_from, row.decided)
        due = now - timedelta(seconds=row.splay) - PAST_DUE
        # Hosts with the same timing that were lost together are looked at once.
        key = (row.cron, row.timezone, row.anchor, after, due)
        if key not in known:
            known[key] = _overdue(
                Timing(cron=row.cron, timezone=row.timezone, anchor=row.anchor, splay=0), after=after, due=due
            )
        overdue = known[key]
        if overdue is not None:
            found.append(Unheard(row.schedule, row.host, *overdue))
    return found


def bad_fates(tx: Connection, since: datetime) -> list[BadFates]:
    """Return how many slots were missed or rejected (as recorded since an instant), by schedule, host and reason."""
    query = (
        select(
            schedules.c.name.label("schedule"),
            hosts.c.name.label("host"),
            fates.c.fate,
            fates.c.reason,
            func.sum(fates.c.count).label("slots"),
        )
        .join(schedules, schedules.c.id == fates.c.schedule_id)
        .join(hosts, hosts.c.id == fates.c.host_id)
        .where(fates.c.fate.in_([Fate.MISSED.value, Fate.REJECTED.value]), fates.c.recorded_at >= since)
        .group_by(schedules.c.name, hosts.c.name, fates.c.fate, fates.c.reason)
        .order_by(func.max(fates.c.recorded_at).desc(), schedules.c.name, hosts.c.name)
        .limit(SAMPLE)
    )
    return [BadFates(row.schedule, row.host, Fate(row.fate), int(row.slots), row.reason) for row in tx.execute(query)]


def _overdue(timing: Timing, *, after: datetime, due: datetime) -> tuple[datetime, int] | None:
    """Return the first slot in (after, due] and how many there are, if it has been due for more than an interval."""
    table = timetable(timing)
    span = None if table is None else slots_of(table, after, due)
    if table is None or span is None:
        return None
    following = table.first_after(span.first)
    return None if following is None or following > due else (span.first, span.count)


def _last_run(job: job_rows.JobRow, row: Any) -> LastRun:
    return LastRun(
        job_id=job.id,
        schedule=row.schedule_name,
        host=row.host_name,
        status=job.status,
        finished_at=job.state.finished_at,
        error=job.state.error,
    )
