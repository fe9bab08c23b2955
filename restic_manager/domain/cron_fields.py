"""One field of a schedule: the values it may name, and the refusal of all others with reason, column and remedy.

Owns the grammar within a field, ours for `H` included. What it accepts means the same to crontab(5) and to croniter;
whatever only one of them knows is refused. It refuses to know the other fields.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from restic_manager.domain.errors import InputError

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
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
    """`H`: a start from low to last_start, alone or with a step on through high."""

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


def refuse(text: str, position: int | None, reason: str) -> NoReturn:
    """Given the whole text, a column in it or None, and a reason with its remedy, raise CronError."""
    shown = text if len(text) <= 80 else text[:77] + "..."
    where = "" if position is None else f", column {position + 1}"
    raise CronError(f"{shown!a} is not a schedule{where}: {reason}", text=text, position=position) from None


def parse_field(text: str, word: str, position: int, unit: Unit) -> Field:
    """Given the whole text, one field of it, its column and its unit, return it read; raise CronError if wrong."""
    if (match := _HASH.fullmatch(word)) is not None:
        return _parse_hash(text, match, position, unit)
    values: set[int] = set()
    start = position
    for item in word.split(","):
        if item == "*" != word:
            refuse(text, start, f"'*' is every {unit.name} already: write it alone, or leave it out of the list")
        match = _ITEM.fullmatch(item)
        if match is None:
            refuse(text, start, _why_not(item, unit))
        values |= _parse_item(text, match, start, unit)
        start += len(item) + 1
    return Field(word, position, frozenset(values))


def _parse_item(text: str, match: re.Match[str], start: int, unit: Unit) -> frozenset[int]:
    step = _step(text, match, 3, start, unit) or 1
    if match[1] == "*":
        if match[2] is not None:
            refuse(text, start, "a range needs two values: write '*', or for example '0-5'")
        return unit.values(unit.low, unit.low + unit.size - 1, step)
    low = _value(text, match, 1, start, unit)
    if match[2] is None:
        if match[3] is None:
            return unit.values(low, low, 1)
        if unit.size == 7:
            # The week ends with 6 to croniter and with 7 to others.
            refuse(text, start, f"a step over weekdays needs both ends: write for example '0-6/{step}' or '1-5/{step}'")
        return unit.values(low, unit.low + unit.size - 1, step)
    high = _value(text, match, 2, start, unit)
    if low == high:
        refuse(text, start, f"a range from a value to itself is read in two ways: write {match[1]!r} alone")
    if low > high:
        sunday = unit.size == 7 and high == 0 and low < 7
        both = f"{low}-7" if sunday else f"{_span(low, unit.high)},{_span(unit.low, high)}"
        refuse(text, start, f"the range {match[0]!r} runs backwards; to have it wrap around, write '{both}'")
    return unit.values(low, high, step)


def _parse_hash(text: str, match: re.Match[str], position: int, unit: Unit) -> Field:
    low, high = unit.low, unit.low + unit.size - 1
    # Every month has 28 days: a plain H must not choose a day that some months do not have.
    last_start = 28 if unit.size == 31 else high
    if match[1] is not None:
        low = _value(text, match, 1, position, unit)
        high = last_start = _value(text, match, 2, position, unit)
        if unit.size == 7 and high > 6:
            refuse(text, position + match.start(2), "within H(...) write Sunday as 0")
        if low >= high:
            refuse(text, position, f"the range of {match[0]!r} must run from a lower to a higher value")
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
            refuse(text, position, f"{_cut(word)} is no {unit.name}: it runs from {unit.low} to {unit.high}")
        return int(digits)
    if word in unit.names:
        return unit.names.index(word) + unit.low
    return refuse(text, position, _why_not(match[group], unit))


def _step(text: str, match: re.Match[str], group: int, start: int, unit: Unit) -> int | None:
    if match[group] is None:
        return None
    digits = match[group].lstrip("0") or "0"
    position = start + match.start(group)
    if digits == "0":
        refuse(text, position, "a step of 0 never moves on: leave it out, or write 1 or more")
    if len(digits) > 2 or int(digits) > unit.size:
        remedy = "for a fixed distance of time write '@every <duration>'"
        refuse(text, position, f"a step of {_cut(digits)} is more than the {unit.name} has ({unit.size}); {remedy}")
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


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}-{high}"


def _cut(word: str) -> str:
    return repr(word if len(word) <= 20 else word[:17] + "...")
