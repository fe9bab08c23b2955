"""What is known of each repository's list, and asking a host for a new one. Owns the server's own `snapshots` jobs.

Which host: one that is there and uses the repository, another one each time it failed. A list asked for and never sent,
whose host has gone, moves to one that is there. When it is time is `domain.relisting`; it refuses to know sessions.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, or_, select

from restic_manager.domain.model import Actor, Failure, Kind, Limits, Status, new_id
from restic_manager.domain.relisting import SLOW, Standing
from restic_manager.domain.specs import SnapshotsSpec
from restic_manager.protocol.messages import CAP_KINDS
from restic_manager.server.store import history, job_rows
from restic_manager.server.store.job_rows import UNFINISHED, JobRow
from restic_manager.server.store.references import chunks
from restic_manager.server.store.ripple import Ripple
from restic_manager.server.store.schema import assignments, hosts, jobs, repos, schedules

LIMITS: Final = Limits(time_limit=3_600)
"""Bounds on a list that the server asks for."""
KEPT: Final = timedelta(hours=6)
"""So long the server's own lists that went well stay in the history of jobs: there may be one a minute."""
KEPT_FAILED: Final = timedelta(days=2)
"""So long those that did not stay."""

_WHOLE: Final = msgspec.json.encode(SnapshotsSpec()).decode()
_BAD: Final = (Status.FAILED.value, Status.CANCELLED.value, Status.INTERRUPTED.value)
_GOOD: Final = (Status.SUCCEEDED.value, Status.WARNING.value)
_RECENT: Final = 50
_capabilities: Final = msgspec.json.Decoder(tuple[str, ...])
_failure: Final = msgspec.json.Decoder(Failure)


class Asked(NamedTuple):
    """The job that lists a repository, or in a sentence why there is none."""

    job: JobRow | None
    note: str | None = None


class Failed(NamedTuple):
    """The newest try to list a repository that came to nothing."""

    job_id: str
    at: datetime
    error: Failure | None


def standings(tx: Connection, *, online: Container[str], now: datetime) -> list[Standing]:
    """Return how the lists stand that are old or due for the slow interval, of repositories that are not removed."""
    old = or_(repos.c.listed_at.is_(None), repos.c.changed_at >= repos.c.listed_at, repos.c.listed_at <= now - SLOW)
    query = select(repos.c.id, repos.c.listed_at, repos.c.changed_at).where(repos.c.removed_at.is_(None), old)
    return [_standing(tx, row.id, row.listed_at, row.changed_at, online) for row in tx.execute(query).all()]


def next_slow(tx: Connection) -> datetime | None:
    """Return when the oldest list that nothing has changed is due for being made anew, None for none."""
    oldest: datetime | None = tx.execute(
        select(repos.c.listed_at)
        .where(repos.c.removed_at.is_(None), repos.c.listed_at.is_not(None))
        .order_by(repos.c.listed_at)
        .limit(1)
    ).scalar()
    return None if oldest is None else oldest + SLOW


def ask(tx: Connection, repo_id: str, *, online: Container[str], now: datetime, ripple: Ripple) -> Asked:
    """Given a repository and who is there, return the job that lists it: the one under way, else a new one."""
    under_way = _lists(tx, repo_id, jobs.c.status.in_(UNFINISHED))
    there = next((row for row in under_way if row.host_id in online), None)
    if there is not None:
        return Asked(job_rows.row_of(there))
    able = hosts_of(tx, [repo_id]).get(repo_id, [])
    busy = {row.host_id for row in under_way if row.sent_at is not None}
    free = [host_id for host_id in able if host_id in online and host_id not in busy]
    if not free:
        return Asked(None, nobody(bool(able)))
    host_id = free[_failures(tx, repo_id, None) % len(free)]
    unsent = next((row for row in under_way if row.sent_at is None), None)
    if unsent is None:
        job = job_rows.insert(
            tx,
            job_id=new_id(),
            spec=SnapshotsSpec(),
            host_id=host_id,
            repo_id=repo_id,
            actor=Actor.SERVER,
            now=now,
            limits=LIMITS,
        )
    else:
        job_rows.move(tx, unsent.id, host_id)
        job = job_rows.get(tx, unsent.id)
    ripple.hosts.add(host_id)
    ripple.jobs.add(job.id)
    return Asked(job)


def nobody(used: bool) -> str:
    """Given whether any host uses a repository, return why none can list it."""
    return "none of its hosts is online" if used else "no host uses it"


def hosts_of(tx: Connection, repo_ids: Sequence[str]) -> dict[str, list[str]]:
    """Given repositories, return the hosts that can list each: those that have a schedule on it, and its maintainer;
    where there are none, those that had one of its last jobs. Able to at all: their agents know every kind.
    """
    found: dict[str, set[str]] = {}
    for part in chunks(repo_ids):
        scheduled = (
            select(schedules.c.repo_id, assignments.c.host_id)
            .distinct()
            .join(assignments, assignments.c.schedule_id == schedules.c.id)
            .where(schedules.c.repo_id.in_(part), schedules.c.removed_at.is_(None), assignments.c.valid_to.is_(None))
        )
        maintained = select(repos.c.id, repos.c.maintainer_id).where(
            repos.c.id.in_(part), repos.c.maintainer_id.is_not(None)
        )
        for query in (scheduled, maintained):
            for repo_id, host_id in tx.execute(query):
                found.setdefault(repo_id, set()).add(host_id)
        for repo_id in part:
            if repo_id not in found:
                recent = select(jobs.c.host_id).where(jobs.c.repo_id == repo_id).order_by(jobs.c.serial.desc())
                found[repo_id] = set(tx.execute(recent.limit(_RECENT)).scalars())
    able = _able(tx, {host_id for host_ids in found.values() for host_id in host_ids})
    return {repo_id: sorted(host_ids & able) for repo_id, host_ids in found.items()}


