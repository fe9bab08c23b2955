"""Planning: tables for each rule, and a random history against the one invariant: every slot has exactly one fate."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restic_manager.domain import planning
from restic_manager.domain.cron import Timetable
from restic_manager.domain.model import Fate, Overlap, Timing, Turn
from restic_manager.domain.planning import Decided, Fire, Mark, Plan, Step

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def plan(cron: str = "* * * * *", *, revision: int = 1, enabled: bool = True, **options: object) -> Plan:
    timing = Timing(cron=cron, timezone="UTC", anchor=NOON)
    return replace(Plan(revision=revision, timetable=Timetable(timing), enabled=enabled), **options)  # type: ignore[arg-type]  # options are Plan's own fields


class TestLook:
    def test_nothing_is_due_before_the_first_slot(self) -> None:
        step = planning.look(plan(), Mark(NOON), at(0.5))
        assert step == Step(Mark(NOON), wake=at(1))

    def test_the_interval_is_half_open(self) -> None:
        step = planning.look(plan(), Mark(NOON), at(1))
        assert step.mark == Mark(at(1), pending=Fire(at(1), 1))
        assert step.decided == ()
        assert step.wake == at(2)
        again = planning.look(plan(), step.mark, at(1))
        assert again.mark == step.mark

    def test_the_latest_of_several_fires_once_and_the_rest_is_one_range(self) -> None:
        step = planning.look(plan(), Mark(NOON), at(5.2))
        assert step.mark.pending == Fire(at(5), 1, "catch-up", 5)
        assert step.decided == (Decided(1, at(1), at(4), 4, Fate.COALESCED, "a later slot took its place", at(5)),)

    @pytest.mark.parametrize(("seconds", "trigger"), [(60, "tick"), (61, "catch-up")])
    def test_a_single_slot_is_a_catch_up_beyond_sixty_seconds(self, seconds: int, trigger: str) -> None:
        step = planning.look(plan("0 13 * * *"), Mark(NOON), at(60) + timedelta(seconds=seconds))
        assert step.mark.pending is not None
        assert step.mark.pending.trigger == trigger

    def test_catch_up_waits_until_settled(self) -> None:
        settled = at(66)
        waiting = planning.look(plan("0 13 * * *"), Mark(NOON), at(65), settled_at=settled)
        assert waiting.mark == Mark(NOON)
        assert waiting.wake == settled
        step = planning.look(plan("0 13 * * *"), Mark(NOON), settled, settled_at=settled)
        assert step.mark.pending == Fire(at(60), 1, "catch-up", 1)

    def test_a_slot_on_time_does_not_wait_and_takes_the_waiting_with_it(self) -> None:
        hourly = plan("0 * * * *")
        assert planning.look(hourly, Mark(NOON), at(118), settled_at=at(125)).wake == at(120)
        step = planning.look(hourly, Mark(NOON), at(120), settled_at=at(125))
        assert step.mark.pending == Fire(at(120), 1, "catch-up", 2)
        assert [item.into for item in step.decided] == [at(120)]

    def test_splay_moves_the_run_not_the_slot(self) -> None:
        late = plan("0 * * * *", splay=timedelta(minutes=10))
        assert planning.look(late, Mark(NOON), at(69)).wake == at(70)
        step = planning.look(late, Mark(NOON), at(70))
        assert step.mark == Mark(at(60), pending=Fire(at(60), 1, "tick", 1))

    def test_disabled_never_wakes_and_decides_nothing(self) -> None:
        assert planning.look(plan(enabled=False), Mark(NOON), at(500)) == Step(Mark(NOON))

    def test_clock_back_up_to_two_hours_holds(self) -> None:
        mark = Mark(at(119))
        step = planning.look(plan(), mark, NOON)
        assert step.mark == mark
        assert step.rebased_from is None
        assert step.wake == at(120)

    def test_clock_back_further_rebases_without_catch_up(self) -> None:
        step = planning.look(plan(), Mark(at(24 * 60)), at(0.5))
        assert step.rebased_from == at(24 * 60)
        assert step.mark == Mark(at(0.5))
        assert step.wake == at(1)

    def test_beyond_max_lateness_all_are_missed(self) -> None:
        step = planning.look(plan("0 * * * *", max_lateness=timedelta(minutes=5)), Mark(NOON), at(130))
        assert step.mark == Mark(at(120))
        assert step.decided == (Decided(1, at(60), at(120), 2, Fate.MISSED, "more than 5m late"),)


class TestOverlap:
    def test_busy_holds_one_slot_the_latest(self) -> None:
        busy = Mark(NOON, running=True)
        first = planning.look(plan(), busy, at(1))
        assert first.mark.held == Fire(at(1), 1)
        assert first.mark.pending is None
        second = planning.look(plan(), first.mark, at(2))
        assert second.mark.held == Fire(at(2), 1, "tick", 2)
        assert second.decided == (Decided(1, at(1), at(1), 1, Fate.COALESCED, "a later slot took its place", at(2)),)
        released = planning.release(plan(), second.mark, at(2.5))
        assert released.mark == Mark(at(2), pending=Fire(at(2), 1, "tick", 2))

    def test_skip_records_every_slot(self) -> None:
        step = planning.look(plan(overlap=Overlap.SKIP), Mark(NOON, running=True), at(3))
        assert step.mark == Mark(at(3), running=True)
        assert [(item.count, item.fate) for item in step.decided] == [(3, Fate.SKIPPED)]

    def test_a_sent_fire_counts_as_the_unfinished_run(self) -> None:
        sent = Mark(at(1), pending=Fire(at(1), 1), sent=True)
        step = planning.look(plan(), sent, at(2))
        assert step.mark.pending == Fire(at(1), 1)
        assert step.mark.held == Fire(at(2), 1)

    def test_a_never_sent_fire_gives_way(self) -> None:
        step = planning.look(plan(), Mark(at(1), pending=Fire(at(1), 1)), at(2))
        assert step.mark.pending == Fire(at(2), 1, "tick", 2)
        assert [item.into for item in step.decided] == [at(2)]

    def test_a_held_slot_that_became_too_late_is_missed(self) -> None:
        limited = plan(max_lateness=timedelta(minutes=5))
        mark = Mark(at(1), held=Fire(at(1), 1), running=True)
        step = planning.release(limited, mark, at(7))
        assert step.mark == Mark(at(1))
        assert [item.fate for item in step.decided] == [Fate.MISSED]

    def test_handing_over_marks_sent_or_misses(self) -> None:
        limited = plan(max_lateness=timedelta(minutes=5))
        mark = Mark(at(1), pending=Fire(at(1), 1))
        assert planning.hand_over(limited, mark, at(2)).mark.sent
        late = planning.hand_over(limited, mark, at(8))
        assert late.mark == Mark(at(1))
        assert [item.fate for item in late.decided] == [Fate.MISSED]


class TestChange:
    def test_what_the_old_revision_left_is_superseded_up_to_the_change(self) -> None:
        step = planning.change(
            plan(), plan("0 * * * *", revision=2), Mark(NOON), effective_from=at(3), decided_through=None
        )
        assert step.mark == Mark(at(3))
        assert step.decided == (Decided(1, at(1), at(3), 3, Fate.SKIPPED, "superseded by revision 2"),)
        assert step.wake == at(60)

    def test_a_slot_both_have_is_carried_over_unsent_and_asked_again(self) -> None:
        mark = Mark(at(5), pending=Fire(at(5), 1), sent=True)
        new = plan("*/5 * * * *", revision=2)
        step = planning.change(plan(), new, mark, effective_from=at(4.9), decided_through=None)
        assert step.mark == Mark(at(5), pending=Fire(at(5), 2))
        assert step.decided == ()

    def test_a_refused_fire_of_the_old_revision_goes_on_if_the_new_has_it(self) -> None:
        mark = Mark(at(5), pending=Fire(at(5), 1), superseded=True)
        step = planning.change(
            plan(), plan("*/5 * * * *", revision=2), mark, effective_from=at(4.9), decided_through=None
        )
        assert step.mark == Mark(at(5), pending=Fire(at(5), 2))

    def test_a_refused_fire_the_new_revision_does_not_have_is_closed(self) -> None:
        mark = Mark(at(5), pending=Fire(at(5), 1), superseded=True)
        step = planning.change(
            plan(), plan("0 * * * *", revision=2), mark, effective_from=at(4.9), decided_through=None
        )
        assert step.mark == Mark(at(5))
        assert [(item.first, item.reason) for item in step.decided] == [(at(5), "superseded by revision 2")]

    def test_a_slot_before_the_change_still_belongs_to_the_old_revision(self) -> None:
        mark = Mark(at(5), pending=Fire(at(5), 1))
        step = planning.change(
            plan(), plan("0 * * * *", revision=2), mark, effective_from=at(5.1), decided_through=None
        )
        assert step.mark == Mark(at(5.1), pending=Fire(at(5), 1))

    def test_slots_of_the_new_revision_already_passed_are_said(self) -> None:
        step = planning.change(
            plan("*/10 * * * *"),
            plan("*/3 * * * *", revision=2),
            Mark(at(10)),
            effective_from=NOON,
            decided_through=None,
        )
        assert step.mark == Mark(at(10))
        assert [(item.revision, item.count, item.first, item.last) for item in step.decided] == [(2, 3, at(3), at(9))]

    def test_disabling_closes_what_was_never_sent(self) -> None:
        off = plan(revision=2, enabled=False)
        held = Mark(at(5), pending=Fire(at(4), 1), sent=True, held=Fire(at(5), 1))
        step = planning.change(plan(), off, held, effective_from=at(5.5), decided_through=None)
        assert step.mark == Mark(at(5.5), pending=Fire(at(4), 1), sent=True)
        assert [(item.first, item.reason) for item in step.decided] == [(at(5), "disabled")]
        assert step.wake is None

    def test_a_reason_of_its_own_goes_with_every_slot_of_the_time_it_was_off(self) -> None:
        off, on = plan(revision=2, enabled=False, off_reason="paused: why"), plan(revision=3)
        held = Mark(at(5), held=Fire(at(5), 1))
        into = planning.change(plan(), off, held, effective_from=at(5.5), decided_through=None)
        assert [(item.first, item.reason) for item in into.decided] == [(at(5), "paused: why")]
        out = planning.change(off, on, into.mark, effective_from=at(8.5), decided_through=None)
        assert out.decided == (Decided(2, at(6), at(8), 3, Fate.SKIPPED, "paused: why"),)
        gone = planning.end(off, into.mark, ended_at=at(8.5))
        assert [item.reason for item in gone.decided] == ["paused: why"]

    def test_the_time_it_was_disabled_is_one_range(self) -> None:
        off, on = plan(revision=2, enabled=False), plan(revision=3)
        step = planning.change(off, on, Mark(NOON), effective_from=at(600), decided_through=None)
        assert step.decided == (Decided(2, at(1), at(600), 600, Fate.SKIPPED, "disabled"),)
        assert step.mark == Mark(at(600))

    def test_leaving_closes_the_rest_but_a_sent_fire(self) -> None:
        mark = Mark(at(2), pending=Fire(at(2), 1), sent=True, held=Fire(at(1), 1))
        step = planning.end(plan(), mark, ended_at=at(4))
        assert step.mark == Mark(at(4), pending=Fire(at(2), 1), sent=True)
        assert [(item.first, item.last, item.reason) for item in step.decided] == [
            (at(3), at(4), "removed"),
            (at(1), at(1), "removed"),
        ]

    def test_a_new_host_starts_from_its_baseline(self) -> None:
        assert planning.begin(effective_from=NOON, decided_through=None) == Mark(NOON)
        assert planning.begin(effective_from=NOON, decided_through=at(9)) == Mark(at(9))

    def test_a_baseline_never_moves_back(self) -> None:
        step = planning.refresh(plan(), Mark(at(9)), effective_from=NOON, decided_through=at(3))
        assert step.mark == Mark(at(9))


def paused(*turns: tuple[float, int, str | None], revision: int = 2, **more: object) -> Plan:
    """Off for `one`; then from these minutes on of these revisions: off for that reason, or (None) on."""
    made = [Turn(at=at(when), revision=number, enabled=why is None, off_reason=why) for when, number, why in turns]
    off = plan(revision=revision, enabled=False, off_reason="one", turns=tuple(made))
    return replace(off, **more)  # type: ignore[arg-type]  # more of Plan's own fields


class TestTurns:
    def test_it_goes_on_by_itself_with_the_slot_after_the_end(self) -> None:
        off = paused((5.5, 3, None))
        waiting = planning.look(off, Mark(NOON), at(5.9))
        assert waiting == Step(Mark(NOON), wake=at(6)), "until then the server may say that the end was another one"
        step = planning.look(off, Mark(NOON), at(6))
        assert step.decided == (Decided(2, at(1), at(5), 5, Fate.SKIPPED, "one"),)
        assert step.mark == Mark(at(6), pending=Fire(at(6), 3))
        assert step.wake == at(7)
        again = planning.look(off, replace(step.mark, pending=None), at(7))
        assert (again.decided, again.mark.pending) == ((), Fire(at(7), 3))

    def test_a_slot_at_the_very_end_is_in_the_pause(self) -> None:
        step = planning.look(paused((5, 3, None)), Mark(NOON), at(6))
        assert step.decided == (Decided(2, at(1), at(5), 5, Fate.SKIPPED, "one"),)
        assert planning.look(paused((5, 3, None)), Mark(NOON), at(5)).decided == ()

    def test_each_of_several_ends_has_its_own_revision_and_reason(self) -> None:
        off = paused((2.5, 3, "two"), (4.5, 4, None))
        assert planning.look(off, Mark(NOON), at(3)) == Step(Mark(NOON), wake=at(5))
        step = planning.look(off, Mark(NOON), at(8))
        assert step.decided == (
            Decided(2, at(1), at(2), 2, Fate.SKIPPED, "one"),
            Decided(3, at(3), at(4), 2, Fate.SKIPPED, "two"),
            Decided(4, at(5), at(7), 3, Fate.COALESCED, "a later slot took its place", at(8)),
        )
        assert step.mark == Mark(at(8), pending=Fire(at(8), 4, "catch-up", 4))

    def test_it_stays_off_where_one_pause_has_no_end(self) -> None:
        off = paused((2.5, 3, "two"))
        assert planning.look(off, Mark(NOON), at(100)) == Step(Mark(NOON))
        gone = planning.end(off, Mark(NOON), ended_at=at(4))
        assert [(item.revision, item.count, item.reason) for item in gone.decided] == [(2, 2, "one"), (3, 2, "two")]

    def test_catch_ups_after_the_end_wait_until_settled_and_too_late_is_missed(self) -> None:
        off = paused((5, 3, None), max_lateness=timedelta(minutes=2))
        hourly = replace(off, timetable=plan("*/30 * * * *").timetable)
        waiting = planning.look(hourly, Mark(NOON), at(40), settled_at=at(41))
        assert waiting == Step(Mark(NOON), wake=at(41))
        step = planning.look(hourly, Mark(NOON), at(41))
        assert step.decided == (Decided(3, at(30), at(30), 1, Fate.MISSED, "more than 2m late"),)

    def test_the_splay_counts_after_the_end_too(self) -> None:
        off = paused((5, 3, None), splay=timedelta(seconds=40))
        assert planning.look(off, Mark(NOON), at(6)).wake == at(6) + timedelta(seconds=40)
        assert planning.look(off, Mark(NOON), at(6.7)).mark.pending == Fire(at(6), 3)

    def test_the_server_tells_of_the_end(self) -> None:
        """Before, at and after the first slot behind it: the fire stays what it is, and nothing is closed twice."""
        off, on = paused((5.5, 3, None)), plan(revision=3)
        quiet = planning.change(off, on, Mark(NOON), effective_from=at(5.5), decided_through=None)
        assert quiet.decided == (Decided(2, at(1), at(5), 5, Fate.SKIPPED, "one"),)
        assert quiet.wake == at(6)
        sent = replace(planning.look(off, Mark(NOON), at(6)).mark, sent=True)
        after = planning.change(off, on, sent, effective_from=at(5.5), decided_through=None)
        assert (after.mark, after.decided) == (sent, ())

    def test_resumed_early_while_away(self) -> None:
        """What was not closed yet is caught up; a fire goes on under the revision that was really in force."""
        off, on = paused((8.5, 3, None)), plan(revision=4)
        early = planning.change(off, on, Mark(NOON), effective_from=at(2.5), decided_through=None)
        assert early.decided == (Decided(2, at(1), at(2), 2, Fate.SKIPPED, "one"),)
        assert planning.look(on, early.mark, at(7)).mark.pending == Fire(at(7), 4, "catch-up", 5)
        fired = planning.look(off, Mark(NOON), at(9)).mark
        late = planning.change(off, on, replace(fired, superseded=True), effective_from=at(2.5), decided_through=None)
        assert late.mark == Mark(at(9), pending=Fire(at(9), 4))
        assert late.decided == ()

    def test_prolonged_while_away(self) -> None:
        off, longer = paused((5.5, 3, None)), paused((20.5, 5, None), revision=4)
        fired = planning.look(off, Mark(NOON), at(7)).mark
        unsent = planning.change(off, longer, fired, effective_from=at(3.2), decided_through=None)
        assert unsent.decided == (Decided(3, at(7), at(7), 1, Fate.SKIPPED, "one"),)
        assert (unsent.mark, unsent.wake) == (Mark(at(7)), at(21))
        sent = planning.change(off, longer, replace(fired, sent=True), effective_from=at(3.2), decided_through=None)
        assert sent.mark.pending == fired.pending, "only the server's answer ends it"

    def test_ended_and_begun_anew_while_away(self) -> None:
        """What ran after the end that was known, ran; a slot of the new pause's time does not."""
        off, new = paused((3.5, 3, None)), paused((20.5, 6, None), revision=5, off_reason="new")
        still = planning.change(off, new, Mark(NOON), effective_from=at(2.5), decided_through=None)
        assert still.decided == (Decided(2, at(1), at(2), 2, Fate.SKIPPED, "one"),)
        went_on = replace(planning.look(off, Mark(NOON), at(4)).mark, pending=None)
        looked = planning.look(off, went_on, at(8))
        step = planning.change(off, new, looked.mark, effective_from=at(6.5), decided_through=None)
        assert step.decided == (Decided(3, at(8), at(8), 1, Fate.SKIPPED, "new"),)
        assert (step.mark, step.wake) == (Mark(at(8)), at(21))

    def test_the_news_of_a_pause_comes_after_its_end(self) -> None:
        """A fire of the pause's time is skipped with its reason, one behind the end takes the revision of then."""
        off = paused((5.5, 3, None))
        for slot, left, why in ((4, None, ["one"]), (6, Fire(at(6), 3), [])):
            mark = Mark(at(slot), pending=Fire(at(slot), 1))
            step = planning.change(plan(), off, mark, effective_from=at(2.5), decided_through=None)
            assert (step.mark.pending, [item.reason for item in step.decided]) == (left, why)
            assert step.wake == at(6 if slot == 4 else 7)

    def test_a_clock_that_was_wrong_goes_back_into_the_pause(self) -> None:
        off = paused((5, 3, None))
        step = planning.look(off, Mark(at(600)), at(2))
        assert (step.rebased_from, step.mark, step.wake) == (at(600), Mark(at(2)), at(6))


