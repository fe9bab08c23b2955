"""Connections to the server's database file. Owns pragmas, how transactions begin, and what a database fault is called.

Two engines over one SQLite file in WAL mode: one connection that writes (`BEGIN IMMEDIATE`, `synchronous=FULL`) and a
few that only read (`BEGIN`, `query_only`). The driver's own transaction handling is off, because it gets in the way of
SAVEPOINT. It refuses to know tables, tasks and threads.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy
from sqlalchemy import Engine, event
from sqlalchemy.pool import NullPool, QueuePool

from restic_manager.domain.errors import StorageError

READERS: Final = 4
"""How many connections read at once, and how many threads wait for them."""

_BUSY_MILLISECONDS: Final = 5_000

RESTORE_ONE: Final = (
    "stop the server, keep the file, and put a copy in its place with `restic-manager server restore FILE --force`"
)

_SENTENCES: Final = {
    sqlite3.SQLITE_FULL: ("storage_full", "the disk holding {path} is full: free some space, then try again"),
    sqlite3.SQLITE_READONLY: (
        "storage_read_only",
        "{path} cannot be written: give this user write permission to the file and its folder, or remount the disk",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "storage_read_only",
        "{path} cannot be opened: check that its folder exists and that this user may write to it",
    ),
    sqlite3.SQLITE_PERM: ("storage_read_only", "{path} cannot be used: this user may not read and write it"),
    sqlite3.SQLITE_CORRUPT: (
        "storage_damaged",
        f"{{path}} is damaged: {RESTORE_ONE}",
    ),
    sqlite3.SQLITE_NOTADB: (
        "storage_damaged",
        "{path} is not a database of restic-manager: name another data directory, or restore a copy of the file",
    ),
    sqlite3.SQLITE_BUSY: (
        "storage_locked",
        "{path} is locked by another process: end whatever else has it open (a copy, an sqlite3 shell), then try again",
    ),
    sqlite3.SQLITE_LOCKED: (
        "storage_locked",
        "{path} is locked by another process: end whatever else has it open (a copy, an sqlite3 shell), then try again",
    ),
    sqlite3.SQLITE_IOERR: (
        "storage_io",
        "the disk holding {path} reported an error: look at the system's log, then check the disk",
    ),
}


def make_private(path: Path) -> None:
    """Given the database's path, make sure the file exists and is this user's alone; raise StorageError otherwise."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written ({error.strerror}): check that its folder exists and this user may write to it",
            code="storage_full" if error.errno in {28, 122} else "storage_read_only",
        ) from error


def writing_engine(path: Path) -> Engine:
    """Given the database's path, return the engine whose transactions take the write lock at once."""
    return _engine(path, begin="BEGIN IMMEDIATE", pragmas=("journal_mode=WAL", "synchronous=FULL"), poolclass=NullPool)


def reading_engine(path: Path) -> Engine:
    """Given the database's path, return the engine whose transactions each see one moment and change nothing."""
    return _engine(
        path,
        begin="BEGIN",
        pragmas=("query_only=ON",),
        poolclass=QueuePool,
        pool_size=READERS,
        max_overflow=0,
        pool_reset_on_return="rollback",
    )


def explained(error: Exception, path: Path) -> Exception:
    """Given a failure, return a StorageError with sentence and remedy where the database itself is at fault.

    Anything else (a domain error, a violated constraint, a bug) comes back as it is.
    """
    cause = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error
    if not isinstance(cause, sqlite3.Error):
        return error
    code = getattr(cause, "sqlite_errorcode", None)
    found = _SENTENCES.get(code & 0xFF) if isinstance(code, int) else None
    if found is None:
        return error
    name, sentence = found
    return StorageError(sentence.format(path=path), code=name)


@contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Given the database's path, turn the database's own faults inside the block into StorageErrors."""
    try:
        yield
    except (sqlalchemy.exc.DBAPIError, sqlite3.Error) as error:
        better = explained(error, path)
        if better is error:
            raise
        raise better from error


def _engine(path: Path, *, begin: str, pragmas: tuple[str, ...], **pool: Any) -> Engine:
    engine = sqlalchemy.create_engine(
        sqlalchemy.URL.create("sqlite", database=str(path)),
        # One thread at a time uses a connection, but not always the same thread.
        connect_args={"check_same_thread": False, "isolation_level": None, "timeout": _BUSY_MILLISECONDS / 1000},
        hide_parameters=True,  # a statement's values never reach a log or an error text
        **pool,
    )

    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in (f"busy_timeout={_BUSY_MILLISECONDS}", "foreign_keys=ON", "temp_store=MEMORY", *pragmas):
            connection.execute(f"PRAGMA {pragma}")

    def say_begin(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", say_begin)
    return engine
