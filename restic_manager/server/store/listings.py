"""What listing jobs have listed: rows in chunks as they came. Owns the table `job_rows` and the limits of its growth.

Rows are kept in order and without a gap, up to a cap for each job; beyond it nothing more of that job is kept. About an
hour after a job's end its rows go, in bites that hold nobody up. A row's text stays as it is stored, from the wire to
the operator's stream: it refuses to know what rows mean, and who reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, bindparam, func, select

from restic_manager.domain.results import DiffStats, ForgetStats, ListStats, Row
from restic_manager.domain.specs import ForgetSpec
from restic_manager.server.store.job_rows import UNFINISHED, JobRow
from restic_manager.server.store.schema import job_rows, jobs

MAX_TEXT: Final = 256 << 20
"""Characters of rows that are kept of one job (the message that passes it is kept whole)."""
MAX_ROWS: Final = 2_000_000
"""Rows that are kept of one job (the message that passes it is kept whole)."""
KEPT: Final = timedelta(hours=1)
"""So long after a job's end its rows can be read."""
CHUNK_COST: Final = 64
"""What a chunk costs beside its text."""
READ_TEXT: Final = 1 << 20
"""A reader is given chunks until they have so many characters: one at least, and one more than fits at most."""
BITE: Final = 256
"""Chunks taken away in one closure."""

_encoder: Final = msgspec.json.Encoder()
_rows: Final[msgspec.json.Decoder[list[Row]]] = msgspec.json.Decoder(list[Row])
_raw_rows: Final = msgspec.json.Decoder(list[msgspec.Raw])

Taken = Literal["kept", "full", "out_of_order"]


class Chunk(Struct, frozen=True):
    """Consecutive rows of a job, `first` counting from 1; `text` is the JSON list of them."""

    first: int
    rows: int
    text: str

    @property
    def last(self) -> int:
        """Return the number of its last row."""
        return self.first + self.rows - 1


def append(
    tx: Connection,
    job_id: str,
    first: int,
    rows: Sequence[Row],
    *,
    now: datetime,
    max_text: int = MAX_TEXT,
    max_rows: int = MAX_ROWS,
) -> Taken:
    """Given the next rows of a job, keep them, and return whether they were.

    `full`: the job has reached its cap, and nothing more of it is kept. `out_of_order`: they do not begin where the
    last ones ended.
    """
    kept, text = tx.execute(_COUNTERS, {"job_id": job_id}).one()
    if kept >= max_rows or text >= max_text:
        return "full"
    if first != kept + 1:
        return "out_of_order"
    chunk = _encoder.encode(rows).decode()
    tx.execute(job_rows.insert(), {"job_id": job_id, "first_row": first, "rows": len(rows), "at": now, "text": chunk})
    tx.execute(_COUNT, {"of_job": job_id, "more": len(rows), "longer": len(chunk) + CHUNK_COST})
    return "kept"


_COUNTERS = select(jobs.c.rows_kept, jobs.c.rows_text).where(jobs.c.id == bindparam("job_id"))
_COUNT = (
    jobs.update()
    .where(jobs.c.id == bindparam("of_job"))
    .values(rows_kept=jobs.c.rows_kept + bindparam("more"), rows_text=jobs.c.rows_text + bindparam("longer"))
)


def kept(tx: Connection, job_id: str) -> int:
    """Given a job, return how many of its rows are kept now."""
    count: int = tx.execute(_COUNTERS, {"job_id": job_id}).scalar_one()
    return count


def read(tx: Connection, job_id: str, *, after: int = 0, most_text: int = READ_TEXT) -> list[Chunk]:
    """Given a job, return the chunks that follow its first `after` rows, the first of them cut to begin there.

    None: no more have come yet, or they were taken away.
    """
    begin = select(func.max(job_rows.c.first_row)).where(job_rows.c.job_id == job_id, job_rows.c.first_row <= after + 1)
    start = tx.execute(begin).scalar()
    if start is None:
        return []
    query = (
        select(job_rows.c.first_row, job_rows.c.rows, job_rows.c.text)
        .where(job_rows.c.job_id == job_id, job_rows.c.first_row >= start)
        .order_by(job_rows.c.first_row)
    )
    found: list[Chunk] = []
    size = 0
    with tx.execute(query) as result:
        for row in result:
            chunk = _cut(Chunk(row.first_row, row.rows, row.text), after)
            if chunk is not None:
                found.append(chunk)
                size += len(chunk.text)
            if size >= most_text:
                break
    return found


def rows_of(tx: Connection, job_id: str) -> Iterator[list[Row]]:
    """Given a job, yield all its rows, a chunk at a time."""
    after = 0
    while chunks := read(tx, job_id, after=after):
        for chunk in chunks:
            yield _rows.decode(chunk.text)
        after = chunks[-1].last


def _cut(chunk: Chunk, after: int) -> Chunk | None:
    """Return what of the chunk comes after so many rows, None for nothing."""
    if chunk.last <= after:
        return None
    if chunk.first > after:
        return chunk
    rest = _raw_rows.decode(chunk.text)[after + 1 - chunk.first :]
    return Chunk(after + 1, len(rest), _encoder.encode(rest).decode())


def counted(job: JobRow) -> int | None:
    """Given a job, return how many rows its verdict says it gave, None where that does not count them.

    A forget by policies gives a row for each snapshot it looks at; one that is no dry run does not wait for them to be
    told.
    """
    result = job.state.result
    if isinstance(result, ListStats | DiffStats):
        return result.rows
    if isinstance(result, ForgetStats) and result.dry_run and isinstance(job.spec, ForgetSpec) and job.spec.policies:
        return result.kept + result.removed
    return None


def remark(job: JobRow) -> str | None:
    """Given a job, return in a sentence why its listing is not whole here, None where nothing is known to be missing.

    Nothing is while it runs: how much there is to come is known at its end.
    """
    gave = counted(job)
    if not job.status.terminal or gave is None or job.rows_kept >= gave:
        return None
    if job.rows_kept == 0:
        return f"its {gave:,} rows are not kept any more (they are for about an hour): ask again"
    return f"its listing is not whole: the first {job.rows_kept:,} of {gave:,} rows are kept (ask for less at once)"


def forget(tx: Connection, job_ids: Sequence[str]) -> None:
    """Given jobs that are about to be taken away, take their rows away: they refer to them."""
    tx.execute(job_rows.delete().where(job_rows.c.job_id.in_(job_ids)))


def prune(tx: Connection, now: datetime) -> int:
    """Take at most BITE chunks away of a job that ended long enough ago; return how many, 0 when none is left.

    When it ended is its host's word: where that is in the future, the time at which the rows came counts.
    """
    before = now - KEPT
    query = (
        select(job_rows.c.job_id)
        .join(jobs, jobs.c.id == job_rows.c.job_id)
        .where(job_rows.c.at < before, jobs.c.status.not_in(UNFINISHED), ~jobs.c.finished_at.between(before, now))
        .order_by(job_rows.c.at)
        .limit(1)
    )
    job_id = tx.execute(query).scalar()
    if job_id is None:
        return 0
    tx.execute(jobs.update().where(jobs.c.id == job_id).values(rows_kept=0, rows_text=0))
    oldest = select(job_rows.c.first_row).where(job_rows.c.job_id == job_id).order_by(job_rows.c.first_row).limit(BITE)
    through = max(tx.execute(oldest).scalars())
    return tx.execute(job_rows.delete().where(job_rows.c.job_id == job_id, job_rows.c.first_row <= through)).rowcount
