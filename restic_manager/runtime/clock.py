"""What time it is. Owns the one way to ask; decisions get the answer as an argument.

Wall time is for slots, rows and people; it may jump. Monotonic time (seconds since some start, stops during suspend) is
for how long something takes; inside trio it is `trio.current_time()`, which tests replace by a mock clock.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """The wall clock."""

    def now(self) -> datetime:
        """Return the current instant in UTC."""


class SystemClock:
    """The machine's own wall clock."""

    def now(self) -> datetime:
        """Return the current instant in UTC."""
        return datetime.now(UTC)


class DrivenClock:
    """A wall clock that moves with a monotonic one: `start` plus the seconds passed, plus any step set by hand.

    With `trio.current_time` under a mock clock it is the virtual wall clock of the tests.
    """

    def __init__(self, start: datetime, seconds: Callable[[], float]) -> None:
        self._start = start
        self._seconds = seconds
        self._step = timedelta()

    def now(self) -> datetime:
        """Return the driven instant in UTC."""
        return self._start + self._step + timedelta(seconds=self._seconds())

    def step(self, by: timedelta) -> None:
        """Set the clock forward (or back) by this much, as an administrator or NTP would."""
        self._step += by
