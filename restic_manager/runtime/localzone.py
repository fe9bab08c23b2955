"""Which time zone this machine's clock on the wall is in. Reads the machine, decides nothing, never fails."""

from __future__ import annotations

import os
from pathlib import Path

from restic_manager.domain.errors import InputError
from restic_manager.domain.zones import check_timezone


def local_timezone() -> str:
    """Return the IANA name: TZ's, /etc/timezone's or where /etc/localtime points; UTC when none is known."""
    named = os.environ.get("TZ", "").lstrip(":")
    return next((name for name in (named, _etc_timezone(), _etc_localtime()) if _is_zone(name)), "UTC")


def _is_zone(name: str) -> bool:
    try:
        check_timezone(name)
    except InputError:
        return False
    return True


def _etc_timezone() -> str:
    try:
        return Path("/etc/timezone").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _etc_localtime() -> str:
    try:
        target = str(Path("/etc/localtime").readlink())
    except OSError:
        return ""
    return target.partition("zoneinfo/")[2]
