"""Schedules as slots: the one door to schedule arithmetic, and the only importer of croniter.

croniter says which values an expression stands for; which expressions we run is `cron_text`, what they do to time is
`cron_slots`. It refuses to know the time of day, splay and what a slot is for.

croniter's own iteration is not used: at a clock change it differs by direction, it gives up 50 years away, and a year
of minutes takes it seconds. It is an oracle of the tests instead, with cronsim.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from restic_manager.domain.cron_fields import UNITS, CronError, refuse
from restic_manager.domain.cron_slots import ElapsedTimes, Every, FixedTimes, Slots
from restic_manager.domain.cron_text import parse, resolve_hash
from restic_manager.domain.cron_walls import Walls
from restic_manager.domain.cron_words import describe
from restic_manager.domain.model import Timing
from restic_manager.domain.seconds import END, is_whole, to_instant, to_second
from restic_manager.domain.stable import splay_offset
from restic_manager.domain.zones import check_timezone, wall_clock

__all__ = [
    "CronError",
    "Timetable",
    "check_expression",
    "check_timezone",
    "describe",
    "every_seconds",
    "resolve_hash",
    "splay_offset",
]


def check_expression(expression: str) -> None:
    """Given a schedule's text (`H` is fine), return if we run it; raise CronError with place and remedy if not."""
    # One host's choice stands for all: the grammar has seen to it that H can choose nothing that never comes.
    read = _read(resolve_hash(expression, host_id="", schedule_id=""))
    if isinstance(read, str) and _walls(read).at_or_after(0) is None:
        refuse(expression, None, "it never comes")


def every_seconds(expression: str) -> int | None:
    """Given a schedule's text, return the seconds of `@every`, None for any other; raise CronError if it is wrong."""
    parsed = parse(expression)
    return parsed if isinstance(parsed, int) else None


class Timetable:
    """All slots of one timing, as whole seconds in UTC. A slot is the planned instant: splay is not part of it."""

    __slots__ = ("_clock", "_made", "_plain")

    def __init__(self, timing: Timing) -> None:
        """Given a timing, check it anew; raise CronError or InputError if it is wrong or has an `H` left in it."""
        read = _read(timing.cron)
        self._clock = wall_clock(timing.timezone)
        self._made: Slots | None = None
        self._plain = ""
        if isinstance(read, int):
            self._made = Every(to_second(timing.anchor), read)
        else:
            self._plain = read

    def first_after(self, instant: datetime) -> datetime | None:
        """Given an aware instant, return the least slot after it; None if there is none up to the year 9999."""
        # Before the first datetime there may be slots too, which no datetime can name.
        found = self._slots.first_after(max(to_second(instant), -1))
        return None if found is None else to_instant(found)

    def last_through(self, instant: datetime) -> datetime | None:
        """Given an aware instant, return the greatest slot not after it; None if there is none."""
        found = self._slots.last_through(min(to_second(instant), END))
        return None if found is None else to_instant(found)

    def holds(self, instant: datetime) -> bool:
        """Given an aware instant, return whether it is a slot, to the microsecond."""
        # Not by ==: between zones that is False for any time in a gap or a fold (PEP 495).
        second = to_second(instant)
        return is_whole(instant) and 0 <= second <= END and self._slots.last_through(second) == second

    def count(self, after: datetime, through: datetime) -> int:
        """Given two aware instants, return how many slots lie in (after, through]; 0 if they are in the wrong order."""
        low, high = max(to_second(after), -1), min(to_second(through), END)
        return self._slots.count(low, high) if low < high else 0

    @property
    def _slots(self) -> Slots:
        # Made when first needed: an agent that loads many schedules may know their next slots already.
        made = self._made
        if made is None:
            minute, hour, *_ = self._plain.split()
            kind = ElapsedTimes if minute.startswith("*") or hour.startswith("*") else FixedTimes
            made = self._made = kind(_walls(self._plain), self._clock)
        return made


@lru_cache(maxsize=4096)
def _read(expression: str) -> str | int:
    """Given a schedule without H, return its five fields, a nickname's in full, or the seconds of `@every`."""
    parsed = parse(expression)
    if isinstance(parsed, int):
        return parsed
    for field in parsed:
        if field.hashed:
            reason = "H is chosen per host, and no host has: resolve it before it is timed"
            refuse(expression, field.position, reason)
    return " ".join(field.text for field in parsed)


@lru_cache(maxsize=4096)
def _walls(plain: str) -> Walls:
    """Given five checked fields, return their wall times, shared by all schedules with that text."""
    # Imported here: the commands that only print a schedule in words need not wait for it.
    from croniter import croniter

    try:
        expanded, _ = croniter.expand(plain, strict=True)
    except ValueError as error:
        # The grammar is narrower than croniter's. This is for a croniter that no longer agrees.
        raise CronError(f"{plain!r} is not a schedule: {error}", text=plain) from None
    minutes, hours, days, months, weekdays = (
        range(unit.low, unit.low + unit.size)
        if "*" in values
        else [value for value in values if isinstance(value, int)]
        for unit, values in zip(UNITS, expanded, strict=True)
    )
    # crontab(5): where both day fields are restricted either is enough, and one that starts with `*` is not restricted
    # (what croniter calls implement_cron_bug).
    _, _, day, _, weekday = plain.split()
    either = not day.startswith("*") and not weekday.startswith("*")
    return Walls(minutes, hours, days, months, weekdays, either=either)
