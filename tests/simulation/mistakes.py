"""Mistakes planted in the product, one at a time, to see that the simulation finds them: each one line gone wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import trio

from restic_manager.agent import schedule_rows
from restic_manager.agent.slots import Slots
from restic_manager.agent.tracking import Change
from restic_manager.domain import planning
from restic_manager.domain.dispatching import Queued
from restic_manager.domain.planning import Mark
from restic_manager.protocol.messages import Ack, DurableReport
from restic_manager.server import intake, reports
from restic_manager.server.intake import Intake
from restic_manager.server.store import slots as slot_rows

if TYPE_CHECKING:
    import sqlite3

    from restic_manager.link import Incoming
    from restic_manager.server.reports import Taken


_COMMIT: Final = 0.02
"""Seconds a commit takes on a real disk, in which a line sends what was put on it. Here it takes none."""


def planted(name: str | None) -> AbstractContextManager[object]:
    """Given the name of a mistake (None: none), return what makes it while entered. Raise KeyError for no such one."""
    return nullcontext() if name is None else _MISTAKES[name]()


@contextmanager
def _watermark_first() -> Iterator[None]:
    """The agent commits that a slot is decided before it commits what was decided."""
    really = Slots._commit

    async def commit(self: Slots, changes: list[Change], **more: Any) -> None:
        def write(db: sqlite3.Connection) -> None:
            for change in changes:
                tracked = self._tracked.get(change.schedule_id)
                if tracked is not None:
                    early = replace(tracked.mark, watermark=change.step.mark.watermark)
                    schedule_rows.save_mark(db, change.schedule_id, tracked.mark, early)

        if any(self._is_dirty(change) for change in changes):
            await self._journal.write(write)
        await really(self, changes, **more)

    with mock.patch.object(Slots, "_commit", commit):
        yield


@contextmanager
def _ack_first() -> Iterator[None]:
    """The server acknowledges reports before it has committed them."""
    really: Callable[[Intake, list[Incoming]], Awaitable[Taken]] = Intake._take

    async def take(self: Intake, batch: list[Incoming]) -> Taken:
        seqs = [seq for incoming in batch if (seq := getattr(incoming.message, "seq", None)) is not None]
        if seqs:
            self._session.link.put(Ack(through=max(seqs)))
            await trio.sleep(_COMMIT)
        return await really(self, batch)

    with mock.patch.object(intake.Intake, "_take", take):
        yield


@contextmanager
def _no_adoption() -> Iterator[None]:
    """The server takes no run that a host began by its standing order."""
    with mock.patch.object(slot_rows, "adopt", return_value="planted: it is not adopted"):
        yield


@contextmanager
def _baseline_before() -> Iterator[None]:
    """A host catches up slots of a schedule from before it was the host's."""

    def begin(*, effective_from: datetime, decided_through: datetime | None) -> Mark:
        return Mark(watermark=effective_from - timedelta(days=1))

    with mock.patch.object(planning, "begin", begin):
        yield


@contextmanager
def _silent_ranges() -> Iterator[None]:
    """Slots that are closed many at a time are told to nobody."""
    with mock.patch.object(planning._Draft, "close_range", return_value=None):
        yield


@contextmanager
def _reports_dropped() -> Iterator[None]:
    """The server counts every fifth report as taken and does nothing about it."""
    really = reports._Batch._apply

    def apply(self: reports._Batch, report: DurableReport) -> None:
        if report.seq % 5:
            really(self, report)

    with mock.patch.object(reports._Batch, "_apply", apply):
        yield


@contextmanager
def _nobody_alone() -> Iterator[None]:
    """The server gives what needs a repository to itself a place like any other job."""
    with mock.patch.object(Queued, "needs_all", property(lambda _job: False)):
        yield


_MISTAKES: Final[dict[str, Callable[[], AbstractContextManager[None]]]] = {
    "watermark order": _watermark_first,
    "ack before commit": _ack_first,
    "job adoption": _no_adoption,
    "baseline per host": _baseline_before,
    "silent coalescing": _silent_ranges,
    "dropped reports": _reports_dropped,
    "nobody alone": _nobody_alone,
}
