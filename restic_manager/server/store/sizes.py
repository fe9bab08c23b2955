"""How large each repository was, each time it was measured. Owns the table `repo_sizes`.

Measuring is a job (`stats`, dear: it reads every index and tree), so this only grows as often as somebody asks or a
schedule says. It refuses to know when that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import Connection, func, select

from restic_manager.domain.results import RepoStats
from restic_manager.domain.specs import StatsSpec
from restic_manager.server.store.job_rows import JobRow
from restic_manager.server.store.references import chunks
from restic_manager.server.store.schema import repo_sizes

RAW: str = "raw-data"
"""The mode of `stats` that says what a repository stores."""


class Size(Struct, frozen=True):
    """How large a repository was at an instant, in bytes: what it stores, what that holds; and its snapshots."""

    repo_id: str
    at: datetime
    size: int
    uncompressed: int | None
    snapshots: int


def note(tx: Connection, job: JobRow, *, now: datetime) -> None:
    """Given a `stats` job that has succeeded, keep what it measured, if that is all that the repository stores."""
    spec, result = job.spec, job.state.result
    if not isinstance(spec, StatsSpec) or not isinstance(result, RepoStats) or result.mode != RAW:
        return
    if spec.mode != RAW or spec.snapshots or spec.restic_host is not None or spec.schedule_id is not None:
        return
    values = {"size": result.size, "uncompressed": result.uncompressed, "snapshots": result.snapshots}
    mine = (repo_sizes.c.repo_id == job.repo_id, repo_sizes.c.at == now)
    if tx.execute(repo_sizes.update().where(*mine).values(values)).rowcount == 0:
        tx.execute(repo_sizes.insert().values(repo_id=job.repo_id, at=now, **values))


def of_repo(tx: Connection, repo_id: str, *, limit: int) -> list[Size]:
    """Given a repository, return its sizes, newest first, at most `limit`."""
    query = select(repo_sizes).where(repo_sizes.c.repo_id == repo_id).order_by(repo_sizes.c.at.desc()).limit(limit)
    return [Size(row.repo_id, row.at, row.size, row.uncompressed, row.snapshots) for row in tx.execute(query)]


def newest(tx: Connection, repo_ids: Sequence[str] | None = None) -> dict[str, Size]:
    """Return the newest size of each repository (of these) that was ever measured, by id."""
    last = select(repo_sizes.c.repo_id, func.max(repo_sizes.c.at).label("at")).group_by(repo_sizes.c.repo_id)
    found: dict[str, Size] = {}
    for part in [None] if repo_ids is None else chunks(repo_ids):
        which = (last if part is None else last.where(repo_sizes.c.repo_id.in_(part))).subquery()
        query = select(repo_sizes).join(
            which, (repo_sizes.c.repo_id == which.c.repo_id) & (repo_sizes.c.at == which.c.at)
        )
        for row in tx.execute(query):
            found[row.repo_id] = Size(row.repo_id, row.at, row.size, row.uncompressed, row.snapshots)
    return found
