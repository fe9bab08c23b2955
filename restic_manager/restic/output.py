r"""What restic says, line by line, from 0.14 to 0.19. Owns the reading of its JSON and text, and what of it is kept.

Pure, and total: no line, however broken, raises. Refuses to judge (`restic.verdict` does) and to know how lines arrive.
A line that starts with `{` is tried as JSON, else it is text. Unknown message types are left out, unknown fields too.
Text keeps every byte visible: what is not UTF-8 and what would steer a terminal is written `\xHH`.
"""

from __future__ import annotations

import math
import os
import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from restic_manager.domain.model import BackupStats, Progress

Stream = Literal["stdout", "stderr"]
Redact = Callable[[str], str]
"""Takes any text apart from secrets: every line that leaves this module has been through it."""

MAX_LINE = 8_000
"""Longest log line in characters; the rest is cut and the line says so."""
MAX_ERROR_LINE = 2_000
MAX_ERROR_LINES = 10
_KEPT_LAST = 3
"""Of the error lines kept, how many are the last ones: there restic says why it gave up."""

_MAX_COUNT = 2**53
_MAX_SECONDS = 10 * 366 * 86_400
_ERASE = "\x1b[2K"
"""restic writes it before "signal received", terminal or not."""
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")
_SNAPSHOT_ID = re.compile(r"[0-9a-f]{8,64}")
_STACK = re.compile(r"\\t|\t|(?:main|runtime|github\.com/|golang\.org/)\S*$")
_SKIPPED = re.compile(r"(?P<path>/.*) does not exist, skipping")


@dataclass(frozen=True, slots=True)
class Text:
    """A line that is no JSON of a kind we know the meaning of."""

    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """restic's summary of a backup."""

    stats: BackupStats
    snapshot_id: str | None


@dataclass(frozen=True, slots=True)
class ItemError:
    """One file or folder that could not be read."""

    text: str


@dataclass(frozen=True, slots=True)
class LastWord:
    """Why restic gave up (`exit_error`), several lines."""

    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Initialized:
    """The repository was made."""

    repository_id: str


Line = Text | Progress | Report | ItemError | LastWord | Initialized | None
"""What one line means; None for what nobody needs to see."""


def parse_line(raw: bytes) -> Line:
    """Given one line without its newline, return what it means. Never raises."""
    if not raw.startswith(b"{"):
        text = clean_text(raw)
        return Text(text) if text else None
    try:
        message = msgspec.json.decode(raw)
    # Deep nesting and bytes that are not UTF-8 are errors of their own kind, not msgspec's.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Text(clean_text(raw))
    return _read(message, raw)


def clean_text(raw: bytes) -> str:
    r"""Given a line's bytes, return text that is safe to store and to show, each byte that is not UTF-8 as `\xHH`."""
    return clean(raw.decode("utf-8", errors="backslashreplace"))


def clean(text: str) -> str:
    r"""Given text, return it without what restic meant for a terminal, other control characters as `\xHH`."""
    text = text.strip("\r\n").removeprefix(_ERASE)
    return _CONTROL.sub(_visible, text) if _CONTROL.search(text) else text


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def cut(text: str, longest: int) -> str:
    """Given text, return at most `longest` characters of it; a cut one says so."""
    if len(text) <= longest:
        return text
    note = f" … [line cut, {len(text)} characters]"
    return text[: longest - len(note)] + note


def _read(message: Any, raw: bytes) -> Line:
    """Given a decoded JSON line, return what it means."""
    known: Line = None
    match message.get("message_type") if isinstance(message, dict) else None:
        case "status":
            known = _read_status(message)
        case "summary":
            known = _read_summary(message)
        case "error":
            known = ItemError(_read_error(message))
        case "exit_error":
            lines = str(message.get("message") or "").splitlines()
            known = LastWord(tuple(clean(line) for line in lines if line.strip()))
        case "initialized":
            known = Initialized(clean(str(message.get("id", "")))[:64])
        case str():
            pass  # a kind of message we do not know, or need (verbose_status, scan_finished)
        case _:
            known = Text(clean_text(raw))
    return known


def _read_status(message: dict[str, Any]) -> Progress:
    remaining = message.get("seconds_remaining")
    files = message.get("current_files")
    # 0.14 lets it overflow; a job of ten years is none.
    known = isinstance(remaining, int) and not isinstance(remaining, bool) and 0 <= remaining <= _MAX_SECONDS
    return Progress(
        percent_done=min(_number(message.get("percent_done")), 1.0),
        # a restore's word for them is the second
        files_done=whole(message.get("files_done", message.get("files_restored"))),
        files_total=whole(message.get("total_files")),
        bytes_done=whole(message.get("bytes_done", message.get("bytes_restored"))),
        bytes_total=whole(message.get("total_bytes")),
        seconds_elapsed=whole(message.get("seconds_elapsed")),
        seconds_remaining=remaining if known else None,
        errors=whole(message.get("error_count")),
        current=tuple(clean(str(file)) for file in files[:16]) if isinstance(files, list) else (),
    )


def _read_summary(message: dict[str, Any]) -> Report:
    # A dry run makes one up.
    snapshot_id = message.get("snapshot_id") if message.get("dry_run") is not True else None
    counts = {
        name: whole(message.get(name))
        for name in BackupStats.__struct_fields__
        if name != "total_duration" and name in message
    }
    return Report(
        BackupStats(**counts, total_duration=_number(message.get("total_duration"))),
        snapshot_id if isinstance(snapshot_id, str) and _SNAPSHOT_ID.fullmatch(snapshot_id) else None,
    )


