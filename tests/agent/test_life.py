"""The agent's life in virtual time: sets, fires, orders, reports, losses of link and process."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from restic_manager.domain.model import Fate, Overlap, Status, slot_job_id
from restic_manager.protocol.messages import (
    Ack,
    CommandCancel,
    Ended,
    Error,
    Goodbye,
    JobFinished,
    JobLog,
    JobProgress,
    JobStarted,
    Refused,
    ScheduleAck,
    ScheduleFire,
    ScheduleFired,
    SlotDecided,
)
from tests.agent.scripted import START, Desk, at, dispatched, entry, order, schedule_set, world


def fires(desk: Desk) -> list[ScheduleFire]:
    return [message for _, message in desk.heard if isinstance(message, ScheduleFire)]


def decided(desk: Desk) -> list[SlotDecided]:
    return [message for _, message in desk.heard if isinstance(message, SlotDecided)]


class TestSets:
    async def test_ack_on_apply_carries_the_version(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            assert await desk.apply(entry(), version=7) == ScheduleAck(epoch="e1", version=7)
            assert await desk.apply(version=8) == ScheduleAck(epoch="e1", version=8)

    async def test_a_tick_sends_one_fire(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="*/5 * * * *"))
            fire = await desk.next(ScheduleFire)
            assert (fire.scheduled_at, fire.trigger, fire.stands_for, fire.revision) == (at(5), "tick", 1, 1)
            assert here.clock.now() - at(5) < timedelta(milliseconds=1)
            with trio.move_on_after(240):
                await desk.next(Goodbye)
            assert len(fires(desk)) == 1

    async def test_disabled_entries_do_not_fire(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry("off", enabled=False), entry("on", cron="*/30 * * * *"))
            assert (await desk.next(ScheduleFire)).schedule_id == "on"
            assert here.clock.now() >= at(30)
            assert len(fires(desk)) == 1

    async def test_a_new_set_stops_the_old_one(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry("old"))
            first = await desk.next(ScheduleFire)
            assert first.schedule_id == "old"
            ended = Ended(schedule_id="old", ended_at=here.clock.now())
            await desk.apply(entry("new", cron="*/10 * * * *", since=here.clock.now()), version=2, ended=(ended,))
            assert (await desk.next(ScheduleFire)).scheduled_at == at(10)
            assert [fire.schedule_id for fire in fires(desk)] == ["old", "new"]

    async def test_an_unusable_entry_is_refused_alone(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            broken = msgspec.Raw(b'{"schedule_id":"torn","name":"x"}')
            good = schedule_set(entry("good"), entry("six", cron="* * * * * *"), entry("R", cron="R * * * *"))
            await desk.say(msgspec.structs.replace(good, entries=(broken, *good.entries)))
            ack = await desk.next(ScheduleAck)
            assert [item.schedule_id for item in ack.refused] == ["torn", "six", "R"]
            assert all(item.reason for item in ack.refused)
            assert (await desk.next(ScheduleFire)).schedule_id == "good"

    async def test_a_set_in_parts_is_applied_when_all_have_come(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            first = msgspec.structs.replace(schedule_set(entry("a")), part=1, parts=2)
            second = msgspec.structs.replace(schedule_set(entry("b")), part=2, parts=2)
            await desk.say(second)
            with trio.move_on_after(300):
                await desk.next(ScheduleAck)
            assert desk.count(ScheduleFire) == 0
            await desk.say(first)
            await desk.next(ScheduleAck)
            got = {(await desk.next(ScheduleFire)).schedule_id, (await desk.next(ScheduleFire)).schedule_id}
            assert got == {"a", "b"}

    async def test_content_edits_keep_the_watermark(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="*/5 * * * *"))
            await desk.run_next()
            for version in range(2, 6):
                await desk.apply(entry(cron="*/5 * * * *"), version=version)
            await desk.run_next()
            assert [fire.scheduled_at for fire in fires(desk)] == [at(5), at(10)]
            assert decided(desk) == []

    async def test_a_slot_in_the_swap_is_neither_skipped_nor_fired_twice(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        """The edit took effect just before the slot, its news came just after: the old revision's fire is refused."""
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="*/5 * * * *"))
            fire = await desk.next(ScheduleFire)
            refusal = ScheduleFired(
                schedule_id="s1",
                revision=1,
                scheduled_at=fire.scheduled_at,
                answer="rejected",
                code="superseded",
                message="the schedule was changed",
            )
            await desk.say(refusal)
            new = entry(cron="*/10,5 * * * *", revision=2, since=at(4.99))
            await desk.apply(new, version=2)
            again = await desk.next(ScheduleFire)
            assert (again.scheduled_at, again.revision) == (at(5), 2)
            await desk.say(refusal)  # a late answer to the old revision closes nothing
            await desk.say(dispatched(again))
            await desk.say(order(at(5)))
            assert (await desk.next(JobFinished)).scheduled_at == at(5)
            assert len(here.restic.ran) == 1
            assert decided(desk) == []

    @pytest.mark.parametrize("cron", ["*/10,5 * * * *", "2 * * * *", None])
    async def test_a_refusal_that_the_new_set_has_overtaken_is_settled_at_once(
        self, cron: str | None, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        """The set came first, so no set will follow that says what becomes of the refused slot."""
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="*/5 * * * *"))
            fire = await desk.next(ScheduleFire)
            if cron is None:
                await desk.apply(version=2, ended=(Ended(schedule_id="s1", ended_at=at(4.99)),))
            else:
                await desk.apply(entry(cron=cron, revision=2, since=at(4.99)), version=2)
            await desk.say(
                ScheduleFired(
                    schedule_id="s1", revision=1, scheduled_at=fire.scheduled_at, answer="rejected", code="superseded"
                )
            )
            if cron == "*/10,5 * * * *":
                again = await desk.next(ScheduleFire)
                assert (again.scheduled_at, again.revision) == (at(5), 2)
                return
            told = await desk.next(SlotDecided)
            reason = "removed" if cron is None else "superseded by revision 2"
            assert (told.first, told.count, told.fate, told.reason) == (at(5), 1, Fate.SKIPPED, reason)
            assert here.journal is not None
            assert await here.journal.read(lambda db: db.execute("SELECT COUNT(*) FROM fires").fetchone()) == (0,)

    async def test_a_refused_slot_from_before_the_new_timing_is_not_taken_for_one_of_its(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        """Found by the simulation: of two changes the host had seen the second only, which has such a slot later on."""
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="*/5 * * * *"))
            fire = await desk.next(ScheduleFire)
            await desk.apply(entry(cron="* * * * *", revision=3, since=at(5.5)), version=3)
            await desk.say(
                ScheduleFired(
                    schedule_id="s1", revision=1, scheduled_at=fire.scheduled_at, answer="rejected", code="superseded"
                )
            )
            told = await desk.next(SlotDecided)
            assert (told.first, told.revision, told.reason) == (at(5), 1, "superseded by revision 3")


