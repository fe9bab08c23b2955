"""What somebody should be able to ask about later: joins, refusals, removals, new epochs. Owns the `events` table.

Refuses to know what is worth an event, and how long history is kept. Never hand it a secret.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import sqlalchemy
from msgspec import Struct
from sqlalchemy import Connection

from restic_manager.server.store import schema

MOST_OF_HOST: Final = 20
"""Events of one sort that one host's doing may make WITHIN this time."""
WITHIN: Final = timedelta(hours=1)


class EventRow(Struct, frozen=True, kw_only=True):
    """One thing that happened. actor: `operator`, `server`, or the name of a host."""

    id: int
    at: datetime
    actor: str
    what: str
    host_id: str | None
    detail: str


def record(tx: Connection, *, now: datetime, actor: str, what: str, detail: str, host_id: str | None = None) -> None:
    """Given what happened and who did it, write it down. detail: a sentence for a person."""
    tx.execute(schema.events.insert().values(at=now, actor=actor, what=what, host_id=host_id, detail=detail))


def record_of_host(tx: Connection, *, now: datetime, actor: str, what: str, detail: str, host_id: str) -> None:
    """Given what a host's own doing led to, write it down, unless that happened too often of late: a host that does
    it without end fills nobody's history.
    """
    rows = schema.events.c
    mine = sqlalchemy.select(rows.id).where(rows.at > now - WITHIN, rows.what == what, rows.host_id == host_id)
    known = len(tx.execute(mine.limit(MOST_OF_HOST)).all())
    if known == MOST_OF_HOST - 1:
        detail += (
            f" (of this sort and host there are {MOST_OF_HOST} within the hour: further ones are not written down)"
        )
    if known < MOST_OF_HOST:
        record(tx, now=now, actor=actor, what=what, detail=detail, host_id=host_id)


def latest(tx: Connection, *, limit: int, host_id: str | None = None, what: str | None = None) -> list[EventRow]:
    """Return the newest events (of one host, of one sort), newest first, at most `limit`."""
    query = sqlalchemy.select(schema.events).order_by(schema.events.c.id.desc()).limit(limit)
    if host_id is not None:
        query = query.where(schema.events.c.host_id == host_id)
    if what is not None:
        query = query.where(schema.events.c.what == what)
    return [EventRow(**row) for row in tx.execute(query).mappings()]


def any_since(tx: Connection, instant: datetime, *, what: str, host_id: str) -> bool:
    """Return whether something of this sort happened to this host after the instant."""
    rows = schema.events.c
    query = sqlalchemy.select(rows.id).where(rows.at > instant, rows.what == what, rows.host_id == host_id).limit(1)
    return tx.execute(query).first() is not None


def forget_before(tx: Connection, instant: datetime, *, limit: int) -> int:
    """Given an instant, delete at most `limit` older events, oldest first; return how many."""
    oldest = (
        sqlalchemy.select(schema.events.c.id)
        .where(schema.events.c.at < instant)
        .order_by(schema.events.c.at)
        .limit(limit)
    )
    return tx.execute(schema.events.delete().where(schema.events.c.id.in_(oldest))).rowcount
