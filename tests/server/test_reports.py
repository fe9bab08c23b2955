"""Durable reports: in sequence, once, acked after the commit; what cannot be used is set aside; nothing foreign."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
import trio
from sqlalchemy import select
from trio.testing import MockClock

from restic_manager.domain.model import Fate, Progress, Status, slot_job_id
from restic_manager.link import Incoming, LinkClosed
from restic_manager.protocol.codec import encode
from restic_manager.protocol.messages import (
    Ack,
    CommandRun,
    Error,
    Heartbeat,
    JobFinished,
    JobLog,
    JobProgress,
    JobStarted,
    OutboxHead,
    ScheduleFire,
    ScheduleFired,
    SlotDecided,
)
from restic_manager.protocol.session import JournalRecord, frame_hash
from restic_manager.server import intake, reports
from restic_manager.server.store import events, identity, journals, logs, schedule_changes, schedules
from restic_manager.server.store.schema import fates, jobs, quarantine
from restic_manager.server.store.slots import Caller
from tests.server.world import DONE, START, ScriptedAgent, World, failed, open_world, slot_after


async def one_host(world: World) -> tuple[str, str]:
    host_id = await world.join("web1")
    await world.repo()
    return host_id, await world.schedule("minutely", "web1")


async def set_aside(world: World) -> list[tuple[int, str]]:
    query = select(quarantine.c.seq, quarantine.c.reason).order_by(quarantine.c.id)
    return await world.read(lambda tx: [(row.seq, row.reason) for row in tx.execute(query)])


async def standing(world: World, host_id: str) -> JournalRecord | None:
    return await world.read(lambda tx: journals.find(tx, host_id, f"journal-of-{host_id}"[:64]))


async def closing_code(agent: ScriptedAgent) -> int | None:
    with pytest.raises(LinkClosed) as caught:  # noqa: PT012 - reads whatever comes before the end
        while True:
            await agent.hear(Heartbeat)
    return caught.value.code


async def ordered(world: World, agent: ScriptedAgent) -> CommandRun:
    await world.dispatcher.run_schedule("minutely", None)
    return await agent.hear(CommandRun)


def log(order: CommandRun, first_line: int, text: str, at: datetime = START):  # type: ignore[no-untyped-def]  # makes a maker
    return lambda seq: JobLog(seq=seq, job_id=order.job_id, at=at, stream="stdout", first_line=first_line, text=text)


async def test_a_run_is_told_from_its_start_to_its_end(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            order = await ordered(world, agent)
            await agent.start(order)
            await agent.report(log(order, 1, "one\ntwo"))
            await agent.report(log(order, 3, "three"))
            seq = await agent.finish(order, DONE)
            await agent.acked(seq)
        job = await world.job(order.job_id)
        assert (job.status, job.state.verdict_by, job.state.snapshot_id) == (Status.SUCCEEDED, "agent", "abcd1234")
        assert (job.log_lines, job.log_lines_dropped) == (3, 0)
        chunks = await world.read(lambda tx: logs.read(tx, order.job_id))
        assert [(chunk.first_line, chunk.text) for chunk in chunks] == [(1, "one\ntwo"), (3, "three")]
        assert await standing(world, host_id) == JournalRecord(seq, frame_hash(agent.frames[seq]))


async def test_a_repeat_is_acked_again_and_changes_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            order = await ordered(world, agent)
            await agent.start(order)
            await agent.report(log(order, 1, "one"))
            last = await agent.finish(order, DONE)
            await agent.acked(last)
            before = await world.job(order.job_id)
            for seq in range(1, last + 1):
                await agent.link.send_frame(agent.frames[seq])
            assert (await agent.hear(Ack)).through == last
            assert await world.job(order.job_id) == before
        assert await set_aside(world) == []


async def test_a_gap_ends_the_session_and_nothing_after_it_counts(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            order = await ordered(world, agent)
            await agent.start(order)
            agent.seq += 1
            await agent.finish(order, DONE)
            error = await agent.hear(Error)
            assert error.code == "gap"
            assert await closing_code(agent) == 1008
        assert (await world.job(order.job_id)).status is Status.RUNNING
        record = await standing(world, host_id)
        assert record is not None
        assert record.acked_through == 1
        async with world.agent(host_id, outbox=agent.head(acked=1)) as again:
            again.seq = 1
            await again.acked(await again.finish(order, DONE))
        assert (await world.job(order.job_id)).status is Status.SUCCEEDED


async def test_a_slot_that_ran_by_its_standing_order_is_adopted(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        await trio.sleep(90)
        slot = slot_after(START, 60)
        job_id = slot_job_id(schedule_id, host_id, slot)
        async with world.agent(host_id) as agent:

            def started(seq: int) -> JobStarted:
                return JobStarted(
                    seq=seq, job_id=job_id, started_at=world.now(), schedule_id=schedule_id, scheduled_at=slot
                )

            await agent.acked(await agent.report(started))
            job = await world.job(job_id)
            assert (job.status, job.slot, job.revision, job.schedule_id) == (Status.RUNNING, slot, 1, schedule_id)
            fired = await agent.fire(schedule_id, slot)
            assert (fired.answer, fired.status) == ("duplicate", Status.RUNNING)
            assert await agent.hears_nothing(CommandRun)
        rows = await world.read(lambda tx: tx.execute(select(fates.c.fate, fates.c.job_id)).all())
        assert [tuple(row) for row in rows] == [("ran", job_id)]


async def test_a_run_of_a_schedule_removed_meanwhile_is_adopted(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        await trio.sleep(90)
        await world.write(lambda tx: schedule_changes.remove(tx, schedules.get(tx, schedule_id), now=world.now()))
        slot = slot_after(START, 60)
        job_id = slot_job_id(schedule_id, host_id, slot)
        async with world.agent(host_id) as agent:
            await agent.acked(
                await agent.report(
                    lambda seq: JobFinished(
                        seq=seq,
                        job_id=job_id,
                        outcome=DONE,
                        started_at=world.now(),
                        finished_at=world.now(),
                        schedule_id=schedule_id,
                        scheduled_at=slot,
                    )
                )
            )
        assert (await world.job(job_id)).status is Status.SUCCEEDED
        assert await set_aside(world) == []


async def test_what_does_not_check_out_is_set_aside_acked_and_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        await world.join("web2")
        others = await world.schedule("others", "web2")
        await trio.sleep(90)
        slot = slot_after(START, 60)

        def started(job_id: str, schedule: str | None = None, at: datetime | None = None):  # type: ignore[no-untyped-def]  # makes a maker
            return lambda seq: JobStarted(
                seq=seq, job_id=job_id, started_at=START, schedule_id=schedule, scheduled_at=at
            )

        def decided(fate: Fate, count: int = 1, schedule: str = schedule_id):  # type: ignore[no-untyped-def]  # makes a maker
            return lambda seq: SlotDecided(
                seq=seq, schedule_id=schedule, revision=1, first=slot, last=slot, count=count, fate=fate, reason="why"
            )

        unusable = [
            started("no-such-job"),
            started("no-such-job", schedule_id, slot),
            started(slot_job_id("nothing", host_id, slot), "nothing", slot),
            started(slot_job_id(others, host_id, slot), others, slot),
            lambda seq: JobLog(seq=seq, job_id="no-such-job", at=START, stream="stdout", first_line=1, text="x"),
            decided(Fate.RAN),
            decided(Fate.MISSED, count=2),
            decided(Fate.MISSED, schedule="nothing"),
            decided(Fate.MISSED, schedule=others),
        ]
        async with world.agent(host_id) as agent:
            for make in unusable:
                await agent.report(make)
            agent.seq += 1
            await agent.link.send_frame(f'{{"type":"job.finished","seq":{agent.seq},"job_id":5}}')
            await agent.acked(agent.seq)
            kept = await set_aside(world)
            assert [seq for seq, _ in kept] == list(range(1, len(unusable) + 2))
            assert all(len(reason) > 10 for _, reason in kept)
            # the session goes on, and so does the sequence
            order = await ordered(world, agent)
            await agent.acked(await agent.finish(order, DONE))
        told = await world.read(lambda tx: events.latest(tx, limit=10, what="quarantined"))
        assert len(told) == 1, "a flood of them is one event"
        assert told[0].host_id == host_id


async def test_a_second_other_verdict_is_set_aside(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            order = await ordered(world, agent)
            await agent.finish(order, DONE)
            await agent.acked(await agent.finish(order, failed("boom")))
        assert (await world.job(order.job_id)).status is Status.SUCCEEDED
        ((seq, reason),) = await set_aside(world)
        assert seq == 2
        assert "succeeded" in reason


async def test_a_slot_that_has_a_job_cannot_be_decided_away(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        await trio.sleep(60)
        slot = slot_after(START, 60)
        async with world.agent(host_id) as agent:
            fired = await agent.fire(schedule_id, slot)
            await agent.acked(
                await agent.report(
                    lambda seq: SlotDecided(
                        seq=seq,
                        schedule_id=schedule_id,
                        revision=1,
                        first=slot,
                        last=slot,
                        count=1,
                        fate=Fate.SKIPPED,
                        reason="overlap",
                    )
                )
            )
        ((_, reason),) = await set_aside(world)
        assert (fired.job_id or "?") in reason


async def test_a_claim_on_another_hosts_job_ends_the_session_and_no_other(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        thief_id = await world.join("thief")
        async with world.agent(host_id) as agent, world.agent(thief_id) as thief:
            order = await ordered(world, agent)
            await agent.acked(await agent.start(order))
            await thief.finish(order, failed("stolen"))
            assert (await thief.hear(Error)).code == "not_yours"
            assert await closing_code(thief) == 1008
            assert not world.hub.online(thief_id)
            assert (await world.job(order.job_id)).status is Status.RUNNING
            await agent.acked(await agent.finish(order, DONE))
            assert (await world.job(order.job_id)).status is Status.SUCCEEDED
        ((_, reason),) = await set_aside(world)
        assert "another host" in reason


async def test_the_ack_comes_after_the_commit(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Hold the store's writer: no ack may be out while the report is not committed."""
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            order = await ordered(world, agent)
            release = trio.Event()
            real = world.store.write

            async def held(change):  # type: ignore[no-untyped-def]  # stands in for Store.write
                await release.wait()
                return await real(change)

            world.store.write = held  # type: ignore[method-assign]  # the writer is stopped on purpose
            seq = await agent.start(order)
            assert await agent.hears_nothing(Ack, 5)
            release.set()
            await agent.acked(seq)


