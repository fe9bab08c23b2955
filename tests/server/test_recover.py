"""A run that was cut off with its agent, which keeps no access to look it up: the server gives it, or says why not."""

from __future__ import annotations

from pathlib import Path

import trio
from msgspec.structs import replace
from sqlalchemy import Connection
from trio.testing import MockClock

from restic_manager.domain.model import Failure, Outcome, Status
from restic_manager.protocol.messages import CAP_RECOVER, CommandCancel, CommandRun, JobClaim
from restic_manager.server.store import job_lists, jobs, repos, schedule_changes, schedules
from restic_manager.server.store.schema import secrets
from tests.server.test_dispatch import one_host
from tests.server.world import DONE, START, ScriptedAgent, World, claim, open_world, slot_after, slot_job_id

CUT_OFF = Outcome(status=Status.INTERRUPTED, error=Failure(code="agent_stopped", message="it left no snapshot"))


def asks(order: CommandRun) -> JobClaim:
    return replace(claim(order), recover=True)


async def under_way(world: World, host_id: str) -> tuple[CommandRun, ScriptedAgent]:
    """Let the host start an operator's job, and lose it; return its order and the agent as it was."""
    async with world.agent(host_id) as agent:
        await world.dispatcher.run_schedule("minutely", None)
        order = await agent.hear(CommandRun)
        await agent.acked(await agent.start(order))
    return order, agent


async def all_jobs(world: World) -> list[tuple[str, Status]]:
    return [(job.id, job.status) for job in await world.read(lambda tx: job_lists.listing(tx, limit=10))]


async def test_the_access_is_given_and_nothing_is_started_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        order, before = await under_way(world, host_id)
        async with world.link(world.credentials[host_id]) as link:
            agent = ScriptedAgent(world, host_id, link)
            welcome = await agent.greet(outbox=before.head(), jobs=(asks(order),))
            assert CAP_RECOVER in welcome.capabilities
            access = await agent.hear(CommandRun)
            assert access == replace(order, recover=True)
            assert (await world.job(order.job_id)).status is Status.RUNNING
            await trio.sleep(3_000)
            await agent.acked(await agent.finish(access, DONE))
        assert await all_jobs(world) == [(order.job_id, Status.SUCCEEDED)]


async def test_without_a_snapshot_it_is_made_up_for_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        order, before = await under_way(world, host_id)
        async with world.agent(host_id, outbox=before.head(), jobs=(asks(order),)) as agent:
            access = await agent.hear(CommandRun)
            assert await agent.hears_nothing(CommandRun), "not before the verdict"
            await agent.acked(await agent.finish(access, CUT_OFF))
            again = await agent.hear(CommandRun)
            assert (again.recover, again.job_id != order.job_id) == (False, True)


async def test_it_is_given_before_the_start_itself_has_been_heard(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            await world.dispatcher.run_schedule("minutely", None)
            order = await agent.hear(CommandRun)
        async with world.agent(host_id, jobs=(asks(order),)) as agent:
            assert (await agent.hear(CommandRun)).recover
            assert await agent.hears_nothing(CommandRun)
            await agent.start(order)
            await agent.acked(await agent.finish(order, DONE))
        assert (await world.job(order.job_id)).status is Status.SUCCEEDED


async def test_it_is_given_however_the_job_stands_here(tmp_path: Path, autojump_clock: MockClock) -> None:
    """What the server said of it by itself gives way to the host's word, so the host is to find it out."""
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        order, before = await under_way(world, host_id)
        async with world.agent(host_id, journal_id="another"):
            assert (await world.job(order.job_id)).status is Status.INTERRUPTED
        async with world.agent(host_id, outbox=before.head(), jobs=(asks(order),)) as agent:
            assert (await agent.hear(CommandRun)).recover
            await agent.acked(await agent.finish(order, DONE))
        assert (await world.job(order.job_id)).status is Status.SUCCEEDED


async def test_a_wish_to_cancel_comes_behind_the_access(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        order, before = await under_way(world, host_id)
        await world.dispatcher.cancel(order.job_id)
        async with world.agent(host_id, outbox=before.head(), jobs=(asks(order),)) as agent:
            assert await agent.hear(CommandCancel) == CommandCancel(
                job_id=order.job_id, reason="cancelled by an operator"
            )
            assert [message for message in agent.heard if isinstance(message, CommandRun)] == [
                replace(order, recover=True)
            ]
            await agent.acked(await agent.finish(order, CUT_OFF))
        assert len(await all_jobs(world)) == 1, "what was to end is not tried again"


async def test_a_schedule_and_a_repository_removed_meanwhile_make_no_difference(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        order, before = await under_way(world, host_id)

        def remove(tx: Connection) -> None:
            # Only then: a repository with an unfinished job is not removed.
            jobs.end_unfinished(tx, host_id, code="host_lost", message="it stayed away", now=world.now())
            schedule_changes.remove(tx, schedules.get(tx, schedule_id), now=world.now())
            repos.remove(tx, repos.resolve(tx, "repo"), now=world.now())

        await world.write(remove)
        async with world.agent(host_id, outbox=before.head(), jobs=(asks(order),)) as agent:
            assert (await agent.hear(CommandRun)).repo == order.repo
            await agent.acked(await agent.finish(order, DONE))
        assert await all_jobs(world) == [(order.job_id, Status.SUCCEEDED)]


async def test_a_repository_that_cannot_be_opened_is_told_as_such(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        order, before = await under_way(world, host_id)
        await world.write(lambda tx: tx.execute(secrets.update().values(sealed=b"\1" + b"x" * 40)).rowcount)
        async with world.agent(host_id, outbox=before.head(), jobs=(asks(order),), capabilities=()) as agent:
            told = await agent.hear(CommandCancel)
            assert (told.job_id, told.status) == (order.job_id, Status.INTERRUPTED)
            assert "cannot open its repository" in told.reason
            assert await agent.hears_nothing(CommandRun)


async def test_a_job_nobody_knows_is_told_as_such(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        stranger = JobClaim(job_id="of-a-forgotten-operator", state="running", recover=True)
        async with world.agent(host_id, jobs=(stranger,)) as agent:
            told = await agent.hear(CommandCancel)
            assert (told.job_id, told.status) == (stranger.job_id, Status.INTERRUPTED)


async def test_a_slots_run_nobody_has_heard_of_is_adopted_and_given_access(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """It ran by its standing order while the server was away, and was cut off."""
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        await trio.sleep(90)
        slot = slot_after(START, 60)
        mine = slot_job_id(schedule_id, host_id, slot)
        told = JobClaim(job_id=mine, state="running", schedule_id=schedule_id, scheduled_at=slot, recover=True)
        async with world.agent(host_id, jobs=(told,)) as agent:
            access = await agent.hear(CommandRun)
            assert (access.job_id, access.recover, access.scheduled_at) == (mine, True, slot)
