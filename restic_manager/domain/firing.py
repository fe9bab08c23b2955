"""The server's answer to a fire: does this slot of this schedule on this host become a job, and if not, why not.

A slot is judged at its own instant: by the intervals (valid_from, valid_to] in which the host had the schedule in some
revision. The intervals are stamped by the server's clock and the slot comes from the host's, so the host's offset is
added to the stamps, with some tolerance in the slot's favour. Refuses to know rows and messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from restic_manager.domain.cron import Timetable
from restic_manager.domain.errors import InputError
from restic_manager.domain.instants import slot_text
from restic_manager.domain.model import Fate, Instant, Status, Timing

TOLERANCE: Final = timedelta(seconds=5)
"""How far a slot may lie outside an interval and still count as in it: clocks are never quite together."""
OFFSET_LIMIT: Final = timedelta(days=1)
"""How far a host's word about its clock moves the server's stamps: or one that lies would be a target for ever."""
FUTURE_LIMIT: Final = timedelta(minutes=10)
"""How far in the server's future a slot may lie."""
TZDATA_LIMIT: Final = timedelta(hours=3)
"""How far from a slot an instant may lie where the peers' zone tables differ."""


class Interval(Struct, frozen=True, kw_only=True):
    """A time in which one host had one schedule in one revision: slots in (valid_from, valid_to] are its.

    off_reason: why it was not enabled, where that was a pause.
    """

    revision: int
    timing: Timing
    enabled: bool
    off_reason: str | None = None
    valid_from: Instant
    valid_to: Instant | None = None


class KnownRun(Struct, frozen=True):
    """The job this slot already has."""

    job_id: str
    status: Status


class KnownFate(Struct, frozen=True):
    """The fate without a job that the ledger already holds for this slot."""

    fate: Fate
    reason: str | None


class Dispatched(Struct, frozen=True):
    """The slot becomes a job. `odd` says what to show about it: a slot only by the host's zone tables."""

    interval: Interval
    odd: str | None = None


class Duplicate(Struct, frozen=True):
    """The slot already has a job."""

    run: KnownRun


class Rejected(Struct, frozen=True):
    """The slot makes no job: a stable code and a sentence."""

    code: str
    message: str


FireAnswer = Dispatched | Duplicate | Rejected


def answer_fire(
    slot: datetime,
    revision: int,
    *,
    now: datetime,
    schedule_known: bool,
    intervals: Sequence[Interval],
    clock_offset: float,
    same_tzdata: bool,
    run: KnownRun | None,
    fate: KnownFate | None,
) -> FireAnswer:
    """Given a fire and what the server knows of its slot, return the answer.

    intervals: all this host ever had of the schedule, oldest first. clock_offset: seconds the host's clock is ahead of
    the server's. same_tzdata: whether both peers read the same zone tables. run, fate: what the ledger holds already.
    """
    if run is not None:
        return Duplicate(run)
    offset = max(-OFFSET_LIMIT, min(OFFSET_LIMIT, timedelta(seconds=clock_offset)))
    stranger = _stranger(slot, now, schedule_known=schedule_known, intervals=intervals)
    if stranger is not None:
        return stranger
    own = _of_revision(slot, revision, intervals, offset)
    if own is None:
        return _outside(slot, revision, intervals, offset)
    answer = _timed(slot, own, same_tzdata=same_tzdata)
    if isinstance(answer, Dispatched) and fate is not None:
        why = f" ({fate.reason})" if fate.reason else ""
        return Rejected("decided", f"the ledger already holds {slot_text(slot)} as {fate.fate}{why}")
    return answer


def _stranger(slot: datetime, now: datetime, *, schedule_known: bool, intervals: Sequence[Interval]) -> Rejected | None:
    """Return why this is no instant of a schedule of this host at all, None if it may be."""
    if slot.microsecond:
        return Rejected("not_a_slot", f"{slot.isoformat()} is no slot: slots are whole seconds")
    if not schedule_known:
        return Rejected("unknown_schedule", "the server knows no such schedule")
    if not intervals:
        return Rejected("not_a_target", "this schedule is not this host's and never was")
    if slot > now + FUTURE_LIMIT:
        return Rejected(
            "future",
            f"{slot_text(slot)} is more than {FUTURE_LIMIT.seconds // 60} min in the server's future "
            f"({slot_text(now)} there): set the host's clock",
        )
    return None


