"""How long snapshots are kept: the policy as a value, its words, and what is wrong with one before it is applied.

Pure. It refuses to know how restic applies it; it judges what restic says it would do. Two refusals, whoever asks: a
policy without a rule (it would remove everything, or nothing, by the version), and one that would remove the newest
good snapshot.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final, Protocol

from msgspec import Meta, Struct

from restic_manager.domain.bounds import Name, Span
from restic_manager.domain.errors import InputError

Keep = Annotated[int, Meta(ge=1, le=1_000_000)]

_DAYS: Final = {"y": 365, "m": 30, "d": 1}
_PART: Final = re.compile(r"([0-9]+)([ymdh])")
_SLACK: Final = timedelta(minutes=10)
"""A snapshot's time may lie this far in the future before it counts as a wrong clock or a forgery."""


class Retention(Struct, frozen=True, kw_only=True):
    """Which snapshots of a schedule on a host are kept: all that any rule keeps. Counts are of snapshots.

    within*: spans back from the newest snapshot. tags: snapshots with any of these users' tags are kept for ever.
    """

    last: Keep | None = None
    hourly: Keep | None = None
    daily: Keep | None = None
    weekly: Keep | None = None
    monthly: Keep | None = None
    yearly: Keep | None = None
    within: Span | None = None
    within_hourly: Span | None = None
    within_daily: Span | None = None
    within_weekly: Span | None = None
    within_monthly: Span | None = None
    within_yearly: Span | None = None
    tags: Annotated[tuple[Name, ...], Meta(max_length=100)] = ()


COUNTS: Final = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
SPANS: Final = ("within", "within_hourly", "within_daily", "within_weekly", "within_monthly", "within_yearly")

_EVERY: Final = {
    "hourly": timedelta(hours=1),
    "daily": timedelta(days=1),
    "weekly": timedelta(days=7),
    "monthly": timedelta(days=30),
    "yearly": timedelta(days=365),
}
_UNIT: Final = {"hourly": "hour", "daily": "day", "weekly": "week", "monthly": "month", "yearly": "year"}
_SPAN_UNIT: Final = {"y": "year", "m": "month", "d": "day", "h": "hour"}


class Known(Protocol):
    """What is to be known of a snapshot to judge a policy's effect."""

    @property
    def id(self) -> str:
        """Return its id."""

    @property
    def time(self) -> datetime:
        """Return when it was made, by its own word."""


def is_empty(policy: Retention) -> bool:
    """Given a policy, return whether it has no rule at all."""
    return policy == Retention()


def check_retention(policy: Retention) -> None:
    """Given a policy, raise InputError if it has no rule, or a span of no time."""
    if is_empty(policy):
        raise InputError(
            "this retention has no rule, and so says nothing about what to keep: "
            "give it at least one, for example --keep-daily 14 (or leave retention out, and everything is kept)"
        )
    for name in SPANS:
        text = getattr(policy, name)
        if text is not None and span(text) <= timedelta(0):
            raise InputError(f"keep {name.replace('_', '-')} {text!r} is no time at all: write for example 30d or 1y6m")
    for tag in policy.tags:
        if "," in tag or tag != tag.strip():
            raise InputError(f"the kept tag {tag!r} has a comma or a space at its end, which restic reads otherwise")


def span(text: str) -> timedelta:
    """Given `1y5m7d2h`, return about how long that is (a year of 365 days, a month of 30)."""
    whole = timedelta(0)
    for number, unit in _PART.findall(text):
        whole += timedelta(hours=int(number)) if unit == "h" else timedelta(days=int(number) * _DAYS[unit])
    return whole


