"""What every reader of an answer is: fed lines, asked at the end for what they amount to.

Pure, and total: no line, however broken, raises. A reader takes what is data and leaves the rest to the log. Refuses to
judge exit codes and signals (`restic.verdict` does); it only says what restic's words mean where its code does not.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from restic_manager.domain.pathtext import path_to_text
from restic_manager.domain.results import Result, Row
from restic_manager.restic.lines import MAX_RAW_LINE
from restic_manager.restic.output import clean

WHOLE_DOCUMENT = 512 << 20
"""Bytes of one line where the answer is one document: 10,000 snapshots are 7 MB, a find in them can be far more."""

_IGNORED = re.compile(r'Ignoring "([^"]{1,100})"')
_REFUSED = re.compile(r"unable to (?:remove|modify the tags for) (?:snapshot/|snapshot ID )\"?([0-9a-f]{8,64})")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True)
class Finding:
    """What the words amount to: the result, and a failure code where they tell of one, with what exactly happened."""

    result: Result | None = None
    code: str | None = None
    detail: str = ""


class Reader:
    """Reads the answer of one run. This one takes nothing and finds nothing; the others build on it."""

    longest_line = MAX_RAW_LINE

    def __init__(self) -> None:
        self.unknown: list[str] = []
        """Snapshots that restic does not have: it says so and goes on, most often to exit 0."""
        self.refused: list[str] = []
        """Snapshots that it could not remove or change: on 0.18 it says so and exits 0."""

    def stdout(self, raw: bytes) -> bool:  # noqa: ARG002 - the others look at it
        """Given a line of stdout, return whether it is data (and so not for the log)."""
        return False

    def stderr(self, text: str) -> None:
        """Given a line of stderr as text, remember what it tells."""
        # Nearly no line is one of these, and there may be very many lines.
        if 'Ignoring "' in text and (ignored := _IGNORED.search(text)) is not None:
            self.unknown.append(clean(ignored[1]))
        if "unable to " in text and (refused := _REFUSED.search(text)) is not None and refused[1] not in self.refused:
            self.refused.append(refused[1])

    def rows(self) -> list[Row]:
        """Return the rows read since it was last asked."""
        return []

    def finding(self) -> Finding:
        """Return what the whole answer amounts to."""
        return self.trouble() or Finding()

    def trouble(self, result: Result | None = None) -> Finding | None:
        """Return the failure that restic told of in words only, if it did."""
        if self.unknown:
            named = ", ".join(self.unknown[:5])
            return Finding(result, "snapshot_missing", f"Not in the repository: {named}.")
        if self.refused:
            named = ", ".join(snapshot[:8] for snapshot in self.refused[:5])
            return Finding(result, "access_denied", f"The storage did not let restic change {named}.")
        return None


class RawReader(Reader, ABC):
    """Reads an answer that is no text: its stdout comes in pieces as they are written, not in lines."""

    @abstractmethod
    def piece(self, data: bytes) -> None:
        """Given the next bytes of stdout, take them."""


def decode(raw: bytes) -> Any:
    """Given JSON, return its value, or None if it is none (which JSON's own null is not worth telling apart)."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def instant(value: object) -> datetime | None:
    """Given a time as restic writes it (nanoseconds, any offset), return it in UTC to the microsecond, else None."""
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    try:
        found = datetime.fromisoformat(f"{match[1]}{(match[2] or '.0')[:7]:0<7}{match[3]}").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return found if 1970 <= found.year < 9990 else None


def path(value: object) -> str:
    """Given a path out of JSON, return its text. U+FFFD in it may stand for bytes that are not UTF-8."""
    return path_to_text(str(value).encode("utf-8", "replace"))


def items(value: object) -> list[Any]:
    """Given a JSON array, return what is in it; nothing for any other value."""
    return value if isinstance(value, list) else []


def objects(value: object) -> list[dict[str, Any]]:
    """Given a JSON array, return the objects in it."""
    return [one for one in items(value) if isinstance(one, dict)]


def texts(value: object, longest: int = 16_384) -> tuple[str, ...]:
    """Given a JSON array, return its texts, each cleaned and cut."""
    return tuple(clean(str(one))[:longest] for one in items(value))
