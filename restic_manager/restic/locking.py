"""Who holds locks on a repository: kind `locks`, and what is found out when a job could not get its own.

Nobody waits for a lock to look at one. Refuses to judge whether a lock is stale and to remove any.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

import trio
from msgspec.structs import replace

from restic_manager.domain.instants import duration_text
from restic_manager.domain.model import Kind, Outcome
from restic_manager.domain.results import CopyStats, ForgetStats, ListStats, Lock, LockedBy, LockRow
from restic_manager.restic.after import Asker, LookupFailedError
from restic_manager.restic.answers.locks import IdsReader, LockReader
from restic_manager.restic.answers.reader import Finding
from restic_manager.restic.command import cat_lock_command, list_locks_command
from restic_manager.restic.stage import Ran
from restic_manager.restic.verdict import failure
from restic_manager.restic.work import Work

MOST: Final = 100
"""Locks that are named in an outcome."""


async def list_locks(work: Work) -> Outcome:
    """List the locks there are. One that goes away meanwhile is none of them."""
    ids = IdsReader()
    ran = await work.stage.run(list_locks_command(work.setting), ids)
    if ran.end.code != 0:
        return work.judged(ran, Finding())
    given = 0
    unread: dict[str, Ran] = {}
    for lock_id in ids.found:
        reader = LockReader(lock_id)
        looked = await work.stage.run(cat_lock_command(work.setting, lock_id), reader)
        lock = reader.lock() if looked.end.code == 0 else None
        if lock is not None:
            await work.stage.give([LockRow(lock=lock)])
            given += 1
        elif looked.stopped is not None:
            return work.judged(looked, Finding(ListStats(rows=given)))
        else:
            unread[lock_id] = looked
    result = ListStats(rows=given)
    if not unread:
        return work.judged(ran, Finding(result))
    again = IdsReader()
    ran = await work.stage.run(list_locks_command(work.setting), again)
    left = [lock_id for lock_id in unread if lock_id in again.found]
    if ran.end.code != 0 or not left:
        return work.judged(ran, Finding(result))
    return work.judged(unread[left[0]], Finding(result, "repo_damaged", f"The lock {left[0]} cannot be read."))


async def name_holders(
    outcome: Outcome,
    asker: Asker,
    kind: Kind,
    *,
    say: Callable[[str], Awaitable[None]],
    now: Callable[[], datetime],
    stop: trio.Event,
) -> Outcome:
    """Given an outcome with code `locked`, return it with whose locks stand in this kind's way, if that can be known.

    Best effort, and no longer than the asker's patience: what cannot be found out is said in the job's log.
    """
    if outcome.error is None or outcome.error.code != "locked" or kind in {Kind.LOCKS, Kind.UNLOCK} or stop.is_set():
        return outcome
    locks: list[Lock] | None = None
    problem = "the job is to stop."
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_when, stop, nursery.cancel_scope, name="stop while looking at locks")
        try:
            locks = await asker.whose_locks(MOST)
        except LookupFailedError as failed:
            problem = failed.message
        nursery.cancel_scope.cancel()
    if locks is None:
        await say(f"whose lock it is could not be found out: {problem}")
        return outcome
    # A shared lock keeps out only those who want the repository to themselves.
    held = tuple(lock for lock in locks if lock.exclusive or kind.exclusive)
    if not held:
        await say("no lock that stands in the way is there any more")
    for lock in held:
        await say(f"lock {lock.id[:8]}: {_holder(lock, now())}")
    more = f", and {len(held) - 1} more" if len(held) > 1 else ""
    detail = f"It is held by {_holder(held[0], now())}{more}." if held else ""
    error = failure("locked", detail, outcome.error.lines)
    return replace(outcome, error=error, result=outcome.result if _has_done(outcome) else LockedBy(locks=held))


def _has_done(outcome: Outcome) -> bool:
    """Whether it changed something before it came upon the lock: then that is what its result has to tell."""
    result = outcome.result
    return bool(
        (isinstance(result, ForgetStats) and result.removed) or (isinstance(result, CopyStats) and result.copied)
    )


def _holder(lock: Lock, now: datetime) -> str:
    age = duration_text(max(now - lock.time, timedelta()))
    how = "exclusive" if lock.exclusive else "shared"
    return f"process {lock.pid} on {lock.hostname} (user {lock.username or 'unknown'}, {how}, taken {age} ago)"


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
