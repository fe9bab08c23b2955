"""Which zone tables this process reads. Both peers say it, because a slot is only as sure as the tables agree."""

from __future__ import annotations

import functools
import zoneinfo
from pathlib import Path


@functools.cache
def tzdata_version() -> str:
    """Return the version of the zone tables in use: the system's (which zoneinfo prefers), else the package's."""
    for folder in zoneinfo.TZPATH:
        tables = Path(folder) / "tzdata.zi"
        try:
            with tables.open(encoding="ascii") as lines:
                first = lines.readline().split()
        except (OSError, UnicodeDecodeError):
            continue
        if len(first) == 3 and first[1] == "version":
            return first[2]
    return _packaged_version()


def _packaged_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        # 2025.2 is the package's spelling of 2025b
        year, _, number = version("tzdata").partition(".")
        return f"{year}{chr(ord('a') + int(number.partition('.')[0]) - 1)}"
    except (PackageNotFoundError, ValueError):
        return "unknown"
