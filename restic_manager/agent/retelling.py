"""What was acknowledged before is told again to a server that is not the same any more: it was restored from a copy.

Owns the fates this journal keeps, and which of its finished jobs and fates the present epoch has not been told. A
welcome with another epoch begins it; then reports go into the outbox in batches, oldest first, only while little waits
there, so that what happens now is never behind more than one batch. What a report then leads to is the server's to
decide. Logs are gone: they were forgotten when they were acknowledged. Like `records` it works on one connection, in
the journal's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from restic_manager.agent import records
from restic_manager.agent.records import MakeReport, from_micros, to_micros
from restic_manager.domain.model import Outcome
from restic_manager.protocol.messages import JobFinished, JobStarted, SlotDecided

AT_ONCE: Final = 100
"""Reports told again in one transaction."""
AT_ONCE_TEXT: Final = 128 << 10
"""Characters told again in one transaction (one report more is taken)."""
ROOM: Final = 64 << 10
"""Characters that may wait in the outbox when a batch is added."""


# -- fates that are kept ----------------------------------------------------------------------------------------------


def append_decided(db: sqlite3.Connection, reports: Sequence[tuple[datetime, MakeReport]]) -> None:
    """Given fates, each as its last slot and its report, append them to the outbox, and keep them for a server that
    will have forgotten them."""
    last = records.append_reports(db, [report for _, report in reports])
    first = last - len(reports) + 1
    db.executemany(
        "INSERT INTO fates (last_slot, report_seq, frame) SELECT ?, seq, frame FROM outbox WHERE seq = ?",
        [(to_micros(slot), first + at) for at, (slot, _) in enumerate(reports)],
    )


def forget_old_fates(db: sqlite3.Connection, now: datetime, *, at_once: int = records.FORGET_AT_ONCE) -> int:
    """Drop the oldest fates beyond what is promised for jobs, too: 40 days, at least the last 1,000, at most 200,000.

    Return how many; 0 when there are none left to drop. Looks at the oldest alone, not at all that are young.
    """
    newest = db.execute("SELECT MAX(id) FROM fates").fetchone()[0]
    if newest is None:
        return 0
    limit = to_micros(now - records.KEEP_FINISHED)
    return db.execute(
        "DELETE FROM fates WHERE id IN (SELECT id FROM (SELECT id, last_slot FROM fates ORDER BY id LIMIT ?)"
        " WHERE id <= ? OR (id <= ? AND last_slot < ?))",
        (at_once, newest - records.KEEP_AT_MOST, newest - records.KEEP_AT_LEAST, limit),
    ).rowcount


# -- telling again ----------------------------------------------------------------------------------------------------


def note_epoch(db: sqlite3.Connection, epoch: str) -> bool:
    """Given the epoch of the server that just welcomed this agent, return whether things have to be told again to it.

    Everything acknowledged so far was so by another epoch, if it is another; what is not acknowledged is sent anyway.
    """
    told = records.get_meta(db, "epoch") or records.get_meta(db, "applied_epoch")
    records.set_meta(db, "epoch", epoch)
    if told is not None and told != epoch:
        records.set_meta(db, "retell_through", records.get_meta(db, "outbox_acked") or "0")
        records.set_meta(db, "retell_jobs_from", "0")
        records.set_meta(db, "retell_fates_from", "0")
        running = [record.key for record in records.running_jobs(db)]
        records.append_reports(db, [_started(key) for key in running if key.started_at is not None])
    return records.get_meta(db, "retell_through") is not None


def tell_more(db: sqlite3.Connection) -> bool:
    """Append the next batch to the outbox if there is room; return whether there is (or may be) more to tell."""
    through = records.get_meta(db, "retell_through")
    if through is None:
        return False
    if records.outbox_size(db) > ROOM:
        return True
    if _tell_jobs(db, int(through)) or _tell_fates(db, int(through)):
        return True
    db.execute("DELETE FROM meta WHERE key IN ('retell_through', 'retell_jobs_from', 'retell_fates_from')")
    return False


def _tell_jobs(db: sqlite3.Connection, through: int) -> bool:
    """Append finished jobs; their new sequence is above `through`, which is how they count as told."""
    since = int(records.get_meta(db, "retell_jobs_from") or 0)
    rows = db.execute(
        "SELECT job_id, schedule_id, slot, started_at, finished_at, outcome, log_lines FROM jobs"
        " WHERE state = 'finished' AND finished_at >= ? AND report_seq <= ? ORDER BY finished_at, job_id LIMIT ?",
        (since, through, AT_ONCE),
    ).fetchall()
    text = 0
    for row in rows:
        seq = records.append_reports(db, [_finished(row)])
        db.execute("UPDATE jobs SET report_seq = ? WHERE job_id = ?", (seq, row[0]))
        since = int(row[4])
        text += len(row[5])
        if text >= AT_ONCE_TEXT:
            break
    records.set_meta(db, "retell_jobs_from", str(since))
    return bool(rows)


def _tell_fates(db: sqlite3.Connection, through: int) -> bool:
    since = int(records.get_meta(db, "retell_fates_from") or 0)
    rows = db.execute(
        "SELECT id, frame FROM fates WHERE id > ? AND report_seq <= ? ORDER BY id LIMIT ?", (since, through, AT_ONCE)
    ).fetchall()
    if not rows:
        return False
    seq = records.append_reports(db, [_decided(str(frame)) for _, frame in rows])
    first = seq - len(rows) + 1
    db.executemany(
        "UPDATE fates SET report_seq = ? WHERE id = ?", [(first + at, fate_id) for at, (fate_id, _) in enumerate(rows)]
    )
    records.set_meta(db, "retell_fates_from", str(rows[-1][0]))
    return True


def _started(key: records.JobKey) -> MakeReport:
    def make(seq: int) -> JobStarted:
        if key.started_at is None:
            raise ValueError("a running job has started")
        return JobStarted(
            seq=seq,
            job_id=key.job_id,
            started_at=key.started_at,
            schedule_id=key.schedule_id,
            scheduled_at=key.slot,
        )

    return make


def _finished(row: tuple[str, str | None, int | None, int | None, int, bytes, int | None]) -> MakeReport:
    job_id, schedule_id, slot, started_at, finished_at, outcome, log_lines = row
    return lambda seq: JobFinished(
        seq=seq,
        job_id=job_id,
        outcome=msgspec.json.decode(outcome, type=Outcome),
        started_at=None if started_at is None else from_micros(started_at),
        finished_at=from_micros(finished_at),
        schedule_id=schedule_id,
        scheduled_at=None if slot is None else from_micros(slot),
        retold=True,
        log_lines=log_lines,
    )


def _decided(frame: str) -> MakeReport:
    told = msgspec.json.decode(frame, type=SlotDecided)
    return lambda seq: msgspec.structs.replace(told, seq=seq)
