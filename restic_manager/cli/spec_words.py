"""What a job does, in words: one sentence, and line by line. Pure; refuses to know where they are shown."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from restic_manager.cli.text import amount, listing, safe, short, size
from restic_manager.domain.instants import instant_text
from restic_manager.domain.retention import in_words
from restic_manager.domain.specs import (
    BackupSpec,
    CheckSpec,
    CopySpec,
    DiffSpec,
    FindSpec,
    ForgetSpec,
    InitSpec,
    LocksSpec,
    LsSpec,
    Part,
    ProbeSpec,
    PruneSpec,
    RestoreSpec,
    SnapshotsSpec,
    Spec,
    StatsSpec,
    TagSpec,
    Tuning,
    UnlockSpec,
    VerifySpec,
)


def _rate(kib: int) -> str:
    return f"{size(kib * 1_024)}/s"


def _text(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case tuple():
            return "\n".join(safe(str(one)) for one in value)
        case datetime():
            return instant_text(value)
        case Part():
            return "all of it" if value.of == 1 else f"part {value.number} of {value.of}"
        case _:
            return str(value)


_LABELS: Final[dict[str, tuple[str, Callable[[Any], str]]]] = {
    "paths": ("Paths", _text),
    "files_from": ("Paths from", _text),
    "stdin_command": ("Output of", _text),
    "stdin_name": ("Saved as", _text),
    "excludes": ("Excludes", _text),
    "exclude_files": ("Exclude files", _text),
    "exclude_if_present": ("Excluded by", _text),
    "exclude_caches": ("Caches", lambda on: "excluded" if on else "included"),
    "exclude_larger_than": ("Excludes over", size),
    "one_file_system": ("File systems", lambda on: "one only" if on else "all"),
    "tags": ("Tags", _text),
    "skip_if_unchanged": ("Unchanged", lambda on: "no snapshot" if on else "a snapshot, too"),
    "chunker_from": ("Chunker of", _text),
    "policies": ("Keeps", lambda policies: "\n".join(in_words(one.keep) for one in policies)),
    "snapshot": ("Snapshot", _text),
    "snapshots": ("Snapshots", _text),
    "old": ("Older", _text),
    "new": ("Newer", _text),
    "restic_host": ("Of host", _text),
    "schedule_id": ("Of schedule", _text),
    "from_repo": ("From", _text),
    "max_unused": ("Unused", lambda share: f"at most {share:g} %"),
    "max_repack": ("Rewrites", lambda count: f"at most {size(count)}"),
    "repack_cacheable_only": ("Repacks", lambda on: "cacheable only" if on else "all"),
    "repack_uncompressed": ("Compresses", lambda on: "what is not yet" if on else "nothing anew"),
    "read": ("Reads data", _text),
    "rolling": ("Reads data", lambda parts: f"the next of {parts} parts each time"),
    "remove_all": ("Removes", lambda on: "all locks, live ones too" if on else "stale locks"),
    "mode": ("Measures", _text),
    "target": ("To", _text),
    "in_place": ("To", lambda on: "in place" if on else ""),
    "includes": ("Includes", _text),
    "overwrite": ("Overwrites", _text),
    "delete": ("Deletes", lambda on: "what the snapshot does not have" if on else "nothing"),
    "verify": ("Reads again", _text),
    "files": ("Files", lambda count: f"at most {count:,}"),
    "size": ("Size", lambda count: f"at most {size(count)}"),
    "always": ("Always", _text),
    "seed": ("Seed", _text),
    "live": ("Live files", lambda on: "compared" if on else "not compared"),
    "path": ("Path", _text),
    "recursive": ("Recursive", _text),
    "patterns": ("Finds", _text),
    "ignore_case": ("Ignores case", _text),
    "oldest": ("Changed since", _text),
    "newest": ("Changed until", _text),
    "metadata": ("Metadata", lambda on: "compared" if on else "not compared"),
    "add": ("Adds tags", _text),
    "remove": ("Removes tags", _text),
    "limit": ("At most", size),
    "dry_run": ("Dry run", _text),
    "upload_limit": ("Upload", lambda kib: f"at most {_rate(kib)}"),
    "download_limit": ("Download", lambda kib: f"at most {_rate(kib)}"),
    "compression": ("Compression", _text),
    "read_concurrency": ("Reads at once", lambda count: amount(count, "file")),
    "nice": ("Nice", _text),
    "io_class": ("Disk time", _text),
    "io_level": ("Disk level", _text),
}


def spec_lines(spec: Spec | Tuning) -> list[tuple[str, str]]:
    """Given a spec, return a label and a value for all that is said in it; what is as usual goes without saying."""
    usual = dict(zip(spec.__struct_fields__[::-1], spec.__struct_defaults__[::-1], strict=False))
    lines: list[tuple[str, str]] = []
    for name in spec.__struct_fields__:
        value = getattr(spec, name)
        if name == "tuning":
            lines += [] if value is None else spec_lines(value)
        elif value is not None and (name not in usual or value != usual[name]):
            label, words = _LABELS[name]
            lines.append((label, words(value)))
    return lines


def doing(spec: Spec, repo: str) -> str:  # noqa: C901, PLR0911, PLR0912 - one sentence a kind
    """Given what a schedule or job does, and to which repository, return it in a few words (`prunes main`)."""
    match spec:
        case BackupSpec() if spec.stdin_command is not None:
            return f"saves what {spec.stdin_command} writes to {repo}"
        case BackupSpec():
            what = [*spec.paths, *(f"what {file} names" for file in spec.files_from)]
            return f"saves {listing(what)} to {repo}"
        case InitSpec():
            return f"creates {repo}"
        case ForgetSpec() if spec.snapshots:
            return f"removes {amount(len(spec.snapshots), 'snapshot')} from {repo}"
        case ForgetSpec():
            return f"removes from {repo} the snapshots that no schedule's retention keeps"
        case PruneSpec():
            return f"removes data from {repo} that no snapshot needs"
        case CheckSpec() if spec.rolling is not None:
            return f"checks {repo}, and reads the next of {spec.rolling} parts of its data each time"
        case CheckSpec() if spec.read is not None:
            return f"checks {repo}, and reads {_text(spec.read)} of its data"
        case CheckSpec():
            return f"checks {repo}, and reads none of its data"
        case UnlockSpec():
            return f"removes {'all' if spec.remove_all else 'stale'} locks from {repo}"
        case StatsSpec():
            return f"measures {repo} ({spec.mode})"
        case RestoreSpec():
            where = "in place" if spec.in_place else f"to {spec.target}"
            return f"restores {_one(spec.snapshot)} of {repo} {where}"
        case VerifySpec():
            return (
                f"proves that {_one(spec.snapshot)} of {repo} can be restored: "
                f"at most {amount(spec.files, 'file')}, {size(spec.size)}"
            )
        case CopySpec():
            which = amount(len(spec.snapshots), "snapshot") if spec.snapshots else "the snapshots it does not have yet"
            return f"copies {which}{_of(spec.restic_host)} into {repo}"
        case LsSpec():
            return f"lists {spec.path} in {_one(spec.snapshot)} of {repo}"
        case FindSpec():
            return f"finds {listing(list(spec.patterns))} in {repo}"
        case DiffSpec():
            return (
                f"compares {'the two newest' if spec.old is None else 'two'} snapshots{_of(spec.restic_host)} in {repo}"
            )
        case TagSpec():
            changes = [f"{word} the tag {listing(list(tags))}" for word, tags in _tags(spec) if tags]
            which = amount(len(spec.snapshots), "snapshot") if spec.snapshots else "the newest snapshot"
            return f"{' and '.join(changes)}: {which}{_of(spec.restic_host)} in {repo}"
        case SnapshotsSpec():
            return f"lists the snapshots of {repo}"
        case ProbeSpec():
            return f"tries whether it could delete in {repo}"
        case LocksSpec():
            return f"lists the locks of {repo}"
        case _:
            return f"reads {spec.path} in {_one(spec.snapshot)} of {repo}"


def _tags(spec: TagSpec) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return ("adds", spec.add), ("takes away", spec.remove)


def _of(restic_host: str | None) -> str:
    return "" if restic_host is None else f" of {restic_host}"


def _one(snapshot: str | None) -> str:
    return "the newest snapshot" if snapshot is None else f"snapshot {short(snapshot)}"
