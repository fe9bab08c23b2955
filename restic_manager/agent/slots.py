"""The host's schedules and what is decided about their slots. Owns the in-memory mirror of entries and marks.

Every operation is the same three steps under one lock: decide purely (`domain.planning`), commit to the journal, then
change memory and ring the session. So a crash anywhere leaves either all of a decision or nothing of it. It refuses to
know how a message travels and how a job is run.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import msgspec
import trio

from restic_manager.agent import records, retelling, schedule_rows
from restic_manager.agent.entries import CHECKPOINT_EVERY, decode_entries, keyed_digest, localised, plan_of, to_local
from restic_manager.agent.gaps import Gaps
from restic_manager.agent.grace import Grace
from restic_manager.agent.journal import Journal
from restic_manager.agent.telling import fate_report, fire_message
from restic_manager.agent.tracking import Change, Tracked, entry_change, joined
from restic_manager.agent.wakes import Wakes
from restic_manager.domain import planning
from restic_manager.domain.errors import StorageError
from restic_manager.domain.instants import slot_text
from restic_manager.domain.model import slot_job_id
from restic_manager.domain.planning import Mark, Step
from restic_manager.protocol.fitting import refusals_that_fit
from restic_manager.protocol.messages import (
    Ended,
    Entry,
    Evidence,
    ScheduleAck,
    ScheduleFire,
    ScheduleFired,
)

logger = logging.getLogger(__name__)

_LOOK_AT_ONCE: Final = 500
"""Schedules decided in one transaction when very many come due at once."""


class Slots:
    """All schedules of this host.

    ring: wakes the session, there is a fire or a report to send. seal: keeps an entry's standing order. waited: what
    the pending fires wait for has changed (`grace` knows).
    """

    def __init__(
        self,
        journal: Journal,
        *,
        host_id: str,
        ring: Callable[[], None],
        grace: Grace | None = None,
        seal: Callable[[Entry], bytes | None] = lambda _entry: None,
        waited: Callable[[], None] = lambda: None,
    ) -> None:
        self._journal = journal
        self._host_id = host_id
        self._ring = ring
        self.grace = Grace(None) if grace is None else grace
        self._seal = seal
        self._waited = waited
        self._digest = keyed_digest()
        self._lock = trio.Lock()
        self._tracked: dict[str, Tracked] = {}
        self._wakes = Wakes()
        self._link_up = False
        self._to_send: dict[str, None] = {}  # in order, each schedule once
        self.gaps = Gaps()
        self.settled_at: datetime | None = None

    async def load(self, now: datetime) -> None:
        """Take up what the journal holds, every schedule to be looked at at once."""
        entries, fires = await self._journal.read(schedule_rows.load_schedules)
        self.gaps = Gaps(await self._journal.read(schedule_rows.load_gaps))
        for number, (body, watermark) in enumerate(entries):
            entry = msgspec.json.decode(body, type=Entry)
            pending, sent, superseded, held = fires.pop(entry.schedule_id, (None, False, False, None))
            mark = Mark(records.from_micros(watermark), pending, sent=sent, superseded=superseded, held=held)
            self._tracked[entry.schedule_id] = Tracked(entry, mark)
            self._wakes.set(entry.schedule_id, now)
            if number % CHECKPOINT_EVERY == 0:
                await trio.lowlevel.checkpoint()
        for schedule_id, (pending, sent, superseded, held) in fires.items():
            mark = Mark(now, pending, sent=sent, superseded=superseded, held=held)
            self._tracked[schedule_id] = Tracked(None, mark)
        for schedule_id, tracked in self._tracked.items():
            self._note_grace(schedule_id, Mark(now), tracked.mark)

    def pending_slot(self, schedule_id: str) -> tuple[Entry, datetime] | None:
        """Given a schedule, return its entry and the slot whose fire is pending, unless a job of it is under way."""
        tracked = self._tracked.get(schedule_id)
        if tracked is None or tracked.entry is None or tracked.mark.pending is None or tracked.jobs:
            return None
        return tracked.entry, tracked.mark.pending.slot

    # -- time ----------------------------------------------------------------------------------------------------------

    async def look(self, now: datetime, *, everything: bool = False) -> datetime | None:
        """Decide all that has come due by now and return when to look again (None: when something changes).

        everything: the clock was set back, so look at every schedule, not only at those whose time has come.
        """
        async with self._lock:
            due = list(self._tracked) if everything else self._wakes.due(now)
            for start in range(0, len(due), _LOOK_AT_ONCE):
                try:
                    await self._look_at_some(due[start : start + _LOOK_AT_ONCE], now)
                except StorageError:
                    for schedule_id in due[start:]:  # nothing was decided: they are due still
                        self._wakes.set(schedule_id, now)
                    raise
            return self._wakes.first()

    async def _look_at_some(self, due: list[str], now: datetime) -> None:
        changes: list[Change] = []
        for number, schedule_id in enumerate(due):
            tracked = self._tracked.get(schedule_id)
            if tracked is not None and tracked.entry is not None:
                changes.append(Change(schedule_id, tracked.look(now, self.settled_at)))
            if number % CHECKPOINT_EVERY == CHECKPOINT_EVERY - 1:
                await trio.lowlevel.checkpoint()
        await self._commit(changes)

    def note_gap(self, evidence: Evidence, settled_at: datetime | None) -> None:
        """Remember that no slot could be seen in this interval, and until when catch-up runs are to wait."""
        self.gaps.add(evidence)
        self.settled_at = settled_at

    # -- the set of schedules -----------------------------------------------------------------------------------------

    async def apply(
        self,
        *,
        epoch: str,
        version: int,
        raw_entries: Iterable[msgspec.Raw],
        ended: Iterable[Ended],
        now: datetime,
        server_ahead: timedelta = timedelta(),
        with_orders: bool = False,
    ) -> ScheduleAck:
        """Replace the whole set by this one, in one transaction, and return the ack to send.

        server_ahead: how far the server's clock is ahead of this one. with_orders: this agent keeps standing orders,
        and asked for a set that has them. A slot falling into the swap is looked at first, under the timing it belongs
        to.
        """
        usable, refused = await decode_entries(raw_entries)
        entries = {schedule_id: localised(entry, server_ahead) for schedule_id, entry in usable.items()}
        async with self._lock:
            ended_at = {item.schedule_id: to_local(item.ended_at, server_ahead, now) for item in ended}
            same_epoch = await self._journal.read(lambda db: records.get_meta(db, "applied_epoch")) == epoch
            changes: list[Change] = []
            for number, (schedule_id, entry) in enumerate(entries.items()):
                tracked, since = self._tracked.get(schedule_id), to_local(entry.effective_from, server_ahead, now)
                changes.append(entry_change(tracked, entry, since, now, self.settled_at, same_epoch=same_epoch))
                if number % CHECKPOINT_EVERY == CHECKPOINT_EVERY - 1:
                    await trio.lowlevel.checkpoint()
            for schedule_id, gone in self._tracked.items():
                if schedule_id not in entries and gone.entry is not None:
                    step = gone.look(now, self.settled_at)
                    over = planning.end(plan_of(gone.entry), step.mark, ended_at=ended_at.get(schedule_id, now))
                    changes.append(Change(schedule_id, joined(step, over), gone=True))

            def note(db: sqlite3.Connection) -> None:
                records.set_meta(db, "applied_epoch", epoch)
                records.set_meta(db, "applied_version", str(version))
                records.set_meta(db, "applied_with_orders", records.WITH_ORDERS if with_orders else "0")

            await self._commit(changes, also=note)
            logger.info("schedules: version %d applied, %d in use, %d refused", version, len(entries), len(refused))
            return ScheduleAck(epoch=epoch, version=version, refused=refusals_that_fit(refused))

    # -- fires and their answers --------------------------------------------------------------------------------------

    async def link_up(self, now: datetime) -> None:
        """The link stands and was welcomed: every pending fire is to be sent, and counts as sent from here on."""
        async with self._lock:
            self._link_up = True
            self.grace.link_up(trio.current_time())
            changes = []
            for schedule_id, tracked in self._tracked.items():
                if tracked.mark.pending is None or tracked.mark.superseded:
                    continue
                if not tracked.mark.sent and tracked.entry is not None:
                    changes.append(Change(schedule_id, planning.hand_over(plan_of(tracked.entry), tracked.mark, now)))
                self._to_send[schedule_id] = None
            await self._commit(changes)
        self._ring()

    @property
    def in_contact(self) -> bool:
        """Whether the server is being heard now."""
        return self._link_up

    def link_down(self) -> None:
        """The link is gone: fires wait, unsent, until it is back."""
        self._link_up = False
        self._to_send.clear()
        self.grace.link_down(trio.current_time())
        self._waited()

    def take_fires(self) -> list[ScheduleFire]:
        """Return the fires to hand to the writer now, each once a link."""
        fires = []
        for schedule_id in self._to_send:
            tracked = self._tracked.get(schedule_id)
            if tracked is not None and tracked.mark.pending is not None and tracked.mark.sent:
                fires.append(fire_message(schedule_id, tracked.mark.pending))
        self._to_send.clear()
        return fires

    async def answered(self, answer: ScheduleFired, now: datetime) -> None:
        """Take the server's answer to a fire; one for a slot or revision not pending any more changes nothing."""
        async with self._lock:
            tracked = self._tracked.get(answer.schedule_id)
            if tracked is None or tracked.mark.pending is None:
                return
            pending = tracked.mark.pending
            if pending.slot != answer.scheduled_at or pending.revision != answer.revision:
                return
            if answer.answer == "rejected" and answer.code == "superseded":
                changes = [Change(answer.schedule_id, tracked.superseded(now))]
            elif answer.answer == "rejected":
                logger.warning("slot %s: not run: %s", slot_text(pending.slot), answer.message or answer.code)
                changes = [Change(answer.schedule_id, tracked.rejected(answer.code or "", now))]
            elif answer.status is not None and answer.status.terminal:
                changes = [Change(answer.schedule_id, tracked.closed(now))]
            else:
                # Dispatched: the fire stays pending until its job starts here, and its order is waited for.
                self.grace.answered(answer.schedule_id, trio.current_time())
                self._waited()
                return
            await self._commit(changes)

    async def ended_elsewhere(self, job_id: str, now: datetime) -> None:
        """The server says this job ended without running here: if a pending fire is its, close it."""
        async with self._lock:
            schedule_id = self.key_of(job_id).schedule_id
            if schedule_id is not None:
                await self._commit([Change(schedule_id, self._tracked[schedule_id].closed(now))])

    def key_of(self, job_id: str) -> records.JobKey:
        """Given the id of a job whose order has not come, return its key, with the slot if a fire waits for it here."""
        for schedule_id, tracked in self._tracked.items():
            pending = tracked.mark.pending
            if pending is not None and slot_job_id(schedule_id, self._host_id, pending.slot) == job_id:
                return records.JobKey(job_id, schedule_id, pending.slot)
        return records.JobKey(job_id)

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def job_accepted(self, job_id: str, schedule_id: str | None) -> None:
        """A job of this schedule waits for the runner or runs: until it ends, no other slot of it fires."""
        if schedule_id is not None and schedule_id in self._tracked:
            self._tracked[schedule_id].jobs.add(job_id)

    async def job_started(self, key: records.JobKey, *, also: Callable[[sqlite3.Connection], None]) -> None:
        """Commit that a job starts (`also` writes its rows) together with the end of its slot's pending fire."""
        async with self._lock:
            changes = []
            tracked = self._tracked_of(key)
            if tracked is not None and key.schedule_id is not None:
                tracked.jobs.add(key.job_id)
                if tracked.mark.pending is not None and tracked.mark.pending.slot == key.slot:
                    closed = replace(tracked.mark, pending=None, sent=False, superseded=False)
                    changes.append(Change(key.schedule_id, Step(closed)))
            await self._commit(changes, also=also)

    async def job_ended(
        self, key: records.JobKey, now: datetime, *, also: Callable[[sqlite3.Connection], None] | None = None
    ) -> None:
        """Commit that a job ended (`also` writes its rows) together with the release of the held slot.

        Without `also`: it does not run any more, and its verdict will come, some time.
        """
        async with self._lock:
            changes = []
            tracked = self._tracked_of(key)
            if tracked is not None and key.schedule_id is not None:
                tracked.jobs.discard(key.job_id)
                pending = tracked.mark.pending
                if not tracked.jobs and (pending is None or pending.slot == key.slot):
                    changes.append(Change(key.schedule_id, tracked.closed(now)))
            await self._commit(changes, also=also)

    def _tracked_of(self, key: records.JobKey) -> Tracked | None:
        return None if key.schedule_id is None else self._tracked.get(key.schedule_id)

    # -- the one way to change anything -------------------------------------------------------------------------------

    async def _commit(
        self,
        changes: list[Change],
        *,
        also: Callable[[sqlite3.Connection], None] | None = None,
    ) -> None:
        changes = [self._handed_over(self._explained(change)) for change in changes]
        decided = [(change.schedule_id, item) for change in changes for item in change.step.decided]
        dirty = [change for change in changes if self._is_dirty(change)]

        def write(db: sqlite3.Connection) -> None:
            for change in dirty:
                tracked = self._tracked.get(change.schedule_id)
                before = None if tracked is None else tracked.mark
                if change.entry is not None:
                    schedule_rows.save_entry(db, change.entry, change.step.mark.watermark, self._seal(change.entry))
                elif change.gone:
                    schedule_rows.drop_entry(db, change.schedule_id)
                schedule_rows.save_mark(db, change.schedule_id, before, change.step.mark)
            if decided:
                told = [(item.last, fate_report(schedule_id, item, self.gaps)) for schedule_id, item in decided]
                retelling.append_decided(db, told)
            if also is not None:
                also(db)

        if dirty or decided or also is not None:
            # Shielded: a closure in a thread always commits, and memory has to follow it.
            with trio.CancelScope(shield=True):
                await self._journal.write(write)
        for number, change in enumerate(changes):
            self._remember(change)
            if number % CHECKPOINT_EVERY == CHECKPOINT_EVERY - 1:
                await trio.lowlevel.cancel_shielded_checkpoint()
        if decided or also is not None or self._to_send:
            self._ring()

    def _explained(self, change: Change) -> Change:
        """A late fire takes the evidence with it, into the journal too: who sends it may be another process."""
        mark = self.gaps.explain(change.step.mark)
        return change if mark is change.step.mark else replace(change, step=replace(change.step, mark=mark))

    def _handed_over(self, change: Change) -> Change:
        """While the link is up a new fire is handed to the writer at once: stored as sent, one commit for both."""
        mark = change.step.mark
        if self._link_up and mark.pending is not None and not mark.sent and not mark.superseded:
            return replace(change, step=replace(change.step, mark=replace(mark, sent=True)))
        return change

    def _is_dirty(self, change: Change) -> bool:
        before = self._tracked.get(change.schedule_id)
        if before is None or change.gone:
            return True
        if change.entry is not None and (
            _without_order(change.entry) != before.entry or self._digest(change.entry) != before.order_digest
        ):
            return True
        return replace(before.mark, running=False) != replace(change.step.mark, running=False)

    def _remember(self, change: Change) -> None:
        tracked = self._tracked.get(change.schedule_id)
        mark = replace(change.step.mark, running=False)
        if tracked is None:
            tracked = self._tracked[change.schedule_id] = Tracked(change.entry, mark)
        is_new_fire = mark.pending is not None and (mark.pending != tracked.mark.pending or not tracked.mark.sent)
        self._note_grace(change.schedule_id, tracked.mark, mark)
        tracked.mark = mark
        if change.entry is not None:
            tracked.entry = _without_order(change.entry)
            tracked.order_digest = self._digest(change.entry)
        if change.gone:
            tracked.entry = None
            self._wakes.set(change.schedule_id, None)
            if mark.pending is None and not tracked.jobs:
                del self._tracked[change.schedule_id]
        elif tracked.entry is None:
            if mark.pending is None and not tracked.jobs:
                del self._tracked[change.schedule_id]
        elif change.step.wake is not None:
            self._wakes.set(change.schedule_id, change.step.wake)
        elif change.entry is not None:
            self._wakes.set(change.schedule_id, None)
        if is_new_fire and mark.sent and self._link_up:
            self._to_send[change.schedule_id] = None

    def _note_grace(self, schedule_id: str, before: Mark, after: Mark) -> None:
        if after.pending is None or after.superseded:
            self.grace.closed(schedule_id)
        else:
            in_place = before.pending is not None and not before.sent
            self.grace.opened(schedule_id, after.pending.slot, trio.current_time(), in_place=in_place)
        if after.pending != before.pending:
            self._waited()


def _without_order(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, standing_order=None)
