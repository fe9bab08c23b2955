"""What can happen, on which restic, and what we make of it: the table behind docs/verdicts.md.

Pure data, held to the three real binaries by tests: each situation is brought about on each of them, and its exit code,
status and failure code compared with the row here. What the operator is told is the code's remedy (`restic.failures`),
whether it is tried again is `domain.retrying`'s. The document is this, rendered:

    python -m restic_manager.restic.situations docs/verdicts.md
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from restic_manager.domain.lifecycle import REPO_MISSING
from restic_manager.domain.model import Status
from restic_manager.domain.retrying import PASSING
from restic_manager.restic.failures import REMEDIES
from restic_manager.restic.gates import GATES

VERSIONS: Final = ("0.14.0", "0.18.0", "0.19.1")
"""The releases that each situation is tested on."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one release does and what we make of it. exit: its code; None where it never ran or died of a signal."""

    exit: int | None
    status: Status
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """One situation: a name for the tests, in words, what each of VERSIONS makes of it, and what is worth knowing."""

    name: str
    what: str
    seen: tuple[Seen, Seen, Seen]
    note: str = ""


def _all(status: Status, code: str | None, *exits: int | None) -> tuple[Seen, Seen, Seen]:
    """Given one verdict and one exit code, or one for each release, return the row's cells."""
    first, second, third = exits if len(exits) == 3 else exits * 3
    return Seen(first, status, code), Seen(second, status, code), Seen(third, status, code)


SITUATIONS: Final[tuple[Situation, ...]] = (
    Situation(
        "repo_missing",
        "backup, there is no repository",
        _all(Status.FAILED, "repo_missing", 1, 10, 10),
        "0.14 tells by its text only; a refused connection or login never counts as this",
    ),
    Situation("repo_exists", "init, there is a repository already", _all(Status.FAILED, "repo_exists", 1)),
    Situation("wrong_password", "backup, wrong password", _all(Status.FAILED, "wrong_password", 1, 12, 12)),
    Situation(
        "locked",
        "backup, another restic holds an exclusive lock",
        _all(Status.FAILED, "locked", 1, 11, 11),
        "with a lock wait it is waited for: by restic from 0.16 on, by us before. The result names the holders",
    ),
    Situation(
        "network_down",
        "backup, nobody listens there; time limit 3 s",
        _all(Status.FAILED, "network", 1, 1, 130),
        "from 0.17 on restic itself tries for 15 minutes: the message says that it was stopped at its time limit",
    ),
    Situation("disk_full", "backup, no space in the repository", _all(Status.FAILED, "no_space", 1)),
    Situation(
        "unreadable_file",
        "backup, a file cannot be read",
        _all(Status.WARNING, "source_unreadable", 3),
        "the snapshot is there without it",
    ),
    Situation(
        "vanished_path",
        "backup, one of two paths is gone",
        _all(Status.WARNING, "source_missing", 0, 0, 3),
        "we look for the paths ourselves: before 0.19 restic exits 0",
    ),
    Situation(
        "all_vanished",
        "backup, all paths are gone",
        _all(Status.FAILED, "source_missing", None),
        "restic is not started",
    ),
    Situation("cancelled", "backup, cancelled while it saves", _all(Status.CANCELLED, "cancelled", 130, 1, 130)),
    Situation(
        "cancelled_late",
        "backup, cancelled after its snapshot was saved",
        _all(Status.CANCELLED, "cancelled", 130, 1, 130),
        "the outcome names the snapshot: it was looked up by the job's tag",
    ),
    Situation(
        "cancelled_early",
        "backup, cancelled before restic was started",
        _all(Status.CANCELLED, "cancelled", None),
    ),
    Situation(
        "killed",
        "backup, restic killed (signal 9)",
        _all(Status.FAILED, "killed", None),
        "its lock is removed",
    ),
    Situation(
        "killed_late",
        "backup, restic killed after its snapshot was saved",
        _all(Status.SUCCEEDED, None, None),
        "recovered: the snapshot was looked up by the job's tag",
    ),
    Situation(
        "damaged_check",
        "check that reads the data, a pack is damaged",
        _all(Status.FAILED, "repo_damaged", 1),
        "the result names packs, snapshots and files",
    ),
    Situation(
        "damaged_verify",
        "verify, a pack is damaged",
        _all(Status.FAILED, "repo_damaged", 1),
        "the result names the files",
    ),
    Situation(
        "damaged_restore",
        "restore, a pack is damaged",
        _all(Status.FAILED, "repo_damaged", 1),
        "the other files are there",
    ),
    Situation(
        "damaged_dump",
        "dump, a pack is damaged",
        _all(Status.FAILED, "repo_damaged", 2, 1, 1),
        "what had been sent of the file before is not the whole file",
    ),
    Situation("damaged_prune", "prune, a pack is gone", _all(Status.FAILED, "repo_damaged", 1)),
    Situation(
        "append_only_forget",
        "forget, the storage is append-only (403)",
        _all(Status.FAILED, "access_denied", 130, 0, 3),
        "0.18 exits 0 and removes nothing: its words tell; 0.14 would try for 15 minutes and is stopped by us",
    ),
    Situation(
        "append_only_tag",
        "tag, the storage is append-only (403)",
        _all(Status.FAILED, "access_denied", 130, 0, 0),
        "the retagged copy is saved, its original stays: there are two then",
    ),
    Situation(
        "snapshot_missing",
        "restore, there is no such snapshot",
        _all(Status.FAILED, "snapshot_missing", 1),
    ),
    Situation(
        "stats_missing",
        "stats, there is no such snapshot",
        _all(Status.FAILED, "snapshot_missing", 0),
        "restic leaves it out and counts nothing",
    ),
    Situation("path_missing", "ls, there is no such folder", _all(Status.FAILED, "path_missing", 0)),
    Situation("dump_folder", "dump of a folder", _all(Status.FAILED, "not_a_file", 0), "nothing is sent"),
    Situation(
        "dump_large", "dump of a file over the limit", _all(Status.FAILED, "file_too_large", 0), "nothing is sent"
    ),
    Situation("nothing_restored", "restore, nothing matches", _all(Status.FAILED, "nothing_restored", 0)),
    Situation("target_file", "restore, the target is a file", _all(Status.FAILED, "restore_target", None)),
    Situation("target_full", "restore, no space at the target", _all(Status.FAILED, "no_space", 1)),
    Situation(
        "old_restic",
        "restore as a dry run",
        (Seen(None, Status.FAILED, "restic_too_old"), Seen(0, Status.SUCCEEDED), Seen(0, Status.SUCCEEDED)),
        "the message names 0.17.0",
    ),
    Situation("no_restic", "backup, the restic binary is gone", _all(Status.FAILED, "restic_missing", None)),
    Situation("no_policy", "forget with an empty policy", _all(Status.FAILED, "invalid_input", None)),
    Situation(
        "newest_good",
        "forget that would remove the newest good snapshot",
        _all(Status.FAILED, "retention_refused", 0),
        "a dry run shows it; nothing is removed",
    ),
    Situation(
        "copy_source",
        "copy, wrong password of the source",
        _all(Status.FAILED, "source_repo_failed", 1, 12, 12),
        "the source is opened first, because restic's words do not tell which of the two it was",
    ),
)
"""Every situation there is a promise about."""


