"""What a job does, typed per kind: one struct a kind, its tag the kind's name.

Specs travel on the wire and lie in rows as they are. They hold no secret, no flag and no shell text: a second
repository is named by its id, and the order that carries the spec brings its access. What restic would misread is
refused by `restic.checks`, which knows it. Refuses to know how restic is asked.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from restic_manager.domain.bounds import Count, Id, Instant, Name, PathText, SnapshotId
from restic_manager.domain.hooks import ProgramName
from restic_manager.domain.retention import Retention

Snapshots = Annotated[tuple[SnapshotId, ...], Meta(max_length=10_000)]
Patterns = Annotated[tuple[PathText, ...], Meta(max_length=1_000)]
Rate = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Bytes = Annotated[int, Meta(ge=1, le=2**53)]


class Tuning(Struct, frozen=True, kw_only=True):
    """How hard a job may work. Rates in KiB/s; nice 0 to 19; io_level 0 (first) to 7 within `best-effort`.

    compression and read_concurrency (files at once) are for what writes and what reads files.
    """

    upload_limit: Rate | None = None
    download_limit: Rate | None = None
    compression: Literal["auto", "off", "fastest", "better", "max"] | None = None
    read_concurrency: Annotated[int, Meta(ge=1, le=128)] | None = None
    nice: Annotated[int, Meta(ge=0, le=19)] | None = None
    io_class: Literal["best-effort", "idle"] | None = None
    io_level: Annotated[int, Meta(ge=0, le=7)] | None = None


class BackupSpec(Struct, frozen=True, kw_only=True, tag="backup", tag_field="kind"):
    """What one backup saves. Paths and patterns are path text (`domain.pathtext`), never argv.

    files_from: files on the host, each with one path a line, taken as they are (no patterns, no comments).
    exclude_larger_than: bytes. skip_if_unchanged: no snapshot when nothing differs from the one before.
    stdin_command: instead of files, what this program of the host's own writes, saved under the name stdin_name (None:
    the program's own).
    """

    paths: Annotated[tuple[PathText, ...], Meta(max_length=1_000)] = ()
    excludes: Patterns = ()
    exclude_files: Annotated[tuple[PathText, ...], Meta(max_length=100)] = ()
    exclude_if_present: Annotated[tuple[PathText, ...], Meta(max_length=100)] = ()
    exclude_caches: bool = False
    one_file_system: bool = False
    tags: Annotated[tuple[Name, ...], Meta(max_length=100)] = ()
    files_from: Annotated[tuple[PathText, ...], Meta(max_length=100)] = ()
    exclude_larger_than: Bytes | None = None
    skip_if_unchanged: bool = False
    dry_run: bool = False
    tuning: Tuning | None = None
    stdin_command: ProgramName | None = None
    stdin_name: Annotated[str, Meta(min_length=1, max_length=255)] | None = None


class InitSpec(Struct, frozen=True, kw_only=True, tag="init", tag_field="kind"):
    """Create the repository. Exclusive: two at once destroy it (four in parallel on 0.18 ended damaged).

    chunker_from: the repository whose chunker parameters it takes, so that copies between the two find what they share.
    """

    chunker_from: Id | None = None


class ForgetPolicy(Struct, frozen=True, kw_only=True):
    """The retention of one schedule on one host. newest_good: the newest snapshot known to be good, if one is."""

    schedule_id: Id
    restic_host: Name
    keep: Retention
    newest_good: SnapshotId | None = None


class ForgetSpec(Struct, frozen=True, kw_only=True, tag="forget", tag_field="kind"):
    """Remove snapshots: by policies, each for itself, or exactly those named. Never both, never an empty policy.

    Neither, in a schedule or a request: what the schedules of the host say; the order carries their policies.
    """

    policies: Annotated[tuple[ForgetPolicy, ...], Meta(max_length=1_000)] = ()
    snapshots: Snapshots = ()
    dry_run: bool = False


class PruneSpec(Struct, frozen=True, kw_only=True, tag="prune", tag_field="kind"):
    """Remove data that no snapshot needs. max_unused: percent of the repository that may stay unused.

    max_repack: bytes rewritten at most in this run.
    """

    max_unused: Annotated[float, Meta(ge=0, le=100)] | None = None
    max_repack: Count | None = None
    repack_cacheable_only: bool = False
    repack_uncompressed: bool = False
    dry_run: bool = False
    tuning: Tuning | None = None


class Part(Struct, frozen=True, kw_only=True):
    """Part `number` of `of` equal parts of a repository's data; the same numbers always mean the same data."""

    number: Annotated[int, Meta(ge=1, le=10_000)]
    of: Annotated[int, Meta(ge=1, le=10_000)]


class CheckSpec(Struct, frozen=True, kw_only=True, tag="check", tag_field="kind"):
    """Check the repository's structure and, with `read`, the data of one part of it (1 of 1: all of it).

    rolling: of so many parts the next one each time; the order that carries the spec says in `read` which that is.
    """

    read: Part | None = None
    rolling: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    tuning: Tuning | None = None


class UnlockSpec(Struct, frozen=True, kw_only=True, tag="unlock", tag_field="kind"):
    """Remove stale locks. remove_all: live ones too, which breaks what holds them; only when a person says so."""

    remove_all: bool = False


class StatsSpec(Struct, frozen=True, kw_only=True, tag="stats", tag_field="kind"):
    """Measure: what a restore would write, or (raw-data) what the repository stores. No snapshots: all there are."""

    mode: Literal["restore-size", "files-by-contents", "raw-data"] = "raw-data"
    snapshots: Snapshots = ()
    restic_host: Name | None = None
    schedule_id: Id | None = None
    tuning: Tuning | None = None


