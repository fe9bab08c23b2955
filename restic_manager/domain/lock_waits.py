"""How long a job waits for a lock that the server could not know of: another program's, or one that was left behind.

One table for every order there is. A job that waits keeps its place on the repository and on its host, so what holds
up nobody else there waits long, and what must be alone only as long as a short command of somebody else's takes: a lock
that stands longer is looked at (`stale_locks`) or tried again. Pure; refuses to know how it is waited.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from restic_manager.domain.model import Kind, Limits

SHARED: Final = 300
READING: Final = 30
ALONE: Final = 60
"""Seconds; a wait of 0 is none at all."""
_LOCKLESS: Final = frozenset({Kind.INIT, Kind.UNLOCK, Kind.LOCKS})


def with_lock_wait(limits: Limits, kind: Kind) -> Limits:
    """Given a job's limits, return them with a wait for locks: the one that was said, else what the kind has.

    What is not said takes at most half of the time in which the job has to get on, or to end.
    """
    if limits.lock_wait is not None or kind in _LOCKLESS:
        return limits
    wait = READING if kind.reading else ALONE if kind.exclusive else SHARED
    bounds = [bound for bound in (limits.time_limit, limits.stall_limit) if bound is not None]
    return replace(limits, lock_wait=min([wait, *(bound // 2 for bound in bounds)]))
