"""The options that say what a job of each kind does: shared by `job run KIND`, `schedule add` and `schedule edit`.

Owns their names and what their help says. Which kind takes which, and what their values mean, is `spec_request`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from restic_manager.cli.command import OptionSet


def value(name: str, metavar: str, text: str) -> Any:
    """Given an option's name, what stands for its value and its help, return how typer is told."""
    return typer.Option(name, metavar=metavar, help=text, show_default=False)


def switch(name: str, text: str) -> Any:
    """Given `--x/--no-x` and its help, return how typer is told of an option that is on, off or not said."""
    return typer.Option(name, help=text, show_default=False)


@dataclass(frozen=True, kw_only=True)
class TuningOptions(OptionSet):
    """How hard a job may work."""

    limit_upload: Annotated[
        str | None, value("--limit-upload", "RATE", "At most this much up a second: KiB, or with a unit (2M).")
    ] = None
    limit_download: Annotated[
        str | None, value("--limit-download", "RATE", "At most this much down a second: KiB, or with a unit (2M).")
    ] = None
    nice: Annotated[str | None, value("--nice", "N", "Give way to other programs: 0 (not at all) to 19.")] = None
    ionice_class: Annotated[str | None, value("--ionice-class", "C", "Disk time: best-effort, or idle.")] = None
    ionice_level: Annotated[str | None, value("--ionice-level", "N", "Within best-effort: 0 (first) to 7 (last).")] = (
        None
    )


@dataclass(frozen=True, kw_only=True)
class RestoreOptions(TuningOptions):
    """Where a restore goes, and what becomes of what is there."""

    to: Annotated[str | None, value("--to", "DIR", "restore: into this folder of the host.")] = None
    in_place: Annotated[
        bool | None, switch("--in-place/--no-in-place", "restore: over what is there, where it came from.")
    ] = None
    include: Annotated[
        list[str] | None, value("--include", "P", "restore: only what matches this pattern of restic's; repeat.")
    ] = None
    exclude: Annotated[
        list[str] | None, value("--exclude", "P", "Leave out what matches this pattern of restic's: backup, restore.")
    ] = None
    overwrite: Annotated[
        str | None,
        value("--overwrite", "WHICH", "restore: of files that are there: always, if-changed, if-newer or never."),
    ] = None
    delete: Annotated[
        bool | None, switch("--delete/--no-delete", "restore: remove what the snapshot does not have (0.17+).")
    ] = None
    verify: Annotated[bool | None, switch("--verify/--no-verify", "restore: read everything again afterwards.")] = None
    dry_run: Annotated[
        bool | None, typer.Option("--dry-run", help="Change nothing: say what would happen.", show_default=False)
    ] = None


@dataclass(frozen=True, kw_only=True)
class WhichOptions(OptionSet):
    """Which snapshots a job is about."""

    snapshot: Annotated[
        list[str] | None,
        value("--snapshot", "ID", "This snapshot; repeat where a kind takes several. Else the newest, or all."),
    ] = None
    of_host: Annotated[str | None, value("--of-host", "H", "The snapshots of this host.")] = None
    of_schedule: Annotated[str | None, value("--of-schedule", "S", "The snapshots of this schedule.")] = None


