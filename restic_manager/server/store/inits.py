"""A repository that does not exist yet: one init job for it, and attempts of the backups that found none behind that.

Two inits at once destroy a repository, so there is never more than one that is not over. It refuses to know what else
an end leads to.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from restic_manager.domain.lifecycle import made_repository
from restic_manager.domain.model import Actor, InitSpec, Kind, Status, attempt_job_id, new_id
from restic_manager.server.store import job_rows
from restic_manager.server.store.job_rows import UNFINISHED, JobRow
from restic_manager.server.store.ripple import Ripple
from restic_manager.server.store.schema import hosts, jobs, repos


def unfinished(tx: Connection, repo_id: str) -> str | None:
    """Given a repository, return the id of the oldest init of it that is not over, None if there is none."""
    found: str | None = tx.execute(
        select(jobs.c.id)
        .where(jobs.c.repo_id == repo_id, jobs.c.kind == Kind.INIT.value, jobs.c.status.in_(UNFINISHED))
        .order_by(jobs.c.serial)
        .limit(1)
    ).scalar()
    return found


def spec_for(tx: Connection, repo_id: str) -> InitSpec:
    """Given a repository, return how it is created: with the chunker's parameters of another, where that was said."""
    chunker: str | None = tx.execute(select(repos.c.chunker_from).where(repos.c.id == repo_id)).scalar_one()
    return InitSpec(chunker_from=chunker)


def try_behind(tx: Connection, job: JobRow, number: int, *, now: datetime, ripple: Ripple) -> None:
    """Given a backup that found no repository, queue an init, if none is under way, and the run's `number`-th attempt
    behind it.
    """
    first = job.attempt_of or job.id
    if _already_trying(tx, job):
        return
    attempt_id = attempt_job_id(first, number - 1)
    init_id = unfinished(tx, job.repo_id)
    if init_id is None and not _made_meanwhile(tx, job):
        init_id = job_rows.insert(
            tx,
            job_id=new_id(),
            spec=spec_for(tx, job.repo_id),
            host_id=job.host_id,
            repo_id=job.repo_id,
            actor=Actor.SERVER,
            now=now,
            caused_by=job.id,
        ).id
        ripple.jobs.add(init_id)
    job_rows.insert(
        tx,
        job_id=attempt_id,
        spec=job.spec,
        host_id=job.host_id,
        repo_id=job.repo_id,
        actor=Actor.RETRY,
        now=now,
        schedule_id=job.schedule_id,
        attempt=number,
        attempt_of=first,
        waits_for_job=init_id,
        limits=job.limits,
    )
    ripple.jobs |= {attempt_id, job.id}


def _already_trying(tx: Connection, job: JobRow) -> bool:
    """Return whether another slot of the same schedule already waits for the same thing on this host.

    A host that was cut off for long reports one missing repository a slot; one attempt saves the same files as twenty.
    """
    if job.slot is None:
        return False
    found = tx.execute(
        select(jobs.c.id)
        .where(
            jobs.c.host_id == job.host_id,
            jobs.c.status == Status.QUEUED.value,
            jobs.c.schedule_id == job.schedule_id,
            jobs.c.actor_kind == Actor.RETRY.value,
            jobs.c.sent_at.is_(None),
        )
        .limit(1)
    ).scalar()
    return found is not None


def _made_meanwhile(tx: Connection, job: JobRow) -> bool:
    """Return whether an init made the repository after this backup had started, both told in the server's time."""
    started = (job.state.started_at or job.created_at) - _offset(tx, job.host_id)
    rows = tx.execute(
        select(jobs)
        .where(jobs.c.repo_id == job.repo_id, jobs.c.kind == Kind.INIT.value, jobs.c.finished_at.is_not(None))
        .order_by(jobs.c.serial.desc())
        .limit(3)
    ).fetchall()
    for row in rows:
        init = job_rows.row_of(row)
        ended = init.state.finished_at
        if ended is None or not made_repository(init.status, init.state.error):
            continue
        if ended - _offset(tx, init.host_id) >= started:
            return True
    return False


def _offset(tx: Connection, host_id: str) -> timedelta:
    """Return how far the host's clock is ahead of the server's."""
    return timedelta(seconds=tx.execute(select(hosts.c.clock_offset).where(hosts.c.id == host_id)).scalar() or 0.0)
