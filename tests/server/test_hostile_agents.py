"""Hosts with good credentials that behave badly, one behaviour at a time, and an honest host beside each.

Claims on others' things are refused and change nothing of theirs; floods and half-open connections cost whoever sends
them. All of it together, damaged at random, is `tests.hostile`.
"""

from __future__ import annotations

import random
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import Connection, func, select
from trio.testing import MockClock

from restic_manager.domain.model import Fate, Progress, Status, slot_job_id
from restic_manager.link import LinkClosed
from restic_manager.protocol.messages import (
    CommandRun,
    Error,
    Hello,
    JobFinished,
    JobLog,
    JobProgress,
    JobRows,
    JobStarted,
    Message,
    OutboxHead,
    ScheduleFire,
    ScheduleFired,
    ScheduleSet,
    SlotDecided,
)
from restic_manager.protocol.session import Accepted, Holding, JournalRecord, frame_hash, judge_hello, judge_sequence
from restic_manager.server.store.schema import fates, hosts, job_rows, jobs, log_chunks, schedules
from tests.hostile.mutate import Known, Mutator
from tests.protocol.samples import ROWS
from tests.server.world import DONE, START, ScriptedAgent, World, claim, open_world, slot_after


class Scene:
    """An honest host with a running job and a schedule of its own, and a thief."""

    def __init__(self, world: World, honest: ScriptedAgent, order: CommandRun, schedule_id: str) -> None:
        self.world = world
        self.honest = honest
        self.order = order
        self.schedule_id = schedule_id

    async def theirs(self) -> dict[str, Any]:
        """Everything of the honest host that there is in rows."""

        def look(tx: Connection) -> dict[str, Any]:
            mine = jobs.c.host_id == self.honest.host_id
            return {
                "jobs": [tuple(row) for row in tx.execute(select(jobs).where(mine).order_by(jobs.c.serial))],
                "logs": tx.execute(select(func.count()).select_from(log_chunks)).scalar(),
                "rows": tx.execute(select(func.count()).select_from(job_rows)).scalar(),
                "fates": tx.execute(
                    select(func.count()).select_from(fates).where(fates.c.host_id == self.honest.host_id)
                ).scalar(),
                "schedules": [tuple(row) for row in tx.execute(select(schedules))],
                "host": tuple(tx.execute(select(hosts).where(hosts.c.id == self.honest.host_id)).one()),
            }

        return await self.world.read(look)

    async def still_good(self) -> None:
        """The honest host is online, its job ends as it says, and it gets its next order."""
        assert self.world.hub.online(self.honest.host_id)
        await self.honest.acked(await self.honest.finish(self.order, DONE))
        assert (await self.world.job(self.order.job_id)).status is Status.SUCCEEDED
        await self.world.dispatcher.run_schedule("honest", None)
        again = await self.honest.hear(CommandRun)
        await self.honest.acked(await self.honest.finish(again, DONE))


async def scene(world: World, honest: ScriptedAgent) -> Scene:
    await world.repo()
    schedule_id = await world.schedule("honest", "honest")
    await honest.hear(ScheduleSet)
    await world.dispatcher.run_schedule("honest", None)
    order = await honest.hear(CommandRun)
    await honest.acked(await honest.start(order))
    return Scene(world, honest, order, schedule_id)


SLOT = slot_after(START, 60)


def started(here: Scene, seq: int) -> Message:
    return JobStarted(seq=seq, job_id=here.order.job_id, started_at=START)


def logged(here: Scene, seq: int) -> Message:
    return JobLog(seq=seq, job_id=here.order.job_id, at=START, stream="stdout", first_line=1, text="forged")


def finished(here: Scene, seq: int) -> Message:
    return JobFinished(seq=seq, job_id=here.order.job_id, outcome=DONE, finished_at=START)


def rows(here: Scene, seq: int) -> Message:
    return JobRows(job_id=here.order.job_id, first=1, rows=ROWS)


@pytest.mark.parametrize("make", [started, logged, finished, rows])
async def test_a_claim_on_anothers_job_ends_the_thief_and_changes_nothing(
    tmp_path: Path, autojump_clock: MockClock, make: Any
) -> None:
    async with open_world(tmp_path) as world:
        honest_id, thief_id = await world.join("honest"), await world.join("thief")
        async with world.agent(honest_id) as honest:
            here = await scene(world, honest)
            before = await here.theirs()
            async with world.agent(thief_id) as thief:
                await thief.link.send(make(here, 1))
                assert (await thief.hear(Error)).code == "not_yours"
                with pytest.raises(LinkClosed) as caught:
                    await thief.hear(Hello)
                assert caught.value.code == 1008
            assert await here.theirs() == before
            await here.still_good()


