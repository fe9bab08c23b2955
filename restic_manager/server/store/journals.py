"""How far each journal's reports are committed, and the reports that could not be used. Decides nothing about them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, bindparam, select

from restic_manager.protocol.session import JournalRecord
from restic_manager.server.store.schema import journals, quarantine

FRAME_LIMIT: Final = 64 << 10
"""How many characters of a quarantined frame are kept."""
KEPT: Final = 1_000
"""How many quarantined reports of one host are kept: the newest."""
KEPT_JOURNALS: Final = 20
"""Journals of one host that are known: the newest."""
QUIET: Final = timedelta(hours=1)
"""After a quarantined report, how long further ones of the same host are no event of their own."""


_FIND = select(journals.c.acked_through, journals.c.acked_hash).where(
    journals.c.host_id == bindparam("of_host"), journals.c.journal_id == bindparam("of_journal")
)


def find(tx: Connection, host_id: str, journal_id: str) -> JournalRecord | None:
    """Given a host's journal, return how far it is committed, None if it was never seen."""
    row = tx.execute(_FIND, {"of_host": host_id, "of_journal": journal_id}).first()
    return None if row is None else JournalRecord(acked_through=row.acked_through, acked_hash=row.acked_hash)


def begin(tx: Connection, host_id: str, journal_id: str, record: JournalRecord, *, now: datetime) -> bool:
    """Given a journal and from where it goes on, store that; return whether it is new while the host had another.

    A journal that has many newer ones is forgotten: who comes back with it is told to take a new one.
    """
    if find(tx, host_id, journal_id) is not None:
        advance(tx, host_id, journal_id, record)
        return False
    of_host = journals.c.host_id == host_id
    newest_first = select(journals.c.journal_id).where(of_host).order_by(journals.c.first_seen_at.desc())
    others = list(tx.execute(newest_first).scalars())
    for surplus in others[KEPT_JOURNALS - 1 :]:
        tx.execute(journals.delete().where(of_host, journals.c.journal_id == surplus))
    tx.execute(
        journals.insert().values(
            host_id=host_id,
            journal_id=journal_id,
            acked_through=record.acked_through,
            acked_hash=record.acked_hash,
            first_seen_at=now,
        )
    )
    return bool(others)


_ADVANCE = (
    journals.update()
    .where(journals.c.host_id == bindparam("of_host"), journals.c.journal_id == bindparam("of_journal"))
    .values(acked_through=bindparam("through"), acked_hash=bindparam("hash"))
)


def advance(tx: Connection, host_id: str, journal_id: str, record: JournalRecord) -> None:
    """Given how far a journal's reports are applied now, store it."""
    tx.execute(
        _ADVANCE,
        {
            "of_host": host_id,
            "of_journal": journal_id,
            "through": record.acked_through,
            "hash": record.acked_hash,
        },
    )


def set_aside(
    tx: Connection, host_id: str, journal_id: str, *, seq: int, reason: str, frame: str, now: datetime
) -> bool:
    """Given a report that cannot be used, keep it with the reason; the oldest beyond the host's share go.

    Return whether it is the host's first for an hour, so that a flood of them is one event and not a flood of events.
    """
    of_host = quarantine.c.host_id == host_id
    newest = tx.execute(select(quarantine.c.at).where(of_host).order_by(quarantine.c.id.desc()).limit(1)).scalar()
    tx.execute(
        quarantine.insert().values(
            host_id=host_id,
            journal_id=journal_id,
            seq=seq,
            at=now,
            reason=reason[:2_000],
            frame=frame[:FRAME_LIMIT],
        )
    )
    beyond = tx.execute(
        select(quarantine.c.id).where(of_host).order_by(quarantine.c.id.desc()).limit(1).offset(KEPT)
    ).scalar()
    if beyond is not None:
        tx.execute(quarantine.delete().where(of_host, quarantine.c.id <= beyond))
    return newest is None or now - newest >= QUIET
