"""A lock in a job's way: the rows that tell whether it may be removed, and the unlock with the one attempt behind it.

What may be done `domain.stale_locks` decides. A host counts as there that was seen within the last minutes. It refuses
to know what else an end leads to.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import Connection, or_, select

from restic_manager.domain import stale_locks
from restic_manager.domain.model import Actor, Kind, Status, new_id
from restic_manager.domain.results import LockedBy, UnlockStats
from restic_manager.domain.specs import UnlockSpec
from restic_manager.domain.stale_locks import Leave, Remove, Scene
from restic_manager.protocol.messages import CAP_KINDS
from restic_manager.server.store import events, hosts, job_rows, repos, retries
from restic_manager.server.store.job_rows import UNFINISHED, JobRow
from restic_manager.server.store.ripple import Ripple
from restic_manager.server.store.schema import hosts as host_rows
from restic_manager.server.store.schema import jobs

LOCK_REMOVED: Final = "lock_removed"
"""What the event of a stale lock that was removed is called."""

_THERE: Final = timedelta(minutes=3)
"""That a host is online is stored once a minute."""
_LOCKED: Final = "locked"


class Done(NamedTuple):
    """What is done about a lock, or why nothing is, in a sentence; and the attempt that waits for it, if one does."""

    said: str
    attempt: JobRow | None = None


def try_behind(
    tx: Connection, job: JobRow, chain: list[JobRow], number: int, *, now: datetime, ripple: Ripple
) -> Done | None:
    """Given a job that has just ended and the attempts of its run, have the lock removed that was in its way, if that
    is what ended it and if it may be; the run's `number`-th attempt waits for that.

    None where no lock was in its way.
    """
    met = job.state.result
    error = job.state.error
    if job.status is not Status.FAILED or error is None or error.code != _LOCKED or not isinstance(met, LockedBy):
        return None
    if job.state.cancel_requested_at is not None or job.state.snapshot_id is not None:
        return None
    found = stale_locks.decide(met.locks, _scene(tx, job, chain, now), now=now)
    if isinstance(found, Leave):
        return Done(f"Nothing is removed: {found.why}.")
    if isinstance(found, Remove):
        if not hosts.has_capability(tx, found.host_id, CAP_KINDS):
            return Done("Nothing is removed: the agent of the host that could is too old.")
        unlock_id = job_rows.insert(
            tx,
            job_id=new_id(),
            spec=UnlockSpec(),
            host_id=found.host_id,
            repo_id=job.repo_id,
            actor=Actor.SERVER,
            now=now,
            caused_by=job.id,
        ).id
        ripple.hosts.add(found.host_id)
        said = f"Job {unlock_id} looks whether it is stale ({found.why}) and removes it then"
    else:
        unlock_id = found.job_id
        said = f"Job {unlock_id} is about to remove stale locks there"
    made = retries.add(tx, job, number, now=now, at=None, behind=unlock_id)
    ripple.hosts.add(job.host_id)
    ripple.jobs |= {unlock_id, made.id, job.id}
    return Done(f"{said}; if so, this is tried once more.", made)


def ended(tx: Connection, unlock: JobRow, *, now: datetime) -> bool:
    """Given an unlock of the server's that is over, write down what it removed; return whether the way is free now."""
    result = unlock.state.result
    if unlock.status is not Status.SUCCEEDED or not isinstance(result, UnlockStats):
        return False
    if result.removed:
        repo = repos.get(tx, unlock.repo_id)
        many = "a stale lock was" if result.removed == 1 else f"{result.removed} stale locks were"
        events.record(
            tx,
            now=now,
            actor="server",
            what=LOCK_REMOVED,
            host_id=unlock.host_id,
            detail=f"{many} removed from repository {repo.name} by job {unlock.id}",
        )
    return result.removed > 0 or result.left == 0


def _scene(tx: Connection, job: JobRow, chain: list[JobRow], now: datetime) -> Scene:
    on_repo = (jobs.c.repo_id == job.repo_id, jobs.c.status.in_(UNFINISHED))
    running = select(jobs.c.id).where(
        *on_repo, or_(jobs.c.status == Status.RUNNING.value, jobs.c.sent_at.is_not(None)), jobs.c.id != job.id
    )
    mine = select(jobs).where(
        jobs.c.repo_id == job.repo_id, jobs.c.kind == Kind.UNLOCK.value, jobs.c.actor_kind == Actor.SERVER.value
    )
    newest = tx.execute(mine.order_by(jobs.c.serial.desc()).limit(1)).first()
    last = None if newest is None else job_rows.row_of(newest)
    waited_for = job_rows.find_many(tx, [one.waits_for_job for one in chain if one.waits_for_job is not None])
    return Scene(
        machines=_machines(tx, job.host_id, now),
        failed_host=job.host_id,
        ours=tx.execute(running.limit(1)).scalar(),
        under_way=last.id if last is not None and not last.status.terminal else None,
        fruitless_at=None if last is None else _fruitless(last),
        tried=any(one.kind is Kind.UNLOCK for one in waited_for.values()),
    )


def _machines(tx: Connection, telling: str, now: datetime) -> dict[str, str]:
    """Return hosts that are there by what they call themselves; the one that is just telling is."""
    query = select(host_rows.c.machine, host_rows.c.id).where(
        host_rows.c.removed_at.is_(None),
        host_rows.c.machine.is_not(None),
        or_(host_rows.c.last_seen_at >= now - _THERE, host_rows.c.id == telling),
    )
    found = {row.machine: row.id for row in tx.execute(query.order_by(host_rows.c.id))}
    own = tx.execute(select(host_rows.c.machine).where(host_rows.c.id == telling)).scalar()
    return found if own is None else {**found, own: telling}


def _fruitless(unlock: JobRow) -> datetime | None:
    """Return when this unlock ended, if it removed nothing."""
    result = unlock.state.result
    removed = isinstance(result, UnlockStats) and result.removed > 0
    return None if removed or not unlock.status.terminal else unlock.state.finished_at