def _timed(slot: datetime, own: Interval, *, same_tzdata: bool) -> Dispatched | Rejected:
    """Return whether the slot is one by the timing of its interval."""
    text = slot_text(slot)
    if not own.enabled:
        return _off(own, text)
    try:
        timetable = Timetable(own.timing)
        if timetable.holds(slot):
            return Dispatched(own)
        if not same_tzdata and _near(timetable, slot):
            return Dispatched(own, f"{text} is a slot only by the host's zone tables, which differ from the server's")
    except InputError as error:  # a zone that this machine's tables do not know any more
        return Rejected("not_a_slot", f"the server cannot read the timing of revision {own.revision}: {error.message}")
    return Rejected("not_a_slot", f"{text} is no slot of {own.timing.cron!r} in {own.timing.timezone}")


def interval_at(slot: datetime, intervals: Sequence[Interval], offset: timedelta = timedelta()) -> Interval | None:
    """Given a slot and a host's intervals, return the one that holds it (the newest of several), None for none."""
    return next((interval for interval in reversed(intervals) if _holds(interval, slot, offset)), None)


def ran_under(slot: datetime, intervals: Sequence[Interval], offset: timedelta = timedelta()) -> Interval:
    """Given the slot of a run that a host began by itself, and its intervals, return the one whose timing it was.

    That is the one that held it. A host that had not heard of a change went by the newest timing before it that has
    such a slot, one whose clock was wrong perhaps by a later one. A run that no timing known here explains (the server
    is an old copy) stands under what was in force.
    """
    begun = [one for one in intervals if min(one.valid_from, one.valid_from + offset) < slot]
    there = interval_at(slot, intervals, offset) or (begun or intervals[:1])[-1]
    at = next(number for number, one in enumerate(intervals) if one is there)
    candidates = (there, *reversed(intervals[:at]), *intervals[at + 1 :])
    return next((one for one in candidates if _is_slot(one, slot)), there)


def _is_slot(interval: Interval, slot: datetime) -> bool:
    try:
        return Timetable(interval.timing).holds(slot)
    except InputError:  # a zone that this machine's tables do not know any more
        return False


def _of_revision(slot: datetime, revision: int, intervals: Sequence[Interval], offset: timedelta) -> Interval | None:
    """Return the interval of this revision that holds the slot, with tolerance in the slot's favour."""
    return next(
        (
            interval
            for interval in reversed(intervals)
            if interval.revision == revision and _holds(interval, slot, offset, tolerance=TOLERANCE)
        ),
        None,
    )


def _holds(interval: Interval, slot: datetime, offset: timedelta, *, tolerance: timedelta = timedelta()) -> bool:
    if slot <= interval.valid_from + offset - tolerance:
        return False
    return interval.valid_to is None or slot <= interval.valid_to + offset + tolerance


def _outside(slot: datetime, revision: int, intervals: Sequence[Interval], offset: timedelta) -> Rejected:
    """Return why a slot that lies in no interval of its revision makes no job."""
    text = slot_text(slot)
    newest = max(interval.revision for interval in intervals)
    if revision > newest:
        return Rejected("unknown_revision", f"the server knows revision {newest} of this schedule, not {revision}")
    there = interval_at(slot, intervals, offset)
    if there is None:
        return Rejected("not_a_target", f"this host was not a target of the schedule at {text}")
    if not there.enabled:
        return _off(there, text)
    return Rejected("superseded", f"at {text} revision {there.revision} was in force, not {revision}")


def _off(interval: Interval, text: str) -> Rejected:
    return Rejected("disabled", f"the schedule was {interval.off_reason or 'disabled'} at {text}")


def _near(timetable: Timetable, instant: datetime) -> bool:
    following = timetable.first_after(instant - TZDATA_LIMIT - timedelta(seconds=1))
    return following is not None and following <= instant + TZDATA_LIMIT
