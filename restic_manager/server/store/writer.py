"""The store: group commit and reading. Owns the one task that writes, and who is answered when.

Callers hand in closures. The writer task takes all that wait, runs each in its own SAVEPOINT inside one transaction (in
one thread hop), and answers after COMMIT. A closure that fails rolls back alone and its caller gets the exception; a
COMMIT that fails fails all of them. A closure handed in is run even when its caller is cancelled meanwhile: whoever is
cancelled does not know whether it happened, and nothing is half done. It refuses to know what closures do.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import trio
from sqlalchemy import Connection, Engine

from restic_manager.domain.errors import StorageError
from restic_manager.runtime.clock import Clock
from restic_manager.server.store import copies, engine, migrations

T = TypeVar("T")
Change = Callable[[Connection], T]
Question = Callable[[Connection], T]

MAX_BATCH: Final = 1_000
"""Closures in one transaction."""
MAX_BATCH_SECONDS: Final = 0.05
"""After this long a transaction takes no further closure, so that those in it are answered."""


class _Waiting(Generic[T]):
    """One closure handed in, and the answer its caller waits for."""

    __slots__ = ("answered", "change", "error", "value")

    def __init__(self, change: Change[T]) -> None:
        self.change = change
        self.answered = trio.Event()
        self.error: Exception | None = None
        self.value: T | None = None


class Store:
    """The server's database: `write` changes, `read` questions. Made by `open_store`."""

    def __init__(self, path: Path, *, writing: Connection, reading: Engine, threads: bool) -> None:
        self.path = path
        self.commits = 0
        """Transactions committed since the start."""
        self.changes = 0
        """Closures committed since the start."""
        self._writing = writing
        self._reading = reading
        self._threads = threads
        self._waiting: deque[_Waiting[Any]] = deque()
        self._bell = trio.Event()
        self._closing = False
        self._one_writer = trio.CapacityLimiter(1)
        self._readers = trio.CapacityLimiter(engine.READERS)

    async def write(self, change: Change[T]) -> T:
        """Given a synchronous closure, return what it returned once it is committed.

        Raise what it raised (then nothing of it is stored), or StorageError when the database cannot be written. The
        closure must use only the connection it is given and return plain values, never a cursor.
        """
        if self._closing:
            raise StorageError("the server is stopping: nothing can be stored any more", code="storage_closed")
        waiting = _Waiting(change)
        self._waiting.append(waiting)
        self._bell.set()
        await waiting.answered.wait()
        if waiting.error is not None:
            raise waiting.error
        return waiting.value  # type: ignore[return-value]  # set by the writer to what the closure returned

    async def read(self, question: Question[T]) -> T:
        """Given a synchronous closure that only reads, return its answer; it sees one moment of the database.

        Raise what it raised, or StorageError when the database cannot be read.
        """

        def ask() -> T:
            with engine.explaining(self.path), self._reading.connect() as connection, connection.begin():
                return question(connection)

        if not self._threads:
            await trio.lowlevel.checkpoint()
            return ask()
        return await trio.to_thread.run_sync(ask, limiter=self._readers, thread_name="store reader")

    def close(self) -> None:
        """Take nothing further; the writer task ends when everything handed in has been answered."""
        self._closing = True
        self._bell.set()

    async def serve(self) -> None:
        """Write batch after batch until closed. Not ended by cancellation: what was handed in is brought to its end."""
        with trio.CancelScope(shield=True):
            try:
                while self._waiting or not self._closing:
                    if not self._waiting:
                        await self._bell.wait()
                        self._bell = trio.Event()
                        continue
                    await self._write_batch()
            finally:
                # Only a crash of this task leaves anybody here; nobody may wait for ever for a writer that is gone.
                self._closing = True
                self._answer(self._waiting, StorageError("the store's writer has ended", code="storage_closed"))

    async def _write_batch(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
        try:
            if self._threads:
                done = await trio.to_thread.run_sync(
                    self._commit, batch, limiter=self._one_writer, thread_name="store writer"
                )
            else:
                await trio.lowlevel.checkpoint()
                done = self._commit(batch)
        except Exception as error:  # noqa: BLE001 - the one barrier: a failed transaction is told to everybody in it
            self._answer(batch, error)
            return
        self._waiting.extendleft(reversed(batch[done:]))
        self.commits += 1
        for waiting in batch[:done]:
            self.changes += waiting.error is None
            waiting.answered.set()

    def _answer(self, batch: list[_Waiting[Any]] | deque[_Waiting[Any]], error: Exception) -> None:
        """Tell everybody in the batch that nothing of it was stored; each gets an exception of their own to raise."""
        explained = engine.explained(error, self.path)
        for waiting in batch:
            if isinstance(explained, StorageError):
                waiting.error = StorageError(explained.message, code=explained.code)
            else:
                waiting.error = StorageError(f"the store could not commit: {explained}")
            waiting.error.__cause__ = error
            waiting.value = None
            waiting.answered.set()

    def _commit(self, batch: list[_Waiting[Any]]) -> int:
        """Run closures in one transaction until the batch or its time is over; return how many were, committed."""
        until = time.monotonic() + MAX_BATCH_SECONDS
        done = 0
        raw: Any = self._writing.connection.driver_connection
        try:
            with self._writing.begin():
                for waiting in batch:
                    self._run(raw, waiting)
                    done += 1
                    if time.monotonic() >= until:
                        break
        finally:
            if raw.in_transaction:
                # A COMMIT that fails leaves the transaction open, and SQLAlchemy does not roll it back.
                raw.execute("ROLLBACK")
        return done

    def _run(self, raw: Any, waiting: _Waiting[Any]) -> None:
        """Run one closure in its own SAVEPOINT; keep its answer or its failure."""
        raw.execute("SAVEPOINT change")
        try:
            waiting.value = waiting.change(self._writing)
        except Exception as error:
            if not raw.in_transaction:
                # A full disk or an I/O error rolls the WHOLE transaction back inside SQLite.
                raise
            raw.execute("ROLLBACK TO change")
            waiting.error = engine.explained(error, self.path)
        raw.execute("RELEASE change")


@asynccontextmanager
async def open_store(path: Path, *, clock: Clock, threads: bool = True) -> AsyncIterator[Store]:
    """Given the database's path, hand out its store, migrated to this program's schema, until the body ends.

    threads=False runs every closure in the event loop, for tests in virtual time. Raise StorageError when the file
    cannot be used: not writable, damaged, locked, or of a newer program.
    """

    now = clock.now()  # here, not in the thread: a clock of trio's can be asked in the event loop only

    def prepare() -> Connection:
        engine.make_private(path)
        if 0 < path.stat().st_size <= copies.CHECKED_AT_START:
            copies.look_through(path, thorough=False)
        connection = engine.writing_engine(path).connect()
        try:
            migrations.bring_up(connection, path, now=now)
        except BaseException:
            connection.close()
            raise
        return connection

    with engine.explaining(path):
        writing = await trio.to_thread.run_sync(prepare) if threads else prepare()
    reading = engine.reading_engine(path)
    store = Store(path, writing=writing, reading=reading, threads=threads)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.serve, name="store writer")
            try:
                yield store
            finally:
                store.close()
    finally:
        reading.dispose()
        writing.close()
