"""From a fire to an order: every answer over the wire, the queue of a host, cancelling, and the rule about inits."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest
import trio
from sqlalchemy import Connection, func, select
from trio.testing import MockClock

from restic_manager.domain.errors import ConflictError, InputError, NotFoundError
from restic_manager.domain.model import Actor, Fate, InitSpec, Kind, Status, attempt_job_id, new_id, slot_job_id
from restic_manager.domain.specs import RestoreSpec
from restic_manager.protocol.api import ScheduleEdit
from restic_manager.protocol.messages import CAP_KINDS, CommandCancel, CommandRun, JobFinished, ScheduleSet, SlotDecided
from restic_manager.server.janitor import Janitor
from restic_manager.server.store import host_changes, hosts, job_rows, schedule_changes, schedules
from restic_manager.server.store import repos as repo_rows
from restic_manager.server.store.job_rows import JobRow
from restic_manager.server.store.schema import fates, jobs, quarantine, repos, secrets
from tests.server.world import DONE, START, ScriptedAgent, World, claim, failed, open_world, slot_after


async def count_jobs(world: World) -> int:
    return await world.read(lambda tx: tx.execute(select(func.count()).select_from(jobs)).scalar_one())


async def one_host(world: World, name: str = "web1") -> tuple[str, str]:
    """A host with a repository and a schedule of every minute; returns both ids."""
    host_id = await world.join(name)
    await world.repo()
    return host_id, await world.schedule("minutely", name)


async def room_for(world: World, repo_id: str, jobs_at_once: int) -> None:
    """So many jobs that need not be alone may be on the repository at once."""
    change = repos.update().where(repos.c.id == repo_id).values(max_parallel=jobs_at_once)
    await world.write(lambda tx: tx.execute(change).rowcount)
    world.dispatcher.look_at([repo_id])


async def restore_elsewhere(world: World, host_id: str) -> JobRow:
    """Queue what goes before everything on this host, and keeps it busy with the repository `other`."""

    def change(tx: Connection) -> JobRow:
        repo = repo_rows.resolve(tx, "other")
        spec = RestoreSpec(snapshot="0badcafe", target="/tmp/restored")
        return job_rows.insert(
            tx, job_id=new_id(), spec=spec, host_id=host_id, repo_id=repo.id, actor=Actor.OPERATOR, now=world.now()
        )

    return await world.write(change)


async def edit(world: World, schedule_id: str, **change: object) -> None:
    def apply(tx):  # type: ignore[no-untyped-def]  # a closure of one line
        return schedule_changes.edit(
            tx,
            schedules.get(tx, schedule_id),
            ScheduleEdit(**change),  # type: ignore[arg-type]  # any field of an edit
            now=world.now(),
            default_zone="UTC",
        )

    changed = await world.write(apply)
    world.hub.sets_changed(changed.hosts)


# -- answers ----------------------------------------------------------------------------------------------------------


async def test_a_fire_makes_one_job_and_its_fate_together(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        await trio.sleep(60)
        async with world.agent(host_id) as agent:
            slot = slot_after(START, 60)
            answer = await agent.fire(schedule_id, slot)
            assert (answer.answer, answer.job_id) == ("dispatched", slot_job_id(schedule_id, host_id, slot))
            job = await world.job(answer.job_id or "")
            assert (job.kind, job.actor, job.schedule_id, job.slot) == (Kind.BACKUP, Actor.SCHEDULE, schedule_id, slot)
            assert (job.revision, job.trigger, job.stands_for) == (1, "tick", 1)
            fate = (await world.read(lambda tx: tx.execute(select(fates)).all()))[0]
            assert (fate.fate, fate.job_id, fate.first_slot, fate.last_slot) == ("ran", job.id, slot, slot)
            again = await agent.fire(schedule_id, slot)
            assert (again.answer, again.job_id) == ("duplicate", job.id)
            assert again.status in {Status.QUEUED, Status.RUNNING}
        assert await count_jobs(world) == 1


async def test_a_repeated_fire_tells_how_its_job_ended(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        await trio.sleep(60)
        async with world.agent(host_id) as agent:
            await agent.fire(schedule_id, slot_after(START, 60))
            order = await agent.hear(CommandRun)
            await agent.acked(await agent.finish(order, DONE))
            assert (await agent.fire(schedule_id, slot_after(START, 60))).status is Status.SUCCEEDED


async def _unknown(world: World, schedule_id: str) -> tuple[str, int, int]:
    return "no-such-schedule", 60, 1


async def _others(world: World, schedule_id: str) -> tuple[str, int, int]:
    await world.join("web2")
    return await world.schedule("others", "web2"), 60, 1


async def _left(world: World, schedule_id: str) -> tuple[str, int, int]:
    await world.join("web2")
    await edit(world, schedule_id, hosts=("web2",))
    await trio.sleep(60)
    return schedule_id, 120, 1


async def _disabled(world: World, schedule_id: str) -> tuple[str, int, int]:
    await edit(world, schedule_id, enabled=False)
    await trio.sleep(60)
    return schedule_id, 120, 1


async def _old_revision(world: World, schedule_id: str) -> tuple[str, int, int]:
    await edit(world, schedule_id, cron="@every 30s")
    await trio.sleep(60)
    return schedule_id, 120, 1


async def _later_revision(world: World, schedule_id: str) -> tuple[str, int, int]:
    return schedule_id, 60, 9


async def _no_slot(world: World, schedule_id: str) -> tuple[str, int, int]:
    return schedule_id, 61, 1


async def _future(world: World, schedule_id: str) -> tuple[str, int, int]:
    return schedule_id, 1_200, 1


REJECTIONS = {
    "unknown_schedule": _unknown,
    "not_a_target": _others,
    "not_a_target (left)": _left,
    "disabled": _disabled,
    "superseded": _old_revision,
    "unknown_revision": _later_revision,
    "not_a_slot": _no_slot,
    "future": _future,
}


@pytest.mark.parametrize("case", REJECTIONS)
async def test_a_rejected_fire_has_its_own_answer_and_makes_no_job(
    tmp_path: Path, autojump_clock: MockClock, case: str
) -> None:
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        await trio.sleep(60)
        fired, second, revision = await REJECTIONS[case](world, schedule_id)
        async with world.agent(host_id) as agent:
            answer = await agent.fire(fired, slot_after(START, second), revision=revision)
            assert (answer.answer, answer.code) == ("rejected", case.partition(" ")[0])
            assert answer.message
            assert answer.job_id is None
            assert await agent.hears_nothing(CommandRun)
        assert await count_jobs(world) == 0


async def test_a_slot_with_another_fate_is_not_run_any_more(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        await trio.sleep(180)
        async with world.agent(host_id) as agent:
            await agent.acked(
                await agent.report(
                    lambda seq: SlotDecided(
                        seq=seq,
                        schedule_id=schedule_id,
                        revision=1,
                        first=slot_after(START, 60),
                        last=slot_after(START, 120),
                        count=2,
                        fate=Fate.COALESCED,
                        reason="a later one ran",
                        into=slot_after(START, 180),
                    )
                )
            )
            answer = await agent.fire(schedule_id, slot_after(START, 120))
            assert (answer.answer, answer.code) == ("rejected", "decided")
            assert (await agent.fire(schedule_id, slot_after(START, 180))).answer == "dispatched"
        assert await count_jobs(world) == 1


async def test_a_slot_of_an_old_revision_before_its_end_is_dispatched(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        await trio.sleep(90)
        await edit(world, schedule_id, cron="@every 7m")
        async with world.agent(host_id) as agent:
            answer = await agent.fire(schedule_id, slot_after(START, 60))
            assert answer.answer == "dispatched"
            assert (await world.job(answer.job_id or "")).revision == 1


async def test_the_slot_of_a_removed_schedule_is_still_dispatched(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        await trio.sleep(90)
        await world.write(lambda tx: schedule_changes.remove(tx, schedules.get(tx, schedule_id), now=world.now()))
        async with world.agent(host_id) as agent:
            assert (await agent.fire(schedule_id, slot_after(START, 60))).answer == "dispatched"
            assert (await agent.fire(schedule_id, slot_after(START, 120))).code == "not_a_target"


# -- the queue --------------------------------------------------------------------------------------------------------


async def test_a_host_gets_one_heavy_job_at_a_time_in_order(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            made = [(await world.dispatcher.run_schedule("minutely", None))[0].id for _ in range(3)]
            for job_id in made:
                order = await agent.hear(CommandRun)
                assert order.job_id == job_id
                assert await agent.hears_nothing(CommandRun)
                await agent.start(order)
                await agent.acked(await agent.finish(order, DONE))


async def test_hosts_do_not_wait_for_each_other(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        ids = [await world.join(f"web{number}") for number in range(3)]
        await world.repo()
        await world.schedule("all", all=True)
        async with AsyncExitStack() as stack:
            agents = [await stack.enter_async_context(world.agent(host_id)) for host_id in ids]
            made = await world.dispatcher.run_schedule("all", None)
            orders = {(await agent.hear(CommandRun)).job_id for agent in agents}
            assert orders == {job.id for job in made}


async def test_an_absent_host_gets_its_jobs_when_it_comes(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        (job,) = await world.dispatcher.run_schedule("minutely", "web1")
        assert (job.actor, job.slot, job.status) == (Actor.OPERATOR, None, Status.QUEUED)
        await trio.sleep(3_600)
        assert (await world.job(job.id)).state.sent_at is None
        async with world.agent(host_id) as agent:
            assert (await agent.hear(CommandRun)).job_id == job.id
            assert (await world.job(job.id)).state.sent_at is not None


async def test_an_order_lost_on_the_way_is_sent_again_and_one_that_arrived_is_not(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            await world.dispatcher.run_schedule("minutely", None)
            order = await agent.hear(CommandRun)
        async with world.agent(host_id) as agent:
            again = await agent.hear(CommandRun)
            assert again.job_id == order.job_id
            assert not again.recover
            await agent.acked(await agent.start(again))
            head = agent.head()
        async with world.agent(host_id, outbox=head, jobs=(claim(order),)) as agent:
            assert await agent.hears_nothing(CommandRun)
            head = agent.head()
        async with world.agent(host_id, outbox=head) as agent:
            asked = await agent.hear(CommandRun)
            assert (asked.job_id, asked.recover) == (order.job_id, True)


async def test_what_operators_ask_for_is_checked(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        await one_host(world)
        await world.join("web2")
        with pytest.raises(NotFoundError):
            await world.dispatcher.run_schedule("nightly", None)
        with pytest.raises(InputError, match="web2"):
            await world.dispatcher.run_schedule("minutely", "web2")
        await world.schedule("nowhere", labels={"role": "db"})
        with pytest.raises(ConflictError, match="no hosts"):
            await world.dispatcher.run_schedule("nowhere", None)
        assert await count_jobs(world) == 0


async def test_an_order_that_cannot_be_opened_ends_its_job_with_the_reason(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        await world.write(lambda tx: tx.execute(secrets.update().values(sealed=b"\1" + b"x" * 40)).rowcount)
        async with world.agent(host_id, capabilities=()) as agent:
            (job,) = await world.dispatcher.run_schedule("minutely", None)
            assert await agent.hears_nothing(CommandRun)
            state = (await world.job(job.id)).state
            assert (state.status, state.error and state.error.code) == (Status.FAILED, "repo_secrets")


# -- cancelling -------------------------------------------------------------------------------------------------------


async def test_a_job_never_sent_is_cancelled_at_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        await one_host(world)
        (job,) = await world.dispatcher.run_schedule("minutely", None)
        after = await world.dispatcher.cancel(job.id[:8])
        assert (after.status, after.state.verdict_by, after.state.tell_host) == (Status.CANCELLED, "server", False)
        with pytest.raises(ConflictError):
            await world.dispatcher.cancel(job.id)


async def test_a_cancelled_slot_is_told_so_that_the_host_lets_go_of_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        await trio.sleep(60)
        async with world.agent(host_id) as agent:
            await world.dispatcher.run_schedule("minutely", None)
            await agent.hear(CommandRun)
            answer = await agent.fire(schedule_id, slot_after(START, 60))
            assert answer.answer == "dispatched"
            await world.dispatcher.cancel(answer.job_id or "")
            told = await agent.hear(CommandCancel)
            assert (told.job_id, told.status) == (answer.job_id, Status.CANCELLED)
        async with world.agent(host_id) as agent:
            again = await agent.hear(CommandCancel)
            assert (again.job_id, again.status) == (answer.job_id, Status.CANCELLED)
        async with world.agent(host_id) as agent:
            assert await agent.hears_nothing(CommandCancel)


async def test_a_cancel_of_a_sent_job_is_repeated_until_the_host_answers(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            (job,) = await world.dispatcher.run_schedule("minutely", None)
            order = await agent.hear(CommandRun)
            await agent.acked(await agent.start(order))
            after = await world.dispatcher.cancel(job.id)
            assert (after.status, after.state.cancel_requested_at) == (Status.RUNNING, world.now())
            assert (await agent.hear(CommandCancel)).status is None
            head = agent.head()
        for _ in range(2):
            async with world.agent(host_id, outbox=head) as agent:
                assert (await agent.hear(CommandCancel)).job_id == job.id
                assert await agent.hears_nothing(CommandRun)
        async with world.agent(host_id, outbox=head) as agent:
            await agent.acked(await agent.finish(order, failed("cancelled")))
            head = agent.head()
            assert (await world.job(job.id)).status is Status.FAILED
        async with world.agent(host_id, outbox=head) as agent:
            assert await agent.hears_nothing(CommandCancel)


# -- inits ------------------------------------------------------------------------------------------------------------


async def init_jobs(world: World) -> list[str]:
    query = select(jobs.c.id).where(jobs.c.kind == Kind.INIT.value).order_by(jobs.c.serial)
    return await world.read(lambda tx: list(tx.execute(query).scalars()))


async def test_eight_hosts_one_new_repository_the_same_slot(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world, AsyncExitStack() as stack:
        ids = [await world.join(f"web{number}") for number in range(8)]
        await room_for(world, await world.repo(), 8)
        schedule_id = await world.schedule("all", all=True)
        await trio.sleep(60)
        slot = slot_after(START, 60)
        agents = [await stack.enter_async_context(world.agent(host_id)) for host_id in ids]
        firsts = []
        for agent in agents:
            answer = await agent.fire(schedule_id, slot)
            firsts.append(answer.job_id or "")
        orders = [await agent.hear(CommandRun) for agent in agents]
        for agent, order in zip(agents, orders, strict=True):
            await agent.start(order)
        for agent, order in list(zip(agents, orders, strict=True))[:7]:
            await agent.acked(await agent.finish(order, failed("repo_missing")))
            assert await agent.hears_nothing(CommandRun, 0.1), "an init or attempt began while a backup still ran"
        await agents[7].acked(await agents[7].finish(orders[7], failed("repo_missing")))

        (init_id,) = await init_jobs(world)
        init = await agents[0].hear(CommandRun)
        assert (init.job_id, init.spec, init.schedule_id) == (init_id, InitSpec(), None)
        for agent in agents:
            assert await agent.hears_nothing(CommandRun, 0.1), "something ran beside the init"
        assert (await world.job(init_id)).actor is Actor.SERVER
        await agents[0].start(init)
        await agents[0].acked(await agents[0].finish(init, DONE))

        attempts = [await agent.hear(CommandRun) for agent in agents]
        assert [attempt.job_id for attempt in attempts] == [attempt_job_id(first, 1) for first in firsts]
        for agent, attempt, first in zip(agents, attempts, firsts, strict=True):
            job = await world.job(attempt.job_id)
            assert (job.actor, job.slot, job.attempt, job.attempt_of) == (Actor.RETRY, None, 2, first)
            assert job.spec == (await world.job(first)).spec
            await agent.start(attempt)
            await agent.acked(await agent.finish(attempt, DONE))
        assert await init_jobs(world) == [init_id]
        assert await count_jobs(world) == 17


async def missing(world: World, agent: ScriptedAgent) -> tuple[CommandRun, str]:
    """Let one run end for want of its repository; return its order and the id of the attempt that follows."""
    await world.dispatcher.run_schedule("minutely", None)
    order = await agent.hear(CommandRun)
    await agent.start(order)
    await agent.acked(await agent.finish(order, failed("repo_missing")))
    return order, attempt_job_id(order.job_id, 1)


async def test_when_the_init_fails_the_attempt_fails_and_names_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            _, attempt_id = await missing(world, agent)
            init = await agent.hear(CommandRun)
            await agent.acked(await agent.finish(init, failed("wrong_password")))
            state = (await world.job(attempt_id)).state
            assert (state.status, state.verdict_by) == (Status.FAILED, "server")
            assert state.error is not None
            assert state.error.code == "init_failed"
            assert init.job_id in state.error.message
            assert await agent.hears_nothing(CommandRun)


async def test_a_repository_that_is_there_already_lets_the_attempt_go_on(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            _, attempt_id = await missing(world, agent)
            init = await agent.hear(CommandRun)
            await agent.acked(await agent.finish(init, failed("repo_exists")))
            assert (await agent.hear(CommandRun)).job_id == attempt_id


async def test_after_its_init_a_run_gets_one_attempt_only(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            _, attempt_id = await missing(world, agent)
            init = await agent.hear(CommandRun)
            await agent.acked(await agent.finish(init, DONE))
            attempt = await agent.hear(CommandRun)
            assert attempt.job_id == attempt_id
            await agent.acked(await agent.finish(attempt, failed("repo_missing")))
            assert await agent.hears_nothing(CommandRun)
            assert await init_jobs(world) == [init.job_id]
            assert await count_jobs(world) == 3


async def test_a_run_that_began_before_the_init_was_done_needs_no_second_one(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        ids = [await world.join(name) for name in ("web1", "web2")]
        await world.repo()
        await world.schedule("minutely", all=True)
        async with world.agent(ids[0]) as first:
            made = await world.dispatcher.run_schedule("minutely", None)
            order = await first.hear(CommandRun)
            began = world.now()
            await first.acked(await first.finish(order, failed("repo_missing")))
            init = await first.hear(CommandRun)
            await trio.sleep(10)
            await first.acked(await first.finish(init, DONE))
            late = next(job for job in made if job.host_id == ids[1])
            async with world.agent(ids[1]) as second:
                order = await second.hear(CommandRun)
                assert order.job_id == late.id
                await second.acked(
                    await second.report(
                        lambda seq: JobFinished(
                            seq=seq,
                            job_id=late.id,
                            outcome=failed("repo_missing"),
                            started_at=began,
                            finished_at=world.now(),
                        )
                    )
                )
                assert (await second.hear(CommandRun)).job_id == attempt_job_id(late.id, 1)
        assert await init_jobs(world) == [init.job_id]


async def test_an_init_never_sent_moves_to_a_host_that_is_there(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        ids = [await world.join(name) for name in ("web1", "web2")]
        await world.repo()
        await world.repo("other")
        await world.schedule("minutely", all=True)
        async with world.agent(ids[0], capabilities=(CAP_KINDS,)) as first:
            await world.dispatcher.run_schedule("minutely", "web1")
            order = await first.hear(CommandRun)
            # The host is busy with another repository when the init is made, so that it cannot be sent yet.
            await restore_elsewhere(world, ids[0])
            await first.acked(await first.finish(order, failed("repo_missing")))
            assert (await first.hear(CommandRun)).repo.url == "/srv/other"
            (init_id,) = await init_jobs(world)
            assert (await world.job(init_id)).host_id == ids[0]
            async with world.agent(ids[1]) as second:
                assert await second.hears_nothing(CommandRun), "it moved while its host was there"
                await first.link.close()
                assert (await second.hear(CommandRun)).job_id == init_id
                assert (await world.job(init_id)).host_id == ids[1]


async def test_who_had_an_init_before_it_moved_may_speak_of_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Found by the simulation: a server put back to an old copy moved an init that its first host had run long ago."""
    async with open_world(tmp_path) as world:
        ids = [await world.join(name) for name in ("web1", "web2")]
        await world.repo()
        await world.schedule("minutely", all=True)
        async with world.agent(ids[0]) as first:
            await world.dispatcher.run_schedule("minutely", "web1")
            order = await first.hear(CommandRun)
            await first.acked(await first.finish(order, failed("repo_missing")))
            init = await first.hear(CommandRun)
            elsewhere = jobs.update().where(jobs.c.id == init.job_id).values(host_id=ids[1], sent_at=None)
            await world.write(lambda tx: tx.execute(elsewhere))
            await first.acked(await first.finish(init, DONE))
            assert world.hub.online(ids[0])
        reasons = await world.read(lambda tx: tx.execute(select(quarantine.c.reason)).scalars().all())
        assert len(reasons) == 1
        assert "another host" in reasons[0]
        assert (await world.job(init.job_id)).host_id == ids[1]
        async with world.agent(ids[0], outbox=first.head(), jobs=(claim(init),)) as first:
            assert world.hub.online(ids[0])
            await first.link.close()
        assert (await world.job(init.job_id)).status is Status.QUEUED, "what is another's is not settled by a claim"


