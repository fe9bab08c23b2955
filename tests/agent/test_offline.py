"""Without the server: standing orders, their grace and lease, and runs that were cut off with their agent."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import trio
import trio.testing
from trio.testing import MockClock

from restic_manager.agent.app import Offline
from restic_manager.agent.grace import Grace
from restic_manager.domain.model import Offline as OfflineRule
from restic_manager.domain.model import Status, slot_job_id
from restic_manager.protocol.messages import (
    CAP_HOOKS,
    CAP_KINDS,
    CAP_PROBE,
    CAP_REFERENCES,
    CAP_ROTATE,
    CAP_STANDING_ORDERS,
    JobFinished,
    JobStarted,
    ScheduleFire,
)
from restic_manager.secrets import Sealer
from tests.agent.scripted import World, at, dispatched, entry, order, world


def offline(grace: float = 60, lease: timedelta = timedelta(days=30)) -> Offline:
    return Offline(Sealer(os.urandom(32)), grace, lease)


def ran(here: World) -> list[tuple[str, float]]:
    return [(job_id, (when - at(0)).total_seconds()) for job_id, when in here.restic.ran]


def slot_job(minutes: float, schedule_id: str = "s1") -> str:
    return slot_job_id(schedule_id, "host-1", at(minutes))


class TestStandingOrders:
    async def test_with_the_server_away_a_slot_runs_after_its_grace(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            here.offline = offline()
            await here.start()
            desk = await here.connected()
            assert desk.hello.capabilities == (
                CAP_KINDS,
                CAP_HOOKS,
                CAP_ROTATE,
                CAP_REFERENCES,
                CAP_PROBE,
                CAP_STANDING_ORDERS,
            )
            await desk.apply(entry(cron="0 * * * *", with_order=True))
            here.cut(for_good=True)
            await trio.sleep(3600 * 2 + 300)
            assert ran(here) == [(slot_job(60), 3660), (slot_job(120), 7260)]
            here.up = True
            desk = await here.connected()
            assert [(claim.job_id, claim.state) for claim in desk.hello.jobs] == [
                (slot_job(60), "finished"),
                (slot_job(120), "finished"),
            ]
            first = await desk.next(JobFinished)
            assert (first.schedule_id, first.scheduled_at, first.outcome.status) == ("s1", at(60), Status.SUCCEEDED)
            assert (await desk.next(JobFinished)).scheduled_at == at(120)
            assert desk.count(ScheduleFire) == 0

    async def test_a_slot_that_a_wrong_clock_has_run_already_does_not_hold_up_the_next(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        """Found by the simulation: its fire stayed open for ever, and with it the schedule."""
        async with world(tmp_path) as here:
            here.offline = offline()
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="0 * * * *", with_order=True))
            here.cut(for_good=True)
            here.clock.step(timedelta(hours=3, minutes=1))
            await trio.sleep(120)
            assert [job_id for job_id, _ in ran(here)] == [slot_job(180)]
            here.clock.step(timedelta(hours=-3, minutes=-1))
            await trio.sleep(3600 * 2 + 600)
            assert [job_id for job_id, _ in ran(here)[1:]] == [slot_job(60), slot_job(120)]
            here.up = True
            desk = await here.connected()
            assert (await desk.next(ScheduleFire)).scheduled_at == at(180)
            here.cut(for_good=True)
            await trio.sleep(3600 + 300)
            assert [job_id for job_id, _ in ran(here)[3:]] == [slot_job(240)]

    async def test_an_unanswered_fire_runs_whatever_the_link_looks_like(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            here.offline = offline()
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="0 * * * *", with_order=True))
            fire = await desk.next(ScheduleFire)
            await desk.next(JobFinished)
            assert ran(here) == [(slot_job(60), 3660)]
            await desk.say(dispatched(fire))  # the answer and the order come after all
            await desk.say(order(at(60)))
            await trio.sleep(300)
            assert len(here.restic.ran) == 1

    async def test_an_answered_fire_waits_for_its_order_while_the_link_is_up(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            here.offline = offline()
            here.reconnect_max = 1.0
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="0 * * * *", with_order=True))
            await desk.say(dispatched(await desk.next(ScheduleFire)))
            await trio.sleep(1800)
            assert here.restic.ran == []
            cut_at = here.clock.now()
            here.cut(for_good=True)
            await trio.sleep(50)
            here.up = True
            desk = await here.connected()
            waited = (here.clock.now() - cut_at).total_seconds()
            await trio.sleep(600)
            assert here.restic.ran == []
            here.cut(for_good=True)
            gone = (here.clock.now() - at(0)).total_seconds()
            await trio.sleep(70)
            [(job_id, when)] = ran(here)
            assert job_id == slot_job(60)
            assert abs(when - gone - (60 - waited)) < 1

    async def test_a_schedule_that_waits_never_runs_by_itself(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            here.offline = offline()
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="0 * * * *", with_order=True, offline=OfflineRule.WAIT))
            here.cut(for_good=True)
            await trio.sleep(3 * 3600)
            assert here.restic.ran == []
            here.up = True
            desk = await here.connected()
            fire = await desk.next(ScheduleFire)
            assert (fire.scheduled_at, fire.stands_for) == (at(180), 3)

    async def test_an_agent_that_keeps_no_orders_says_so_and_waits(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            here.offline = offline()
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="0 * * * *", with_order=True), version=5)
            here.kill()
            await trio.sleep(1)
            here.offline = None
            await here.start()
            desk = await here.connected()
            assert desk.hello.capabilities == (CAP_KINDS, CAP_HOOKS, CAP_ROTATE, CAP_REFERENCES, CAP_PROBE)
            assert desk.hello.applied_version == 0  # the set it has is not of the kind it wants now
            here.cut(for_good=True)
            assert here.journal is not None
            assert await here.journal.read(lambda db: db.execute("SELECT COUNT(*) FROM orders").fetchone()) == (0,)
            await trio.sleep(2 * 3600)
            assert here.restic.ran == []

    async def test_a_schedule_more_frequent_than_the_grace_runs_too(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            here.offline = offline(grace=60)
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="@every 20s", with_order=True))
            here.cut(for_good=True)
            await trio.sleep(600)
            times = [when for _, when in ran(here)]
            assert times[0] == 80
            assert len(times) >= 6
            assert len({job_id for job_id, _ in here.restic.ran}) == len(times)

    async def test_beyond_the_lease_nothing_runs_by_itself(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            here.offline = offline(lease=timedelta(hours=3, minutes=30))
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="0 * * * *", with_order=True))
            here.cut(for_good=True)
            await trio.sleep(8 * 3600)
            assert [when for _, when in ran(here)] == [3660, 7260, 10860]

    async def test_a_restart_without_the_server_runs_what_was_pending(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            here.offline = offline()
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="0 * * * *", with_order=True))
            here.cut(for_good=True)
            await trio.sleep(3600 + 30)
            here.kill()
            await trio.sleep(10)
            await here.start()
            await trio.sleep(120)
            assert ran(here) == [(slot_job(60), 3700)]

    async def test_no_secret_is_in_the_data_directory(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            here.offline = offline()
            here.restic.seconds = 600
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="0 * * * *", with_order=True))
            await desk.say(order(at(0)))
            await desk.next(JobStarted)
            assert here.journal is not None
            assert await here.journal.read(lambda db: db.execute("SELECT COUNT(*) FROM orders").fetchone()) == (1,)
            for path in tmp_path.iterdir():
                assert b"planted" not in path.read_bytes()


class TestCutOff:
    async def cut_off(self, here: World) -> None:
        here.offline = offline()
        here.restic.seconds = 600
        await here.start()
        desk = await here.connected()
        await desk.apply(entry(cron="0 * * * *"))
        await desk.say(order(at(0)))
        await desk.next(JobStarted)
        here.kill()
        await trio.sleep(5)

    async def test_a_snapshot_that_was_made_counts(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            await self.cut_off(here)
            here.restic.snapshots[slot_job(0)] = "feedbeef"
            await here.start()
            desk = await here.connected()
            finished = await desk.next(JobFinished)
            assert (finished.outcome.status, finished.outcome.snapshot_id) == (Status.SUCCEEDED, "feedbeef")
            assert finished.outcome.error is None
            assert here.restic.left_over == [slot_job(0)]

    async def test_without_one_it_is_interrupted(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            await self.cut_off(here)
            await here.start()
            desk = await here.connected()
            finished = await desk.next(JobFinished)
            assert finished.outcome.status is Status.INTERRUPTED
            assert finished.outcome.error is not None
            assert "no snapshot" in finished.outcome.error.message

    async def test_an_unreachable_repository_is_asked_again_and_no_slot_runs_meanwhile(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            await self.cut_off(here)
            here.restic.unreachable = 20
            here.restic.snapshots[slot_job(0)] = "feedbeef"
            await here.start()
            desk = await here.connected()
            assert [claim.state for claim in desk.hello.jobs] == ["running"]
            await desk.say(order(at(0)))  # it is known: nothing runs twice
            finished = await desk.next(JobFinished)
            assert finished.outcome.status is Status.INTERRUPTED
            assert finished.outcome.error is not None
            assert "did not answer for 1h" in finished.outcome.error.message
            assert len(here.restic.ran) == 1
            assert (await desk.next(ScheduleFire)).scheduled_at == at(60)


class TestGrace:
    def test_unanswered_counts_from_the_fire(self) -> None:
        grace = Grace(60)
        grace.link_up(0)
        grace.opened("s", at(0), 100)
        grace.opened("s", at(0), 130)
        assert grace.next_deadline() == 160
        assert grace.over(159.9) == []
        assert grace.over(160) == ["s"]

    def test_answered_counts_only_while_the_link_is_down(self) -> None:
        grace = Grace(60)
        grace.link_up(0)
        grace.opened("s", at(0), 100)
        grace.answered("s", 110)
        assert grace.next_deadline() is None
        grace.link_down(200)
        assert grace.next_deadline() == 260
        grace.link_up(240)
        assert grace.next_deadline() is None
        grace.link_down(1000)
        assert grace.next_deadline() == 1020

    def test_put_off_and_closed(self) -> None:
        grace = Grace(60)
        grace.opened("s", at(0), 0)
        grace.put_off("s", 500)
        assert grace.over(100) == []
        assert grace.next_deadline() == 500
        grace.closed("s")
        assert grace.next_deadline() is None

    def test_a_fire_in_place_of_an_unsent_one_goes_on_waiting(self) -> None:
        grace = Grace(60)
        grace.opened("s", at(0), 0)
        grace.opened("s", at(1), 50, in_place=True)
        assert grace.next_deadline() == 60
        grace.opened("s", at(2), 55)
        assert grace.next_deadline() == 115

    def test_none_is_never(self) -> None:
        grace = Grace(None)
        grace.opened("s", at(0), 0)
        assert grace.next_deadline() is None
        assert grace.over(1e9) == []
