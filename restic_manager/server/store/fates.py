"""The ledger's rows: what became of each slot. Owns that no two rows of a (schedule, host) share an instant.

A row stands for every slot from its first to its last. What is recorded again changes nothing, what is told of slots
that have a fate is cut down to those that have none, and what only the server thought gives way to the agent's word and
to a run. It refuses to know when a fate is right, and how the ledger is read (`ledger`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Row, bindparam, select

from restic_manager.domain.firing import FUTURE_LIMIT, Interval, KnownFate
from restic_manager.domain.instants import slot_text
from restic_manager.domain.ledger import Fated
from restic_manager.domain.model import Evidence, Fate
from restic_manager.domain.spans import Span, Stretch, remainder
from restic_manager.server.store.schema import fates

AGENT: Final = "agent"
SERVER: Final = "server"

_evidence: Final = msgspec.json.Decoder(Evidence)


class Pair(Struct, frozen=True):
    """A schedule on a host: whose ledger it is."""

    schedule_id: str
    host_id: str


class Stored(Struct, frozen=True):
    """A recorded fate, the id of its row, and when it was recorded, by the server's clock."""

    row_id: int
    fate: Fated
    recorded_at: datetime

    @property
    def stretch(self) -> Stretch:
        """The time it stands for."""
        return Stretch(self.fate.first, self.fate.last)

    @property
    def firm(self) -> Stretch | None:
        """The part of it that an agent's later word does not change, None for none.

        What was told before its time came from a clock that was fast, and does not bind the host once that is set.
        """
        if self.fate.fate is Fate.RAN:
            return self.stretch
        if self.fate.by == SERVER:
            return None
        through = min(self.fate.last, self.recorded_at + FUTURE_LIMIT)
        return Stretch(self.fate.first, through) if through >= self.fate.first else None

    @property
    def known(self) -> KnownFate:
        """What answering a fire needs of it."""
        return KnownFate(self.fate.fate, self.fate.reason)


def record_ran(
    tx: Connection,
    *,
    schedule_id: str,
    host_id: str,
    revision: int,
    slot: datetime,
    job_id: str,
    now: datetime,
    evidence: Evidence | None = None,
) -> None:
    """Given a slot that has no fate and its job, write its fate. Belongs in the transaction that makes the job.

    evidence: what made it late, for a catch-up.
    """
    _insert(
        tx,
        Pair(schedule_id, host_id),
        [Fated(first=slot, last=slot, count=1, revision=revision, fate=Fate.RAN, job_id=job_id, evidence=evidence)],
        now,
    )


def record(
    tx: Connection,
    *,
    schedule_id: str,
    host_id: str,
    revision: int,
    first: datetime,
    last: datetime,
    count: int,
    fate: Fate,
    reason: str,
    into: datetime | None,
    evidence: Evidence | None,
    now: datetime,
    intervals: Sequence[Interval] = (),
    by: str = AGENT,
) -> str | None:
    """Given a fate that makes no job, write it for those of its slots that have none; None when that is well.

    Where all its slots have a fate already it is a repeat, and well, if one of them is this; else return why it cannot
    be. intervals: all the host ever had of the schedule, by which slots are counted when it is cut.
    """
    pair = Pair(schedule_id, host_id)
    told = Fated(
        first=first,
        last=last,
        count=count,
        revision=revision,
        fate=fate,
        reason=reason or None,
        into=into,
        evidence=evidence,
        by=by,
    )
    there = overlapping(tx, pair, first, last)
    taken = [one.stretch if by == SERVER else one.firm for one in there]
    pieces = remainder(Span(first, last, count), revision, intervals, [stretch for stretch in taken if stretch])
    if not pieces:
        firm = [one.fate for one, stretch in zip(there, taken, strict=True) if stretch]
        if not firm or any(one.fate is fate and one.revision == revision for one in firm):
            return None
        held = firm[0]
        why = f" ({held.reason})" if held.reason else ""
        return f"it says {fate} of slots that have their fate: {slot_text(held.first)} is {held.fate}{why}"
    for one, stretch in zip(there, taken, strict=True):
        if stretch != one.stretch:
            cut_out(tx, pair, one, [Stretch(piece.first, piece.last) for piece in pieces], intervals=intervals)
    _insert(tx, pair, [_piece(told, piece) for piece in pieces], now)
    return None


def at(tx: Connection, pair: Pair, slot: datetime) -> Stored | None:
    """Given a slot, return the fate the ledger holds for it, None for none."""
    row = tx.execute(_ENDING_AT_OR_AFTER, _key(pair) | {"slot": slot}).first()
    return None if row is None or row.first_slot > slot else _stored(row)


