"""What does not fit about a request, in words that name the value and what would fit. Pure.

Owns the way from msgspec's sentence to ours. Refuses to know operations, and to repeat what may be a secret.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

_AT: Final = re.compile(r"^(?P<why>.*) - at `\$(?P<path>[^`]*)`$", re.DOTALL)
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[([0-9]+)\]")
_LENGTH: Final = re.compile(
    r"^Expected `(?P<type>str|array|object|bytes)` of length (?P<sign>[<>]=) (?P<bound>[0-9]+)$"
)
_TOLD: Final = frozenset(
    {"spec", "name", "repo", "host", "hosts", "labels", "of_host", "of_schedule", "retention", "guards", "cron"}
    | {"timezone", "paths", "excludes", "exclude_files", "exclude_if_present", "files_from", "tags", "reason"}
)
"""The fields whose values may be repeated: none holds a secret."""
_COUNTED: Final = {"str": "character", "bytes": "byte"}
_SHOWN: Final = 40


def misfit(error: Exception, raw: bytes) -> str:
    """Given why a body could not be decoded, and the body, return it in one sentence."""
    said = str(error)[:400]
    found = _AT.match(said)
    if found is None:
        return f"the request is not valid: {said}"
    path, why = found["path"].removeprefix("."), _words(found["why"])
    value = _value(raw, found["path"]) if re.split(r"[.\[]", path)[0] in _TOLD else None
    if not isinstance(value, str):
        return f"the request is not valid: {path}: {why}"
    shown = repr(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!r}… ({len(value):,} characters)"
    return f"the request is not valid: {path} is {shown}: {why}"


def _words(why: str) -> str:
    length = _LENGTH.match(why)
    if length is None:
        return why[:1].lower() + why[1:]
    if (length["sign"], length["bound"]) == (">=", "1"):
        return "it must not be empty"
    bound, most = int(length["bound"]), "at most" if length["sign"] == "<=" else "at least"
    return f"{most} {bound:,} {_COUNTED.get(length['type'], 'value')}{'' if bound == 1 else 's'}"


def _value(raw: bytes, path: str) -> Any:
    """Return what stands at a path of the body, None if it cannot be found."""
    steps = list(_STEP.finditer(path))
    if "".join(step[0] for step in steps) != path:
        return None
    try:
        value: Any = msgspec.json.decode(raw)
        for step in steps:
            value = value[step[1]] if step[1] is not None else value[int(step[2])]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
        return None
    return value
