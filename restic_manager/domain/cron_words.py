"""A schedule in plain words, for the person who is about to trust it.

Owns the English, and says never more than is true (`*/7` is no "every 7 minutes"). It refuses to know slots and clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from itertools import pairwise

from restic_manager.domain.cron_fields import Field
from restic_manager.domain.cron_text import Fields, parse
from restic_manager.domain.instants import duration_text

_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_OWN = "fixed per host"


def describe(expression: str, timezone: str) -> str:
    """Given a schedule's text and its zone (or `host`), return it in words; raise CronError if it is wrong."""
    fields = parse(expression)
    if isinstance(fields, int):
        return f"every {duration_text(timedelta(seconds=fields))}, counted from the schedule's creation"
    zone = "in each host's own time zone" if timezone == "host" else timezone
    time, day = _time(fields), _day(fields)
    often = time.startswith("every ") or time.endswith(" of every hour")
    if day == "every day" and often:
        return f"{time}, {zone}"
    return f"{time} {day}, {zone}"


def _time(fields: Fields) -> str:
    minute, hour, *_ = fields
    if minute.hashed or hour.hashed:
        return _hashed_time(minute, hour)
    if len(minute.values) * len(hour.values) <= 6:
        return "at " + _join(f"{h:02}:{m:02}" for h in sorted(hour.values) for m in sorted(minute.values))
    step = _even_step(minute.values, 60)
    if step is not None:
        every = "every minute" if step == 1 else f"every {step} minutes"
        return every if len(hour.values) == 24 else f"{every} during {_series('hour', hour.values)}"
    hours = _even_step(hour.values, 24)
    if len(minute.values) == 1 and hours is not None and hours > 1:
        return f"every {hours} hours from {0:02}:{min(minute.values):02}"
    return f"at {_series('minute', minute.values)} of {_hours(hour)}"


def _hashed_time(minute: Field, hour: Field) -> str:
    plain_minute = minute.hashed is not None and minute.hashed.step is None and len(minute.values) == 60
    if plain_minute and hour.hashed and hour.hashed.step is None:
        if len(hour.values) == 24:
            return f"at a time {_OWN}"
        return f"at a time {_OWN} between {min(hour.values):02}:00 and {max(hour.values):02}:59"
    if plain_minute and len(hour.values) == 1:
        return f"at a minute {_OWN} between {min(hour.values):02}:00 and {min(hour.values):02}:59"
    minutes = _hashed("minute", minute) if minute.hashed else _series("minute", minute.values)
    return f"at {minutes} of {_hashed('hour', hour) if hour.hashed else _hours(hour)}"


def _day(fields: Fields) -> str:
    _, _, day, month, weekday = fields
    either = not day.star and not weekday.star
    all_days, all_weekdays = len(day.values) == 31 and not day.hashed, len(weekday.values) == 7 and not weekday.hashed
    of_month = _month(month)
    # crontab(5): two restricted fields are both enough, so one that lets all through lets all through.
    if (all_days and all_weekdays) or (either and (all_days or all_weekdays)):
        return f"every day{f' in {of_month}' if of_month else ''}"
    days = f"{_hashed('day', day) if day.hashed else _series('day', day.values)} of {of_month or 'the month'}"
    if all_weekdays:
        return f"on {days}"
    inside = f" in {of_month}" if of_month else ""
    if all_days:
        names = _weekdays(weekday, "and")
        return f"{'from' if ' to ' in names and ' and ' not in names and not weekday.hashed else 'on'} {names}{inside}"
    if either:
        return f"on either {days} or {'' if weekday.hashed else 'any '}{_weekdays(weekday, 'or')}{inside}"
    return f"on {days}, only if it is {'' if weekday.hashed else 'a '}{_weekdays(weekday, 'or')}"


def _hours(hour: Field) -> str:
    return "every hour" if len(hour.values) == 24 else _series("hour", hour.values)


def _month(month: Field) -> str:
    if month.hashed:
        return f"a month {_OWN} ({_list(month.values, lambda value: _MONTHS[value - 1], 'and')})"
    return "" if len(month.values) == 12 else _list(month.values, lambda value: _MONTHS[value - 1], "and")


def _weekdays(weekday: Field, word: str) -> str:
    # Sunday is 0 to cron and comes last to people.
    names = _list({value or 7 for value in weekday.values}, lambda value: _WEEKDAYS[value - 1], word)
    return f"a weekday {_OWN} ({names})" if weekday.hashed else names


def _hashed(noun: str, field: Field) -> str:
    if field.hashed and field.hashed.step:
        start = f"one {_OWN} ({field.hashed.low} to {field.hashed.last_start})"
        return f"{noun}s {field.hashed.low} to {field.hashed.high} in steps of {field.hashed.step} from {start}"
    article = "an" if noun == "hour" else "a"
    return f"{article} {noun} {_OWN} ({min(field.values)} to {max(field.values)})"


def _even_step(values: frozenset[int], size: int) -> int | None:
    """Return the step that is the same all around the clock, None if there is none."""
    if size % len(values) == 0 and len(values) > 1:
        step = size // len(values)
        if values == frozenset(range(0, size, step)):
            return step
    return None


def _series(noun: str, values: frozenset[int]) -> str:
    ordered = sorted(values)
    if len(ordered) == 1:
        return f"{noun} {ordered[0]}"
    steps = {high - low for low, high in pairwise(ordered)}
    if len(ordered) > 6 and len(steps) == 1 and steps != {1}:
        return f"{noun}s {ordered[0]} to {ordered[-1]} in steps of {steps.pop()}"
    return f"{noun}s {_list(values, str, 'and')}"


def _list(values: Iterable[int], name: Callable[[int], str], word: str) -> str:
    """Return values as words, three or more in a row as a range."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    parts: list[str] = []
    for run in runs:
        parts += [f"{name(run[0])} to {name(run[-1])}"] if len(run) > 2 else [name(value) for value in run]
    return _join(parts, word)


def _join(parts: Iterable[str], word: str = "and") -> str:
    *first, last = parts
    return f"{', '.join(first)} {word} {last}" if first else last