class TestRuns:
    async def test_a_tick_becomes_a_run_and_comes_back(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry())
            finished = await desk.run_next()
            kinds = [type(message) for _, message in desk.heard if getattr(message, "seq", 0)]
            assert kinds == [JobStarted, JobLog, JobFinished]
            assert [message.seq for _, message in desk.heard if hasattr(message, "seq")] == [1, 2, 3]
            log = next(message for _, message in desk.heard if isinstance(message, JobLog))
            assert (log.first_line, log.text, log.stream) == (1, "one\ntwo", "stdout")
            assert finished.job_id == slot_job_id("s1", "host-1", at(1))
            assert finished.outcome.status is Status.SUCCEEDED
            assert (finished.schedule_id, finished.scheduled_at) == ("s1", at(1))
            assert desk.count(JobProgress) == 1

    async def test_a_known_order_is_never_run_twice(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="@every 1h"))
            await desk.say(order(at(0)))
            await desk.say(order(at(0)))
            first = await desk.next(JobFinished)
            await desk.say(Ack(through=first.seq))
            await trio.testing.wait_all_tasks_blocked()
            await desk.say(order(at(0)))
            again = await desk.next(JobFinished)
            assert again.outcome == first.outcome
            assert again.seq == first.seq + 1
            assert len(here.restic.ran) == 1

    async def test_one_heavy_job_at_a_time_in_order(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(*(entry(f"s{n}") for n in range(6)))
            got = [await desk.next(ScheduleFire) for _ in range(6)]
            for fire in got:
                await desk.say(order(fire.scheduled_at, fire.schedule_id))
            for _ in got:
                await desk.next(JobFinished)
            assert here.restic.most_at_once == 1
            assert [job for job, _ in here.restic.ran] == [
                slot_job_id(fire.schedule_id, "host-1", fire.scheduled_at) for fire in got
            ]

    async def test_slots_during_a_run_become_one(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            here.restic.seconds = 200
            await here.start()
            desk = await here.connected()
            await desk.apply(entry())
            await desk.run_next()
            await desk.run_next()
            assert [fire.scheduled_at for fire in fires(desk)][:2] == [at(1), at(4)]
            assert fires(desk)[1].stands_for == 3
            assert [(item.first, item.into, item.fate) for item in decided(desk)][:2] == [
                (at(2), at(3), Fate.COALESCED),
                (at(3), at(4), Fate.COALESCED),
            ]

    async def test_overlap_skip_records_each_slot(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            here.restic.seconds = 150
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(overlap=Overlap.SKIP))
            await desk.run_next()
            await desk.next(ScheduleFire)
            assert [fire.scheduled_at for fire in fires(desk)] == [at(1), at(4)]
            assert [(item.first, item.fate, item.reason) for item in decided(desk)] == [
                (at(2), Fate.SKIPPED, "overlap: the run before was not finished"),
                (at(3), Fate.SKIPPED, "overlap: the run before was not finished"),
            ]

    async def test_cancel_running_waiting_and_unknown(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            here.restic.seconds = 600
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="@every 1d"))
            await desk.say(order(None, job_id="running"))
            await desk.say(order(None, job_id="waiting"))
            await desk.next(JobStarted)
            await desk.say(CommandCancel(job_id="waiting", reason="by ana"))
            waiting = await desk.next(JobFinished)
            assert (waiting.job_id, waiting.outcome.status, waiting.started_at) == ("waiting", Status.CANCELLED, None)
            await desk.say(CommandCancel(job_id="running"))
            running = await desk.next(JobFinished)
            assert (running.job_id, running.outcome.status) == ("running", Status.CANCELLED)
            await desk.say(CommandCancel(job_id="never seen"))
            assert (await desk.next(JobFinished)).job_id == "never seen"
            await desk.say(Ack(through=100))
            await trio.testing.wait_all_tasks_blocked()
            await desk.say(order(None, job_id="never seen"))  # the tombstone answers
            assert (await desk.next(JobFinished)).outcome.status is Status.CANCELLED
            assert [job for job, _ in here.restic.ran] == ["running"]

    async def test_a_job_that_ended_on_the_server_releases_the_held_slot(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry())
            fire = await desk.next(ScheduleFire)
            await desk.say(dispatched(fire))
            await trio.sleep(90)
            job_id = slot_job_id("s1", "host-1", at(1))
            await desk.say(CommandCancel(job_id=job_id, status=Status.CANCELLED))
            assert (await desk.next(ScheduleFire)).scheduled_at == at(2)

    async def test_a_cancelled_job_whose_order_never_came_releases_its_slot(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        """Found by the simulation: the agent answered the cancel itself, and the fire stayed open for ever."""
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry())
            fire = await desk.next(ScheduleFire)
            await desk.say(dispatched(fire))
            await trio.sleep(90)
            await desk.say(CommandCancel(job_id=slot_job_id("s1", "host-1", at(1)), reason="by ana"))
            assert (await desk.next(JobFinished)).outcome.status is Status.CANCELLED
            assert (await desk.next(ScheduleFire)).scheduled_at == at(2)

    async def test_a_job_that_waits_here_and_ended_on_the_server_releases_its_schedule(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        """Found by the simulation: the schedule counted the job as unfinished until the agent was started again."""
        async with world(tmp_path) as here:
            here.restic.seconds = 3_000
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="@every 10m"))
            await desk.say(order(None, "other", job_id="long"))
            await desk.next(JobStarted)
            fire = await desk.next(ScheduleFire)
            await desk.say(dispatched(fire))
            mine = order(fire.scheduled_at)
            await desk.say(mine)
            await trio.testing.wait_all_tasks_blocked()
            await desk.say(CommandCancel(job_id=mine.job_id, status=Status.CANCELLED))
            again = await desk.next(ScheduleFire)
            assert again.scheduled_at == fire.scheduled_at + timedelta(minutes=10)
            assert [job for job, _ in here.restic.ran] == ["long"]

    @pytest.mark.parametrize("code", ["disabled", "not_a_target", "future"])
    async def test_a_rejected_fire_is_closed(self, code: str, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry())
            fire = await desk.next(ScheduleFire)
            await desk.say(
                ScheduleFired(
                    schedule_id="s1", revision=1, scheduled_at=fire.scheduled_at, answer="rejected", code=code
                )
            )
            assert (await desk.next(ScheduleFire)).scheduled_at == at(2)
            rejected = await desk.next(SlotDecided)
            assert (rejected.first, rejected.fate, rejected.reason) == (at(1), Fate.REJECTED, code)

    @pytest.mark.parametrize("code", ["unknown_schedule", "unknown_revision", "not_a_slot", "decided", "of_tomorrow"])
    async def test_a_rejected_fire_without_a_fate_of_its_own_is_closed_too(
        self, tmp_path: Path, autojump_clock: MockClock, code: str
    ) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry())
            fire = await desk.next(ScheduleFire)
            await desk.say(
                ScheduleFired(
                    schedule_id="s1", revision=1, scheduled_at=fire.scheduled_at, answer="rejected", code=code
                )
            )
            assert (await desk.next(ScheduleFire)).scheduled_at == at(2)
            assert desk.count(SlotDecided) == 0

    async def test_a_clock_that_is_set_is_told_before_anything_is_decided_by_it(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        """Found by the simulation: the server went on judging slots by the offset of the last hello."""
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="*/10 * * * *"))
            here.clock.step(timedelta(hours=3))
            again = await here.connected()
            assert again.hello.clock - desk.hello.clock >= timedelta(hours=3)
            assert desk.count(ScheduleFire) == 0, "by the clock as it was told no such slot was due"
            assert (await again.next(ScheduleFire)).scheduled_at == at(180)

    async def test_a_slot_rejected_as_future_fires_again_only_when_the_clock_goes_far_back(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="0 * * * *"))

            desks = [desk]

            async def set_clock(by: timedelta) -> Desk:
                here.clock.step(by)
                desks.append(await here.connected())
                return desks[-1]

            async def refuse(desk: Desk, slot: datetime) -> None:
                fire = await desk.next(ScheduleFire)
                assert fire.scheduled_at == slot
                await desk.say(
                    ScheduleFired(
                        schedule_id="s1", revision=1, scheduled_at=fire.scheduled_at, answer="rejected", code="future"
                    )
                )
                await trio.sleep(60)

            await refuse(await set_clock(timedelta(minutes=65)), at(60))
            desk = await set_clock(timedelta(minutes=-65))
            assert (await desk.run_next()).scheduled_at == at(120), "the other has its fate, and only that"
            await refuse(await set_clock(timedelta(hours=3)), at(300))
            desk = await set_clock(timedelta(hours=-3))
            assert [(await desk.run_next()).scheduled_at for _ in range(3)] == [at(180), at(240), at(300)]
            told = {one.first for each in desks for one in decided(each) if one.fate is Fate.REJECTED}
            assert told == {at(60), at(300)}

    async def test_an_order_older_than_what_is_remembered_is_not_run(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            assert here.journal is not None
            await here.journal.write(
                lambda db: db.execute("INSERT INTO meta VALUES ('forgot_before', '99999999999999999')")
            )
            await desk.say(order(at(0)))
            finished = await desk.next(JobFinished)
            assert finished.outcome.error is not None
            assert finished.outcome.error.code == "unknown_too_old"
            assert here.restic.ran == []


class TestLosses:
    async def test_fires_wait_for_the_link_and_coalesce_while_unsent(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="*/10 * * * *"))
            here.cut(for_good=True)
            await trio.sleep(35 * 60)
            here.up = True
            desk = await here.connected()
            fire = await desk.next(ScheduleFire)
            assert (fire.scheduled_at, fire.stands_for) == (at(30), 3)
            with trio.move_on_after(60):
                await desk.next(Goodbye)
            assert [(item.first, item.into) for item in decided(desk)] == [(at(10), at(20)), (at(20), at(30))]

    async def test_a_sent_fire_is_sent_again_and_never_coalesced(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="*/10 * * * *"))
            await desk.next(ScheduleFire)
            here.cut(for_good=True)
            await trio.sleep(25 * 60)
            here.up = True
            desk = await here.connected()
            assert (await desk.next(ScheduleFire)).scheduled_at == at(10)
            await desk.say(order(at(10)))
            await desk.next(JobFinished)
            assert (await desk.next(ScheduleFire)).scheduled_at == at(30)
            assert [(item.first, item.into) for item in decided(desk)] == [(at(20), at(30))]

    async def test_a_job_goes_on_while_the_link_is_gone(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            here.restic.seconds = 600
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="0 * * * *"))
            await desk.say(order(at(0)))
            await desk.next(JobStarted)
            here.cut(for_good=True)
            await trio.sleep(1200)
            here.up = True
            desk = await here.connected()
            assert [(claim.job_id, claim.state) for claim in desk.hello.jobs] == [
                (slot_job_id("s1", "host-1", at(0)), "finished")
            ]
            started = await desk.next(JobStarted)
            finished = await desk.next(JobFinished)
            assert started.seq == 1
            assert finished.outcome.status is Status.SUCCEEDED
            assert desk.count(JobLog) == 1
            assert len(here.restic.ran) == 1

    async def test_acknowledged_reports_are_not_sent_again(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="0 * * * *"))
            await desk.say(order(at(0)))
            finished = await desk.next(JobFinished)
            await desk.say(Ack(through=finished.seq - 1))
            await trio.testing.wait_all_tasks_blocked()
            here.cut()
            desk = await here.connected()
            assert (desk.hello.outbox.head, desk.hello.outbox.acked) == (finished.seq, finished.seq - 1)
            assert desk.hello.outbox.acked_hash is not None
            assert await desk.next(JobFinished) == finished
            assert desk.count(JobStarted) == 0

    async def test_a_restart_with_the_server_away_still_knows_its_schedules(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="*/10 * * * *"), version=3)
            here.cut(for_good=True)
            here.kill()
            await trio.sleep(60)
            await here.start()
            await trio.sleep(10 * 60)
            here.up = True
            desk = await here.connected()
            assert (desk.hello.applied_version, desk.hello.applied_epoch) == (3, "e1")
            assert (await desk.next(ScheduleFire)).scheduled_at == at(10)

    async def test_slots_missed_while_not_running_are_caught_up_once_with_evidence(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="*/10 * * * *"))
            here.kill()
            await trio.sleep(36 * 60)
            await here.start()
            desk = await here.connected()
            fire = await desk.next(ScheduleFire)
            assert (fire.scheduled_at, fire.trigger, fire.stands_for) == (at(30), "catch-up", 3)
            assert fire.evidence is not None
            assert fire.evidence.what == "not_running"
            assert fire.evidence.until is not None
            assert at(36) <= fire.evidence.until < at(37)
            await desk.say(dispatched(fire))
            missed = await desk.next(SlotDecided)
            assert (missed.first, missed.last, missed.count, missed.into) == (at(10), at(20), 2, at(30))
            assert missed.evidence is not None

    async def test_catch_up_waits_and_a_slot_on_time_takes_its_place(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            here.catch_up_delay = 300
            await here.start()
            desk = await here.connected()
            await desk.apply(entry("hourly", cron="0 * * * *"), entry("often", cron="*/10 * * * *"))
            here.kill()
            await trio.sleep(69 * 60)
            await here.start()
            desk = await here.connected()
            often = await desk.next(ScheduleFire)
            assert (often.schedule_id, often.scheduled_at, often.stands_for) == ("often", at(70), 7)
            assert here.clock.now() - at(70) < timedelta(seconds=1)
            hourly = await desk.next(ScheduleFire)
            assert (hourly.schedule_id, hourly.scheduled_at) == ("hourly", at(60))
            assert here.clock.now() >= at(74)

    async def test_draining_ends_the_job_and_delivers_its_verdict(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            here.restic.seconds = 600
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="0 * * * *"))
            await desk.say(order(at(0)))
            await desk.next(JobStarted)
            here.drain.set()
            finished = await desk.next(JobFinished)
            assert finished.outcome.status is Status.INTERRUPTED
            await desk.say(Ack(through=finished.seq))
            assert (await desk.next(Goodbye)).reason == "the agent stops"

    async def test_a_suspend_is_one_run_with_evidence(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="*/10 * * * *"))
            await trio.sleep(30)
            here.clock.step(timedelta(hours=5))
            desk = await here.connected()
            fire = await desk.next(ScheduleFire)
            assert (fire.trigger, fire.stands_for) == ("catch-up", 30)
            assert fire.evidence is not None
            assert fire.evidence.what == "suspended"

    async def test_a_clock_set_back_holds_and_fires_nothing_twice(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="*/10 * * * *"))
            await desk.run_next()
            here.clock.step(timedelta(hours=-1))
            desk = await here.connected()
            fire = await desk.next(ScheduleFire)
            assert fire.scheduled_at == at(20)
            assert here.clock.now() >= at(20)

    async def test_a_clock_that_was_wrong_is_rebased(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            here.clock.step(timedelta(days=400))
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="*/10 * * * *"))
            wrong = await desk.next(ScheduleFire)
            await desk.say(
                ScheduleFired(
                    schedule_id="s1", revision=1, scheduled_at=wrong.scheduled_at, answer="rejected", code="future"
                )
            )
            await trio.sleep(60)
            here.clock.step(timedelta(days=-400))
            desk = await here.connected()
            fire = await desk.next(ScheduleFire)
            assert fire.scheduled_at == at(10) or fire.scheduled_at == at(20)
            assert START < here.clock.now() < at(60)


