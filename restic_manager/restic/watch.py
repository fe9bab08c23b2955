"""Why a run should stop before its end: asked to, out of time, or stuck. Owns the first reason and the bell for it.

Refuses to know how restic is stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from restic_manager.domain.model import Limits, Progress
from restic_manager.restic.verdict import Stop


class Halt:
    """Rings `event` once, with the first `reason`. The limits count from its making."""

    def __init__(self, limits: Limits, *, watch_stall: bool) -> None:
        self.event = trio.Event()
        self.reason: Stop | None = None
        self._time_limit = limits.time_limit
        self._stall_limit = limits.stall_limit if watch_stall else None
        self._started_at = self._moved_at = trio.current_time()
        self._measure: tuple[int, ...] = ()
        self._scopes: list[trio.CancelScope] = []

    def progressed(self, progress: Progress) -> None:
        """Given the latest progress, remember now if anything in it has moved: files or bytes, found or done."""
        measure = (progress.files_done, progress.bytes_done, progress.files_total, progress.bytes_total)
        if measure != self._measure:
            self._measure = measure
            self._moved_at = trio.current_time()

    @contextmanager
    def cutting_short(self) -> Iterator[None]:
        """Leave the body as soon as the bell rings."""
        with trio.CancelScope() as scope:
            if self.event.is_set():
                scope.cancel()
            self._scopes.append(scope)
            try:
                yield
            finally:
                self._scopes.remove(scope)

    async def watch(self, asked: trio.Event) -> None:
        """Wait for a reason to stop, until cancelled. `asked` is the caller's own bell."""
        async with trio.open_nursery() as nursery:
            if self._time_limit is not None:
                nursery.start_soon(self._watch_time, self._time_limit, name="restic time limit")
            if self._stall_limit is not None:
                nursery.start_soon(self._watch_stall, self._stall_limit, name="restic stall limit")
            await asked.wait()
            self.ring(Stop.CANCELLED)

    async def _watch_time(self, limit: float) -> None:
        await trio.sleep_until(self._started_at + limit)
        self.ring(Stop.TIME_LIMIT)

    async def _watch_stall(self, limit: float) -> None:
        while (until := self._moved_at + limit) > trio.current_time():  # noqa: ASYNC110  # time itself is the event
            await trio.sleep_until(until)
        self.ring(Stop.STALLED)

    def ring(self, reason: Stop) -> None:
        """Given a reason, ring; later reasons change nothing."""
        if self.reason is None:
            self.reason = reason
            self.event.set()
            for scope in self._scopes:
                scope.cancel()
