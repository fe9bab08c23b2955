"""Pauses as read: which hold now, and when the next one ends. What beginning and ending one does is `pause_changes`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import Connection, func, or_, select

from restic_manager.domain.pausing import Pause, Pauses, Scope
from restic_manager.server.store.schema import hosts, schedules
from restic_manager.server.store.schema import pauses as table


class PauseRow(Struct, frozen=True, kw_only=True):
    """One pause. name: of the host or the schedule as it is now; target and name are None for the fleet."""

    id: str
    scope: Scope
    target: str | None
    name: str | None
    reason: str
    since: datetime
    until: datetime | None
    who: str


def holding(tx: Connection, now: datetime) -> list[PauseRow]:
    """Return the pauses that hold at this moment, the oldest first; those of what was removed are left out."""
    query = (
        select(table, hosts.c.name.label("host_name"), schedules.c.name.label("schedule_name"))
        .join(hosts, hosts.c.id == table.c.host_id, isouter=True)
        .join(schedules, schedules.c.id == table.c.schedule_id, isouter=True)
        .where(
            table.c.ended_at.is_(None),
            or_(table.c.until.is_(None), table.c.until > now),
            hosts.c.removed_at.is_(None),
            schedules.c.removed_at.is_(None),
        )
        .order_by(table.c.since, table.c.id)
    )
    return [
        PauseRow(
            id=row.id,
            scope=Scope(row.scope),
            target=row.host_id or row.schedule_id,
            name=row.host_name or row.schedule_name,
            reason=row.reason,
            since=row.since,
            until=row.until,
            who=row.who,
        )
        for row in tx.execute(query)
    ]


def composed(tx: Connection, now: datetime) -> Pauses:
    """Return what the pauses that hold at this moment mean together."""
    return together(holding(tx, now))


def together(rows: Sequence[PauseRow]) -> Pauses:
    """Given pauses, return what they mean together."""
    return Pauses(
        Pause(scope=row.scope, target=row.target, reason=row.reason, since=row.since, until=row.until) for row in rows
    )


def next_end(tx: Connection) -> datetime | None:
    """Return when the next open pause is to end, None if none ends by itself."""
    end: datetime | None = tx.execute(select(func.min(table.c.until)).where(table.c.ended_at.is_(None))).scalar()
    return end
