"""The audit: who did or was refused what, row by row, each sealed to the one before. Owns the `audit` table.

A row's hash is SHA-256 over its own JSON, which holds the hash of the row before: whoever changes, takes out or slips
in a row has to write all later ones anew, and the newest hash is then another. When the oldest rows are taken away, a
row says up to which, and the chain begins there. It refuses to know what operations are; never hand it a secret.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, func, select

from restic_manager.domain.roles import Role
from restic_manager.protocol.api import AuditCheck, AuditView
from restic_manager.server.store.schema import audit

FIRST: Final = "0" * 64
"""What stands for the hash before the first row."""
PRUNED: Final = "audit_prune"
"""The operation of the rows that tell up to where older ones were taken away."""
LONGEST: Final = 500
"""Characters of one text in a row; longer ones are cut, and show it."""
_facts: Final = msgspec.json.Decoder(dict[str, str])


class Entry(Struct, frozen=True, kw_only=True):
    """What a row is to say. before, after: of what was acted on, as text by name; only differences are kept."""

    who: str
    role: Role | None
    origin: str
    operation: str
    object: str | None = None
    object_id: str | None = None
    before: Mapping[str, str] = {}
    after: Mapping[str, str] = {}
    outcome: str = "done"
    message: str | None = None


class Walk(Struct, frozen=True, kw_only=True):
    """How far the chain was walked: the last row that fits, and how many did."""

    rows: int = 0
    first: int | None = None
    seq: int = 0
    hash: str = FIRST
    broken: int | None = None
    problem: str | None = None

    @property
    def check(self) -> AuditCheck:
        """What it found, as an operator sees it."""
        last = None if self.first is None else self.seq
        known = None if self.first is None else self.hash
        return AuditCheck(
            rows=self.rows, first=self.first, last=last, hash=known, broken=self.broken, problem=self.problem
        )


def record(tx: Connection, entry: Entry, *, now: datetime) -> None:
    """Given what was done or refused, write it down as the newest row."""
    newest = tx.execute(select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)).first()
    seq, previous = (0, FIRST) if newest is None else (newest.seq, newest.hash)
    differing = sorted(
        name for name in {*entry.before, *entry.after} if entry.before.get(name) != entry.after.get(name)
    )
    view = AuditView(
        seq=seq + 1,
        at=now,
        who=_cut(entry.who),
        role=entry.role,
        origin=_cut(entry.origin),
        operation=entry.operation,
        object=None if entry.object is None else _cut(entry.object),
        object_id=entry.object_id,
        before={name: _cut(entry.before[name]) for name in differing if name in entry.before},
        after={name: _cut(entry.after[name]) for name in differing if name in entry.after},
        outcome=entry.outcome,
        message=None if entry.message is None else _cut(entry.message),
        previous=previous,
        hash="",
    )
    values = msgspec.structs.asdict(view)
    for name in ("before", "after"):
        values[name] = msgspec.json.encode(values[name]).decode()
    tx.execute(audit.insert().values({**values, "hash": hash_of(view)}))


def hash_of(row: AuditView) -> str:
    """Given a row, return the hash that it has to have: of its JSON without the last field, its `hash`."""
    text = msgspec.json.encode(row)
    return hashlib.sha256(text[: text.rindex(b',"hash":')] + b"}").hexdigest()


def latest(tx: Connection, *, limit: int, since: datetime | None = None, who: str | None = None) -> list[AuditView]:
    """Return the newest rows (since an instant, of one operator), newest first, at most `limit`."""
    query = select(audit).order_by(audit.c.seq.desc()).limit(limit)
    if since is not None:
        query = query.where(audit.c.at >= since)
    if who is not None:
        query = query.where(audit.c.who == who)
    return [_view(row) for row in tx.execute(query).mappings()]


def after(tx: Connection, seq: int, *, limit: int) -> list[AuditView]:
    """Return the rows after this one, oldest first, at most `limit`."""
    query = select(audit).where(audit.c.seq > seq).order_by(audit.c.seq).limit(limit)
    return [_view(row) for row in tx.execute(query).mappings()]


def walk(tx: Connection, done: Walk, *, limit: int) -> Walk:
    """Given how far the chain was walked, walk at most `limit` rows further, up to the first that does not fit."""
    for row in after(tx, done.seq, limit=limit):
        expected = done.hash
        if done.first is None:
            expected, problem = _beginning(tx, row)
        else:
            problem = None if row.seq == done.seq + 1 else f"rows {done.seq + 1} to {row.seq - 1} are missing"
        if problem is None and row.previous != expected:
            problem = "it does not name the hash of the row before: one of the two was changed, or came in later"
        if problem is None and row.hash != hash_of(row):
            problem = "its hash is not that of what it says: it was changed"
        if problem is not None:
            return msgspec.structs.replace(done, broken=row.seq, problem=problem)
        done = Walk(rows=done.rows + 1, first=row.seq if done.first is None else done.first, seq=row.seq, hash=row.hash)
    return done


def forget(tx: Connection, *, before: datetime, keep: int, limit: int, now: datetime) -> int:
    """Take at most `limit` of the oldest rows away that are older than an instant, or beyond the newest `keep`.

    Return how many were; a row says so. At least the newest row stays.
    """
    newest = tx.execute(select(func.max(audit.c.seq))).scalar()
    if newest is None:
        return 0
    query = (
        select(audit.c.seq, audit.c.hash)
        .where(((audit.c.at < before) | (audit.c.seq <= newest - keep)) & (audit.c.seq < newest))
        .order_by(audit.c.seq)
        .limit(limit)
    )
    going = tx.execute(query).all()
    if not going:
        return 0
    last = going[-1]
    tx.execute(audit.delete().where(audit.c.seq <= last.seq))
    entry = Entry(
        who="server",
        role=None,
        origin="server",
        operation=PRUNED,
        object=f"audit up to row {last.seq}",
        after={"seq": str(last.seq), "hash": last.hash},
    )
    record(tx, entry, now=now)
    return len(going)


def _beginning(tx: Connection, row: AuditView) -> tuple[str, str | None]:
    """Given the oldest row there is, return the hash before it, and what is wrong if nothing tells why it begins so."""
    if row.seq == 1:
        return FIRST, None
    query = select(audit).where(audit.c.operation == PRUNED).order_by(audit.c.seq.desc()).limit(1)
    told = tx.execute(query).mappings().first()
    pruned = {} if told is None else _view(told).after
    if pruned.get("seq") != str(row.seq - 1):
        return "", f"rows 1 to {row.seq - 1} are missing, and no row says that they were taken away for their age"
    return pruned.get("hash", ""), None


def _view(row: Mapping[Any, Any]) -> AuditView:
    values = {name: row[name] for name in AuditView.__struct_fields__}
    values |= {name: _facts.decode(values[name]) for name in ("before", "after")}
    return AuditView(**{**values, "role": None if values["role"] is None else Role(values["role"])})


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
