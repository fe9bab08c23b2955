"""Numbers that stay the same: what a host and a schedule hash to, on every peer and for ever.

Owns the digest. It refuses to know what the number is used for; each use names its own purpose, so that two uses of the
same pair are independent of each other.
"""

from __future__ import annotations

import hashlib


def stable_number(below: int, *, purpose: str, host_id: str, schedule_id: str) -> int:
    """Given a bound of at least 1, a purpose, a host and a schedule, return their own number in [0, below).

    The same on all machines and in all versions: changing this moves every hashed schedule of a fleet at once.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in (purpose, host_id, schedule_id):
        encoded = part.encode()
        # The length keeps ("ab", "c") and ("a", "bc") apart.
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return int.from_bytes(digest.digest(), "big") % below


def splay_offset(splay_seconds: int, *, host_id: str, schedule_id: str) -> int:
    """Given a splay in seconds, return this host's stable offset in [0, splay) for this schedule; 0 for no splay."""
    if splay_seconds <= 0:
        return 0
    return stable_number(splay_seconds, purpose="splay", host_id=host_id, schedule_id=schedule_id)