@dataclass(frozen=True, kw_only=True)
class SpecOptions(RestoreOptions, WhichOptions):
    """What a job does: of each kind, all that can be said."""

    compression: Annotated[
        str | None, value("--compression", "MODE", "auto, off, fastest, better or max: backup, prune, copy.")
    ] = None
    exclude_file: Annotated[
        list[str] | None, value("--exclude-file", "F", "Read such patterns from this file on the host.")
    ] = None
    exclude_if_present: Annotated[
        list[str] | None, value("--exclude-if-present", "F", "Leave out folders that hold a file of this name.")
    ] = None
    exclude_caches: Annotated[
        bool | None, switch("--exclude-caches/--no-exclude-caches", "Leave out folders marked as caches.")
    ] = None
    exclude_larger_than: Annotated[
        str | None, value("--exclude-larger-than", "SIZE", "Leave out files larger than this (500M, 2G).")
    ] = None
    one_file_system: Annotated[
        bool | None,
        switch("--one-file-system/--no-one-file-system", "Stay on the file system each path begins on."),
    ] = None
    files_from: Annotated[
        list[str] | None,
        value("--files-from", "F", "Save the paths in this file on the host, one a line, taken as they are."),
    ] = None
    stdin_command: Annotated[
        str | None,
        value("--stdin-from-command", "NAME", "Save what this program of the host's commands writes (0.17+)."),
    ] = None
    stdin_name: Annotated[str | None, value("--stdin-name", "N", "Under this name. [default: the program's]")] = None
    tag: Annotated[list[str] | None, value("--tag", "T", "Tag the snapshots with this; repeat.")] = None
    skip_if_unchanged: Annotated[
        bool | None,
        switch("--skip-if-unchanged/--no-skip-if-unchanged", "Make no snapshot when nothing has changed (0.17+)."),
    ] = None
    read_concurrency: Annotated[
        str | None, value("--read-concurrency", "N", "Read so many files at once, 1 to 128 (0.15+).")
    ] = None
    max_unused: Annotated[
        str | None, value("--max-unused", "PCT", "prune: leave at most this share of the repository unused (5%).")
    ] = None
    max_repack: Annotated[
        str | None, value("--max-repack", "SIZE", "prune: rewrite at most this much in one run (20G).")
    ] = None
    repack_cacheable_only: Annotated[
        bool | None,
        switch("--repack-cacheable-only/--no-repack-cacheable-only", "prune: rewrite only what hosts keep in caches."),
    ] = None
    repack_uncompressed: Annotated[
        bool | None,
        switch("--repack-uncompressed/--no-repack-uncompressed", "prune: compress what is stored uncompressed."),
    ] = None
    read_data: Annotated[bool | None, switch("--read-data/--no-read-data", "check: read all of the data, too.")] = None
    read_data_subset: Annotated[
        str | None,
        value(
            "--read-data-subset", "N/T", "check: read part N of T of the data. In a schedule 1/T: the next each time."
        ),
    ] = None
    remove_all: Annotated[
        bool | None,
        switch("--remove-all/--no-remove-all", "unlock: take live locks, too, which breaks what holds them."),
    ] = None
    mode: Annotated[
        str | None,
        value("--mode", "MODE", "stats: raw-data (what is stored, the default), restore-size, files-by-contents."),
    ] = None
    files: Annotated[str | None, value("--files", "N", "verify: restore at most so many files. [default: 20]")] = None
    size: Annotated[str | None, value("--size", "SIZE", "verify: … and this much. [default: 256M]")] = None
    always: Annotated[
        list[str] | None, value("--always", "PATH", "verify: these files and folders are in the sample; repeat.")
    ] = None
    seed: Annotated[
        str | None, value("--seed", "N", "verify: the same number chooses the same files of a snapshot.")
    ] = None
    live: Annotated[
        bool | None, switch("--live/--no-live", "verify: compare with the host's own unchanged files. [default: live]")
    ] = None
    from_repo: Annotated[str | None, value("--from", "REPO", "copy: the repository to copy from, into --repo.")] = None
    recursive: Annotated[
        bool | None, switch("--recursive/--no-recursive", "ls: everything below the folder, not the folder alone.")
    ] = None
    ignore_case: Annotated[bool | None, switch("--ignore-case/--no-ignore-case", "find: A is a, too.")] = None
    since: Annotated[
        str | None, value("--since", "WHEN", "find: files changed from then on (7d ago, a date, RFC 3339).")
    ] = None
    until: Annotated[str | None, value("--until", "WHEN", "find: files changed until then.")] = None
    metadata: Annotated[
        bool | None, switch("--metadata/--no-metadata", "diff: also where only rights or times differ.")
    ] = None
    add: Annotated[list[str] | None, value("--add", "T", "tag: add this tag; repeat.")] = None
    remove: Annotated[list[str] | None, value("--remove", "T", "tag: take this tag away; repeat.")] = None
    chunker_from: Annotated[
        str | None,
        value("--chunker-from", "REPO", "init: with this repository's chunker parameters, so that copies share data."),
    ] = None
    limit: Annotated[str | None, value("--limit", "SIZE", "dump: refuse a file longer than this. [default: 64M]")] = (
        None
    )
