"""Running by itself: what a due slot does when the server does not answer. Promise 2.

Owns the sealed copies of the standing orders and the task that runs one when its slot's grace is over. The order is the
server's own, told in `schedule.set`; the agent never invents one. It refuses to know how jobs run and how fires travel.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import msgspec
import trio

from restic_manager.agent import records, schedule_rows
from restic_manager.agent.cutoff import Sealing
from restic_manager.agent.entries import plan_of
from restic_manager.agent.journal import Journal
from restic_manager.agent.runner import Runner
from restic_manager.agent.slots import Slots
from restic_manager.domain.errors import ManagerError, StorageError
from restic_manager.domain.instants import duration_text, parse_instant, slot_text
from restic_manager.domain.model import Offline, kind_of, slot_job_id
from restic_manager.protocol.messages import CommandRun, Entry, StandingOrder
from restic_manager.runtime.bell import Bell
from restic_manager.runtime.clock import Clock

logger = logging.getLogger(__name__)

PURPOSE: Final = "standing-order"
_LOOK_AGAIN: Final = 60.0
"""Seconds until a slot that could not run by itself is looked at again."""


def sealed_order(entry: Entry, sealing: Sealing) -> bytes | None:
    """Given an entry, return its standing order as the journal keeps it; None where it has none."""
    if entry.standing_order is None:
        return None
    return sealing.seal(entry.schedule_id, PURPOSE, msgspec.json.encode(entry.standing_order))


def open_standing_order(sealing: Sealing, schedule_id: str, sealed: bytes) -> StandingOrder:
    """Given an order as the journal keeps it, return it; raise StorageError or msgspec.DecodeError if it is damaged."""
    return msgspec.json.decode(sealing.unseal(schedule_id, PURPOSE, sealed), type=StandingOrder)


class StandingOrders:
    """The task that runs slots by their standing orders. `ring` it whenever a fire opens, closes or is answered."""

    def __init__(
        self,
        *,
        journal: Journal,
        slots: Slots,
        runner: Runner,
        clock: Clock,
        sealing: Sealing,
        host_id: str,
        lease: timedelta,
        bell: Bell,
    ) -> None:
        self._journal = journal
        self._slots = slots
        self._runner = runner
        self._clock = clock
        self._sealing = sealing
        self._host_id = host_id
        self._lease = lease
        self._bell = bell

    async def run(self) -> None:
        """Wait for a grace to end, run what it was for, for ever."""
        grace = self._slots.grace
        while True:
            for schedule_id in grace.over(trio.current_time()):
                try:
                    ran = await self._run_slot(schedule_id)
                except StorageError as error:
                    logger.warning("a slot cannot run by its standing order: %s", error.message)
                    ran = False
                if not ran:
                    grace.put_off(schedule_id, trio.current_time() + _LOOK_AGAIN)
            deadline = grace.next_deadline()
            with trio.move_on_at(float("inf") if deadline is None else deadline):
                await self._bell.wait()

    async def _run_slot(self, schedule_id: str) -> bool:
        """Hand the pending slot's standing order to the runner; return whether there was one that may run."""
        found = self._slots.pending_slot(schedule_id)
        if found is None:
            return False
        entry, slot = found
        if entry.offline is not Offline.RUN or not plan_of(entry).at(self._clock.now()).enabled:
            return False
        lapsed = await self._lapsed()
        if lapsed is not None:
            logger.warning(
                "schedule %s: slot %s waits: the server was last heard %s ago, the lease of standing orders is %s",
                entry.name,
                slot_text(slot),
                duration_text(lapsed),
                duration_text(self._lease),
            )
            return False
        order = await self._order(schedule_id)
        if order is None or kind_of(order.spec).exclusive:
            return False
        logger.warning(
            "schedule %s: slot %s: the server does not answer: running by the standing order",
            entry.name,
            slot_text(slot),
        )
        await self._runner.accept(
            CommandRun(
                job_id=slot_job_id(schedule_id, self._host_id, slot),
                spec=order.spec,
                repo=order.repo,
                restic_host=order.restic_host,
                limits=order.limits,
                hooks=order.hooks,
                schedule_id=schedule_id,
                scheduled_at=slot,
                ordered_at=self._clock.now(),
            )
        )
        # Whatever becomes of it is the runner's now; should it not even start, it is looked at again.
        self._slots.grace.put_off(schedule_id, trio.current_time() + _LOOK_AGAIN)
        return True

    async def _order(self, schedule_id: str) -> StandingOrder | None:
        sealed = await self._journal.read(lambda db: schedule_rows.sealed_order(db, schedule_id))
        if sealed is None:
            return None
        return open_standing_order(self._sealing, schedule_id, sealed)

    async def _lapsed(self) -> timedelta | None:
        """Return how long ago the server was last heard if that is beyond the lease, else None."""
        heard = await self._journal.read(lambda db: records.get_meta(db, "contact_at"))
        if heard is None:
            return None
        ago = self._clock.now() - parse_instant(heard)
        return ago if ago > self._lease else None


async def ask_anew_unless_open(journal: Journal, sealing: Sealing) -> None:
    """Given the journal, let the next hello ask for the whole set again if the orders in it do not open any more.

    One stands for all: they are sealed with the same key, and it is the key that gets lost or exchanged.
    """
    kept = await journal.read(schedule_rows.any_sealed_order)
    if kept is None:
        return
    schedule_id, sealed = kept
    try:
        sealing.unseal(schedule_id, PURPOSE, sealed)
    except ManagerError as error:
        logger.warning("the standing orders kept here do not open: the server is asked for them: %s", error.message)
        await journal.write(lambda db: records.set_meta(db, "applied_with_orders", "0"))


def seal_with(sealing: Sealing | None) -> Callable[[Entry], bytes | None]:
    """Given what seals, or None for an agent that keeps no standing orders, return how entries' orders are kept."""
    if sealing is None:
        return lambda _entry: None
    return lambda entry: sealed_order(entry, sealing)
