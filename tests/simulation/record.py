"""What the server's database says when all is over, read once. It judges nothing."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.simulation.enumerated import Interval, at


@dataclass(frozen=True)
class Record:
    """The server's rows. set_aside: the text of all it quarantined; early: of what it took for told too early.

    retaining: the ids of schedules that keep by rules.
    """

    intervals: list[Interval]
    fates: list[Any]
    jobs: dict[str, Any]
    chunks: dict[str, list[Any]] = field(default_factory=dict)
    set_aside: str = ""
    early: str = ""
    retaining: frozenset[str] = frozenset()
    acked: Mapping[tuple[str, str], int] = field(default_factory=dict)


def read(path: Path) -> Record:
    """Given the server's database, return its record."""
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        chunks: dict[str, list[Any]] = defaultdict(list)
        for row in db.execute("SELECT * FROM log_chunks ORDER BY job_id, first_line"):
            chunks[row["job_id"]].append(row)
        quarantine = db.execute("SELECT frame FROM quarantine").fetchall()
        return Record(
            intervals=read_intervals(db),
            fates=db.execute("SELECT * FROM fates").fetchall(),
            jobs={row["id"]: row for row in db.execute("SELECT * FROM jobs")},
            chunks=chunks,
            set_aside=" ".join(row["frame"] for row in quarantine),
            early=read_early(db),
            retaining=frozenset(
                schedule_id for (schedule_id,) in db.execute("SELECT id FROM schedules WHERE retention IS NOT NULL")
            ),
            acked=_acked(db),
        )


def read_early(db: sqlite3.Connection) -> str:
    """Given the server's database, return the text of all it set aside because it was told hours before its time."""
    rows = db.execute("SELECT frame FROM quarantine WHERE instr(reason, 'in the future') > 0")
    return " ".join(frame for (frame,) in rows.fetchall())


def read_acked(path: Path) -> dict[tuple[str, str], int]:
    """Given the server's database, return through which report each journal of each host is stored."""
    with closing(sqlite3.connect(path)) as db:
        return _acked(db)


def _acked(db: sqlite3.Connection) -> dict[tuple[str, str], int]:
    rows = db.execute("SELECT host_id, journal_id, acked_through FROM journals")
    return {(host_id, journal_id): through for host_id, journal_id, through in rows}


def read_intervals(db: sqlite3.Connection) -> list[Interval]:
    """Given the server's database, return who was to run what when, in the order in which it was said."""
    return [
        Interval(
            row["schedule_id"],
            row["host_id"],
            row["revision"],
            row["cron"],
            row["timezone"],
            at(row["anchor"]),
            at(row["valid_from"]),
            None if row["valid_to"] is None else at(row["valid_to"]),
            bool(row["enabled"]),
        )
        for row in db.execute("SELECT * FROM assignments ORDER BY id")
    ]
