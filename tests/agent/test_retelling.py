"""A server that was restored from a copy is told again, whole, once, and without holding up what happens now."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import trio
from trio.testing import MockClock

from restic_manager.agent import records, retelling
from restic_manager.agent.journal import Journal, open_journal
from restic_manager.domain.model import Fate, Outcome, Status
from restic_manager.protocol.codec import from_agent
from restic_manager.protocol.messages import (
    Ack,
    JobFinished,
    JobLog,
    JobStarted,
    ScheduleFire,
    SlotDecided,
)
from tests.agent.scripted import Desk, at, dispatched, entry, order, world

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DONE = Outcome(status=Status.SUCCEEDED)


def finished_job(db: sqlite3.Connection, number: int, *, words: str = "") -> None:
    key = records.JobKey(f"job-{number:05d}", "s1", NOW + timedelta(minutes=number), NOW)
    ended = NOW + timedelta(minutes=number, seconds=5)
    outcome = msgspec.structs.replace(DONE, snapshot_id=words or None)

    def report(seq: int) -> JobFinished:
        return JobFinished(seq=seq, job_id=key.job_id, outcome=outcome, finished_at=ended)

    seq = records.append_reports(db, [report])
    records.job_finished(db, key, finished_at=ended, outcome=outcome, report_seq=seq, log_lines=number)


def fate(db: sqlite3.Connection, number: int) -> None:
    slot = NOW + timedelta(minutes=number)

    def report(seq: int) -> SlotDecided:
        return SlotDecided(
            seq=seq, schedule_id="s2", revision=1, first=slot, last=slot, count=1, fate=Fate.MISSED, reason="late"
        )

    retelling.append_decided(db, [(slot, report)])


def many(db: sqlite3.Connection, make: Callable[..., None], count: int, **more: str) -> None:
    for number in range(count):
        make(db, number, **more)


async def waiting(journal: Journal) -> list[object]:
    found = await journal.read(lambda db: records.reports_after(db, 0, characters=10**9))
    return [from_agent.decode(frame) for _, frame in found]


async def tell_everything(journal: Journal) -> tuple[list[object], int]:
    """Acknowledge each batch as soon as it is there; return all that was told, and in how many batches."""
    told: list[object] = []
    batches = 0
    more = True
    while more:
        more = await journal.write(retelling.tell_more)
        batch = await waiting(journal)
        told += batch
        batches += bool(batch)
        head = await journal.read(records.outbox_head)
        await journal.write(lambda db, head=head: records.acknowledge(db, head))  # type: ignore[misc]  # a default binds it
    return told, batches


async def test_what_was_acked_is_told_again_in_order_and_in_batches(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j", threads=False) as journal:
        assert not await journal.write(lambda db: retelling.note_epoch(db, "e1"))
        await journal.write(lambda db: many(db, finished_job, 250))
        await journal.write(lambda db: many(db, fate, 30))
        head = await journal.read(records.outbox_head)
        await journal.write(lambda db: records.acknowledge(db, head))
        assert not await journal.write(lambda db: retelling.note_epoch(db, "e1"))
        assert await journal.write(lambda db: retelling.note_epoch(db, "e2"))
        await journal.write(lambda db: finished_job(db, 900))  # what happens now is not history
        told, batches = await tell_everything(journal)
        jobs = [report for report in told if isinstance(report, JobFinished)]
        again = [job for job in jobs if job.retold]
        assert [job.job_id for job in jobs if not job.retold] == ["job-00900"]
        assert [job.job_id for job in again] == [f"job-{number:05d}" for number in range(250)]
        assert [job.log_lines for job in again] == list(range(250))
        assert again[7].scheduled_at == NOW + timedelta(minutes=7)
        fates = [report.first for report in told if isinstance(report, SlotDecided)]
        assert fates == [NOW + timedelta(minutes=number) for number in range(30)]
        assert batches == 4
        assert await tell_everything(journal) == ([], 0)
        assert await journal.write(lambda db: retelling.note_epoch(db, "e3"))
        told, _ = await tell_everything(journal)
        assert len(told) == 281


async def test_it_waits_for_room_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j", threads=False) as journal:
        await journal.write(lambda db: retelling.note_epoch(db, "e1"))
        await journal.write(lambda db: many(db, finished_job, 300, words="x" * 60))
        await journal.write(lambda db: records.acknowledge(db, 300))
        await journal.write(lambda db: retelling.note_epoch(db, "e2"))
        assert await journal.write(retelling.tell_more)
        while len(before := await waiting(journal)) < 300 and await journal.read(records.outbox_size) <= retelling.ROOM:
            assert await journal.write(retelling.tell_more)
        assert await journal.write(retelling.tell_more)
        assert await waiting(journal) == before, "no room: nothing is added"
        assert len(before) < 300
    async with open_journal(tmp_path / "j", threads=False) as journal:
        assert await journal.write(lambda db: retelling.note_epoch(db, "e2")), "it is not through"
        head = await journal.read(records.outbox_head)
        await journal.write(lambda db: records.acknowledge(db, head))
        told, _ = await tell_everything(journal)
        jobs = {report.job_id for report in [*before, *told] if isinstance(report, JobFinished)}
        assert len(jobs) == len(before) + len(told) == 300


async def test_a_rekey_on_the_way_loses_nothing_and_comes_to_an_end(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j", threads=False) as journal:
        await journal.write(lambda db: retelling.note_epoch(db, "e1"))
        await journal.write(lambda db: many(db, finished_job, 150))
        await journal.write(lambda db: many(db, fate, 150))
        await journal.write(lambda db: records.acknowledge(db, 300))
        await journal.write(lambda db: retelling.note_epoch(db, "e2"))
        await journal.write(retelling.tell_more)
        await journal.write(records.rekey)
        told, _ = await tell_everything(journal)
        assert len({report.job_id for report in told if isinstance(report, JobFinished)}) == 150
        assert len([report for report in told if isinstance(report, SlotDecided)]) == 150


async def test_old_fates_go_but_never_the_last_thousand(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j", threads=False) as journal:
        await journal.write(lambda db: many(db, fate, 1_200))
        later = NOW + timedelta(days=50)
        await journal.write(lambda db: retelling.forget_old_fates(db, NOW))
        assert await journal.read(lambda db: db.execute("SELECT COUNT(*) FROM fates").fetchone()) == (1_200,)
        await journal.write(lambda db: retelling.forget_old_fates(db, later))
        assert await journal.read(lambda db: db.execute("SELECT COUNT(*), MIN(id) FROM fates").fetchone()) == (
            1_000,
            201,
        )


async def one_run_acked(desk: Desk, minutes: float) -> JobFinished:
    await desk.say(order(at(minutes)))
    finished = await desk.next(JobFinished)
    await desk.say(Ack(through=finished.seq))
    await trio.testing.wait_all_tasks_blocked()
    return finished


async def test_a_welcome_of_another_epoch_has_it_told_beside_what_happens_now(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as here:
        here.restic.seconds = 600
        await here.start()
        desk = await here.connected()
        await desk.apply(entry(cron="0 0 1 1 *"), entry("s2", cron="0 * * * *"))
        first = await one_run_acked(desk, 0)
        assert (first.retold, first.log_lines) == (False, 2)
        await desk.next(JobStarted)
        await desk.say(order(at(1)))
        running = await desk.next(JobStarted)
        await desk.say(Ack(through=running.seq))
        await trio.testing.wait_all_tasks_blocked()
        here.cut()
        here.epoch = "e2"
        desk = await here.connected()
        assert (desk.hello.outbox.epoch, desk.hello.outbox.acked) == ("e1", running.seq)
        again = await desk.next(JobStarted)
        assert (again.job_id, again.started_at) == (running.job_id, running.started_at)
        told = await desk.next(JobFinished)
        assert told.retold
        assert (told.job_id, told.outcome, told.log_lines) == (first.job_id, first.outcome, 2)
        fire = await desk.next(ScheduleFire)
        await desk.say(dispatched(fire))
        finished = await desk.next(JobFinished)
        assert (finished.job_id, finished.retold) == (running.job_id, False)
        await desk.say(Ack(through=finished.seq))
        await trio.testing.wait_all_tasks_blocked()
        logs = desk.count(JobLog)
        here.cut()
        desk = await here.connected()  # the same epoch: nothing again
        assert desk.hello.outbox.epoch == "e2"
        with trio.move_on_after(60):
            await desk.next(JobFinished)
        assert desk.count(JobFinished) == 0
        assert logs == 1, "a log that was acked is not told again"
