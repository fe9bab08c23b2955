"""One row of a listing as one line, so that a million of them can be printed as they come. Pure.

The path stands last and is never folded: a listing is for `grep`, too.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from restic_manager.cli.text import listing, short, size
from restic_manager.domain.results import (
    BytesRow,
    ChangeRow,
    FateRow,
    FoundRow,
    LockRow,
    NodeRow,
    Row,
    SnapshotRow,
)

_TYPES: Final = {
    "file": "-",
    "dir": "d",
    "symlink": "l",
    "dev": "b",
    "chardev": "c",
    "fifo": "p",
    "socket": "s",
}
_SPECIAL: Final = ((1 << 23, 2, "sS"), (1 << 22, 5, "sS"), (1 << 20, 8, "tT"))
"""Go's bits for setuid, setgid and sticky, where each is shown, and as what (with and without the x below it)."""


def row_line(row: Row) -> str:  # noqa: PLR0911 - one line a kind
    """Given a row, return it as one line."""
    match row:
        case NodeRow():
            folder = "/" if row.type == "dir" and row.path != "/" else ""
            return (
                f"{mode_text(row.type, row.mode)} {_size(row.type, row.size)} {_time(row.mtime)} {_name(row)}{folder}"
            )
        case FoundRow():
            return f"{short(row.snapshot)} {_size(row.type, row.size)} {_time(row.mtime)} {_name(row)}"
        case ChangeRow():
            return f"{row.modifier:<3} {_name(row)}"
        case SnapshotRow():
            return f"{short(row.id)} {_time(row.time)} {row.hostname} {listing(list(row.paths))}"
        case FateRow():
            word = "keep  " if row.keep else "remove"
            why = f" ({', '.join(row.reasons)})" if row.reasons else ""
            return f"{word} {short(row.snapshot.id)} {_time(row.snapshot.time)} {row.snapshot.hostname}{why}"
        case LockRow():
            lock = row.lock
            alone = " exclusive" if lock.exclusive else ""
            return f"{short(lock.id)} {_time(lock.time)} {lock.hostname} pid {lock.pid} {lock.username}{alone}"
        case BytesRow():
            return f"{len(row.data):,} bytes"


def mode_text(kind: str, mode: int) -> str:
    """Given a node's type and its mode as restic keeps it (Go's bits), return `drwxr-xr-x`."""
    letters = [letter if mode & (1 << (8 - place)) else "-" for place, letter in enumerate("rwxrwxrwx")]
    for bit, place, (with_x, without) in _SPECIAL:
        if mode & bit:
            letters[place] = without if letters[place] == "-" else with_x
    return _TYPES.get(kind, "?") + "".join(letters)


def _size(kind: str, count: int) -> str:
    return f"{size(count) if kind == 'file' else '-':>10}"


def _time(instant: datetime | None) -> str:
    return f"{'-':<16}" if instant is None else f"{instant.astimezone(UTC):%Y-%m-%d %H:%M}"


def _name(row: NodeRow | FoundRow | ChangeRow) -> str:
    return row.path if row.exact else f"{row.path} (not its exact name)"
