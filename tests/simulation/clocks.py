"""Wall clocks of simulated machines: each goes with the one virtual time, but may be wrong, set, or frozen."""

from __future__ import annotations

from datetime import datetime, timedelta

import trio


class MachineClock:
    """One machine's wall clock."""

    def __init__(self, start: datetime, *, skew: timedelta = timedelta()) -> None:
        self._start = start
        self.offset = skew
        self.worst = abs(skew)
        self._frozen: datetime | None = None

    def now(self) -> datetime:
        """Return what this machine takes for the current instant."""
        return self._frozen or self._running()

    def another(self) -> MachineClock:
        """Return the clock of a machine that was set like this one."""
        return MachineClock(self._start, skew=self.offset)

    def step(self, by: timedelta) -> None:
        """Set it forward or back."""
        self.offset += by
        self.worst = max(self.worst, abs(self.offset))

    def freeze(self) -> None:
        """The machine is suspended: no time passes on it."""
        self._frozen = self.now()

    def thaw(self) -> None:
        """It is awake again, and its hardware clock went on meanwhile."""
        self._frozen = None

    def _running(self) -> datetime:
        return self._start + self.offset + timedelta(seconds=trio.current_time())
