"""The cron loop: look at what is due, sleep until the next instant, look again. Safe to cancel anywhere.

Decides only what time it is to be: after any wake everything is computed anew from the wall clock, never from why it
woke. Notices when the clock jumped (a suspend, an administrator, NTP) by comparing it with the monotonic one.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import trio

from restic_manager.agent import records, schedule_rows
from restic_manager.agent.journal import TRY_AGAIN, Journal
from restic_manager.agent.slots import Slots
from restic_manager.domain.errors import StorageError
from restic_manager.domain.instants import duration_text, instant_text
from restic_manager.domain.planning import CLOCK_HOLD
from restic_manager.protocol.messages import Evidence
from restic_manager.runtime.clock import Clock
from restic_manager.runtime.wakeup import Alarm

logger = logging.getLogger(__name__)

_JUMP: Final = timedelta(seconds=5)
"""The wall clock may drift from the monotonic one by this much between two looks before it counts as a jump."""
_STAMP_EVERY: Final = timedelta(seconds=60)
"""How often the journal notes that the agent is alive: the evidence of when it was not."""


class Scheduler:
    """Turns the passing of time into decided slots."""

    def __init__(
        self,
        slots: Slots,
        journal: Journal,
        clock: Clock,
        alarm: Alarm,
        *,
        settle: timedelta,
        clock_set: Callable[[], None],
    ) -> None:
        """settle: how long missed runs wait after a start or a resume. clock_set: told before anything is decided by a
        clock that was set, or ran on while this machine slept.
        """
        self._slots = slots
        self._journal = journal
        self._clock = clock
        self._alarm = alarm
        self._settle = settle
        self._clock_set = clock_set
        self._stamped: datetime | None = None
        self._gaps_kept: tuple[Evidence, ...] = ()

    async def run(self) -> None:
        """Look, sleep, look, for ever."""
        wall, ticks = self._clock.now(), trio.current_time()
        await self._wake_up(wall)
        while True:
            now = self._clock.now()
            passed = timedelta(seconds=trio.current_time() - ticks)
            jumped = (now - wall) - passed
            if abs(jumped) > _JUMP:
                self._clock_set()
            if jumped > _JUMP:
                self._jumped_forward(wall, now)
            elif jumped < -_JUMP:
                logger.warning("the clock was set back by %s, to %s", duration_text(-jumped), instant_text(now))
            wall, ticks = now, trio.current_time()
            wake = await self._look(now, everything=jumped < -CLOCK_HOLD)
            await self._alarm.wait(wake)

    async def _look(self, now: datetime, *, everything: bool) -> datetime | None:
        """Decide what is due, return when to look again. What cannot be journaled is not decided: it is due still."""
        try:
            wake = await self._slots.look(now, everything=everything)
            await self._stamp(now)
        except StorageError as error:
            logger.error("%s; no slot can be decided until that is mended; looking again", error.message)  # noqa: TRY400 - the message says it all
            return now + timedelta(seconds=TRY_AGAIN)
        return wake

    async def stamp(self) -> None:
        """Note in the journal that the agent is alive now (also when it stops on purpose)."""
        now = self._clock.now()
        stamps = ("alive_at", "contact_at") if self._slots.in_contact else ("alive_at",)
        gaps = self._slots.gaps.known

        def write(db: sqlite3.Connection) -> None:
            for stamp in stamps:
                records.set_meta(db, stamp, instant_text(now))
            if gaps != self._gaps_kept:  # with the stamp that ends them: by that alone the next start could not know
                schedule_rows.save_gaps(db, gaps)

        await self._journal.write(write)
        self._stamped, self._gaps_kept = now, gaps

    async def _stamp(self, now: datetime) -> None:
        if self._stamped is None or abs(now - self._stamped) >= _STAMP_EVERY:
            await self.stamp()

    async def _wake_up(self, now: datetime) -> None:
        """The first look: say what was slept through, and let catch-up runs wait for the network."""
        alive_at = await self._journal.read(lambda db: records.get_meta(db, "alive_at"))
        if alive_at is not None:
            since = datetime.fromisoformat(alive_at)
            self._slots.note_gap(Evidence(what="not_running", since=since, until=now), self._settled_at(now))

    def _jumped_forward(self, since: datetime, now: datetime) -> None:
        logger.warning(
            "from %s to %s nothing ran here: suspended, or the clock was set", instant_text(since), instant_text(now)
        )
        self._slots.note_gap(Evidence(what="suspended", since=since, until=now), self._settled_at(now))

    def _settled_at(self, now: datetime) -> datetime | None:
        return now + self._settle if self._settle else None
