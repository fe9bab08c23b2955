"""What the server makes of a backup's verdict: its schedule's guards, with what the backups before it counted.

Asked once, when the verdict is first believed. What trips a guard decides `domain.guards`; a verdict that says of
itself what is missing or unreadable keeps its own words. It refuses to know reports and how the verdict is stored.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, bindparam, select

from restic_manager.domain.guards import HISTORY, Counted, Guard, Guards, Made, judge
from restic_manager.domain.model import BackupStats, Failure, Outcome, Status
from restic_manager.domain.specs import BackupSpec
from restic_manager.server.store.job_rows import JobRow
from restic_manager.server.store.schema import jobs, schedules

TRIPPED: Final = "guard"
"""The code of a backup that is a warning for nothing but its guards."""

_OWN_GUARDS: Final = {"source_missing": Guard.SOURCE_MISSING, "source_unreadable": Guard.SOURCE_UNREADABLE}
"""The agent's own warnings, and the guards that switch them off."""
_ALSO_MISSING: Final = "Not there: "
"""How a warning of what is unreadable names what is missing besides."""
_LONGEST: Final = 8_000
_GOOD: Final = (Status.SUCCEEDED.value, Status.WARNING.value)
_stats: Final = msgspec.json.Decoder(BackupStats)
_guards: Final = msgspec.json.Decoder(Guards)

_SCHEDULE = select(schedules.c.guards).where(schedules.c.id == bindparam("schedule_id"))
_BEFORE = (
    select(jobs.c.stats)
    .where(
        jobs.c.schedule_id == bindparam("schedule_id"),
        jobs.c.host_id == bindparam("host_id"),
        jobs.c.id != bindparam("job_id"),
        jobs.c.status.in_(_GOOD),
        jobs.c.stats.is_not(None),
    )
    .order_by(jobs.c.serial.desc())
    .limit(HISTORY)
)


def verdict(tx: Connection, job: JobRow, outcome: Outcome, *, started_at: datetime | None, now: datetime) -> Outcome:
    """Given a job and what its agent says of its end, return what the server makes of it.

    started_at: by the host's clock, whose time the snapshot has. now: by the server's.
    """
    spec = job.spec
    if not isinstance(spec, BackupSpec) or spec.dry_run or outcome.status not in {Status.SUCCEEDED, Status.WARNING}:
        return outcome
    guards = _guards_of(tx, job)
    outcome = _without_what_is_off(outcome, guards)
    before: list[Counted] = []
    if job.schedule_id is not None and outcome.stats is not None and guards.shrink is not None:
        asked = {"schedule_id": job.schedule_id, "host_id": job.host_id, "job_id": job.id}
        before = [_counted(_stats.decode(text)) for text in tx.execute(_BEFORE, asked).scalars()]
    made = Made(
        counted=None if outcome.stats is None else _counted(outcome.stats),
        snapshot_time=started_at if outcome.snapshot_id is not None else None,
    )
    tripped = judge(made, tuple(reversed(before)), guards, now=now)
    if not tripped:
        return outcome
    said = "; ".join(f"{one.guard}: {one.why}" for one in tripped)
    error = outcome.error
    if error is None:
        error = Failure(code=TRIPPED, message=said[:_LONGEST])
    else:
        error = replace(error, message=f"{error.message} Besides, {said}"[:_LONGEST])
    return replace(outcome, status=Status.WARNING, error=error)


def _without_what_is_off(outcome: Outcome, guards: Guards) -> Outcome:
    """The verdict without the agent's own warning, where that is of exactly what the schedule does not mind."""
    error = outcome.error
    guard = None if error is None else _OWN_GUARDS.get(error.code)
    if error is None or guard is None or guard not in guards.off:
        return outcome
    if _ALSO_MISSING in error.message and Guard.SOURCE_MISSING not in guards.off:
        return outcome
    return replace(outcome, status=Status.SUCCEEDED, error=None)


def _guards_of(tx: Connection, job: JobRow) -> Guards:
    text = None if job.schedule_id is None else tx.execute(_SCHEDULE, {"schedule_id": job.schedule_id}).scalar()
    return Guards() if text is None else _guards.decode(text)


def _counted(stats: BackupStats) -> Counted:
    return Counted(files=stats.total_files_processed, size=stats.total_bytes_processed)
