"""What the API carries of schedules, their slots and what became of them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from restic_manager.domain.guards import Guards
from restic_manager.domain.hooks import Hooks, ProgramName
from restic_manager.domain.model import (
    Evidence,
    Instant,
    Kind,
    Name,
    Offline,
    Overlap,
    PathText,
    Seconds,
    Spec,
    Status,
)
from restic_manager.domain.retention import Retention
from restic_manager.domain.specs import Bytes, Tuning
from restic_manager.protocol.api.fleet import PauseView
from restic_manager.protocol.api.shapes import DEFAULT_RETRY_BACKOFF, DEFAULT_STALL_LIMIT, Labels, Retries


class ScheduleRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A schedule: when, where, what. Exactly one of hosts, labels (all must match) and all. cron may be `@every 4s`.

    timezone: an IANA name, `host` for each host's own, or null for the server's. Durations in seconds. retry: how many
    further attempts a run gets that failed for a passing reason, the first after retry_backoff, then after twice that.
    retention (of backups): which snapshots of each host are kept; null for all. guards (of backups): null for the
    usual.
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
    retention: Retention | None = None
    guards: Guards | None = None
    hooks: Hooks | None = None


class ScheduleEdit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a schedule; what is left out stays.

    spec: its whole content anew, of the same kind. The fields from `paths` on are of a backup's content, one by one.
    """

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
    retention: Retention | UnsetType | None = UNSET
    guards: Guards | UnsetType | None = UNSET
    hooks: Hooks | UnsetType | None = UNSET
    spec: Spec | UnsetType = UNSET
    paths: Annotated[tuple[PathText, ...], Meta(max_length=1_000)] | UnsetType = UNSET
    excludes: Annotated[tuple[PathText, ...], Meta(max_length=1_000)] | UnsetType = UNSET
    exclude_files: Annotated[tuple[PathText, ...], Meta(max_length=100)] | UnsetType = UNSET
    exclude_if_present: Annotated[tuple[PathText, ...], Meta(max_length=100)] | UnsetType = UNSET
    exclude_caches: bool | UnsetType = UNSET
    one_file_system: bool | UnsetType = UNSET
    tags: Annotated[tuple[Name, ...], Meta(max_length=100)] | UnsetType = UNSET
    files_from: Annotated[tuple[PathText, ...], Meta(max_length=100)] | UnsetType = UNSET
    exclude_larger_than: Bytes | UnsetType | None = UNSET
    skip_if_unchanged: bool | UnsetType = UNSET
    tuning: Tuning | UnsetType | None = UNSET
    stdin_command: ProgramName | UnsetType | None = UNSET
    stdin_name: Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType | None = UNSET


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
    """One schedule. `words` is the timing in plain words; `targets` are today's hosts; hosts/labels/all is the rule.

    spec: all of what it does; the fields from `paths` to `tags` are a backup's again, empty for other kinds. keeps: the
    retention in words.
    """

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
    spec: Spec
    retention: Retention | None = None
    guards: Guards | None = None
    hooks: Hooks | None = None
    keeps: str | None = None
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


class PreviewRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say what the schedule's retention would remove now, on one of its hosts or on all."""

    host: str | None = None


class Explanation(Struct, frozen=True, kw_only=True):
    """`schedule explain`: an expression in words and its coming slots. Needs no server."""

    cron: str
    timezone: str
    words: str
    next: tuple[NextSlot, ...]
    notes: tuple[str, ...] = ()
