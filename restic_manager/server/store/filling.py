"""What a wish leaves open and its order says: which policies, which part of the data, whose snapshots.

Filled when the order is written for the first time, and stored: whatever is sent again says the same. It refuses to
know how orders travel, and secrets.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, bindparam, select

from restic_manager.domain.errors import InputError
from restic_manager.domain.meaning import aimed, asks_schedules
from restic_manager.domain.model import Kind, Spec, Status
from restic_manager.domain.specs import BackupSpec, CheckSpec, ForgetPolicy, ForgetSpec, Part
from restic_manager.restic.checks import check_spec
from restic_manager.server.store import job_rows, repos
from restic_manager.server.store.job_rows import JobRow
from restic_manager.server.store.repos import RepoRow
from restic_manager.server.store.schedules import ScheduleRow, row_of
from restic_manager.server.store.schema import assignments, hosts, jobs, schedules

MAX_ORDER_TEXT: Final = 512 << 10
"""Most bytes of JSON that a filled spec may take: it has to fit in one message, with access to two repositories."""
NO_RETENTION: Final = "no_retention"
"""The code of a forget for which there is no retention to apply."""

_MOST_POLICIES: Final = 1_000
_GOOD: Final = (Status.SUCCEEDED.value, Status.WARNING.value)


def fill(tx: Connection, job: JobRow, restic_host: str) -> Spec:
    """Given a job that is to be sent for the first time and its host's name in restic, return its spec in full.

    Raise InputError where there is nothing to be done (its code is NO_RETENTION), or where one order cannot say it.
    """
    spec = job.spec
    if asks_schedules(spec) and isinstance(spec, ForgetSpec):
        spec = replace(spec, policies=_policies(tx, job))
    elif isinstance(spec, CheckSpec) and spec.rolling is not None:
        spec = replace(spec, read=_next_part(repos.get(tx, job.repo_id), spec.rolling))
    else:
        spec = aimed(spec, restic_host)
    check_spec(spec)
    size = len(msgspec.json.encode(spec))
    if size > MAX_ORDER_TEXT:
        raise InputError(f"what it would be told takes {size} bytes, and {MAX_ORDER_TEXT} can be sent")
    return spec


def policies_of(tx: Connection, rows: Sequence[tuple[ScheduleRow, str, str]], repo_id: str) -> tuple[ForgetPolicy, ...]:
    """Given schedules with their hosts (id, name in restic), return the policy of each, with its newest good snapshot.

    Those whose schedule says nothing of what to keep are left out.
    """
    return tuple(
        ForgetPolicy(
            schedule_id=schedule.id,
            restic_host=restic_host,
            keep=schedule.retention,
            newest_good=newest_good(tx, schedule.id, host_id, repo_id),
        )
        for schedule, host_id, restic_host in rows
        if schedule.retention is not None
    )


def newest_good(tx: Connection, schedule_id: str, host_id: str, repo_id: str) -> str | None:
    """Given a schedule on a host, return the newest snapshot that a good backup of it made; None for none."""
    asked = {"schedule_id": schedule_id, "host_id": host_id, "repo_id": repo_id}
    found = [job_rows.row_of(row) for row in tx.execute(_NEWEST, asked)]
    made = [job for job in found if not (isinstance(job.spec, BackupSpec) and job.spec.dry_run)]
    return max(made, key=_when).state.snapshot_id if made else None


_NEWEST = (
    select(jobs)
    .where(
        jobs.c.schedule_id == bindparam("schedule_id"),
        jobs.c.host_id == bindparam("host_id"),
        jobs.c.repo_id == bindparam("repo_id"),
        jobs.c.kind == Kind.BACKUP.value,
        jobs.c.status.in_(_GOOD),
        jobs.c.snapshot_id.is_not(None),
    )
    .order_by(jobs.c.serial.desc())
    .limit(5)
)
"""The newest few by serial: what a host tells after it was cut off may be younger than what came before."""


def _when(job: JobRow) -> datetime:
    return job.state.started_at or job.created_at


def _policies(tx: Connection, job: JobRow) -> tuple[ForgetPolicy, ...]:
    """The policies of the schedules of this host, or of all hosts where it is the maintainer of what cannot delete."""
    repo = repos.get(tx, job.repo_id)
    query = (
        select(schedules, assignments.c.host_id, hosts.c.restic_host)
        .join(assignments, assignments.c.schedule_id == schedules.c.id)
        .join(hosts, hosts.c.id == assignments.c.host_id)
        .where(
            schedules.c.repo_id == repo.id,
            schedules.c.removed_at.is_(None),
            schedules.c.retention.is_not(None),
            assignments.c.valid_to.is_(None),
        )
        .order_by(schedules.c.id, assignments.c.host_id)
        .limit(_MOST_POLICIES + 1)
    )
    everybodys = repo.append_only and repo.maintainer_id == job.host_id
    if not everybodys:
        query = query.where(assignments.c.host_id == job.host_id)
    found = tx.execute(query).mappings().all()
    if not found:
        host = tx.execute(select(hosts.c.name).where(hosts.c.id == job.host_id)).scalar_one()
        whose = "of any host" if everybodys else f"of {host}"
        raise InputError(f"no schedule {whose} on {repo.name} keeps by rules: nothing to forget", code=NO_RETENTION)
    if len(found) > _MOST_POLICIES:
        raise InputError(
            f"more than {_MOST_POLICIES} schedules and hosts keep by rules on {repo.name}, which is more than one "
            "forget can be told: let some of the hosts use another repository",
        )
    return policies_of(tx, [(row_of(row), row["host_id"], row["restic_host"]) for row in found], repo.id)


def _next_part(repo: RepoRow, parts: int) -> Part:
    """The part behind the last one that was read well; the first, where it was another number of parts."""
    last = repo.part_read if repo.parts == parts and repo.part_read is not None else 0
    return Part(number=last % parts + 1, of=parts)
