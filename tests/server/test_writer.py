"""Group commit: what is atomic, who is answered with what, and what cancellation and a failing disk do."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import sqlalchemy
import trio
import trio.testing
from sqlalchemy import Connection

from restic_manager.domain.errors import ConflictError, StorageError
from restic_manager.runtime.clock import SystemClock
from restic_manager.server.store import schema, writer
from restic_manager.server.store.writer import Store, open_store


@pytest.fixture(params=[True, False], ids=["threads", "inline"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path / "server.db", clock=SystemClock(), threads=request.param) as opened:
        yield opened


def note(what: str) -> Callable[[Connection], str]:
    """Return a change that stores one event called `what`."""

    def change(tx: Connection) -> str:
        tx.execute(schema.events.insert().values(at=SystemClock().now(), actor="test", what=what, detail=""))
        return what

    return change


def noted(tx: Connection) -> list[str]:
    return list(tx.execute(sqlalchemy.select(schema.events.c.what).order_by(schema.events.c.id)).scalars())


async def hand_in(store: Store, changes: list[Callable[[Connection], str]]) -> list[str | Exception]:
    """Hand all changes in at once, in order; return each one's answer or exception."""
    answers: dict[int, str | Exception] = {}

    async def one(number: int, change: Callable[[Connection], str]) -> None:
        try:
            answers[number] = await store.write(change)
        except Exception as error:  # noqa: BLE001 - the answers are what is tested
            answers[number] = error

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for number, change in enumerate(changes):
                nursery.start_soon(one, number, change)
    return [answers[number] for number in range(len(changes))]


async def test_what_is_answered_is_committed_and_readable(store: Store) -> None:
    assert await store.write(note("a")) == "a"
    assert await store.read(noted) == ["a"]
    with sqlite3.connect(store.path) as other:
        assert other.execute("SELECT what FROM events").fetchall() == [("a",)]
    other.close()


async def test_waiting_changes_share_one_commit(store: Store) -> None:
    answers = await hand_in(store, [note(f"n{number:03}") for number in range(200)])
    assert sorted(str(answer) for answer in answers) == [f"n{number:03}" for number in range(200)]
    assert store.changes == 200
    assert store.commits < 20
    assert len(await store.read(noted)) == 200


async def test_changes_of_one_caller_are_stored_in_order(store: Store) -> None:
    for number in range(20):
        await store.write(note(f"n{number:02}"))
    assert await store.read(noted) == [f"n{number:02}" for number in range(20)]


async def test_a_failing_change_rolls_back_alone(store: Store) -> None:
    def fails(tx: Connection) -> str:
        note("half")(tx)
        raise ConflictError("no")

    answers = await hand_in(store, [note("before"), fails, note("after")])
    assert sorted(await store.read(noted)) == ["after", "before"]
    assert [type(answer) for answer in answers] == [str, ConflictError, str]
    assert store.changes == 2


async def test_a_violated_constraint_rolls_back_alone(store: Store) -> None:
    def orphan(tx: Connection) -> str:
        tx.execute(schema.host_labels.insert().values(host_id="nobody", key="k", value="v"))
        return "stored"

    answers = await hand_in(store, [note("before"), orphan, note("after")])
    assert isinstance(answers[1], sqlalchemy.exc.IntegrityError)
    assert "nobody" not in str(answers[1]), "values must not be in an error's text"
    assert sorted(await store.read(noted)) == ["after", "before"]


async def test_a_failed_commit_fails_everybody_in_it(store: Store) -> None:
    def break_commit(tx: Connection) -> str:
        tx.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        tx.execute(schema.host_labels.insert().values(host_id="nobody", key="k", value="v"))
        return "stored"

    answers = await hand_in(store, [note("a"), break_commit, note("b")])
    assert all(isinstance(answer, StorageError) for answer in answers)
    assert len({id(answer) for answer in answers}) == 3, "each caller raises an exception of its own"
    assert await store.read(noted) == []
    assert await store.write(note("later")) == "later"
    assert await store.read(noted) == ["later"]


