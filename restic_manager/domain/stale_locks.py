"""Whether a lock that a job came upon may be removed, and by whom: what `unlock` does there is restic's own, safe rule.

restic removes a lock that is older than 30 minutes (a living holder renews it every 5), and on the holder's own machine
one whose process is gone. So the holder's own agent is asked where it is one of ours; a stranger's lock is left until
it is that old, and nothing of ours is on the repository. Nobody's living lock is ever removed. Pure: refuses to know
rows, and how an unlock is carried out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from restic_manager.domain.instants import duration_text
from restic_manager.domain.results import Lock

STALE_AFTER: Final = timedelta(minutes=30)
"""restic takes a lock for abandoned when it was not renewed for so long."""
FRUITLESS_FOR: Final = timedelta(minutes=10)
"""After an unlock that removed nothing, none is tried on the repository for so long."""


class Scene(Struct, frozen=True, kw_only=True):
    """What is known where the lock was met.

    machines: of our hosts that are there, by what they call themselves. failed_host: whose job met the lock. ours: a
    job of ours that is on the repository now. under_way: an unlock of the server's that is not over. fruitless_at: when
    the last one that removed nothing ended. tried: one was made for this run already.
    """

    machines: Mapping[str, str]
    failed_host: str
    ours: str | None = None
    under_way: str | None = None
    fruitless_at: datetime | None = None
    tried: bool = False


class Remove(Struct, frozen=True):
    """An unlock is to be made on this host, and why there."""

    host_id: str
    why: str


class Join(Struct, frozen=True):
    """An unlock is under way already: wait for that one."""

    job_id: str


class Leave(Struct, frozen=True):
    """Nothing is to be removed, and why not."""

    why: str


def decide(locks: Sequence[Lock], scene: Scene, *, now: datetime) -> Remove | Join | Leave:
    """Given the locks that stand in a job's way, return what is to be done about them."""
    if not locks:
        return Leave("whose lock it is could not be found out")
    if scene.tried:
        return Leave("a stale lock was looked for already, for this run")
    if scene.under_way is not None:
        return Join(scene.under_way)
    if scene.fruitless_at is not None and now - scene.fruitless_at < FRUITLESS_FOR:
        return Leave(f"removing stale locks was tried {_ago(scene.fruitless_at, now)} ago, and there was none")
    ours = next((lock for lock in locks if lock.hostname in scene.machines), None)
    if ours is not None:
        why = f"process {ours.pid} of {ours.hostname} holds it, and that host can say whether it lives"
        return Remove(scene.machines[ours.hostname], why)
    return _strangers(min(locks, key=lambda lock: lock.time), scene, now)


def _strangers(lock: Lock, scene: Scene, now: datetime) -> Remove | Leave:
    """Return what is to be done about the oldest lock, whose holder cannot be asked."""
    held = f"{lock.hostname}, which is no host of ours that is online, took it {_ago(lock.time, now)} ago"
    if now - lock.time < STALE_AFTER:
        return Leave(f"{held}: it is left alone until it is older than {duration_text(STALE_AFTER)}")
    if scene.ours is not None:
        return Leave(f"{held}, but job {scene.ours} is on the repository now")
    return Remove(scene.failed_host, f"{held} and has not renewed it since")


def _ago(instant: datetime, now: datetime) -> str:
    return duration_text(max(now - instant, timedelta()))
