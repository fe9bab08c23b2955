"""Copies of the database file: made from one that is in use, and looked at before one is trusted.

A copy is what one reading transaction sees, so it is consistent while the server writes. Owns when a file counts as
whole. It refuses to know where copies are kept and what else belongs to them.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import sqlalchemy
from msgspec import Struct
from sqlalchemy import Connection

from restic_manager.domain.errors import StorageError
from restic_manager.secrets import Sealer
from restic_manager.server.store import engine, identity, migrations
from restic_manager.server.store.schema import hosts, jobs, repos, schedules

CHECKED_AT_START: Final = 64 << 20
"""A database up to this many bytes is looked through whole at every start (0.2 s); a larger one only when copied."""


class Facts(Struct, frozen=True, kw_only=True):
    """What a database holds: its epoch and revision, and how much."""

    epoch: str
    revision: str
    hosts: int
    repos: int
    schedules: int
    jobs: int


def copy_database(source: Path, target: Path) -> None:
    """Given a database, in use or not, write its copy to a path where nothing is (0600); raise StorageError."""
    with engine.explaining(source), contextlib.closing(_open(source)) as connection:
        migrations.copy_into(connection, target)


def look_through(path: Path, *, thorough: bool = True) -> None:
    """Given a database file, raise StorageError if it is not whole. Thorough: its indexes are compared with it, too."""
    with engine.explaining(path), contextlib.closing(_open(path)) as connection:
        pragma = "integrity_check" if thorough else "quick_check"
        found = str(connection.execute(f"PRAGMA {pragma}(1)").fetchone()[0])
    if found != "ok":
        raise StorageError(f"{path} is damaged ({found}): {engine.RESTORE_ONE}", code="storage_damaged")


def facts(path: Path, sealer: Sealer) -> Facts:
    """Given a database file and the key that goes with it, return what it holds.

    Raise StorageError if it is not one of ours, of a newer program, or sealed with another key.
    """
    with _reading(path) as tx:
        revision = migrations.revision(tx, path)
        if revision is None or not identity.has_key(tx):
            raise StorageError(f"{path} was never in use: there is nothing in it", code="storage_damaged")
        identity.prove_key(tx, sealer)
        return Facts(
            epoch=identity.epoch(tx),
            revision=revision,
            hosts=_count(tx, hosts, hosts.c.removed_at.is_(None)),
            repos=_count(tx, repos, repos.c.removed_at.is_(None)),
            schedules=_count(tx, schedules, schedules.c.removed_at.is_(None)),
            jobs=_count(tx, jobs, sqlalchemy.true()),
        )


def _count(tx: Connection, table: sqlalchemy.Table, which: sqlalchemy.ColumnElement[bool]) -> int:
    return int(tx.execute(sqlalchemy.select(sqlalchemy.func.count()).select_from(table).where(which)).scalar_one())


def _open(path: Path) -> sqlite3.Connection:
    if not path.is_file() or not path.stat().st_size:
        raise StorageError(f"there is no database {path}", code="storage_missing")
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=5)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[Connection]:
    reading = engine.reading_engine(path)
    try:
        with engine.explaining(path), reading.connect() as connection, connection.begin():
            yield connection
    finally:
        reading.dispose()