async def test_a_message_that_cannot_be_applied_is_found_and_set_aside_alone(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever breaks in the rows for one report, its neighbours in the batch are applied, and the session goes on."""
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            order = await ordered(world, agent)
            real = logs.append

            def fragile(tx, job_id, chunks, **more):  # type: ignore[no-untyped-def]  # stands in for logs.append
                if any("poison" in chunk.text for chunk in chunks):
                    raise ValueError("a fault nobody thought of")
                return real(tx, job_id, chunks, **more)

            monkeypatch.setattr(logs, "append", fragile)
            await agent.start(order)
            await agent.report(log(order, 1, "good"))
            await agent.report(log(order, 2, "poison"))
            await agent.report(log(order, 3, "good again"))
            await agent.acked(await agent.finish(order, DONE))
        job = await world.job(order.job_id)
        assert job.status is Status.SUCCEEDED
        assert (job.log_lines, job.log_lines_dropped) == (3, 1)
        ((seq, reason),) = await set_aside(world)
        assert seq == 3
        assert "failed while applying" in reason


async def test_too_much_waiting_holds_the_reader_up(tmp_path: Path, autojump_clock: MockClock) -> None:
    """While nothing is taken in, no more than the bound is accepted; then everything arrives, in order."""
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            order = await ordered(world, agent)
            await agent.acked(await agent.start(order))
            session = world.hub.current(host_id)
            assert session is not None
            caller = Caller(host_id=host_id, clock_offset=0.0, same_tzdata=True)
            sender = reports.Sender(caller=caller, host_name="web1", journal_id=f"journal-of-{host_id}"[:64])
            taking = intake.Intake(
                store=world.store, clock=world.services.clock, session=session, sender=sender, apply=lambda _: None
            )
            count = 2 * intake.MAX_WAITING
            offered = 0

            async def offer(size: int, first: int) -> None:
                nonlocal offered
                for line in range(first, count + 1):
                    message = log(order, line, "x" * size)(line + 1)
                    await taking.offer(Incoming(message, encode(message)))
                    offered += 1

            async with trio.open_nursery() as nursery:
                nursery.start_soon(offer, 10, 1)
                await trio.sleep(1)
                assert offered == intake.MAX_WAITING
                nursery.start_soon(taking.run)
                await trio.sleep(60)
                nursery.cancel_scope.cancel()
            assert offered == count
            assert (await world.job(order.job_id)).log_lines == count
            big = intake.Intake(
                store=world.store, clock=world.services.clock, session=session, sender=sender, apply=lambda _: None
            )
            held = 0
            with trio.move_on_after(1):
                for line in range(1, count):
                    message = log(order, line, "x" * 60_000)(line + 1)
                    await big.offer(Incoming(message, encode(message)))
                    held += len(encode(message))
            assert intake.MAX_WAITING_TEXT <= held < intake.MAX_WAITING_TEXT + 70_000


async def test_a_message_of_another_time_is_answered_and_the_session_stays(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        async with world.agent(host_id) as agent:
            await agent.link.send(agent.hello())
            assert (await agent.hear(Error)).code == "out_of_order"
            await agent.link.send_frame('{"type":"job.progress","job_id":7}')
            assert (await agent.hear(Error)).ref == "job.progress"
            await agent.link.send_frame('{"type":"from.the.future"}')
            assert (await agent.hear(Error)).code == "unknown_type"
            assert world.hub.misunderstood == 2
            await trio.sleep(60)
            assert (await agent.fire(schedule_id, slot_after(START, 60))).answer == "dispatched"


async def test_progress_is_kept_for_the_hosts_own_running_jobs_only(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            order = await ordered(world, agent)
            for job_id in (order.job_id, "somebody-elses"):
                await agent.link.send(JobProgress(job_id=job_id, progress=Progress(percent_done=0.5)))
            await agent.acked(await agent.start(order))
            assert set(world.hub.progress) == {order.job_id}
            await agent.acked(await agent.finish(order, DONE))
            assert world.hub.progress == {}


async def test_a_journal_the_server_has_lost_may_have_a_gap(tmp_path: Path, autojump_clock: MockClock) -> None:
    """The server is an old copy: the agent was acked to 7, and goes on with 8 in a new epoch."""
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        epoch = await world.read(identity.epoch)
        head = OutboxHead(head=7, acked=7, acked_hash="f" * 64, epoch=epoch)
        async with world.agent(host_id, outbox=head, applied_epoch=epoch, applied_version=99) as agent:
            await trio.sleep(60)
            await agent.fire(schedule_id, slot_after(START, 60))
            order = await agent.hear(CommandRun)
            await agent.acked(await agent.finish(order, DONE))
            assert agent.seq == 8
        told = await world.read(lambda tx: events.latest(tx, limit=5, what="new_epoch"))
        assert len(told) == 1
        rows = await world.read(lambda tx: tx.execute(select(jobs.c.status)).scalars().all())
        assert rows == ["succeeded"]


async def test_many_fires_in_one_batch_get_an_answer_each(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id = await world.join("web1")
        await world.repo()
        ids = [await world.schedule(f"s{number}", "web1") for number in range(30)]
        await trio.sleep(60)
        async with world.agent(host_id) as agent:
            for schedule_id in ids:
                await agent.link.send(
                    ScheduleFire(
                        schedule_id=schedule_id, revision=1, scheduled_at=slot_after(START, 60), trigger="tick"
                    )
                )
            answers = [await agent.hear(ScheduleFired) for _ in ids]
            assert [answer.schedule_id for answer in answers] == ids
            assert {answer.answer for answer in answers} == {"dispatched"}
            await agent.hear(CommandRun)
            assert await agent.hears_nothing(CommandRun)
