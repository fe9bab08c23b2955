"""A cron line explained without a server: its words, its coming slots, and what clock changes among them do to it.

Pure: the instant to start from is an argument. The arithmetic is `domain.cron`'s; this asks it and words the answer.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from restic_manager.domain.cron import Timetable, check_expression, describe, every_seconds, resolve_hash
from restic_manager.domain.cron_text import parse
from restic_manager.domain.instants import whole_second
from restic_manager.domain.model import Timing
from restic_manager.domain.seconds import to_instant, to_second
from restic_manager.domain.zones import Change, check_timezone, wall_clock
from restic_manager.protocol.api import Explanation, NextSlot

_SECOND = timedelta(seconds=1)


def explain(expression: str, timezone: str, *, after: datetime, count: int) -> Explanation:
    """Given a schedule's text, a zone, an instant and a count, return the slots after it; raise InputError.

    `@every` is counted from `after`, and an `H` is resolved for a host that does not exist; the notes say so.
    """
    check_expression(expression)
    check_timezone(timezone)
    notes: list[str] = []
    every = every_seconds(expression)
    cron = expression
    if every is not None:
        notes.append("counted from the instant asked for; a schedule counts from the instant it was added")
    else:
        cron = resolve_hash(expression, host_id="", schedule_id="")
        if cron != expression:
            notes.append(
                f"each H is a value of the host's own; shown for one as {cron!r} (`schedule next` shows yours)"
            )
    timing = Timing(cron=cron, timezone=timezone, anchor=whole_second(after))
    table = Timetable(timing)
    slots: list[datetime] = []
    at: datetime | None = after
    while len(slots) < count and at is not None and (at := table.first_after(at)) is not None:
        slots.append(at)
    if every is None:
        notes += _rule(cron, timezone)
        if slots:
            notes += _changes(timing, after, slots[-1])
    if len(slots) < count:
        notes.append("there are no more")
    return Explanation(
        cron=expression,
        timezone=timezone,
        words=describe(expression, timezone),
        next=tuple(NextSlot(utc=slot, local=local_text(slot, timezone)) for slot in slots),
        notes=tuple(notes),
    )


def local_text(slot: datetime, timezone: str) -> str:
    """Given a slot and a zone, return what the clock on the wall says then, with its UTC offset (RFC 3339)."""
    return slot.astimezone(ZoneInfo(timezone)).isoformat()


def _elapsed(cron: str) -> tuple[bool, bool]:
    """Given a cron line, return whether it runs by elapsed time, and whether it has times in every hour."""
    fields = parse(cron)
    if isinstance(fields, int):
        return True, True
    minute, hour, *_ = fields
    return minute.text.startswith("*") or hour.text.startswith("*"), len(hour.values) == 24


def _rule(cron: str, timezone: str) -> list[str]:
    """Return which of the two rules for clock changes applies, where the zone may have any."""
    if ZoneInfo(timezone).utcoffset(None) is not None:
        return []
    elapsed, _ = _elapsed(cron)
    if elapsed:
        return ["by elapsed time (minute or hour starts with *): in both passes of what the clock repeats"]
    return ["at fixed times: once at the end of what the clock skips, and once, first, in what it repeats"]


def _changes(timing: Timing, after: datetime, last: datetime) -> list[str]:
    """Return a note for each clock change among the shown slots that skips or repeats a time of the schedule."""
    # The same walls on a clock that never changes: which of them are skipped or repeated.
    walls = Timetable(Timing(cron=timing.cron, timezone="UTC", anchor=timing.anchor))
    notes = []
    for change in wall_clock(timing.timezone).changes(to_second(after), to_second(last)):
        first, end = sorted((change.at + change.before, change.at + change.after))
        start, stop = to_instant(first), to_instant(end)
        if start is not None and stop is not None and walls.count(start - _SECOND, stop - _SECOND):
            notes.append(_note(timing.cron, change, start, stop))
    return notes


def _note(cron: str, change: Change, start: datetime, stop: datetime) -> str:
    elapsed, every_hour = _elapsed(cron)
    if change.after > change.before:
        # A whole day may be skipped (Apia, 2011): then the date of the end is needed too.
        end = f"{stop:%H:%M}" if stop.date() == start.date() else f"{stop:%a %Y-%m-%d %H:%M}"
        said = f"{start:%a %Y-%m-%d} the clock goes from {start:%H:%M} to {end}"
        if elapsed and every_hour:
            return f"{said}: no time passes, so nothing is left out"
        return f"{said}: what is due in between runs once, at {end}"
    said = f"{start:%a %Y-%m-%d} the clock goes from {stop:%H:%M} back to {start:%H:%M}"
    return f"{said}: what is due in between runs {'in both passes' if elapsed else 'in the first pass only'}"