class TestStorage:
    """`query_only` makes the journal refuse every write, as a full or read-only disk does."""

    async def test_slots_wait_for_the_journal_and_are_caught_up(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="*/10 * * * *"))
            assert here.journal is not None
            await here.journal.read(lambda db: db.execute("PRAGMA query_only=ON"))
            await trio.sleep(15 * 60)
            await here.journal.read(lambda db: db.execute("PRAGMA query_only=OFF"))
            fire = await desk.next(ScheduleFire)
            assert (fire.scheduled_at, fire.stands_for) == (at(10), 1)
            assert here.clock.now() < at(16)

    async def test_a_verdict_waits_for_the_journal_and_log_lines_do_not(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="0 * * * *"))
            await desk.say(order(at(0)))
            await desk.next(JobLog)
            assert here.journal is not None
            await here.journal.read(lambda db: db.execute("PRAGMA query_only=ON"))
            await trio.sleep(600)
            assert desk.count(JobFinished) == 0
            await here.journal.read(lambda db: db.execute("PRAGMA query_only=OFF"))
            finished = await desk.next(JobFinished)
            assert finished.outcome.status is Status.SUCCEEDED
            assert here.clock.now() < at(11)

    async def test_an_order_that_cannot_be_journaled_is_not_run_until_it_can(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="0 * * * *"))
            assert here.journal is not None
            await here.journal.read(lambda db: db.execute("PRAGMA query_only=ON"))
            await desk.say(order(at(0)))
            await trio.sleep(60)
            assert here.restic.ran == []
            await here.journal.read(lambda db: db.execute("PRAGMA query_only=OFF"))
            await desk.next(JobFinished)
            assert len(here.restic.ran) == 1


