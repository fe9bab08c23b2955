"""What the API carries of snapshots: as they were when the server last listed their repository."""

from __future__ import annotations

from msgspec import Struct

from restic_manager.domain.model import Instant


class SnapshotView(Struct, frozen=True, kw_only=True):
    """One snapshot. host and schedule are names as they are now, null where it is none of ours.

    time: by its own word. tags: the users' own. job_id: the job that made it. files, size and data_added (bytes) are
    null where restic does not say them (before 0.17).
    """

    id: str
    repo: str
    time: Instant
    host: str | None
    restic_host: str
    schedule: str | None
    job_id: str | None
    paths: tuple[str, ...]
    tags: tuple[str, ...]
    username: str
    files: int | None
    size: int | None
    data_added: int | None
    tree: str | None
    parent: str | None
    original: str | None
    program: str | None


class ListState(Struct, frozen=True, kw_only=True):
    """How fresh the list of one repository is. at: when it was listed, null for never; stale: changed since.

    job_id: the job that lists it anew, if one is under way. note: why it cannot be listed now, in a sentence.
    """

    repo: str
    at: Instant | None
    stale: bool
    job_id: str | None = None
    note: str | None = None


class SnapshotsView(Struct, frozen=True, kw_only=True):
    """Snapshots, newest first, and how fresh the lists they are from are. more: there are further ones.

    next: where they go on, to be said as `after` by whoever asks for the next page.
    """

    snapshots: tuple[SnapshotView, ...]
    lists: tuple[ListState, ...]
    more: bool = False
    next: str | None = None
