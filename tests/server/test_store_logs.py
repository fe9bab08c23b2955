"""Logs of jobs: head and tail within a cap, every missing line counted, and a cost that does not grow."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, func, select

from restic_manager.domain.model import Actor, InitSpec
from restic_manager.server.store import job_rows, logs
from restic_manager.server.store.logs import Chunk
from restic_manager.server.store.schema import log_chunks, metadata
from tests.server.world import START


def fresh() -> Connection:
    """A database in memory with one job, without foreign keys: only logs are looked at."""
    connection = create_engine("sqlite://").connect()
    metadata.create_all(connection)
    job_rows.insert(connection, job_id="job", spec=InitSpec(), host_id="h", repo_id="r", actor=Actor.SERVER, now=START)
    return connection


def chunk(first: int, text: str, *, dropped: int = 0) -> Chunk:
    return logs.chunk_of(first_line=first, at=START, stream="stdout", text=text, dropped=dropped)


def kept(tx: Connection) -> list[Chunk]:
    return logs.read(tx, "job", limit=100_000)


def account(tx: Connection) -> tuple[int, int]:
    """How many lines are there, and how many the chunks say are missing."""
    chunks = kept(tx)
    expected = 1
    missing = 0
    for one in chunks:
        assert one.first_line == expected + one.dropped_before
        missing += one.dropped_before
        expected = one.first_line + one.lines
    return sum(one.lines for one in chunks), missing


def test_a_short_log_is_kept_whole() -> None:
    tx = fresh()
    logs.append(tx, "job", [chunk(1, "a\nb"), chunk(3, "c")])
    counters = logs.append(tx, "job", [chunk(4, "d")])
    assert [(one.first_line, one.lines, one.text) for one in kept(tx)] == [(1, 2, "a\nb"), (3, 1, "c"), (4, 1, "d")]
    assert (counters.lines, counters.dropped) == (4, 0)


def test_repeats_are_left_out() -> None:
    tx = fresh()
    first = logs.append(tx, "job", [chunk(1, "a\nb"), chunk(3, "c")])
    assert logs.append(tx, "job", [chunk(1, "a\nb"), chunk(3, "c")]) == first
    assert logs.append(tx, "job", [chunk(3, "c"), chunk(4, "d")]).lines == 4
    assert account(tx) == (4, 0)


def test_what_the_agent_left_out_or_the_server_lost_is_a_gap() -> None:
    tx = fresh()
    counters = logs.append(tx, "job", [chunk(1, "a"), chunk(11, "k", dropped=9), chunk(21, "u")])
    assert (counters.lines, counters.dropped) == (21, 18)
    assert [one.dropped_before for one in kept(tx)] == [0, 9, 9]


def test_the_head_stays_the_tail_moves_and_the_middle_is_counted() -> None:
    tx = fresh()
    cap = 10_000
    for line in range(1, 1_001):
        logs.append(tx, "job", [chunk(line, "x" * 100)], cap=cap)
    chunks = kept(tx)
    assert chunks[0].first_line == 1
    assert chunks[-1].first_line == 1_000
    gaps = [one for one in chunks if one.dropped_before]
    assert len(gaps) == 1, "one hole, in the middle"
    there, missing = account(tx)
    assert there + missing == 1_000
    row = job_rows.get(tx, "job")
    assert (row.log_lines, row.log_lines_dropped) == (1_000, missing)
    head = [one for one in chunks if one.first_line < gaps[0].first_line - gaps[0].dropped_before]
    head_cost = sum(len(one.text) + logs.CHUNK_COST for one in head)
    assert cap * 0.4 <= head_cost <= cap * 0.5
    assert row.log_bytes <= cap
    assert row.log_bytes >= cap * 0.8


def test_a_job_that_writes_empty_lines_is_bounded_too() -> None:
    tx = fresh()
    cap = 20_000
    for start in range(1, 3_000, 100):
        logs.append(tx, "job", [chunk(line, "") for line in range(start, start + 100)], cap=cap)
    count = tx.execute(select(func.count()).select_from(log_chunks)).scalar_one()
    assert count * logs.CHUNK_COST <= cap + 100 * logs.CHUNK_COST
    there, missing = account(tx)
    assert there + missing == 3_000


def test_reading_goes_on_from_where_it_was() -> None:
    tx = fresh()
    logs.append(tx, "job", [chunk(line, f"line {line}") for line in range(1, 11)])
    first = logs.read(tx, "job", limit=4)
    rest = logs.read(tx, "job", after_line=first[-1].first_line, limit=100)
    assert [one.first_line for one in first + rest] == list(range(1, 11))


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 400), st.integers(0, 5)), min_size=1, max_size=60))
@settings(deadline=None, max_examples=60)
def test_whatever_is_written_every_line_is_there_or_counted(pieces: list[tuple[int, int, int]]) -> None:
    tx = fresh()
    cap = 4_000
    line = 1
    for lines, width, left_out in pieces:
        line += left_out
        logs.append(tx, "job", [chunk(line, "\n".join(["x" * width] * lines), dropped=left_out)], cap=cap)
        line += lines
    there, missing = account(tx)
    assert there + missing == line - 1
    row = job_rows.get(tx, "job")
    assert (row.log_lines, row.log_lines_dropped) == (line - 1, missing)
    newest = pieces[-1]
    biggest = newest[0] * newest[1] + newest[0] + logs.CHUNK_COST
    assert row.log_bytes <= cap + biggest


def test_the_cost_of_a_line_does_not_grow_with_the_log() -> None:
    """Count the rows touched, not the time: the clean-up reads a bounded number of rows for each chunk written."""
    tx = fresh()
    cap = 20_000
    read = 0
    real = logs._trim

    def counting(*args: object, **more: object) -> tuple[int, int]:
        nonlocal read
        read += tx.execute(select(func.count()).select_from(log_chunks)).scalar_one()
        return real(*args, **more)  # type: ignore[arg-type]  # passed through as they came

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "_trim", counting)
        costs = []
        for start in range(1, 8_001, 2_000):
            before = read
            for line in range(start, start + 2_000):
                logs.append(tx, "job", [chunk(line, "x" * 20)], cap=cap)
            costs.append((read - before) / 2_000)
    assert max(costs) < 12, costs
    assert costs[-1] < 1.5 * costs[1]
