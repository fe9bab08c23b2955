"""What an agent says about its host: system, name, boot. Reads the host, decides nothing, never fails."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path


@functools.cache
def operating_system() -> str:
    """Return the distribution and kernel, e.g. `Debian GNU/Linux 12 (Linux 6.1.0 x86_64)`."""
    kernel = f"{platform.system()} {platform.release()} {platform.machine()}"
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']} ({kernel})"[:256]
    except (OSError, KeyError):
        return kernel[:256]


def machine() -> str:
    """Return the host's own name of itself, as restic writes it into its locks."""
    return os.uname().nodename[:256]


@functools.cache
def boot_id() -> str:
    """Return the kernel's id of this boot, or `unknown`."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return "unknown"
