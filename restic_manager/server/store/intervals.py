"""All times in which one host had one schedule, as the domain reads them. Changes of them are `membership`."""

from __future__ import annotations

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, bindparam, select

from restic_manager.domain.firing import Interval
from restic_manager.domain.model import Timing
from restic_manager.server.store import turns
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
    """Given a schedule and a host, return all times in which the host had it; those announced for later, too."""
    intervals: list[Interval] = []
    ended_versions: list[int | None] = []
    for row in tx.execute(_OF_PAIR, {"schedule_id": pair.schedule_id, "host_id": pair.host_id}).mappings():
        present = Interval(
            revision=row["revision"],
            timing=Timing(cron=row["cron"], timezone=row["timezone"], anchor=row["anchor"], splay=row["splay"]),
            enabled=row["enabled"],
            off_reason=row["off_reason"],
            valid_from=row["valid_from"],
            valid_to=row["valid_to"],
        )
        for turn in turns.read(row["turns"]) if row["valid_to"] is None else ():
            begins = max(present.valid_from, turn.at)
            intervals.append(msgspec.structs.replace(present, valid_to=begins))
            ended_versions.append(None)
            present = msgspec.structs.replace(
                present,
                revision=turn.revision,
                enabled=turn.enabled,
                off_reason=turn.off_reason,
                valid_from=begins,
            )
        intervals.append(present)
        ended_versions.append(row["ended_version"])
    return Owned(tuple(intervals), tuple(ended_versions))
