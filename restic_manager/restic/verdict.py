"""What a run of restic amounts to. Owns the judgement; the classes of failure are in `restic.failures`.

Pure. Refuses to know how restic was run.

The rules, each learnt from the real binaries: an unknown exit code is a failure; "cancelled" comes from our own flag,
never from a code; 3 is a warning; a missing source path is a warning at least on every version (0.18 exits 0); exit 0
without a summary is a failure; a snapshot that is there counts, however restic ended.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from restic_manager.domain.model import Failure, Kind, Outcome, Status
from restic_manager.restic.answers.reader import Finding
from restic_manager.restic.failures import CLASSES, REMEDIES, FailureClass
from restic_manager.restic.output import MAX_ERROR_LINES, Heard, cut
from restic_manager.restic.version import Version

_NEVER_OPENED = "Fatal: unable to open config file"
"""restic's last word, in all versions, when it ended (or was ended) before it had opened the repository."""


class Stop(Enum):
    """Why WE ended a run; the value is the failure's code."""

    CANCELLED = "cancelled"
    TIME_LIMIT = "time_limit"
    STALLED = "stalled"
    REFUSED = "access_denied"
    """The storage forbids it for good, and a release before 0.17 would try again for minutes."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How one run ended, all that the judgement needs. exit_code and signal: one of them, None both when unkillable.

    missing: the source paths we found missing before the start. recovered: the snapshot found by the job's tag;
    lookup_problem: why that could not be found out. dry_run: a backup that saves nothing.
    """

    kind: Kind
    version: Version
    exit_code: int | None
    signal: int | None
    stopped: Stop | None
    missing: tuple[str, ...] = ()
    recovered: str | None = None
    lookup_problem: str | None = None
    dry_run: bool = False


def classify(version: Version, exit_code: int | None, heard: Heard, beyond: Sequence[str] = ()) -> FailureClass | None:
    """Given how restic failed, return the class, or None when nothing tells. beyond: what to look through last."""
    for entry in CLASSES:
        if entry.exit_code is not None and entry.exit_code == exit_code:
            return entry
    # Its last word first: before it there may be lines about troubles that it got over.
    for text in (*heard.words(), *beyond):
        for entry in CLASSES:
            told_by_code = entry.since is not None and version.has(entry.since)
            if entry.pattern is not None and not told_by_code and re.search(entry.pattern, text):
                return entry
    return None


def needs_lookup(ended: Ended, heard: Heard) -> bool:
    """Given a run, return whether only the repository can tell if it has made a snapshot."""
    if ended.kind is not Kind.BACKUP or ended.dry_run or heard.report is not None:
        return False
    if _never_opened(heard):
        return False  # and asking an unreachable repository would only take long
    if ended.stopped is not None or ended.exit_code is None:
        return True
    entry = classify(ended.version, ended.exit_code, heard)
    return entry is None or entry.began


def judge(ended: Ended, heard: Heard) -> Outcome:
    """Given how a run ended and what it said, return the outcome."""
    if ended.exit_code == 0 and ended.kind is not Kind.BACKUP:
        return Outcome(status=Status.SUCCEEDED, exit_code=0)
    reported = heard.report.snapshot_id if heard.report is not None else None
    if heard.report is not None and ended.exit_code in {0, 3}:
        # Also when we had just asked it to stop: it was done by then, and what is done is not cancelled.
        return _made(ended, heard, reported)
    snapshot_id = ended.recovered or reported
    code = _failure_code(ended, heard)
    if code == Stop.CANCELLED.value:
        return _not_made(ended, heard, code, Status.CANCELLED, snapshot_id)
    if ended.recovered is not None or (reported is not None and ended.exit_code is None):
        return _made(ended, heard, snapshot_id)
    return _not_made(ended, heard, code, Status.FAILED, snapshot_id)


def judge_found(ended: Ended, heard: Heard, found: Finding) -> Outcome:
    """Given how a run of any other kind ended and what its answer amounts to, return the outcome.

    The exit code is read first (a check counts a mere lock clash as an error too); where it tells nothing, the words.
    """
    if ended.exit_code == 0:
        code = found.code  # done is not cancelled, also when we had just asked it to stop
        if code is None:
            return Outcome(status=Status.SUCCEEDED, exit_code=0, result=found.result)
        status = Status.FAILED
    else:
        code = _failure_code(ended, heard)
        if code == "failed" and found.code is not None and found.code != "no_summary":
            code = found.code
        elif code == "failed" and ended.kind in {Kind.RESTORE, Kind.VERIFY} and heard.error_lines:
            code = "restore_incomplete"
        status = Status.CANCELLED if code == Stop.CANCELLED.value else Status.FAILED
    detail = found.detail if code == found.code else _ending_text(ended, code)
    return Outcome(
        status=status,
        exit_code=ended.exit_code,
        error=failure(code, detail, heard.error_lines),
        result=found.result,
    )


