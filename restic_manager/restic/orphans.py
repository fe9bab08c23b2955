"""restic processes of an agent that is gone. Owns finding them by the job's id in their environment, and ending them.

An agent that was killed cannot stop its restic, which then runs on unseen. The next agent knows which jobs were
running; what still carries their id is theirs. Linux only: elsewhere nothing is found. Refuses to know what the jobs'
fate is.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import trio

from restic_manager.restic.command import JOB_ID_VARIABLE

_PROC = Path("/proc")
_PREFIX = JOB_ID_VARIABLE.encode() + b"="
_KILL_WAIT = 10.0


@dataclass(frozen=True, slots=True)
class Orphan:
    """A process that carries a job's id: the one we spawned (leader) or something it started."""

    pid: int
    job_id: str
    leader: bool


def find_orphans(job_ids: Collection[str]) -> list[Orphan]:
    """Given jobs that no running agent has, return the processes that still carry their ids, leaders first. Blocks."""
    found = [orphan for folder in _PROC.glob("[0-9]*") if (orphan := _look(int(folder.name), job_ids)) is not None]
    return sorted(found, key=lambda orphan: (not orphan.leader, orphan.pid))


async def end_orphans(job_ids: Collection[str], *, kill_after: float = 30.0) -> list[Orphan]:
    """Given jobs that no running agent has, end what is left of them, in order first; return what there was.

    SIGINT, because every version gives its lock back on it, and nobody can say any more which version this is.
    """
    if not job_ids:
        return []
    found = await trio.to_thread.run_sync(find_orphans, job_ids)
    async with trio.open_nursery() as nursery:
        for orphan in found:
            nursery.start_soon(_end, orphan, kill_after, name=f"end orphan {orphan.pid}")
    return found


async def _end(orphan: Orphan, kill_after: float) -> None:
    try:
        handle = os.pidfd_open(orphan.pid)
    except OSError:
        return  # it has ended meanwhile
    try:
        # The handle is for one process for ever; only now is it certain that it is the one that was found.
        if _look(orphan.pid, {orphan.job_id}) is None:
            return
        if orphan.leader:
            signal.pidfd_send_signal(handle, signal.SIGINT)
        with trio.move_on_after(kill_after):
            await trio.lowlevel.wait_readable(handle)
            return
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        with trio.move_on_after(_KILL_WAIT):
            await trio.lowlevel.wait_readable(handle)
    except ProcessLookupError:
        return
    finally:
        os.close(handle)


def _look(pid: int, job_ids: Collection[str]) -> Orphan | None:
    """Given a process, return it as an orphan if it carries one of these ids."""
    try:
        environment = (_PROC / str(pid) / "environ").read_bytes()
        for entry in environment.split(b"\0"):
            if entry.startswith(_PREFIX) and (job_id := entry[len(_PREFIX) :].decode("ascii", "replace")) in job_ids:
                return Orphan(pid, job_id, leader=os.getpgid(pid) == pid)
    except OSError:
        return None  # gone meanwhile, or not ours to look at
    return None
