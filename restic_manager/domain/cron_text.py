"""What may be written as a schedule: five fields of crontab(5), a nickname, `@every <duration>`, and our `H`.

Owns the shape of the whole, dates that never come, and what `H` becomes on a host. It refuses to know zones.
"""

from __future__ import annotations

import re

from restic_manager.domain.cron_fields import UNITS, CronError, Field, parse_field, refuse
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
_UNPRINTABLE = re.compile(r"[^ -~]")
_LONGEST = {1: 31, 2: 29, 3: 31, 4: 30, 5: 31, 6: 30, 7: 31, 8: 31, 9: 30, 10: 31, 11: 30, 12: 31}

Fields = tuple[Field, Field, Field, Field, Field]


def parse(expression: str) -> Fields | int:
    """Given a schedule's text, return its five fields, or the seconds of `@every`; raise CronError if it is none."""
    if not expression.strip(" "):
        raise CronError("the schedule is empty: write five fields, for example '30 2 * * *'", text=expression)
    if len(expression) > MAX_LENGTH:
        refuse(expression, None, f"it has {len(expression)} characters, and at most {MAX_LENGTH} are read")
    if (odd := _UNPRINTABLE.search(expression)) is not None:
        kind = "a control character" if odd[0].isascii() else "not ASCII"
        refuse(expression, odd.start(), f"{odd[0]!a} is {kind}: use plain letters, digits and spaces")
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


def _parse_every(text: str) -> int:
    head, *rest = text.split()
    start = text.index(head) + len(head)
    if len(rest) != 1:
        refuse(text, start, "write one duration after @every, for example '@every 6h' or '@every 1h30m'")
    position = text.index(rest[0], start)
    try:
        duration = parse_duration(rest[0])
    except InputError as error:
        refuse(text, position, error.message)
    seconds = duration.days * 86_400 + duration.seconds
    if not 1 <= seconds <= MAX_EVERY:
        refuse(text, position, f"@every takes from 1s to {MAX_EVERY // 86_400}d")
    return seconds


def _parse_nickname(text: str, head: str) -> Fields:
    position = text.lower().index(head)
    if head == "@reboot":
        refuse(text, position, "a start of the machine is no planned time: choose one, missed ones are caught up with")
    if head not in NICKNAMES:
        refuse(text, position, f"the nicknames are {', '.join(NICKNAMES)} and '@every <duration>'")
    if (extra := text.rstrip(" ").find(" ", position)) >= 0:
        refuse(text, extra, f"nothing may follow {head}")
    return _parse_fields(NICKNAMES[head])


def _parse_fields(text: str) -> Fields:
    words = [(match.group(), match.start()) for match in re.finditer(r"[^ ]+", text)]
    if len(words) > 5:
        remedy = "seconds and years are not supported: write minute, hour, day of month, month and day of week"
        refuse(text, words[5][1], f"it has {len(words)} fields, not 5; {remedy}")
    if len(words) < 5:
        missing = UNITS[len(words)].name
        refuse(text, len(text.rstrip(" ")), f"it has {len(words)} fields, not 5; the {missing} is missing")
    minute, hour, day, month, weekday = (
        parse_field(text, word, position, unit) for (word, position), unit in zip(words, UNITS, strict=True)
    )
    _check_dates(text, day, month)
    return minute, hour, day, month, weekday


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
        refuse(text, day.position, "H could choose a day that its month does not have: write H(1-28) for the day")
    refuse(text, day.position, f"day {first} never comes in month {month.text}: choose a day up to {longest}")
