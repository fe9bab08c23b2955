"""All times in which one host had one schedule, as the domain reads them. Changes of them are `membership`."""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import Connection, bindparam, select

from restic_manager.domain.firing import Interval
from restic_manager.domain.model import Timing
from restic_manager.server.store.fates import Pair
from restic_manager.server.store.schema import assignments


class Owned(Struct, frozen=True):
    """The intervals, oldest first, and beside each the version of the host's set that first was without it."""

    intervals: tuple[Interval, ...]
    ended_versions: tuple[int | None, ...]


_OF_PAIR = (
    select(assignments)
    .where(assignments.c.schedule_id == bindparam("schedule_id"), assignments.c.host_id == bindparam("host_id"))
    .order_by(assignments.c.id)
)


def of_pair(tx: Connection, pair: Pair) -> Owned:
    """Given a schedule and a host, return all times in which the host had it."""
    rows = tx.execute(_OF_PAIR, {"schedule_id": pair.schedule_id, "host_id": pair.host_id}).all()
    return Owned(
        tuple(
            Interval(
                revision=row.revision,
                timing=Timing(cron=row.cron, timezone=row.timezone, anchor=row.anchor, splay=row.splay),
                enabled=row.enabled,
                valid_from=row.valid_from,
                valid_to=row.valid_to,
            )
            for row in rows
        ),
        tuple(row.ended_version for row in rows),
    )
