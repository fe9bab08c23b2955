"""The journal's file and rows: what is promised of them, and what is said when they cannot be kept."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from restic_manager.agent import records, schedule_rows
from restic_manager.agent.joblog import JobLogWriter, LogBudget
from restic_manager.agent.journal import Journal, open_journal, reset_journal
from restic_manager.agent.records import JobKey
from restic_manager.domain.errors import StorageError
from restic_manager.domain.model import Outcome, Status
from restic_manager.domain.planning import Fire
from restic_manager.protocol.codec import from_agent
from restic_manager.protocol.messages import MAX_LOG_TEXT, MAX_MESSAGE, JobFinished, JobLog, JobStarted
from restic_manager.protocol.session import frame_hash
from restic_manager.runtime.clock import SystemClock

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DONE = Outcome(status=Status.SUCCEEDED)

VERSION_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE entries (
    schedule_id TEXT PRIMARY KEY,
    body BLOB NOT NULL,              -- protocol.messages.Entry, without its standing order
    watermark INTEGER NOT NULL       -- microseconds since 1970: slots through here are decided
) WITHOUT ROWID;
CREATE TABLE fires (
    schedule_id TEXT NOT NULL,
    role TEXT NOT NULL,              -- pending or held: at most one each
    slot INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    trigger TEXT NOT NULL,
    stands_for INTEGER NOT NULL,
    sent INTEGER NOT NULL,           -- handed to the writer: only an answer or its own run ends it
    superseded INTEGER NOT NULL,
    PRIMARY KEY (schedule_id, role)
) WITHOUT ROWID;
CREATE TABLE jobs (
    job_id TEXT PRIMARY KEY,
    schedule_id TEXT,
    slot INTEGER,
    state TEXT NOT NULL,             -- running or finished
    started_at INTEGER,              -- null: never started (a tombstone)
    finished_at INTEGER,
    outcome BLOB,                    -- domain.model.Outcome
    report_seq INTEGER               -- the outbox sequence of its latest verdict
) WITHOUT ROWID;
CREATE INDEX jobs_finished_at ON jobs (finished_at);
CREATE TABLE outbox (seq INTEGER PRIMARY KEY, type TEXT NOT NULL, frame TEXT NOT NULL);
"""


def started(job_id: str) -> records.MakeReport:
    return lambda seq: JobStarted(seq=seq, job_id=job_id, started_at=NOW)


async def frames(journal: Journal, after: int = 0) -> list[tuple[int, str]]:
    return await journal.read(lambda db: records.reports_after(db, after, characters=10**9))


async def finish(journal: Journal, job_id: str, at: datetime = NOW) -> None:
    def write(db: sqlite3.Connection) -> None:
        seq = records.append_reports(
            db, [lambda seq: JobFinished(seq=seq, job_id=job_id, outcome=DONE, finished_at=at)]
        )
        records.job_finished(db, JobKey(job_id), finished_at=at, outcome=DONE, report_seq=seq)

    await journal.write(write)


async def test_a_failing_change_leaves_nothing(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j") as journal:

        def change(db: sqlite3.Connection) -> None:
            records.set_meta(db, "half", "written")
            raise RuntimeError("in the middle")

        with pytest.raises(RuntimeError, match="in the middle"):
            await journal.write(change)
        assert await journal.read(lambda db: records.get_meta(db, "half")) is None
        await journal.write(lambda db: records.set_meta(db, "whole", "written"))
    async with open_journal(tmp_path / "j") as journal:
        assert await journal.read(lambda db: records.get_meta(db, "whole")) == "written"


async def test_the_file_is_private(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j"):
        assert (tmp_path / "j").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"this is no database, whatever it was before", "damaged"), (b"SQLite format 3\0" + b"x" * 200, "damaged")],
)
async def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "j"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=words) as caught:
        async with open_journal(path):
            pass
    assert str(path) in caught.value.message
    assert path.read_bytes() == content


def truncated(path: Path, share: float) -> bytes:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path.read_bytes()