async def test_a_full_disk_is_said_plainly_and_passes(store: Store) -> None:
    def pages(tx: Connection) -> int:
        return int(tx.exec_driver_sql("PRAGMA page_count").scalar_one())

    def limit(count: int) -> Callable[[Connection], str]:
        return lambda tx: str(tx.exec_driver_sql(f"PRAGMA max_page_count={count}").scalar_one())

    await store.write(limit(await store.read(pages)))
    with pytest.raises(StorageError) as caught:
        await store.write(note("x" * 64 * 1024))
    assert caught.value.code == "storage_full"
    assert str(store.path) in caught.value.message
    await store.write(limit(1_000_000))
    await store.write(note("fits"))
    assert await store.read(noted) == ["fits"]


async def test_a_cancelled_caller_does_not_undo_its_change(store: Store) -> None:
    scope = trio.CancelScope()

    def cancel_the_caller(tx: Connection) -> str:
        if threading.current_thread() is threading.main_thread():
            scope.cancel()
        else:
            trio.from_thread.run_sync(scope.cancel)
        return note("orphaned")(tx)

    with trio.fail_after(20):
        with scope:
            await store.write(cancel_the_caller)
        await store.write(note("next"))
    assert scope.cancelled_caught
    assert await store.read(noted) == ["orphaned", "next"]


async def test_a_long_batch_is_cut_so_that_the_first_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_BATCH_SECONDS", 0.0)
    async with open_store(tmp_path / "server.db", clock=SystemClock(), threads=False) as store:
        answers = await hand_in(store, [note("a"), note("b"), note("c")])
        assert answers == ["a", "b", "c"]
        assert store.commits == 3


async def test_a_batch_takes_no_more_than_its_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MAX_BATCH", 2)
    async with open_store(tmp_path / "server.db", clock=SystemClock(), threads=False) as store:
        await hand_in(store, [note(str(number)) for number in range(5)])
        assert store.commits == 3


async def test_leaving_brings_what_was_handed_in_to_its_end(tmp_path: Path) -> None:
    path, gate = tmp_path / "server.db", threading.Event()

    def wait_at_the_gate(tx: Connection) -> str:
        assert gate.wait(10)
        return note("gate")(tx)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery, open_store(path, clock=SystemClock()) as store:
            nursery.start_soon(store.write, wait_at_the_gate)
            await trio.testing.wait_all_tasks_blocked()
            for number in range(50):
                nursery.start_soon(store.write, note(str(number)))
            await trio.testing.wait_all_tasks_blocked()
            assert len(store._waiting) == 50
            gate.set()
            nursery.cancel_scope.cancel()
    async with open_store(path, clock=SystemClock()) as store:
        assert len(await store.read(noted)) == 51


async def test_after_the_end_nothing_is_taken(tmp_path: Path) -> None:
    async with open_store(tmp_path / "server.db", clock=SystemClock()) as store:
        pass
    with pytest.raises(StorageError) as caught:
        await store.write(note("late"))
    assert caught.value.code == "storage_closed"


async def test_a_reader_sees_one_moment_and_cannot_write(tmp_path: Path) -> None:
    async with open_store(tmp_path / "server.db", clock=SystemClock()) as store:
        asked, go_on = threading.Event(), threading.Event()

        def look_twice(tx: Connection) -> tuple[int, int]:
            before = len(noted(tx))
            asked.set()
            assert go_on.wait(10)
            return before, len(noted(tx))

        seen: list[tuple[int, int]] = []

        async def reader() -> None:
            seen.append(await store.read(look_twice))

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reader)
                await trio.to_thread.run_sync(asked.wait)
                await store.write(note("meanwhile"))
                go_on.set()
        assert seen == [(0, 0)]
        with pytest.raises(StorageError) as caught:
            await store.read(note("by a reader"))
        assert caught.value.code == "storage_read_only"
        assert await store.read(noted) == ["meanwhile"]


async def test_a_database_locked_by_another_process_is_said_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restic_manager.server.store.engine._BUSY_MILLISECONDS", 50)
    async with open_store(tmp_path / "server.db", clock=SystemClock()) as store:
        other = sqlite3.connect(store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with trio.fail_after(20), pytest.raises(StorageError) as caught:
            await store.write(note("blocked"))
        assert caught.value.code == "storage_locked"
        other.execute("ROLLBACK")
        other.close()
        assert await store.write(note("free")) == "free"
