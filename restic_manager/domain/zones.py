"""Time zones: which names are zones, and when and by how much a zone's wall clock is changed.

Owns the search for changes (the standard library tells an offset, never when it changes). It refuses to know schedules.
Instants are whole seconds (`domain.seconds`). The tables are read through zoneinfo: the one file access of this floor,
of data that stands still while the program runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from restic_manager.domain.errors import InputError
from restic_manager.domain.seconds import DAY, is_leap, offset_at, year_of

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9][A-Za-z0-9_+-]*){0,3}")
# Files among the zone tables that are no zones for us: the machine's own, and the variants that count leap seconds.
_NOT_A_ZONE = re.compile(r"(?:posix|right)/.*|localtime|posixrules|factory", re.IGNORECASE)
# Two changes within one probe could hide each other. The closest ever are four days apart (Africa/Freetown, 1939).
_PROBE: Final = 2 * DAY


class Change(NamedTuple):
    """From the second `at` on, the zone is `after` seconds ahead of UTC; until then it was `before`."""

    at: int
    before: int
    after: int


class WallClock:
    """One zone's clock. Its changes are searched for a year at a time, when first asked for, and kept."""

    def __init__(self, zone: ZoneInfo) -> None:
        """Given a zone, hold its clock."""
        self._zone = zone
        self._fixed = zone.utcoffset(None)
        self._years: dict[int, tuple[int, tuple[Change, ...]]] = {}

    def offset(self, second: int) -> int:
        """Given an instant, return how many seconds the wall is ahead of UTC."""
        offset, changes = self._year(year_of(second))
        for change in changes:
            if change.at > second:
                break
            offset = change.after
        return offset

    def changes(self, after: int, through: int) -> Iterator[Change]:
        """Given two instants, yield the changes in (after, through], the earliest first."""
        if self._fixed is None and after < through:
            for year in range(year_of(after), year_of(through) + 1):
                yield from (change for change in self._year(year)[1] if after < change.at <= through)

    def changes_back(self, after: int, through: int) -> Iterator[Change]:
        """Given two instants, yield the changes in (after, through], the latest first."""
        if self._fixed is None and after < through:
            for year in range(year_of(through), year_of(after) - 1, -1):
                yield from (change for change in reversed(self._year(year)[1]) if after < change.at <= through)

    def _year(self, year: int) -> tuple[int, tuple[Change, ...]]:
        """Return the offset at the start of a UTC year, and the changes after that through the start of the next."""
        found = self._years.get(year)
        if found is None:
            found = self._years[year] = self._search(year)
        return found

    def _search(self, year: int) -> tuple[int, tuple[Change, ...]]:
        low = (date(year, 1, 1).toordinal() - 1) * DAY
        first = before = offset_at(low, self._zone)
        if self._fixed is not None:
            return first, ()
        changes: list[Change] = []
        stop = low + (366 if is_leap(year) else 365) * DAY
        while low < stop:
            high = min(low + _PROBE, stop)
            after = offset_at(high, self._zone)
            if after != before:
                changes.append(Change(self._bisect(low, high, after), before, after))
            low, before = high, after
        return first, tuple(changes)

    def _bisect(self, low: int, high: int, after: int) -> int:
        while high - low > 1:
            middle = (low + high) // 2
            if offset_at(middle, self._zone) == after:
                high = middle
            else:
                low = middle
        return high


def check_timezone(name: str) -> None:
    """Given a name, return if it is an IANA zone; raise InputError, with the nearest names, if it is none."""
    _load(name)


@lru_cache(maxsize=1024)
def wall_clock(name: str) -> WallClock:
    """Given a zone's name, return its clock, shared by all who ask; raise InputError if it is no zone."""
    return WallClock(_load(name))


def _load(name: str) -> ZoneInfo:
    # The pattern comes first: a path must never reach the file system.
    if len(name) <= 64 and _NAME.fullmatch(name) and not _NOT_A_ZONE.fullmatch(name):
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            pass  # no such file, a file that is no zone table, a folder
    near = _near(name[:64])
    hint = f"did you mean {' or '.join(near)}?" if near else "write an IANA name such as Europe/Berlin or UTC"
    raise InputError(f"{name[:64]!a} is not a time zone: {hint}")


def _near(name: str) -> list[str]:
    import difflib

    wanted = name.strip().lower().replace(" ", "_")
    if not wanted:
        return []
    zones = {zone.lower(): zone for zone in sorted(available_timezones()) if not _NOT_A_ZONE.fullmatch(zone)}
    if wanted in zones:
        return [zones[wanted]]
    cities = [zone for low, zone in zones.items() if "/" in low and low.rsplit("/", 1)[1] == wanted]
    return cities[:3] or [zones[low] for low in difflib.get_close_matches(wanted, zones, n=3, cutoff=0.75)]
