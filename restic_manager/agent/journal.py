"""The agent's durable memory: one small SQLite file. Owns the file, its thread and its shape; knows no meaning.

What must survive is committed here before anything acts on it. Every change is one closure, BEGIN IMMEDIATE … COMMIT,
in the journal's one thread (or inline, in virtual-time tests, which cannot see threads). What the rows mean is in
`records`.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

import trio

from restic_manager.domain.errors import StorageError
from restic_manager.domain.model import new_id
from restic_manager.runtime.datadir import storage_error

logger = logging.getLogger(__name__)

T = TypeVar("T")

SCHEMA_VERSION: Final = 4
DAMAGED: Final = "storage_damaged"
_DAMAGED_REMEDY: Final = (
    "the file is damaged: restore it, or start the agent once with --reset-journal: it moves the file aside and begins "
    "a fresh journal (what the server has not been told yet is lost with the old one)"
)
_WAL_PAGES: Final = 64
"""Pages (256 KiB) that changes may take beside the file before they are brought into it: a journal is smaller than what
SQLite would let that grow to (4 MB), and on a small disk it must not be what fills it."""
TRY_AGAIN: Final = 5.0
"""Seconds until what could not be written is tried again."""

_SCHEMA: Final = """
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
_UPGRADES: Final = {
    2: """
CREATE TABLE orders (
    schedule_id TEXT PRIMARY KEY,
    sealed BLOB NOT NULL             -- protocol.messages.StandingOrder, sealed: it holds secrets
) WITHOUT ROWID;
ALTER TABLE jobs ADD COLUMN pid INTEGER;
ALTER TABLE jobs ADD COLUMN sealed BLOB;
CREATE TABLE fates (
    id INTEGER PRIMARY KEY,
    last_slot INTEGER NOT NULL,
    report_seq INTEGER NOT NULL,     -- the outbox sequence under which it was told last
    frame TEXT NOT NULL              -- that slot.decided
);
ALTER TABLE jobs ADD COLUMN log_lines INTEGER;
""",  # pid: of the restic that was spawned for the job; sealed: while it runs, its order, to look its snapshot up by;
    # log_lines: how many lines its log had, null where it is not known
    3: """
ALTER TABLE fires ADD COLUMN evidence TEXT;
""",  # protocol.messages.Evidence: what made it late; null where nothing is known
    4: """
CREATE TABLE repositories (
    place TEXT PRIMARY KEY,          -- domain.policy.place_of: no login in it
    since INTEGER NOT NULL           -- microseconds since 1970
) WITHOUT ROWID;
""",  # the repositories that this host uses: others need a word of its administrator
}
"""What brings a journal of the version before to this one. A new journal takes the same way."""


class Journal:
    """The open journal. Use `open_journal`."""

    def __init__(self, connection: sqlite3.Connection, path: Path, *, threads: bool) -> None:
        self._connection = connection
        self._path = path
        self._limiter = trio.CapacityLimiter(1) if threads else None

    async def write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Given a change, commit it alone and return its result; raise StorageError if it could not be committed.

        The change's own exceptions roll it back and come out as they are. A cancelled caller's change still commits.
        """
        return await self._run(lambda: self._commit(change))

    async def read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Given a question, return its answer; raise StorageError if the journal cannot be read."""
        return await self._run(lambda: question(self._connection))

    async def _run(self, call: Callable[[], T]) -> T:
        try:
            if self._limiter is None:
                await trio.lowlevel.checkpoint()
                return call()
            return await trio.to_thread.run_sync(call, limiter=self._limiter)
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def _commit(self, change: Callable[[sqlite3.Connection], T]) -> T:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            result = change(self._connection)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return result

    def _explain(self, error: sqlite3.Error) -> StorageError:
        return _explain(self._path, error)


