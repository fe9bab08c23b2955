"""Stretches of slots: how many slots one holds, and what is left of it beside others. Owns that arithmetic.

In the ledger of one (schedule, host) no two rows share an instant: a row is a closed stretch of time from its first
slot to its last, and stands for every slot of that time. So one fate a slot is a matter of cutting stretches, whatever
revision told them. It refuses to know rows, and which fate is right.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from restic_manager.domain.cron import Timetable
from restic_manager.domain.errors import InputError
from restic_manager.domain.firing import OFFSET_LIMIT, TOLERANCE, Interval
from restic_manager.domain.model import Timing

SECOND: Final = timedelta(seconds=1)


class Span(Struct, frozen=True):
    """Slots from the first to the last, and how many."""

    first: datetime
    last: datetime
    count: int


class Stretch(NamedTuple):
    """A closed stretch of time."""

    first: datetime
    last: datetime


@lru_cache(maxsize=4096)  # schedules of a fleet share few timings, and parsing costs
def timetable(timing: Timing) -> Timetable | None:
    """Given a timing, return its timetable, None if this machine cannot read it (a zone its tables lack)."""
    try:
        return Timetable(timing)
    except InputError:
        return None


def shifted(intervals: Iterable[Interval], clock_offset: float) -> list[Interval]:
    """Given a host's intervals as the server stamped them, return them in the time of the host's clock.

    clock_offset: seconds the host's clock is ahead. Clocks that are together but for the tolerance move nothing.
    """
    offset = max(-OFFSET_LIMIT, min(OFFSET_LIMIT, timedelta(seconds=clock_offset)))
    if abs(offset) <= TOLERANCE:
        return list(intervals)
    return [
        msgspec.structs.replace(
            one,
            valid_from=one.valid_from + offset,
            valid_to=None if one.valid_to is None else one.valid_to + offset,
        )
        for one in intervals
    ]


def within(interval: Interval, after: datetime, through: datetime) -> Span | None:
    """Given an interval, return its slots in (after, through], None if it has none there."""
    after = max(after, interval.valid_from)
    through = through if interval.valid_to is None else min(through, interval.valid_to)
    table = timetable(interval.timing)
    return None if table is None else slots_of(table, after, through)


def slots_of(table: Timetable, after: datetime, through: datetime) -> Span | None:
    """Given a timetable, return its slots in (after, through], None if it has none there."""
    if after >= through:
        return None
    first = table.first_after(after)
    if first is None or first > through:
        return None
    last = table.last_through(through)
    if last is None or last <= first:
        return Span(first, first, 1)
    return Span(first, last, table.count(after, through))


def carve(after: datetime, through: datetime, taken: Sequence[Stretch]) -> list[tuple[datetime, datetime]]:
    """Given (after, through] and stretches in order that share no instant, return the parts (after, through] left."""
    parts: list[tuple[datetime, datetime]] = []
    for stretch in taken:
        if stretch.last <= after:
            continue
        if stretch.first > through:
            break
        if stretch.first - SECOND > after:
            parts.append((after, stretch.first - SECOND))
        after = stretch.last
    if after < through:
        parts.append((after, through))
    return parts


def remainder(told: Span, revision: int, intervals: Sequence[Interval], taken: Sequence[Stretch]) -> list[Span]:
    """Given a stretch somebody told, of a revision, return what of it lies beside what is taken, counted anew.

    intervals: all the host ever had of the schedule. A stretch that loses nothing keeps its own first and last slot.
    """
    pieces: list[Span] = []
    for after, through in carve(told.first - SECOND, told.last, taken):
        whole = after == told.first - SECOND and through == told.last
        found = told if whole else _edges(after, through, revision, intervals)
        if found is not None:
            pieces.append(Span(found.first, found.last, counted(found, intervals)))
    return pieces


def counted(span: Span, intervals: Sequence[Interval]) -> int:
    """Given a stretch, return how many slots of the host's own intervals lie in it; its own count where none do."""
    if span.first == span.last:
        return 1
    total = 0
    for interval in intervals:
        found = within(interval, span.first - SECOND, span.last)
        total += 0 if found is None else found.count
    return total or max(span.count, 2)


def _edges(after: datetime, through: datetime, revision: int, intervals: Sequence[Interval]) -> Span | None:
    """Return the first and last slot of a part that is left: of the revision it was told in, else of any."""
    own = [one for one in intervals if one.revision == revision] or list(intervals)
    spans = [
        found
        for table in {timetable(one.timing) for one in own}
        if table is not None and (found := slots_of(table, after, through)) is not None
    ]
    if not spans:
        return None
    return Span(min(one.first for one in spans), max(one.last for one in spans), max(one.count for one in spans))
