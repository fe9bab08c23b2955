"""Upkeep in virtual time: lists made anew after changes and at a slow interval, by hosts that are there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from sqlalchemy import select
from trio.testing import MockClock

from restic_manager.domain.lock_waits import with_lock_wait
from restic_manager.domain.model import Actor, Failure, Kind, Outcome, Status
from restic_manager.domain.results import ListStats
from restic_manager.domain.specs import SnapshotsSpec
from restic_manager.protocol.messages import CommandRun, JobRows
from restic_manager.server.janitor import Janitor
from restic_manager.server.store import job_rows, relisting, repos, snapshots
from restic_manager.server.store.job_rows import JobRow
from restic_manager.server.store.schema import jobs as table
from restic_manager.server.upkeep import LOOK_SECONDS, Upkeep, ask_for_lists
from tests.server.listed import snap
from tests.server.world import ScriptedAgent, World, open_world

KINDS = {"capabilities": ("kinds",)}


class Repo:
    """A repository in a world whose upkeep runs."""

    def __init__(self, world: World, repo_id: str) -> None:
        self.world, self.id = world, repo_id

    async def row(self) -> repos.RepoRow:
        return await self.world.read(lambda tx: repos.get(tx, self.id))

    async def change(self) -> None:
        """As a backup does that ends."""
        now = self.world.now()
        await self.world.write(lambda tx: snapshots.note_changed(tx, self.id, now))
        self.world.hub.ring(["a job"])

    async def lists(self) -> list[JobRow]:
        """The server's lists, oldest first."""
        query = select(table).where(table.c.kind == Kind.SNAPSHOTS.value).order_by(table.c.serial)
        return await self.world.read(lambda tx: [job_rows.row_of(row) for row in tx.execute(query)])

    async def answer(self, agent: ScriptedAgent, order: CommandRun, *names: str) -> None:
        """Carry out a list that finds these snapshots."""
        await agent.start(order)
        if names:
            await agent.link.send(JobRows(job_id=order.job_id, first=1, rows=tuple(snap(name) for name in names)))
        done = Outcome(status=Status.SUCCEEDED, exit_code=0, result=ListStats(rows=len(names)))
        await agent.acked(await agent.finish(order, done))

    async def fail(self, agent: ScriptedAgent, order: CommandRun) -> None:
        wrong = Outcome(status=Status.FAILED, exit_code=12, error=Failure(code="password", message="wrong password"))
        await agent.acked(await agent.finish(order, wrong))


@asynccontextmanager
async def kept(tmp_path: Path, *host_names: str) -> AsyncIterator[tuple[World, Repo, list[str]]]:
    """A world with upkeep, a repository, and hosts that use it."""
    async with open_world(tmp_path) as world:
        hosts = [await world.join(name) for name in host_names or ("web1",)]
        repo_id = await world.repo()
        await world.schedule("nightly", *(host_names or ("web1",)), cron="0 0 1 1 *")
        world.nursery.start_soon(Upkeep(world.services).run)
        yield world, Repo(world, repo_id), hosts


async def lists_within(agent: ScriptedAgent, seconds: float) -> CommandRun:
    order = await agent.hear(CommandRun, within=seconds)
    assert order.spec == SnapshotsSpec()
    assert order.limits == with_lock_wait(relisting.LIMITS, Kind.SNAPSHOTS)
    return order


