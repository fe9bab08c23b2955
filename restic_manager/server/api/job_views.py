"""How a job looks to an operator: names instead of ids, the next attempt, and in a sentence what it waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, cast

from sqlalchemy import Connection

from restic_manager.domain.dispatching import READERS, Reason, Why
from restic_manager.domain.meaning import other_repo
from restic_manager.domain.model import Actor, Kind, Progress, Status
from restic_manager.protocol.api import JobView
from restic_manager.server.hub import Hub
from restic_manager.server.store import job_lists, job_rows, listings, queue, schema
from restic_manager.server.store.job_rows import JobRow
from restic_manager.server.store.references import names_of


class Names:
    """Names of hosts, schedules and repositories, looked up once for many jobs."""

    def __init__(self, tx: Connection, rows: Sequence[JobRow]) -> None:
        """Given jobs, look up every name in them."""
        self.hosts = names_of(tx, schema.hosts, {row.host_id for row in rows})
        self.schedules = names_of(tx, schema.schedules, {row.schedule_id for row in rows if row.schedule_id})
        needed = {row.repo_id for row in rows} | {other_repo(row.spec) for row in rows}
        self.repos = names_of(tx, schema.repos, {repo_id for repo_id in needed if repo_id is not None})

    def what(self, row: JobRow) -> str:
        """Given a job, name it as a person would: what it does, for which schedule, where."""
        name = "" if row.schedule_id is None else f" of {self.schedules[row.schedule_id]}"
        return f"{row.id[:8]} ({row.kind}{name} on {self.hosts[row.host_id]})"


def views(tx: Connection, rows: Sequence[JobRow], *, hub: Hub, now: datetime) -> list[JobView]:
    """Given jobs, return how an operator sees them now, in the same order."""
    online = hub.online_hosts()
    queued = [row for row in rows if row.status is Status.QUEUED]
    waiting = queue.explain(tx, queued, online=online, now=now).waiting if queued else {}
    others = job_rows.find_many(tx, {reason.job_id for reason in waiting.values() if reason.job_id is not None})
    names = Names(tx, [*rows, *others.values()])
    following = job_lists.next_attempts(tx, rows)
    return [
        _view(
            row,
            names,
            next_attempt=following.get(row.id),
            waits_for=_turn(row, now) or _waits_for(row, waiting.get(row.id), names, others, online),
            progress=hub.progress.get(row.id),
        )
        for row in rows
    ]


def _waits_for(
    row: JobRow,
    reason: Reason | None,
    names: Names,
    others: Mapping[str, JobRow],
    online: frozenset[str],
) -> str | None:
    if row.status is not Status.QUEUED:
        return None
    host = names.hosts[row.host_id]
    if row.state.sent_at is not None:
        return f"{host} to begin" if row.host_id in online else f"{host} to come back: it was sent there and is offline"
    if reason is None:
        return "being sent"
    return _sentence(row, reason, names, others.get(reason.job_id or ""))


def _turn(row: JobRow, now: datetime) -> str | None:
    """For an attempt whose turn is still to come, when that is: the time, and the day where it is another."""
    at = row.not_before
    if row.status is not Status.QUEUED or row.state.sent_at is not None or at is None or at <= now:
        return None
    return f"its turn at {at:%H:%M:%S} UTC" if at.date() == now.date() else f"its turn at {at:%Y-%m-%d %H:%M:%S} UTC"


def _sentence(row: JobRow, reason: Reason, names: Names, other: JobRow | None) -> str:
    job = "another job" if other is None else f"job {names.what(other)}"
    repo = names.repos.get(reason.repo_id or row.repo_id, "")
    if _alone(row):
        needs = f"{job}: this needs repository {repo} to itself"
    elif other is not None and _alone(other):
        needs = f"{job}, which needs repository {repo} to itself"
    else:
        needs = f"{job}, whose turn on repository {repo} is before"
    behind = "" if reason.jobs < 2 else f" and {reason.jobs - 1} more"
    sentences = {
        Why.HOST_OFFLINE: f"{names.hosts[row.host_id]} to come online",
        Why.HOST_BUSY: f"{job}: a host runs one at a time",
        Why.HOST_READING: f"{job}: a host reads for {READERS} at a time",
        Why.OTHER_JOB: f"{job}, which is to {_TO.get(other.kind, 'end first') if other else 'end first'}",
        Why.REPO_BUSY: needs,
        Why.REPO_FULL: f"one of the {reason.jobs} jobs that may be on repository {repo} at once: {job}{behind}",
        Why.REPO_TURN: needs,
    }
    return sentences[reason.why]


_TO: Final = {Kind.INIT: "create the repository", Kind.UNLOCK: "remove a stale lock"}
"""What a job is for that another one waits for."""


def _alone(row: JobRow) -> bool:
    return row.kind.exclusive or (row.kind is Kind.UNLOCK and row.actor is Actor.SERVER)


def _view(
    row: JobRow, names: Names, *, next_attempt: str | None, waits_for: str | None, progress: Progress | None
) -> JobView:
    state = row.state
    return JobView(
        id=row.id,
        kind=row.kind,
        host=names.hosts[row.host_id],
        schedule=None if row.schedule_id is None else names.schedules[row.schedule_id],
        repo=names.repos[row.repo_id],
        slot=row.slot,
        actor_kind=row.actor,
        status=state.status,
        created_at=row.created_at,
        started_at=state.started_at,
        finished_at=state.finished_at,
        exit_code=state.exit_code,
        snapshot_id=state.snapshot_id,
        error=state.error,
        stats=state.stats,
        trigger=cast('Literal["tick", "catch-up"] | None', row.trigger),
        stands_for=row.stands_for,
        attempt=row.attempt,
        attempt_of=row.attempt_of,
        next_attempt=next_attempt,
        waits_for=waits_for,
        not_before=row.not_before,
        cancel_requested_at=state.cancel_requested_at,
        log_lines=row.log_lines,
        log_lines_dropped=row.log_lines_dropped,
        progress=progress if state.status is Status.RUNNING else None,
        spec=row.spec,
        result=state.result,
        caused_by=row.caused_by,
        rows=row.rows_kept,
        warnings=() if (remark := listings.remark(row)) is None else (remark,),
    )
