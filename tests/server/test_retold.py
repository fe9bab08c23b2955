"""A server restored from a copy: what agents tell again counts once, logs are lost and not empty, epochs are rare."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import trio
from sqlalchemy import select
from trio.testing import MockClock

from restic_manager.domain.model import Fate, Outcome, Status, new_id, slot_job_id
from restic_manager.protocol.messages import CommandRun, JobFinished, JobLog, OutboxHead, Refused, SlotDecided
from restic_manager.server.greeting import EPOCH_EVERY
from restic_manager.server.store import events, identity, logs
from restic_manager.server.store.schema import fates, jobs, quarantine
from tests.server.world import DONE, START, ScriptedAgent, World, failed, open_world, slot_after


async def one_host(world: World, name: str = "web1") -> tuple[str, str]:
    host_id = await world.join(name)
    await world.repo(f"repo-{name}")
    return host_id, await world.schedule(f"minutely-{name}", name, repo=f"repo-{name}")


async def tell(
    agent: ScriptedAgent,
    schedule_id: str | None,
    slot: datetime | None,
    *,
    outcome: Outcome = DONE,
    log_lines: int | None = 0,
    retold: bool = True,
    job_id: str | None = None,
) -> str:
    if job_id is None:
        assert schedule_id is not None
        assert slot is not None
        job_id = slot_job_id(schedule_id, agent.host_id, slot)
    ended = slot or agent.world.now()
    seq = await agent.report(
        lambda seq: JobFinished(
            seq=seq,
            job_id=job_id,
            outcome=outcome,
            started_at=ended,
            finished_at=ended,
            schedule_id=schedule_id,
            scheduled_at=slot,
            retold=retold,
            log_lines=log_lines,
        )
    )
    await agent.acked(seq)
    return job_id


async def lines(world: World, job_id: str) -> list[tuple[int, int, str]]:
    chunks = await world.read(lambda tx: logs.read(tx, job_id))
    return [(chunk.first_line, chunk.dropped_before, chunk.text) for chunk in chunks]


async def test_a_verdict_told_again_is_adopted_once_and_starts_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        await trio.sleep(600)
        async with world.agent(host_id, outbox=OutboxHead(head=40, acked=40, epoch="before")) as agent:
            ran = await tell(agent, schedule_id, slot_after(START, 60))
            lost = await tell(agent, schedule_id, slot_after(START, 120), outcome=failed("repo_missing"))
            for job_id, status in ((ran, Status.SUCCEEDED), (lost, Status.FAILED)):
                job = await world.job(job_id)
                assert (job.status, job.state.verdict_by) == (status, "agent")
            before = await world.read(lambda tx: tx.execute(select(jobs)).fetchall())
            assert len(before) == 2, "an init or another attempt of something long over"
            await tell(agent, schedule_id, slot_after(START, 60))
            await tell(agent, schedule_id, slot_after(START, 120), outcome=failed("repo_missing"))
            assert await world.read(lambda tx: tx.execute(select(jobs)).fetchall()) == before
            rows = await world.read(lambda tx: tx.execute(select(fates.c.fate, fates.c.job_id)).fetchall())
            assert [tuple(row) for row in rows] == [("ran", ran), ("ran", lost)]
            # what is told for the first time does lead to what it calls for
            await tell(agent, schedule_id, slot_after(START, 180), outcome=failed("repo_missing"), retold=False)
            kinds = await world.read(lambda tx: tx.execute(select(jobs.c.actor_kind)).scalars().all())
            assert sorted(kinds) == ["retry", "schedule", "schedule", "schedule", "server"]


async def test_a_coalesced_range_told_again_stays_one(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        await trio.sleep(600)
        async with world.agent(host_id, outbox=OutboxHead(head=40, acked=40, epoch="before")) as agent:
            for _ in range(2):
                seq = await agent.report(
                    lambda seq: SlotDecided(
                        seq=seq,
                        schedule_id=schedule_id,
                        revision=1,
                        first=slot_after(START, 60),
                        last=slot_after(START, 300),
                        count=5,
                        fate=Fate.COALESCED,
                        reason="catch-up",
                        into=slot_after(START, 360),
                    )
                )
                await agent.acked(seq)
        rows = await world.read(lambda tx: tx.execute(select(fates.c.count, fates.c.fate)).fetchall())
        assert [tuple(row) for row in rows] == [(5, "coalesced")]


async def test_a_log_that_was_told_to_the_lost_store_ends_with_a_line_that_says_so(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        await trio.sleep(600)
        async with world.agent(host_id, outbox=OutboxHead(head=40, acked=40, epoch="before")) as agent:
            all_lost = unknown = none = ""
            for _ in range(2):
                all_lost = await tell(agent, schedule_id, slot_after(START, 60), log_lines=12)
                unknown = await tell(agent, schedule_id, slot_after(START, 120), log_lines=None)
                none = await tell(agent, schedule_id, slot_after(START, 180), log_lines=0)
            job = await world.job(all_lost)
            assert (job.log_lines, job.log_lines_dropped) == (13, 12)
            ((first, dropped, text),) = await lines(world, all_lost)
            assert (first, dropped) == (13, 12)
            assert "lost" in text
            ((first, dropped, text),) = await lines(world, unknown)
            assert (first, dropped) == (1, 0)
            assert "not known" in text
            assert await lines(world, none) == []


@pytest.mark.parametrize("retold", [True, False])
async def test_the_tail_of_a_log_that_the_copy_has_half_of_is_lost(
    tmp_path: Path, autojump_clock: MockClock, retold: bool
) -> None:
    """The copy was made while the job ran. retold=False: the server sent the order again, and that is the answer."""
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        async with world.agent(host_id) as agent:
            await world.dispatcher.run_schedule("minutely-web1", None)
            order = await agent.hear(CommandRun)
            await agent.start(order)
            seq = await agent.report(
                lambda seq: JobLog(
                    seq=seq, job_id=order.job_id, at=world.now(), stream="stdout", first_line=1, text="one\ntwo"
                )
            )
            await agent.acked(seq)
            await tell(agent, order.schedule_id, None, job_id=order.job_id, log_lines=5, retold=retold)
            assert [(first, dropped) for first, dropped, _ in await lines(world, order.job_id)] == [(1, 0), (6, 3)]
            assert (await world.job(order.job_id)).status is Status.SUCCEEDED
        assert schedule_id == order.schedule_id


async def test_a_whole_log_ends_as_it_was(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            await world.dispatcher.run_schedule("minutely-web1", None)
            order = await agent.hear(CommandRun)
            await agent.report(
                lambda seq: JobLog(
                    seq=seq, job_id=order.job_id, at=world.now(), stream="stdout", first_line=1, text="one\ntwo"
                )
            )
            await tell(agent, order.schedule_id, None, job_id=order.job_id, log_lines=2, retold=False)
            assert await lines(world, order.job_id) == [(1, 0, "one\ntwo")]


async def test_what_cannot_be_verified_is_set_aside_and_the_session_goes_on(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        await trio.sleep(600)
        async with world.agent(host_id, outbox=OutboxHead(head=40, acked=40, epoch="before")) as agent:
            await tell(agent, None, None, job_id=new_id())  # an operator's request after the copy
            await tell(agent, new_id(), slot_after(START, 60))  # a schedule made after the copy
            await tell(agent, schedule_id, slot_after(START, 120))
            kept = await world.read(lambda tx: tx.execute(select(quarantine.c.seq)).scalars().all())
            assert kept == [41, 42]
            assert len(await world.read(lambda tx: tx.execute(select(jobs.c.id)).fetchall())) == 1


# -- epochs -----------------------------------------------------------------------------------------------------------


async def new_epochs(world: World) -> int:
    return len(await world.read(lambda tx: events.latest(tx, limit=50, what="new_epoch")))


async def refused(world: World, host_id: str, **hello: Any) -> Refused:
    async with world.link(world.credentials[host_id]) as link:
        agent = ScriptedAgent(world, host_id, link)
        await link.send(agent.hello(**hello))
        return await agent.hear(Refused)


async def test_a_restored_fleet_goes_on_in_the_one_epoch_that_there_is(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """`server restore` has made the epoch: hosts acked further before it make no more of them."""
    async with open_world(tmp_path) as world:
        ids = [(await one_host(world, f"web{number}"))[0] for number in range(5)]
        for host_id in ids:
            async with world.agent(host_id) as agent:
                await world.dispatcher.run_schedule(f"minutely-web{ids.index(host_id)}", None)
                await agent.acked(await agent.start(await agent.hear(CommandRun)))
        old = await world.read(identity.epoch)
        fresh = await world.write(lambda tx: identity.new_epoch(tx, now=world.now(), reason="restored"))
        for host_id in ids:
            head = OutboxHead(head=9, acked=7, acked_hash="f" * 64, epoch=old)
            async with world.agent(host_id, outbox=head, applied_epoch=old, applied_version=3) as agent:
                assert world.hub.online(host_id)
        assert await world.read(identity.epoch) == fresh
        assert await new_epochs(world) == 1


async def test_a_journal_nobody_has_seen_makes_no_epoch_by_its_word(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A clone, or somebody with a stolen credential, could otherwise send the whole fleet away as often as it likes."""
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        other_id, _ = await one_host(world, "web2")
        epoch = await world.read(identity.epoch)
        async with world.agent(other_id):
            for number in range(5):
                head = OutboxHead(head=7, acked=7, acked_hash="f" * 64, epoch=epoch)
                said = await refused(world, host_id, journal_id=f"made-up-{number}", outbox=head)
                assert (said.code, said.retry) == ("rekey", True)
            assert world.hub.online(other_id)
        assert await new_epochs(world) == 0
        async with world.agent(host_id, journal_id="rekeyed", outbox=OutboxHead(head=2)):
            assert world.hub.online(host_id)


async def test_an_agents_word_makes_an_epoch_once_an_hour(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        acked = 10
        async with world.agent(host_id):
            pass
        for hour in range(3):
            epoch = await world.read(identity.epoch)
            acked += 10
            head = OutboxHead(head=acked, acked=acked, acked_hash="f" * 64, epoch=epoch)
            async with world.agent(host_id, outbox=head):
                assert await world.read(identity.epoch) != epoch
            epoch = await world.read(identity.epoch)
            for number in range(1, 4):
                head = OutboxHead(head=acked + number, acked=acked + number, epoch=epoch)
                said = await refused(world, host_id, outbox=head)
                assert (said.code, said.retry) == ("old_copy", True)
                assert said.retry_after is not None
                assert EPOCH_EVERY.total_seconds() - 60 < said.retry_after <= EPOCH_EVERY.total_seconds()
            assert await world.read(identity.epoch) == epoch
            assert await new_epochs(world) == hour + 1
            told = await world.read(lambda tx: events.latest(tx, limit=50, what="old_copy"))
            assert len(told) == hour + 1, "one event an hour, however often it asks"
            await trio.sleep(EPOCH_EVERY.total_seconds() + 1)
