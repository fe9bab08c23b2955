"""What is to be told of many repositories at once, in a bounded number of questions, each on an index. Reads only."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, func, select, true

from restic_manager.domain.model import Actor, Failure, Kind, Status
from restic_manager.domain.results import Result, UnlockStats
from restic_manager.server.store.references import chunks
from restic_manager.server.store.schema import jobs, repos, schedules

DAMAGED: Final = "repo_damaged"
"""The code of a job that found something of the repository damaged."""

_CHECKED: Final = (Status.SUCCEEDED.value, Status.WARNING.value, Status.FAILED.value)
_failure: Final = msgspec.json.Decoder(Failure)
_result: Final[msgspec.json.Decoder[Result]] = msgspec.json.Decoder(Result)


class LastCheck(Struct, frozen=True, kw_only=True):
    """The newest check of a repository that came to an end."""

    job_id: str
    at: datetime
    status: Status
    error: Failure | None

    @property
    def damaged(self) -> bool:
        """Return whether it found damage."""
        return self.error is not None and self.error.code == DAMAGED


def last_checks(tx: Connection, repo_id: str | None = None) -> dict[str, LastCheck]:
    """Return the newest check of each repository (or the one named), by its id."""
    mine = jobs.alias()
    newest = (
        # The sum keeps SQLite from walking down all jobs of the repository until it meets a check.
        select(func.max(mine.c.serial + 0))
        .where(mine.c.repo_id == repos.c.id, mine.c.kind == Kind.CHECK.value, mine.c.status.in_(_CHECKED))
        .scalar_subquery()
    )
    query = (
        select(repos.c.id, jobs.c.id.label("job_id"), jobs.c.finished_at, jobs.c.status, jobs.c.error)
        .select_from(repos)
        .join(jobs, jobs.c.serial == newest)
        .where(_of(repo_id))
    )
    return {
        row.id: LastCheck(
            job_id=row.job_id,
            at=row.finished_at,
            status=Status(row.status),
            error=None if row.error is None else _failure.decode(row.error),
        )
        for row in tx.execute(query)
    }


def locks_removed(tx: Connection, repo_id: str | None = None) -> dict[str, int]:
    """Return how many stale locks the server had removed from each repository (or the one named), as far as its jobs
    are kept; those without any are left out.
    """
    found: dict[str, int] = {}
    for part in chunks(list(tx.execute(select(repos.c.id).where(_of(repo_id))).scalars())):
        query = select(jobs.c.repo_id, jobs.c.result).where(
            jobs.c.repo_id.in_(part),
            jobs.c.kind == Kind.UNLOCK.value,
            jobs.c.status == Status.SUCCEEDED.value,
            jobs.c.actor_kind == Actor.SERVER.value,
            jobs.c.result.is_not(None),
        )
        for row in tx.execute(query):
            result = _result.decode(row.result)
            if isinstance(result, UnlockStats) and result.removed:
                found[row.repo_id] = found.get(row.repo_id, 0) + result.removed
    return found


def unpruned(tx: Connection, repo_id: str | None = None) -> set[str]:
    """Return the repositories (or the one named) from which schedules have snapshots forgotten, and that nothing
    prunes.
    """
    live = schedules.c.removed_at.is_(None)
    pruned = select(schedules.c.repo_id).where(
        live, schedules.c.enabled.is_(True), schedules.c.kind == Kind.PRUNE.value
    )
    query = (
        select(schedules.c.repo_id)
        .distinct()
        .join(repos, repos.c.id == schedules.c.repo_id)
        .where(_of(repo_id), live, schedules.c.retention.is_not(None), schedules.c.repo_id.not_in(pruned))
    )
    return set(tx.execute(query).scalars())


def _of(repo_id: str | None) -> ColumnElement[bool]:
    return true() if repo_id is None else repos.c.id == repo_id