def _read_error(message: dict[str, Any]) -> str:
    """Return an error line's sentence. From 0.17 restic writes one; before it a Go struct, whatever was in it."""
    error = message.get("error")
    item = str(message.get("item") or "")
    # A check's errors have no `error`, only a `message`, of several lines.
    text = _error_text(error) or " ".join(str(message.get("message") or "unknown error").split())
    if item and item not in text:
        text = f"{item}: {text}"
    return clean(text)


def _error_text(error: object) -> str:
    if isinstance(error, dict):
        if isinstance(error.get("message"), str):
            return str(error["message"])
        cause = error.get("Err")
        if isinstance(cause, int) and not isinstance(cause, bool) and 0 < cause < 4096:
            reason = os.strerror(cause)
        else:
            reason = _error_text(cause)
        what = " ".join(str(error[name]) for name in ("Op", "Syscall", "Path", "Old", "New") if error.get(name))
        return f"{what}: {reason}" if what and reason else what or reason
    return str(error) if isinstance(error, str | int) and error != "" else ""


def whole(value: object) -> int:
    """Given a number out of JSON, return it as a whole number that may travel; 0 for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return 0
    return min(max(int(value), 0), _MAX_COUNT)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return 0.0
    return min(max(float(value), 0.0), float(_MAX_COUNT))


@dataclass(slots=True)
class Heard:
    """Everything kept of one run's output, bounded. Feed it lines; it answers which of them are for the log."""

    redact: Redact
    report: Report | None = None
    initialized: str | None = None
    item_errors: int = 0
    skipped: list[str] = field(default_factory=list)
    """Source paths that restic itself found missing, the first hundred."""
    last_word: tuple[str, ...] = ()
    texts: deque[str] = field(default_factory=lambda: deque(maxlen=50))
    """The last lines of plain text on stderr: there the classes of failure are found where no exit code tells."""
    _raw_word: str = field(default="", repr=False)
    _raw_texts: deque[str] = field(default_factory=lambda: deque(maxlen=50), repr=False)
    _first: list[str] = field(default_factory=list)
    _last: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LAST))

    def take(self, stream: Stream, raw_lines: Iterable[bytes]) -> tuple[list[str], Progress | None]:
        """Given lines of one stream, return those for the log, and the latest progress if any was said."""
        log: list[str] = []
        progress: Progress | None = None
        for raw in raw_lines:
            if not raw.startswith(b"{"):
                # By far the most lines there are when there are many: no detour for them.
                if text := clean_text(raw):
                    log.append(self._text(stream, text))
                continue
            match parse_line(raw):
                case Progress() as progress:
                    if progress.current:
                        shown = tuple(cut(self.redact(file), 1_000) for file in progress.current)
                        progress = msgspec.structs.replace(progress, current=shown)
                case Text(text):
                    log.append(self._text(stream, text))
                case Report() as report:
                    self.report = report
                    log.append(summary_text(report))
                case ItemError(text):
                    self.item_errors += 1
                    log.append(self._error(f"error: {text}"))
                case LastWord(lines):
                    self._raw_word = "\n".join(lines)
                    self.last_word = tuple(self._error(line) for line in lines)
                    log += self.last_word
                case Initialized(repository_id):
                    self.initialized = repository_id
                    log.append(f"created repository {repository_id[:10]}")
                case None:
                    pass
        return log, progress

    def _text(self, stream: Stream, text: str) -> str:
        if stream == "stdout":
            return cut(self.redact(text), MAX_LINE)
        self._raw_texts.append(text[:MAX_LINE])
        text = self._error(text)
        self.texts.append(text)
        skipped = _SKIPPED.fullmatch(text)
        if skipped is not None and len(self.skipped) < 100:
            self.skipped.append(skipped["path"])
        return text

    def _error(self, text: str) -> str:
        # Redacted before it is cut: a cut must not leave half a secret that no longer looks like one.
        text = cut(self.redact(text), MAX_LINE)
        # An unreadable file is told twice, once by the scan and once by the backup itself. Where in its own code restic
        # was says nothing to anybody here: that is for the log.
        kept = cut(text, MAX_ERROR_LINE)
        if _STACK.match(kept) is None and kept not in self._first and kept not in self._last:
            (self._first if len(self._first) < MAX_ERROR_LINES else self._last).append(kept)
        return text

    def words(self) -> tuple[str, str]:
        """Return restic's last word and its last lines of plain text as they were: to be searched, never to be kept.

        A password that is a word of restic's own ("wrong", "locked") must not hide what it says.
        """
        return self._raw_word, "\n".join(self._raw_texts)

    @property
    def error_lines(self) -> tuple[str, ...]:
        """restic's first error lines, at most MAX_ERROR_LINES; when there were more, the last few are the last ones."""
        return (*self._first[: MAX_ERROR_LINES - len(self._last)], *self._last)


def summary_text(report: Report) -> str:
    """Given a summary, return it as one line for people."""
    stats = report.stats
    where = f"snapshot {report.snapshot_id[:8]} saved" if report.snapshot_id else "no new snapshot"
    stored = f", {size_text(stats.data_added_packed)} stored" if stats.data_added_packed else ""
    return (
        f"{where}: {stats.files_new} new, {stats.files_changed} changed, {stats.files_unmodified} unmodified files; "
        f"{size_text(stats.data_added)} added{stored}; {size_text(stats.total_bytes_processed)} in "
        f"{stats.total_files_processed} files looked at in {stats.total_duration:.1f} s"
    )


def size_text(size: int) -> str:
    """Given a number of bytes, return it with a binary unit."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