async def a_full_journal(path: Path) -> None:
    async with open_journal(path) as journal:
        for number in range(200):
            await finish(journal, f"job-{number}")


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.97])
async def test_a_truncated_journal_is_refused_and_left_alone(tmp_path: Path, share: float) -> None:
    path = tmp_path / "j"
    await a_full_journal(path)
    left = truncated(path, share)
    with pytest.raises(StorageError, match="--reset-journal") as caught:
        async with open_journal(path):
            pass
    assert (caught.value.code, path.read_bytes()) == ("storage_damaged", left)


async def test_a_journal_damaged_in_the_middle_is_found_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "j"
    await a_full_journal(path)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\xee" * 4096
    path.write_bytes(content)
    with pytest.raises(StorageError, match="damaged"):
        async with open_journal(path):
            pass


async def test_a_reset_moves_a_damaged_journal_aside_and_only_that(tmp_path: Path) -> None:
    path = tmp_path / "j"
    assert reset_journal(path, now=NOW) is None
    await a_full_journal(path)
    assert reset_journal(path, now=NOW) is None, "it is whole"
    async with open_journal(path) as journal:
        old = await journal.read(lambda db: records.get_meta(db, "journal_id"))
    left = truncated(path, 0.5)
    aside = reset_journal(path, now=NOW)
    assert aside == tmp_path / "j.damaged-20260301T120000Z"
    assert aside.read_bytes() == left
    async with open_journal(path) as journal:
        assert await journal.read(lambda db: records.get_meta(db, "journal_id")) != old
        assert await journal.read(records.outbox_head) == 0


async def test_a_newer_journal_is_not_reset(tmp_path: Path) -> None:
    path = tmp_path / "j"
    async with open_journal(path) as journal:
        await journal.read(lambda db: db.execute("PRAGMA user_version=99"))
    with pytest.raises(StorageError, match="newer restic-manager"):
        reset_journal(path, now=NOW)
    assert path.exists()


async def test_a_journal_of_version_1_is_taken_over_whole(tmp_path: Path) -> None:
    """Made by the statements of version 1 as they were released."""
    path = tmp_path / "j"
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.executescript(VERSION_1)
    db.execute("INSERT INTO meta VALUES ('journal_id', 'the-old-one')")
    db.execute("INSERT INTO meta VALUES ('outbox_head', '7')")
    db.execute("INSERT INTO meta VALUES ('applied_epoch', 'e1')")
    outcome = b'{"status":"succeeded"}'
    db.execute("INSERT INTO jobs VALUES ('a', 's1', 60000000, 'finished', 61000000, 62000000, ?, 6)", (outcome,))
    db.execute("INSERT INTO jobs VALUES ('b', NULL, NULL, 'running', 63000000, NULL, NULL, NULL)")
    db.execute("INSERT INTO fires VALUES ('s1', 'pending', 60000000, 2, 'catch-up', 3, 1, 0)")
    frame = '{"type":"job.started","seq":7,"job_id":"b","started_at":"1970-01-01T00:01:03Z"}'
    db.execute("INSERT INTO outbox VALUES (7, 'job.started', ?)", (frame,))
    db.execute("PRAGMA user_version=1")
    db.close()
    async with open_journal(path) as journal:
        known = await journal.read(records.remembered)
        assert (known.journal_id, known.outbox.head, known.outbox.epoch) == ("the-old-one", 7, "e1")
        assert await frames(journal) == [(7, frame)]
        job = await journal.read(lambda db: records.find_job(db, "a"))
        assert job is not None
        assert (job.outcome, job.report_seq, job.log_lines) == (DONE, 6, None)
        assert [job.key.job_id for job in await journal.read(records.running_jobs)] == ["b"]
        _, fires = await journal.read(schedule_rows.load_schedules)
        assert fires == {"s1": (Fire(datetime(1970, 1, 1, 0, 1, tzinfo=UTC), 2, "catch-up", 3), True, False, None)}
        assert await journal.read(lambda db: db.execute("PRAGMA user_version").fetchone()) == (4,)
        await finish(journal, "b")
    async with open_journal(path) as journal:
        assert (await journal.read(records.remembered)).outbox.head == 8


