"""Logs of jobs, as chunks of consecutive lines. Owns the cap: head and tail are kept, what falls out is counted.

A chunk costs its characters and a fixed amount for its row, so that a job writing empty lines is bounded too. The first
half of the cap is never touched again. When the rest overflows, its oldest chunks go until an eighth of the cap is
free: that makes the clean-up's cost a constant per chunk, whatever the job writes. It refuses to know who reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct
from sqlalchemy import Connection, and_, bindparam, func, select

from restic_manager.server.store.schema import jobs, log_chunks

CAP: Final = 1 << 20
"""What the log of one job may cost, in characters."""
CHUNK_COST: Final = 64
"""What a chunk costs beside its text."""
_ROWS: Final = 200


class Chunk(Struct, frozen=True, kw_only=True):
    """Consecutive lines of one stream, joined by newlines. dropped_before: lines missing right before the first."""

    first_line: int
    lines: int
    at: datetime
    stream: str
    text: str
    dropped_before: int = 0


def chunk_of(*, first_line: int, at: datetime, stream: str, text: str, dropped: int) -> Chunk:
    """Given one `job.log`, return its chunk."""
    lines = text.count("\n") + 1
    return Chunk(first_line=first_line, lines=lines, at=at, stream=stream, text=text, dropped_before=dropped)


class Counters(Struct, frozen=True):
    """What a job's row says of its log: the highest line known, what the kept chunks cost, how many lines are gone."""

    lines: int
    cost: int
    dropped: int


def append(tx: Connection, job_id: str, chunks: Sequence[Chunk], *, cap: int = CAP) -> Counters:
    """Given chunks of a job in the order they came, store them within the cap and return the job's new counters.

    A chunk that begins at or before the highest line known is a repeat and is left out. Lines missing between two
    chunks (an agent that had to drop them, a server restored from a copy) are counted and stay visible as a gap.
    """
    row = tx.execute(
        select(jobs.c.log_lines, jobs.c.log_bytes, jobs.c.log_lines_dropped).where(jobs.c.id == job_id)
    ).one()
    highest, cost, dropped = row
    fresh: list[dict[str, object]] = []
    for chunk in chunks:
        if chunk.first_line <= highest:
            continue
        gap = chunk.first_line - 1 - highest  # what the agent says it dropped is in it: lines keep their numbers
        fresh.append(
            {
                "job_id": job_id,
                "first_line": chunk.first_line,
                "lines": chunk.lines,
                "at": chunk.at,
                "stream": chunk.stream,
                "text": chunk.text,
                "dropped_before": gap,
            }
        )
        highest = chunk.first_line + chunk.lines - 1
        cost += len(chunk.text) + CHUNK_COST
        dropped += gap
    if not fresh:
        return Counters(highest, cost, dropped)
    tx.execute(log_chunks.insert(), fresh)
    if cost > cap:
        freed, lost = _trim(tx, job_id, cap=cap, over=cost - cap)
        cost -= freed
        dropped += lost
    tx.execute(
        jobs.update().where(jobs.c.id == job_id).values(log_lines=highest, log_bytes=cost, log_lines_dropped=dropped)
    )
    return Counters(highest, cost, dropped)


def read(tx: Connection, job_id: str, *, after_line: int = 0, limit: int = _ROWS) -> list[Chunk]:
    """Given a job, return up to `limit` chunks that begin after this line, in order."""
    rows = tx.execute(_READ, {"job_id": job_id, "after_line": after_line, "limit": limit})
    return [
        Chunk(
            first_line=row.first_line,
            lines=row.lines,
            at=row.at,
            stream=row.stream,
            text=row.text,
            dropped_before=row.dropped_before,
        )
        for row in rows
    ]


_READ = (
    select(log_chunks)
    .where(and_(log_chunks.c.job_id == bindparam("job_id"), log_chunks.c.first_line > bindparam("after_line")))
    .order_by(log_chunks.c.first_line)
    .limit(bindparam("limit"))
)


def _trim(tx: Connection, job_id: str, *, cap: int, over: int) -> tuple[int, int]:
    """Take the oldest chunks behind the head away; return what they cost and how many lines went with them."""
    rows = tx.execute(
        select(
            log_chunks.c.first_line,
            log_chunks.c.lines,
            log_chunks.c.dropped_before,
            (func.length(log_chunks.c.text) + CHUNK_COST).label("cost"),
        )
        .where(log_chunks.c.job_id == job_id)
        .order_by(log_chunks.c.first_line)
    ).fetchall()
    head = freed = lost = 0
    first: int | None = None
    last = 0
    for row in rows[:-1]:  # the newest chunk stays, whatever it costs; behind a gap the head is over
        if first is None and not row.dropped_before and head + row.cost <= cap // 2:
            head += row.cost
            continue
        if freed >= over + cap // 8:
            break
        first = row.first_line if first is None else first
        last = row.first_line
        freed += row.cost
        lost += row.lines
    if first is None:
        return 0, 0
    gone = and_(log_chunks.c.job_id == job_id, log_chunks.c.first_line >= first, log_chunks.c.first_line <= last)
    gaps = tx.execute(select(func.sum(log_chunks.c.dropped_before)).where(gone)).scalar() or 0
    tx.execute(log_chunks.delete().where(gone))
    following = select(func.min(log_chunks.c.first_line)).where(
        log_chunks.c.job_id == job_id, log_chunks.c.first_line > last
    )
    tx.execute(
        log_chunks.update()
        .where(log_chunks.c.job_id == job_id, log_chunks.c.first_line == following.scalar_subquery())
        .values(dropped_before=log_chunks.c.dropped_before + lost + gaps)
    )
    return freed, lost
