"""What the API carries of repositories and what looks after them."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from restic_manager.domain.model import Instant, LongText, ShortText, Status
from restic_manager.protocol.api.schedules import ScheduleView
from restic_manager.protocol.api.shapes import DEFAULT_MAX_PARALLEL, Parallel, Parts, Secret

Variables = Annotated[dict[ShortText, LongText], Meta(max_length=64)]


class RepoRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A repository and its secrets. Without a password the server generates one and returns it once.

    append_only: what its hosts get cannot delete there. max_parallel: how many jobs that need not be alone may be on it
    at once. chunker_from: another repository, whose chunker parameters it takes when we create it.
    """

    name: str
    url: str
    password: Secret | None = None
    env: Variables = {}
    append_only: bool = False
    max_parallel: Parallel = DEFAULT_MAX_PARALLEL
    chunker_from: str | None = None


class RepoEdit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a repository; what is left out stays."""

    append_only: bool | UnsetType = UNSET
    max_parallel: Parallel | UnsetType = UNSET


class RepoView(Struct, frozen=True, kw_only=True):
    """One repository, without its secrets. `generated_password` and `note` are in the answer to `add` only.

    snapshots: how many it had at `listed_at`; list_stale: a job that may have changed them has ended since. size: bytes
    it stored at `measured_at`. part_read of parts: how far the rolling check has come. locks_removed: stale locks that
    the server had removed. warnings: what is not as it should be, each in a sentence.
    """

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
    append_only: bool = False
    max_parallel: int = DEFAULT_MAX_PARALLEL
    chunker_from: str | None = None
    maintainer: str | None = None
    maintainer_url: str | None = None
    maintainer_env_names: tuple[str, ...] = ()
    snapshots: int = 0
    listed_at: Instant | None = None
    list_stale: bool = False
    size: int | None = None
    measured_at: Instant | None = None
    checked_at: Instant | None = None
    check_status: Status | None = None
    part_read: int | None = None
    parts: int | None = None
    locks_removed: int = 0
    warnings: tuple[str, ...] = ()


class InitRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Create the repository, by a job on this host."""

    host: str


class MaintenanceRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who looks after a repository, and when; what is left out stays.

    maintainer_url, maintainer_env: how the maintainer reaches it where that is not as the others do (it can delete).
    The rest are timings (cron, or `@every 6h`), each an ordinary schedule on the maintainer; null removes it.
    check_parts: of how many parts a check reads the next one's data; null: it reads none. verify is run by every host
    of the repository.
    """

    maintainer: str | UnsetType = UNSET
    maintainer_url: str | UnsetType | None = UNSET
    maintainer_env: Variables | UnsetType = UNSET
    prune: str | UnsetType | None = UNSET
    check: str | UnsetType | None = UNSET
    check_parts: Parts | UnsetType | None = UNSET
    forget: str | UnsetType | None = UNSET
    stats: str | UnsetType | None = UNSET
    verify: str | UnsetType | None = UNSET


class MaintenanceView(Struct, frozen=True, kw_only=True):
    """A repository and the schedules that look after it."""

    repo: RepoView
    schedules: tuple[ScheduleView, ...]
    warnings: tuple[str, ...] = ()


class SizeView(Struct, frozen=True, kw_only=True):
    """How large a repository was once: bytes it stored, what they hold (where restic says it), how many snapshots."""

    at: Instant
    size: int
    uncompressed: int | None
    snapshots: int
