"""Numbers, sizes, rates, times and paths as they are typed. Every refusal names the option, the value and the remedy.

Pure, but for the encoding of this process's command line. Paths are those of other machines: they are taken as bytes,
must be absolute, and are not looked for here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from typing import Final, TypeVar

from restic_manager.domain.errors import InputError
from restic_manager.domain.instants import parse_duration, parse_instant
from restic_manager.domain.pathtext import path_to_text

T = TypeVar("T")

NONE: Final = "none"
"""What an option takes for no value at all, where one can be taken away."""

_SIZE: Final = re.compile(r"(\d{1,15})(?:\.(\d{1,3}))?\s?([kmgtp]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
_UNITS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_MOST: Final = 2**53


def whole_number(text: str, option: str, *, least: int, most: int) -> int:
    """Given an option's value, return the number; raise InputError unless it is one between least and most."""
    if not (text.isascii() and text.isdigit() and len(text) < 17 and least <= int(text) <= most):
        raise InputError(f"{option} {text}: a whole number from {least} to {most}")
    return int(text)


def byte_count(text: str, option: str) -> int:
    """Given `500M`, `1.5GiB` or a number of bytes, return the bytes; raise InputError for anything else."""
    count = _bytes(text, unit=1)
    if count is None or not 1 <= count <= _MOST:
        raise InputError(f"{option} {text!r}: write a size like 500M, 1.5G or 1048576 (bytes)")
    return count


def rate(text: str, option: str) -> int:
    """Given `512` (KiB/s, as restic takes it) or `2M`, return KiB/s; raise InputError for anything else."""
    count = _bytes(text, unit=1_024)
    if count is None or not 1 <= count // 1_024 < 2**31:
        raise InputError(f"{option} {text!r}: write KiB a second, as a number (512), or with a unit (2M)")
    return count // 1_024


def percent(text: str, option: str) -> float:
    """Given `5`, `2.5` or `5%`, return the number; raise InputError unless it is from 0 to 100."""
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,4})?)\s?%?", text, re.ASCII)
    if match is None or float(match[1]) > 100:
        raise InputError(f"{option} {text!r}: write a share of 0 to 100 percent, like 5 or 2.5%")
    return float(match[1])


def part_of(text: str, option: str) -> tuple[int, int]:
    """Given `3/12`, return (3, 12); raise InputError unless it is one of at most 10,000 parts."""
    match = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text, re.ASCII)
    if match is None or not 1 <= int(match[1]) <= int(match[2]) <= 10_000:
        raise InputError(f"{option} {text!r}: write which part of how many (at most 10000), like 1/12")
    return int(match[1]), int(match[2])


def since_when(text: str, now: datetime, option: str = "--since") -> datetime:
    """Given `7d`, a date or RFC 3339, return the instant; raise InputError if it is none of them."""
    try:
        return now - parse_duration(text)
    except (InputError, OverflowError):
        pass  # not a duration (or one longer than there were years): it may be a date
    try:
        return datetime.combine(date.fromisoformat(text), time(), tzinfo=UTC)
    except ValueError:
        pass  # not a date either
    try:
        return parse_instant(text)
    except InputError:
        raise InputError(
            f"{option} {text!r}: write how long ago (7d, 12h), a date (2026-11-20) or an instant (2026-11-20T18:00:00Z)"
        ) from None


def seconds(text: str, option: str) -> int:
    """Given `90s`, `15m` or `1h30m`, return the whole seconds; raise InputError for anything else."""
    try:
        return int(parse_duration(text).total_seconds())
    except InputError as error:
        raise InputError(f"{option}: {error.message}") from None


def one_of(text: str, option: str, allowed: Sequence[str]) -> str:
    """Given an option's value, return it; raise InputError unless it is one of those allowed."""
    if text not in allowed:
        raise InputError(f"{option} {text!r}: write {' or '.join(allowed)}")
    return text


def host_path(path: str, what: str) -> str:
    """Given a path of a host as it was typed, return its text; raise InputError if it is not absolute."""
    if not path.startswith("/"):
        raise InputError(
            f"{what} {path!r} is relative, but it is one of the hosts', not of this folder: write it from / on"
        )
    return as_text(path)


def as_text(typed: str) -> str:
    """Given a path or pattern as this process got it, return its text (`domain.pathtext`)."""
    return path_to_text(os.fsencode(typed))


def each(values: Sequence[str], make: Callable[[str], T]) -> tuple[T, ...]:
    """Given what a repeated option was given, return it; a single empty value stands for none at all."""
    return () if list(values) == [""] else tuple(make(value) for value in values)


def _bytes(text: str, *, unit: int) -> int | None:
    """Return the bytes, None for what is no size. unit: of a bare number."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        return None
    whole, fraction, letter = match[1], match[2] or "", match[3].lower()
    bare = not letter and not text.strip().lower().endswith("b")
    scale = unit if bare else 1_024 ** _UNITS[letter]
    return int(whole) * scale + (int(fraction) * scale // 10 ** len(fraction) if fraction else 0)
