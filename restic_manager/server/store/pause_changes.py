"""Beginning and ending pauses: of the fleet, of a host, of a schedule. Owns the `pauses` table's changes.

What a pause means is written into the intervals of `assignments` at once: from then on they alone decide about slots,
so a slot is judged by what held at its own instant, whoever hears of it when. What is to be when a pause with an end is
over is written there, too, and told to the hosts in advance: an end needs nobody. Every change returns the ids of the
hosts whose set changed. It refuses to know sessions, and when an end is due.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection, and_, select

from restic_manager.domain.errors import ConflictError, InputError
from restic_manager.domain.instants import instant_text
from restic_manager.domain.model import new_id
from restic_manager.domain.pausing import Scope, reason_text
from restic_manager.server.store import events, membership, pauses
from restic_manager.server.store.schema import pauses as table

_OPERATOR: Final = "operator"


class Target(NamedTuple):
    """What is paused: its id and name, None both for the fleet."""

    scope: Scope
    id: str | None = None
    name: str | None = None

    def __str__(self) -> str:
        """Name it in a sentence."""
        return "the fleet" if self.scope is Scope.FLEET else f"{self.scope} {self.name}"


FLEET: Final = Target(Scope.FLEET)


def pause(tx: Connection, target: Target, *, reason: str, until: datetime | None, now: datetime) -> list[str]:
    """Given what to pause, let no slot of it run from now on; one that is paused already gets the new reason and end.

    Return the ids of the hosts whose set changed. Raise InputError for an end that is past, and a reason of several
    lines.
    """
    if until is not None and until <= now:
        raise InputError(f"the pause would end at {instant_text(until)}, which is past: it is {instant_text(now)} now")
    if not reason.isprintable():
        raise InputError(f"the reason {reason!r} holds characters that cannot be shown: write one line of plain text")
    changed = set(end_due(tx, now=now))
    values = {"reason": reason, "until": until, "who": _OPERATOR}
    known = _open(tx, target)
    if known is not None:
        tx.execute(table.update().where(table.c.id == known).values(values))
    else:
        ids = {"host_id": target.id} if target.scope is Scope.HOST else {"schedule_id": target.id}
        tx.execute(table.insert().values(id=new_id(), scope=target.scope.value, since=now, **ids, **values))
    changed.update(_apply(tx, target, now))
    ends = "until it is resumed" if until is None else f"until {instant_text(until)}"
    _note(tx, target, now, "paused", f"{target} was {reason_text(reason)} ({ends})", actor=_OPERATOR)
    return sorted(changed)


def resume(tx: Connection, target: Target, *, now: datetime) -> list[str]:
    """Given what is paused, end that from now on; return the ids of the hosts whose set changed.

    Raise ConflictError when it is not paused. Other pauses may hold it still.
    """
    changed = set(end_due(tx, now=now))
    known = _open(tx, target)
    if known is None:
        raise ConflictError(f"{target} is not paused: there is nothing to resume")
    tx.execute(table.update().where(table.c.id == known).values(ended_at=now))
    changed.update(_apply(tx, target, now))
    _note(tx, target, now, "resumed", f"{target} was resumed", actor=_OPERATOR)
    return sorted(changed)


def end_due(tx: Connection, *, now: datetime) -> list[str]:
    """End the pauses whose end has come, each at its own instant; return the ids of the hosts whose set changed.

    However late this is, and however many have ended meanwhile: the intervals are what they had been announced to be.
    """
    due = tx.execute(
        select(table).where(table.c.ended_at.is_(None), table.c.until <= now).order_by(table.c.until, table.c.id)
    ).all()
    changed = set(membership.take_turns(tx, now=now)) if due else set()
    for row in due:
        tx.execute(table.update().where(table.c.id == row.id).values(ended_at=row.until))
        target = Target(Scope(row.scope), row.host_id or row.schedule_id, None)
        # Nothing is left to do here but for intervals from before ends were announced. What has begun later knows.
        changed.update(_apply(tx, target, row.until, begun_by=row.until))
        _note(tx, target, now, "resumed", f"the pause of the {row.scope} since {instant_text(row.since)} has ended")
    return sorted(changed)


def look_over(tx: Connection, *, now: datetime) -> list[str]:
    """End what is due, and announce the ends of pauses that an earlier program made; return as `end_due` does."""
    return sorted({*end_due(tx, now=now), *membership.switch(tx, pauses.composed(tx, now), now=now)})


def _open(tx: Connection, target: Target) -> str | None:
    column = table.c.schedule_id if target.scope is Scope.SCHEDULE else table.c.host_id
    mine = and_(table.c.scope == target.scope.value, table.c.ended_at.is_(None), column.is_not_distinct_from(target.id))
    found: str | None = tx.execute(select(table.c.id).where(mine)).scalar()
    return found


def _apply(tx: Connection, target: Target, at: datetime, *, begun_by: datetime | None = None) -> list[str]:
    """Bring the intervals in line with what holds from this instant on."""
    return membership.switch(
        tx,
        pauses.composed(tx, at),
        host_id=target.id if target.scope is Scope.HOST else None,
        schedule_id=target.id if target.scope is Scope.SCHEDULE else None,
        begun_by=begun_by,
        now=at,
    )


def _note(tx: Connection, target: Target, now: datetime, what: str, detail: str, *, actor: str = "server") -> None:
    host_id = target.id if target.scope is Scope.HOST else None
    events.record(tx, now=now, actor=actor, what=what, host_id=host_id, detail=detail)
