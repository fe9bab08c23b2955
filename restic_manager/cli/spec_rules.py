"""Which option belongs to which kind of job, where in its spec it goes, and what its value means: one table. Pure.

Refuses to know how the options reach it, and what goes together: that is `spec_request`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from restic_manager.cli.typed import as_text, byte_count, each, host_path, one_of, part_of, percent, rate, whole_number
from restic_manager.domain.errors import InputError
from restic_manager.domain.hooks import check_program_name
from restic_manager.domain.model import Kind
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
    StatsSpec,
    TagSpec,
    UnlockSpec,
    VerifySpec,
)

SPECS: Final[dict[Kind, type[Any]]] = {
    Kind.BACKUP: BackupSpec,
    Kind.INIT: InitSpec,
    Kind.FORGET: ForgetSpec,
    Kind.PRUNE: PruneSpec,
    Kind.CHECK: CheckSpec,
    Kind.UNLOCK: UnlockSpec,
    Kind.STATS: StatsSpec,
    Kind.RESTORE: RestoreSpec,
    Kind.VERIFY: VerifySpec,
    Kind.COPY: CopySpec,
    Kind.LS: LsSpec,
    Kind.FIND: FindSpec,
    Kind.DIFF: DiffSpec,
    Kind.TAG: TagSpec,
    Kind.SNAPSHOTS: SnapshotsSpec,
    Kind.LOCKS: LocksSpec,
    Kind.DUMP: DumpSpec,
    Kind.PROBE: ProbeSpec,
}
NEVER_SCHEDULED: Final = frozenset({Kind.INIT, Kind.LOCKS, Kind.DUMP, Kind.PROBE})
_WORKING: Final = (Kind.BACKUP, Kind.PRUNE, Kind.CHECK, Kind.STATS, Kind.RESTORE, Kind.VERIFY, Kind.COPY)
_SNAPSHOT: Final = re.compile(r"[0-9a-f]{8,64}")
MANY: Final = frozenset({Kind.FORGET, Kind.STATS, Kind.COPY, Kind.FIND, Kind.TAG})
"""The kinds that may be about several snapshots."""


class Rule(NamedTuple):
    """One option: its field in `SpecOptions`, as it is typed, whose it is, where it goes, and what its value means.

    goes: the spec's field, `tuning.X` for one of its tuning. make: None for an instant, which needs to know now. once:
    only for one run, not for a schedule. clears: `none` takes the value away.
    """

    field: str
    option: str
    kinds: tuple[Kind, ...]
    goes: str
    make: Callable[[Any, str], Any] | None
    once: bool = False
    clears: bool = False


def snapshot_id(text: str, option: str) -> str:
    """Given an id as it was typed, return it; raise InputError unless it can be one."""
    if _SNAPSHOT.fullmatch(text) is None:
        raise InputError(f"{option} {text!r} is no snapshot's id: 8 to 64 digits of 0-9 and a-f (`snapshot list`)")
    return text


def _program(text: str, option: str) -> str:
    del option
    check_program_name(text)
    return text


def _as_typed(text: str, option: str) -> str:
    if not text:
        raise InputError(f"{option} '': a name, or none to take it away")
    return text


def _flag(value: bool, option: str) -> bool:
    del option
    return value


def _number(least: int, most: int) -> Callable[[str, str], int]:
    return lambda text, option: whole_number(text, option, least=least, most=most)


def _choice(*allowed: str) -> Callable[[str, str], str]:
    return lambda text, option: one_of(text, option, allowed)


def _texts(values: Sequence[str], option: str) -> tuple[str, ...]:
    del option
    return each(values, as_text)


def _paths(values: Sequence[str], option: str) -> tuple[str, ...]:
    return each(values, lambda path: host_path(path, option))


def _words(values: Sequence[str], option: str) -> tuple[str, ...]:
    del option
    return each(values, str)


def _snapshots(values: Sequence[str], option: str) -> tuple[str, ...]:
    return each(values, lambda text: snapshot_id(text, option))


RULES: Final[tuple[Rule, ...]] = (
    Rule("limit_upload", "--limit-upload", _WORKING, "tuning.upload_limit", rate, clears=True),
    Rule("limit_download", "--limit-download", _WORKING, "tuning.download_limit", rate, clears=True),
    Rule(
        "compression",
        "--compression",
        (Kind.BACKUP, Kind.PRUNE, Kind.COPY),
        "tuning.compression",
        _choice("auto", "off", "fastest", "better", "max"),
        clears=True,
    ),
    Rule(
        "read_concurrency",
        "--read-concurrency",
        (Kind.BACKUP,),
        "tuning.read_concurrency",
        _number(1, 128),
        clears=True,
    ),
    Rule("nice", "--nice", _WORKING, "tuning.nice", _number(0, 19), clears=True),
    Rule("ionice_class", "--ionice-class", _WORKING, "tuning.io_class", _choice("best-effort", "idle"), clears=True),
    Rule("ionice_level", "--ionice-level", _WORKING, "tuning.io_level", _number(0, 7), clears=True),
    Rule("exclude", "--exclude", (Kind.BACKUP, Kind.RESTORE), "excludes", _texts),
    Rule("exclude_file", "--exclude-file", (Kind.BACKUP,), "exclude_files", _paths),
    Rule("exclude_if_present", "--exclude-if-present", (Kind.BACKUP,), "exclude_if_present", _texts),
    Rule("exclude_caches", "--exclude-caches", (Kind.BACKUP,), "exclude_caches", _flag),
    Rule(
        "exclude_larger_than", "--exclude-larger-than", (Kind.BACKUP,), "exclude_larger_than", byte_count, clears=True
    ),
    Rule("one_file_system", "--one-file-system", (Kind.BACKUP,), "one_file_system", _flag),
    Rule("stdin_command", "--stdin-from-command", (Kind.BACKUP,), "stdin_command", _program, clears=True),
    Rule("stdin_name", "--stdin-name", (Kind.BACKUP,), "stdin_name", _as_typed, clears=True),
    Rule("files_from", "--files-from", (Kind.BACKUP,), "files_from", _paths),
    Rule("tag", "--tag", (Kind.BACKUP,), "tags", _words),
    Rule("skip_if_unchanged", "--skip-if-unchanged", (Kind.BACKUP,), "skip_if_unchanged", _flag),
    Rule("dry_run", "--dry-run", (Kind.BACKUP, Kind.FORGET, Kind.PRUNE, Kind.RESTORE), "dry_run", _flag, once=True),
    Rule("max_unused", "--max-unused", (Kind.PRUNE,), "max_unused", percent, clears=True),
    Rule("max_repack", "--max-repack", (Kind.PRUNE,), "max_repack", byte_count, clears=True),
    Rule("repack_cacheable_only", "--repack-cacheable-only", (Kind.PRUNE,), "repack_cacheable_only", _flag),
    Rule("repack_uncompressed", "--repack-uncompressed", (Kind.PRUNE,), "repack_uncompressed", _flag),
    Rule("read_data", "--read-data", (Kind.CHECK,), "read_all", _flag),
    Rule("read_data_subset", "--read-data-subset", (Kind.CHECK,), "subset", part_of, clears=True),
    Rule("remove_all", "--remove-all", (Kind.UNLOCK,), "remove_all", _flag, once=True),
    Rule("mode", "--mode", (Kind.STATS,), "mode", _choice("raw-data", "restore-size", "files-by-contents")),
    Rule("files", "--files", (Kind.VERIFY,), "files", _number(1, 10_000)),
    Rule("size", "--size", (Kind.VERIFY,), "size", byte_count),
    Rule("always", "--always", (Kind.VERIFY,), "always", _paths),
    Rule("seed", "--seed", (Kind.VERIFY,), "seed", _number(0, 2**53), clears=True),
    Rule("live", "--live", (Kind.VERIFY,), "live", _flag),
    Rule("to", "--to", (Kind.RESTORE,), "target", host_path),
    Rule("in_place", "--in-place", (Kind.RESTORE,), "in_place", _flag),
    Rule("include", "--include", (Kind.RESTORE,), "includes", _texts),
    Rule(
        "overwrite",
        "--overwrite",
        (Kind.RESTORE,),
        "overwrite",
        _choice("always", "if-changed", "if-newer", "never"),
        clears=True,
    ),
    Rule("delete", "--delete", (Kind.RESTORE,), "delete", _flag),
    Rule("verify", "--verify", (Kind.RESTORE,), "verify", _flag),
    Rule("recursive", "--recursive", (Kind.LS,), "recursive", _flag),
    Rule("ignore_case", "--ignore-case", (Kind.FIND,), "ignore_case", _flag),
    Rule("since", "--since", (Kind.FIND,), "oldest", None, clears=True),
    Rule("until", "--until", (Kind.FIND,), "newest", None, clears=True),
    Rule("metadata", "--metadata", (Kind.DIFF,), "metadata", _flag),
    Rule("add", "--add", (Kind.TAG,), "add", _words),
    Rule("remove", "--remove", (Kind.TAG,), "remove", _words),
    Rule("limit", "--limit", (Kind.DUMP,), "limit", byte_count),
    Rule(
        "snapshot",
        "--snapshot",
        (*MANY, Kind.RESTORE, Kind.VERIFY, Kind.LS, Kind.DIFF, Kind.DUMP),
        "snapshots",
        _snapshots,
    ),
)

_FILTERED: Final = (
    *(Kind.STATS, Kind.RESTORE, Kind.VERIFY, Kind.COPY),
    *(Kind.LS, Kind.FIND, Kind.DIFF, Kind.TAG, Kind.SNAPSHOTS),
)
NAMED: Final[tuple[tuple[str, str, tuple[Kind, ...], str], ...]] = (
    ("of_host", "--of-host", _FILTERED, "restic_host"),
    ("of_schedule", "--of-schedule", _FILTERED, "schedule_id"),
    ("from_repo", "--from", (Kind.COPY,), "from_repo"),
    ("chunker_from", "--chunker-from", (Kind.INIT,), "chunker_from"),
)
"""The options that name something only the server knows: field, option, kinds, and the spec's field it stands for."""
