"""The dispatcher's questions: what waits on these hosts, what runs there, what competes on their repositories.

Asked for the hosts where something changed, never for the fleet. Of a host's queue only heads are read, one for each
(repository, kind, job waited for): nothing behind a head can go before it. What may go `domain.dispatching` decides.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from restic_manager.domain.dispatching import Active, Choice, Queued, choose
from restic_manager.domain.model import Actor, Kind, Status
from restic_manager.server.store import job_rows, jobs
from restic_manager.server.store.job_rows import UNFINISHED, JobRow, parts
from restic_manager.server.store.schema import hosts
from restic_manager.server.store.schema import jobs as table

_EXCLUSIVE: Final = tuple(kind.value for kind in Kind if kind.exclusive)
_UNSENT: Final = and_(table.c.status == Status.QUEUED.value, table.c.sent_at.is_(None))
_ACTIVE: Final = or_(
    table.c.status == Status.RUNNING.value,
    and_(table.c.status == Status.QUEUED.value, table.c.sent_at.is_not(None)),
)
_OLDER_LOOKED_AT: Final = 50


class Order(Struct, frozen=True):
    """A job that is to be sent now, and the name its host has in restic."""

    job: JobRow
    restic_host: str


def take(tx: Connection, host_ids: Iterable[str], *, online: Container[str], now: datetime) -> list[Order]:
    """Given hosts where something changed, choose what they are sent now and store that it is being sent."""
    wanted, queued, active = _gather(tx, set(host_ids), online, now)
    where = {job.job_id: job.host_id for job in queued}
    send = [job_id for job_id in choose(queued, active, online).send if where[job_id] in wanted]
    if not send:
        return []
    job_rows.mark_sent(tx, send, now)
    found = job_rows.find_many(tx, send)
    names = _restic_hosts(tx, {job.host_id for job in found.values()})
    return [Order(found[job_id], names[found[job_id].host_id]) for job_id in send]


def explain(tx: Connection, waiting: Iterable[JobRow], *, online: Container[str], now: datetime) -> Choice:
    """Given queued jobs, return what the dispatcher thinks of them now: why each waits. Not of those whose turn comes
    later: nothing else holds them up.
    """
    rows = {
        job.id: job
        for job in waiting
        if job.status is Status.QUEUED
        and job.state.sent_at is None
        and (job.not_before is None or job.not_before <= now)
    }
    _, queued, active = _gather(tx, {job.host_id for job in rows.values()}, online, now)
    seen = {job.job_id for job in queued}
    more = [job for job in rows.values() if job.id not in seen]
    queued += _queued(
        tx, [(j.id, j.serial, j.host_id, j.repo_id, j.kind.value, j.waits_for_job, j.actor) for j in more]
    )
    return choose(sorted(queued, key=lambda job: job.serial), active, online)


def hosts_of_freed(tx: Connection, freed: Mapping[str, bool]) -> set[str]:
    """Given repositories on which something ended, and whether it had been alone, return hosts that may go on now."""
    found: set[str] = set()
    for repo_id, exclusive in freed.items():
        query = select(table.c.host_id).distinct().where(table.c.repo_id == repo_id, _UNSENT)
        if not exclusive:
            query = query.where(table.c.kind.in_(_EXCLUSIVE))
        found.update(tx.execute(query).scalars())
    return found


def rehome(tx: Connection, *, online: Container[str]) -> set[str]:
    """Move inits that others wait for, that were never sent and whose host is away, to a host that is there.

    Return the hosts that got one.
    """
    got: set[str] = set()
    columns = (table.c.id, table.c.host_id, table.c.repo_id, table.c.actor_kind)
    waiting = tx.execute(select(*columns).where(_UNSENT, table.c.kind.in_(_EXCLUSIVE))).fetchall()
    away = [row for row in waiting if row.host_id not in online]
    urgent = _waited_for(tx, [row.id for row in away])
    for row in away:
        if row.id not in urgent and row.actor_kind != Actor.SERVER.value:
            continue
        there = next((host_id for host_id in jobs.hosts_of_repo(tx, row.repo_id) if host_id in online), None)
        if there is not None:
            job_rows.move(tx, row.id, there)
            got.add(there)
    return got


def hosts_behind(tx: Connection, host_id: str) -> set[str]:
    """Given a host that went away, return hosts whose exclusive jobs need not wait for its queue any more."""
    repos = tx.execute(select(table.c.repo_id).distinct().where(table.c.host_id == host_id, _UNSENT)).scalars()
    return hosts_of_freed(tx, dict.fromkeys(repos, False))


def _gather(
    tx: Connection, wanted: set[str], online: Container[str], now: datetime
) -> tuple[set[str], list[Queued], list[Active]]:
    """Return the hosts looked at (widened by those whose exclusive jobs compete), their heads, and what is active."""
    heads = _heads(tx, wanted, now)
    inits: list[Queued] = []
    while True:
        repos = sorted({job.repo_id for job in heads})
        inits = _queued_exclusive(tx, repos)
        more = {job.host_id for job in inits if job.host_id in online} - wanted
        if not more:
            break
        wanted = wanted | more
        heads += _heads(tx, more, now)
    known = {job.job_id for job in heads}
    context = [job for job in inits if job.job_id not in known]
    context += [job for job in _older(tx, [i for i in inits if not i.urgent], online, now) if job.job_id not in known]
    queued = sorted({job.job_id: job for job in heads + context}.values(), key=lambda job: job.serial)
    return wanted, queued, _active(tx, wanted, repos, [job.repo_id for job in inits])


def _due(now: datetime) -> ColumnElement[bool]:
    """A job whose turn has come: an attempt that waits for its own holds up nothing."""
    return or_(table.c.not_before.is_(None), table.c.not_before <= now)


def _heads(tx: Connection, host_ids: set[str], now: datetime) -> list[Queued]:
    found: list[Any] = []
    group = (table.c.host_id, table.c.repo_id, table.c.kind, table.c.waits_for_job)
    for part in parts(sorted(host_ids)):
        first = select(func.min(table.c.serial)).where(table.c.host_id.in_(part), _UNSENT, _due(now)).group_by(*group)
        found += tx.execute(select(*_COLUMNS).where(table.c.serial.in_(first))).fetchall()
    return _queued(tx, [tuple(row) for row in found])


def _queued_exclusive(tx: Connection, repo_ids: list[str]) -> list[Queued]:
    found: list[Any] = []
    for part in parts(repo_ids):
        query = select(*_COLUMNS).where(table.c.repo_id.in_(part), table.c.kind.in_(_EXCLUSIVE), _UNSENT)
        found += tx.execute(query).fetchall()
    return _queued(tx, [tuple(row) for row in found])


def _older(tx: Connection, inits: list[Queued], online: Container[str], now: datetime) -> list[Queued]:
    """Return, for each exclusive job that takes its turn, an older job of its repository that could go before it."""
    found: list[Any] = []
    for init in inits:
        query = (
            select(*_COLUMNS)
            .where(
                table.c.repo_id == init.repo_id,
                _UNSENT,
                table.c.kind.not_in(_EXCLUSIVE),
                table.c.waits_for_job.is_(None),
                table.c.serial < init.serial,
                _due(now),
            )
            .order_by(table.c.serial)
            .limit(_OLDER_LOOKED_AT)
        )
        older = next((row for row in tx.execute(query) if row.host_id in online), None)
        found += [] if older is None else [tuple(older)]
    return _queued(tx, found)


def _active(tx: Connection, host_ids: set[str], repo_ids: list[str], contested: list[str]) -> list[Active]:
    """Return what is with these hosts; on these repositories what is alone there; on contested ones one of the rest."""
    columns = (table.c.id, table.c.host_id, table.c.repo_id, table.c.kind)
    found: list[Any] = []
    for part in parts(sorted(host_ids)):
        found += tx.execute(select(*columns).where(table.c.host_id.in_(part), _ACTIVE)).fetchall()
    for part in parts(repo_ids):
        query = select(*columns).where(table.c.repo_id.in_(part), table.c.kind.in_(_EXCLUSIVE), _ACTIVE)
        found += tx.execute(query).fetchall()
    for repo_id in sorted(set(contested)):
        shared = select(*columns).where(table.c.repo_id == repo_id, table.c.kind.not_in(_EXCLUSIVE), _ACTIVE).limit(1)
        found += tx.execute(shared).fetchall()
    return [Active(job_id, host_id, repo_id, Kind(kind)) for job_id, host_id, repo_id, kind in found]


_COLUMNS = (
    table.c.id,
    table.c.serial,
    table.c.host_id,
    table.c.repo_id,
    table.c.kind,
    table.c.waits_for_job,
    table.c.actor_kind,
)
_Head = tuple[str, int, str, str, str, str | None, str]


def _queued(tx: Connection, rows: Iterable[tuple[object, ...] | _Head]) -> list[Queued]:
    found: list[_Head] = list(rows)  # type: ignore[arg-type]  # rows of exactly _COLUMNS
    exclusive = [row[0] for row in found if Kind(row[4]).exclusive]
    urgent = _waited_for(tx, exclusive)
    pending = _unfinished(tx, {row[5] for row in found if row[5] is not None})
    return [
        Queued(
            job_id=job_id,
            serial=serial,
            host_id=host_id,
            repo_id=repo_id,
            kind=Kind(kind),
            waits_for=waits_for if waits_for in pending else None,
            urgent=job_id in urgent or (actor == Actor.SERVER.value and Kind(kind).exclusive),
        )
        for job_id, serial, host_id, repo_id, kind, waits_for, actor in found
    ]


def _waited_for(tx: Connection, job_ids: list[str]) -> set[str]:
    """Given jobs, return those that some queued job waits for."""
    found: set[str] = set()
    for part in parts(job_ids):
        query = select(table.c.waits_for_job).distinct().where(table.c.waits_for_job.in_(part), _UNSENT)
        found.update(tx.execute(query).scalars())
    return found


def _unfinished(tx: Connection, job_ids: set[str]) -> set[str]:
    found: set[str] = set()
    for part in parts(sorted(job_ids)):
        found.update(
            tx.execute(select(table.c.id).where(table.c.id.in_(part), table.c.status.in_(UNFINISHED))).scalars()
        )
    return found


def _restic_hosts(tx: Connection, host_ids: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in parts(sorted(host_ids)):
        found.update((row.id, row.restic_host) for row in tx.execute(select(hosts).where(hosts.c.id.in_(part))))
    return found
