"""Values as words for a person: times, sizes, counts, and text from elsewhere made harmless.

Pure: `now` is an argument. It refuses to know tables, colours and where the words go.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from restic_manager.domain.instants import duration_text

# What a terminal may obey instead of showing it: control characters (C0, DEL, C1), line and paragraph separators, and
# the marks that change the direction of writing, by which a file name can pretend to be another.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def safe(text: str) -> str:
    """Given any text, return it on one line with everything a terminal could obey written as an escape."""
    return _UNSAFE.sub(_escape, text)


def safe_line(text: str) -> str:
    """Given one line of output, return it harmless; a tab stays a tab."""
    return "\t".join(safe(part) for part in text.split("\t"))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xD800 <= code <= 0xDFFF:
        # Half of a surrogate pair is how Python writes a byte of argv that is no UTF-8.
        return f"\\x{code & 0xFF:02x}"
    if match[0] in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[match[0]]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def span(duration: timedelta) -> str:
    """Given a duration, return it as a person says it: its largest unit, and the next one while that still matters."""
    seconds = max(int(duration.total_seconds()), 0)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3_600:
        return f"{seconds // 60} min"
    if seconds < 86_400:
        hours, minutes = divmod(seconds // 60, 60)
        return f"{hours} h {minutes} min" if hours < 6 and minutes else f"{hours} h"
    days, hours = divmod(seconds // 3_600, 24)
    if days < 4 and hours:
        return f"{days} d {hours} h"
    return f"{days} d"


def when(instant: datetime | None, now: datetime, *, never: str = "never") -> str:
    """Given an instant and now, return where it is from now: `5 min ago`, `in 3 h`, `now`."""
    if instant is None:
        return never
    away = instant - now
    if abs(away) < timedelta(seconds=1):
        return "now"
    # Rounded to the second first: 59.9 s from now is `in 1 min`.
    away = timedelta(seconds=round(away.total_seconds()))
    return f"in {span(away)}" if away > timedelta() else f"{span(-away)} ago"


def moment(instant: datetime | None, now: datetime, *, never: str = "never") -> str:
    """Given an instant, return it in UTC with where it is from now."""
    if instant is None:
        return never
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC ({when(instant, now)})"


def took(start: datetime | None, end: datetime | None) -> str:
    """Given start and end, return how long it took; nothing while either is missing."""
    if start is None or end is None:
        return ""
    seconds = (end - start).total_seconds()
    # A backup of little takes a second or two: there the tenths tell something.
    return f"{seconds:.1f} s" if 0 <= seconds < 10 else span(end - start)


def seconds_text(seconds: float) -> str:
    """Given seconds, return the exact duration as options take it (`1h30m`)."""
    return duration_text(timedelta(seconds=seconds))


def size(count: int) -> str:
    """Given bytes, return them with the unit that keeps at most four digits."""
    amount = float(count)
    for unit in _BYTE_UNITS:
        if round(amount, 1) < 1_024 or unit == _BYTE_UNITS[-1]:
            return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1_024
    raise AssertionError("the last unit takes everything")


def amount(count: int, one: str, many: str | None = None) -> str:
    """Given a count and a noun, return both: `1 host`, `1,200 hosts`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def listing(words: list[str], *, most: int = 6) -> str:
    """Given words, return them in one line, the rest counted: `a, b and 3 more`."""
    if len(words) <= most:
        return ", ".join(words)
    return f"{', '.join(words[: most - 1])} and {len(words) - most + 1:,} more"


def short(job_id: str) -> str:
    """Given an id, return as much of it as tells it from others in daily use; any unique prefix is accepted."""
    return job_id[:8]
