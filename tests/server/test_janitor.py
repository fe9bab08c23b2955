"""The janitor: last seen, hosts that stay away, and history within its limits."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import trio
from sqlalchemy import Connection, func, select
from trio.testing import MockClock

from restic_manager.domain import lifecycle
from restic_manager.domain.model import Actor, Fate, InitSpec, Outcome, Status, new_id
from restic_manager.protocol.messages import CommandRun
from restic_manager.server.janitor import Janitor
from restic_manager.server.store import events, fates, history, hosts, job_rows, jobs, logs
from restic_manager.server.store.ripple import Ripple
from restic_manager.server.store.schema import fates as fate_rows
from restic_manager.server.store.schema import invites, log_chunks
from restic_manager.server.store.schema import jobs as job_table
from tests.server.world import DONE, SPEC, START, World, open_world, slot_after

DAY = timedelta(days=1)


async def one_host(world: World) -> tuple[str, str]:
    host_id = await world.join("web1")
    await world.repo()
    return host_id, await world.schedule("minutely", "web1")


async def test_hosts_online_are_stamped_every_minute(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        world.nursery.start_soon(Janitor(world.services).run)
        async with world.agent(host_id):
            await trio.sleep(3_601)
            seen = (await world.read(lambda tx: hosts.get(tx, host_id))).last_seen_at
            assert seen is not None
            assert world.now() - seen <= timedelta(seconds=61)


async def test_what_a_lost_host_was_handed_is_interrupted_and_its_late_verdict_wins(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        world.nursery.start_soon(Janitor(world.services).run)
        async with world.agent(host_id) as agent:
            await world.dispatcher.run_schedule("minutely", None)
            order = await agent.hear(CommandRun)
            await agent.acked(await agent.start(order))
            head = agent.head()
        (waiting,) = await world.dispatcher.run_schedule("minutely", None)
        await trio.sleep(6.9 * 86_400)
        assert (await world.job(order.job_id)).status is Status.RUNNING
        await trio.sleep(0.2 * 86_400)
        job = await world.job(order.job_id)
        assert (job.status, job.state.verdict_by) == (Status.INTERRUPTED, "server")
        assert job.state.error is not None
        assert (job.state.error.code, "7d" in job.state.error.message) == ("host_lost", True)
        asked = await world.job(waiting.id)
        assert asked.state.error is not None
        assert (asked.status, asked.state.error.code) == (Status.CANCELLED, "expired"), "a wish is not kept for ever"
        async with world.agent(host_id, outbox=head) as agent:
            await agent.acked(await agent.finish(order, DONE))
        assert (await world.job(order.job_id)).status is Status.SUCCEEDED


async def test_time_in_which_the_server_was_down_does_not_count(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            await world.dispatcher.run_schedule("minutely", None)
            order = await agent.hear(CommandRun)
            await agent.acked(await agent.start(order))
    async with open_world(tmp_path, start=START + 30 * DAY) as world:
        world.nursery.start_soon(Janitor(world.services).run)
        await trio.sleep(3 * 86_400)
        assert (await world.job(order.job_id)).status is Status.RUNNING
        await trio.sleep(5 * 86_400)
        assert (await world.job(order.job_id)).status is Status.INTERRUPTED


def finished(tx: Connection, host_id: str, repo_id: str, schedule_id: str | None, age: timedelta) -> str:
    """A job that ended so long before START, with a line of log, and (of a schedule) a fate."""
    at = START - age
    job = job_rows.insert(
        tx,
        job_id=new_id(),
        spec=SPEC if schedule_id else InitSpec(),
        host_id=host_id,
        repo_id=repo_id,
        actor=Actor.SCHEDULE if schedule_id else Actor.SERVER,
        now=at,
        schedule_id=schedule_id,
        slot=at if schedule_id else None,
    )
    step = lifecycle.apply_finished(job.state, Outcome(status=Status.SUCCEEDED), started_at=at, finished_at=at, now=at)
    jobs.settle(tx, job, step, now=at, ripple=Ripple())
    logs.append(tx, job.id, [logs.chunk_of(first_line=1, at=at, stream="stdout", text="x", dropped=0)])
    if schedule_id:
        fates.record_ran(tx, schedule_id=schedule_id, host_id=host_id, revision=1, slot=at, job_id=job.id, now=at)
    return job.id


async def test_history_is_pruned_by_age_but_never_the_newest(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "KEEP_LEAST", 3)
    async with open_world(tmp_path, dispatching=False) as world:
        host_id, schedule_id = await one_host(world)
        repo = await world.repo("second")

        def fill(tx: Connection) -> tuple[list[str], list[str]]:
            old = [finished(tx, host_id, repo, schedule_id, timedelta(days=days)) for days in range(900, 400, -50)]
            return old, [finished(tx, host_id, repo, None, timedelta(days=days)) for days in (500, 10)]

        old, inits = await world.write(fill)
        await Janitor(world.services).prune()
        left = await world.read(lambda tx: set(tx.execute(select(job_table.c.id)).scalars()))
        assert left == {*old[-3:], inits[1]}
        ran = await world.read(lambda tx: set(tx.execute(select(fate_rows.c.job_id)).scalars()))
        assert ran == set(old[-3:])
        with_log = await world.read(lambda tx: set(tx.execute(select(log_chunks.c.job_id)).scalars()))
        assert with_log == {inits[1]}, "logs go earlier than jobs"
        kept = await world.job(old[-1])
        assert (kept.log_lines, kept.log_lines_dropped) == (1, 1)


async def test_history_is_pruned_by_count_in_bites(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "KEEP_MOST", 50)
    monkeypatch.setattr(history, "BITE", 20)
    async with open_world(tmp_path, dispatching=False) as world:
        host_id, schedule_id = await one_host(world)
        repo = await world.repo("second")

        def fill(tx: Connection) -> list[str]:
            return [finished(tx, host_id, repo, schedule_id, timedelta(minutes=200 - n)) for n in range(120)]

        made = await world.write(fill)
        await Janitor(world.services).prune()
        left = await world.read(lambda tx: set(tx.execute(select(job_table.c.id)).scalars()))
        assert left == set(made[-50:])


async def test_the_chain_of_a_pruned_job_stays_readable(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path, dispatching=False) as world:
        host_id, schedule_id = await one_host(world)
        repo = await world.repo("second")

        def fill(tx: Connection) -> tuple[str, str]:
            first = finished(tx, host_id, repo, schedule_id, timedelta(days=500))
            attempt = job_rows.insert(
                tx,
                job_id=new_id(),
                spec=SPEC,
                host_id=host_id,
                repo_id=repo,
                actor=Actor.RETRY,
                now=START,
                attempt=2,
                attempt_of=first,
                waits_for_job=first,
            )
            history.forget_jobs(tx, [first])
            return first, attempt.id

        _, attempt_id = await world.write(fill)
        job = await world.job(attempt_id)
        assert (job.attempt, job.attempt_of, job.waits_for_job) == (2, None, None)


async def test_old_fates_go_and_the_baseline_stays(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path, dispatching=False) as world:
        host_id, schedule_id = await one_host(world)

        def fill(tx: Connection) -> None:
            for days in (900, 600, 500):
                fates.record(
                    tx,
                    schedule_id=schedule_id,
                    host_id=host_id,
                    revision=1,
                    first=START - timedelta(days=days),
                    last=START - timedelta(days=days - 1),
                    count=2,
                    fate=Fate.MISSED,
                    reason="not running",
                    into=None,
                    evidence=None,
                    now=START,
                )
            for days in (500, 10):
                events.record(tx, now=START - timedelta(days=days), actor="server", what="test", detail="x")

        await world.write(fill)
        await world.invite("never-came")
        await trio.sleep(8 * 86_400)
        await Janitor(world.services).prune()
        left = await world.read(lambda tx: tx.execute(select(fate_rows.c.first_slot)).scalars().all())
        assert left == [START - timedelta(days=500)]
        told = await world.read(lambda tx: events.latest(tx, limit=100, what="test"))
        assert len(told) == 1
        tokens = await world.read(lambda tx: tx.execute(select(func.count()).select_from(invites)).scalar_one())
        assert tokens == 1, "the used one stays: it tells a revoked credential from an unknown one"


async def test_a_store_that_cannot_be_written_does_not_end_the_janitor(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    from restic_manager.domain.errors import StorageError

    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        janitor = Janitor(world.services)
        tried = 0
        real = janitor.note_seen

        async def full() -> None:
            nonlocal tried
            tried += 1
            if tried == 1:
                raise StorageError("the disk is full")
            await real()

        janitor.note_seen = full  # type: ignore[method-assign]  # fails once
        world.nursery.start_soon(janitor.run)
        async with world.agent(host_id):
            await trio.sleep(121)
            seen = (await world.read(lambda tx: hosts.get(tx, host_id))).last_seen_at
            assert seen == slot_after(START, 120)
        assert "the disk is full" in caplog.text