def retried(code: str | None) -> str:
    """Given a failure's code, return whether a schedule with retries tries it again."""
    if code == REPO_MISSING:
        return "once, after an init"
    return "yes" if code in PASSING else "no"


def document() -> str:
    """Return docs/verdicts.md."""
    lines = [
        "# Verdicts",
        "",
        "What restic does in each situation and what restic-manager makes of it. This page is made from",
        "`restic_manager/restic/situations.py`, which the tests hold to the real binaries of all three releases:",
        "`python -m restic_manager.restic.situations docs/verdicts.md`.",
        "",
        "## Situations",
        "",
        "Exit codes are restic's own; a dash means that it never ran or was killed. Where one verdict is given, it is",
        "the same on all releases. Retries happen where a schedule allows them.",
        "",
        f"| situation | exit code {' / '.join(VERSIONS)} | status | error code | retried | remarks |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(situation) for situation in SITUATIONS]
    lines += ["", "## What the operator is told", "", "| error code | message |", "|---|---|"]
    lines += [f"| `{code}` | {remedy.replace('|', chr(92) + '|')} |" for code, remedy in sorted(REMEDIES.items())]
    lines += [
        "",
        "## What needs which restic",
        "",
        "0.14.0 is the oldest that works. What is refused is refused before anything is changed, naming the release.",
        "",
        "| wish | from | before it |",
        "|---|---|---|",
    ]
    lines += [
        f"| {gate.what} | {gate.feature.since} | {gate.instead or 'refused: `restic_too_old`'} |" for gate in GATES
    ]
    return "\n".join(lines) + "\n"


def _row(situation: Situation) -> str:
    exits = " / ".join("-" if seen.exit is None else str(seen.exit) for seen in situation.seen)
    statuses = _cells([seen.status.value for seen in situation.seen])
    codes = _cells([f"`{seen.code}`" if seen.code else "-" for seen in situation.seen])
    again = _cells([retried(seen.code) for seen in situation.seen])
    return f"| {situation.what} | {exits} | {statuses} | {codes} | {again} | {situation.note} |"


def _cells(values: list[str]) -> str:
    return values[0] if len(set(values)) == 1 else " / ".join(values)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document(), encoding="utf-8")
