"""What ls, find and diff say, row by row, and the true names of what is not UTF-8. Pure.

JSON shows every byte that is not UTF-8 as U+FFFD; the text of the same command shows the bytes, one line a row (more
where a name has newlines in it). So a row with U+FFFD is held back with the number of its line there, and `NamesReader`
reads it out of a second run, in text. A name that does not come out the same there stays as JSON showed it, not exact.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from restic_manager.domain.pathtext import path_to_text
from restic_manager.domain.results import ChangeRow, DiffStats, FoundRow, ListStats, NodeRow, Row
from restic_manager.restic.answers.reader import WHOLE_DOCUMENT, Finding, Reader, decode, instant, items, objects, path
from restic_manager.restic.output import clean, whole

_ID = re.compile(r"[0-9a-f]{8,64}")
_LOST = "\ufffd"
_MODIFIER_WIDTH = 5
Named = NodeRow | FoundRow | ChangeRow
HELD_AT_MOST = 100_000
"""Rows with a name that JSON does not show wait in memory for the text; of any more the name stays as it was shown."""


@dataclass(frozen=True, slots=True)
class Held:
    """A row whose name JSON does not show: where its text is, from which line, over how many, after how many bytes."""

    row: Named
    shown: str
    line: int
    lines: int
    skip: int = 0


class NamedReader(Reader):
    """Rows with names in them, as they come; those that JSON does not show are held."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Held] = []
        self.count = 0
        self._fresh: list[Row] = []
        self._line = 0
        """The line of the text's next row."""

    def _give(self, row: Named, shown: str, skip: int = 0) -> None:
        lines = shown.count("\n") + 1
        if _LOST in shown and len(self.held) < HELD_AT_MOST:
            self.held.append(Held(row, shown, self._line, lines, skip))
        elif _LOST in shown:
            self._fresh.append(msgspec.structs.replace(row, exact=False))
        else:
            self._fresh.append(row)
        self.count += 1
        self._line += lines

    def rows(self) -> list[Row]:
        """Return the rows that are whole."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def finding(self) -> Finding:
        """Return how many rows there are, held ones too."""
        result = ListStats(rows=self.count)
        return self.trouble(result) or Finding(result)


class LsReader(NamedReader):
    """Reads `ls --json`: the snapshot, then a line for each file."""

    def __init__(self, asked: str) -> None:
        """`asked`: the folder's path text; it stands in the text's first line too, newlines and all."""
        super().__init__()
        self._asked = asked
        self._opened = False

    def stdout(self, raw: bytes) -> bool:
        """Given a line, take it if it is JSON."""
        told = decode(raw) if raw.startswith(b"{") else None
        if not isinstance(told, dict):
            return False
        if told.get("struct_type") == "snapshot":
            self._opened = True
            named = (*items(told.get("paths")), self._asked if self._asked != "/" else "")
            self._line = 1 + sum(str(one).count("\n") for one in named)
        elif told.get("struct_type") == "node":
            shown = str(told.get("path"))
            self._give(node_row(told), shown)
        return True

    def finding(self) -> Finding:
        """Return how many; a folder that is not there gives the snapshot alone."""
        found = super().finding()
        if found.code is None and not self._opened:
            return Finding(found.result, "no_summary")
        if found.code is None and self.count == 0 and self._asked != "/":
            return Finding(found.result, "path_missing", f"Not in this snapshot: {self._asked[:500]}.")
        return found


def node_row(told: dict[str, Any]) -> NodeRow:
    """Given a node out of JSON, return it as a row."""
    return NodeRow(
        path=path(told.get("path")),
        type=clean(str(told.get("type")))[:256],
        size=whole(told.get("size")),
        mode=whole(told.get("mode")),
        mtime=instant(told.get("mtime")),
        uid=whole(told.get("uid")),
        gid=whole(told.get("gid")),
    )


class FindReader(NamedReader):
    """Reads `find --json`: one document. In the text each snapshot's rows follow a heading, and an empty line."""

    longest_line = WHOLE_DOCUMENT

    def __init__(self) -> None:
        super().__init__()
        self._read = False

    def stdout(self, raw: bytes) -> bool:
        """Given a line, take it if it is the document."""
        if not raw.startswith((b"[", b"null")):
            return False
        self._read = True
        for number, group in enumerate(objects(decode(raw))):
            self._line += 1 if number == 0 else 2
            for told in objects(group.get("matches")) if _ID.fullmatch(str(group.get("snapshot"))) else ():
                shown = str(told.get("path"))
                row = FoundRow(
                    snapshot=str(group.get("snapshot")),
                    path=path(shown),
                    type=clean(str(told.get("type")))[:256],
                    size=whole(told.get("size")),
                    mtime=instant(told.get("mtime")),
                )
                self._give(row, shown)
        return True

    def finding(self) -> Finding:
        """Return how many were found; none is an answer too."""
        found = super().finding()
        return found if found.code is not None or self._read else Finding(found.result, "no_summary")


