"""The operators' requests and answers: what the HTTP API carries, and therefore what `--json` prints.

One struct a noun. Paths, verbs and HTTP statuses are in `docs/api.md` and the OpenAPI document; both sides (server/api
and client) use these types, so that neither can drift. Keys are stable: they are only ever added to.

Over 400 lines, because it is the one list of what the API carries; most of it is fields.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from restic_manager.domain.model import (
    Actor,
    BackupStats,
    Evidence,
    Failure,
    Instant,
    Kind,
    LongText,
    Name,
    Offline,
    Overlap,
    PathText,
    Progress,
    Seconds,
    ShortText,
    Spec,
    Status,
)

Labels = Annotated[dict[Name, ShortText], Meta(max_length=64)]
Secret = Annotated[str, Meta(min_length=1, max_length=4_096)]
Retries = Annotated[int, Meta(ge=0, le=100)]
PauseReason = Annotated[str, Meta(max_length=200)]

DEFAULT_RETRY_BACKOFF = 300
"""Seconds from a failure to the first further attempt, where a schedule says nothing else."""
DEFAULT_STALL_LIMIT = 1_800
"""Seconds without progress after which a run is stopped, where a schedule says nothing else."""


class ErrorBody(Struct, frozen=True, kw_only=True):
    """What went wrong, for a program and for a person."""

    code: str
    message: str


class ErrorAnswer(Struct, frozen=True, kw_only=True):
    """The body of every answer that is not 2xx, and what `--json` prints on standard error."""

    error: ErrorBody


# -- server -----------------------------------------------------------------------------------------------------------


class ServerView(Struct, frozen=True, kw_only=True):
    """The server itself."""

    version: str
    epoch: str
    started_at: Instant
    timezone: str
    listen: str
    data_dir: str


class PauseRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Let no slot run: until an instant, for so many seconds, or (neither) until somebody resumes."""

    reason: PauseReason = ""
    until: Instant | None = None
    seconds: Seconds | None = None


class PauseView(Struct, frozen=True, kw_only=True):
    """A pause that holds now: of the fleet, of one host or of one schedule. until: null for until somebody resumes."""

    scope: Literal["fleet", "host", "schedule"]
    host: str | None
    schedule: str | None
    reason: str
    since: Instant
    until: Instant | None
    who: str


class HostLine(Struct, frozen=True, kw_only=True):
    """One host in `status`: is it there, what did it last do, what comes next."""

    name: str
    online: bool
    last_seen_at: Instant | None
    last_job_id: str | None
    last_job_status: Status | None
    last_job_at: Instant | None
    last_success_at: Instant | None
    next_slot: Instant | None
    running: int
    queued: int


class StatusView(Struct, frozen=True, kw_only=True):
    """The whole fleet at a glance. `problems` are sentences, worst first; empty means nothing is known to be wrong."""

    server: ServerView
    hosts_total: int
    hosts_online: int
    schedules_total: int
    schedules_enabled: int
    jobs_queued: int
    jobs_running: int
    last_24h: dict[str, int]
    hosts: tuple[HostLine, ...]
    problems: tuple[str, ...]
    pauses: tuple[PauseView, ...] = ()


# -- hosts ------------------------------------------------------------------------------------------------------------


class InviteRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Let a host join under this name; for a known host, let it rejoin."""

    name: str
    labels: Labels = {}


class InviteView(Struct, frozen=True, kw_only=True):
    """A single-use token (shown once) and the line to paste on the host."""

    name: str
    token: str
    expires_at: Instant
    command: str
    rejoin: bool
    note: str | None = None


class HostView(Struct, frozen=True, kw_only=True):
    """One host. `online` means it has a live session now; times are null until they happened."""

    id: str
    name: str
    labels: dict[str, str]
    online: bool
    state: Literal["invited", "joined"]
    last_seen_at: Instant | None
    joined_at: Instant | None
    agent_version: str | None
    restic_version: str | None
    restic_problem: str | None
    restic_host: str
    os: str | None
    timezone: str | None
    clock_skew: float | None
    schedule_version: int
    applied_schedule_version: int
    refused_entries: tuple[str, ...] = ()
    pauses: tuple[PauseView, ...] = ()


class LabelRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Labels to set and label names to take away."""

    set: Labels = {}
    remove: Annotated[tuple[Name, ...], Meta(max_length=64)] = ()


class RenameRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new name for a host."""

    name: str


# -- repositories -----------------------------------------------------------------------------------------------------


class RepoRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A repository and its secrets. Without a password the server generates one and returns it once."""

    name: str
    url: str
    password: Secret | None = None
    env: Annotated[dict[ShortText, LongText], Meta(max_length=64)] = {}


class RepoView(Struct, frozen=True, kw_only=True):
    """One repository, without its secrets. `generated_password` and `note` are in the answer to `add` only."""

    id: str
    name: str
    url: str
    env_names: tuple[str, ...]
    created_at: Instant
    schedules: tuple[str, ...]
    hosts: tuple[str, ...]
    last_job_at: Instant | None
    generated_password: str | None = None
    note: str | None = None


class InitRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Create the repository, by a job on this host."""

    host: str


# -- schedules --------------------------------------------------------------------------------------------------------


class ScheduleRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A schedule: when, where, what. Exactly one of hosts, labels (all must match) and all. cron may be `@every 4s`.

    timezone: an IANA name, `host` for each host's own, or null for the server's. Durations in seconds. retry: how many
    further attempts a run gets that failed for a passing reason, the first after retry_backoff, then after twice that.
    """

    name: str
    cron: str
    repo: str
    spec: Spec
    hosts: Annotated[tuple[str, ...], Meta(max_length=5_000)] = ()
    labels: Labels = {}
    all: bool = False
    timezone: str | None = None
    splay: Seconds = 0
    overlap: Overlap = Overlap.QUEUE
    offline: Offline = Offline.RUN
    max_lateness: Seconds | None = None
    enabled: bool = True
    retry: Retries = 0
    retry_backoff: Seconds = DEFAULT_RETRY_BACKOFF
    time_limit: Seconds | None = None
    stall_limit: Seconds | None = DEFAULT_STALL_LIMIT