async def test_an_init_finds_a_host_that_got_the_repository_later(tmp_path: Path, autojump_clock: MockClock) -> None:
    """No bell tells of it: the janitor's look over everything does."""
    async with open_world(tmp_path) as world:
        ids = [await world.join(name) for name in ("web1", "web2")]
        await world.repo()
        await world.repo("other")
        await world.schedule("minutely", "web1")
        async with world.agent(ids[0], capabilities=(CAP_KINDS,)) as first:
            await world.dispatcher.run_schedule("minutely", None)
            order = await first.hear(CommandRun)
            await restore_elsewhere(world, ids[0])
            await first.acked(await first.finish(order, failed("repo_missing")))
        (init_id,) = await init_jobs(world)
        async with world.agent(ids[1]) as second:
            await trio.sleep(5)
            await world.schedule("late", "web2")
            assert await second.hears_nothing(CommandRun)
            world.nursery.start_soon(Janitor(world.services).run)
            assert (await second.hear(CommandRun, within=700)).job_id == init_id


async def test_an_init_that_was_sent_stays_where_it_is(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        ids = [await world.join(name) for name in ("web1", "web2")]
        await world.repo()
        await world.schedule("minutely", all=True)
        async with world.agent(ids[1]) as second:
            async with world.agent(ids[0]) as first:
                await world.dispatcher.run_schedule("minutely", "web1")
                order = await first.hear(CommandRun)
                await first.acked(await first.finish(order, failed("repo_missing")))
                init = await first.hear(CommandRun)
            assert await second.hears_nothing(CommandRun, 3_600)
            assert (await world.job(init.job_id)).host_id == ids[0]


async def test_two_inits_of_one_repository_are_never_asked_for(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        made = await world.dispatcher.init_repo("repo", "web1")
        assert (made.kind, made.actor) == (Kind.INIT, Actor.OPERATOR)
        with pytest.raises(ConflictError, match=made.id):
            await world.dispatcher.init_repo("repo", "web1")
        async with world.agent(host_id) as agent:
            assert (await agent.hear(CommandRun)).spec == InitSpec()


async def test_when_the_host_of_an_init_is_removed_another_makes_the_repository(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        ids = [await world.join(name) for name in ("web1", "web2")]
        await world.repo()
        await world.repo("other")
        await world.schedule("minutely", all=True)
        async with world.agent(ids[0], capabilities=(CAP_KINDS,)) as first:
            await world.dispatcher.run_schedule("minutely", "web1")
            order = await first.hear(CommandRun)
            other = await restore_elsewhere(world, ids[0])
            await first.acked(await first.finish(order, failed("repo_missing")))
        (init_id,) = await init_jobs(world)
        ripple = await world.write(
            lambda tx: host_changes.remove(tx, hosts.get(tx, ids[0]), now=world.now() + timedelta(seconds=1))
        )
        world.dispatcher.apply(ripple)
        assert (await world.job(init_id)).host_id == ids[1]
        state = (await world.job(other.id)).state
        assert (state.status, state.error and state.error.code) == (Status.INTERRUPTED, "host_removed")
        attempt = await world.job(attempt_job_id(order.job_id, 1))
        assert attempt.status is Status.INTERRUPTED
        async with world.agent(ids[1]) as second:
            await second.hear(ScheduleSet)
            assert (await second.hear(CommandRun)).job_id == init_id
