"""From any older database to this program's schema, in one transaction. Decides whether a database may be used.

A start that finds everything up to date does not import Alembic (it costs more than the rest of the start); it reads
the version table by hand. Migrations are additive and are tested with data in them. It refuses to know what the tables
are for; `versions/` holds one explicit module a revision.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy
from sqlalchemy import Connection

from restic_manager.domain.errors import StorageError
from restic_manager.domain.model import new_id
from restic_manager.server.store.schema import server

logger = logging.getLogger(__name__)

REVISIONS: Final = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010")
"""Every revision, oldest first; the last one is what this program reads and writes."""


def bring_up(connection: Connection, path: Path, *, now: datetime) -> None:
    """Given the writing connection, bring its database to the newest revision, all or nothing.

    An older one is copied first, to `NAME.before-REVISION` beside it. A new database also gets its `server` row (a
    fresh epoch). Raise StorageError for a database that is newer than this program or is not one of ours.
    """
    with connection.begin():
        found = revision(connection, path)
    if found == REVISIONS[-1]:
        return
    if found is not None:
        _keep_a_copy(connection)
    with connection.begin():
        _upgrade(connection)
        if connection.execute(sqlalchemy.select(server.c.id)).first() is None:
            connection.execute(server.insert().values(id=1, epoch=new_id(), created_at=now))


def copy_into(connection: sqlite3.Connection, target: Path) -> None:
    """Given a plain connection outside any transaction, write a copy of its database to a path where nothing is."""
    # Made first, so that it is never anybody else's to read; SQLite takes an empty file as its own.
    descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            connection.execute("VACUUM INTO ?", (os.fspath(target),))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        target.unlink()
        raise


def _keep_a_copy(connection: Connection) -> None:
    raw: Any = connection.connection.driver_connection
    database = Path(raw.execute("PRAGMA database_list").fetchone()[2])
    kept = database.with_name(f"{database.name}.before-{REVISIONS[-1]}")
    new = kept.with_name(f".{kept.name}.new")
    new.unlink(missing_ok=True)
    copy_into(raw, new)
    new.replace(kept)
    logger.info("the database is brought up to revision %s; as it was it is kept in %s", REVISIONS[-1], kept)


def revision(connection: Connection, path: Path) -> str | None:
    """Given a connection in a transaction, return its database's revision, None for an empty one.

    Raise StorageError for one that is not for us.
    """
    tables = set(connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars())
    if not tables:
        return None
    if "alembic_version" not in tables:
        raise StorageError(
            f"{path} holds the tables of another program: name another data directory", code="storage_foreign"
        )
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars().all()
    if len(found) != 1 or found[0] not in REVISIONS:
        raise StorageError(
            f"{path} was written by a newer restic-manager (database revision {', '.join(map(str, found)) or 'none'}, "
            f"this program knows up to {REVISIONS[-1]}): install that version or a later one",
            code="storage_newer",
        )
    return str(found[0])


def _upgrade(connection: Connection) -> None:
    """Run every migration that is missing, in the transaction already begun on the connection."""
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, "head")
