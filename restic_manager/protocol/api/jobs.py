"""What the API carries of jobs, their logs, their listings, and of asking for one."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from restic_manager.domain.model import (
    Actor,
    BackupStats,
    Failure,
    Instant,
    Kind,
    LongText,
    Progress,
    Seconds,
    ShortText,
    Spec,
    Status,
)
from restic_manager.domain.results import Result, Row


class JobView(Struct, frozen=True, kw_only=True):
    """One job. host, schedule and repo are names as they are now; slot is null for what no schedule planned.

    waits_for says in a sentence what a queued job waits for. not_before: an attempt's turn, it is not sent earlier.
    warnings: why its listing is not whole here; in the answer to `run` also pauses that it runs in spite of. stats: of
    a backup; result: what any other kind found out or did. spec: all of what it does. caused_by: the job for whose end
    the server made this one. rows: how many of its listing are kept now; they are for about an hour.
    """

    id: str
    kind: Kind
    host: str
    schedule: str | None
    repo: str
    slot: Instant | None
    actor_kind: Actor
    status: Status
    created_at: Instant
    started_at: Instant | None
    finished_at: Instant | None
    exit_code: int | None
    snapshot_id: str | None
    error: Failure | None
    stats: BackupStats | None
    trigger: Literal["tick", "catch-up"] | None
    stands_for: int
    attempt: int
    attempt_of: str | None
    next_attempt: str | None
    waits_for: str | None
    not_before: Instant | None = None
    cancel_requested_at: Instant | None
    log_lines: int
    log_lines_dropped: int
    progress: Progress | None = None
    warnings: tuple[str, ...] = ()
    spec: Spec
    result: Result | None = None
    caused_by: str | None = None
    rows: int = 0


class LogEvent(Struct, frozen=True, kw_only=True, tag="log", tag_field="event"):
    """One line of a job's log; `line` counts from 1."""

    job_id: str
    line: int
    at: Instant
    stream: Literal["stdout", "stderr", "agent"]
    text: str


class GapEvent(Struct, frozen=True, kw_only=True, tag="gap", tag_field="event"):
    """Lines that were not kept, at this place of the log."""

    job_id: str
    lines: int


class ProgressEvent(Struct, frozen=True, kw_only=True, tag="progress", tag_field="event"):
    """The latest progress of a running job."""

    job_id: str
    progress: Progress


class JobEvent(Struct, frozen=True, kw_only=True, tag="job", tag_field="event"):
    """The job as it is now: sent first, and again whenever its status changes (or the next attempt takes over)."""

    job: JobView


Event = LogEvent | GapEvent | ProgressEvent | JobEvent
"""One line of `GET /v1/jobs/{id}/events`, which is JSON lines."""


class RowsEvent(Struct, frozen=True, kw_only=True, tag="rows", tag_field="event"):
    """The next rows of a job's listing; `first` counts from 1."""

    job_id: str
    first: int
    rows: tuple[Row, ...]


RowsLine = RowsEvent | ProgressEvent | JobEvent
"""One line of `GET /v1/jobs/{id}/rows`, which is JSON lines; the last is the job as it ended.

A job that waits a while before it begins is told, too, whenever what it waits for is something else.
"""


class JobRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Do this on the repository now. host: who; null: one that is online and uses it.

    maintainer_env: what the repository's maintainer needs beside what is kept; held in memory until the job is over.
    of_host, of_schedule: names; the spec gets what they are called in restic. A copy's `from_repo` may be a name here.
    """

    spec: Spec
    repo: str
    host: str | None = None
    of_host: str | None = None
    of_schedule: str | None = None
    time_limit: Seconds | None = None
    lock_wait: Seconds | None = None
    maintainer_env: Annotated[dict[ShortText, LongText], Meta(max_length=64)] | UnsetType = UNSET
