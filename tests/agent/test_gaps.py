"""Why a slot is late is known as long as it is late, whatever happens to the agent meanwhile."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import trio
from trio.testing import MockClock

from restic_manager.agent.gaps import AT_MOST, KEEP, Gaps
from restic_manager.domain.model import Evidence
from restic_manager.protocol.messages import JobStarted, ScheduleFire, SlotDecided
from tests.agent.scripted import World, at, dispatched, entry, order, world


def gap(since: float, until: float, what: str = "not_running") -> Evidence:
    return Evidence(what=what, since=at(since), until=at(until))


class TestGaps:
    def test_the_one_that_holds_the_slot(self) -> None:
        gaps = Gaps([gap(0, 10)])
        gaps.add(gap(20, 30, "suspended"))
        assert gaps.over(at(5), at(5)) == gap(0, 10)
        assert gaps.over(at(20), at(20)) == gap(20, 30, "suspended")
        assert gaps.over(at(15), at(15)) is None
        assert Gaps().over(at(0), at(9)) is None

    def test_of_several_the_one_that_made_most_slots_late(self) -> None:
        gaps = Gaps([gap(0, 10), gap(11, 40)])
        assert gaps.over(at(5), at(35)) == gap(11, 40)
        assert gaps.over(at(1), at(12)) == gap(0, 10)

    def test_an_agent_that_crashes_again_and_again_does_not_hide_the_long_one(self) -> None:
        gaps = Gaps([gap(0, 300)])
        for minute in range(301, 400):
            gaps.add(gap(minute, minute + 0.2))
        assert len(gaps.known) == AT_MOST
        assert gaps.over(at(100), at(100)) == gap(0, 300)
        assert gaps.over(at(301), at(301)) is not None

    def test_what_is_long_over_goes(self) -> None:
        gaps = Gaps([gap(0, 300)])
        gaps.add(Evidence(what="suspended", since=at(300) + KEEP, until=at(301) + KEEP))
        assert len(gaps.known) == 1
        assert gaps.over(at(100), at(100)) is None


async def away_and_back(here: World, minutes: float) -> None:
    here.kill()
    await trio.sleep(minutes * 60)
    await here.start()


async def forget_gaps(here: World) -> None:
    """What a fire knows it knows by itself: gaps are not kept for ever."""
    assert here.journal is not None
    gone = await here.journal.write(lambda db: db.execute("DELETE FROM meta WHERE key = 'gaps'").rowcount)
    assert gone == 1


async def test_a_second_start_before_the_catch_up_knows_why_it_is_late(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as here:
        here.catch_up_delay = 120
        await here.start()
        desk = await here.connected()
        await desk.apply(entry(cron="*/10 * * * *"))
        await away_and_back(here, 36)
        await here.connected()
        await trio.sleep(30)
        await away_and_back(here, 0.1)
        desk = await here.connected()
        fire = await desk.next(ScheduleFire)
        assert (fire.scheduled_at, fire.trigger, fire.stands_for) == (at(30), "catch-up", 3)
        assert fire.evidence is not None
        assert fire.evidence.since is not None
        assert fire.evidence.until is not None
        assert fire.evidence.since < at(1)
        assert at(36) <= fire.evidence.until < at(36.5)
        coalesced = await desk.next(SlotDecided)
        assert coalesced.evidence == fire.evidence


async def test_a_fire_that_waits_for_the_server_keeps_its_evidence(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        await here.start()
        desk = await here.connected()
        await desk.apply(entry(cron="0 0 * * *"))
        here.cut(for_good=True)
        await away_and_back(here, 15 * 60)
        await trio.sleep(60)
        await forget_gaps(here)
        await away_and_back(here, 10)
        here.up = True
        desk = await here.connected()
        fire = await desk.next(ScheduleFire)
        assert fire.scheduled_at == at(12 * 60)
        assert fire.evidence is not None
        assert fire.evidence.since is not None
        assert fire.evidence.until is not None
        assert fire.evidence.since < at(5)
        assert at(15 * 60) <= fire.evidence.until < at(15 * 60 + 1)


async def test_a_held_slot_keeps_its_evidence_and_goes_on_after_a_start(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as here:
        here.restic.seconds = 24 * 3600
        await here.start()
        desk = await here.connected()
        await desk.apply(entry(cron="0 * * * *"))
        await desk.say(dispatched(await desk.next(ScheduleFire)))
        await desk.say(order(at(60)))
        await desk.next(JobStarted)
        here.clock.step(timedelta(minutes=90))
        desk = await here.connected()  # a clock that was set is told
        await trio.sleep(90)
        assert desk.count(ScheduleFire) == 0, "the slot is held: the run goes on"
        await forget_gaps(here)
        await away_and_back(here, 1)
        desk = await here.connected()
        fire = await desk.next(ScheduleFire)
        assert (fire.scheduled_at, fire.trigger) == (at(120), "catch-up")
        assert here.clock.now() < at(160), "it does not wait until it is known what became of the run"
        assert fire.evidence is not None
        assert fire.evidence.what == "suspended"