async def test_a_claim_on_anothers_schedule_is_rejected_and_changes_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        honest_id, thief_id = await world.join("honest"), await world.join("thief")
        async with world.agent(honest_id) as honest:
            here = await scene(world, honest)
            await trio.sleep(100)
            before = await here.theirs()
            async with world.agent(thief_id) as thief:
                fired = await thief.fire(here.schedule_id, SLOT)
                assert (fired.answer, fired.code) == ("rejected", "not_a_target")
                # Both the job id that the slot would have for the thief, and the one it has for its owner.
                for host_id in (thief_id, honest_id):
                    job_id = slot_job_id(here.schedule_id, host_id, SLOT)
                    await thief.acked(
                        await thief.report(
                            lambda seq, job_id=job_id: JobStarted(  # type: ignore[misc]  # a default argument binds the loop's id
                                seq=seq,
                                job_id=job_id,
                                started_at=START,
                                schedule_id=here.schedule_id,
                                scheduled_at=SLOT,
                            )
                        )
                    )
                await thief.acked(
                    await thief.report(
                        lambda seq: SlotDecided(
                            seq=seq,
                            schedule_id=here.schedule_id,
                            revision=1,
                            first=SLOT,
                            last=SLOT,
                            count=1,
                            fate=Fate.MISSED,
                            reason="forged",
                        )
                    )
                )
                await thief.link.send(JobProgress(job_id=here.order.job_id, progress=Progress(percent_done=0.5)))
                await world.settled()
                assert world.hub.progress == {}
                assert world.hub.online(thief_id), "what cannot be verified is set aside, and the session stays"
            assert await here.theirs() == before
            await here.still_good()


async def test_a_hello_with_anothers_job_is_refused_and_changes_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        honest_id, thief_id = await world.join("honest"), await world.join("thief")
        async with world.agent(honest_id) as honest:
            here = await scene(world, honest)
            before = await here.theirs()
            for state in ("accepted", "running", "finished"):
                async with world.link(world.credentials[thief_id]) as link:
                    thief = ScriptedAgent(world, thief_id, link)
                    await link.send(thief.hello(jobs=(claim(here.order, state),)))
                    with pytest.raises(LinkClosed):
                        await thief.hear(CommandRun)
            assert await here.theirs() == before
            await here.still_good()


