"""Slots by brute force: each minute of UTC in turn, its wall time from zoneinfo, and the fields read anew.

Shares no code and no idea with `domain.cron*`, so that the two can only agree by both being right.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
NAMES = {
    name: number
    for names in ("sun mon tue wed thu fri sat", "- jan feb mar apr may jun jul aug sep oct nov dec")
    for number, name in enumerate(names.split())
}
BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def _number(text: str) -> int:
    return NAMES[text.lower()] if text.isalpha() else int(text)


def _allows(field: str, value: int, bounds: tuple[int, int]) -> bool:
    for item in field.split(","):
        span, _, step = item.partition("/")
        if span == "*":
            low, high = bounds
        elif "-" in span:
            low, high = (_number(end) for end in span.split("-"))
        else:
            low = _number(span)
            high = bounds[1] if step else low
        if low <= value <= high and (value - low) % int(step or 1) == 0:
            return True
    return False


class Matcher:
    """Whether a naive wall time is one of an expression's."""

    def __init__(self, expression: str) -> None:
        self.fields = expression.split()
        minute, hour, day, _, weekday = self.fields
        self.fixed = not minute.startswith("*") and not hour.startswith("*")
        self.every_hour = all(_allows(hour, value, BOUNDS[1]) for value in range(24))
        self.either = not day.startswith("*") and not weekday.startswith("*")
        self.times = {(h, m) for h in range(24) for m in range(60) if self._at(1, h) and self._at(0, m)}
        self.dates: dict[object, bool] = {}

    def _at(self, index: int, value: int) -> bool:
        return _allows(self.fields[index], value, BOUNDS[index])

    def _date(self, wall: datetime) -> bool:
        weekday = self._at(4, wall.isoweekday() % 7) or self._at(4, wall.isoweekday())
        day = self._at(2, wall.day)
        return self._at(3, wall.month) and ((day or weekday) if self.either else (day and weekday))

    def __call__(self, wall: datetime) -> bool:
        if wall.second or (wall.hour, wall.minute) not in self.times:
            return False
        date = wall.date()
        if date not in self.dates:
            self.dates[date] = self._date(wall)
        return self.dates[date]


@lru_cache(maxsize=256)
def minutes(zone: str, start: datetime, end: datetime) -> tuple[tuple[datetime, datetime, tuple[datetime, ...]], ...]:
    """Given a zone and an interval of whole minutes, return (instant, wall, walls left out just before) for each."""
    tz = ZoneInfo(zone)
    found: list[tuple[datetime, datetime, tuple[datetime, ...]]] = []
    before: datetime | None = None
    for number in range((end - start) // MINUTE):
        instant = start + number * MINUTE
        wall = instant.astimezone(tz).replace(tzinfo=None)
        passed = 1 if before is None else (wall - before) // MINUTE
        found.append((instant, wall, tuple(wall - MINUTE * step for step in range(1, passed))))
        before = wall
    return tuple(found)


def slots(expression: str, zone: str, start: datetime, end: datetime) -> Iterator[datetime]:
    """Given an expression, a zone and an interval of whole minutes, yield the slots in [start, end) in order.

    A gap is seen as the wall going on by more than the minute that passed; `latest` is the latest wall ever shown.
    """
    matches = Matcher(expression)
    # Two days earlier, so that `latest` is right at the start.
    pairs = minutes(zone, start - timedelta(days=2), end)
    latest = pairs[0][1] - MINUTE
    for instant, wall, skipped in pairs:
        if matches.fixed:
            due = wall > latest and (matches(wall) or any(map(matches, skipped)))
        else:
            due = matches(wall) or (not matches.every_hour and any(map(matches, skipped)))
        latest = max(latest, wall)
        if due and instant >= start:
            yield instant


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]
