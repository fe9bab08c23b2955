"""What the journal's rows mean: facts about itself, jobs, the outbox. Plain functions over its connection and thread.

Schedules and their marks are in `schedule_rows`, kept fates in `retelling`. Decides nothing: verdicts come from the
runner.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from restic_manager.domain.model import Outcome, new_id
from restic_manager.protocol.codec import encode
from restic_manager.protocol.messages import DurableReport, JobClaim, OutboxHead
from restic_manager.protocol.session import frame_hash

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
KEEP_FINISHED: Final = timedelta(days=40)
KEEP_AT_LEAST: Final = 1_000
KEEP_AT_MOST: Final = 200_000
FORGET_AT_ONCE: Final = 1_000
"""Jobs, or fates, forgotten in one transaction."""

MakeReport = Callable[[int], DurableReport]
"""Given its sequence, make the report: the sequence is part of the frame."""


def to_micros(instant: datetime) -> int:
    """Given an aware instant, return microseconds since 1970."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def from_micros(value: int) -> datetime:
    """Given microseconds since 1970, return the instant in UTC."""
    return _EPOCH + timedelta(microseconds=value)


# -- facts about the journal itself -----------------------------------------------------------------------------------


def get_meta(db: sqlite3.Connection, key: str) -> str | None:
    """Given a key, return its value, or None."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def set_meta(db: sqlite3.Connection, key: str, value: str) -> None:
    """Set a key."""
    db.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value))


WITH_ORDERS: Final = "2"
"""Kept of a set that came with standing orders. `1` was written by agents that were sent none of those that refer to
secrets on the host: such a set is asked for again."""


@dataclass(frozen=True)
class Remembered:
    """What a hello tells of the journal."""

    journal_id: str
    outbox: OutboxHead
    applied_epoch: str | None
    applied_version: int
    with_orders: bool
    jobs: tuple[JobClaim, ...]


def remembered(db: sqlite3.Connection) -> Remembered:
    """Return what the hello needs: journal id, outbox head, applied set, and jobs running or finished but not acked."""
    acked = int(get_meta(db, "outbox_acked") or 0)
    claims = [
        JobClaim(
            job_id=job_id,
            state="running" if state == "running" else "finished",
            schedule_id=schedule_id,
            scheduled_at=None if slot is None else from_micros(slot),
        )
        for job_id, schedule_id, slot, state in db.execute(
            "SELECT job_id, schedule_id, slot, state FROM jobs WHERE state = 'running' OR report_seq > ?"
            " ORDER BY state DESC, report_seq LIMIT 2000",
            (acked,),
        )
    ]
    return Remembered(
        journal_id=get_meta(db, "journal_id") or "",
        outbox=OutboxHead(
            head=outbox_head(db),
            acked=acked,
            acked_hash=get_meta(db, "outbox_acked_hash"),
            epoch=get_meta(db, "epoch") or get_meta(db, "applied_epoch"),
        ),
        applied_epoch=get_meta(db, "applied_epoch"),
        applied_version=int(get_meta(db, "applied_version") or 0),
        with_orders=get_meta(db, "applied_with_orders") == WITH_ORDERS,
        jobs=tuple(claims),
    )


# -- jobs -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class JobKey:
    """Which job, of which slot if any, and when it started here (None: it never did)."""

    job_id: str
    schedule_id: str | None = None
    slot: datetime | None = None
    started_at: datetime | None = None


@dataclass(frozen=True)
class JobRecord:
    """A job this journal knows."""

    key: JobKey
    state: str
    finished_at: datetime | None
    outcome: Outcome | None
    report_seq: int | None
    pid: int | None
    sealed: bytes | None
    log_lines: int | None = None


def find_job(db: sqlite3.Connection, job_id: str) -> JobRecord | None:
    """Given a job id, return what is known of it."""
    row = db.execute(f"{_JOB_COLUMNS} WHERE job_id = ?", (job_id,)).fetchone()
    return None if row is None else _job(row)


def running_jobs(db: sqlite3.Connection) -> list[JobRecord]:
    """Return the jobs recorded as running: after a start, those that the process before left behind."""
    return [_job(row) for row in db.execute(f"{_JOB_COLUMNS} WHERE state = 'running'")]


_JOB_COLUMNS: Final = (
    "SELECT job_id, schedule_id, slot, state, started_at, finished_at, outcome, report_seq, log_lines, pid, sealed"
    " FROM jobs"
)


def _job(row: tuple[object, ...]) -> JobRecord:
    job_id, schedule_id, slot, state, started_at, finished_at, outcome, report_seq, log_lines, pid, sealed = row
    return JobRecord(
        key=JobKey(
            job_id=str(job_id),
            schedule_id=None if schedule_id is None else str(schedule_id),
            slot=from_micros(slot) if isinstance(slot, int) else None,
            started_at=from_micros(started_at) if isinstance(started_at, int) else None,
        ),
        state=str(state),
        finished_at=from_micros(finished_at) if isinstance(finished_at, int) else None,
        outcome=msgspec.json.decode(outcome, type=Outcome) if isinstance(outcome, bytes) else None,
        report_seq=report_seq if isinstance(report_seq, int) else None,
        pid=pid if isinstance(pid, int) else None,
        sealed=sealed if isinstance(sealed, bytes) else None,
        log_lines=log_lines if isinstance(log_lines, int) else None,
    )


def note_pid(db: sqlite3.Connection, job_id: str, pid: int) -> None:
    """Record which process runs this job: the evidence for whose lock is left, should we die."""
    db.execute("UPDATE jobs SET pid = ? WHERE job_id = ?", (pid, job_id))


def job_started(db: sqlite3.Connection, key: JobKey, sealed: bytes | None) -> None:
    """Record that restic is about to be spawned for this job; sealed: its order, to look its snapshot up by."""
    db.execute(
        "INSERT INTO jobs (job_id, schedule_id, slot, started_at, state, sealed) VALUES (?, ?, ?, ?, 'running', ?)",
        (*_key_columns(key), sealed),
    )


def job_finished(
    db: sqlite3.Connection,
    key: JobKey,
    *,
    finished_at: datetime,
    outcome: Outcome,
    report_seq: int,
    log_lines: int | None = None,
) -> None:
    """Record a verdict; for a job that never started here this makes its row (a tombstone).

    log_lines: how many lines its log had; None where that is not known (any more).
    """
    db.execute(
        "INSERT INTO jobs (job_id, schedule_id, slot, started_at, state, finished_at, outcome, report_seq, log_lines)"
        " VALUES (?, ?, ?, ?, 'finished', ?, ?, ?, ?) ON CONFLICT (job_id) DO UPDATE SET"
        " state = 'finished', finished_at = excluded.finished_at, outcome = excluded.outcome,"
        " report_seq = excluded.report_seq, log_lines = COALESCE(excluded.log_lines, log_lines),"
        " sealed = NULL",
        (*_key_columns(key), to_micros(finished_at), msgspec.json.encode(outcome), report_seq, log_lines),
    )


def _key_columns(key: JobKey) -> tuple[str, str | None, int | None, int | None]:
    return (
        key.job_id,
        key.schedule_id,
        None if key.slot is None else to_micros(key.slot),
        None if key.started_at is None else to_micros(key.started_at),
    )


def forget_old_jobs(db: sqlite3.Connection, now: datetime, *, at_once: int = FORGET_AT_ONCE) -> int:
    """Drop the oldest finished jobs beyond what is promised: 40 days, at least the last 1,000, at most 200,000.

    Return how many; 0 when there are none left to drop. Remembers how far back it has forgotten, so that an order from
    before is not taken for a new one.
    """
    last_kept = _finished_at(db, KEEP_AT_LEAST)
    if last_kept is None:
        return 0
    limit = max(min(last_kept, to_micros(now - KEEP_FINISHED)), _finished_at(db, KEEP_AT_MOST) or 0)
    gone = db.execute(
        "DELETE FROM jobs WHERE job_id IN (SELECT job_id FROM jobs WHERE finished_at < ? ORDER BY finished_at LIMIT ?)",
        (limit, at_once),
    ).rowcount
    if gone:
        set_meta(db, "forgot_before", str(limit))
    return gone


def _finished_at(db: sqlite3.Connection, number: int) -> int | None:
    """Return when the job ended that is so many-th from the end; None where there are fewer. Reads the index alone."""
    row = db.execute(
        "SELECT finished_at FROM jobs WHERE finished_at IS NOT NULL ORDER BY finished_at DESC LIMIT 1 OFFSET ?",
        (number - 1,),
    ).fetchone()
    return None if row is None else int(row[0])


def forgot_before(db: sqlite3.Connection) -> datetime | None:
    """Return the instant before which finished jobs may have been forgotten, or None."""
    value = get_meta(db, "forgot_before")
    return None if value is None else from_micros(int(value))


# -- outbox -----------------------------------------------------------------------------------------------------------


def outbox_head(db: sqlite3.Connection) -> int:
    """Return the highest sequence ever given out by this journal."""
    return int(get_meta(db, "outbox_head") or 0)


def append_reports(db: sqlite3.Connection, reports: Iterable[MakeReport]) -> int:
    """Append reports in order and return the last sequence; the frames are stored exactly as they will be sent."""
    seq = outbox_head(db)
    rows = []
    for make in reports:
        seq += 1
        report = make(seq)
        rows.append((seq, str(type(report).__struct_config__.tag), encode(report)))
    db.executemany("INSERT INTO outbox VALUES (?, ?, ?)", rows)
    set_meta(db, "outbox_head", str(seq))
    return seq


def reports_after(db: sqlite3.Connection, seq: int, *, characters: int) -> list[tuple[int, str]]:
    """Return the next reports after `seq` in order, about as many characters as asked for (at least one report)."""
    found: list[tuple[int, str]] = []
    size = 0
    for row_seq, frame in db.execute("SELECT seq, frame FROM outbox WHERE seq > ? ORDER BY seq", (seq,)):
        found.append((int(row_seq), str(frame)))
        size += len(frame)
        if size >= characters:
            break
    return found


def report_hash(db: sqlite3.Connection, seq: int) -> str | None:
    """Return the hash of the report we hold under this sequence, or None when it is gone."""
    row = db.execute("SELECT frame FROM outbox WHERE seq = ?", (seq,)).fetchone()
    if row is not None:
        return frame_hash(str(row[0]))
    return get_meta(db, "outbox_acked_hash") if int(get_meta(db, "outbox_acked") or 0) == seq else None


def acknowledge(db: sqlite3.Connection, through: int) -> None:
    """Forget reports through this sequence: the server has committed them. Repeats and old acks change nothing."""
    if through <= int(get_meta(db, "outbox_acked") or 0):
        return
    digest = report_hash(db, through)
    db.execute("DELETE FROM outbox WHERE seq <= ?", (through,))
    set_meta(db, "outbox_acked", str(through))
    if digest is None:
        db.execute("DELETE FROM meta WHERE key = 'outbox_acked_hash'")
    else:
        set_meta(db, "outbox_acked_hash", digest)


def outbox_size(db: sqlite3.Connection) -> int:
    """Return how many characters wait in the outbox."""
    return int(db.execute("SELECT COALESCE(SUM(LENGTH(frame)), 0) FROM outbox").fetchone()[0])


def rekey(db: sqlite3.Connection) -> str:
    """Take a new journal id and number what the outbox holds from 1; return the new id.

    For a journal that turned out to be an older copy or a clone: its sequences mean something else to the server.
    """
    journal_id = new_id()
    rows = db.execute("SELECT type, frame FROM outbox ORDER BY seq").fetchall()
    db.execute("DELETE FROM outbox")
    db.execute("UPDATE jobs SET report_seq = 0 WHERE state = 'finished'")
    db.execute("UPDATE fates SET report_seq = 0")
    db.execute("UPDATE meta SET value = '0' WHERE key = 'retell_through'")
    renumbered = []
    for seq, (type_, frame) in enumerate(rows, start=1):
        body = msgspec.json.decode(frame)
        body["seq"] = seq
        renumbered.append((seq, type_, msgspec.json.encode(body).decode("utf-8")))
        if type_ == "job.finished":
            db.execute("UPDATE jobs SET report_seq = ? WHERE job_id = ?", (seq, body["job_id"]))
    db.executemany("INSERT INTO outbox VALUES (?, ?, ?)", renumbered)
    set_meta(db, "journal_id", journal_id)
    set_meta(db, "outbox_head", str(len(rows)))
    set_meta(db, "outbox_acked", "0")
    db.execute("DELETE FROM meta WHERE key = 'outbox_acked_hash'")
    return journal_id