class RestoreSpec(Struct, frozen=True, kw_only=True, tag="restore", tag_field="kind"):
    """Write a snapshot's files: into `target` (absolute), or in place over what is there now. Exactly one of them.

    snapshot: None for the newest one of the restic host and schedule, of which at least one is said then.
    paths: exactly these and what is below them; none: everything. includes, excludes: restic's patterns, on top.
    overwrite: what happens to files that are there (None: the target has to be empty, or absent). delete: remove what
    the snapshot does not have. verify: read everything again afterwards.
    """

    snapshot: SnapshotId | None = None
    restic_host: Name | None = None
    schedule_id: Id | None = None
    target: PathText | None = None
    in_place: bool = False
    paths: Patterns = ()
    includes: Patterns = ()
    excludes: Patterns = ()
    overwrite: Literal["always", "if-changed", "if-newer", "never"] | None = None
    delete: bool = False
    dry_run: bool = False
    verify: bool = False
    tuning: Tuning | None = None


class VerifySpec(Struct, frozen=True, kw_only=True, tag="verify", tag_field="kind"):
    """Prove that a snapshot can be restored: write a sample of it to a scratch folder, compare, clean up.

    snapshot: None for the newest one of the schedule and host. files, size (bytes): how much at most, chosen by `seed`
    (the same seed and snapshot choose the same files; None: one of the job's own); always: files and folders that are
    in the sample whatever it chooses. live: compare with the host's own file too where it has not changed since.
    """

    snapshot: SnapshotId | None = None
    restic_host: Name | None = None
    schedule_id: Id | None = None
    files: Annotated[int, Meta(ge=1, le=10_000)] = 20
    size: Bytes = 256 << 20
    always: Annotated[tuple[PathText, ...], Meta(max_length=100)] = ()
    seed: Count | None = None
    live: bool = True
    tuning: Tuning | None = None


class CopySpec(Struct, frozen=True, kw_only=True, tag="copy", tag_field="kind"):
    """Copy snapshots from another repository into this one. No snapshots: all that match; none twice."""

    from_repo: Id
    snapshots: Snapshots = ()
    restic_host: Name | None = None
    schedule_id: Id | None = None
    tuning: Tuning | None = None


class LsSpec(Struct, frozen=True, kw_only=True, tag="ls", tag_field="kind"):
    """List one folder of a snapshot (None: the newest of host and schedule); with `recursive` everything below it."""

    snapshot: SnapshotId | None = None
    restic_host: Name | None = None
    schedule_id: Id | None = None
    path: PathText = "/"
    recursive: bool = False


class FindSpec(Struct, frozen=True, kw_only=True, tag="find", tag_field="kind"):
    """Find files by pattern (a glob on the name, or on the whole path if it has a slash) in snapshots."""

    patterns: Annotated[tuple[PathText, ...], Meta(min_length=1, max_length=100)]
    snapshots: Snapshots = ()
    restic_host: Name | None = None
    schedule_id: Id | None = None
    ignore_case: bool = False
    oldest: Instant | None = None
    newest: Instant | None = None


class DiffSpec(Struct, frozen=True, kw_only=True, tag="diff", tag_field="kind"):
    """Say what differs between two snapshots; with `metadata` also where only rights or times do.

    Neither said: the newest of the host and schedule, and the one before it.
    """

    old: SnapshotId | None = None
    new: SnapshotId | None = None
    restic_host: Name | None = None
    schedule_id: Id | None = None
    metadata: bool = False


class TagSpec(Struct, frozen=True, kw_only=True, tag="tag", tag_field="kind"):
    """Add and remove users' tags of snapshots: each gets a new id by it. None said: the newest of host and schedule."""

    snapshots: Snapshots = ()
    restic_host: Name | None = None
    schedule_id: Id | None = None
    add: Annotated[tuple[Name, ...], Meta(max_length=100)] = ()
    remove: Annotated[tuple[Name, ...], Meta(max_length=100)] = ()


class SnapshotsSpec(Struct, frozen=True, kw_only=True, tag="snapshots", tag_field="kind"):
    """List the repository's snapshots, those of one host or schedule, or all."""

    restic_host: Name | None = None
    schedule_id: Id | None = None


class LocksSpec(Struct, frozen=True, kw_only=True, tag="locks", tag_field="kind"):
    """List the locks there are on the repository, whoever's they are, without taking one."""


class DumpSpec(Struct, frozen=True, kw_only=True, tag="dump", tag_field="kind"):
    """Read one file out of a snapshot. limit: bytes; a longer one is refused before anything of it is sent."""

    snapshot: SnapshotId
    path: PathText
    limit: Bytes = 64 << 20


class ProbeSpec(Struct, frozen=True, kw_only=True, tag="probe", tag_field="kind"):
    """Find out whether this host could delete in the repository, by trying it on a snapshot made for that alone."""


Spec = (
    BackupSpec
    | InitSpec
    | ForgetSpec
    | PruneSpec
    | CheckSpec
    | UnlockSpec
    | StatsSpec
    | RestoreSpec
    | VerifySpec
    | CopySpec
    | LsSpec
    | FindSpec
    | DiffSpec
    | TagSpec
    | SnapshotsSpec
    | LocksSpec
    | DumpSpec
    | ProbeSpec
)
"""What a job does, typed per kind; the `kind` field is the tag. Further kinds join this union."""


def needs_programs(spec: Spec) -> bool:
    """Given a spec, return whether it names a program of the host's own."""
    return isinstance(spec, BackupSpec) and spec.stdin_command is not None