def under_way(tx: Connection) -> dict[str, str]:
    """Return the ids of the jobs that list a repository whole now, by repository."""
    query = select(jobs.c.repo_id, jobs.c.id).where(
        jobs.c.status.in_(UNFINISHED), jobs.c.kind == Kind.SNAPSHOTS.value, jobs.c.spec == _WHOLE
    )
    return {row.repo_id: row.id for row in tx.execute(query.order_by(jobs.c.serial.desc()))}


def last_failures(tx: Connection, repo_ids: Sequence[str]) -> dict[str, Failed]:
    """Given repositories, return the newest try to list each that came to nothing, those of a list made since left
    out.
    """
    found: dict[str, Failed] = {}
    for part in chunks(repo_ids):
        query = (
            select(jobs.c.repo_id, jobs.c.id, jobs.c.created_at, jobs.c.error)
            .join(repos, repos.c.id == jobs.c.repo_id)
            .where(
                jobs.c.repo_id.in_(part),
                jobs.c.kind == Kind.SNAPSHOTS.value,
                jobs.c.status.in_(_BAD),
                jobs.c.spec == _WHOLE,
                or_(repos.c.listed_at.is_(None), jobs.c.created_at > repos.c.listed_at),
            )
            .order_by(jobs.c.serial)
        )
        for row in tx.execute(query):
            error = None if row.error is None else _failure.decode(row.error)
            found[row.repo_id] = Failed(row.id, row.created_at, error)
    return found


def prune(tx: Connection, now: datetime) -> int:
    """Take at most a bite of the server's own lists away that are over for long enough; return how many."""
    found: list[str] = []
    for part in chunks(list(tx.execute(select(repos.c.id)).scalars())):
        for statuses, before in ((_GOOD, now - KEPT), (_BAD, now - KEPT_FAILED)):
            query = select(jobs.c.id).where(
                jobs.c.repo_id.in_(part),
                jobs.c.kind == Kind.SNAPSHOTS.value,
                jobs.c.status.in_(statuses),
                jobs.c.actor_kind == Actor.SERVER.value,
                jobs.c.created_at < before,
            )
            found += tx.execute(query.limit(history.BITE - len(found))).scalars()
    history.forget_jobs(tx, found)
    return len(found)


def _standing(
    tx: Connection, repo_id: str, listed_at: datetime | None, changed_at: datetime | None, online: Container[str]
) -> Standing:
    under_way = _lists(tx, repo_id, jobs.c.status.in_(UNFINISHED))
    # One that went well and is not the list we have had rows missing: as good as failed.
    later = _lists(tx, repo_id, jobs.c.status.in_((*_BAD, *_GOOD)), since=listed_at)
    asked = [each.created_at for each in (*later, *under_way)] + ([] if listed_at is None else [listed_at])
    return Standing(
        repo_id=repo_id,
        listed_at=listed_at,
        changed_at=changed_at,
        asked_at=max(asked, default=None),
        failures=len(later),
        under_way=any(each.host_id in online for each in under_way),
        used=listed_at is not None or changed_at is not None or _went_well(tx, repo_id),
    )


def _lists(
    tx: Connection, repo_id: str, which: ColumnElement[bool], since: datetime | None = None
) -> Sequence[Row[Any]]:
    """Return the whole lists of a repository asked for (after an instant), newest first.

    Sorted here: asked to sort by serial, SQLite would walk through all jobs of the repository. `prune` keeps them few.
    """
    query = select(jobs).where(
        jobs.c.repo_id == repo_id, jobs.c.kind == Kind.SNAPSHOTS.value, which, jobs.c.spec == _WHOLE
    )
    if since is not None:
        query = query.where(jobs.c.created_at > since)
    return sorted(tx.execute(query), key=lambda row: -row.serial)


def _failures(tx: Connection, repo_id: str, since: datetime | None) -> int:
    return len(_lists(tx, repo_id, jobs.c.status.in_(_BAD), since))


def _went_well(tx: Connection, repo_id: str) -> bool:
    query = select(jobs.c.id).where(
        jobs.c.repo_id == repo_id, jobs.c.kind.in_([kind.value for kind in Kind]), jobs.c.status.in_(_GOOD)
    )
    return tx.execute(query.limit(1)).first() is not None


def _able(tx: Connection, host_ids: Iterable[str]) -> set[str]:
    """Return those that are not removed, whose restic runs and whose agents carry out every kind."""
    found: set[str] = set()
    for part in chunks(sorted(host_ids)):
        query = select(hosts.c.id, hosts.c.capabilities).where(
            hosts.c.id.in_(part), hosts.c.removed_at.is_(None), hosts.c.restic_problem.is_(None)
        )
        found |= {row.id for row in tx.execute(query) if CAP_KINDS in _capabilities.decode(row.capabilities)}
    return found
