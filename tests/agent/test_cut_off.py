"""Runs that were cut off with an agent that keeps nothing to look them up with: the verdict waits for the access."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from restic_manager.domain.model import InitSpec, Status
from restic_manager.protocol.messages import (
    CommandCancel,
    CommandRun,
    JobClaim,
    JobFinished,
    JobStarted,
    ScheduleFire,
    SlotDecided,
)
from tests.agent.scripted import Desk, World, at, dispatched, entry, order, world
from tests.agent.test_offline import offline, slot_job

OPERATORS_JOB = "operators-job"


async def cut_off(here: World, command: CommandRun) -> None:
    """Run this order with no secrets kept, and end the agent in the midst of it."""
    here.restic.seconds = 600
    await here.start()
    desk = await here.connected()
    await desk.apply(entry(cron="0 * * * *"))
    await desk.say(command)
    await desk.next(JobStarted)
    here.kill()
    await trio.sleep(5)


def claims(desk: Desk) -> list[JobClaim]:
    return [claim for claim in desk.hello.jobs if claim.state != "finished"]


def access(command: CommandRun) -> CommandRun:
    return replace(command, recover=True)


async def quiet(desk: Desk, seconds: float = 1800) -> bool:
    """Return whether no verdict comes for so long."""
    with trio.move_on_after(seconds):
        await desk.next(JobFinished)
        return False
    return True


@pytest.mark.parametrize("command", [order(at(0)), order(None, job_id=OPERATORS_JOB)], ids=["slot", "operator"])
@pytest.mark.parametrize("snapshot", ["feedbeef", None])
async def test_the_verdict_waits_for_the_access_and_is_the_truth(
    tmp_path: Path, autojump_clock: MockClock, command: CommandRun, snapshot: str | None
) -> None:
    async with world(tmp_path) as here:
        await cut_off(here, command)
        if snapshot is not None:
            here.restic.snapshots[command.job_id] = snapshot
        await here.start()
        desk = await here.connected()
        [claim] = claims(desk)
        assert (claim.job_id, claim.state, claim.recover) == (command.job_id, "running", True)
        assert here.restic.left_over == [command.job_id]
        assert await quiet(desk)
        await desk.say(access(command))
        finished = await desk.next(JobFinished)
        assert finished.job_id == command.job_id
        assert finished.outcome.status is (Status.SUCCEEDED if snapshot else Status.INTERRUPTED)
        assert finished.outcome.snapshot_id == snapshot
        assert finished.started_at is not None
        assert here.restic.looked_up == [(command.job_id, 4711)], "its lock is given back by the process that died"
        assert len(here.restic.ran) == 1, "nothing is started"


async def test_it_waits_through_links_restarts_and_an_absent_server(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        await cut_off(here, order(at(0)))
        here.up = False
        here.restic.snapshots[slot_job(0)] = "feedbeef"
        await here.start()
        await trio.sleep(3 * 86_400)
        here.kill()
        await trio.sleep(5)
        await here.start()
        here.up = True
        desk = await here.connected()
        assert [claim.recover for claim in claims(desk)] == [True]
        here.cut()
        desk = await here.connected()
        assert [claim.recover for claim in claims(desk)] == [True]
        await desk.say(access(order(at(0))))
        await desk.say(access(order(at(0))))
        assert (await desk.next(JobFinished)).outcome.snapshot_id == "feedbeef"
        assert len(here.restic.looked_up) == 1


async def test_a_look_up_that_is_cut_off_too_is_asked_for_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        await cut_off(here, order(at(0)))
        here.restic.unreachable = 1_000
        here.restic.snapshots[slot_job(0)] = "feedbeef"
        await here.start()
        desk = await here.connected()
        await desk.say(access(order(at(0))))
        assert await quiet(desk, 600)
        here.cut()
        desk = await here.connected()
        assert [claim.recover for claim in claims(desk)] == [False], "it has what it needs"
        here.kill()
        await trio.sleep(5)
        here.restic.unreachable = 2
        await here.start()
        desk = await here.connected()
        assert [claim.recover for claim in claims(desk)] == [True]
        await desk.say(access(order(at(0))))
        assert (await desk.next(JobFinished)).outcome.status is Status.SUCCEEDED


async def test_a_repository_that_stays_away_is_given_up(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        await cut_off(here, order(at(0)))
        here.restic.unreachable = 1_000
        await here.start()
        desk = await here.connected()
        await desk.say(access(order(at(0))))
        finished = await desk.next(JobFinished)
        assert finished.outcome.status is Status.INTERRUPTED
        assert finished.outcome.error is not None
        assert "did not answer for 1h" in finished.outcome.error.message


async def test_where_no_access_is_to_be_had_it_says_why(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        await cut_off(here, order(at(0)))
        await here.start()
        desk = await here.connected()
        await desk.say(CommandCancel(job_id=slot_job(0), status=Status.CANCELLED, reason="it expired here"))
        assert await quiet(desk), "it did run: that it ended on the server says nothing of that"
        await desk.say(CommandCancel(job_id=slot_job(0), status=Status.INTERRUPTED, reason="the server has no key"))
        finished = await desk.next(JobFinished)
        assert finished.outcome.status is Status.INTERRUPTED
        assert finished.outcome.error is not None
        assert finished.outcome.error.code == "agent_stopped"
        assert "the server has no key" in finished.outcome.error.message


async def test_a_server_that_gives_no_access_is_told_at_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        await cut_off(here, order(at(0)))
        here.capabilities = ()
        await here.start()
        desk = await here.connected()
        with trio.fail_after(5):
            finished = await desk.next(JobFinished)
        assert finished.outcome.status is Status.INTERRUPTED


async def test_an_init_that_was_cut_off_leaves_no_snapshot_to_look_for(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as here:
        init = replace(order(None, job_id="init"), spec=InitSpec(), schedule_id=None)
        await cut_off(here, init)
        await here.start()
        desk = await here.connected()
        await desk.say(access(init))
        assert (await desk.next(JobFinished)).outcome.status is Status.INTERRUPTED
        assert here.restic.looked_up == []


class TestCancelled:
    async def test_while_it_waits_for_the_access(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            await cut_off(here, order(at(0)))
            await here.start()
            desk = await here.connected()
            await desk.say(CommandCancel(job_id=slot_job(0), reason="by an operator"))
            assert (await desk.next(JobFinished)).outcome.status is Status.CANCELLED

    @pytest.mark.parametrize(
        ("snapshot", "status"), [("feedbeef", Status.SUCCEEDED), (None, Status.CANCELLED)], ids=["made", "none"]
    )
    async def test_with_the_access_the_truth_is_told(
        self, tmp_path: Path, autojump_clock: MockClock, snapshot: str | None, status: Status
    ) -> None:
        async with world(tmp_path) as here:
            await cut_off(here, order(at(0)))
            if snapshot is not None:
                here.restic.snapshots[slot_job(0)] = snapshot
            here.restic.look_up_seconds = 10
            await here.start()
            desk = await here.connected()
            await desk.say(access(order(at(0))))
            await desk.say(CommandCancel(job_id=slot_job(0)))
            assert (await desk.next(JobFinished)).outcome.status is status

    async def test_an_unreachable_repository_is_asked_no_more(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            await cut_off(here, order(at(0)))
            here.restic.unreachable = 1_000
            await here.start()
            desk = await here.connected()
            await desk.say(access(order(at(0))))
            assert await quiet(desk, 900)
            await desk.say(CommandCancel(job_id=slot_job(0)))
            with trio.fail_after(5):
                finished = await desk.next(JobFinished)
            assert finished.outcome.status is Status.CANCELLED
            assert finished.outcome.error is not None
            assert "not known" in finished.outcome.error.message


async def test_the_next_slots_do_not_wait_for_the_access(tmp_path: Path, autojump_clock: MockClock) -> None:
    """The server may be away for ever, and backups go on without it."""
    async with world(tmp_path) as here:
        await cut_off(here, order(at(0)))
        await here.start()
        desk = await here.connected()
        fire = await desk.next(ScheduleFire)
        assert fire.scheduled_at == at(60)
        await desk.say(dispatched(fire))
        await desk.say(order(at(60)))
        assert (await desk.next(JobFinished)).job_id == slot_job(60)
        await desk.say(access(order(at(0))))
        assert (await desk.next(JobFinished)).job_id == slot_job(0)
        assert (await desk.next(ScheduleFire)).scheduled_at == at(120)
        assert desk.count(SlotDecided) == 0


class TestKeyLost:
    """What is sealed opens with the key it was sealed with, and the key file may get lost."""

    async def test_the_run_and_the_standing_orders_are_asked_for(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as here:
            here.offline = offline()
            here.restic.seconds = 600
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(cron="0 * * * *", with_order=True), version=7)
            await desk.say(order(at(0)))
            await desk.next(JobStarted)
            here.kill()
            await trio.sleep(5)
            here.offline = offline()  # with another key
            here.restic.snapshots[slot_job(0)] = "feedbeef"
            await here.start()
            desk = await here.connected()
            assert desk.hello.applied_version == 0
            assert [claim.recover for claim in claims(desk)] == [True]
            await desk.say(access(order(at(0))))
            assert (await desk.next(JobFinished)).outcome.snapshot_id == "feedbeef"
            await desk.apply(entry(cron="0 * * * *", with_order=True), version=7)
            here.cut(for_good=True)
            await trio.sleep(3600 + 120)
            assert [job_id for job_id, _ in here.restic.ran] == [slot_job(0), slot_job(60)]

    async def test_a_key_that_fits_asks_for_nothing(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as here:
            here.offline = offline()
            await here.start()
            desk = await here.connected()
            await desk.apply(entry(with_order=True), version=7)
            here.kill()
            await trio.sleep(5)
            await here.start()
            assert (await here.connected()).hello.applied_version == 7
