"""The vocabulary as values: kinds, statuses, fates, timings, outcomes, and the ids both sides compute.

Its bounds are `bounds`, the specs `specs`, what jobs find out `results`.
Everything here is frozen and typed, travels on the wire and in rows as it is, and decides nothing. It refuses to know
who sends it, who stores it and what time it is.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from restic_manager.domain.bounds import Count, Id, Instant, LongText, Name, PathText, Revision, Seconds, ShortText
from restic_manager.domain.instants import slot_text
from restic_manager.domain.references import ReferenceText
from restic_manager.domain.results import Result
from restic_manager.domain.specs import BackupSpec, InitSpec, Spec

__all__ = [
    "JOB_NAMESPACE",
    "Actor",
    "BackupSpec",
    "BackupStats",
    "Count",
    "Evidence",
    "Failure",
    "Fate",
    "Id",
    "InitSpec",
    "Instant",
    "Kind",
    "Limits",
    "LongText",
    "Name",
    "Offline",
    "Outcome",
    "Overlap",
    "PathText",
    "Progress",
    "RepoAccess",
    "Revision",
    "Seconds",
    "ShortText",
    "Spec",
    "Status",
    "Timing",
    "attempt_job_id",
    "fingerprint",
    "kind_of",
    "new_id",
    "slot_job_id",
]

JOB_NAMESPACE = uuid.UUID("5c1a2f0e-63f5-5b0d-9a55-2f6a3f1d9c77")
"""The uuid5 namespace of job ids. Never change it: both peers name the same run by it without talking."""


class Kind(StrEnum):
    """What a job does."""

    BACKUP = "backup"
    INIT = "init"
    FORGET = "forget"
    PRUNE = "prune"
    CHECK = "check"
    UNLOCK = "unlock"
    STATS = "stats"
    RESTORE = "restore"
    VERIFY = "verify"
    COPY = "copy"
    LS = "ls"
    FIND = "find"
    DIFF = "diff"
    TAG = "tag"
    SNAPSHOTS = "snapshots"
    LOCKS = "locks"
    DUMP = "dump"
    PROBE = "probe"

    @property
    def heavy(self) -> bool:
        """Whether a host runs at most one such job at a time."""
        return not self.reading and self is not Kind.UNLOCK

    @property
    def exclusive(self) -> bool:
        """Whether nothing else of ours may touch the repository meanwhile: restic locks it alone for these."""
        return self in {Kind.INIT, Kind.FORGET, Kind.PRUNE, Kind.CHECK, Kind.TAG, Kind.PROBE}

    @property
    def reading(self) -> bool:
        """Whether it only asks the repository, changes nothing anywhere, and so runs beside a host's heavy job."""
        return self in {Kind.STATS, Kind.LS, Kind.FIND, Kind.DIFF, Kind.SNAPSHOTS, Kind.LOCKS, Kind.DUMP}


