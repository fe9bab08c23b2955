"""What an agent's verdict means beyond its job: for what is known of the repository, and for what is due there next.

A list is old, a part of the data is checked, old snapshots are to be forgotten, a stale lock to be removed. Everything
happens in the transaction of the verdict. It refuses to know retries and inits (`jobs`), and who is online.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, select

from restic_manager.domain.model import Actor, Kind, Status, new_id
from restic_manager.domain.results import ProbeStats
from restic_manager.domain.specs import BackupSpec, CheckSpec, ForgetSpec
from restic_manager.protocol.messages import CAP_KINDS
from restic_manager.server.store import hosts, job_rows, repos, schedules, sizes, snapshots
from restic_manager.server.store.job_rows import JobRow
from restic_manager.server.store.ripple import Ripple
from restic_manager.server.store.schema import assignments
from restic_manager.server.store.schema import jobs as table
from restic_manager.server.store.schema import repos as repo_rows

_CHANGING: Final = frozenset({Kind.BACKUP, Kind.FORGET, Kind.TAG, Kind.COPY, Kind.PROBE})
"""Kinds that may have changed a repository's snapshots, however they ended."""
_GOOD: Final = frozenset({Status.SUCCEEDED, Status.WARNING})

_QUEUED_FORGET = select(table.c.id).where(
    table.c.repo_id == bindparam("repo_id"),
    table.c.kind == Kind.FORGET.value,
    table.c.status == Status.QUEUED.value,
    table.c.host_id == bindparam("host_id"),
    table.c.actor_kind == Actor.SERVER.value,
    table.c.sent_at.is_(None),
)
_ASSIGNED = select(assignments.c.id).where(
    assignments.c.schedule_id == bindparam("schedule_id"),
    assignments.c.host_id == bindparam("host_id"),
    assignments.c.valid_to.is_(None),
)


def ended(tx: Connection, job: JobRow, *, now: datetime, ripple: Ripple, follow_up: bool) -> None:
    """Given a job whose end its agent has just told, take from it what it tells of its repository.

    Without follow_up it is history: then only what is known of the repository gets old by it.
    """
    if job.kind in _CHANGING and job.state.sent_at is not None:
        snapshots.note_changed(tx, job.repo_id, now)
    if not follow_up:
        return
    if job.status is Status.SUCCEEDED:
        keep = _KEEPERS.get(job.kind)
        if keep is not None:
            keep(tx, job, now)
    if job.kind is Kind.BACKUP and job.status in _GOOD and job.state.snapshot_id is not None:
        _forget(tx, job, now=now, ripple=ripple)


def _take_list(tx: Connection, job: JobRow, now: datetime) -> None:
    snapshots.take_list(tx, job, now=now)


def _take_size(tx: Connection, job: JobRow, now: datetime) -> None:
    sizes.note(tx, job, now=now)


def _note_part(tx: Connection, job: JobRow, now: datetime) -> None:  # noqa: ARG001 - the form they share
    """A rolling check has read its part well: the next one reads the next. One that found damage reads it again."""
    spec = job.spec
    if isinstance(spec, CheckSpec) and spec.rolling is not None and spec.read is not None:
        where = repo_rows.c.id == job.repo_id
        tx.execute(repo_rows.update().where(where).values(part_read=spec.read.number, parts=spec.read.of))


def _note_probe(tx: Connection, job: JobRow, now: datetime) -> None:
    """What a host could do counts for all: they are given the same."""
    result = job.state.result
    if isinstance(result, ProbeStats):
        where = repo_rows.c.id == job.repo_id
        tx.execute(repo_rows.update().where(where).values(deletion=result.deletion, probed_at=now))


_KEEPERS: Final[dict[Kind, Callable[[Connection, JobRow, datetime], None]]] = {
    Kind.SNAPSHOTS: _take_list,
    Kind.STATS: _take_size,
    Kind.CHECK: _note_part,
    Kind.PROBE: _note_probe,
}
"""Who keeps what a job of a kind has found out."""


def _forget(tx: Connection, backup: JobRow, *, now: datetime, ripple: Ripple) -> None:
    """Queue a forget behind a good backup whose schedule keeps by rules, on the host that may: one at a time there."""
    if backup.schedule_id is None or (isinstance(backup.spec, BackupSpec) and backup.spec.dry_run):
        return
    schedule = schedules.find(tx, backup.schedule_id)
    if schedule is None or schedule.retention is None or schedule.removed_at is not None:
        return
    asked = {"schedule_id": schedule.id, "host_id": backup.host_id}
    if schedule.repo_id != backup.repo_id or tx.execute(_ASSIGNED, asked).first() is None:
        return
    repo = repos.get(tx, backup.repo_id)
    host_id = repo.maintainer_id if repo.append_only else backup.host_id
    if host_id == repo.maintainer_id and repos.needs_login(repo, Kind.FORGET):
        return  # no login comes with a job of the server's own: an operator asks, and brings it
    if host_id is None or repo.removed_at is not None or not hosts.has_capability(tx, host_id, CAP_KINDS):
        return
    if tx.execute(_QUEUED_FORGET, {"repo_id": repo.id, "host_id": host_id}).first() is not None:
        return
    made = job_rows.insert(
        tx,
        job_id=new_id(),
        spec=ForgetSpec(),
        host_id=host_id,
        repo_id=repo.id,
        actor=Actor.SERVER,
        now=now,
        caused_by=backup.id,
    )
    ripple.hosts.add(host_id)
    ripple.jobs.add(made.id)
