"""Judges the ledger: every slot of the server's record has one fate, and no fate is of anything else."""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.simulation.enumerated import DAY, SECOND, Interval, Slots, at
from tests.simulation.record import Record
from tests.simulation.world import Pair, World

if TYPE_CHECKING:
    from tests.simulation.play import Result


def judge(world: World, result: Result, record: Record) -> None:
    """Given the record, count its fates and slots and add what is wrong with them to the result."""
    ledger = _Ledger(world, record.intervals)
    # A row stands for every slot of the record from its first to its last, and no two of a pair share an instant.
    stretches: dict[Pair, list[_Stretch]] = defaultdict(list)
    for row in record.fates:
        result.fates[row["fate"]] += row["count"]
        told = _Told(row)
        wrong = list(ledger.wrong_with(told))
        result.violations += [f"{what}: {world.pair(told.pair)} {told.first}..{told.last} {told}" for what in wrong]
        stretches[told.pair].append((told.first, told.last, str(told)))
    for pair in ledger.pairs:
        sure = ledger.sure_slots(pair)
        result.slots += len(sure)
        result.violations += _gaps_and_doubles(world.pair(pair), sure, sorted(stretches[pair]))


_Stretch = tuple[datetime, datetime, str]


class _Told:
    """One row of the ledger."""

    def __init__(self, row: Any) -> None:
        self.pair: Pair = (row["schedule_id"], row["host_id"])
        self.first, self.last = at(row["first_slot"]), at(row["last_slot"])
        self.revision: int = row["revision"]
        self.count: int = row["count"]
        self.ran = row["fate"] == "ran"
        self.by_server = row["decided_by"] == "server"
        self._text = f"{row['fate']} ({row['reason']}) rev {row['revision']} by {row['decided_by']}"

    def __str__(self) -> str:
        return self._text


class _Ledger:
    """The server's record of who was to run what when, against which fates are held."""

    def __init__(self, world: World, intervals: list[Interval]) -> None:
        self._end = world.setting.start + timedelta(days=world.setting.days + 1)
        self._slots = Slots(world.setting.start, self._end)
        self._clocks = {host.host_id: host.clock for host in world.hosts}
        self._restores = [(world.instant(since), world.instant(until) + DAY) for since, until in world.restores]
        self.pairs: dict[Pair, list[Interval]] = defaultdict(list)
        for one in intervals:
            self.pairs[one.schedule_id, one.host_id].append(one)

    def wrong_with(self, told: _Told) -> Iterator[str]:
        """Yield what is wrong with a fate."""
        owned = self._owned(told)
        if not owned:
            # A copy has forgotten what it was changed to; and what was announced for a pause's end, and was changed
            # before it came, a host that was away went by all the same.
            known = max((one.revision for one in self.pairs[told.pair]), default=0)
            if not self._restores and told.revision >= known:
                yield "fate of an unknown revision"
            return
        covered = self._slots.of(owned[0], told.first - SECOND, told.last)
        fuzz = self._fuzz(told.pair)
        least, most = self._counts(told, fuzz)
        # What a copy of the server has forgotten, the hosts went by: nothing in it explains what they tell of then.
        # They tell of it in their own time: by a slow clock, of slots from before the copy was made.
        forgotten = any(since - fuzz <= told.first <= until for since, until in self._restores)
        if not (least <= told.count <= most or (least == 0 and (told.count == len(covered) or forgotten))):
            yield f"fate counts {told.count}, {least} to {most} slots are in it"
        if told.first <= min(one.begins for one in owned) - fuzz and not forgotten:
            yield "a fate from before its revision"
        ends = [one.ends for one in owned if one.ends is not None]
        # An agent that was away goes by the revision it knows; the server knows better.
        if told.by_server and len(ends) == len(owned) and told.last > max(ends) + fuzz:
            yield "the server's word of slots after their revision"
        if told.ran and not covered and not forgotten:
            yield "a run of what is no slot"

    def sure_slots(self, pair: Pair) -> list[datetime]:
        """Return the slots that are this pair's whatever clock one goes by, in order."""
        fuzz = self._fuzz(pair)
        sure: set[datetime] = set()
        for one in self.pairs[pair]:
            sure.update(self._slots.of(one, one.begins + fuzz, (one.ends or self._end) - fuzz))
        return sorted(sure)

    def _owned(self, told: _Told) -> list[Interval]:
        return [one for one in self.pairs.get(told.pair, ()) if one.revision == told.revision]

    def _counts(self, told: _Told, fuzz: timedelta) -> tuple[int, int]:
        """Return how many slots the server's record has in a fate's time, at least and at most.

        Only where it has none is it the agent's own record that counts.
        """
        if told.ran:
            return 1, 1
        least, most = (
            sum(
                len(
                    self._slots.of(
                        one, max(one.begins + by, told.first - SECOND), min((one.ends or self._end) - by, told.last)
                    )
                )
                for one in self.pairs[told.pair]
            )
            for by in (fuzz, -fuzz)
        )
        return least, most

    def _fuzz(self, pair: Pair) -> timedelta:
        """Near the ends of an interval a clock that is off may rightly take a slot for the neighbour's."""
        clock = self._clocks.get(pair[1])
        return timedelta(seconds=5) + (clock.worst if clock is not None else timedelta())


def _gaps_and_doubles(pair: str, sure: list[datetime], rows: list[_Stretch]) -> Iterator[str]:
    for before, after in itertools.pairwise(rows):
        if after[0] <= before[1]:
            yield f"two fates of an instant: {pair} {before} and {after}"
    firsts = [first for first, _, _ in rows]
    for slot in sure:
        place = bisect.bisect_right(firsts, slot) - 1
        if place < 0 or rows[place][1] < slot:
            yield f"no fate: {pair} slot {slot}"
