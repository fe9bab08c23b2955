"""What the API carries of repositories and what looks after them."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from restic_manager.domain.model import Instant, LongText, Name, ShortText, Status
from restic_manager.domain.references import ReferenceText
from restic_manager.protocol.api.schedules import ScheduleView
from restic_manager.protocol.api.shapes import DEFAULT_MAX_PARALLEL, Parallel, Parts, Secret

Variables = Annotated[dict[ShortText, LongText], Meta(max_length=64)]
References = Annotated[dict[ShortText, ReferenceText], Meta(max_length=64)]
"""Variables by name, each with where on the host its value stands (`agent-file:/etc/pw`)."""


class RepoRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A repository and its secrets. Without a password, and a reference to one, the server generates one and returns it
    once.

    password_from, user_password_from, env_from: references to secrets on the hosts. user, user_password: the login
    where it is kept, in whatever variables the URL's scheme has for it. append_only: what its hosts get cannot delete
    there. max_parallel: how many jobs that need not be alone may be on it at once. chunker_from: another repository,
    whose chunker parameters it takes when we create it.
    """

    name: str
    url: str
    password: Secret | None = None
    password_from: ReferenceText | None = None
    user: Secret | None = None
    user_password: Secret | None = None
    user_password_from: ReferenceText | None = None
    env: Variables = {}
    env_from: References = {}
    append_only: bool = False
    max_parallel: Parallel = DEFAULT_MAX_PARALLEL
    chunker_from: str | None = None


class RepoEdit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a repository; what is left out stays."""

    append_only: bool | UnsetType = UNSET
    max_parallel: Parallel | UnsetType = UNSET


class SecretsRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What opens a repository from now on; what is left out stays. Nothing in the repository itself is changed.

    env, env_from: variables to set, the others stay. unset: variables to remove.
    """

    password: Secret | None = None
    password_from: ReferenceText | None = None
    user: Secret | None = None
    user_password: Secret | None = None
    user_password_from: ReferenceText | None = None
    env: Variables = {}
    env_from: References = {}
    unset: Annotated[tuple[ShortText, ...], Meta(max_length=64)] = ()


class SecretsView(Struct, frozen=True, kw_only=True):
    """What was set, each in words that hold no secret; the repository as it is now; the hosts that hear of it."""

    changed: tuple[str, ...]
    repo: RepoView
    hosts: tuple[Name, ...]


class RepoView(Struct, frozen=True, kw_only=True):
    """One repository, without its secrets. `generated_password` and `note` are in the answer to `add` only.

    snapshots: how many it had at `listed_at`; list_stale: a job that may have changed them has ended since. size: bytes
    it stored at `measured_at`. part_read of parts: how far the rolling check has come. locks_removed: stale locks that
    the server had removed. password_from, env_from: references to secrets on the hosts. deletion: what the last probe
    found of its hosts' deleting there, `refused` or `possible`. warnings: what is not as it should be, each in a
    sentence.
    """

    id: str
    name: str
    url: str
    env_names: tuple[str, ...]
    password_from: str | None = None
    env_from: dict[str, str] = {}
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
    maintainer_env_from: dict[str, str] = {}
    maintainer_per_job: bool = False
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
    deletion: str | None = None
    probed_at: Instant | None = None
    warnings: tuple[str, ...] = ()


class InitRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Create the repository, by a job on this host."""

    host: str


class MaintenanceRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who looks after a repository, and when; what is left out stays.

    maintainer_url, maintainer_env, maintainer_env_from: how the maintainer reaches it where that is not as the others
    do (it can delete). maintainer_per_job: what else it needs for that comes with each job, and is never kept.
    The rest are timings (cron, or `@every 6h`), each an ordinary schedule on the maintainer; null removes it.
    check_parts: of how many parts a check reads the next one's data; null: it reads none. verify is run by every host
    of the repository.
    """

    maintainer: str | UnsetType = UNSET
    maintainer_url: str | UnsetType | None = UNSET
    maintainer_env: Variables | UnsetType = UNSET
    maintainer_env_from: References | UnsetType = UNSET
    maintainer_per_job: bool | UnsetType = UNSET
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
