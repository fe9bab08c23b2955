"""Bytes into lines, in bounded memory. Owns where a line ends and how much of an endless one is kept.

Pure. Refuses to know what a line means.
"""

from __future__ import annotations

MAX_RAW_LINE = 256 << 10
"""Bytes kept of one line. restic's own lines are far below; a longer one is cut and says so."""


class LineSplitter:
    """Feed it chunks as they come; it answers with the lines that are complete, without their newlines."""

    def __init__(self, longest: int = MAX_RAW_LINE) -> None:
        self._longest = longest
        self._parts: list[bytes] = []
        self._kept = 0
        self._cut = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Given the next chunk, return the lines that end in it."""
        first, newline, rest = chunk.partition(b"\n")
        self._keep(first)
        if not newline:
            return []
        lines = [self._take()]
        if rest:
            *whole, open_end = rest.split(b"\n")
            # No chunk is longer than the longest line, so these need no cutting.
            lines += whole
            self._keep(open_end)
        return lines

    def finish(self) -> list[bytes]:
        """Return the last line if it had no newline."""
        return [self._take()] if self._kept or self._cut else []

    def _keep(self, part: bytes) -> None:
        room = self._longest - self._kept
        if part:
            self._parts.append(part[:room])
            self._kept += len(self._parts[-1])
            self._cut += max(len(part) - room, 0)

    def _take(self) -> bytes:
        line = b"".join(self._parts)
        if self._cut:
            line += b" ... [line cut, %d bytes left out]" % self._cut
        self._parts, self._kept, self._cut = [], 0, 0
        return line
