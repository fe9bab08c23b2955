"""What an agent says about its host: system, zone, boot. Reads the host, decides nothing, never fails."""

from __future__ import annotations

import functools
import os
import platform
import zoneinfo
from pathlib import Path


@functools.cache
def operating_system() -> str:
    """Return the distribution and kernel, e.g. `Debian GNU/Linux 12 (Linux 6.1.0 x86_64)`."""
    kernel = f"{platform.system()} {platform.release()} {platform.machine()}"
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']} ({kernel})"[:256]
    except (OSError, KeyError):
        return kernel[:256]


def timezone() -> str:
    """Return the host's IANA zone name: TZ, /etc/timezone or where /etc/localtime points; UTC when none is known."""
    known = zoneinfo.available_timezones()
    named = os.environ.get("TZ", "").lstrip(":")
    return next((name for name in (named, _etc_timezone(), _etc_localtime()) if name in known), "UTC")


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


@functools.cache
def boot_id() -> str:
    """Return the kernel's id of this boot, or `unknown`."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return "unknown"
