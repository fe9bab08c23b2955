"""When each schedule is to be looked at next: one heap for all, not a task each. Decides nothing, knows no clock."""

from __future__ import annotations

import heapq
from datetime import datetime


class Wakes:
    """A heap of (instant, schedule id) in which each schedule stands at most once.

    An entry that was put off or taken away stays in the heap until it comes up, and is passed over then.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, str]] = []
        self._current: dict[str, datetime] = {}

    def set(self, schedule_id: str, wake: datetime | None) -> None:
        """Look at this schedule at this instant instead of before; None: not at all."""
        if wake is None:
            self._current.pop(schedule_id, None)
        elif self._current.get(schedule_id) != wake:
            self._current[schedule_id] = wake
            heapq.heappush(self._heap, (wake, schedule_id))

    def due(self, now: datetime) -> list[str]:
        """Take out and return the schedules whose instant has come."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            wake, schedule_id = heapq.heappop(self._heap)
            if self._current.get(schedule_id) == wake:
                del self._current[schedule_id]
                found.append(schedule_id)
        return found

    def first(self) -> datetime | None:
        """Return the earliest instant, or None when nothing is to come."""
        while self._heap and self._current.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
