"""What we refuse of a spec, kind by kind, whoever asked. Every refusal names the value and the remedy. Pure.

A *wish* is what an operator asks or a schedule says: it may leave to the server what only the server knows (whose
snapshots, which part of the data, which policies). An *order* is what an agent carries out: nothing is left open in it
but what the repository itself tells (which snapshot is the newest).

Nothing that looks like an option can become one (a value is in its flag's own word, what is chosen comes after `--`);
so these rules are about what restic would misread, split or do beyond what was meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from restic_manager.domain.errors import InputError
from restic_manager.domain.hooks import check_program_name
from restic_manager.domain.pathtext import text_to_path
from restic_manager.domain.retention import check_retention
from restic_manager.domain.specs import (
    BackupSpec,
    CheckSpec,
    CopySpec,
    DiffSpec,
    DumpSpec,
    FindSpec,
    ForgetSpec,
    InitSpec,
    LocksSpec,
    LsSpec,
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
from restic_manager.restic.command import JOB_TAG, SCHEDULE_TAG

CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SNAPSHOT: Final = re.compile(r"[0-9a-f]{8,64}")
_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_LONGEST_PATH: Final = 4_095
"""In bytes: no kernel takes a longer one. Patterns may be longer."""


NewestSpec = RestoreSpec | VerifySpec | LsSpec | DiffSpec | TagSpec
"""Specs that may leave it to the repository which snapshot is meant: the newest of a host or schedule."""


def check_wish(spec: Spec) -> None:
    """Given what an operator asks or a schedule says, raise InputError naming the value that can never be an order."""
    _check(spec)
    if isinstance(spec, CheckSpec) and spec.rolling is not None and spec.read is not None:
        raise InputError("a check reads one part, or with `rolling` the next one each time: say one of the two")


def check_spec(spec: Spec) -> None:
    """Given what an agent is to carry out, raise InputError naming the value that is missing, or that restic would
    refuse, split or misread.
    """
    _check(spec)
    if isinstance(spec, ForgetSpec) and not spec.policies and not spec.snapshots:
        raise InputError("a forget without policies and without snapshots would remove nothing: name one of the two")
    if isinstance(spec, NewestSpec) and not named(spec) and spec.restic_host is None and spec.schedule_id is None:
        raise InputError("which snapshot is not said: name it, or the host or schedule whose newest one is meant")


def named(spec: NewestSpec) -> tuple[str, ...]:
    """Given such a spec, return the snapshots it names; none: the newest is meant."""
    said: tuple[str | None, ...]
    match spec:
        case TagSpec():
            said = spec.snapshots
        case DiffSpec():
            said = (spec.old, spec.new)
        case _:
            said = (spec.snapshot,)
    return tuple(snapshot for snapshot in said if snapshot is not None)


def _check(spec: Spec) -> None:  # noqa: C901, PLR0912 - one case a kind
    if isinstance(spec, NewestSpec):
        _check_snapshots(named(spec))
        _check_one_choice(named(spec), spec.restic_host, spec.schedule_id)
    _check_tuning(getattr(spec, "tuning", None), reads_files=isinstance(spec, BackupSpec))
    _check_filter(getattr(spec, "restic_host", None), getattr(spec, "schedule_id", None))
    match spec:
        case InitSpec() | PruneSpec() | UnlockSpec() | SnapshotsSpec() | LocksSpec() | ProbeSpec():
            return
        case BackupSpec():
            _check_backup(spec)
        case ForgetSpec():
            _check_forget(spec)
        case CheckSpec():
            if spec.read is not None and spec.read.number > spec.read.of:
                raise InputError(f"there is no part {spec.read.number} of {spec.read.of}: parts count from 1 to it")
        case StatsSpec():
            _check_snapshots(spec.snapshots)
            _check_one_choice(spec.snapshots, spec.restic_host, spec.schedule_id)
        case CopySpec():
            _check_snapshots(spec.snapshots)
            _check_one_choice(spec.snapshots, spec.restic_host, spec.schedule_id)
        case RestoreSpec():
            _check_restore(spec)
        case VerifySpec():
            _check_verify(spec)
        case LsSpec():
            check_path(spec.path, "folder")
        case FindSpec():
            _check_snapshots(spec.snapshots)
            for pattern in spec.patterns:
                check_bytes(pattern, "pattern")
            if spec.oldest is not None and spec.newest is not None and spec.oldest > spec.newest:
                raise InputError("nothing can be newer than `oldest` and older than `newest`: exchange them")
        case DiffSpec():
            if len(named(spec)) == 1:
                raise InputError("a comparison needs both snapshots, or none: then the newest and the one before it")
        case TagSpec():
            _check_tags(spec)
        case DumpSpec():
            _check_snapshots((spec.snapshot,))
            check_path(spec.path, "file")


def _check_backup(spec: BackupSpec) -> None:
    if spec.stdin_command is not None:
        _check_command(spec)
    elif spec.stdin_name is not None:
        raise InputError("a name for what a command writes needs the command: say stdin_command, or leave the name out")
    elif not spec.paths and not spec.files_from:
        raise InputError("a backup needs at least one path, a file with paths, or a command whose output it saves")
    for path in spec.paths:
        check_path(path, "path")
    for pattern in spec.excludes:
        check_bytes(pattern, "exclude pattern")
    for path in spec.exclude_files:
        check_path(path, "exclude file")
    for path in spec.files_from:
        check_path(path, "file with paths")
    for name in spec.exclude_if_present:
        check_bytes(name, "exclude-if-present name")
        if not name.partition(":")[0]:
            raise InputError(f"{name!r} names no file: write exclude-if-present as NAME or NAME:HEADER")
    for tag in spec.tags:
        check_tag(tag)


def _check_command(spec: BackupSpec) -> None:
    if spec.paths or spec.files_from:
        raise InputError("a backup saves files or what a command writes: give one of the two")
    if spec.excludes or spec.exclude_files or spec.exclude_if_present or spec.exclude_larger_than is not None:
        raise InputError("what a command writes is one file, of which nothing can be excluded")
    if spec.stdin_command is not None:
        check_program_name(spec.stdin_command)
    name = spec.stdin_name
    if name is not None and (CONTROL.search(name) or any(p in {"", ".", ".."} for p in name.lstrip("/").split("/"))):
        raise InputError(f"{name!r} is no name for a file in a snapshot: write NAME or FOLDER/NAME")


def _check_forget(spec: ForgetSpec) -> None:
    if spec.policies and spec.snapshots:
        raise InputError("a forget removes by policies or exactly the snapshots named: give one of the two")
    _check_snapshots(spec.snapshots)
    for policy in spec.policies:
        _check_filter(policy.restic_host, policy.schedule_id)
        check_retention(policy.keep)
        for tag in policy.keep.tags:
            check_tag(tag)
        if policy.newest_good is not None:
            _check_snapshots((policy.newest_good,))


def _check_restore(spec: RestoreSpec) -> None:
    if (spec.target is not None) == spec.in_place:
        raise InputError("a restore writes to a folder or in place: give one of the two")
    if spec.target is not None:
        check_path(spec.target, "target")
        if not text_to_path(spec.target).strip(b"/."):
            raise InputError(f"the target {spec.target!r} is the root folder: that is a restore in place, say it so")
    for path in spec.paths:
        check_path(path, "path")
    for pattern in spec.includes:
        check_bytes(pattern, "include pattern")
    for pattern in spec.excludes:
        check_bytes(pattern, "exclude pattern")
    if spec.delete and spec.in_place and not spec.paths:
        raise InputError("deleting in place needs the paths it is about: without them it would empty the host")
    if spec.dry_run and spec.verify:
        raise InputError("a dry run writes nothing that could be verified: leave one of the two out")
    # restic takes a snapshot's excludes or its includes, never both.
    if spec.excludes and (spec.paths or spec.includes):
        raise InputError("restic cannot include and exclude in one restore: leave one of the two out")


def _check_verify(spec: VerifySpec) -> None:
    for path in spec.always:
        check_path(path, "path")


def _check_tags(spec: TagSpec) -> None:
    if not spec.add and not spec.remove:
        raise InputError("there is no tag to add and none to remove")
    for tag in (*spec.add, *spec.remove):
        check_tag(tag)
    if both := sorted(set(spec.add) & set(spec.remove)):
        raise InputError(f"the tag {both[0]!r} is to be added and removed: say one of the two")


def _check_snapshots(snapshots: Iterable[str]) -> None:
    for snapshot in snapshots:
        if _SNAPSHOT.fullmatch(snapshot) is None:
            raise InputError(f"{snapshot!r} is no snapshot id: 8 to 64 digits of 0-9 and a-f")


def _check_one_choice(snapshots: tuple[str, ...], host: str | None, schedule_id: str | None) -> None:
    if snapshots and (host is not None or schedule_id is not None):
        raise InputError("snapshots by id, or those of a host or schedule: restic leaves the filter out beside ids")


def _check_filter(host: str | None, schedule_id: str | None) -> None:
    if host is not None and (not host or CONTROL.search(host)):
        raise InputError(f"the restic host name {host!r} is empty or has control characters in it")
    if schedule_id is not None and _ID.fullmatch(schedule_id) is None:
        raise InputError(f"{schedule_id!r} is no schedule's id")


def _check_tuning(tuning: Tuning | None, *, reads_files: bool) -> None:
    if tuning is None:
        return
    if tuning.read_concurrency is not None and not reads_files:
        raise InputError("only a backup reads files at once: leave read_concurrency out")
    if tuning.io_level is not None and tuning.io_class != "best-effort":
        raise InputError("an I/O level is one within best-effort: say that class too, or leave the level out")


def check_tag(tag: str) -> None:
    """Given a user's tag, raise InputError if restic would split it, nobody could see it, or it is one of ours."""
    if not tag:
        raise InputError("a tag cannot be empty")
    if "," in tag:
        raise InputError(f"the tag {tag!r} has a comma in it, which restic reads as two tags: write two tags")
    if CONTROL.search(tag):
        raise InputError(f"the tag {tag!r} has control characters in it")
    if tag != tag.strip():
        raise InputError(f"the tag {tag!r} begins or ends with a space, which nobody would find again")
    if tag.startswith((SCHEDULE_TAG, JOB_TAG)):
        raise InputError(
            f"the tag {tag!r} begins like our own ({SCHEDULE_TAG}<schedule>, {JOB_TAG}<job>), by which retention and "
            "recovery find snapshots: choose another"
        )


def check_path(text: str, what: str) -> None:
    """Given a path's text, raise InputError unless it is an absolute path that a kernel takes."""
    check_bytes(text, what)
    if not text.startswith("/"):
        raise InputError(f"the {what} {text[:300]!r} is not absolute: begin it with /")
    length = len(text_to_path(text))
    if length > _LONGEST_PATH:
        raise InputError(f"the {what} {text[:60]!r}… has {length} bytes; no path has more than {_LONGEST_PATH}")


def check_bytes(text: str, what: str) -> None:
    """Given a path's or a pattern's text, raise InputError if it is empty or has a NUL in it."""
    if not text:
        raise InputError(f"an empty {what}: leave it out")
    if b"\0" in text_to_path(text):
        raise InputError(f"the {what} {text!r} has a NUL in it, which no argument can hold")
