"""The wall times five cron fields name: which come next, which came last, how many lie between.

Owns days, weekdays and leap years as bit masks, so that a year of minutes is counted without walking it. It refuses to
know zones: a wall is the seconds since 0001-01-01T00:00 on some clock (`domain.seconds`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from datetime import date

from restic_manager.domain.seconds import DAY, END, LAST_DAY, is_leap

_LENGTHS = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class Walls:
    """All wall times of one expression."""

    __slots__ = ("_all_days", "_days", "_either", "_hours", "_minutes", "_months", "_weeks")

    def __init__(
        self,
        minutes: Iterable[int],
        hours: Iterable[int],
        days: Iterable[int],
        months: Iterable[int],
        weekdays: Iterable[int],
        *,
        either: bool,
    ) -> None:
        """Given the values of each field (Sunday is 0), and whether one of the two day fields is enough, hold them."""
        self._minutes = tuple(sorted(minutes))
        self._hours = tuple(sorted(hours))
        self._months = frozenset(months)
        self._either = either
        # Bit n is the n-th of the month. For each weekday the 1st may be, the days that the weekday field allows.
        allowed = frozenset(weekdays)
        self._days = sum(1 << day for day in days)
        self._weeks = tuple(
            sum(1 << day for day in range(1, 32) if (first + day - 1) % 7 in allowed) for first in range(7)
        )
        self._all_days = len(self._months) == 12 and all(self._join(weeks) == (1 << 32) - 2 for weeks in self._weeks)

    @property
    def every_hour(self) -> bool:
        """Whether each hour of the day has its times."""
        return len(self._hours) == 24

    def at_or_after(self, wall: int) -> int | None:
        """Given a wall, return the first of ours not before it; None if there is none up to the year 9999."""
        day, second = divmod(max(wall, 0), DAY)
        if day > LAST_DAY:
            return None
        if self._has_day(day) and (time := self._time_from(second)) is not None:
            return day * DAY + time
        found = self._day_from(day + 1)
        return None if found is None else found * DAY + self._hours[0] * 3600 + self._minutes[0] * 60

    def at_or_before(self, wall: int) -> int | None:
        """Given a wall, return the last of ours not after it; None if there is none from the year 1 on."""
        day, second = divmod(min(wall, END), DAY)
        if day < 0:
            return None
        if self._has_day(day) and (time := self._time_back(second)) is not None:
            return day * DAY + time
        found = self._day_back(day - 1)
        return None if found is None else found * DAY + self._hours[-1] * 3600 + self._minutes[-1] * 60

    def count(self, after: int, through: int) -> int:
        """Given two walls, return how many of ours lie in (after, through]."""
        after, through = max(after, -1), min(through, END)
        if after >= through:
            return 0
        (first, start), (last, end) = divmod(after, DAY), divmod(through, DAY)
        total = self._count_days(max(first, 0), last) * len(self._hours) * len(self._minutes)
        if self._has_day(last):
            total += self._times_through(end)
        if first >= 0 and self._has_day(first):
            total -= self._times_through(start)
        return total

    def _join(self, weeks: int) -> int:
        return self._days | weeks if self._either else self._days & weeks

    def _mask(self, year: int, month: int) -> int:
        """Return the days of a month that are ours, as bits."""
        if month not in self._months:
            return 0
        length = 29 if month == 2 and is_leap(year) else _LENGTHS[month]
        # An ordinal's remainder by 7 is its weekday, Sunday 0, as in cron.
        return self._join(self._weeks[date(year, month, 1).toordinal() % 7]) & ((2 << length) - 2)

    def _has_day(self, day: int) -> bool:
        if self._all_days:
            return True
        when = date.fromordinal(day + 1)
        return bool(self._mask(when.year, when.month) >> when.day & 1)

    def _day_from(self, day: int) -> int | None:
        if day > LAST_DAY:
            return None
        if self._all_days:
            return day
        when = date.fromordinal(day + 1)
        year, month, past = when.year, when.month, when.day
        while year <= 9999:
            if mask := self._mask(year, month) >> past << past:
                return date(year, month, (mask & -mask).bit_length() - 1).toordinal() - 1
            past = 0
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        return None

    def _day_back(self, day: int) -> int | None:
        if day < 0:
            return None
        if self._all_days:
            return day
        when = date.fromordinal(day + 1)
        year, month, through = when.year, when.month, when.day
        while year >= 1:
            if mask := self._mask(year, month) & ((2 << through) - 1):
                return date(year, month, mask.bit_length() - 1).toordinal() - 1
            through = 31
            year, month = (year, month - 1) if month > 1 else (year - 1, 12)
        return None

    def _count_days(self, first: int, last: int) -> int:
        """Return how many days in [first, last) are ours."""
        if self._all_days or first >= last:
            return max(last - first, 0)
        start, end = date.fromordinal(first + 1), date.fromordinal(last + 1)
        total = (self._mask(end.year, end.month) & ((1 << end.day) - 1)).bit_count()
        total -= (self._mask(start.year, start.month) & ((1 << start.day) - 1)).bit_count()
        for index in range(start.year * 12 + start.month - 1, end.year * 12 + end.month - 1):
            total += self._mask(index // 12, index % 12 + 1).bit_count()
        return total

    def _time_from(self, second: int) -> int | None:
        hour, rest = divmod(second, 3600)
        place = bisect_left(self._hours, hour)
        if place < len(self._hours) and self._hours[place] == hour:
            minute = bisect_left(self._minutes, -(-rest // 60))
            if minute < len(self._minutes):
                return hour * 3600 + self._minutes[minute] * 60
            place += 1
        return self._hours[place] * 3600 + self._minutes[0] * 60 if place < len(self._hours) else None

    def _time_back(self, second: int) -> int | None:
        hour, rest = divmod(second, 3600)
        place = bisect_right(self._hours, hour) - 1
        if place >= 0 and self._hours[place] == hour:
            minute = bisect_right(self._minutes, rest // 60) - 1
            if minute >= 0:
                return hour * 3600 + self._minutes[minute] * 60
            place -= 1
        return self._hours[place] * 3600 + self._minutes[-1] * 60 if place >= 0 else None

    def _times_through(self, second: int) -> int:
        hour, rest = divmod(second, 3600)
        place = bisect_left(self._hours, hour)
        total = place * len(self._minutes)
        if place < len(self._hours) and self._hours[place] == hour:
            total += bisect_right(self._minutes, rest // 60)
        return total
