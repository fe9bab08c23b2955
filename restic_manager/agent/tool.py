"""This agent's restic: found, remembered, looked for again when it changes. Carries orders out with it.

What an order only refers to is looked up on the host just before it runs (`lookup`), and forgotten with the run.

The agent connects and says so when there is no restic; its jobs then fail with the remedy, and the first one after an
installation succeeds without a restart.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import trio

from restic_manager.agent.carrying import FREE, Permit, ResticFacts
from restic_manager.agent.joblog import Stream
from restic_manager.agent.lookup import Lookup
from restic_manager.domain.errors import ManagerError
from restic_manager.domain.model import Failure, Outcome, Progress, Status
from restic_manager.domain.results import Row
from restic_manager.protocol.messages import CommandRun
from restic_manager.restic.orphans import end_orphans
from restic_manager.restic.run import Binary, Task, find_binary, make_asker, run_task
from restic_manager.restic.version import Feature
from restic_manager.runtime.groups import plain

logger = logging.getLogger(__name__)


class ResticTool:
    """Finds restic and runs orders with it."""

    def __init__(self, path: str | None, *, cache_dir: Path, kill_after: float, lookup: Lookup) -> None:
        self._path = path
        self._lookup = lookup
        self._cache_dir = cache_dir
        self._kill_after = kill_after
        self._found: tuple[Binary, tuple[int, int]] | None = None

    async def binary(self) -> Binary:
        """Return the restic to use; raise ManagerError with the remedy when there is none that we can use."""
        if self._found is not None:
            binary, seen = self._found
            if _stamp(binary.path) == seen:
                return binary
        self._found = None
        binary = await find_binary(self._path)
        stamp = _stamp(binary.path)
        if stamp is not None:
            self._found = (binary, stamp)
        return binary

    async def facts(self) -> ResticFacts:
        """Return what to say of restic in a hello."""
        try:
            binary = await self.binary()
        except ManagerError as error:
            return ResticFacts(None, error.message)
        return ResticFacts(str(binary.version), None)

    async def run(
        self,
        order: CommandRun,
        *,
        permit: Permit = FREE,
        on_lines: Callable[[Stream, Sequence[str]], Awaitable[None]],
        on_progress: Callable[[Progress], None],
        on_rows: Callable[[Sequence[Row]], Awaitable[None]],
        on_spawned: Callable[[int], None],
        stop: trio.Event,
    ) -> Outcome:
        """Given an order and what the host's policy adds to it, run it to its outcome."""
        try:
            binary = await self.binary()
            task = await self._task_unless(stop, order, permit)
        except ManagerError as error:
            return Outcome(status=Status.FAILED, error=Failure(code=error.code, message=error.message))
        if task is None:
            failure = Failure(code="cancelled", message="cancelled before restic ran, while its secrets were looked up")
            return Outcome(status=Status.CANCELLED, error=failure)
        return await run_task(
            task,
            binary=binary,
            cache_dir=self._cache_dir,
            on_lines=on_lines,
            on_progress=on_progress,
            on_rows=on_rows,
            on_spawned=on_spawned,
            stop=stop,
            kill_after=self._kill_after,
        )

    async def restores_over_links(self) -> bool:
        """Return whether this host's restic never writes through a link that is there; True where there is none."""
        try:
            binary = await self.binary()
        except ManagerError:
            return True
        return binary.version.has(Feature.RESTORES_OVER_LINKS)

    async def end_left_over(self, job_ids: Sequence[str]) -> None:
        """Given ids of jobs that a dead agent was running, end what is left of their processes, in order first."""
        for orphan in await end_orphans(job_ids, kill_after=self._kill_after):
            if orphan.leader:
                logger.warning("job %s: ended its restic (process %d), left by a dead agent", orphan.job_id, orphan.pid)

    async def look_up(self, order: CommandRun, pid: int | None) -> str | None:
        """Given an order whose restic is gone, give back its lock, and return the snapshot it made, if it did."""
        asker = make_asker(await self._task(order), binary=await self.binary(), cache_dir=self._cache_dir)
        if pid is not None:
            await asker.release_lock(pid)
        return await asker.find_snapshot(order.job_id)

    async def _task_unless(self, stop: trio.Event, order: CommandRun, permit: Permit) -> Task | None:
        """Return what restic is to do, with its secrets; None when `stop` was set before they were all found."""
        if not order.repo.referenced and (order.source is None or not order.source.referenced):
            return await self._task(order, permit)
        task: Task | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when, stop, nursery.cancel_scope, name="stop while looking secrets up")
                task = await self._task(order, permit)
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise plain(group) from None
        return task

    async def _task(self, order: CommandRun, permit: Permit = FREE) -> Task:
        return Task(
            job_id=order.job_id,
            schedule_id=order.schedule_id,
            spec=order.spec,
            repo=await self._lookup.open(order.repo),
            restic_host=order.restic_host,
            limits=order.limits,
            source=None if order.source is None else await self._lookup.open(order.source),
            upload_limit=permit.upload_limit,
            download_limit=permit.download_limit,
            program=permit.program,
        )


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - on every job: one system call, no object
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