# -- a random history -------------------------------------------------------------------------------------------------


@dataclass
class History:
    """One schedule lived through at random, every decision recorded slot by slot."""

    current: Plan
    mark: Mark
    now: datetime
    plans: dict[int, Plan] = field(default_factory=dict)
    fates: dict[datetime, list[str]] = field(default_factory=dict)
    past: list[tuple[Plan, datetime, datetime]] = field(default_factory=list)  # plans that were in force, from and to
    since: datetime = NOON
    link: bool = True
    running: datetime | None = None
    settled_at: datetime | None = None

    def take(self, step: Step) -> None:
        known = {fire.slot for fire in (step.mark.pending, step.mark.held, self.mark.pending) if fire is not None}
        known |= self.fates.keys()
        for item in step.decided:
            slots = list(self.slots(self.plans[item.revision], item.first - timedelta(seconds=1), item.last))
            if len(slots) != item.count:  # those that were past already: the ones with a fate are not in it
                slots = [slot for slot in slots if slot not in known]
            assert len(slots) == item.count
            assert slots[0] == item.first
            assert slots[-1] == item.last
            for slot in slots:
                self.fates.setdefault(slot, []).append(item.fate)
        self.mark = step.mark
        if self.link and self.mark.pending is not None and not self.mark.sent and not self.mark.superseded:
            self.take(planning.hand_over(self.current, self.mark, self.now))

    @staticmethod
    def slots(of: Plan, after: datetime, through: datetime) -> Iterator[datetime]:
        slot = of.timetable.first_after(after)
        while slot is not None and slot <= through:
            yield slot
            slot = of.timetable.first_after(slot)

    def happen(self, what: str, value: object, make: Callable[..., Plan]) -> None:
        match what, value:
            case "pass", int(seconds):
                self.now += timedelta(seconds=seconds)
                self.look()
            case "answer", _:
                self.server_answers()
            case "end", _:
                self.job_ends()
            case "link", bool(up):
                self.link = up
                if up and self.mark.pending is not None and not self.mark.sent:
                    self.take(planning.hand_over(self.current, self.mark, self.now))
            case "restart", int(settle):
                self.settled_at = self.now + timedelta(seconds=settle)
            case "edit", (str(cron), bool(enabled), int(news_took)):
                effective_from = max(self.since, self.now - timedelta(seconds=news_took))
                self.edit(make(cron, max(self.plans) + 1, enabled=enabled), effective_from)
            case "pause", (list(lasting), bool(for_good), int(news_took)):
                effective_from = max(self.since, self.now - timedelta(seconds=news_took))
                number, turns, ends = max(self.plans) + 1, list[Turn](), effective_from
                for step, seconds in enumerate(lasting, start=1):
                    ends += timedelta(seconds=seconds)
                    on = step == len(lasting) and not for_good
                    turns.append(Turn(at=ends, revision=number + step, enabled=on, off_reason=None if on else "more"))
                off = replace(self.current, turns=(), enabled=False, off_reason="paused", revision=number)
                self.edit(replace(off, turns=tuple(turns)), effective_from)
            case "told", _ if self.current.turns and self.current.turns[0].at <= self.now:
                (turn, *rest) = self.current.turns
                became = replace(self.current, revision=turn.revision, enabled=turn.enabled, turns=tuple(rest))
                self.edit(replace(became, off_reason=turn.off_reason or planning.DISABLED), turn.at)

    def look(self) -> None:
        mark = replace(self.mark, running=self.running is not None)
        step = planning.look(self.current, mark, self.now, settled_at=self.settled_at)
        self.take(replace(step, mark=replace(step.mark, running=False)))

    def server_answers(self) -> None:
        """The order comes: the pending fire's job starts."""
        if self.link and self.mark.pending is not None and self.mark.sent and self.running is None:
            self.running = self.mark.pending.slot
            self.fates.setdefault(self.running, []).append("ran")
            self.mark = replace(self.mark, pending=None, sent=False)

    def job_ends(self) -> None:
        if self.running is not None:
            self.running = None
            if self.mark.pending is None:
                self.take(planning.release(self.current, self.mark, self.now))

    @staticmethod
    def parts(of: Plan, since: datetime, through: datetime) -> Iterator[tuple[Plan, datetime, datetime]]:
        for phase, until in of.phases():
            ends = through if until is None else max(since, min(until, through))
            yield phase, since, ends
            since = ends

    def edit(self, new: Plan, effective_from: datetime) -> None:
        self.look()
        self.past += self.parts(self.current, self.since, effective_from)
        old, self.current, self.since = self.current, new, effective_from
        self.plans.update((phase.revision, phase) for phase, _ in new.phases())
        step = planning.change(old, new, self.mark, effective_from=effective_from, decided_through=None)
        self.take(step)


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.integers(1, 400)),
        st.tuples(st.just("pass"), st.integers(100, 130)),
        st.tuples(st.just("answer"), st.just(0)),
        st.tuples(st.just("end"), st.just(0)),
        st.tuples(st.just("link"), st.booleans()),
        st.tuples(st.just("restart"), st.integers(0, 90)),
        st.tuples(
            st.just("edit"),
            st.tuples(
                st.sampled_from(["*/2 * * * *", "*/3 * * * *", "@every 45s"]),
                st.booleans(),
                st.sampled_from([0, 0, 50, 300]),
            ),
        ),
        st.tuples(
            st.just("pause"),
            st.tuples(st.lists(st.integers(1, 400), max_size=3), st.booleans(), st.sampled_from([0, 0, 50, 300])),
        ),
        st.tuples(st.just("told"), st.just(0)),
    ),
    min_size=20,
    max_size=80,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    EVENTS,
    st.sampled_from([Overlap.QUEUE, Overlap.SKIP]),
    st.sampled_from([None, timedelta(seconds=130)]),
    st.sampled_from([timedelta(), timedelta(seconds=37)]),
)
def test_every_slot_has_exactly_one_fate(
    events: list[tuple[str, object]], overlap: Overlap, max_lateness: timedelta | None, splay: timedelta
) -> None:
    def make(cron: str, revision: int, *, enabled: bool = True) -> Plan:
        made = plan(cron, revision=revision, enabled=enabled, overlap=overlap, max_lateness=max_lateness)
        return replace(made, splay=splay)

    first = make("*/2 * * * *", 1)
    life = History(first, planning.begin(effective_from=NOON, decided_through=None), NOON, {1: first})
    for what, value in events:
        life.happen(what, value, make)
    in_force = [*life.past, *life.parts(life.current, life.since, life.mark.watermark)]

    open_slots = {fire.slot for fire in (life.mark.pending, life.mark.held) if fire is not None}
    for slot, fates in life.fates.items():
        assert len(fates) == 1, (slot, fates)
        assert slot not in open_slots
    for of, after, through in in_force:
        if not of.enabled and of.revision >= life.current.revision:
            continue  # still off, or not noticed that it is over: closed when it changes, ends or goes on
        for slot in History.slots(of, after, through):
            assert slot in life.fates or slot in open_slots, (slot, "unexplained")
