"""What follows from a change in a job's life, in the transaction of the change itself.

An end frees host and repository. A backup that found no repository leads to ONE init job, alone on the repository,
and ONE attempt of the backup that waits for it; an init that did not make it ends those attempts with the reason. What
may pass is tried again (`retries`), and an attempt that is not needed any more ends before it is sent. Whose word wins
is `domain.lifecycle`; rows are `job_rows`. It refuses to know who is online.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace
from sqlalchemy import Connection, select

from restic_manager.domain import lifecycle, retrying
from restic_manager.domain.lifecycle import INIT_FAILED, Step, made_repository
from restic_manager.domain.meaning import other_repo
from restic_manager.domain.model import Actor, Failure, InitSpec, Kind, Status, attempt_job_id, new_id
from restic_manager.domain.retrying import SUPERSEDED, Enough
from restic_manager.protocol.messages import CommandCancel
from restic_manager.server.store import job_rows, retries
from restic_manager.server.store.job_rows import UNFINISHED, JobRow
from restic_manager.server.store.ripple import Ripple
from restic_manager.server.store.schema import assignments, hosts, jobs, repos, schedules

_WELL: Final = frozenset({Status.SUCCEEDED, Status.WARNING, Status.CANCELLED})


def settle(tx: Connection, job: JobRow, step: Step, *, now: datetime, ripple: Ripple, follow_up: bool = True) -> JobRow:
    """Given a job and a step of its life, store the step and all that follows from it; return the job as it is now.

    Without follow_up its end is history (it was told before, to a store that was lost): it leads to no further attempt.
    """
    if step.state == job.state:
        return job
    job_rows.save(tx, job.id, step.state)
    after = replace(job, state=step.state)
    ripple.jobs.add(job.id)
    if after.status.terminal and (after.status is not job.status or after.state.verdict_by != job.state.verdict_by):
        _ended(tx, after, was_over=job.status.terminal, now=now, ripple=ripple, follow_up=follow_up)
    elif job.status.terminal and not after.status.terminal:
        _spare(tx, retries.chain_of(tx, after), after, "the attempt before it runs after all", now=now, ripple=ripple)
    return after


def cancel_message(job: JobRow) -> CommandCancel:
    """Given a job whose end is wanted or known here, return what its host is told."""
    error = job.state.error
    told = (error.message if error else "") if job.status.terminal else (job.state.cancel_reason or "")
    return CommandCancel(job_id=job.id, reason=told[:256], status=job.status if job.status.terminal else None)


def request_cancel(tx: Connection, job: JobRow, *, reason: str, now: datetime, ripple: Ripple) -> JobRow:
    """Given a job somebody wants ended, store the wish or the end; raise ConflictError when it is over."""
    step = lifecycle.apply_cancel_request(job.state, reason=reason, host_knows_slot=job.slot is not None, now=now)
    after = settle(tx, job, step, now=now, ripple=ripple)
    if not after.status.terminal:
        ripple.cancels.append((after.host_id, cancel_message(after)))
    return after


def end_unfinished(
    tx: Connection, host_id: str, *, code: str, message: str, now: datetime, keep: frozenset[str] = frozenset()
) -> Ripple:
    """Given a host and the evidence that it has lost what it was handed, end those jobs as interrupted.

    Jobs never sent, and those in `keep`, stay as they are.
    """
    ripple = Ripple()
    for job in unfinished(tx, host_id):
        if job.state.sent_at is None or job.id in keep:
            continue
        error = Failure(code=code, message=message)
        step = lifecycle.apply_server_end(job.state, Status.INTERRUPTED, error, tell_host=False, now=now)
        settle(tx, job, step, now=now, ripple=ripple)
    return ripple


def host_removed(tx: Connection, host_id: str, now: datetime) -> Ripple:
    """Given a host that is being removed, end all its unfinished jobs as interrupted.

    An init that others wait for and that was never sent goes to another host of the repository instead.
    """
    ripple = Ripple()
    for job in unfinished(tx, host_id):
        if job.kind is Kind.INIT and job.state.sent_at is None and job.actor is Actor.SERVER:
            others = [other for other in hosts_of_repo(tx, job.repo_id) if other != host_id]
            if others:
                job_rows.move(tx, job.id, others[0])
                ripple.hosts.add(others[0])
                ripple.jobs.add(job.id)
                ripple.homeless = True
                continue
        error = Failure(code="host_removed", message="the host was removed before it told how this job ended")
        step = lifecycle.apply_server_end(job.state, Status.INTERRUPTED, error, tell_host=False, now=now)
        settle(tx, job, step, now=now, ripple=ripple)
    return ripple


def unfinished(tx: Connection, host_id: str) -> list[JobRow]:
    """Given a host, return its jobs that are not over, oldest first."""
    rows = tx.execute(
        select(jobs).where(jobs.c.host_id == host_id, jobs.c.status.in_(UNFINISHED)).order_by(jobs.c.serial)
    )
    return [job_rows.row_of(row) for row in rows]


def unfinished_init(tx: Connection, repo_id: str) -> str | None:
    """Given a repository, return the id of the oldest init of it that is not over, None if there is none."""
    found: str | None = tx.execute(
        select(jobs.c.id)
        .where(jobs.c.repo_id == repo_id, jobs.c.kind == Kind.INIT.value, jobs.c.status.in_(UNFINISHED))
        .order_by(jobs.c.serial)
        .limit(1)
    ).scalar()
    return found


def is_anothers(job: JobRow, host_id: str) -> bool:
    """Given a job and a host that claims it, return whether that is a claim on what is another host's.

    An init that was never sent moves to a host that is there. So a server put back to an old copy may give it to
    another host than the one that knows it: that one's claim is true, of a time this server has forgotten.
    """
    return job.host_id != host_id and job.kind is not Kind.INIT


def hosts_of_repo(tx: Connection, repo_id: str) -> list[str]:
    """Given a repository, return the ids of hosts that have a schedule on it now, in a stable order."""
    rows = tx.execute(
        select(assignments.c.host_id)
        .distinct()
        .join(schedules, schedules.c.id == assignments.c.schedule_id)
        .join(hosts, hosts.c.id == assignments.c.host_id)
        .where(
            schedules.c.repo_id == repo_id,
            schedules.c.removed_at.is_(None),
            assignments.c.valid_to.is_(None),
            hosts.c.removed_at.is_(None),
        )
        .order_by(assignments.c.host_id)
    )
    return list(rows.scalars())


def supersede(tx: Connection, waiting: list[JobRow], why: str, *, now: datetime, ripple: Ripple) -> None:
    """Given attempts that no host knows of and why they are not needed any more, end them."""
    for job in waiting:
        error = Failure(code=SUPERSEDED, message=f"not tried again: {why}")
        settle(
            tx,
            job,
            lifecycle.apply_server_end(job.state, Status.CANCELLED, error, tell_host=False, now=now),
            now=now,
            ripple=ripple,
        )


def _ended(tx: Connection, job: JobRow, *, was_over: bool, now: datetime, ripple: Ripple, follow_up: bool) -> None:
    ripple.hosts.add(job.host_id)
    ripple.over.append((job.host_id, job.id))
    ripple.repos.add(job.repo_id)
    source = other_repo(job.spec)
    if source is not None:
        ripple.repos.add(source)
    if job.state.tell_host:
        ripple.cancels.append((job.host_id, cancel_message(job)))
    if job.kind is Kind.INIT:
        _init_ended(tx, job, now=now, ripple=ripple)
    elif follow_up and (was_over or job.status not in _WELL):
        _go_on(tx, job, now=now, ripple=ripple)


def _go_on(tx: Connection, job: JobRow, *, now: datetime, ripple: Ripple) -> None:
    """Given an end that may call for another attempt, or make one unnecessary that waits, see to it."""
    chain = retries.chain_of(tx, job)
    through = [attempt for attempt in chain if attempt.attempt <= job.attempt]
    followed = any(attempt.attempt > job.attempt and not retries.is_spare(attempt) for attempt in chain)
    number = chain[-1].attempt + 1
    if job.state.verdict_by == "agent" and retrying.wants_repository(retries.attempts(through)):
        if not followed:
            _try_again(tx, job, number, now=now, ripple=ripple)
        return
    decision = retries.decide(tx, job, through, now)
    if isinstance(decision, Enough):
        _spare(tx, chain, job, decision.why, now=now, ripple=ripple)
    elif not followed and not _gone(tx, job):
        made = retries.add(tx, job, number, now=now, at=decision.at)
        ripple.hosts.add(made.host_id)
        ripple.jobs |= {made.id, job.id}


def _spare(tx: Connection, chain: list[JobRow], job: JobRow, why: str, *, now: datetime, ripple: Ripple) -> None:
    """End the attempts after this one that wait for their turn: they are not needed any more."""
    waiting = [attempt for attempt in chain if attempt.attempt > job.attempt and retries.is_waiting(attempt)]
    supersede(tx, waiting, why, now=now, ripple=ripple)


def _init_ended(tx: Connection, init: JobRow, *, now: datetime, ripple: Ripple) -> None:
    """Let those who wait for the init go on, or end them with the reason."""
    waiting = tx.execute(
        select(jobs).where(jobs.c.waits_for_job == init.id, jobs.c.status == Status.QUEUED.value)
    ).fetchall()
    made = made_repository(init.status, init.state.error)
    for row in waiting:
        job = job_rows.row_of(row)
        ripple.hosts.add(job.host_id)
        ripple.jobs.add(job.id)
        if made:
            continue
        why = init.state.error.message if init.state.error else init.status.value
        error = Failure(
            code=INIT_FAILED,
            message=f"the repository does not exist and job {init.id}, which was to create it, ended "
            f"{init.status.value}: {why}"[:8000],
        )
        step = lifecycle.apply_server_end(
            job.state, Status.FAILED, error, tell_host=job.state.sent_at is not None, now=now
        )
        settle(tx, job, step, now=now, ripple=ripple)


def _try_again(tx: Connection, job: JobRow, number: int, *, now: datetime, ripple: Ripple) -> None:
    """Queue an init, if none is under way, and the run's `number`-th attempt behind it."""
    first = job.attempt_of or job.id
    if _gone(tx, job) or _already_trying(tx, job):
        return
    attempt_id = attempt_job_id(first, number - 1)
    init_id = unfinished_init(tx, job.repo_id)
    if init_id is None and not _made_meanwhile(tx, job):
        init_id = job_rows.insert(
            tx,
            job_id=new_id(),
            spec=InitSpec(),
            host_id=job.host_id,
            repo_id=job.repo_id,
            actor=Actor.SERVER,
            now=now,
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


def _gone(tx: Connection, job: JobRow) -> bool:
    """Return whether host or repository were removed: nothing more is to be done there."""
    host = tx.execute(select(hosts.c.removed_at).where(hosts.c.id == job.host_id)).scalar_one()
    repo = tx.execute(select(repos.c.removed_at).where(repos.c.id == job.repo_id)).scalar_one()
    return host is not None or repo is not None


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