class ScheduleEdit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a schedule; what is left out stays."""

    name: str | UnsetType = UNSET
    cron: str | UnsetType = UNSET
    repo: str | UnsetType = UNSET
    hosts: Annotated[tuple[str, ...], Meta(max_length=5_000)] | UnsetType = UNSET
    labels: Labels | UnsetType = UNSET
    all: bool | UnsetType = UNSET
    timezone: str | UnsetType | None = UNSET
    splay: Seconds | UnsetType = UNSET
    overlap: Overlap | UnsetType = UNSET
    offline: Offline | UnsetType = UNSET
    max_lateness: Seconds | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    retry: Retries | UnsetType = UNSET
    retry_backoff: Seconds | UnsetType = UNSET
    time_limit: Seconds | UnsetType | None = UNSET
    stall_limit: Seconds | UnsetType | None = UNSET
    paths: Annotated[tuple[PathText, ...], Meta(max_length=1_000)] | UnsetType = UNSET
    excludes: Annotated[tuple[PathText, ...], Meta(max_length=1_000)] | UnsetType = UNSET
    exclude_files: Annotated[tuple[PathText, ...], Meta(max_length=100)] | UnsetType = UNSET
    exclude_if_present: Annotated[tuple[PathText, ...], Meta(max_length=100)] | UnsetType = UNSET
    exclude_caches: bool | UnsetType = UNSET
    one_file_system: bool | UnsetType = UNSET
    tags: Annotated[tuple[Name, ...], Meta(max_length=100)] | UnsetType = UNSET


class NextSlot(Struct, frozen=True, kw_only=True):
    """One coming slot: in UTC, and as the clock on the wall says it, with the UTC offset.

    host is set where hosts differ (`H`, the zone `host`); runs_at is the slot plus this host's splay.
    """

    utc: Instant
    local: str
    host: str | None = None
    runs_at: Instant | None = None


class Target(Struct, frozen=True, kw_only=True):
    """A host this schedule runs on now."""

    name: str
    online: bool


class ScheduleView(Struct, frozen=True, kw_only=True):
    """One schedule. `words` is the timing in plain words; `targets` are today's hosts; hosts/labels/all is the rule."""

    id: str
    name: str
    enabled: bool
    kind: Kind
    cron: str
    timezone: str
    splay: int
    overlap: Overlap
    offline: Offline
    max_lateness: int | None
    repo: str
    hosts: tuple[str, ...]
    labels: dict[str, str]
    all: bool
    targets: tuple[Target, ...]
    paths: tuple[str, ...]
    excludes: tuple[str, ...]
    exclude_files: tuple[str, ...]
    exclude_if_present: tuple[str, ...]
    exclude_caches: bool
    one_file_system: bool
    tags: tuple[str, ...]
    revision: int
    created_at: Instant
    words: str
    next: tuple[NextSlot, ...]
    retry: int = 0
    retry_backoff: int = DEFAULT_RETRY_BACKOFF
    time_limit: int | None = None
    stall_limit: int | None = DEFAULT_STALL_LIMIT
    pauses: tuple[PauseView, ...] = ()
    warnings: tuple[str, ...] = ()


class HistoryEntry(Struct, frozen=True, kw_only=True):
    """One fate and the slots it is the fate of: `count` from `slot` to `last_slot` (null for a single one).

    fate: ran, coalesced, missed, skipped, rejected; pending (due, the host is there, not decided yet) and unknown (past
    due from a host that cannot be heard). into: the slot that took the place of coalesced ones. A run's retries stand
    here too: `attempts` are the ids of all its jobs in order, `status` is where the newest of them stands.
    """

    slot: Instant
    last_slot: Instant | None
    fate: Literal["ran", "coalesced", "missed", "skipped", "rejected", "pending", "unknown", "planned"]
    count: int
    job_id: str | None
    host: str
    reason: str | None
    into: Instant | None
    evidence: Evidence | None
    attempts: tuple[str, ...]
    status: Status | None


class WhyView(Struct, frozen=True, kw_only=True):
    """What became of one slot: in one sentence, and the entry that holds it (its fate may be `planned` here).

    local: the slot as the clock on the wall says it, with the UTC offset. coalesced: how many earlier slots its run
    stands for besides its own.
    """

    sentence: str
    schedule: str
    host: str
    slot: Instant
    local: str
    coalesced: int
    entry: HistoryEntry


class RunRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Run the schedule's work now, on one of its hosts or on all."""

    host: str | None = None


# -- jobs -------------------------------------------------------------------------------------------------------------


class JobView(Struct, frozen=True, kw_only=True):
    """One job. host, schedule and repo are names as they are now; slot is null for what no schedule planned.

    waits_for says in a sentence what a queued job waits for. not_before: an attempt's turn, it is not sent earlier.
    warnings: in the answer to `run` only, pauses that it runs in spite of.
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


class Explanation(Struct, frozen=True, kw_only=True):
    """`schedule explain`: an expression in words and its coming slots. Needs no server."""

    cron: str
    timezone: str
    words: str
    next: tuple[NextSlot, ...]
    notes: tuple[str, ...] = ()