def overlapping(tx: Connection, pair: Pair, first: datetime, last: datetime) -> list[Stored]:
    """Given a stretch of time, return the fates that share an instant with it, in order. Two index look-ups."""
    rows = list(tx.execute(_ENDING_WITHIN, _key(pair) | {"first": first, "last": last}))
    beyond = tx.execute(_ENDING_AFTER, _key(pair) | {"slot": last}).first()
    if beyond is not None and beyond.first_slot <= last:
        rows.append(beyond)
    return [_stored(row) for row in rows]


def cut_out(
    tx: Connection,
    pair: Pair,
    stored: Stored,
    stretches: Sequence[Stretch],
    *,
    intervals: Sequence[Interval],
) -> None:
    """Given a recorded fate and stretches in order that turn out to be otherwise, leave it to its other slots."""
    fate = stored.fate
    rest = remainder(Span(fate.first, fate.last, fate.count), fate.revision, intervals, stretches)
    tx.execute(fates.delete().where(fates.c.id == stored.row_id))
    _insert(tx, pair, [_piece(fate, piece) for piece in rest], stored.recorded_at)


def newest(tx: Connection, pair: Pair, now: datetime) -> datetime | None:
    """Given a schedule on a host, return the newest slot that has a fate: now, where fates reach beyond it."""
    found: datetime | None = tx.execute(_NEWEST, _key(pair)).scalar()
    return None if found is None else min(found, now)


def page(tx: Connection, pair: Pair, *, since: datetime, until: datetime, limit: int) -> list[Stored]:
    """Given a window, return the newest fates with a slot in it, at most `limit`, in order."""
    beyond = tx.execute(_ENDING_AFTER, _key(pair) | {"slot": until}).first()
    rows = list(tx.execute(_PAGE, _key(pair) | {"first": since, "last": until, "most": limit}))
    if beyond is not None and beyond.first_slot <= until:
        rows = [beyond, *rows[: limit - 1]]
    return [_stored(row) for row in reversed(rows)]


_MINE = (fates.c.schedule_id == bindparam("schedule_id"), fates.c.host_id == bindparam("host_id"))
_ENDING_AT_OR_AFTER = (
    select(fates).where(*_MINE, fates.c.last_slot >= bindparam("slot")).order_by(fates.c.last_slot).limit(1)
)
_ENDING_AFTER = select(fates).where(*_MINE, fates.c.last_slot > bindparam("slot")).order_by(fates.c.last_slot).limit(1)
_ENDING_WITHIN = (
    select(fates)
    .where(*_MINE, fates.c.last_slot >= bindparam("first"), fates.c.last_slot <= bindparam("last"))
    .order_by(fates.c.last_slot)
)
_PAGE = (
    select(fates)
    .where(*_MINE, fates.c.last_slot >= bindparam("first"), fates.c.last_slot <= bindparam("last"))
    .order_by(fates.c.last_slot.desc())
    .limit(bindparam("most"))
)
_NEWEST = select(fates.c.last_slot).where(*_MINE).order_by(fates.c.last_slot.desc()).limit(1)


def _key(pair: Pair) -> dict[str, Any]:
    return {"schedule_id": pair.schedule_id, "host_id": pair.host_id}


def _piece(fate: Fated, piece: Span) -> Fated:
    return msgspec.structs.replace(fate, first=piece.first, last=piece.last, count=piece.count)


def _insert(tx: Connection, pair: Pair, rows: Iterable[Fated], now: datetime) -> None:
    values = [
        {
            "schedule_id": pair.schedule_id,
            "host_id": pair.host_id,
            "revision": row.revision,
            "first_slot": row.first,
            "last_slot": row.last,
            "count": row.count,
            "fate": row.fate.value,
            "reason": row.reason,
            "job_id": row.job_id,
            "into_slot": row.into,
            "evidence": None if row.evidence is None else msgspec.json.encode(row.evidence).decode(),
            "recorded_at": now,
            "decided_by": row.by,
        }
        for row in rows
    ]
    if values:
        tx.execute(fates.insert(), values)


def _stored(row: Row[Any]) -> Stored:
    found = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it, the underscore keeps it off column names
    fate = Fated(
        first=found["first_slot"],
        last=found["last_slot"],
        count=found["count"],
        revision=found["revision"],
        fate=Fate(found["fate"]),
        reason=found["reason"],
        job_id=found["job_id"],
        into=found["into_slot"],
        evidence=None if found["evidence"] is None else _evidence.decode(found["evidence"]),
        by=found["decided_by"],
    )
    return Stored(found["id"], fate, found["recorded_at"])
