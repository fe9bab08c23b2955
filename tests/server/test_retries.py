"""Further attempts, over the wire and in virtual time: when each has its turn, and what makes one unnecessary."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import trio
from sqlalchemy import select
from trio.testing import MockClock

from restic_manager.domain.model import Actor, Failure, Limits, Outcome, Status, attempt_job_id, slot_job_id
from restic_manager.protocol.api import JobView
from restic_manager.protocol.messages import CommandCancel, CommandRun
from restic_manager.server.api.job_views import views
from restic_manager.server.janitor import Janitor
from restic_manager.server.store import events, host_changes, hosts, schedule_changes, schedules
from restic_manager.server.store.job_rows import JobRow, row_of
from restic_manager.server.store.schema import jobs
from tests.server.world import DONE, START, ScriptedAgent, World, claim, failed, open_world, slot_after

INTERRUPTED = Outcome(status=Status.INTERRUPTED, error=Failure(code="agent_stopped", message="it stopped"))


@asynccontextmanager
async def one_host(world: World, **more: Any) -> AsyncIterator[tuple[ScriptedAgent, str]]:
    """A host that is there, with a schedule of every hour; yields its agent and the schedule's id."""
    host_id = await world.join("web1")
    await world.repo()
    schedule_id = await world.schedule("hourly", "web1", cron="@every 1h", **more)
    async with world.agent(host_id) as agent:
        yield agent, schedule_id


async def all_jobs(world: World) -> list[JobRow]:
    return await world.read(lambda tx: [row_of(row) for row in tx.execute(select(jobs).order_by(jobs.c.serial))])


async def view(world: World, job_id: str) -> JobView:
    row = await world.job(job_id)
    return await world.read(lambda tx: views(tx, [row], hub=world.hub, now=world.now())[0])


async def slot_runs(agent: ScriptedAgent, schedule_id: str, seconds: int) -> CommandRun:
    """The slot so many seconds after the start comes due and is ordered."""
    await trio.sleep((slot_after(START, seconds) - agent.world.now()).total_seconds())
    await agent.fire(schedule_id, slot_after(START, seconds))
    return await agent.hear(CommandRun)


async def ends(agent: ScriptedAgent, order: CommandRun, outcome: Outcome) -> None:
    await agent.start(order)
    await agent.acked(await agent.finish(order, outcome))


