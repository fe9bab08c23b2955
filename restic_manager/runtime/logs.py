"""The program's own log: one line a record on standard error, in UTC, without secrets. Decides form, not content.

A line is `2026-03-29T01:30:00.123Z INFO restic_manager.link.handshake: text key=value`. What came from elsewhere cannot
break out of its line or steer a terminal: control characters are written as escapes.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, TextIO

from restic_manager.domain.errors import InputError
from restic_manager.runtime.redact import Redactor

LEVELS: Final = ("debug", "info", "warning", "error")
_OUR_ROOT: Final = "restic_manager"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PLAIN = re.compile(r"[^\s\"'=]+")


def facts(**values: object) -> dict[str, Mapping[str, object]]:
    """Given named values, return what `extra=` takes to have them written as `name=value` at the end of the line."""
    return {"facts": values}


def set_up_logging(level: str, redactor: Redactor, *, stream: TextIO | None = None) -> None:
    """Given a level's name, send everything from it up to `stream` (standard error), redacted; replace what was there.

    Libraries speak from warning up only, unless the level is debug. Raise InputError for another name.
    """
    check_level(level)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter(redactor))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    number = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(number if level == "debug" else max(number, logging.WARNING))
    logging.getLogger(_OUR_ROOT).setLevel(number)
    logging.captureWarnings(capture=True)
    # Standard error may be a pipe whose reader has gone: that must not fill it with tracebacks about itself.
    logging.raiseExceptions = False


def check_level(level: str) -> None:
    """Given a level's name, return if there is such a level; raise InputError otherwise."""
    if level not in LEVELS:
        raise InputError(f"{level!r} is not a log level: use one of {', '.join(LEVELS)}")


class LineFormatter(logging.Formatter):
    """A record as one redacted line."""

    def __init__(self, redactor: Redactor) -> None:
        """Given the redactor, put every line through it."""
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """Given a record, return its line, its traceback in it, parts separated by ` | `."""
        at = datetime.fromtimestamp(record.created, UTC)
        text = record.getMessage()
        named: Mapping[str, object] = getattr(record, "facts", {})
        if named:
            text += "".join(f" {name}={_value(value)}" for name, value in named.items())
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            lines = "".join(traceback.format_exception(error)).splitlines()
            text += "".join(f" | {line.rstrip()}" for line in lines if line.strip())
        stamp = at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
        return _CONTROL.sub(_escape, self._redactor.text(f"{stamp} {record.levelname} {record.name}: {text}"))


def _value(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