def _failure_code(ended: Ended, heard: Heard) -> str:
    """Given a run that did not end well, return the code of the failure that it is unless its snapshot is found."""
    if ended.exit_code is None and ended.signal is None:
        return "unkillable"
    if ended.stopped is not None:
        return "network" if _never_reached(ended, heard) else ended.stopped.value
    if ended.signal is not None:
        return "killed"
    if ended.kind is Kind.BACKUP and ended.exit_code in {0, 3}:
        return "no_summary"
    # A file that a backup cannot read is no failure; a file that a restore cannot write is.
    beyond = heard.error_lines if ended.kind is not Kind.BACKUP else ()
    entry = classify(ended.version, ended.exit_code, heard, beyond)
    return entry.code if entry is not None else "failed"


def _never_opened(heard: Heard) -> bool:
    return any(_NEVER_OPENED in text for text in heard.words())


def _never_reached(ended: Ended, heard: Heard) -> bool:
    """Whether a run's time was over while it still tried to reach its repository: from 0.17 on it does for long."""
    if ended.stopped is not Stop.TIME_LIMIT or not _never_opened(heard):
        return False
    entry = classify(ended.version, None, heard)
    return entry is not None and entry.code == "network"


def failure(code: str, detail: str = "", lines: Sequence[str] = ()) -> Failure:
    """Given a code of REMEDIES, what exactly happened and restic's lines, return the failure with its remedy."""
    message = f"{_one_line(detail)} {REMEDIES[code]}" if detail else REMEDIES[code]
    return Failure(code=code, message=cut(message, 8_000), lines=tuple(lines[:MAX_ERROR_LINES]))


def _one_line(text: str) -> str:
    """Given a text that may name paths, return it without the ends of lines that a path may hold."""
    return text.replace("\n", "\\n")


def missing_text(paths: Iterable[str]) -> str:
    """Given missing paths, return the sentence that names the first few."""
    listed = list(paths)
    shown = ", ".join(cut(_one_line(path), 300) for path in listed[:5])
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    return f"Not there: {shown}{more}."


def _made(ended: Ended, heard: Heard, snapshot_id: str | None) -> Outcome:
    """Return the outcome of a run whose snapshot is there: succeeded, or a warning when it lacks something."""
    # The same paths told twice; restic's list is longer when one vanished after we looked.
    missing = ended.missing if len(ended.missing) >= len(heard.skipped) else tuple(heard.skipped)
    error: Failure | None = None
    if heard.item_errors or (ended.exit_code == 3 and not missing):
        also = f" {missing_text(missing)}" if missing else ""
        many = f"{heard.item_errors} {'error' if heard.item_errors == 1 else 'errors'} while reading."
        error = failure("source_unreadable", f"{many if heard.item_errors else ''}{also}".strip(), heard.error_lines)
    elif missing:
        remedy = "The snapshot is there without them: mount what is missing, or correct the schedule's paths."
        lines = heard.error_lines or tuple(f"{path} does not exist" for path in missing[:MAX_ERROR_LINES])
        error = Failure(code="source_missing", message=f"{missing_text(missing)} {remedy}", lines=lines)
    return Outcome(
        status=Status.SUCCEEDED if error is None else Status.WARNING,
        exit_code=ended.exit_code,
        error=error,
        snapshot_id=snapshot_id,
        stats=heard.report.stats if heard.report is not None else None,
    )


def _not_made(ended: Ended, heard: Heard, code: str, status: Status, snapshot_id: str | None) -> Outcome:
    detail = _ending_text(ended, code)
    if code == "source_missing":
        detail = missing_text(ended.missing or heard.skipped) if ended.missing or heard.skipped else ""
    if ended.lookup_problem is not None:
        detail += f" Whether it had saved a snapshot by then could not be found out: {ended.lookup_problem}"
    return Outcome(
        status=status,
        exit_code=ended.exit_code,
        error=failure(code, detail.strip(), heard.error_lines),
        snapshot_id=snapshot_id,
        stats=heard.report.stats if heard.report is not None else None,
    )


def _ending_text(ended: Ended, code: str) -> str:
    if code == "killed" and ended.signal is not None:
        return f"restic was killed by signal {ended.signal} ({_signal_name(ended.signal)})."
    if code == "network" and ended.stopped is not None:
        return "It was stopped at its time limit, while it still tried to connect."
    return f"restic ended with exit code {ended.exit_code}." if code == "failed" else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