class TestRefusals:
    async def test_a_refusal_is_not_hammered(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            here.refusal = Refused(code="unknown", message="no such host")
            await here.start()
            await trio.sleep(6 * 3600)
            assert 30 < len(here.dials) < 80

    async def test_an_unreachable_server_is_dialled_with_growing_pauses(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            here.up = False
            await here.start()
            await trio.sleep(3600)
            pauses = [(b - a).total_seconds() for a, b in zip(here.dials, here.dials[1:], strict=False)]
            assert max(pauses) <= 61
            assert 60 < len(here.dials) < 400

    async def test_rekey_takes_a_new_journal_and_says_everything_again(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="0 * * * *"))
            await desk.say(order(at(0)))
            finished = await desk.next(JobFinished)
            await desk.say(Ack(through=1))
            await trio.testing.wait_all_tasks_blocked()
            here.cut()
            desk = await here.connected(welcome=False)
            before = desk.hello.journal_id
            await desk.say(Refused(code="rekey", message="an older copy", retry=True))
            desk = await here.connected()
            assert desk.hello.journal_id != before
            assert (desk.hello.outbox.head, desk.hello.outbox.acked) == (2, 0)
            assert (await desk.next(JobLog)).seq == 1
            assert (await desk.next(JobFinished)) == msgspec.structs.replace(finished, seq=2)

    async def test_what_is_not_understood_is_answered_and_the_session_stays(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            await here.start()
            desk = await here.connected()
            await desk.link.send_frame('{"type":"brand.new","x":1}')
            assert (await desk.next(Error)).code == "unknown_type"
            await desk.link.send_frame('{"type":"command.run","job_id":5}')
            assert (await desk.next(Error)).ref == "command.run"
            await desk.apply(entry())
            await desk.next(ScheduleFire)
