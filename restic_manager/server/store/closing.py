"""Fates the server writes itself: of slots that no agent will tell of any more. Owns when that is so.

An agent that has applied a set without an interval has told all it ever will of that interval, or the news is under
way: what is written here is the server's word, which gives way to the agent's (`fates`). So writing early costs
nothing. It refuses to know sessions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, select

from restic_manager.domain.firing import Interval
from restic_manager.domain.model import Fate
from restic_manager.domain.spans import SECOND, shifted, within
from restic_manager.server.store import fates, history
from restic_manager.server.store.fates import Pair
from restic_manager.server.store.intervals import of_pair
from restic_manager.server.store.schema import assignments

RECORDS_LOST: Final = "the agent's records were lost"


def close_ended(
    tx: Connection,
    host_id: str,
    *,
    since: int,
    through: int,
    refused: Mapping[str, str],
    clock_offset: float,
    now: datetime,
) -> None:
    """Given that a host has applied version `through` of its set after `since`, close what ended on the way.

    refused: by schedule, why its agent could not use it until now.
    """
    query = (
        select(assignments.c.schedule_id)
        .distinct()
        .where(
            assignments.c.host_id == host_id,
            assignments.c.valid_to.is_not(None),
            assignments.c.ended_version > since,
            assignments.c.ended_version <= through,
        )
        .order_by(assignments.c.schedule_id)
    )
    for schedule_id in tx.execute(query).scalars().all():
        pair = Pair(schedule_id, host_id)
        found = of_pair(tx, pair)
        owned = shifted(found.intervals, clock_offset)
        for number, (interval, version) in enumerate(zip(owned, found.ended_versions, strict=True)):
            if version is None or not since < version <= through:
                continue
            following = owned[number + 1] if number + 1 < len(owned) else None
            fate, reason = _why_ended(interval, following, refused.get(schedule_id))
            _close(tx, pair, interval, owned, through=interval.valid_to or now, fate=fate, reason=reason, now=now)


def close_lost(tx: Connection, host_id: str, *, clock_offset: float, now: datetime) -> None:
    """Given a host that came back with a new journal, close what its old one had not told of.

    The new journal begins where the ledger ends, so nobody will tell of a slot before that.
    """
    query = select(assignments.c.schedule_id).distinct().where(assignments.c.host_id == host_id)
    for schedule_id in tx.execute(query.order_by(assignments.c.schedule_id)).scalars().all():
        pair = Pair(schedule_id, host_id)
        decided_through = fates.newest(tx, pair, now)
        if decided_through is None:
            continue
        owned = shifted(of_pair(tx, pair).intervals, clock_offset)
        for interval in owned:
            if interval.enabled:
                _close(
                    tx, pair, interval, owned, through=decided_through, fate=Fate.MISSED, reason=RECORDS_LOST, now=now
                )


def _close(
    tx: Connection,
    pair: Pair,
    interval: Interval,
    owned: Sequence[Interval],
    *,
    through: datetime,
    fate: Fate,
    reason: str,
    now: datetime,
) -> None:
    """Write this fate for the slots of an interval up to an instant, those that have one already left out."""
    span = within(interval, max(interval.valid_from, history.kept_from(tx, pair, now) - SECOND), through)
    if span is not None:
        fates.record(
            tx,
            schedule_id=pair.schedule_id,
            host_id=pair.host_id,
            revision=interval.revision,
            first=span.first,
            last=span.last,
            count=span.count,
            fate=fate,
            reason=reason[:256],
            into=None,
            evidence=None,
            now=now,
            intervals=owned,
            by=fates.SERVER,
        )


def _why_ended(interval: Interval, following: Interval | None, refused: str | None) -> tuple[Fate, str]:
    if not interval.enabled:
        return Fate.SKIPPED, interval.off_reason or "disabled"
    if refused is not None:
        return Fate.REJECTED, f"its agent cannot use the schedule: {refused}"
    if following is not None and following.valid_from == interval.valid_to:
        return Fate.SKIPPED, f"superseded by revision {following.revision}"
    return Fate.SKIPPED, "removed"
