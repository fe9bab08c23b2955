"""What makes a backup that ended well worth a warning all the same: guards, each with a name and its own threshold.

Pure: given what a backup counted and what the ones before it counted, say which guards it trips. A guard that needs a
history says nothing until there is one. Refuses to know how restic is run and where history is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import median
from typing import Annotated, Final

from msgspec import Meta, Struct

from restic_manager.domain.bounds import Count, Instant

Share = Annotated[float, Meta(gt=0, lt=1)]

HISTORY: Final = 7
"""So many backups before this one are looked at, the newest; their median is what is usual."""
ENOUGH: Final = 3
"""Fewer than these are no history."""
FUTURE_SLACK: Final = timedelta(minutes=10)
"""A snapshot's time may be this far ahead of our own before its clock is wrong."""
LEAST_FILES: Final = 10
"""Of fewer files than these a share says nothing: one deleted file of two is half of all."""


class Guard(StrEnum):
    """What a backup can be warned for."""

    SOURCE_MISSING = "source_missing"
    SOURCE_UNREADABLE = "source_unreadable"
    FEWER_FILES = "fewer_files"
    SMALLER = "smaller"
    TOO_SMALL = "too_small"
    FUTURE_TIME = "future_time"
    NOTHING = "nothing"


class Guards(Struct, frozen=True, kw_only=True):
    """A schedule's thresholds. shrink: by which share files or bytes may fall against the recent median (None: any).

    least: bytes that a good backup has at least. off: guards that are not to speak.
    """

    shrink: Share | None = 0.5
    least: Count | None = None
    off: tuple[Guard, ...] = ()


class Counted(Struct, frozen=True, kw_only=True):
    """What one backup counted: all the files it looked at, changed or not, and their bytes."""

    files: Count
    size: Count


class Made(Struct, frozen=True, kw_only=True):
    """One backup to be judged. counted: None where restic did not say. snapshot_time: by the snapshot's own word."""

    counted: Counted | None
    missing: tuple[str, ...] = ()
    read_errors: Count = 0
    snapshot_time: Instant | None = None


class Tripped(Struct, frozen=True, kw_only=True):
    """A guard that has tripped, and why, in a sentence."""

    guard: Guard
    why: str


def judge(made: Made, before: Sequence[Counted], guards: Guards, *, now: datetime) -> tuple[Tripped, ...]:
    """Given a backup, the good ones before it (oldest first) and thresholds, return the guards that tripped."""
    found: list[Tripped] = []
    if made.missing:
        named = ", ".join(path[:200] for path in made.missing[:3])
        more = f" and {len(made.missing) - 3} more" if len(made.missing) > 3 else ""
        found.append(Tripped(guard=Guard.SOURCE_MISSING, why=f"not there: {named}{more}"))
    if made.read_errors:
        many = "one file or folder" if made.read_errors == 1 else f"{made.read_errors} files or folders"
        found.append(Tripped(guard=Guard.SOURCE_UNREADABLE, why=f"{many} could not be read"))
    if made.counted is not None:
        found += _sizes(made.counted, before, guards)
    if made.snapshot_time is not None and made.snapshot_time > now + FUTURE_SLACK:
        ahead = _long(made.snapshot_time - now)
        why = f"the snapshot's time {made.snapshot_time:%Y-%m-%d %H:%M:%S} lies {ahead} in the future: its host's "
        why += "clock is wrong"
        found.append(Tripped(guard=Guard.FUTURE_TIME, why=why))
    return tuple(one for one in found if one.guard not in guards.off)


def _sizes(counted: Counted, before: Sequence[Counted], guards: Guards) -> list[Tripped]:
    if counted.files == 0:
        # Nothing is also smaller than anything: once is enough.
        return [Tripped(guard=Guard.NOTHING, why="there was no file to back up")]
    found: list[Tripped] = []
    if guards.least is not None and counted.size < guards.least:
        why = f"it has {counted.size} bytes, and at least {guards.least} are expected"
        found.append(Tripped(guard=Guard.TOO_SMALL, why=why))
    recent = list(before[-HISTORY:])
    if guards.shrink is None or len(recent) < ENOUGH:
        return found
    files, size = median(one.files for one in recent), median(one.size for one in recent)
    if files >= LEAST_FILES and counted.files < files * (1 - guards.shrink):
        why = f"{counted.files} files instead of about {files:.0f}: {_percent(counted.files, files)} fewer than usual"
        found.append(Tripped(guard=Guard.FEWER_FILES, why=why))
    if size and counted.size < size * (1 - guards.shrink):
        why = f"{counted.size} bytes instead of about {size:.0f}: {_percent(counted.size, size)} less than usual"
        found.append(Tripped(guard=Guard.SMALLER, why=why))
    return found


def _percent(now: float, usual: float) -> str:
    return f"{(1 - now / usual) * 100:.0f} %"


def _long(span: timedelta) -> str:
    if span >= timedelta(days=2):
        return f"{span.days} days"
    minutes = span // timedelta(minutes=1)
    return f"{minutes // 60} h" if minutes >= 120 else f"{minutes} min"
