"""When a repository's snapshots are listed anew. Decides from values; knows no rows, no hosts and no clock.

After jobs that change a repository there is a moment of quiet before it is listed, so that ten backups in a row lead to
one list; but nobody waits for quiet for ever. What nothing of ours has changed is listed at a slow interval, because
other programs may have. A list that cannot be read is tried ever more rarely.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

QUIET: Final = timedelta(seconds=15)
"""So long after the last change a list is made."""
PATIENCE: Final = timedelta(minutes=2)
"""So long after it got old a list is made, quiet or not."""
SLOW: Final = timedelta(hours=6)
"""A list as old as this is made anew though nothing of ours has changed anything."""
BETWEEN: Final = timedelta(minutes=1)
"""Between two lists of one repository; after each one that failed, twice that, and again."""
LONGEST: Final = timedelta(hours=1)
"""However often it failed, it is tried again after so long."""

_MOST_DOUBLINGS: Final = 10


class Standing(Struct, frozen=True, kw_only=True):
    """How old the list of a repository is. changed_at: a job that may have changed it ended then. asked_at: when a list
    was last asked for. failures: how many of those have come to nothing since the last good one. under_way: one is
    being made. used: whether anything has ever gone well on it, or might have.
    """

    repo_id: str
    listed_at: datetime | None
    changed_at: datetime | None
    asked_at: datetime | None = None
    failures: int = 0
    under_way: bool = False
    used: bool = True

    @property
    def stale(self) -> bool:
        """Return whether something may have changed since."""
        return self.listed_at is None or (self.changed_at is not None and self.changed_at >= self.listed_at)


def due_at(standing: Standing, *, stale_since: datetime) -> datetime | None:
    """Given how a list stands and since when it is known to be old (if it is), return when it is to be made anew.

    None: not before something happens (it is being made, or there is nothing there yet).
    """
    if standing.under_way or not standing.used:
        return None
    if standing.listed_at is not None and not standing.stale:
        when = standing.listed_at + SLOW
    elif standing.changed_at is None:
        when = stale_since
    else:
        when = min(standing.changed_at + QUIET, stale_since + PATIENCE)
    return when if standing.asked_at is None else max(when, standing.asked_at + pause_after(standing.failures))


def pause_after(failures: int) -> timedelta:
    """Given how often in a row a list could not be read, return how long to wait before the next try."""
    times: int = 2 ** min(failures, _MOST_DOUBLINGS)
    return min(BETWEEN * times, LONGEST)
