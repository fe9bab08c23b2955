"""What may be written as a schedule: five fields of crontab(5), a nickname, `@every <duration>`, and our `H`.

Owns the grammar, and each refusal with its reason, its column and the remedy. Everything accepted here means the
same to crontab(5) and to croniter; whatever only one of them knows is refused. It refuses to know zones and croniter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from restic_manager.domain.errors import InputError
from restic_manager.domain.instants import parse_duration
from restic_manager.domain.stable import stable_number

MAX_LENGTH = 256
MAX_EVERY = 10 * 366 * 86_400
"""The longest `@every`, in seconds: as long as any duration on the wire may be."""

NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST = {1: 31, 2: 29, 3: 31, 4: 30, 5: 31, 6: 30, 7: 31, 8: 31, 9: 30, 10: 31, 11: 30, 12: 31}

_ITEM = re.compile(r"(\*|[0-9]+|[A-Za-z]+)(?:-([0-9]+|[A-Za-z]+))?(?:/([0-9]+))?")
_HASH = re.compile(r"[Hh](?:\(([0-9]+)-([0-9]+)\))?(?:/([0-9]+))?")
_RANDOM = re.compile(r"[Rr](?:$|[(/])|.*~")
_EXTENSION = re.compile(r"[?#]|\b[0-9]*[LlWw]+[0-9]*\b|\b[A-Za-z]{3}[Ll]\b")


class CronError(InputError):
    """Not a schedule we run, and why. `position` is the 0-based column in `text`, None where it is the whole."""

    default_code = "bad_schedule"

    def __init__(self, message: str, *, text: str = "", position: int | None = None) -> None:
        super().__init__(message)
        self.text = text
        self.position = position


@dataclass(frozen=True, slots=True)
class Unit:
    """One of the five fields: its name, its bounds, the names that may stand for its values."""

    name: str
    low: int
    high: int
    size: int
    names: tuple[str, ...] = ()

    def values(self, low: int, high: int, step: int) -> frozenset[int]:
        """Given bounds and a step, return the values, with 7 read as Sunday."""
        return frozenset(value % 7 if self.size == 7 else value for value in range(low, high + 1, step))


UNITS = (
    Unit("minute", 0, 59, 60),
    Unit("hour", 0, 23, 24),
    Unit("day of month", 1, 31, 31),
    Unit("month", 1, 12, 12, _MONTHS),
    Unit("day of week", 0, 7, 7, _WEEKDAYS),
)


@dataclass(frozen=True, slots=True)
class Hash:
    """`H`: one value of low..high, or with a step a start in the first `step` of them. `text` is how it was written."""

    low: int
    high: int
    step: int | None
    last_start: int


@dataclass(frozen=True, slots=True)
class Field:
    """One field as written: its text, its column, the values it stands for (all it may become, where it is hashed)."""

    text: str
    position: int
    values: frozenset[int]
    hashed: Hash | None = None

    @property
    def star(self) -> bool:
        """Whether crontab(5) counts the field as not restricted."""
        return self.text.startswith("*")


Fields = tuple[Field, Field, Field, Field, Field]


def parse(expression: str) -> Fields | int:
    """Given a schedule's text, return its five fields, or the seconds of `@every`; raise CronError if it is none."""
    if not expression.strip(" "):
        raise CronError("the schedule is empty: write five fields, for example '30 2 * * *'", text=expression)
    if len(expression) > MAX_LENGTH:
        _refuse(expression, None, f"it has {len(expression)} characters, and at most {MAX_LENGTH} are read")
    for position, character in enumerate(expression):
        if not " " <= character <= "~":
            kind = "a control character" if character.isascii() else "not ASCII"
            _refuse(expression, position, f"{character!a} is {kind}: use plain letters, digits and spaces")
    head = expression.split(maxsplit=1)[0].lower()
    if head == "@every":
        return _parse_every(expression)
    if head.startswith("@"):
        return _parse_nickname(expression, head)
    return _parse_fields(expression)