async def insist(what: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """Given something that must get into the journal, try until it has; say every failure. Cancelled like any wait.

    A full disk must cost neither a verdict nor the agent: what cannot be written now waits in memory.
    """
    while True:
        try:
            return await attempt()
        except StorageError as error:
            logger.error("%s cannot be journaled: %s; trying again in %g s", what, error.message, TRY_AGAIN)  # noqa: TRY400 - the message says it all
        await trio.sleep(TRY_AGAIN)


@asynccontextmanager
async def open_journal(path: Path, *, threads: bool = True) -> AsyncIterator[Journal]:
    """Given the journal's path, open it (making it if there is none).

    Raise StorageError if it is damaged, newer than this program, or its folder cannot be written. The caller holds the
    data directory's lock.
    """
    try:
        connection = _open(path)
    except sqlite3.Error as error:
        raise _explain(path, error) from error
    except OSError as error:
        raise storage_error(error, f"the agent's journal {path}") from error
    try:
        try:
            _prepare(connection, path)
        except sqlite3.Error as error:
            raise _explain(path, error) from error
        yield Journal(connection, path, threads=threads)
    finally:
        connection.close()


def reset_journal(path: Path, *, now: datetime) -> Path | None:
    """Given the journal's path, move a journal that is damaged aside and return where it is now; None if it is whole.

    There is none after it: the next to open it makes a fresh one. Raise StorageError if it cannot be told or moved. The
    caller holds the data directory's lock.
    """
    if not path.exists():
        return None
    try:
        connection = _connect(path)
        try:
            _prepare(connection, path)
        finally:
            connection.close()
    except sqlite3.Error as error:
        damage = _explain(path, error)
    except StorageError as error:
        damage = error
    else:
        return None
    if damage.code != DAMAGED:
        raise damage
    aside = path.with_name(f"{path.name}.damaged-{now:%Y%m%dT%H%M%SZ}")
    try:
        for suffix in ("-shm", "-wal", ""):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.replace(aside.with_name(aside.name + suffix))
    except OSError as error:
        raise storage_error(error, f"the agent's journal {path}") from error
    return aside


def _open(path: Path) -> sqlite3.Connection:
    if not path.exists():
        _make(path)
    return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)


def _make(path: Path) -> None:
    """Make a new journal under another name first: a file under its own name is always a whole one, or damaged."""
    new = path.with_name(f".{path.name}.new")
    for suffix in ("", "-journal"):
        new.with_name(new.name + suffix).unlink(missing_ok=True)
    connection = _connect(new)
    try:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("BEGIN IMMEDIATE")
        _run(connection, _SCHEMA)
        connection.execute("INSERT INTO meta VALUES ('journal_id', ?)", (new_id(),))
        connection.execute("PRAGMA user_version=1")
        connection.execute("COMMIT")
    finally:
        connection.close()
    new.chmod(0o600)
    new.replace(path)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        raise StorageError(
            f"{path} was written by a newer restic-manager (journal {version}, this program knows {SCHEMA_VERSION}): "
            "upgrade the program on this host",
            code="storage_newer",
        )
    found = "it is empty" if version == 0 else str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    if found != "ok":
        raise StorageError(f"the agent's journal {path}: {_DAMAGED_REMEDY} ({found})", code=DAMAGED)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES}")
    if version == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    for further in range(version + 1, SCHEMA_VERSION + 1):
        _run(connection, _UPGRADES[further])
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _run(connection: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";\n"):
        if statement.strip():
            connection.execute(statement)


def _explain(path: Path, error: sqlite3.Error) -> StorageError:
    code = getattr(error, "sqlite_errorname", "") or type(error).__name__
    if code.startswith("SQLITE_FULL"):
        remedy = "the disk is full: make room; nothing was half-written"
    elif code.startswith("SQLITE_READONLY"):
        remedy = "the data directory is read-only: remount it, or choose another with --data-dir"
    elif code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return StorageError(f"the agent's journal {path}: {_DAMAGED_REMEDY}", code=DAMAGED)
    elif code.startswith("SQLITE_CANTOPEN"):
        remedy = "the file cannot be opened: check the data directory and its permissions"
    else:
        remedy = f"{code}: {error}"
    return StorageError(f"the agent's journal {path}: {remedy}")
