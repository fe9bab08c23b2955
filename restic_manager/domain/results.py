"""What a job found out or did, typed per kind: the part of an outcome that is neither its status nor its failure.

Beside it the rows that the listing kinds give, one at a time and never kept together here. Sizes are bytes, durations
seconds, paths path text. Lists are bounded; the counts beside them are whole. Decides nothing.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from restic_manager.domain.bounds import Count, Id, Instant, LongText, PathText, ShortText, SnapshotId

Duration = Annotated[float, Meta(ge=0)]
Some = Annotated[tuple[LongText, ...], Meta(max_length=100)]


class ForgetStats(Struct, frozen=True, kw_only=True, tag="forget", tag_field="kind"):
    """How many snapshots a forget looked at, kept and removed (would remove, in a dry run).

    refused: policies that were not applied, each in a sentence. removed_ids: the first of those removed.
    """

    kept: Count = 0
    removed: Count = 0
    removed_ids: Annotated[tuple[SnapshotId, ...], Meta(max_length=1_000)] = ()
    refused: Some = ()
    dry_run: bool = False


class PruneStats(Struct, frozen=True, kw_only=True, tag="prune", tag_field="kind"):
    """What a prune did (would do, in a dry run), in bytes as restic rounds them. None: it did not say."""

    repacked: Count | None = None
    removed: Count | None = None
    remaining: Count | None = None
    unused_after: Count | None = None
    dry_run: bool = False


class DamagedFile(Struct, frozen=True, kw_only=True):
    """A file that a damaged pack belongs to, in one snapshot."""

    snapshot: SnapshotId
    path: PathText


class CheckStats(Struct, frozen=True, kw_only=True, tag="check", tag_field="kind"):
    """What a check found. part, of: which part of the data was read; None for none.

    damaged_files: those in the damaged packs, the first of them; damaged_snapshots the same. files_known: whether that
    could be found out.
    """

    errors: Count = 0
    damaged_packs: Annotated[tuple[ShortText, ...], Meta(max_length=1_000)] = ()
    damaged_snapshots: Annotated[tuple[SnapshotId, ...], Meta(max_length=1_000)] = ()
    damaged_files: Annotated[tuple[DamagedFile, ...], Meta(max_length=200)] = ()
    damaged_files_count: Count = 0
    files_known: bool = True
    suggest_repair_index: bool = False
    suggest_prune: bool = False
    part: Count | None = None
    of: Count | None = None


class UnlockStats(Struct, frozen=True, kw_only=True, tag="unlock", tag_field="kind"):
    """How many locks an unlock removed, and how many it left."""

    removed: Count = 0
    left: Count = 0


class RepoStats(Struct, frozen=True, kw_only=True, tag="stats", tag_field="kind"):
    """What `stats` measured. uncompressed and ratio: only of raw data, and only where restic says them."""

    mode: ShortText
    size: Count = 0
    files: Count | None = None
    blobs: Count | None = None
    snapshots: Count = 0
    uncompressed: Count | None = None
    ratio: Annotated[float, Meta(ge=0)] | None = None


class RestoreStats(Struct, frozen=True, kw_only=True, tag="restore", tag_field="kind"):
    """What a restore wrote. None where this restic does not say it. verified: files read again and found right."""

    files_total: Count | None = None
    files_restored: Count | None = None
    files_skipped: Count | None = None
    files_deleted: Count | None = None
    bytes_total: Count | None = None
    bytes_restored: Count | None = None
    bytes_skipped: Count | None = None
    errors: Count = 0
    verified: Count | None = None
    dry_run: bool = False


class Difference(Struct, frozen=True, kw_only=True):
    """One file that was not as it should be: `against` the snapshot's record, or the live file."""

    path: PathText
    against: Literal["snapshot", "live"]
    what: ShortText


class VerifyStats(Struct, frozen=True, kw_only=True, tag="verify", tag_field="kind"):
    """A proof of restore: which snapshot, how much of it was restored and compared, what differed, how long it took.

    live: files compared with the host's own by content; changed: those that had changed since, and so were not.
    """

    snapshot: SnapshotId
    files: Count = 0
    size: Count = 0
    live: Count = 0
    changed: Count = 0
    differences: Annotated[tuple[Difference, ...], Meta(max_length=100)] = ()
    differences_count: Count = 0
    duration: Duration = 0.0


class CopyStats(Struct, frozen=True, kw_only=True, tag="copy", tag_field="kind"):
    """How many snapshots were copied, and how many were there already (None: this restic does not say)."""

    copied: Count = 0
    skipped: Count | None = None
    copied_ids: Annotated[tuple[SnapshotId, ...], Meta(max_length=1_000)] = ()