def resolve_hash(expression: str, *, host_id: str, schedule_id: str) -> str:
    """Given a schedule, return it with each `H` replaced by this host's own value; raise CronError if it is none.

    Each field has a digest of its own: with one for all of them, most pairs of minute and hour are never chosen.
    """
    fields = parse(expression)
    if isinstance(fields, int) or not any(field.hashed for field in fields):
        return expression
    words: list[str] = []
    for unit, field in zip(UNITS, fields, strict=True):
        if (hashed := field.hashed) is None:
            words.append(field.text)
            continue
        start = hashed.low + stable_number(
            hashed.last_start - hashed.low + 1,
            purpose=f"cron {unit.name}",
            host_id=host_id,
            schedule_id=schedule_id,
        )
        # A step with no second value is written as the value alone: `a-a` is refused, and is every value to croniter.
        stepped = hashed.step is not None and start + hashed.step <= hashed.high
        words.append(f"{start}-{hashed.high}/{hashed.step}" if stepped else str(start))
    return " ".join(words)


def _refuse(text: str, position: int | None, reason: str) -> NoReturn:
    shown = text if len(text) <= 80 else text[:77] + "..."
    where = "" if position is None else f", column {position + 1}"
    raise CronError(f"{shown!r} is not a schedule{where}: {reason}", text=text, position=position) from None


def _parse_every(text: str) -> int:
    head, *rest = text.split()
    start = text.index(head) + len(head)
    if len(rest) != 1:
        _refuse(text, start, "write one duration after @every, for example '@every 6h' or '@every 1h30m'")
    position = text.index(rest[0], start)
    try:
        duration = parse_duration(rest[0])
    except InputError as error:
        _refuse(text, position, error.message)
    seconds = duration.days * 86_400 + duration.seconds
    if not 1 <= seconds <= MAX_EVERY:
        _refuse(text, position, f"@every takes from 1s to {MAX_EVERY // 86_400}d")
    return seconds


def _parse_nickname(text: str, head: str) -> Fields:
    position = text.lower().index(head)
    if head == "@reboot":
        _refuse(text, position, "a start of the machine is no planned time: choose one, missed ones are caught up with")
    if head not in NICKNAMES:
        _refuse(text, position, f"the nicknames are {', '.join(NICKNAMES)} and '@every <duration>'")
    if (extra := text.rstrip(" ").find(" ", position)) >= 0:
        _refuse(text, extra, f"nothing may follow {head}")
    return _parse_fields(NICKNAMES[head])


def _parse_fields(text: str) -> Fields:
    words = [(match.group(), match.start()) for match in re.finditer(r"[^ ]+", text)]
    if len(words) > 5:
        remedy = "seconds and years are not supported: write minute, hour, day of month, month and day of week"
        _refuse(text, words[5][1], f"it has {len(words)} fields, not 5; {remedy}")
    if len(words) < 5:
        missing = UNITS[len(words)].name
        _refuse(text, len(text.rstrip(" ")), f"it has {len(words)} fields, not 5; the {missing} is missing")
    minute, hour, day, month, weekday = (
        _parse_field(text, word, position, unit) for (word, position), unit in zip(words, UNITS, strict=True)
    )
    _check_dates(text, day, month)
    return minute, hour, day, month, weekday


def _parse_field(text: str, word: str, position: int, unit: Unit) -> Field:
    if (match := _HASH.fullmatch(word)) is not None:
        return _parse_hash(text, match, position, unit)
    values: set[int] = set()
    start = position
    for item in word.split(","):
        if item == "*" != word:
            _refuse(text, start, f"'*' is every {unit.name} already: write it alone, or leave it out of the list")
        match = _ITEM.fullmatch(item)
        if match is None:
            _refuse(text, start, _why_not(item, unit))
        values |= _parse_item(text, match, start, unit)
        start += len(item) + 1
    return Field(word, position, frozenset(values))


def _parse_item(text: str, match: re.Match[str], start: int, unit: Unit) -> frozenset[int]:
    step = _step(text, match, 3, start, unit) or 1
    if match[1] == "*":
        if match[2] is not None:
            _refuse(text, start, "a range needs two values: write '*', or for example '0-5'")
        return unit.values(unit.low, unit.low + unit.size - 1, step)
    low = _value(text, match, 1, start, unit)
    if match[2] is None:
        if match[3] is None:
            return unit.values(low, low, 1)
        if low == 7 == unit.size:
            _refuse(text, start, "a step cannot start at 7: Sunday is also 0, write '0/n' or '*/n'")
        return unit.values(low, unit.low + unit.size - 1, step)
    high = _value(text, match, 2, start, unit)
    if low == high:
        _refuse(text, start, f"a range from a value to itself is read in two ways: write {match[1]!r} alone")
    if low > high:
        sunday = unit.size == 7 and high == 0
        remedy = (
            f"write '{low}-7'" if sunday and low < 7 else f"write a list, such as '{low}-{unit.high},{unit.low}-{high}'"
        )
        _refuse(text, start, f"the range {match[0]!r} runs backwards; if it is to wrap around, {remedy}")
    return unit.values(low, high, step)