async def test_a_newer_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j"
    async with open_journal(path) as journal:
        await journal.read(lambda db: db.execute("PRAGMA user_version=99"))
    with pytest.raises(StorageError, match="newer restic-manager"):
        async with open_journal(path):
            pass


async def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be opened"):
        async with open_journal(tmp_path / "gone" / "j"):
            pass


async def test_sequences_go_on_after_acks_and_restarts(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j") as journal:
        assert await journal.write(lambda db: records.append_reports(db, [started("a"), started("b")])) == 2
        await journal.write(lambda db: records.acknowledge(db, 2))
        assert await frames(journal) == []
    async with open_journal(tmp_path / "j") as journal:
        assert await journal.write(lambda db: records.append_reports(db, [started("c")])) == 3
        (seq, frame), *rest = await frames(journal)
        assert (seq, rest) == (3, [])
        assert from_agent.decode(frame) == JobStarted(seq=3, job_id="c", started_at=NOW)


async def test_an_ack_keeps_the_hash_of_what_was_acked(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j") as journal:
        await journal.write(lambda db: records.append_reports(db, [started("a"), started("b"), started("c")]))
        second = (await frames(journal))[1][1]
        await journal.write(lambda db: records.acknowledge(db, 2))
        await journal.write(lambda db: records.acknowledge(db, 1))  # an old ack changes nothing
        outbox = (await journal.read(records.remembered)).outbox
        assert (outbox.head, outbox.acked, outbox.acked_hash) == (3, 2, frame_hash(second))
        assert await journal.read(lambda db: records.report_hash(db, 2)) == frame_hash(second)
        assert await journal.read(lambda db: records.report_hash(db, 1)) is None


async def test_rekey_numbers_what_is_left_from_one(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j") as journal:
        await finish(journal, "acked")
        await journal.write(lambda db: records.append_reports(db, [started("b")]))
        await finish(journal, "b")
        await journal.write(lambda db: records.acknowledge(db, 1))
        before = await journal.read(records.remembered)
        await journal.write(records.rekey)
        after = await journal.read(records.remembered)
        assert after.journal_id != before.journal_id
        assert (after.outbox.head, after.outbox.acked, after.outbox.acked_hash) == (2, 0, None)
        got = [from_agent.decode(frame) for _, frame in await frames(journal)]
        assert [(type(report), report.seq, report.job_id) for report in got] == [
            (JobStarted, 1, "b"),
            (JobFinished, 2, "b"),
        ]
        assert [claim.job_id for claim in after.jobs] == ["b"]


async def test_finished_jobs_are_kept_as_promised(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j", threads=False) as journal:
        for number in range(records.KEEP_AT_LEAST + 50):
            age = timedelta(days=100) - timedelta(minutes=number)
            await finish(journal, f"old-{number}", NOW - age)
        await journal.write(lambda db: records.forget_old_jobs(db, NOW))
        assert await journal.read(lambda db: records.find_job(db, "old-49")) is None
        kept = await journal.read(lambda db: records.find_job(db, "old-50"))
        assert kept is not None
        assert await journal.read(records.forgot_before) == kept.finished_at


async def test_recent_jobs_are_never_forgotten(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j", threads=False) as journal:
        for number in range(records.KEEP_AT_LEAST + 50):
            await finish(journal, f"new-{number}", NOW - timedelta(minutes=number))
        await journal.write(lambda db: records.forget_old_jobs(db, NOW))
        assert await journal.read(lambda db: records.find_job(db, f"new-{records.KEEP_AT_LEAST + 49}")) is not None
        assert await journal.read(records.forgot_before) is None


class TestJobLog:
    async def lines(self, journal: Journal) -> list[JobLog]:
        return [report for _, frame in await frames(journal) if isinstance(report := from_agent.decode(frame), JobLog)]

    def writer(self, journal: Journal, budget: LogBudget) -> JobLogWriter:
        return JobLogWriter(journal, SystemClock(), budget, "job", ring=lambda: None)

    async def test_lines_are_numbered_over_streams_and_batches(self, tmp_path: Path) -> None:
        async with open_journal(tmp_path / "j") as journal:
            log = self.writer(journal, LogBudget())
            await log.lines("stdout", ["a", "b"])
            await log.lines("stderr", ["c"])
            await log.close()
            assert [(item.first_line, item.stream, item.text) for item in await self.lines(journal)] == [
                (1, "stdout", "a\nb"),
                (3, "stderr", "c"),
            ]

    async def test_every_chunk_fits_a_message_whatever_is_in_it(self, tmp_path: Path) -> None:
        async with open_journal(tmp_path / "j") as journal:
            log = self.writer(journal, LogBudget())
            await log.lines("stdout", ["\x01" * 100_000, *["\x7f" * 1000] * 300, "nul\0byte"])
            got = await self.lines(journal)
            assert all(len(item.text) <= MAX_LOG_TEXT for item in got)
            assert all(len(frame) < MAX_MESSAGE for _, frame in await frames(journal))
            assert sum(item.text.count("\n") + 1 for item in got) == 302
            assert got[-1].text.endswith("nul\\x00byte")

    async def test_beyond_the_budget_the_middle_is_left_out_and_counted(self, tmp_path: Path) -> None:
        async with open_journal(tmp_path / "j") as journal:
            log = self.writer(journal, LogBudget(limit=69))
            await log.lines("stdout", [f"head {number}" for number in range(10)])
            for number in range(1_000):
                await log.lines("stdout", [f"out {number}"])
                await log.lines("stderr", [f"err {number}"])
            assert len(await self.lines(journal)) == 1
            await log.close()
            got = await self.lines(journal)
            assert got[0].text.startswith("head 0\nhead 1")
            assert (got[1].first_line, got[1].dropped, got[1].text) == (1811, 1800, "out 900")
            assert got[-1].text == "err 999"
            assert got[-1].first_line == 2010
            assert sum(item.text.count("\n") + 1 for item in got) == 10 + 200

    async def test_with_room_again_what_waited_goes_out_first(self, tmp_path: Path) -> None:
        async with open_journal(tmp_path / "j") as journal:
            budget = LogBudget(limit=20)
            log = self.writer(journal, budget)
            await log.lines("stdout", ["0123456789"])
            await log.lines("stdout", ["waits, too long for it"])
            budget.set_waiting(-100)
            await log.lines("stdout", ["again"])
            await log.close()
            got = [(item.first_line, item.dropped, item.text) for item in await self.lines(journal)]
            assert got == [(1, 0, "0123456789"), (2, 0, "waits, too long for it"), (3, 0, "again")]

    async def test_a_journal_that_cannot_be_written_costs_lines_not_the_job(self, tmp_path: Path) -> None:
        async with open_journal(tmp_path / "j") as journal:
            log = self.writer(journal, LogBudget())
            await log.lines("stdout", ["kept"])
            await journal.read(lambda db: db.execute("PRAGMA query_only=ON"))
            await log.lines("stdout", ["lost"] * 300)
            await log.lines("stderr", ["waits"])
            await journal.read(lambda db: db.execute("PRAGMA query_only=OFF"))
            await log.lines("stdout", ["kept again"])
            await log.close()
            got = [(item.first_line, item.dropped, item.text.split("\n")[0]) for item in await self.lines(journal)]
            assert got == [(1, 0, "kept"), (103, 101, "lost"), (302, 0, "waits"), (303, 0, "kept again")]


def test_the_promises_are_those_of_the_documents() -> None:
    text = Path(__file__).parents[2].joinpath("docs/policies.md").read_text(encoding="utf-8")
    promised = (records.KEEP_FINISHED.days, records.KEEP_AT_LEAST, records.KEEP_AT_MOST)
    assert "{} days, at least {:,}, at most {:,}".format(*promised) in text


async def test_a_busy_journal_stays_small_on_disk(tmp_path: Path) -> None:
    """On a small disk SQLite's own log of changes (4 MB, if let) was what filled it, and then nothing could start."""
    async with open_journal(tmp_path / "j", threads=False) as journal:
        for number in range(1_500):
            await journal.write(lambda db, number=number: records.append_reports(db, [started(f"job-{number}")]))  # type: ignore[misc]  # a default binds it
            await journal.write(lambda db, number=number: records.acknowledge(db, number + 1))  # type: ignore[misc]  # the same
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1_000_000