class ListStats(Struct, frozen=True, kw_only=True, tag="list", tag_field="kind"):
    """How many rows a listing kind gave."""

    rows: Count = 0


class DiffStats(Struct, frozen=True, kw_only=True, tag="diff", tag_field="kind"):
    """What differs between two snapshots, in numbers."""

    rows: Count = 0
    files_changed: Count = 0
    files_added: Count = 0
    files_removed: Count = 0
    bytes_added: Count = 0
    bytes_removed: Count = 0


class TagStats(Struct, frozen=True, kw_only=True, tag="tag", tag_field="kind"):
    """How many snapshots were changed."""

    changed: Count = 0


class ProbeStats(Struct, frozen=True, kw_only=True, tag="probe", tag_field="kind"):
    """Whether a host could delete in the repository: the storage refused it, or it was done, or that is not known."""

    deletion: Literal["refused", "possible", "unknown"]


class Lock(Struct, frozen=True, kw_only=True):
    """One lock on a repository: who took it, where and when, by its own word (restic takes it anew every 5 minutes).

    hostname: the machine's own, not the name that its snapshots carry.
    """

    id: ShortText
    hostname: ShortText
    pid: Count
    time: Instant
    username: ShortText = ""
    exclusive: bool = False


class LockedBy(Struct, frozen=True, kw_only=True, tag="locked", tag_field="kind"):
    """Whose locks were there when a job could not get its own, with code `locked`."""

    locks: Annotated[tuple[Lock, ...], Meta(max_length=100)] = ()


Result = (
    ForgetStats
    | PruneStats
    | CheckStats
    | UnlockStats
    | RepoStats
    | RestoreStats
    | VerifyStats
    | CopyStats
    | ListStats
    | DiffStats
    | TagStats
    | LockedBy
    | ProbeStats
)
"""What an outcome says beside its status; the `kind` field is the tag."""


class SnapshotSummary(Struct, frozen=True, kw_only=True):
    """What the backup that made a snapshot counted (restic 0.17 and newer)."""

    files: Count = 0
    size: Count = 0
    data_added: Count = 0
    files_new: Count = 0
    files_changed: Count = 0


class SnapshotRow(Struct, frozen=True, kw_only=True, tag="snapshot", tag_field="row"):
    """One snapshot of a list. original: the snapshot it was copied or retagged from.

    Its paths are as restic keeps them: what is not UTF-8 in them is lost there already (U+FFFD).
    """

    id: SnapshotId
    time: Instant
    hostname: ShortText
    username: ShortText = ""
    paths: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    tree: ShortText | None = None
    parent: Id | None = None
    original: Id | None = None
    program: ShortText | None = None
    summary: SnapshotSummary | None = None


class NodeRow(Struct, frozen=True, kw_only=True, tag="node", tag_field="row"):
    """One file or folder of a snapshot. exact: whether `path` is its true name (False: restic showed only U+FFFD)."""

    path: str
    type: ShortText
    size: Count = 0
    mode: Count = 0
    mtime: Instant | None = None
    uid: Count = 0
    gid: Count = 0
    exact: bool = True


class FoundRow(Struct, frozen=True, kw_only=True, tag="found", tag_field="row"):
    """One file or folder that a find found, and in which snapshot."""

    snapshot: SnapshotId
    path: str
    type: ShortText
    size: Count = 0
    mtime: Instant | None = None
    exact: bool = True


class ChangeRow(Struct, frozen=True, kw_only=True, tag="change", tag_field="row"):
    """One difference between two snapshots. modifier as restic writes it: `+` `-` `M` `T` `U` `?`, several at once."""

    path: str
    modifier: ShortText
    exact: bool = True


class FateRow(Struct, frozen=True, kw_only=True, tag="fate", tag_field="row"):
    """What a forget does with one snapshot, and by which rules it keeps it."""

    schedule_id: Id | None
    snapshot: SnapshotRow
    keep: bool
    reasons: tuple[str, ...] = ()


class LockRow(Struct, frozen=True, kw_only=True, tag="lock", tag_field="row"):
    """One lock of a list."""

    lock: Lock


class BytesRow(Struct, frozen=True, kw_only=True, tag="bytes", tag_field="row"):
    """The next bytes of a file (base64 on the wire), at most 64 KiB a row."""

    data: Annotated[bytes, Meta(max_length=64 << 10)]


Row = SnapshotRow | NodeRow | FoundRow | ChangeRow | FateRow | LockRow | BytesRow
"""One row of a listing; the `row` field is the tag."""