class DiffReader(NamedReader):
    """Reads `diff --json`: a line for each difference, then the numbers. In the text two lines come before."""

    def __init__(self) -> None:
        super().__init__()
        self._line = 2
        self._stats: DiffStats | None = None

    def stdout(self, raw: bytes) -> bool:
        """Given a line, take it if it is JSON."""
        told = decode(raw) if raw.startswith(b"{") else None
        if not isinstance(told, dict):
            return False
        if told.get("message_type") == "change":
            modifier = clean(str(told.get("modifier")))[:256]
            shown = str(told.get("path"))
            self._give(ChangeRow(path=path(shown), modifier=modifier), shown, skip=max(len(modifier), _MODIFIER_WIDTH))
        elif told.get("message_type") == "statistics":
            added, removed = _object(told.get("added")), _object(told.get("removed"))
            self._stats = DiffStats(
                files_changed=whole(told.get("changed_files")),
                files_added=whole(added.get("files")),
                files_removed=whole(removed.get("files")),
                bytes_added=whole(added.get("bytes")),
                bytes_removed=whole(removed.get("bytes")),
            )
        return True

    def finding(self) -> Finding:
        """Return the numbers."""
        if self._stats is None:
            return self.trouble() or Finding(None, "no_summary")
        return Finding(msgspec.structs.replace(self._stats, rows=self.count))


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


class NamesReader(Reader):
    """Reads the text of a listing for the names that its JSON did not show."""

    def __init__(self, held: list[Held]) -> None:
        super().__init__()
        self._held = held
        self._next = 0
        self._line = 0
        self._parts: list[bytes] = []
        self._fresh: list[Row] = []

    def stdout(self, raw: bytes) -> bool:
        """Given a line, keep it if it is one of those that are wanted."""
        number = self._line
        self._line += 1
        if self._next < len(self._held):
            wanted = self._held[self._next]
            if wanted.line <= number < wanted.line + wanted.lines:
                self._parts.append(raw)
                if len(self._parts) == wanted.lines:
                    self._fresh.append(named(wanted, b"\n".join(self._parts)[wanted.skip :]))
                    self._next += 1
                    self._parts = []
        return True

    def rows(self) -> list[Row]:
        """Return the rows whose names were found."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def left(self) -> list[Row]:
        """Return the rows that the text did not reach, with the names that JSON showed."""
        return [msgspec.structs.replace(held.row, exact=False) for held in self._held[self._next :]]


def named(held: Held, raw: bytes) -> Row:
    """Given a held row and the bytes found for it, return it with its true name, if they are its name."""
    if as_go_shows(raw) == held.shown:
        return cast("Row", msgspec.structs.replace(held.row, path=path_to_text(raw)))
    return cast("Row", msgspec.structs.replace(held.row, exact=False))


def _each_byte(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _LOST, error.start + 1


codecs.register_error("restic_manager_each_byte", _each_byte)


def as_go_shows(raw: bytes) -> str:
    """Given bytes, return the text that Go's JSON makes of them: each byte that is not UTF-8 as one U+FFFD."""
    return raw.decode("utf-8", "restic_manager_each_byte")
