"""Time as plain integers: seconds since 0001-01-01T00:00 in the proleptic Gregorian calendar.

Owns the way to and from datetimes. An integer cannot overflow, so arithmetic near the years 1 and 9999 needs no care;
only here is asked whether a datetime can be it. The same count serves for instants (in UTC) and walls (on some clock).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final

DAY: Final = 86_400
LAST_DAY: Final = date.max.toordinal() - 1
"""The number of 9999-12-31, where 0001-01-01 is 0."""
END: Final = (LAST_DAY + 1) * DAY - 1
"""The last second a datetime can be."""

_FIRST: Final = datetime(1, 1, 1, tzinfo=UTC)


def to_second(instant: datetime) -> int:
    """Given an aware datetime, return its second, parts dropped; raise ValueError if it is naive.

    Its zone may put it beyond the first or the last datetime.
    """
    return _whole(_elapsed(instant))


def is_whole(instant: datetime) -> bool:
    """Given an aware datetime, return whether it is a whole second; raise ValueError if it is naive."""
    return not _elapsed(instant).microseconds


def to_instant(second: int) -> datetime | None:
    """Given a second, return it as a datetime in UTC; None if no datetime can be that."""
    if not 0 <= second <= END:
        return None
    return _FIRST + timedelta(days=second // DAY, seconds=second % DAY)


def offset_at(second: int, zone: tzinfo) -> int:
    """Given an instant, return how many seconds a zone's clock is ahead of UTC then."""
    # Within a day of either end the local time may be no datetime. No zone changes there, so its neighbour answers.
    instant = to_instant(min(max(second, DAY), END - DAY))
    offset = None if instant is None else instant.astimezone(zone).utcoffset()
    return 0 if offset is None else _whole(offset)


def year_of(second: int) -> int:
    """Given a second, return its year, that of the nearest end if it lies beyond."""
    return date.fromordinal(min(max(second // DAY, 0), LAST_DAY) + 1).year


def is_leap(year: int) -> bool:
    """Given a year, return whether it has a 29 February."""
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _elapsed(instant: datetime) -> timedelta:
    offset = instant.utcoffset()
    if offset is None:
        raise ValueError("an instant must be aware of its UTC offset")
    # Not astimezone(): that overflows within a day of either end.
    return instant.replace(tzinfo=UTC) - _FIRST - offset


def _whole(delta: timedelta) -> int:
    return delta.days * DAY + delta.seconds
