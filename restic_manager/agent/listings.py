"""The rows of listing jobs on their way to the server: over the link that stands, in order, never kept here.

A listing goes over one link from its first row to its last. What a broken link has lost cannot be told, so a job whose
answer are its rows is stopped then and fails; any other goes on without. Knows nothing of restic and of verdicts.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from restic_manager.domain.model import Failure, Outcome, Spec, Status, kind_of
from restic_manager.domain.results import Row
from restic_manager.domain.specs import ForgetSpec
from restic_manager.link import LinkClosed
from restic_manager.protocol.fitting import rows_that_fit
from restic_manager.protocol.messages import JobRows, Message

logger = logging.getLogger(__name__)

Send = Callable[[Message], Awaitable[None]]
"""Waits for room on the link; raises LinkClosed when it is over."""

_LOST: Final = Failure(
    code="rows_lost",
    message="the link to the server broke (or the job was to stop) before all rows were sent: ask again",
)


@dataclass(eq=False, frozen=True)
class _Way:
    """One link. send: None if its server takes no rows."""

    send: Send | None


class Listings:
    """Which link rows go over now."""

    def __init__(self) -> None:
        self.way: _Way | None = None

    def opened(self, send: Send | None) -> None:
        """A link stands: how rows are sent over it, None when its server takes none."""
        self.way = _Way(send)

    def closed(self) -> None:
        """No link stands."""
        self.way = None


class Listing:
    """One job's rows."""

    def __init__(self, listings: Listings, job_id: str, spec: Spec, stop: trio.Event) -> None:
        """`stop` is set when rows are lost that the job was for."""
        self._listings = listings
        self._job_id = job_id
        self._stop = stop
        # Asked for what it has to tell, as a forget's dry run is too; any other job does something, and tells of it.
        self._needed = kind_of(spec).reading or (isinstance(spec, ForgetSpec) and spec.dry_run)
        self._way: _Way | None = None
        self._sent = 0
        self._over = False
        self.lost = False

    async def take(self, rows: Sequence[Row]) -> None:
        """Send the next rows; returns when the link has room for them, so that a slow server slows restic down."""
        for part in rows_that_fit(rows):
            if self._over or not await self._send(part):
                return

    async def _send(self, part: tuple[Row, ...]) -> bool:
        if self._way is None:
            self._way = self._listings.way
        if self._way is None or self._way is not self._listings.way:
            return self._lose()
        if self._way.send is None:
            self._over = True
            return False
        if not await self._handed_over(self._way.send, JobRows(job_id=self._job_id, first=self._sent + 1, rows=part)):
            return self._lose()
        self._sent += len(part)
        return True

    async def _handed_over(self, send: Send, message: JobRows) -> bool:
        """Send when there is room, and return True; False when the link is over, or the job is to stop before that."""
        went = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_at_stop, nursery.cancel_scope, name=f"rows of job {self._job_id[:8]}")
            try:
                await send(message)
                went = True
            except LinkClosed as closed:
                logger.info("job %s: its rows cannot be sent: %s", self._job_id, closed)
            nursery.cancel_scope.cancel()
        return went

    async def _cancel_at_stop(self, scope: trio.CancelScope) -> None:
        await self._stop.wait()
        scope.cancel()

    def _lose(self) -> bool:
        self._over = True
        if self._needed:
            self.lost = True
            self._stop.set()
        return False

    def judged(self, outcome: Outcome) -> Outcome:
        """Given how the job ended, return its outcome: lost rows are a failure, unless it has failed anyway."""
        if not self.lost or outcome.status is Status.FAILED:
            return outcome
        return Outcome(status=Status.FAILED, exit_code=outcome.exit_code, error=_LOST, result=outcome.result)
