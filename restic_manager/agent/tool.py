"""This agent's restic: found, remembered, looked for again when it changes. Carries orders out with it.

The agent connects and says so when there is no restic; its jobs then fail with the remedy, and the first one after an
installation succeeds without a restart.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from restic_manager.agent.joblog import Stream
from restic_manager.domain.errors import ManagerError
from restic_manager.domain.model import Failure, Outcome, Progress, Status
from restic_manager.protocol.messages import CommandRun
from restic_manager.restic.run import Binary, Task, find_binary, run_task


@dataclass(frozen=True)
class ResticFacts:
    """What is known of this host's restic, for the hello: its version, or what is wrong."""

    version: str | None
    problem: str | None


class ResticTool:
    """Finds restic and runs orders with it."""

    def __init__(self, path: str | None, *, cache_dir: Path, kill_after: float) -> None:
        self._path = path
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
        on_lines: Callable[[Stream, Sequence[str]], Awaitable[None]],
        on_progress: Callable[[Progress], None],
        stop: trio.Event,
    ) -> Outcome:
        """Given an order, run it to its outcome."""
        try:
            binary = await self.binary()
        except ManagerError as error:
            return Outcome(status=Status.FAILED, error=Failure(code=error.code, message=error.message))
        task = Task(
            job_id=order.job_id,
            schedule_id=order.schedule_id,
            spec=order.spec,
            repo=order.repo,
            restic_host=order.restic_host,
            limits=order.limits,
        )
        return await run_task(
            task,
            binary=binary,
            cache_dir=self._cache_dir,
            on_lines=on_lines,
            on_progress=on_progress,
            stop=stop,
            kill_after=self._kill_after,
        )


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - on every job: one system call, no object
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
