"""The statements by which queues are read, and what their rows are to the choice. Owns the SQL of the dispatcher.

Made once: they are asked all the time. It refuses to know in which order they are asked, and what may go.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Executable, and_, bindparam, case, func, or_, select

from restic_manager.domain.dispatching import RESTORES, Queued
from restic_manager.domain.model import Actor, Kind, Status
from restic_manager.server.store.job_rows import UNFINISHED, parts
from restic_manager.server.store.schema import hosts, repos
from restic_manager.server.store.schema import jobs as table

PATIENCE: Final = timedelta(hours=1)
"""A job that has waited longer keeps its place on its repository also while its host is busy with another."""
_FIRST: Final = (*RESTORES, Kind.INIT, Kind.UNLOCK)
"""Kinds whose turn may come before that of older ones."""

_UNSENT = and_(table.c.status == Status.QUEUED.value, table.c.sent_at.is_(None))
_ACTIVE = or_(
    table.c.status == Status.RUNNING.value,
    and_(table.c.status == Status.QUEUED.value, table.c.sent_at.is_not(None)),
)
# An attempt that waits for its own turn holds up nothing.
_DUE = or_(table.c.not_before.is_(None), table.c.not_before <= bindparam("now"))
_BY_SERVER = case((table.c.actor_kind == Actor.SERVER.value, 1), else_=0)
_COLUMNS = (
    table.c.id,
    table.c.serial,
    table.c.host_id,
    table.c.repo_id,
    table.c.kind,
    table.c.waits_for_job,
    _BY_SERVER.label("by_server"),
    table.c.source_repo_id,
    table.c.created_at,
    table.c.not_before,
)


def _some(column: Any, name: str) -> Any:
    return column.in_(bindparam(name, expanding=True))


BY_ID = select(*_COLUMNS).where(_some(table.c.id, "job_ids"))
HEADS = select(*_COLUMNS).where(
    table.c.serial.in_(
        select(func.min(table.c.serial))
        .where(_some(table.c.host_id, "host_ids"), _UNSENT, _DUE)
        .group_by(table.c.host_id, table.c.repo_id, table.c.kind, table.c.waits_for_job, _BY_SERVER)
    )
)
IN_TURN = (
    select(*_COLUMNS)
    .where(table.c.repo_id == bindparam("repo_id"), _UNSENT, _DUE, table.c.serial > bindparam("after"))
    .order_by(table.c.serial)
    .limit(bindparam("most"))
)
GOING_FIRST = (
    select(*_COLUMNS)
    .where(table.c.repo_id == bindparam("repo_id"), table.c.kind.in_([kind.value for kind in _FIRST]), _UNSENT, _DUE)
    .order_by(table.c.serial)
    .limit(bindparam("most"))
)
WORKING = select(table.c.id, table.c.host_id, table.c.repo_id, table.c.kind).where(
    _some(table.c.host_id, "host_ids"), _ACTIVE
)
ROOMS = select(repos.c.id, repos.c.max_parallel).where(_some(repos.c.id, "repo_ids"))
LOADS = (
    select(table.c.repo_id, func.min(table.c.id), table.c.kind, _BY_SERVER, func.count())
    .where(_some(table.c.repo_id, "repo_ids"), _ACTIVE)
    .group_by(table.c.repo_id, table.c.kind, _BY_SERVER)
)
SOURCE_LOADS = (
    select(table.c.source_repo_id, func.min(table.c.id), func.count())
    .where(_some(table.c.source_repo_id, "repo_ids"), _ACTIVE)
    .group_by(table.c.source_repo_id)
)
_WAITED_FOR = select(table.c.waits_for_job).distinct().where(_some(table.c.waits_for_job, "job_ids"), _UNSENT)
_UNFINISHED = select(table.c.id).where(_some(table.c.id, "job_ids"), table.c.status.in_(UNFINISHED))
REPOS_OF_QUEUE = select(table.c.repo_id).distinct().where(table.c.host_id == bindparam("host_id"), _UNSENT)
WAITING_INITS = select(table.c.id, table.c.host_id, table.c.repo_id, table.c.actor_kind).where(
    _UNSENT, table.c.kind == Kind.INIT.value
)
_NAMES = select(hosts.c.id, hosts.c.restic_host).where(_some(hosts.c.id, "host_ids"))


def rows_of(tx: Connection, statement: Executable, name: str, values: Sequence[str], **more: object) -> list[Any]:
    """Given a statement about many values, return its rows; the values are asked for in pieces."""
    found: list[Any] = []
    for part in parts(values):
        found += tx.execute(statement, {name: list(part), **more}).fetchall()
    return found


def as_queued(job_id: str, *, repo_id: str, kind: Kind, by_server: bool, **more: Any) -> Queued:
    """Given what a job is, return it as the choice sees it: an unlock by the server's own wish is alone."""
    given: dict[str, Any] = {"serial": 0, "host_id": "", **more}
    return Queued(job_id=job_id, repo_id=repo_id, kind=kind, alone=by_server and kind is Kind.UNLOCK, **given)


def queued(tx: Connection, rows: Sequence[Any], now: datetime) -> list[Queued]:
    """Given rows of _COLUMNS, return what choosing needs of them."""
    waiting = waited_for(tx, [row.id for row in rows if Kind(row.kind) in {Kind.INIT, Kind.UNLOCK}])
    pending = _among(tx, _UNFINISHED, {row.waits_for_job for row in rows if row.waits_for_job is not None})
    return [
        as_queued(
            row.id,
            repo_id=row.repo_id,
            kind=Kind(row.kind),
            by_server=bool(row.by_server),
            serial=row.serial,
            host_id=row.host_id,
            waits_for=row.waits_for_job if row.waits_for_job in pending else None,
            urgent=row.id in waiting or (bool(row.by_server) and row.kind == Kind.INIT.value),
            source_id=row.source_repo_id,
            pressing=now - max(row.created_at, row.not_before or row.created_at) > PATIENCE,
        )
        for row in rows
    ]


def waited_for(tx: Connection, job_ids: list[str]) -> set[str]:
    """Given jobs, return those that some queued job waits for."""
    return _among(tx, _WAITED_FOR, set(job_ids))


def _among(tx: Connection, statement: Executable, job_ids: set[str]) -> set[str]:
    return {row[0] for row in rows_of(tx, statement, "job_ids", sorted(job_ids))}


def restic_hosts(tx: Connection, host_ids: set[str]) -> dict[str, str]:
    return {row[0]: row[1] for row in rows_of(tx, _NAMES, "host_ids", sorted(host_ids))}
