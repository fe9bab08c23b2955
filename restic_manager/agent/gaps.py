"""The times in which no slot could be seen here, and why: the evidence of what comes late.

Not only the last one counts: catch-up runs wait a little after a start, and an agent that starts again in that time has
to know why they are late all the same. Decides which are worth keeping, and which explains what; refuses to know
schedules and the journal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from restic_manager.domain.model import Evidence
from restic_manager.domain.planning import Fire, Mark

KEEP: Final = timedelta(days=7)
"""What ended this long before the newest began explains nothing that is still to be decided."""
AT_MOST: Final = 16
"""How many are kept: of an agent that crashes again and again, the longest, which made most slots late."""


class Gaps:
    """Times without anybody looking. `known` is what to journal."""

    def __init__(self, known: Iterable[Evidence] = ()) -> None:
        self.known = tuple(known)

    def add(self, gap: Evidence) -> None:
        """Given one more, keep it; raise ValueError if it has no beginning or no end."""
        since = _since(gap)
        recent = [one for one in self.known if since - _until(one) < KEEP]
        longest = sorted([*recent, gap], key=_length, reverse=True)[:AT_MOST]
        self.known = tuple(sorted(longest, key=_since))

    def over(self, first: datetime, last: datetime) -> Evidence | None:
        """Given the first and last of some slots, return what explains most of them; None for none."""
        found = [gap for gap in self.known if _since(gap) <= last and first <= _until(gap)]
        return max(found, key=lambda gap: (_shared(gap, first, last), _length(gap)), default=None)

    def explain(self, mark: Mark) -> Mark:
        """Given a schedule's mark, return it with its late fires knowing why they are: the same one where they do."""
        pending, held = self._explained(mark.pending), self._explained(mark.held)
        if pending is mark.pending and held is mark.held:
            return mark
        return replace(mark, pending=pending, held=held)

    def _explained(self, fire: Fire | None) -> Fire | None:
        if fire is None or fire.trigger == "tick" or fire.evidence is not None:
            return fire
        gap = self.over(fire.slot, fire.slot)
        return fire if gap is None else replace(fire, evidence=gap)


def _since(gap: Evidence) -> datetime:
    if gap.since is None:
        raise ValueError("a gap has a beginning")
    return gap.since


def _until(gap: Evidence) -> datetime:
    if gap.until is None:
        raise ValueError("a gap has an end")
    return gap.until


def _length(gap: Evidence) -> timedelta:
    return _until(gap) - _since(gap)


def _shared(gap: Evidence, first: datetime, last: datetime) -> timedelta:
    return min(_until(gap), last) - max(_since(gap), first)
