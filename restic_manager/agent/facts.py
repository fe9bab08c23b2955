"""What an agent says about its host and itself: system, name, boot, what it can do. Decides nothing, never fails."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path

from restic_manager.protocol.messages import (
    CAP_HOOKS,
    CAP_KINDS,
    CAP_PINS,
    CAP_PROBE,
    CAP_REFERENCES,
    CAP_ROTATE,
    CAP_STANDING_ORDERS,
)


def capabilities(*, standing_orders: bool, pinned: bool) -> tuple[str, ...]:
    """Given whether it keeps standing orders and knows its server by a pin, return what the agent can do."""
    always = (CAP_KINDS, CAP_HOOKS, CAP_ROTATE, CAP_REFERENCES, CAP_PROBE)
    return (*always, *((CAP_STANDING_ORDERS,) if standing_orders else ()), *((CAP_PINS,) if pinned else ()))


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
