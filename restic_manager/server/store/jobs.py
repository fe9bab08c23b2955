"""What follows from a change in a job's life, in the transaction of the change itself.

An end frees host and repository. A backup that found no repository leads to ONE init job, alone on the repository,
and ONE attempt of the backup that waits for it (`inits`); an init that did not make it ends those attempts with the
reason. So does a job that met a stale lock lead to an unlock and one attempt (`unlocking`). What may pass is tried
again (`retries`), and an attempt that is not needed any more ends before it is sent. What a verdict tells of the
repository is `aftermath`, whose word wins `domain.lifecycle`; rows are `job_rows`. It refuses to know who is online.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from msgspec.structs import replace
from sqlalchemy import Connection, select

from restic_manager.domain import lifecycle, retrying
from restic_manager.domain.lifecycle import INIT_FAILED, Step, made_repository
from restic_manager.domain.meaning import other_repo
from restic_manager.domain.model import Actor, Failure, Kind, Status
from restic_manager.domain.retrying import SUPERSEDED, Enough
from restic_manager.protocol.messages import CommandCancel
from restic_manager.server.store import aftermath, inits, job_rows, retries, unlocking
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
        return _ended(tx, after, was_over=job.status.terminal, now=now, ripple=ripple, follow_up=follow_up)
    if job.status.terminal and not after.status.terminal:
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


def _ended(tx: Connection, job: JobRow, *, was_over: bool, now: datetime, ripple: Ripple, follow_up: bool) -> JobRow:
    ripple.hosts.add(job.host_id)
    ripple.over.append((job.host_id, job.id))
    ripple.repos |= {job.repo_id, other_repo(job.spec) or job.repo_id}
    if job.state.tell_host:
        ripple.cancels.append((job.host_id, cancel_message(job)))
    if job.state.verdict_by == "agent":
        aftermath.ended(tx, job, now=now, ripple=ripple, follow_up=follow_up)
    if job.kind is Kind.INIT:
        _init_ended(tx, job, now=now, ripple=ripple)
    elif job.kind is Kind.UNLOCK and job.actor is Actor.SERVER:
        _unlock_ended(tx, job, now=now, ripple=ripple)
    elif follow_up and (was_over or job.status not in _WELL):
        return _go_on(tx, job, now=now, ripple=ripple)
    return job


def _go_on(tx: Connection, job: JobRow, *, now: datetime, ripple: Ripple) -> JobRow:
    """Given an end that may call for another attempt, or make one unnecessary that waits, see to it.

    Return the job as it is now: with what is done about a lock in its way.
    """
    chain = retries.chain_of(tx, job)
    through = [attempt for attempt in chain if attempt.attempt <= job.attempt]
    followed = any(attempt.attempt > job.attempt and not retries.is_spare(attempt) for attempt in chain)
    number = chain[-1].attempt + 1
    by_agent, may = job.state.verdict_by == "agent", not followed and not _gone(tx, job)
    # A wrong URL is no reason to create a repository for whatever else was to be done there.
    if by_agent and job.kind is Kind.BACKUP and retrying.wants_repository(retries.attempts(through)):
        if may:
            inits.try_behind(tx, job, number, now=now, ripple=ripple)
        return job
    done = unlocking.try_behind(tx, job, chain, number, now=now, ripple=ripple) if by_agent and may else None
    if done is not None:
        job = replace(job, state=lifecycle.annotated(job.state, done.said))
        job_rows.save(tx, job.id, job.state)
        if done.attempt is not None:
            return job
    _decide(tx, job, chain, number, followed=followed, now=now, ripple=ripple)
    return job


def _decide(
    tx: Connection, job: JobRow, chain: list[JobRow], number: int, *, followed: bool, now: datetime, ripple: Ripple
) -> None:
    """Give an end its ordinary retry, if it is to have one; if not, none that waits is needed."""
    through = [attempt for attempt in chain if attempt.attempt <= job.attempt]
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


def _waiting_for(tx: Connection, job: JobRow, ripple: Ripple) -> list[JobRow]:
    """Return those that wait for this job, and note that they need not any more."""
    rows = tx.execute(select(jobs).where(jobs.c.waits_for_job == job.id, jobs.c.status == Status.QUEUED.value))
    waiting = [job_rows.row_of(row) for row in rows.fetchall()]
    ripple.hosts |= {one.host_id for one in waiting}
    ripple.jobs |= {one.id for one in waiting}
    return waiting


def _init_ended(tx: Connection, init: JobRow, *, now: datetime, ripple: Ripple) -> None:
    """Let those who wait for the init go on, or end them with the reason."""
    waiting = _waiting_for(tx, init, ripple)
    if made_repository(init.status, init.state.error):
        return
    why = init.state.error.message if init.state.error else init.status.value
    error = Failure(
        code=INIT_FAILED,
        message=f"the repository does not exist and job {init.id}, which was to create it, ended "
        f"{init.status.value}: {why}"[:8000],
    )
    for job in waiting:
        step = lifecycle.apply_server_end(
            job.state, Status.FAILED, error, tell_host=job.state.sent_at is not None, now=now
        )
        settle(tx, job, step, now=now, ripple=ripple)


def _unlock_ended(tx: Connection, unlock: JobRow, *, now: datetime, ripple: Ripple) -> None:
    """Let those who wait for the unlock go on; or, where the lock is still there, leave them to ordinary retries."""
    waiting = _waiting_for(tx, unlock, ripple)
    if unlocking.ended(tx, unlock, now=now):
        return
    for job in waiting:
        if job.state.sent_at is not None:
            continue
        supersede(tx, [job], f"job {unlock.id} has removed no lock", now=now, ripple=ripple)
        chain = retries.chain_of(tx, job)
        before = [attempt for attempt in chain if attempt.attempt < job.attempt and not retries.is_spare(attempt)]
        if before:
            _decide(tx, before[-1], chain, chain[-1].attempt + 1, followed=False, now=now, ripple=ripple)


def _gone(tx: Connection, job: JobRow) -> bool:
    """Return whether host or repository were removed: nothing more is to be done there."""
    host = tx.execute(select(hosts.c.removed_at).where(hosts.c.id == job.host_id)).scalar_one()
    repo = tx.execute(select(repos.c.removed_at).where(repos.c.id == job.repo_id)).scalar_one()
    return host is not None or repo is not None
