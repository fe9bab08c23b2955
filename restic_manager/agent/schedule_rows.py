"""Schedules in the journal: entries with their watermarks, sealed standing orders, fires, and when nobody looked.

Plain functions over one connection, in its thread, like `records`. Decides nothing: marks come from `domain.planning`.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Literal

import msgspec

from restic_manager.agent.records import from_micros, get_meta, set_meta, to_micros
from restic_manager.domain.model import Evidence
from restic_manager.domain.planning import Fire, Mark
from restic_manager.protocol.messages import Entry


def load_schedules(
    db: sqlite3.Connection,
) -> tuple[list[tuple[bytes, int]], dict[str, tuple[Fire | None, bool, bool, Fire | None]]]:
    """Return the entries with their watermarks, and per schedule its pending fire (sent, superseded) and held one."""
    entries = [(bytes(body), int(watermark)) for body, watermark in db.execute("SELECT body, watermark FROM entries")]
    fires: dict[str, tuple[Fire | None, bool, bool, Fire | None]] = {}
    for row in db.execute(
        "SELECT schedule_id, role, slot, revision, trigger, stands_for, sent, superseded, evidence FROM fires"
    ):
        schedule_id, role, slot, revision, trigger, stands_for, sent, superseded, late = row
        trigger_: Literal["tick", "catch-up"] = "tick" if trigger == "tick" else "catch-up"
        evidence = None if late is None else msgspec.json.decode(late, type=Evidence)
        fire = Fire(from_micros(slot), int(revision), trigger_, int(stands_for), evidence)
        pending, was_sent, was_superseded, held = fires.get(schedule_id, (None, False, False, None))
        if role == "pending":
            fires[schedule_id] = (fire, bool(sent), bool(superseded), held)
        else:
            fires[schedule_id] = (pending, was_sent, was_superseded, fire)
    return entries, fires


def save_entry(db: sqlite3.Connection, entry: Entry, watermark: datetime, sealed_order: bytes | None) -> None:
    """Store an entry as it is in force now. Its standing order holds secrets: it is kept sealed, or not at all."""
    body = msgspec.json.encode(msgspec.structs.replace(entry, standing_order=None))
    db.execute(
        "INSERT INTO entries VALUES (?, ?, ?)"
        " ON CONFLICT (schedule_id) DO UPDATE SET body = excluded.body, watermark = excluded.watermark",
        (entry.schedule_id, body, to_micros(watermark)),
    )
    if sealed_order is None:
        db.execute("DELETE FROM orders WHERE schedule_id = ?", (entry.schedule_id,))
    else:
        db.execute("INSERT OR REPLACE INTO orders VALUES (?, ?)", (entry.schedule_id, sealed_order))


def sealed_order(db: sqlite3.Connection, schedule_id: str) -> bytes | None:
    """Given a schedule, return its sealed standing order, or None where none is kept."""
    row = db.execute("SELECT sealed FROM orders WHERE schedule_id = ?", (schedule_id,)).fetchone()
    return None if row is None else bytes(row[0])


def any_sealed_order(db: sqlite3.Connection) -> tuple[str, bytes] | None:
    """Return one of the sealed standing orders and its schedule, None where none is kept."""
    row = db.execute("SELECT schedule_id, sealed FROM orders LIMIT 1").fetchone()
    return None if row is None else (str(row[0]), bytes(row[1]))


def sealed_orders(db: sqlite3.Connection) -> list[tuple[str, bytes]]:
    """Return every standing order kept, sealed, with its schedule."""
    return [(str(key), bytes(sealed)) for key, sealed in db.execute("SELECT schedule_id, sealed FROM orders")]


def drop_orders(db: sqlite3.Connection) -> None:
    """Forget every standing order and what was kept of running jobs: this agent keeps no secrets."""
    db.execute("DELETE FROM orders")
    db.execute("UPDATE jobs SET sealed = NULL")


def drop_entry(db: sqlite3.Connection, schedule_id: str) -> None:
    """Forget an entry that left the set, and its standing order; its fires stay as the mark says."""
    db.execute("DELETE FROM entries WHERE schedule_id = ?", (schedule_id,))
    db.execute("DELETE FROM orders WHERE schedule_id = ?", (schedule_id,))


def save_mark(db: sqlite3.Connection, schedule_id: str, before: Mark | None, after: Mark) -> None:
    """Store what changed of a mark."""
    if before is None or before.watermark != after.watermark:
        db.execute("UPDATE entries SET watermark = ? WHERE schedule_id = ?", (to_micros(after.watermark), schedule_id))
    old = (None, False, False) if before is None else (before.pending, before.sent, before.superseded)
    if old != (after.pending, after.sent, after.superseded):
        _save_fire(db, schedule_id, "pending", after.pending, sent=after.sent, superseded=after.superseded)
    if (None if before is None else before.held) != after.held:
        _save_fire(db, schedule_id, "held", after.held, sent=False, superseded=False)


def _save_fire(
    db: sqlite3.Connection, schedule_id: str, role: str, fire: Fire | None, *, sent: bool, superseded: bool
) -> None:
    if fire is None:
        db.execute("DELETE FROM fires WHERE schedule_id = ? AND role = ?", (schedule_id, role))
        return
    late = None if fire.evidence is None else msgspec.json.encode(fire.evidence).decode()
    db.execute(
        "INSERT OR REPLACE INTO fires (schedule_id, role, slot, revision, trigger, stands_for, sent, superseded,"
        " evidence) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (schedule_id, role, to_micros(fire.slot), fire.revision, fire.trigger, fire.stands_for, sent, superseded, late),
    )


def load_gaps(db: sqlite3.Connection) -> tuple[Evidence, ...]:
    """Return the times in which no slot could be seen, as they were journaled last."""
    known = get_meta(db, "gaps")
    return () if known is None else msgspec.json.decode(known, type=tuple[Evidence, ...])


def save_gaps(db: sqlite3.Connection, gaps: tuple[Evidence, ...]) -> None:
    """Store the times in which no slot could be seen."""
    set_meta(db, "gaps", msgspec.json.encode(gaps).decode())