async def test_floods_of_fires_and_reports_hold_up_nobody(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Thousands of fires of one host, all answered; meanwhile another's reports are acked in their turn."""
    async with open_world(tmp_path) as world:
        honest_id, thief_id = await world.join("honest"), await world.join("thief")
        async with world.agent(honest_id) as honest, world.agent(thief_id) as thief:
            here = await scene(world, honest)
            answered = 0

            async def flood() -> None:
                for second in range(3_000):
                    await thief.link.send(
                        ScheduleFire(
                            schedule_id=here.schedule_id,
                            revision=1,
                            scheduled_at=slot_after(START, second),
                            trigger="tick",
                        )
                    )

            async def count() -> None:
                nonlocal answered
                while answered < 3_000:
                    await thief.hear(ScheduleFired)
                    answered += 1

            with trio.fail_after(60):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(flood)
                    nursery.start_soon(count)
                    for line in range(1, 30):
                        seq = await honest.report(
                            lambda seq, line=line: JobLog(  # type: ignore[misc]  # a default argument binds the loop's line
                                seq=seq, job_id=here.order.job_id, at=START, stream="stdout", first_line=line, text="x"
                            )
                        )
                        await honest.acked(seq)
                    assert answered < 3_000, "the honest have their turn while the flood lasts"
            await here.still_good()


async def test_half_open_connections_are_gone_in_time(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Before the request, before the hello, and after the welcome: each ends by itself, and nothing of it stays."""
    async with open_world(tmp_path) as world:
        honest_id, thief_id = await world.join("honest"), await world.join("thief")
        async with world.agent(honest_id) as honest:
            here = await scene(world, honest)
            async with world.stream(), world.stream() as second:
                await second.send_all(b"GET /agent HTTP/1.1\r\n")
                await trio.sleep(20)
            async with world.link(world.credentials[thief_id]) as link:
                thief = ScriptedAgent(world, thief_id, link)
                with pytest.raises(LinkClosed):
                    await thief.hear(Hello)
            async with world.link(world.credentials[thief_id]) as link:
                thief = ScriptedAgent(world, thief_id, link)
                await link.send(thief.hello())
                await world.settled()
                assert world.hub.online(thief_id)
                await trio.sleep(60)  # no heartbeat of its own in all that time
                assert not world.hub.online(thief_id)
            assert world.door._newcomers.here == 0
            assert world.hub.count() == 1
            await here.still_good()


@pytest.mark.parametrize("seed", range(6))
async def test_what_is_damaged_at_random_leaves_the_others_alone(
    tmp_path: Path, autojump_clock: MockClock, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The mutator in virtual time: whatever comes, nothing of the honest host changes and no bug comes to light."""
    async with open_world(tmp_path) as world:
        honest_id, thief_id = await world.join("honest"), await world.join("thief")
        async with world.agent(honest_id) as honest:
            here = await scene(world, honest)
            schedule_id = await world.schedule("thiefs", "thief", repo="repo")
            before = await here.theirs()
            known = Known(thief_id, [schedule_id], [here.schedule_id], others=[here.order.job_id])
            mutator = Mutator(random.Random(seed), known)  # noqa: S311 - the same messages for the same seed
            for number in range(8):
                try:
                    async with world.agent(thief_id, journal_id=f"journal-{number}") as thief:
                        for payload in mutator.batch(100):
                            await thief.link.send_frame(payload.decode(errors="replace"))
                        await world.settled()
                except LinkClosed:
                    await trio.sleep(1)  # what it sent has ended its session: it comes again
            assert await here.theirs() == before
            await here.still_good()
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


# -- the machines of a session ----------------------------------------------------------------------------------------

EPOCHS = ("epoch-1", "epoch-2")


class Outbox(RuleBasedStateMachine):
    """An agent's outbox and a server's record of it, with lost answers, rolled back copies on either side, and lies.

    What holds whatever happens: nothing is applied twice under one sequence of one journal, nothing honest is skipped
    in one epoch without being said, and no hello whatever makes the server take back an ack.
    """

    def __init__(self) -> None:
        super().__init__()
        self.head = 0
        self.acked = 0
        self.acked_hash: str | None = None
        self.record: JournalRecord | None = None
        self.applied: list[int] = []
        self.accepted: Accepted | None = None

    @rule(count=st.integers(1, 5))
    def reports(self, count: int) -> None:
        self.head += count

    @rule()
    def connects(self) -> None:
        hello = _hello(self.head, self.acked, self.acked_hash)
        said = judge_hello(hello, self.record, Holding(epoch=EPOCHS[0], version=1))
        assert isinstance(said, Accepted), "an honest agent is never refused"
        assert not said.old_copy
        assert not said.behind
        assert said.acked_through == (self.record.acked_through if self.record else 0)
        self.accepted = said
        self.record = JournalRecord(acked_through=said.acked_through, acked_hash=said.acked_hash)
        self.acked, self.acked_hash = said.acked_through, said.acked_hash

    @precondition(lambda self: self.accepted is not None)
    @rule(first=st.integers(-3, 3), count=st.integers(0, 6), heard=st.booleans())
    def sends(self, first: int, count: int, heard: bool) -> None:
        """Some reports, perhaps from before what was acked or with a gap; the ack may be lost."""
        assert self.record is not None
        for seq in range(max(1, self.acked + 1 + first), min(self.head, self.acked + first + count) + 1):
            turn = judge_sequence(self.record.acked_through, seq)
            if turn == "gap":
                self.accepted = None
                break
            if turn == "next":
                self.applied.append(seq)
                self.record = JournalRecord(acked_through=seq, acked_hash=frame_hash(f"report {seq}"))
        if heard:
            self.acked, self.acked_hash = self.record.acked_through, self.record.acked_hash

    @rule(
        head=st.integers(0, 2**53),
        acked=st.integers(0, 2**53),
        digest=st.one_of(st.none(), st.text(max_size=64)),
        epoch=st.sampled_from([None, *EPOCHS]),
        version=st.integers(0, 2**53),
        protocol=st.integers(1, 3),
    )
    def lies(
        self, *, head: int, acked: int, digest: str | None, epoch: str | None, version: int, protocol: int
    ) -> None:
        """Somebody says anything at all as this journal: it is answered, and what is acked stays acked."""
        hello = _hello(head, acked, digest, epoch=epoch, version=version, protocol=protocol)
        said = judge_hello(hello, self.record, Holding(epoch=EPOCHS[0], version=1))
        if isinstance(said, Accepted):
            held = self.record.acked_through if self.record else 0
            assert said.acked_through >= held
            assert said.acked_through <= max(held, acked)
            assert said.new_journal == (self.record is None)
            assert said.behind == (acked > held)
            assert not said.old_copy or said.behind
            assert held <= head
        else:
            assert said.code in {"rekey", "too_old", "too_new"}
            assert said.retry == (said.code == "rekey")

    @invariant()
    def each_once_and_in_order(self) -> None:
        assert self.applied == list(range(1, len(self.applied) + 1))
        assert len(self.applied) == (self.record.acked_through if self.record else 0)
        assert self.acked <= len(self.applied) <= self.head


TestOutbox = Outbox.TestCase
TestOutbox.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def _hello(
    head: int, acked: int, digest: str | None, *, epoch: str | None = None, version: int = 0, protocol: int = 1
) -> Hello:
    return Hello(
        protocol=protocol,
        agent_version="0.1.0",
        os="test",
        timezone="UTC",
        tzdata="unknown",
        boot_id="b",
        instance_id="i",
        journal_id="j",
        outbox=OutboxHead(head=head, acked=acked, acked_hash=digest, epoch=epoch),
        applied_epoch=epoch,
        applied_version=version,
        clock=datetime(2026, 3, 1, tzinfo=START.tzinfo),
    )