async def test_a_repository_that_nothing_has_used_is_left_alone(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with kept(tmp_path) as (world, repo, (host_id,)), world.agent(host_id, **KINDS) as agent:
        assert await agent.hears_nothing(CommandRun, 6 * 3_600)
        assert await repo.lists() == []


async def test_a_change_leads_to_a_list_and_rest(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with kept(tmp_path) as (world, repo, (host_id,)), world.agent(host_id, **KINDS) as agent:
        await repo.change()
        changed = world.now()
        order = await lists_within(agent, 60)
        assert timedelta(seconds=15) <= world.now() - changed <= timedelta(seconds=25)
        await repo.answer(agent, order, "a", "b")
        assert (await repo.lists())[0].actor is Actor.SERVER
        row = await repo.row()
        assert row.listed_at is not None
        assert row.listed_at > changed
        assert await world.read(snapshots.counts) == {repo.id: 2}
        assert await agent.hears_nothing(CommandRun, 5.9 * 3_600)
        await lists_within(agent, 0.2 * 3_600)


async def test_changes_without_end_are_listed_every_few_minutes(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with kept(tmp_path) as (world, repo, (host_id,)), world.agent(host_id, **KINDS) as agent:

        async def change_always() -> None:
            while True:
                await repo.change()
                await trio.sleep(4)

        world.nursery.start_soon(change_always)
        begun = world.now()
        for _ in range(5):
            await repo.answer(agent, await lists_within(agent, 200), "a")
        assert timedelta(minutes=9) < world.now() - begun < timedelta(minutes=13)
        made = [job.created_at for job in await repo.lists()]
        assert min(later - earlier for earlier, later in pairwise(made)) >= timedelta(minutes=1)


async def test_many_changes_at_once_are_one_list(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with kept(tmp_path) as (world, repo, (host_id,)), world.agent(host_id, **KINDS) as agent:
        for _ in range(10):
            await repo.change()
            await trio.sleep(2)
        await repo.answer(agent, await lists_within(agent, 60), "a")
        assert await agent.hears_nothing(CommandRun, 3_600)


async def test_a_list_that_fails_is_tried_more_rarely_and_by_others(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with kept(tmp_path, "web1", "web2") as (world, repo, (first, second)):
        async with world.agent(first, **KINDS) as one, world.agent(second, **KINDS) as other:
            await repo.change()
            asked: list[tuple[str, timedelta]] = []
            begun = world.now()

            async def listen(agent: ScriptedAgent) -> None:
                while True:
                    order = await agent.hear(CommandRun, within=10**9)
                    asked.append((agent.host_id, world.now() - begun))
                    await repo.fail(agent, order)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen, one)
                nursery.start_soon(listen, other)
                await trio.sleep(12 * 3_600)
                nursery.cancel_scope.cancel()
        hosts = [host for host, _ in asked]
        assert hosts[:4] in ([first, second] * 2, [second, first] * 2)
        waits = [later - earlier for (_, earlier), (_, later) in pairwise(asked)]
        assert waits == sorted(waits) or max(waits) - min(waits[-3:]) < timedelta(seconds=2 * LOOK_SECONDS)
        assert 12 + 3 < len(asked) < 12 + 8
        failure = (await world.read(lambda tx: relisting.last_failures(tx, [repo.id])))[repo.id]
        assert failure.error is not None
        assert failure.error.message == "wrong password"


async def test_a_list_waits_for_a_host(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with kept(tmp_path) as (world, repo, (host_id,)):
        await repo.change()
        await trio.sleep(7_200)
        assert await repo.lists() == [], "nothing is queued for who is away"
        async with world.agent(host_id, **KINDS) as agent:
            await lists_within(agent, LOOK_SECONDS + 10)


async def test_a_host_whose_agent_knows_no_lists_is_not_asked(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with kept(tmp_path) as (world, repo, (host_id,)), world.agent(host_id) as agent:
        await repo.change()
        assert await agent.hears_nothing(CommandRun, 3_600)
        assert (await ask_for_lists(world.services, [repo.id]))[repo.id].note == "no host uses it"


async def test_a_list_goes_to_another_host_when_its_own_goes_away(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with kept(tmp_path, "web1", "web2") as (world, repo, hosts):
        await repo.change()
        async with world.agent(hosts[0], **KINDS) as agent:
            order = await lists_within(agent, 90)
        async with world.agent(hosts[1], **KINDS) as agent:
            again = await lists_within(agent, 200)
            assert again.job_id != order.job_id
            await repo.answer(agent, again, "a")
            row = await repo.row()
            assert not snapshots.is_stale(row)


async def test_a_list_never_sent_moves(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path, dispatching=False) as world:
        first, second = await world.join("web1"), await world.join("web2")
        repo_id = await world.repo()
        await world.schedule("nightly", "web1", "web2", cron="0 0 1 1 *")
        async with world.agent(first, **KINDS):
            asked = (await ask_for_lists(world.services, [repo_id]))[repo_id].job
            assert asked is not None
            assert asked.host_id == first
            same = (await ask_for_lists(world.services, [repo_id]))[repo_id].job
            assert same is not None
            assert same.id == asked.id
        await world.settled()
        gone = (await ask_for_lists(world.services, [repo_id]))[repo_id]
        assert (gone.job, gone.note) == (None, "none of its hosts is online")
        async with world.agent(second, **KINDS):
            moved = (await ask_for_lists(world.services, [repo_id]))[repo_id].job
            assert moved is not None
            assert (moved.id, moved.host_id) == (asked.id, second)


async def test_a_list_with_rows_missing_is_no_list(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with kept(tmp_path) as (world, repo, (host_id,)), world.agent(host_id, **KINDS) as agent:
        await repo.change()
        order = await lists_within(agent, 60)
        short = Outcome(status=Status.SUCCEEDED, exit_code=0, result=ListStats(rows=3))
        await agent.acked(await agent.finish(order, short))
        assert (await repo.row()).listed_at is None
        begun = world.now()
        await lists_within(agent, 300)
        assert world.now() - begun > timedelta(seconds=60), "as after a failure"


async def test_a_repository_without_schedules_is_listed_by_who_was_there(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        host_id, repo_id = await world.join("web1"), await world.repo()
        world.nursery.start_soon(Upkeep(world.services).run)
        await world.dispatcher.init_repo("repo", "web1")
        async with world.agent(host_id, **KINDS) as agent:
            order = await agent.hear(CommandRun)
            await agent.acked(await agent.finish(order, Outcome(status=Status.SUCCEEDED, exit_code=0)))
            await Repo(world, repo_id).answer(agent, await lists_within(agent, 130))
            assert (await world.read(lambda tx: repos.get(tx, repo_id))).listed_at is not None


async def test_the_servers_own_lists_do_not_fill_the_history(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with kept(tmp_path) as (world, repo, (host_id,)), world.agent(host_id, **KINDS) as agent:
        await repo.change()
        await repo.answer(agent, await lists_within(agent, 60), "a")
        await repo.change()
        await repo.fail(agent, await lists_within(agent, 120))
        await repo.answer(agent, await lists_within(agent, 400), "a", "b")
        janitor = Janitor(world.services)
        await janitor.forget_listings()
        assert len(await repo.lists()) == 3
        await trio.sleep(5.9 * 3_600)
        await janitor.forget_listings()
        assert len(await repo.lists()) >= 3
        await trio.sleep(0.2 * 3_600)
        await janitor.forget_listings()
        left = [job.status for job in await repo.lists()]
        assert left[0] is Status.FAILED
        assert Status.SUCCEEDED not in left
        assert await world.read(snapshots.counts) == {repo.id: 2}


async def test_a_removed_repository_is_not_listed(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, repo_id = await world.join("web1"), await world.repo()
        repo = Repo(world, repo_id)
        await repo.change()
        await world.write(lambda tx: repos.remove(tx, repos.get(tx, repo_id), now=world.now()))
        world.nursery.start_soon(Upkeep(world.services).run)
        async with world.agent(host_id, **KINDS) as agent:
            assert await agent.hears_nothing(CommandRun, 3_600)


@pytest.mark.parametrize("count", [3])
async def test_every_repository_is_looked_after(tmp_path: Path, autojump_clock: MockClock, count: int) -> None:
    async with kept(tmp_path) as (world, repo, (host_id,)), world.agent(host_id, **KINDS) as agent:
        others = [await world.repo(f"repo{number}") for number in range(count)]
        for number in range(count):
            await world.schedule(f"s{number}", "web1", repo=f"repo{number}", cron="0 0 1 1 *")
        for repo_id in (repo.id, *others):
            await Repo(world, repo_id).change()
        seen = set()
        for _ in range(count + 1):
            order = await lists_within(agent, 60)
            seen.add(order.repo.repo_id)
            await repo.answer(agent, order)
        assert seen == {repo.id, *others}
