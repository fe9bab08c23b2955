"""The coming slots of a schedule, over all hosts that run it. Decides what to show where hosts differ; knows no rows.

Hosts with the same timing are looked at once. `H` can give each of thousands of hosts a timing of its own; then only
the first `LOOKED_AT` of them (by name) are, so that a list of many schedules stays cheap.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from restic_manager.domain.cron import Timetable
from restic_manager.domain.model import Timing
from restic_manager.protocol.api import NextSlot

LOOKED_AT: Final = 200
"""Different timings of one schedule whose slots are computed."""


class Runner(NamedTuple):
    """A host that runs the schedule, by name, with its own timing."""

    name: str
    timing: Timing


def coming(runners: Sequence[Runner], *, after: datetime, count: int) -> tuple[NextSlot, ...]:
    """Given who runs it, return at most `count` coming slots, the soonest first.

    Where hosts differ each slot names the host (or the first of those alike, and how many more).
    """
    alike: dict[tuple[str, str, datetime], list[Runner]] = {}
    for runner in sorted(runners, key=lambda one: one.name):
        timing = runner.timing
        alike.setdefault((timing.cron, timing.timezone, timing.anchor), []).append(runner)
    groups = list(islice(alike.values(), LOOKED_AT))
    slots = heapq.merge(*(_slots(group, after, named=len(alike) > 1) for group in groups), key=lambda slot: slot.utc)
    return tuple(islice(slots, count))


def soonest_gap(timing: Timing, *, after: datetime) -> timedelta | None:
    """Given a timing, return the time between its next two slots; None if there are none."""
    table = Timetable(timing)
    first = table.first_after(after)
    second = None if first is None else table.first_after(first)
    return None if first is None or second is None else second - first


def _slots(group: Sequence[Runner], after: datetime, *, named: bool) -> Iterator[NextSlot]:
    """The slots of hosts whose timing differs at most in the splay."""
    timing = group[0].timing
    zone = ZoneInfo(timing.timezone)
    host = _names(group) if named else None
    # Several hosts run at as many instants: then the slot alone is true for all of them.
    splay = timing.splay if len(group) == 1 else 0
    for slot in _walk(Timetable(timing), after):
        yield NextSlot(
            utc=slot,
            local=slot.astimezone(zone).isoformat(),
            host=host,
            runs_at=slot + timedelta(seconds=splay) if splay else None,
        )


def _walk(table: Timetable, after: datetime) -> Iterator[datetime]:
    slot = table.first_after(after)
    while slot is not None:
        yield slot
        slot = table.first_after(slot)


def _names(group: Iterable[Runner]) -> str:
    first, *others = (runner.name for runner in group)
    return f"{first} and {len(others)} more" if others else first