class Status(StrEnum):
    """Where a job stands: queued, running, then exactly one outcome."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    WARNING = "warning"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"

    @property
    def terminal(self) -> bool:
        """Whether this is an outcome."""
        return self not in {Status.QUEUED, Status.RUNNING}


class Actor(StrEnum):
    """Who wanted the job."""

    SCHEDULE = "schedule"
    RETRY = "retry"
    OPERATOR = "operator"
    SERVER = "server"


class Fate(StrEnum):
    """What became of a slot."""

    RAN = "ran"
    COALESCED = "coalesced"
    MISSED = "missed"
    SKIPPED = "skipped"
    REJECTED = "rejected"


class Evidence(Struct, frozen=True, kw_only=True):
    """What the agent knows about why: an interval (`not_running`, `suspended`, `clock_back`) with its bounds."""

    what: ShortText
    since: Instant | None = None
    until: Instant | None = None


class Overlap(StrEnum):
    """What a slot does while a run of the same schedule is still unfinished on the host."""

    QUEUE = "queue"
    SKIP = "skip"


class Offline(StrEnum):
    """What a slot does while the server does not answer: run its standing order after the grace, or wait."""

    RUN = "run"
    WAIT = "wait"


class Turn(Struct, frozen=True, kw_only=True):
    """What a schedule that is off becomes by itself, and when: slots after `at` are of this revision.

    off_reason: where it stays off, what the slots that pass are recorded with; null is `disabled`.
    """

    at: Instant
    revision: Revision
    enabled: bool
    off_reason: ShortText | None = None


class Timing(Struct, frozen=True, kw_only=True):
    """When a schedule is due on one host, fully resolved: no `H` in it, no zone called `host`.

    cron: five fields, a nickname (`@daily`) or `@every <duration>`. timezone: an IANA name. splay: seconds added to
    when a slot runs (already this host's own stable offset, never to be hashed again). anchor: what `@every` counts
    from.
    """

    cron: Annotated[str, Meta(min_length=1, max_length=256)]
    timezone: Annotated[str, Meta(min_length=1, max_length=64)]
    anchor: Instant
    splay: Seconds = 0


def kind_of(spec: Spec) -> Kind:
    """Given a spec, return its kind."""
    return Kind(str(type(spec).__struct_config__.tag))


class RepoAccess(Struct, frozen=True, kw_only=True):
    """What restic needs to open one repository. Holds secrets: it has no readable repr and is never logged.

    Exactly one of password and password_from is there. password_from, env_from: references (`domain.references`) to
    what the host itself looks up just before it runs; no variable is in both env and env_from.
    """

    repo_id: Id
    url: Annotated[str, Meta(min_length=1, max_length=4_096)]
    password: Annotated[str, Meta(min_length=1, max_length=4_096)] | None = None
    password_from: ReferenceText | None = None
    env: Annotated[dict[ShortText, LongText], Meta(max_length=64)] = {}
    env_from: Annotated[dict[ShortText, ReferenceText], Meta(max_length=64)] = {}

    def __post_init__(self) -> None:
        """Raise ValueError unless it says once, and in one way, what opens the repository."""
        if (self.password is None) == (self.password_from is None):
            raise ValueError("exactly one of password and password_from has to be there")
        if both := self.env.keys() & self.env_from.keys():
            raise ValueError(f"env and env_from both have {min(both)}")

    @property
    def referenced(self) -> bool:
        """Whether anything of it has to be looked up on the host."""
        return self.password_from is not None or bool(self.env_from)

    def known_password(self) -> str:
        """Return the password; raise ValueError while it is not looked up."""
        if self.password is None:
            raise ValueError(f"the password of repository {self.repo_id} is not looked up yet")
        return self.password

    def __repr__(self) -> str:
        """Name the repository, never its secrets."""
        return f"RepoAccess(repo_id={self.repo_id!r})"

    __str__ = __repr__


class Limits(Struct, frozen=True, kw_only=True):
    """Bounds on one run, in seconds; None for none. lock_wait: how long to wait for a lock that somebody else holds."""

    time_limit: Seconds | None = None
    stall_limit: Seconds | None = None
    lock_wait: Seconds | None = None


class BackupStats(Struct, frozen=True, kw_only=True):
    """restic's own summary of one backup. Bytes are bytes, duration is seconds."""

    files_new: Count = 0
    files_changed: Count = 0
    files_unmodified: Count = 0
    dirs_new: Count = 0
    dirs_changed: Count = 0
    dirs_unmodified: Count = 0
    data_blobs: Count = 0
    tree_blobs: Count = 0
    data_added: Count = 0
    data_added_packed: Count = 0
    total_files_processed: Count = 0
    total_bytes_processed: Count = 0
    total_duration: Annotated[float, Meta(ge=0)] = 0.0


class Failure(Struct, frozen=True, kw_only=True):
    """Why a job did not simply succeed: a stable code, a sentence with the remedy, restic's own first error lines."""

    code: ShortText
    message: LongText
    lines: Annotated[tuple[LongText, ...], Meta(max_length=20)] = ()


class Outcome(Struct, frozen=True, kw_only=True):
    """How a job ended. A failed backup is this value, not an exception.

    status is terminal. `error` is set for every status but succeeded (for a warning it says what was incomplete).
    exit_code is restic's own; None where restic never ran or was killed by a signal. stats is a backup's, result what
    any other kind found out or did.
    """

    status: Status
    exit_code: Annotated[int, Meta(ge=-255, le=255)] | None = None
    error: Failure | None = None
    snapshot_id: Id | None = None
    stats: BackupStats | None = None
    result: Result | None = None


class Progress(Struct, frozen=True, kw_only=True):
    """The latest word of a running job. Only the newest value matters; nothing of it is stored."""

    percent_done: Annotated[float, Meta(ge=0, le=1)] = 0.0
    files_done: Count = 0
    files_total: Count = 0
    bytes_done: Count = 0
    bytes_total: Count = 0
    seconds_elapsed: Count = 0
    seconds_remaining: Count | None = None
    errors: Count = 0
    current: Annotated[tuple[LongText, ...], Meta(max_length=16)] = ()


def slot_job_id(schedule_id: str, host_id: str, slot: datetime) -> str:
    """Given a slot's identity, return the id of the job that runs it: the same on both sides, for ever."""
    return str(uuid.uuid5(JOB_NAMESPACE, f"{schedule_id};{host_id};{slot_text(slot)}"))


def attempt_job_id(first_id: str, attempt: int) -> str:
    """Given the first job's id and n >= 1, return the id of its n-th further attempt."""
    if attempt < 1:
        raise ValueError("the first attempt has the slot's own id")
    return str(uuid.uuid5(uuid.UUID(first_id), str(attempt)))


def new_id() -> str:
    """Return a fresh random id for a host, repository, schedule, operator's job or journal."""
    return str(uuid.uuid4())


def fingerprint(value: object) -> str:
    """Given any value made of these types, return a stable hash of its content (to see whether it changed)."""
    import hashlib

    return hashlib.blake2b(msgspec.json.encode(value, order="deterministic"), digest_size=16).hexdigest()