def _parse_hash(text: str, match: re.Match[str], position: int, unit: Unit) -> Field:
    low, high = unit.low, unit.low + unit.size - 1
    # Every month has 28 days: a plain H must not choose a day that some months do not have.
    last_start = 28 if unit.size == 31 else high
    if match[1] is not None:
        low = _value(text, match, 1, position, unit)
        high = last_start = _value(text, match, 2, position, unit)
        if unit.size == 7 and high > 6:
            _refuse(text, position + match.start(2), "within H(...) write Sunday as 0")
        if low >= high:
            _refuse(text, position, f"the range of {match[0]!r} must run from a lower to a higher value")
    step = _step(text, match, 3, position, unit)
    if step is not None:
        last_start = min(low + step - 1, last_start)
    reach = high if step is not None else last_start
    return Field(match[0], position, unit.values(low, reach, 1), Hash(low, high, step, last_start))


def _value(text: str, match: re.Match[str], group: int, start: int, unit: Unit) -> int:
    word = match[group].lower()
    position = start + match.start(group)
    if word.isdigit():
        # int() itself raises on thousands of digits; leading zeros are fine, as in crontab.
        digits = word.lstrip("0") or "0"
        if len(digits) > 2 or not unit.low <= int(digits) <= unit.high:
            _refuse(text, position, f"{_cut(word)} is no {unit.name}: it runs from {unit.low} to {unit.high}")
        return int(digits)
    if word in unit.names:
        return unit.names.index(word) + unit.low
    return _refuse(text, position, _why_not(match[group], unit))


def _step(text: str, match: re.Match[str], group: int, start: int, unit: Unit) -> int | None:
    if match[group] is None:
        return None
    digits = match[group].lstrip("0") or "0"
    position = start + match.start(group)
    if digits == "0":
        _refuse(text, position, "a step of 0 never moves on: leave it out, or write 1 or more")
    if len(digits) > 2 or int(digits) > unit.size:
        remedy = "for a fixed distance of time write '@every <duration>'"
        _refuse(text, position, f"a step of {_cut(digits)} is more than the {unit.name} has ({unit.size}); {remedy}")
    return int(digits)


def _why_not(item: str, unit: Unit) -> str:
    shown = _cut(item)
    if _RANDOM.match(item):
        return f"{shown} would be a new random value at each reading: write H for one that stays"
    if item[:1] in {"H", "h"} and (len(item) == 1 or not item[1].isalpha()):
        return f"{shown} is not understood: H stands alone in its field, as H, H/15, H(0-29) or H(0-29)/10"
    if _EXTENSION.search(item):
        return f"{shown} is an extension that crontab(5) does not have: write the values as numbers"
    if not item:
        return "a value is missing between commas"
    if unit.names:
        first, last = unit.names[0].upper(), unit.names[-1].upper()
        return f"{shown} is no {unit.name}: write {unit.low} to {unit.high}, or {first} to {last}"
    return f"{shown} is no {unit.name}: write numbers from {unit.low} to {unit.high}, '*', 'a-b', 'a,b' or '*/n'"


def _cut(word: str) -> str:
    return repr(word if len(word) <= 20 else word[:17] + "...")


def _check_dates(text: str, day: Field, month: Field) -> None:
    """Refuse a day that none of the months has; where H may choose either, refuse if it may choose such a pair."""
    first = day.hashed.last_start if day.hashed else min(day.values)
    if month.hashed:
        longest = min(_LONGEST[value] for value in month.values)
    else:
        longest = max(_LONGEST[value] for value in month.values)
    if first <= longest:
        return
    if day.hashed or month.hashed:
        _refuse(
            text, day.position, "H could choose a day which its month does not have: write 'H' or 'H(1-28)' for the day"
        )
    _refuse(text, day.position, f"day {first} never comes in month {month.text}: choose a day up to {longest}")
