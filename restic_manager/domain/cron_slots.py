"""From wall times to slots: the three ways a schedule goes through time, and what a clock change does to each.

Owns the decisions about gaps and folds. All is whole seconds since the year 1 (`domain.seconds`); each way answers the
same three questions, and the answers agree by construction. It refuses to know text, croniter and splay.

A clock put forward leaves a gap (wall times that never come); one put back makes a fold (wall times that come twice).
"""

from __future__ import annotations

from typing import Protocol

from restic_manager.domain.cron_walls import Walls
from restic_manager.domain.seconds import DAY, END
from restic_manager.domain.zones import Change, WallClock

# No wall clock was ever 16 h from UTC, and none was ever put back by more than a day (America/Juneau, 1867).
_WIDEST = 18 * 3600
_LONGEST_FOLD = DAY + 3600


class Slots(Protocol):
    """A set of whole seconds. Results may lie beyond what a datetime can be; the caller leaves those out."""

    def first_after(self, second: int) -> int | None:
        """Given a second, return the least slot after it; None if there is none."""

    def last_through(self, second: int) -> int | None:
        """Given a second, return the greatest slot not after it; None if there is none."""

    def count(self, after: int, through: int) -> int:
        """Given two seconds, return how many slots lie in (after, through]."""


class Every:
    """anchor + k * step for k >= 1: no calendar, no zone."""

    __slots__ = ("_anchor", "_step")

    def __init__(self, anchor: int, step: int) -> None:
        self._anchor = anchor
        self._step = step

    def first_after(self, second: int) -> int | None:
        return self._anchor + max(1, (second - self._anchor) // self._step + 1) * self._step

    def last_through(self, second: int) -> int | None:
        steps = (second - self._anchor) // self._step
        return self._anchor + steps * self._step if steps >= 1 else None

    def count(self, after: int, through: int) -> int:
        return max(0, self._steps(through) - self._steps(after))

    def _steps(self, second: int) -> int:
        return max(0, (second - self._anchor) // self._step)


class FixedTimes:
    """Times of the day: each is due when the clock first shows it or a later time.

    So a time in a gap is due at the gap's end, several of them (or one equal to the end) once, and a time in a fold in
    the first pass only. `_shown` and `_reached` are the two directions of that one sentence, hence they agree.
    """

    __slots__ = ("_clock", "_walls")

    def __init__(self, walls: Walls, clock: WallClock) -> None:
        self._walls = walls
        self._clock = clock

    def first_after(self, second: int) -> int | None:
        wall = self._walls.at_or_after(self._reached(second) + 1)
        return None if wall is None else self._shown(wall)

    def last_through(self, second: int) -> int | None:
        wall = self._walls.at_or_before(self._reached(second))
        return None if wall is None else self._shown(wall)

    def count(self, after: int, through: int) -> int:
        if after >= through:
            return 0
        total = self._walls.count(self._reached(after), self._reached(through))
        for change in self._clock.changes(after, through):
            if change.after > change.before:
                at_once = self._walls.count(self._reached(change.at - 1), self._reached(change.at))
                total -= max(0, at_once - 1)
        return total

    def _shown(self, wall: int) -> int:
        """Return the first second at which the clock shows this wall or a later one."""
        second = wall - self._clock.offset(wall - _WIDEST)
        for change in self._clock.changes(wall - _WIDEST, wall + _WIDEST):
            if second < change.at:
                break
            second = max(change.at, wall - change.after)
        return second

    def _reached(self, second: int) -> int:
        """Return the latest wall the clock has shown by this second."""
        wall = second + self._clock.offset(second)
        for change in self._clock.changes(second - _LONGEST_FOLD, second):
            wall = max(wall, change.at - 1 + change.before)
        return wall


class ElapsedTimes:
    """Intervals, such as every 15 minutes: due whenever the clock shows one of the walls, so in both passes of a fold.

    Walls in a gap never show. Where each hour has its times nothing is lost by that; where the hours are restricted
    (`*/15 2 * * *`, `0 */6 * * *`) those in the gap are due together, once, at its end, or a day would go without.
    """

    __slots__ = ("_clock", "_walls")

    def __init__(self, walls: Walls, clock: WallClock) -> None:
        self._walls = walls
        self._clock = clock

    def first_after(self, second: int) -> int | None:
        offset = self._clock.offset(second)
        wall = second + offset
        while True:
            next_wall = self._walls.at_or_after(wall + 1)
            found = None if next_wall is None else next_wall - offset
            change = next(self._clock.changes(second, END if found is None else found), None)
            if change is None:
                return found
            if self._makes_up(change):
                return change.at
            # Nothing up to the change. Look again from there, with the clock as it is then.
            second, offset = change.at, change.after
            wall = second - 1 + offset

    def last_through(self, second: int) -> int | None:
        offset = self._clock.offset(second)
        while True:
            wall = self._walls.at_or_before(second + offset)
            found = None if wall is None else wall - offset
            change = next(self._clock.changes_back(-1 if found is None else found, second), None)
            if change is None:
                return found
            if self._makes_up(change):
                return change.at
            second, offset = change.at - 1, change.before

    def count(self, after: int, through: int) -> int:
        if after >= through:
            return 0
        total, offset = 0, self._clock.offset(after)
        for change in self._clock.changes(after, through):
            total += self._walls.count(after + offset, change.at - 1 + offset)
            after, offset = change.at - 1, change.after
            if self._makes_up(change) and not self._walls.count(after + offset, after + offset + 1):
                total += 1
        return total + self._walls.count(after + offset, through + offset)

    def _makes_up(self, change: Change) -> bool:
        """Return whether the end of this gap is a slot because of walls in it."""
        if change.after <= change.before or self._walls.every_hour:
            return False
        return self._walls.count(change.at - 1 + change.before, change.at - 1 + change.after) > 0
