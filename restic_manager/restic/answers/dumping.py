"""What is asked of one file of a snapshot: what stands at its path, and its bytes. Pure."""

from __future__ import annotations

from typing import Final

from restic_manager.domain.pathtext import text_to_path
from restic_manager.domain.results import BytesRow, ListStats, NodeRow, Row
from restic_manager.restic.answers.listing import LsReader, Named, as_go_shows
from restic_manager.restic.answers.reader import Finding, RawReader

PIECE: Final = 64 << 10
"""Bytes of one row at most."""


class NodeReader(LsReader):
    """Reads the listing of one path, and keeps only what stands at it: a folder's listing has what is in it too."""

    def __init__(self, asked: str) -> None:
        super().__init__(asked)
        self.node: NodeRow | None = None
        self._wanted = as_go_shows(text_to_path(asked))

    def _give(self, row: Named, shown: str, skip: int = 0) -> None:  # noqa: ARG002 - the name is known: it was asked for
        self.count += 1
        if shown == self._wanted and isinstance(row, NodeRow):
            self.node = row


class DumpReader(RawReader):
    """Takes a file's bytes: as many as its snapshot says it has, and no more."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._came = 0
        self._rows = 0
        self._fresh: list[Row] = []

    def piece(self, data: bytes) -> None:
        """Given the next bytes, make rows of them."""
        room = max(self._size - self._came, 0)
        self._came += len(data)
        fitting = data[:room]
        fresh = [BytesRow(data=fitting[start : start + PIECE]) for start in range(0, len(fitting), PIECE)]
        self._rows += len(fresh)
        self._fresh += fresh

    def rows(self) -> list[Row]:
        """Return the rows that nobody has taken yet."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def finding(self) -> Finding:
        """Return how many rows there were; a file that did not come whole is told by its bytes."""
        result = ListStats(rows=self._rows)
        if self._came != self._size:
            said = f"{self._came:,} bytes came of a file of {self._size:,}."
            return self.trouble(result) or Finding(result, "dump_incomplete", said)
        return self.trouble(result) or Finding(result)
