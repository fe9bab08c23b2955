"""What of a host's doing is kept: every bound at its edge and past it, and no number of a host's that breaks a sum."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest
import trio
from sqlalchemy import func, select
from trio.testing import MockClock

from restic_manager.domain.model import Fate
from restic_manager.link import Incoming
from restic_manager.protocol.codec import encode
from restic_manager.protocol.messages import Error, Goodbye, JobLog, Message, OutboxHead, Refused, SlotDecided
from restic_manager.protocol.session import JournalRecord
from restic_manager.server import intake, reports
from restic_manager.server.api.app import build_api
from restic_manager.server.intake import Intake
from restic_manager.server.store import events, journals, logs, overview, schema
from restic_manager.server.store.slots import Caller
from tests.server.world import START, ScriptedAgent, World, open_world, slot_after
from tests.support.asgi import ask


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def one_host(world: World) -> tuple[str, str]:
    host_id = await world.join("web1")
    await world.repo()
    return host_id, await world.schedule("minutely", "web1")


# -- journals and events ----------------------------------------------------------------------------------------------


async def test_the_newest_journals_of_a_host_are_known(world: World, autojump_clock: MockClock) -> None:
    host_id, _ = await one_host(world)
    other_id = await world.join("web2")
    record = JournalRecord(acked_through=3, acked_hash=None)

    async def begin(of_host: str, number: int) -> bool:
        now = START + timedelta(seconds=number)
        return await world.write(lambda tx: journals.begin(tx, of_host, f"journal-{number:03}", record, now=now))

    assert not await begin(other_id, 0)
    for number in range(journals.KEPT_JOURNALS):
        assert await begin(host_id, number) == (number > 0)
    assert await world.read(lambda tx: journals.find(tx, host_id, "journal-000")) == record
    await begin(host_id, journals.KEPT_JOURNALS)
    assert await world.read(lambda tx: journals.find(tx, host_id, "journal-000")) is None
    assert await world.read(lambda tx: journals.find(tx, host_id, "journal-001")) == record
    assert await world.read(lambda tx: journals.find(tx, other_id, "journal-000")) == record


async def test_a_host_with_a_forgotten_journal_takes_a_new_one(world: World, autojump_clock: MockClock) -> None:
    """It had been acked, and the server knows nothing of it any more: `rekey`, and no new epoch for all."""
    host_id, _ = await one_host(world)
    for number in range(journals.KEPT_JOURNALS + 1):
        async with world.agent(host_id, journal_id=f"journal-{number}"):
            pass
        await trio.sleep(2)
    async with world.link(world.credentials[host_id]) as link:
        agent = ScriptedAgent(world, host_id, link)
        await link.send(agent.hello(journal_id="journal-0", outbox=OutboxHead(head=9, acked=5)))
        assert (await agent.hear(Refused)).code == "rekey"


async def test_a_hosts_own_doing_makes_so_many_events_of_a_sort_within_the_hour(
    world: World, autojump_clock: MockClock
) -> None:
    host_id, _ = await one_host(world)
    other_id = await world.join("web2")

    async def happens(of_host: str, what: str, now_after: timedelta = timedelta()) -> None:
        await world.write(
            lambda tx: events.record_of_host(
                tx, now=START + now_after, actor="web1", what=what, detail="again", host_id=of_host
            )
        )

    for _ in range(events.MOST_OF_HOST + 5):
        await happens(host_id, "rekey")
    told = await world.read(lambda tx: events.latest(tx, limit=100, what="rekey"))
    assert len(told) == events.MOST_OF_HOST
    assert "further ones are not written down" in told[0].detail
    assert told[1].detail == "again"
    await happens(host_id, "duplicate")
    await happens(other_id, "rekey")
    await happens(host_id, "rekey", events.WITHIN + timedelta(seconds=1))
    assert len(await world.read(lambda tx: events.latest(tx, limit=100, host_id=host_id))) >= events.MOST_OF_HOST + 2
    assert len(await world.read(lambda tx: events.latest(tx, limit=100, what="rekey"))) == events.MOST_OF_HOST + 2


# -- quarantine -------------------------------------------------------------------------------------------------------


async def test_so_many_reports_set_aside_are_kept_of_a_host_and_so_much_of_each(
    world: World, autojump_clock: MockClock
) -> None:
    host_id, _ = await one_host(world)
    frame = "x" * (journals.FRAME_LIMIT + 1)

    def fill(tx: object) -> None:
        for seq in range(1, journals.KEPT + 1):
            journals.set_aside(tx, host_id, "j", seq=seq, reason="no", frame="short", now=START)  # type: ignore[arg-type]  # a connection

    await world.write(fill)
    rows = schema.quarantine.c
    first = select(func.min(rows.seq), func.count())
    assert tuple(await world.read(lambda tx: tx.execute(first).one())) == (1, journals.KEPT)
    await world.write(
        lambda tx: journals.set_aside(
            tx, host_id, "j", seq=journals.KEPT + 1, reason="r" * 3_000, frame=frame, now=START
        )
    )
    assert tuple(await world.read(lambda tx: tx.execute(first).one())) == (2, journals.KEPT)
    kept = await world.read(lambda tx: tx.execute(select(rows.frame, rows.reason).order_by(rows.seq.desc())).first())
    assert kept is not None
    assert (len(kept.frame), len(kept.reason)) == (journals.FRAME_LIMIT, 2_000)


# -- numbers that hosts give ------------------------------------------------------------------------------------------


async def test_no_fate_counts_more_slots_than_seconds(world: World, autojump_clock: MockClock) -> None:
    """Sums of what hosts count are asked for by every look at the fleet: they have to stay sums."""
    host_id, schedule_id = await one_host(world)
    await trio.sleep(100)

    def missed(first: int, last: int, count: int):  # type: ignore[no-untyped-def]  # makes a maker
        return lambda seq: SlotDecided(
            seq=seq,
            schedule_id=schedule_id,
            revision=1,
            first=slot_after(START, first),
            last=slot_after(START, last),
            count=count,
            fate=Fate.MISSED,
            reason="why",
        )

    async with world.agent(host_id) as agent:
        await agent.report(missed(-900, -1, 900))
        await agent.acked(await agent.report(missed(-2_000, -1_001, 1_001)))
        for number in range(3):
            await agent.acked(await agent.report(missed(-9_000 - 10 * number, -8_995 - 10 * number, 2**53)))
    aside = await world.read(lambda tx: tx.execute(select(schema.quarantine.c.reason)).scalars().all())
    assert aside == ["it counts more slots than there are seconds"] * 4
    told = await world.read(lambda tx: overview.bad_fates(tx, START - timedelta(days=1)))
    assert [one.slots for one in told] == [900]
    answer = await ask(build_api(world.services), "GET", "/v1/status")
    assert answer.status == 200


def log_of(job_id: str, line: int) -> Callable[[int], Message]:
    return lambda seq: JobLog(
        seq=seq, job_id=job_id, at=START, stream="stdout", first_line=line, text="x" * 1_000, dropped=2**53
    )


async def test_lines_that_a_host_says_it_dropped_never_overflow(world: World, autojump_clock: MockClock) -> None:
    host_id, _ = await one_host(world)
    made = await world.dispatcher.run_schedule("minutely", "web1")
    job_id = made[0].id
    async with world.agent(host_id) as agent:
        for line in range(1, 1_400):
            await agent.report(log_of(job_id, line))
        await agent.acked(agent.seq)
    job = await world.job(job_id)
    assert job.log_lines == 1_399
    assert job.log_lines_dropped < 1_399
    assert await world.read(lambda tx: tx.execute(select(func.count()).select_from(schema.quarantine)).scalar()) == 0
    kept = await world.read(lambda tx: logs.read(tx, job_id, limit=10_000))
    assert sum(len(chunk.text) + logs.CHUNK_COST for chunk in kept) <= logs.CAP


# -- what is taken at once --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "batches"),
    [
        (10, [intake.MAX_BATCH, intake.MAX_BATCH, 1]),
        (64_000, [9, 9, 2]),
    ],
)
async def test_so_much_of_one_host_is_applied_at_once(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, size: int, batches: list[int]
) -> None:
    """Behind it the writer's other callers have their turn."""
    host_id, _ = await one_host(world)
    taken: list[int] = []
    real = reports.take

    def counting(tx, *, batch, sender, now):  # type: ignore[no-untyped-def]  # as the real one
        taken.append(len(batch))
        return real(tx, batch=batch, sender=sender, now=now)

    monkeypatch.setattr(reports, "take", counting)
    async with world.agent(host_id):
        session = world.hub.current(host_id)
        assert session is not None
        caller = Caller(host_id=host_id, clock_offset=0.0, same_tzdata=True)
        sender = reports.Sender(caller=caller, host_name="web1", journal_id=f"journal-of-{host_id}"[:64])
        taking = Intake(
            store=world.store, clock=world.services.clock, session=session, sender=sender, apply=lambda _: None
        )
        count = sum(batches)
        for seq in range(1, count + 1):
            message: Message = JobLog(
                seq=seq, job_id="none", at=START, stream="stdout", first_line=1, text="x" * (size - 110)
            )
            frame = encode(message)
            await taking.offer(Incoming(message, frame))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(taking.run)
            await world.settled()
            nursery.cancel_scope.cancel()
    assert taken == batches


async def test_what_an_agent_only_says_is_logged_so_often(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    host_id, _ = await one_host(world)
    with caplog.at_level("INFO"):
        async with world.agent(host_id) as agent:
            for _ in range(300):
                await agent.link.send(Error(code="x", message="y" * 8_000))
                await agent.link.send(Goodbye(reason="again"))
            await world.settled()
            assert not agent.link.closed
    said = [line for line in caplog.messages if "did not accept" in line or "says goodbye" in line]
    assert len(said) == 20
