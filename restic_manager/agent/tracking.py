"""One schedule as this agent tracks it, and what a moment or a new entry means for it. Computes steps, commits nothing.

The thin layer between entries from the wire and `domain.planning`: it refuses to know the journal, other schedules and
how a change gets into effect (that is `slots`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from datetime import datetime

from restic_manager.agent.entries import plan_of
from restic_manager.domain import planning
from restic_manager.domain.instants import instant_text
from restic_manager.domain.model import Fate
from restic_manager.domain.planning import Decided, Mark, Step
from restic_manager.protocol.messages import Entry

logger = logging.getLogger(__name__)


@dataclass
class Tracked:
    """One schedule as it is in force here: its entry, its mark, and the jobs of it that are unfinished here."""

    entry: Entry | None  # None: it left the set, but a fire or a job of it is still open
    mark: Mark
    jobs: set[str] = field(default_factory=set)
    order_digest: bytes | None = None  # of the entry's standing order, which is kept sealed and not here

    def look(self, now: datetime, settled_at: datetime | None) -> Step:
        """Return what is due now of a schedule that has an entry."""
        if self.entry is None:
            return Step(self.mark)
        mark = replace(self.mark, running=bool(self.jobs))
        step = planning.look(plan_of(self.entry), mark, now, settled_at=settled_at)
        if step.rebased_from is not None:
            logger.warning(
                "schedule %s: the clock was wrong: slots were decided through %s, now it is %s; going on from now",
                self.entry.name,
                instant_text(step.rebased_from),
                instant_text(now),
            )
        return step

    def closed(self, now: datetime) -> Step:
        """Return the step that ends the pending fire, and lets the held slot go unless a job still runs here."""
        if self.jobs:
            return Step(replace(self.mark, pending=None, sent=False, superseded=False))
        return planning.release(None if self.entry is None else plan_of(self.entry), self.mark, now)

    def rejected(self, code: str, now: datetime) -> Step:
        """Return the step that closes the pending fire as rejected, with its fate where the server can hold one.

        A slot that is none, is decided already or is of an unknown schedule has no fate to record. One in the server's
        future has: the watermark is past it, so as long as this clock stays, or is set back by up to CLOCK_HOLD, it
        never comes due again, and this is all that is ever told of it. A clock set back by more decides anew from its
        own now: then the slot fires again when its time has come, and the server takes what was told of it ahead of
        its time for no reason to refuse that.
        """
        step, fire = self.closed(now), self.mark.pending
        if fire is None or code not in {"disabled", "not_a_target", "future"}:
            return step
        fate = Decided(fire.revision, fire.slot, fire.slot, 1, Fate.REJECTED, code)
        return replace(step, decided=(fate, *step.decided))

    def superseded(self, now: datetime) -> Step:
        """Return the step after the server refused the pending fire: another revision was in force at its slot.

        As long as the entry here knows the fire's own revision, the news is under way and says whether the slot is one
        of the new revision's. Where it has overtaken the refusal, that is known now and nothing else would say it.
        """
        fire = self.mark.pending
        known = () if self.entry is None else (self.entry.revision, *(turn.revision for turn in self.entry.turns))
        if fire is None or fire.revision in known:
            return Step(replace(self.mark, sent=False, superseded=True))
        reason = "removed"
        if self.entry is not None:  # its stamp is the server's: where the clocks differ, the next answer settles it
            plan = plan_of(self.entry).at(fire.slot)
            if plan.enabled and fire.slot > self.entry.effective_from and plan.timetable.holds(fire.slot):
                again = replace(fire, revision=plan.revision)
                return Step(replace(self.mark, pending=again, sent=False, superseded=False))
            reason = f"superseded by revision {plan.revision}" if plan.enabled else plan.off_reason
        step = self.closed(now)
        fate = Decided(fire.revision, fire.slot, fire.slot, 1, Fate.SKIPPED, reason)
        return replace(step, decided=(fate, *step.decided))


@dataclass(frozen=True)
class Change:
    """One schedule's part of a transaction: its step, and its entry if that changes too (`gone`: it leaves)."""

    schedule_id: str
    step: Step
    entry: Entry | None = None
    gone: bool = False


def entry_change(
    tracked: Tracked | None,
    entry: Entry,
    effective_from: datetime,
    now: datetime,
    settled_at: datetime | None,
    *,
    same_epoch: bool,
) -> Change:
    """Given what is tracked of a schedule, if anything, and its entry in a new set, return the change into it.

    effective_from: the entry's own, by this host's clock. A slot that falls into the swap is looked at first, under the
    timing it belongs to. Revisions say something only within an epoch; across epochs the timing itself is compared. A
    revision that was announced as a turn begins where that was announced for, or slots near it would change sides.
    """
    if tracked is None or tracked.entry is None:
        first = planning.begin(effective_from=effective_from, decided_through=entry.decided_through)
        if tracked is not None:  # a fire or a job from an earlier membership is still open
            first = replace(tracked.mark, watermark=max(first.watermark, tracked.mark.watermark))
        return Change(entry.schedule_id, Step(first, wake=now), entry)
    old, new = tracked.entry, plan_of(entry)
    looked = tracked.look(now, settled_at)
    unchanged = (old.timing, old.enabled, old.off_reason) == (entry.timing, entry.enabled, entry.off_reason)
    if same_epoch:
        announced = [turn.at for turn in old.turns if turn.revision == entry.revision]
        effective_from = announced[0] if announced else effective_from
    if unchanged and (old.revision == entry.revision if same_epoch else old.turns == entry.turns):
        after = planning.refresh(new, looked.mark, effective_from=effective_from, decided_through=entry.decided_through)
    else:
        after = planning.change(
            plan_of(old), new, looked.mark, effective_from=effective_from, decided_through=entry.decided_through
        )
    return Change(entry.schedule_id, joined(looked, after), entry)


def joined(first: Step, second: Step) -> Step:
    """Given two steps taken one after the other, return them as one."""
    return Step(second.mark, first.decided + second.decided, second.wake, second.rebased_from or first.rebased_from)
