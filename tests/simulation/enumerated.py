"""Every slot of a timing in the simulated time, by brute force. Shares no code with the product's planner."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from tests.domain.cron_oracle import slots as brute_slots

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
DAY: Final = timedelta(days=1)
SECOND: Final = timedelta(seconds=1)


def at(micros: int) -> datetime:
    """Given a stored moment, return it."""
    return EPOCH + timedelta(microseconds=micros)


@dataclass(frozen=True)
class Interval:
    """One (schedule, host, revision) of the server's record."""

    schedule_id: str
    host_id: str
    revision: int
    cron: str
    zone: str
    anchor: datetime
    begins: datetime
    ends: datetime | None
    enabled: bool


class Slots:
    """Every slot of a timing in the simulated time, found once by brute force."""

    def __init__(self, start: datetime, end: datetime) -> None:
        self._start, self._end = start - 2 * DAY, end + 2 * DAY
        self._known: dict[tuple[str, str, datetime], list[datetime]] = {}

    def of(self, one: Interval, after: datetime, through: datetime) -> list[datetime]:
        """Return the slots of this interval's timing in (after, through]."""
        key = (one.cron, one.zone, one.anchor)
        if key not in self._known:
            self._known[key] = self._enumerate(one)
        return [slot for slot in self._known[key] if after < slot <= through]

    def _enumerate(self, one: Interval) -> list[datetime]:
        every = re.fullmatch(r"@every (?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", one.cron)
        if every is None:
            return list(brute_slots(one.cron, one.zone, self._start, self._end))
        hours, minutes, seconds = (int(part or 0) for part in every.groups())
        step, slot = timedelta(hours=hours, minutes=minutes, seconds=seconds), one.anchor
        found = []
        while slot <= self._end:
            slot += step
            found.append(slot)
        return found
