"""How much of something is taken from one who may send as fast as he likes: so much a second, and so much at once.

Pure arithmetic over a clock that is handed in. It refuses to know what is counted, and waits for nobody.
"""

from __future__ import annotations


class Pace:
    """A bucket that fills by `a_second` and holds `at_once`. What is taken beyond that is owed, and has to be waited
    for.
    """

    __slots__ = ("_a_second", "_at", "_at_once", "_left")

    def __init__(self, a_second: float, at_once: float) -> None:
        """Given both, begin full."""
        self._a_second = a_second
        self._at_once = at_once
        self._left = at_once
        self._at: float | None = None

    def take(self, now: float, amount: float = 1) -> float:
        """Given the time (seconds of one monotonic clock), take so much; return how many seconds to wait for it."""
        self._fill(now)
        self._left -= amount
        return 0.0 if self._left >= 0 else -self._left / self._a_second

    def allows(self, now: float, amount: float = 1) -> bool:
        """Given the time, take so much if it is there, and return whether it was."""
        self._fill(now)
        if self._left < amount:
            return False
        self._left -= amount
        return True

    def full(self, now: float) -> bool:
        """Given the time, return whether nothing that was taken counts any more."""
        self._fill(now)
        return self._left >= self._at_once

    def _fill(self, now: float) -> None:
        if self._at is not None and now > self._at:
            self._left = min(self._at_once, self._left + (now - self._at) * self._a_second)
        self._at = now if self._at is None else max(now, self._at)
