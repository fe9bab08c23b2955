"""Instants and durations as text. Owns the one spelling of each; knows nothing of zones or calendars.

Instants are aware datetimes in UTC. A slot is a whole second. On the wire and in `--json` they are RFC 3339 with `Z`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from restic_manager.domain.errors import InputError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,8})h)?(?:(\d{1,9})m)?(?:(\d{1,10})s)?", re.ASCII)


def whole_second(instant: datetime) -> datetime:
    """Given an aware instant, return it in UTC truncated to whole seconds."""
    return instant.astimezone(UTC).replace(microsecond=0)


def slot_text(slot: datetime) -> str:
    """Given a slot, return `YYYY-MM-DDTHH:MM:SSZ`, the spelling that job ids are made from."""
    return slot.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")


def instant_text(instant: datetime) -> str:
    """Given an aware instant, return RFC 3339 in UTC with `Z`, microseconds only where there are any."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_instant(text: str) -> datetime:
    """Given RFC 3339 text, return the instant in UTC; raise InputError if it is none or has no UTC offset."""
    try:
        # A NUL would be the end of the text to CPython's parser.
        instant = datetime.fromisoformat(text.replace("\0", "NUL"))
        if instant.tzinfo is None:
            raise InputError(f"{text!r} has no UTC offset: write 2026-03-29T01:30:00Z or 2026-03-29T02:30:00+01:00")
        return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InputError(f"{text!r} is not an instant: write it like 2026-03-29T01:30:00Z") from None


def parse_duration(text: str) -> timedelta:
    """Given `90s`, `15m`, `6h`, `1d` or a mix (`1h30m`), return the duration; raise InputError otherwise."""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise InputError(f"{text!r} is not a duration: write it like 90s, 15m, 6h, 1d or 1h30m")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    try:
        return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError:
        raise InputError(f"{text!r} is longer than any duration can be") from None


def duration_text(duration: timedelta) -> str:
    """Given a duration, return its shortest exact spelling (`1h30m`), parts of a second dropped; `0s` for nothing."""
    rest = int(duration.total_seconds())
    parts: list[str] = []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")):
        amount, rest = divmod(rest, size)
        if amount:
            parts.append(f"{amount}{unit}")
    return "".join(parts) or "0s"