def refusal(keep: Sequence[Known], remove: Sequence[Known], *, newest_good: str | None, now: datetime) -> str | None:
    """Given what a forget would do, return why it must not be done, None if it may.

    newest_good: the newest snapshot known to be good, by its id or a beginning of it; without one, the newest whose
    time is not in the future counts (a wrong clock or a forger can write any time into a snapshot).
    """
    if not remove:
        return None
    if not keep:
        return f"it would remove all {len(remove)} snapshots and keep none"
    if newest_good is not None:
        gone = [one for one in remove if one.id.startswith(newest_good) or newest_good.startswith(one.id)]
        if gone:
            return f"it would remove {gone[0].id[:8]} of {gone[0].time:%Y-%m-%d %H:%M}, the newest good snapshot"
    honest = [one for one in (*keep, *remove) if one.time <= now + _SLACK]
    if not honest:
        return "every snapshot claims to be made in the future: look at the clocks of the hosts that made them"
    newest = max(honest, key=lambda one: (one.time, one.id))
    if any(one.id == newest.id for one in remove):
        ahead = len(keep) + len(remove) - len(honest)
        why = f" ({ahead} claim to be made in the future)" if ahead else ""
        return f"it would remove {newest.id[:8]} of {newest.time:%Y-%m-%d %H:%M}, the newest snapshot{why}"
    return None


def never_filled(policy: Retention, every: timedelta | None) -> tuple[str, ...]:
    """Given a policy and the usual time between two slots, return a warning for each rule that can never be filled.

    A rule for each hour keeps nothing more than one for each day if the schedule runs once a day. every: None where
    the spacing is not known.
    """
    if every is None:
        return ()
    warnings = []
    for name, unit in _EVERY.items():
        count = getattr(policy, name)
        if count is not None and count > 1 and every > unit * 1.5:
            warnings.append(
                f"keep-{name} {count}: the schedule runs every {_about(every)}, so {count} snapshots reach back "
                f"{_about(every * count)} instead of {_plural(count, _UNIT[name])}"
            )
        within = getattr(policy, f"within_{name}")
        if within is not None and every > unit * 1.5:
            warnings.append(
                f"keep-within-{name} {within}: the schedule runs every {_about(every)}, so this keeps the same as "
                f"keep-within {within}"
            )
    if policy.within is not None and span(policy.within) < every and not _counts(policy):
        warnings.append(
            f"keep-within {policy.within}: the schedule runs every {_about(every)}, so only the newest snapshot is "
            "ever kept"
        )
    return tuple(warnings)


def in_words(policy: Retention | None) -> str:
    """Given a policy, return it as one sentence for people."""
    if policy is None or is_empty(policy):
        return "keeps everything"
    parts = []
    if policy.last is not None:
        parts.append("the last snapshot" if policy.last == 1 else f"the last {policy.last} snapshots")
    for name, unit in _UNIT.items():
        count = getattr(policy, name)
        if count is not None:
            parts.append(f"one {_a(unit)} for the last {_plural(count, unit)} with snapshots")
    if policy.within is not None:
        parts.append(f"everything of the last {_span_words(policy.within)}")
    for name, unit in _UNIT.items():
        within = getattr(policy, f"within_{name}")
        if within is not None:
            parts.append(f"one {_a(unit)} of the last {_span_words(within)}")
    if policy.tags:
        parts.append(f"everything tagged {' or '.join(policy.tags)}")
    return "keeps " + "; ".join(parts)


def _counts(policy: Retention) -> bool:
    return any(getattr(policy, name) is not None for name in COUNTS)


def _plural(count: int, unit: str) -> str:
    return unit if count == 1 else f"{count} {unit}s"


def _a(unit: str) -> str:
    return "an hour" if unit == "hour" else f"a {unit}"


def _span_words(text: str) -> str:
    return " ".join(
        f"{number} {_SPAN_UNIT[unit]}{'' if number == '1' else 's'}" for number, unit in _PART.findall(text)
    )


def _about(time: timedelta) -> str:
    if time == timedelta(days=7):
        return "week"
    for days, unit in ((365, "year"), (30, "month"), (1, "day")):
        # In the finer unit as long as that is a number that one can picture.
        if time >= timedelta(days=2 * days) or time == timedelta(days=days):
            return _plural(round(time / timedelta(days=days)), unit)
    hours = time / timedelta(hours=1)
    return _plural(round(hours), "hour") if hours >= 1 else f"{round(hours * 60)} minutes"
