"""Which slots are due on a host, and what becomes of every slot that does not run. The heart of promise 1.

Decides, for one schedule at one moment, from what the journal remembers of it (`Mark`): fire, hold, or record a fate.
Every function returns a `Step`: the new mark together with the fates decided, to be committed as one transaction before
anything acts on it. It refuses to know where marks are kept, who the server is, and what a job does.

The interval that is looked at is half open: (watermark, now - splay]. The watermark stays in slot time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from restic_manager.domain.cron import Timetable
from restic_manager.domain.instants import duration_text
from restic_manager.domain.model import Evidence, Fate, Overlap, Turn

ON_TIME = timedelta(seconds=60)
"""A slot that runs later than this is a catch-up."""
CLOCK_HOLD = timedelta(hours=2)
"""A clock set back by up to this much is waited out; beyond it, it had been wrong and the watermark is rebased."""
DISABLED = "disabled"
"""The reason of slots that pass while a schedule is off, where nothing else is given (a pause has its own)."""
_TICK = timedelta(seconds=1)


@dataclass(frozen=True)
class Plan:
    """What planning needs of a schedule's entry on this host. Durations as timedeltas.

    off_reason: why, when off. turns: what it becomes by itself, in order; only the last may be enabled. So a plan says
    for every instant what holds there, and a slot belongs to what holds at its own.
    """

    revision: int
    timetable: Timetable
    enabled: bool = True
    splay: timedelta = timedelta()
    overlap: Overlap = Overlap.QUEUE
    max_lateness: timedelta | None = None
    off_reason: str = DISABLED
    turns: tuple[Turn, ...] = ()

    def phases(self) -> Iterator[tuple[Plan, datetime | None]]:
        """Yield what holds one after the other, each with the instant through which it does (None: for good)."""
        if not self.turns:
            yield self, None
            return
        phase = replace(self, turns=())
        for turn in self.turns:
            yield phase, turn.at
            reason = turn.off_reason or DISABLED
            phase = replace(phase, revision=turn.revision, enabled=turn.enabled, off_reason=reason)
        yield phase, None

    def at(self, instant: datetime) -> Plan:
        """Given an instant, return what holds there."""
        return next(phase for phase, through in self.phases() if through is None or instant <= through)

    def running(self) -> tuple[Plan, datetime | None] | None:
        """Return what runs in the end, and after which instant (None: any); None where nothing ever does by itself."""
        *_, (last, _) = self.phases()
        return (last, self.turns[-1].at if self.turns else None) if last.enabled else None


@dataclass(frozen=True)
class Fire:
    """A slot that is to run: which, of which revision, and how many slots it stands for (itself included).

    evidence: what made it late. Not decided here, but it goes where the slot goes: held, released, relabelled.
    """

    slot: datetime
    revision: int
    trigger: Literal["tick", "catch-up"] = "tick"
    stands_for: int = 1
    evidence: Evidence | None = None


@dataclass(frozen=True)
class Mark:
    """What is remembered of one schedule on this host.

    watermark: slots through here are decided. pending: the fire that is not closed yet; `sent` once it has been handed
    to the writer (from then on only the server's answer or its own run ends it). superseded: the server refused it for
    its old revision, and the new set is still to come. held: the one slot waiting for the unfinished run. running: a
    job of this schedule is accepted or running here. elders: older timetables whose slots were decided through an
    instant beyond the start of the present one (the news of the change was late); not worth a place in the journal.
    """

    watermark: datetime
    pending: Fire | None = None
    sent: bool = False
    superseded: bool = False
    held: Fire | None = None
    running: bool = False
    elders: tuple[tuple[Timetable, datetime], ...] = field(default=(), compare=False)

    @property
    def busy(self) -> bool:
        """Whether a run of this schedule is unfinished: a job, or a fire that only the server's answer can end."""
        return self.running or (self.pending is not None and self.sent)


@dataclass(frozen=True)
class Decided:
    """Slots that make no job: `count` of them from `first` to `last`, their fate and why."""

    revision: int
    first: datetime
    last: datetime
    count: int
    fate: Fate
    reason: str
    into: datetime | None = None


@dataclass(frozen=True)
class Step:
    """The mark as it is to be from now on, the fates to record with it, and when to look again (None: never).

    rebased_from is set when the clock had been wrong in the future: the watermark it had.
    """

    mark: Mark
    decided: tuple[Decided, ...] = ()
    wake: datetime | None = None
    rebased_from: datetime | None = None


@dataclass
class _Draft:
    """A mark being worked on, with the fates decided so far."""

    mark: Mark
    decided: list[Decided] = field(default_factory=list)

    def close(self, fire: Fire, fate: Fate, reason: str, *, into: datetime | None = None) -> None:
        """Record that this one never-sent slot makes no job."""
        self.decided.append(Decided(fire.revision, fire.slot, fire.slot, 1, fate, reason, into))

    def close_range(
        self, plan: Plan, after: datetime, through: datetime, fate: Fate, reason: str, *, into: datetime | None = None
    ) -> None:
        """Record that all slots of the plan in (after, through] make no job; nothing when there are none."""
        first, last = plan.timetable.first_after(after), plan.timetable.last_through(through)
        if first is None or last is None or last < first:
            return
        count = 1 if first == last else plan.timetable.count(after, through)
        self.decided.append(Decided(plan.revision, first, last, count, fate, reason, into))


def begin(*, effective_from: datetime, decided_through: datetime | None) -> Mark:
    """Given a schedule new to this journal, return its first mark: nothing before its baseline is ever caught up."""
    return Mark(watermark=_latest(effective_from, decided_through))


def look(plan: Plan, mark: Mark, now: datetime, *, settled_at: datetime | None = None) -> Step:
    """Given a schedule and its mark, return what is due now.

    The slots of a time in which it was off are closed when one after that time is due, not before: until then the
    server may say that the time was another one.
    settled_at: until then (after a start or a resume) catch-up runs wait; a slot that comes due on time does not, and
    takes the waiting ones with it.
    """
    rebased_from: datetime | None = None
    if mark.watermark > now + CLOCK_HOLD:
        rebased_from = mark.watermark
        mark = replace(mark, watermark=now - plan.splay)
    running = plan.running()
    if running is None:
        # Nothing comes due; the slots of this time are closed in one range when the entry changes or ends.
        return Step(mark, rebased_from=rebased_from)
    on, begins = running
    begins = _latest(mark.watermark, begins)
    due = plan.timetable.last_through(now - plan.splay)
    if due is None or due <= begins:
        return Step(mark, wake=_next_wake(on, begins), rebased_from=rebased_from)
    late = now - (due + plan.splay)
    if late > ON_TIME and settled_at is not None and now < settled_at:
        upcoming = _next_wake(on, due)
        wake = settled_at if upcoming is None else min(settled_at, upcoming)
        return Step(mark, wake=wake, rebased_from=rebased_from)
    draft = _Draft(replace(mark, watermark=begins))
    _close_off(draft, plan, mark.watermark, begins)
    _decide(draft, on, due, late)
    return Step(draft.mark, tuple(draft.decided), _next_wake(on, due), rebased_from)


def release(plan: Plan | None, mark: Mark, now: datetime) -> Step:
    """Given that this schedule's run or fire has ended, return the step in which its held slot, if any, fires.

    plan is None for a schedule that has left this host's set meanwhile.
    """
    free = replace(mark, running=False, pending=None, sent=False, superseded=False, held=None)
    if mark.held is None or plan is None:
        return Step(free)
    return _unless_too_late(plan, replace(free, pending=mark.held), now)


def hand_over(plan: Plan, mark: Mark, now: datetime) -> Step:
    """Given a never-sent pending fire and a link that has come up, return the step that marks it sent (or too late)."""
    step = _unless_too_late(plan, mark, now)
    if step.mark.pending is None or step.mark.superseded:
        return step
    return replace(step, mark=replace(step.mark, sent=True))


def change(old: Plan, new: Plan, mark: Mark, *, effective_from: datetime, decided_through: datetime | None) -> Step:
    """Given that a schedule's timing changed at `effective_from`, return the step into the new revision.

    Call `look` with the old plan first, so that a slot falling into the swap is seen. What the old revision left
    undecided is closed; a slot both revisions have is carried over, never skipped and never fired twice.
    """
    draft = _Draft(mark)
    _close_undecided(draft, old, mark.watermark, effective_from, f"superseded by revision {new.revision}")
    pending = mark.pending
    if pending is not None:
        pending = _carry(draft, pending, new, effective_from, sent=mark.sent and not mark.superseded)
    held = _carry(draft, mark.held, new, effective_from, sent=False) if mark.held is not None else None
    start = _latest(effective_from, decided_through)
    elders = (*mark.elders, (old.timetable, mark.watermark))
    elders = tuple((timetable, through) for timetable, through in elders if through > start)
    _close_passed(draft, elders, new, start, mark.watermark)
    relabelled = pending is not None and mark.pending is not None and pending.revision != mark.pending.revision
    after = replace(
        mark,
        watermark=_latest(start, mark.watermark),
        pending=pending,
        sent=mark.sent and pending is not None and not mark.superseded and not relabelled,
        superseded=False,
        held=held,
        elders=elders,
    )
    return Step(after, tuple(draft.decided), _wake(new, after.watermark))


def refresh(plan: Plan, mark: Mark, *, effective_from: datetime, decided_through: datetime | None) -> Step:
    """Given that a schedule's entry came again with the same timing, return its mark: the baseline never moves back."""
    after = replace(mark, watermark=_latest(effective_from, decided_through, mark.watermark))
    if mark.superseded:
        # The set the refusal announced has come and changes nothing for this slot: ask again.
        after = replace(after, superseded=False, sent=False)
    return Step(after, wake=_wake(plan, after.watermark))


def end(plan: Plan, mark: Mark, *, ended_at: datetime) -> Step:
    """Given that a schedule left this host's set, return the step that closes what it left.

    A fire that was sent stays: only the server's answer ends it.
    """
    draft = _Draft(mark)
    _close_undecided(draft, plan, mark.watermark, ended_at, "removed")
    for fire in (mark.held, None if mark.sent and not mark.superseded else mark.pending):
        if fire is not None:
            draft.close(fire, Fate.SKIPPED, "removed")
    keep = mark.pending if mark.sent and not mark.superseded else None
    after = Mark(watermark=_latest(mark.watermark, ended_at), pending=keep, sent=keep is not None, running=mark.running)
    return Step(after, tuple(draft.decided))


def _decide(draft: _Draft, plan: Plan, due: datetime, late: timedelta) -> None:
    """Slots have come due, the latest being `due`: fire it, hold it, or record why not."""
    mark = draft.mark
    draft.mark = replace(mark, watermark=due)
    before = plan.timetable.last_through(due - _TICK)
    earlier = plan.timetable.count(mark.watermark, due - _TICK) if before is not None and before > mark.watermark else 0
    if plan.max_lateness is not None and late > plan.max_lateness:
        reason = f"more than {duration_text(plan.max_lateness)} late"
        draft.close_range(plan, mark.watermark, due, Fate.MISSED, reason)
        return
    if mark.busy and plan.overlap is Overlap.SKIP:
        draft.close_range(plan, mark.watermark, due, Fate.SKIPPED, "overlap: the run before was not finished")
        return
    if earlier:
        draft.close_range(plan, mark.watermark, due - _TICK, Fate.COALESCED, "a later slot took its place", into=due)
    stands_for = 1 + earlier
    if mark.held is not None:
        draft.close(mark.held, Fate.COALESCED, "a later slot took its place", into=due)
        stands_for += mark.held.stands_for
    if not mark.busy and mark.pending is not None:
        draft.close(mark.pending, Fate.COALESCED, "a later slot took its place", into=due)
        stands_for += mark.pending.stands_for
    caught_up = earlier > 0 or late > ON_TIME
    fire = Fire(due, plan.revision, "catch-up" if caught_up else "tick", stands_for)
    if mark.busy:
        draft.mark = replace(draft.mark, held=fire)
    else:
        draft.mark = replace(draft.mark, pending=fire, sent=False, superseded=False, held=None)


def _carry(draft: _Draft, fire: Fire, new: Plan, effective_from: datetime, *, sent: bool) -> Fire | None:
    """Take a slot of the old revision over the change: keep it, give it the new revision, or close it."""
    there = new.at(fire.slot)
    if not there.enabled:
        if sent:
            return fire  # only the server's answer ends it
        draft.close(fire, Fate.SKIPPED, there.off_reason)
        return None
    if fire.slot <= effective_from:
        return fire  # it belongs to the old revision, which was in force at the slot
    if there.timetable.holds(fire.slot):
        return replace(fire, revision=there.revision)
    if sent:
        return fire
    draft.close(fire, Fate.SKIPPED, f"superseded by revision {there.revision}")
    return None


def _close_undecided(draft: _Draft, old: Plan, after: datetime, through: datetime, reason: str) -> None:
    for phase, low, high in _parts(old, after, through):
        draft.close_range(phase, low, high, Fate.SKIPPED, reason if phase.enabled else phase.off_reason)


def _close_off(draft: _Draft, plan: Plan, after: datetime, through: datetime) -> None:
    """Record the slots of a time in which the plan was off."""
    for phase, low, high in _parts(plan, after, through):
        draft.close_range(phase, low, high, Fate.SKIPPED, phase.off_reason)


def _parts(plan: Plan, after: datetime, through: datetime) -> Iterator[tuple[Plan, datetime, datetime]]:
    """Yield what of the plan holds in (after, through], with the part of it in which it does."""
    for phase, until in plan.phases():
        high = through if until is None else min(until, through)
        if after < high:
            yield phase, after, high
            after = high


def _close_passed(
    draft: _Draft, elders: tuple[tuple[Timetable, datetime], ...], new: Plan, after: datetime, through: datetime
) -> None:
    """Record the slots of the new revision that this host had already passed when it learned of it.

    A slot that an older revision has too was decided under that one; it has its fate. The interval is as long as the
    news was under way: milliseconds, or the time the host was away.
    """
    for phase, low, high in _parts(new, after, through):
        passed: list[datetime] = []
        slot = phase.timetable.first_after(low)
        while slot is not None and slot <= high:
            if not any(slot <= decided and timetable.holds(slot) for timetable, decided in elders):
                passed.append(slot)
            slot = phase.timetable.first_after(slot)
        if passed:
            arrived = f"already past when revision {phase.revision} arrived"
            reason = arrived if phase.enabled else phase.off_reason
            draft.decided.append(Decided(phase.revision, passed[0], passed[-1], len(passed), Fate.SKIPPED, reason))


def _unless_too_late(plan: Plan, mark: Mark, now: datetime) -> Step:
    """Let the pending fire go on, or record it as missed when it has waited beyond the schedule's max lateness."""
    fire = mark.pending
    if fire is None or plan.max_lateness is None or now - (fire.slot + plan.splay) <= plan.max_lateness:
        return Step(mark)
    draft = _Draft(mark)
    draft.close(fire, Fate.MISSED, f"more than {duration_text(plan.max_lateness)} late")
    return Step(replace(mark, pending=None, sent=False), tuple(draft.decided))


def _wake(plan: Plan, watermark: datetime) -> datetime | None:
    running = plan.running()
    return None if running is None else _next_wake(running[0], _latest(watermark, running[1]))


def _next_wake(plan: Plan, after: datetime) -> datetime | None:
    upcoming = plan.timetable.first_after(after)
    return None if upcoming is None else upcoming + plan.splay


def _latest(*instants: datetime | None) -> datetime:
    return max(instant for instant in instants if instant is not None)
