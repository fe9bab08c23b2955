"""What a lock says of itself: who took it, where and when. Pure; the same in all releases."""

from __future__ import annotations

import re
from typing import Final

from restic_manager.domain.results import Lock
from restic_manager.restic.answers.reader import Reader, decode, instant
from restic_manager.restic.output import clean, whole

_ID: Final = re.compile(rb"[0-9a-f]{8,64}")


def read_lock(lock_id: str, raw: bytes) -> Lock | None:
    """Given a lock's id and its content, return it; None if this is no lock."""
    told = decode(raw)
    taken = instant(told.get("time")) if isinstance(told, dict) else None
    if taken is None:
        return None
    return Lock(
        id=lock_id,
        hostname=clean(str(told.get("hostname") or ""))[:256],
        pid=whole(told.get("pid")),
        time=taken,
        username=clean(str(told.get("username") or ""))[:256],
        exclusive=told.get("exclusive") is True,
    )


class IdsReader(Reader):
    """Reads `list`: an id a line."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def stdout(self, raw: bytes) -> bool:
        """Given a line, take it if it is an id."""
        line = raw.strip()
        if _ID.fullmatch(line) is None:
            return False
        self.found.append(line.decode("ascii"))
        return True


class LockReader(Reader):
    """Reads `cat lock`: one document over several lines."""

    def __init__(self, lock_id: str) -> None:
        super().__init__()
        self._id = lock_id
        self._lines: list[bytes] = []

    def stdout(self, raw: bytes) -> bool:
        """Given a line, take it."""
        self._lines.append(raw)
        return True

    def lock(self) -> Lock | None:
        """Return the lock, None if what was said is none."""
        return read_lock(self._id, b"\n".join(self._lines))
