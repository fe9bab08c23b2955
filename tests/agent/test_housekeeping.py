"""What is old is forgotten while the agent lives, and never in one long transaction."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from restic_manager.agent import housekeeping, records, retelling
from restic_manager.agent.housekeeping import forget_old
from restic_manager.agent.journal import Journal, open_journal
from tests.agent.scripted import START, world
from tests.agent.test_retelling import fate, finished_job, many

AGE = (records.KEEP_FINISHED + timedelta(days=4)) // timedelta(microseconds=1)


def age(db: sqlite3.Connection) -> None:
    """Make all that is kept older than what is promised."""
    db.execute("UPDATE jobs SET finished_at = finished_at - ?", (AGE,))
    db.execute("UPDATE fates SET last_slot = last_slot - ?", (AGE,))


async def kept(journal: Journal) -> tuple[int, int]:
    jobs, fates = await journal.read(
        lambda db: db.execute("SELECT (SELECT COUNT(*) FROM jobs), (SELECT COUNT(*) FROM fates)").fetchone()
    )
    return int(jobs), int(fates)


async def fill(journal: Journal, count: int) -> None:
    await journal.write(lambda db: many(db, finished_job, count))
    await journal.write(lambda db: many(db, fate, count))
    await journal.write(age)


async def test_all_of_it_goes_in_small_transactions(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j", threads=False) as journal:
        await fill(journal, 4_200)
        sizes: list[int] = []
        write = journal.write

        async def watched(change):  # type: ignore[no-untyped-def]  # whatever it is, it is passed on
            done = await write(change)
            sizes.append(done)
            return done

        journal.write = watched  # type: ignore[method-assign]  # to see what is done in one transaction
        await forget_old(journal, START)
        assert sizes == [1_000, 1_000, 1_000, 200, 0] * 2
        assert await kept(journal) == (1_000, 1_000)
        assert await journal.read(lambda db: db.execute("SELECT MIN(id) FROM fates").fetchone()) == (3_201,)
        oldest = await journal.read(lambda db: db.execute("SELECT MIN(finished_at) FROM jobs").fetchone()[0])
        assert await journal.read(records.forgot_before) == records.from_micros(oldest)


async def test_a_fate_of_a_wrong_clock_keeps_nothing_else(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j", threads=False) as journal:
        await fill(journal, 2_500)
        future = records.to_micros(START + timedelta(days=9_000))
        await journal.write(lambda db: db.execute("UPDATE fates SET last_slot = ? WHERE id = 1", (future,)).rowcount)
        while await journal.write(lambda db: retelling.forget_old_fates(db, START)):
            pass
        assert await journal.read(lambda db: db.execute("SELECT COUNT(*) FROM fates").fetchone()) == (1_001,)


async def test_an_agent_that_never_stops_forgets_too(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "EVERY", 120.0)
    async with world(tmp_path) as here:
        await here.start()
        await here.connected()
        assert here.journal is not None
        await fill(here.journal, 1_300)
        await here.journal.read(lambda db: db.execute("PRAGMA query_only=ON"))
        await trio.sleep(130)
        assert await kept(here.journal) == (1_300, 1_300)
        await here.journal.read(lambda db: db.execute("PRAGMA query_only=OFF"))
        await trio.sleep(130)
        assert await kept(here.journal) == (1_000, 1_000), "a journal that took no writing for a while is no end"