async def test_two_network_failures_then_success(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world, one_host(world, retry=2, retry_backoff=300) as (agent, schedule_id):
        first = await slot_runs(agent, schedule_id, 3600)
        await ends(agent, first, failed("network"))
        failed_at = world.now()
        waiting = await world.job(attempt_job_id(first.job_id, 1))
        assert (waiting.actor, waiting.slot, waiting.attempt, waiting.attempt_of) == (
            Actor.RETRY,
            None,
            2,
            first.job_id,
        )
        assert waiting.not_before == failed_at + timedelta(seconds=300)
        told = await view(world, waiting.id)
        assert (told.status, told.waits_for) == (Status.QUEUED, f"its turn at {waiting.not_before:%H:%M:%S} UTC")
        assert (await view(world, first.job_id)).next_attempt == waiting.id

        second = await agent.hear(CommandRun, within=400)
        assert (second.job_id, second.schedule_id, second.scheduled_at) == (waiting.id, schedule_id, None)
        assert timedelta() <= world.now() - waiting.not_before < timedelta(seconds=1), "neither early nor polled for"
        await ends(agent, second, failed("network"))
        failed_at = world.now()
        third = await agent.hear(CommandRun, within=700)
        assert third.job_id == attempt_job_id(first.job_id, 2)
        assert timedelta(seconds=600) <= world.now() - failed_at < timedelta(seconds=601), "twice as long"
        await ends(agent, third, DONE)
        assert await agent.hears_nothing(CommandRun, 5_000)
        assert [job.status for job in await all_jobs(world)] == [Status.FAILED, Status.FAILED, Status.SUCCEEDED]


async def test_when_the_retries_are_used_up_that_is_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world, one_host(world, retry=1, retry_backoff=10) as (agent, schedule_id):
        await ends(agent, await slot_runs(agent, schedule_id, 3600), failed("locked"))
        await ends(agent, await agent.hear(CommandRun), failed("locked"))
        assert await agent.hears_nothing(CommandRun, 5_000)
        assert len(await all_jobs(world)) == 2


async def test_what_does_not_pass_is_not_tried_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world, one_host(world, retry=5, retry_backoff=10) as (agent, schedule_id):
        await ends(agent, await slot_runs(agent, schedule_id, 3600), failed("wrong_password"))
        with_snapshot = Outcome(
            status=Status.FAILED, error=Failure(code="network", message="it broke"), snapshot_id="abcd1234"
        )
        await ends(agent, await slot_runs(agent, schedule_id, 7200), with_snapshot)
        cancelled = await slot_runs(agent, schedule_id, 10_800)
        await world.dispatcher.cancel(cancelled.job_id)
        await ends(agent, cancelled, INTERRUPTED)
        assert await agent.hears_nothing(CommandRun, 5_000)
        assert len(await all_jobs(world)) == 3


async def test_a_retry_holds_up_nothing_while_it_waits(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world, one_host(world, retry=1) as (agent, schedule_id):
        await ends(agent, await slot_runs(agent, schedule_id, 3600), failed("network"))
        (asked,) = await world.dispatcher.run_schedule("hourly", None)
        order = await agent.hear(CommandRun)
        assert order.job_id == asked.id, "a younger job of the same host and repository goes first"
        await ends(agent, order, DONE)


async def test_a_later_slot_takes_a_waiting_retrys_place(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world, one_host(world, retry=3, retry_backoff=7000) as (agent, schedule_id):
        first = await slot_runs(agent, schedule_id, 3600)
        await ends(agent, first, failed("network"))
        retry_id = attempt_job_id(first.job_id, 1)
        assert (await world.job(retry_id)).status is Status.QUEUED
        later = await slot_runs(agent, schedule_id, 7200)
        spared = await world.job(retry_id)
        assert spared.state.error is not None
        assert (spared.status, spared.state.error.code) == (Status.CANCELLED, "superseded")
        await ends(agent, later, DONE)
        assert await agent.hears_nothing(CommandRun, 20_000)


async def test_no_retry_when_a_later_slot_has_a_job_already(tmp_path: Path, autojump_clock: MockClock) -> None:
    """The verdict of a slot's run comes after the next slot has run: the host was cut off, say."""
    async with open_world(tmp_path) as world, one_host(world, retry=3, retry_backoff=10) as (agent, schedule_id):
        first = await slot_runs(agent, schedule_id, 3600)
        await agent.start(first)
        await trio.sleep(3600)
        await agent.fire(schedule_id, slot_after(START, 7200))
        await agent.acked(await agent.finish(first, failed("network")))
        second = await agent.hear(CommandRun)
        assert second.scheduled_at == slot_after(START, 7200)
        await ends(agent, second, DONE)
        assert await agent.hears_nothing(CommandRun, 20_000)
        assert len(await all_jobs(world)) == 2


async def test_an_operators_retry_stands_beside_the_slots(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world, one_host(world, retry=1, retry_backoff=5000) as (agent, schedule_id):
        (asked,) = await world.dispatcher.run_schedule("hourly", None)
        await ends(agent, await agent.hear(CommandRun), failed("network"))
        await ends(agent, await slot_runs(agent, schedule_id, 3600), DONE)
        order = await agent.hear(CommandRun, within=5000)
        assert order.job_id == attempt_job_id(asked.id, 1)


async def test_an_interrupted_run_is_made_up_for_once_not_twice(tmp_path: Path, autojump_clock: MockClock) -> None:
    """The schedule allows no retries at all."""
    async with open_world(tmp_path) as world, one_host(world) as (agent, schedule_id):
        first = await slot_runs(agent, schedule_id, 3600)
        await ends(agent, first, INTERRUPTED)
        again = await agent.hear(CommandRun)
        assert (again.job_id, again.scheduled_at) == (attempt_job_id(first.job_id, 1), None)
        assert (await world.job(again.job_id)).not_before is None
        await ends(agent, again, INTERRUPTED)
        assert await agent.hears_nothing(CommandRun, 5_000)
        # The same verdict, told again, calls for nothing new either.
        await agent.acked(await agent.finish(first, INTERRUPTED))
        assert await agent.hears_nothing(CommandRun, 5_000)
        assert len(await all_jobs(world)) == 2


async def test_what_was_lost_with_a_journal_is_made_up_for(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        async with one_host(world) as (agent, schedule_id):
            first = await slot_runs(agent, schedule_id, 3600)
            await agent.acked(await agent.start(first))
        async with world.agent(agent.host_id, journal_id="a-new-journal") as agent:
            again = await agent.hear(CommandRun)
            assert again.job_id == attempt_job_id(first.job_id, 1)
            lost = await world.job(first.job_id)
            assert lost.state.error is not None
            assert (lost.status, lost.state.error.code) == (Status.INTERRUPTED, "journal_lost")
            await ends(agent, again, DONE)


async def test_a_later_slot_has_taken_the_place_of_a_lost_run(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        async with one_host(world) as (agent, schedule_id):
            first = await slot_runs(agent, schedule_id, 3600)
            await agent.acked(await agent.start(first))
            await trio.sleep(3600)
            await agent.fire(schedule_id, slot_after(START, 7200))
        async with world.agent(agent.host_id, journal_id="a-new-journal") as agent:
            order = await agent.hear(CommandRun)
            assert order.scheduled_at == slot_after(START, 7200)
            await ends(agent, order, DONE)
            assert await agent.hears_nothing(CommandRun, 20_000)
            assert len(await all_jobs(world)) == 2


async def test_what_a_removed_host_had_is_not_tried_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world, one_host(world, retry=5) as (agent, schedule_id):
        first = await slot_runs(agent, schedule_id, 3600)
        await agent.acked(await agent.start(first))
        host = await world.read(lambda tx: hosts.get(tx, agent.host_id))
        await world.write(lambda tx: host_changes.remove(tx, host, now=world.now()))
        assert [job.status for job in await all_jobs(world)] == [Status.INTERRUPTED]


async def test_no_retry_of_a_schedule_that_was_removed(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world, one_host(world, retry=5) as (agent, schedule_id):
        first = await slot_runs(agent, schedule_id, 3600)
        await world.write(lambda tx: schedule_changes.remove(tx, schedules.get(tx, schedule_id), now=world.now()))
        await ends(agent, first, failed("network"))
        assert len(await all_jobs(world)) == 1


async def test_a_run_that_was_given_up_and_goes_on_needs_no_retry(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A new journal came between, but the job runs after all: its report ends the attempt that waits for the host."""
    async with open_world(tmp_path, dispatching=False) as world:
        async with one_host(world) as (agent, schedule_id):
            await trio.sleep(3600)
            slot = slot_after(START, 3600)
            await agent.fire(schedule_id, slot)
            order = CommandRun(
                job_id=slot_job_id(schedule_id, agent.host_id, slot),
                spec=(await world.job(slot_job_id(schedule_id, agent.host_id, slot))).spec,
                repo=None,  # type: ignore[arg-type]  # not looked at
                restic_host="web1",
                schedule_id=schedule_id,
                scheduled_at=slot,
                ordered_at=START,
            )
            await agent.acked(await agent.start(order))
        async with world.agent(agent.host_id, journal_id="a-new-journal") as agent:
            retry_id = attempt_job_id(order.job_id, 1)
            assert (await world.job(retry_id)).status is Status.QUEUED
            await agent.acked(await agent.start(order))
            spared = await world.job(retry_id)
            assert spared.state.error is not None
            assert (spared.status, spared.state.error.code) == (Status.CANCELLED, "superseded")
            # And one that is needed after all is another one, not that one.
            await agent.acked(await agent.finish(order, INTERRUPTED))
            chain = await all_jobs(world)
            assert [(job.attempt, job.status) for job in chain] == [
                (1, Status.INTERRUPTED),
                (2, Status.CANCELLED),
                (3, Status.QUEUED),
            ]


async def test_a_waiting_retry_can_be_cancelled(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world, one_host(world, retry=3, retry_backoff=60) as (agent, schedule_id):
        first = await slot_runs(agent, schedule_id, 3600)
        await ends(agent, first, failed("network"))
        await world.dispatcher.cancel(attempt_job_id(first.job_id, 1))
        assert await agent.hears_nothing(CommandRun, 20_000)
        assert len(await all_jobs(world)) == 2


async def test_a_turn_that_comes_while_the_server_is_down_is_taken_when_it_is_back(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world, one_host(world, retry=3, retry_backoff=60) as (agent, schedule_id):
        first = await slot_runs(agent, schedule_id, 3600)
        await ends(agent, first, failed("network"))
        head, host_id, credentials = agent.head(), agent.host_id, world.credentials
    async with open_world(tmp_path, start=START + timedelta(hours=1, seconds=30)) as world:
        world.credentials = credentials
        async with world.agent(host_id, outbox=head) as agent:
            order = await agent.hear(CommandRun, within=60)
            assert order.job_id == attempt_job_id(first.job_id, 1)
            assert world.now() >= START + timedelta(hours=1, seconds=60), "the turn is in the row, not in memory"


async def test_limits_travel_with_every_order(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with (
        open_world(tmp_path) as world,
        one_host(world, retry=1, retry_backoff=1, time_limit=7200, stall_limit=None) as (agent, schedule_id),
    ):
        wanted = Limits(time_limit=7200, stall_limit=None, lock_wait=300)
        first = await slot_runs(agent, schedule_id, 3600)
        assert first.limits == wanted
        await ends(agent, first, failed("network"))
        second = await agent.hear(CommandRun)
        assert second.limits == wanted
        await ends(agent, second, DONE)
        await world.dispatcher.run_schedule("hourly", None)
        assert (await agent.hear(CommandRun)).limits == wanted


# -- wishes for a host that is away -----------------------------------------------------------------------------------


async def test_what_is_wanted_of_a_host_that_is_away_expires(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        world.nursery.start_soon(Janitor(world.services).run)
        async with one_host(world) as (agent, _):
            (sent,) = await world.dispatcher.run_schedule("hourly", None)
            await agent.hear(CommandRun)
        (waiting,) = await world.dispatcher.run_schedule("hourly", None)
        await trio.sleep(23 * 3600)
        assert [job.status for job in await all_jobs(world)] == [Status.QUEUED] * 2
        await trio.sleep(2 * 3600)
        for job_id, told in ((sent.id, True), (waiting.id, False)):
            job = await world.job(job_id)
            assert job.state.error is not None
            assert (job.status, job.state.error.code) == (Status.CANCELLED, "expired")
            assert job.state.tell_host is told, "only of what it was sent"
        assert len(await world.read(lambda tx: events.latest(tx, limit=9, what="expired"))) == 2
        # Long after: what has passed since it was last there is told, however long that is.
        await trio.sleep(5 * 86_400)
        async with world.agent(agent.host_id) as agent:
            cancel = await agent.hear(CommandCancel)
            assert (cancel.job_id, cancel.status) == (sent.id, Status.CANCELLED)
            assert await agent.hears_nothing(CommandRun, 3600)


async def test_a_slots_job_and_a_host_that_is_there_know_no_expiry(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        world.nursery.start_soon(Janitor(world.services).run)
        async with one_host(world) as (agent, schedule_id):
            order = await slot_runs(agent, schedule_id, 3600)
            await agent.acked(await agent.start(order))
            (behind,) = await world.dispatcher.run_schedule("hourly", None)
            await trio.sleep(3 * 86_400)
            assert (await world.job(behind.id)).status is Status.QUEUED, "the host is there, and busy"
        await trio.sleep(3 * 86_400)
        assert (await world.job(behind.id)).status is Status.CANCELLED
        assert (await world.job(order.job_id)).status is Status.RUNNING


async def test_a_wish_to_cancel_is_dropped_in_time(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        world.nursery.start_soon(Janitor(world.services).run)
        async with one_host(world) as (agent, schedule_id):
            order = await slot_runs(agent, schedule_id, 3600)
            await agent.acked(await agent.start(order))
            head = agent.head()
        await world.dispatcher.cancel(order.job_id)
        await trio.sleep(12 * 3600)
        async with world.agent(agent.host_id, outbox=head, jobs=(claim(order),)) as agent:
            assert (await agent.hear(CommandCancel)).job_id == order.job_id, "kept until then"
            agent.seq = head.head
        await trio.sleep(25 * 3600)
        job = await world.job(order.job_id)
        assert (job.status, job.state.cancel_requested_at) == (Status.RUNNING, None)
        (event,) = await world.read(lambda tx: events.latest(tx, limit=9, what="expired"))
        assert order.job_id in event.detail
        async with world.agent(agent.host_id, outbox=head, jobs=(claim(order),)) as agent:
            assert await agent.hears_nothing(CommandCancel, 60)
            await agent.acked(await agent.finish(order, DONE))
        assert (await world.job(order.job_id)).status is Status.SUCCEEDED
