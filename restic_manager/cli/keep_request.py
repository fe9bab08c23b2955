"""From what was typed about retention and guards to the values of a schedule, and both in words.

Pure. `none` takes a single rule away; an edit changes the rules that it names and leaves the others.
"""

from __future__ import annotations

import re
from typing import Any, Final

from msgspec.structs import replace

from restic_manager.cli.keep_options import KeepOptions
from restic_manager.cli.text import size
from restic_manager.cli.typed import NONE, byte_count, each, percent, whole_number
from restic_manager.domain.errors import InputError
from restic_manager.domain.guards import Guard, Guards
from restic_manager.domain.retention import COUNTS, SPANS, Retention, check_retention, is_empty

_SPAN: Final = re.compile(r"([0-9]{1,5}[ymdh]){1,4}")


def retention_said(typed: KeepOptions) -> dict[str, Any]:
    """Given the options, return the rules that were given, None for one that goes; raise InputError if one is wrong."""
    found: dict[str, Any] = {}
    for name in COUNTS:
        text = getattr(typed, f"keep_{name}")
        if text is not None:
            option = f"--keep-{name}"
            found[name] = None if text == NONE else whole_number(text, option, least=1, most=1_000_000)
    for name in SPANS:
        text = getattr(typed, f"keep_{name}")
        if text is not None:
            found[name] = None if text == NONE else _span(text, f"--keep-{name.replace('_', '-')}")
    if typed.keep_tag:
        found["tags"] = each(typed.keep_tag, str)
    if any(value for value in found.values()):
        check_retention(Retention(**{name: value for name, value in found.items() if value}))
    return found


def retention_after(before: Retention | None, found: dict[str, Any]) -> Retention | None:
    """Given a policy and the rules that were given, return the policy then; raise InputError if none of it is left."""
    if not found:
        return before
    policy = replace(before or Retention(), **found)
    if is_empty(policy) and before is not None:
        raise InputError("that would leave no rule of the retention: say --keep-none, and everything is kept")
    return None if is_empty(policy) else policy


def guards_said(typed: KeepOptions) -> dict[str, Any]:
    """Given the options, return the thresholds that were given; raise InputError if one is wrong."""
    found: dict[str, Any] = {}
    if typed.guard_shrink is not None:
        found["shrink"] = None if typed.guard_shrink == NONE else _share(typed.guard_shrink)
    if typed.guard_least is not None:
        found["least"] = None if typed.guard_least == NONE else byte_count(typed.guard_least, "--guard-least")
    if typed.guard_off:
        found["off"] = tuple(dict.fromkeys(each(typed.guard_off, _guard)))
    return found


def guards_after(before: Guards | None, found: dict[str, Any]) -> Guards | None:
    """Given thresholds and those that were given, return them then; None for the usual ones."""
    guards = replace(before or Guards(), **found)
    return None if guards == Guards() else guards


def guard_words(guards: Guards | None) -> str:
    """Given a schedule's thresholds, return them in a sentence's worth of words."""
    chosen = guards or Guards()
    words = [] if chosen.shrink is None else [f"files or bytes fall by more than {chosen.shrink * 100:g} %"]
    if chosen.least is not None:
        words.append(f"there are fewer than {size(chosen.least)}")
    told = f"warns when {' or '.join(words)}" if words else "no size is warned for"
    return told + (f"; off: {', '.join(chosen.off)}" if chosen.off else "")


def _span(text: str, option: str) -> str:
    if _SPAN.fullmatch(text) is None:
        raise InputError(f"{option} {text!r}: write a span like 48h, 30d, 6m (months) or 1y6m")
    return text


def _share(text: str) -> float:
    share = percent(text, "--guard-shrink") / 100
    if not 0 < share < 1:
        raise InputError(f"--guard-shrink {text}: a share between 0 and 100 percent, or `none` for no such warning")
    return share


def _guard(text: str) -> Guard:
    try:
        return Guard(text)
    except ValueError:
        raise InputError(f"--guard-off {text!r} is no guard: there are {', '.join(Guard)}") from None
