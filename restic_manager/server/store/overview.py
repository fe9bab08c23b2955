"""What the status page asks of the rows: the fleet at a glance, in a bounded number of questions, each on an index."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple

from msgspec import Struct
from sqlalchemy import Connection, func, select

from restic_manager.domain.model import Failure, Kind, Status, Timing
from restic_manager.server.store import job_rows
from restic_manager.server.store.schema import assignments, hosts, jobs, quarantine, schedules

_GOOD: Final = (Status.SUCCEEDED.value, Status.WARNING.value)
_OUTCOMES: Final = tuple(status.value for status in Status if status.terminal)
_INITS: Final = tuple(kind.value for kind in Kind if kind.exclusive)
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


def newest_jobs(tx: Connection) -> dict[str, HostJob]:
    """Return each live host's newest job."""
    newest = select(func.max(jobs.c.serial)).where(jobs.c.host_id == hosts.c.id).scalar_subquery()
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
    query = select(jobs).where(jobs.c.status.in_(job_rows.UNFINISHED), jobs.c.kind.in_(_INITS)).limit(SAMPLE)
    return [job_rows.row_of(row) for row in tx.execute(query)]


def quarantined_since(tx: Connection, since: datetime) -> dict[str, int]:
    """Return for each host how many of its reports were set aside since an instant."""
    query = select(quarantine.c.host_id, func.count()).where(quarantine.c.at >= since).group_by(quarantine.c.host_id)
    return {row[0]: row[1] for row in tx.execute(query)}


def _last_run(job: job_rows.JobRow, row: Any) -> LastRun:
    return LastRun(
        job_id=job.id,
        schedule=row.schedule_name,
        host=row.host_name,
        status=job.status,
        finished_at=job.state.finished_at,
        error=job.state.error,
    )
