"""Whether a run that ended badly is tried again, and when. Decides from values; knows no rows and no clock.

Worth another attempt is what may pass by itself: the network, a lock of somebody else, a connection that hangs, a host
short of processes. Never what a person has to mend (a wrong password, a missing repository but for the one attempt
after its init), what was asked to stop, and what has saved a snapshot. A run that was lost with its agent is tried
again once whatever the schedule allows: that backup did not happen, and nothing is wrong with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from restic_manager.domain.lifecycle import REPO_MISSING
from restic_manager.domain.model import Status

LONGEST_BACKOFF: Final = timedelta(hours=6)
"""However often it is doubled, the time to the next attempt is not longer than this."""
PASSING: Final = frozenset({"network", "locked", "stalled", "no_resources"})
"""Codes of failures that may pass by themselves."""
NOT_LOST: Final = frozenset({"host_removed", "host_lost", "unknown_too_old"})
"""Codes of interruptions after which nothing is tried: nobody is there, or the run may well have happened."""
SUPERSEDED: Final = "superseded"
"""The code of a further attempt that was not needed any more before it was sent."""

_MOST_DOUBLINGS: Final = 20


class Attempt(Struct, frozen=True, kw_only=True):
    """How one attempt ended. stop_wanted: somebody had asked for its end."""

    status: Status
    code: str | None = None
    has_snapshot: bool = False
    stop_wanted: bool = False


class Allowed(Struct, frozen=True):
    """What the schedule allows: so many further attempts, the first after `backoff`, then after twice that."""

    retry: int
    backoff: timedelta


class Again(Struct, frozen=True):
    """Another attempt is to be made, not before `at` (None: at once)."""

    at: datetime | None
    why: str


class Enough(Struct, frozen=True):
    """No other attempt is to be made, and why not."""

    why: str


def decide(chain: Sequence[Attempt], allowed: Allowed | None, *, later_slot: bool, now: datetime) -> Again | Enough:
    """Given a run's attempts, the last of which has just ended, return whether there is to be another.

    allowed: None where there is no schedule any more that the host runs. later_slot: whether a later slot of the
    schedule has got a job on this host since.
    """
    last = chain[-1]
    hopeless = _hopeless(last)
    if hopeless is not None:
        return Enough(hopeless)
    if allowed is None:
        return Enough("no schedule of this host asks for it now")
    if later_slot:
        return Enough("a later slot of the schedule has taken its place")
    was_lost = any(attempt.status is Status.INTERRUPTED for attempt in chain[:-1])
    if last.status is Status.INTERRUPTED and not was_lost:
        return Again(None, "the run was lost and is made up for")
    made = sum(_counts(attempt) for attempt in chain[:-1]) - was_lost
    if made >= allowed.retry:
        return Enough(f"{made} retries were made" if made else "the schedule allows no retries")
    wait = min(allowed.backoff * 2 ** min(made, _MOST_DOUBLINGS), LONGEST_BACKOFF)
    return Again(now + wait, f"{last.code or last.status} may pass: retry {made + 1} of {allowed.retry}")


def wants_repository(chain: Sequence[Attempt]) -> bool:
    """Given a run's attempts, return whether the last calls for an init and an attempt after it: once a run."""
    if chain[-1].stop_wanted or not _found_none(chain[-1]):
        return False
    return not any(_found_none(attempt) for attempt in chain[:-1])


def _hopeless(last: Attempt) -> str | None:
    """Return why an end like this is never tried again, None if it may be."""
    if last.has_snapshot:
        return "a snapshot was saved"
    if last.stop_wanted:
        return "its end was asked for"
    if last.status is Status.INTERRUPTED:
        return f"{last.code} is no loss that can be made up for" if last.code in NOT_LOST else None
    if last.status is Status.FAILED:
        return None if last.code in PASSING else f"{last.code or 'this failure'} does not pass by itself"
    return f"it ended {last.status}"


def _counts(attempt: Attempt) -> bool:
    """Whether this end was one that an ordinary retry followed (or the making up for a loss)."""
    return attempt.status is Status.INTERRUPTED or (attempt.status is Status.FAILED and attempt.code in PASSING)


def _found_none(attempt: Attempt) -> bool:
    return attempt.status is Status.FAILED and attempt.code == REPO_MISSING
