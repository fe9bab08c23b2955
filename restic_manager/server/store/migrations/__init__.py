"""From any older database to this program's schema, in one transaction. Decides whether a database may be used.

A start that finds everything up to date does not import Alembic (it costs more than the rest of the start); it reads
the version table by hand. Migrations are additive and are tested with data in them. It refuses to know what the tables
are for; `versions/` holds one explicit module a revision.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

import sqlalchemy
from sqlalchemy import Connection

from restic_manager.domain.errors import StorageError
from restic_manager.domain.model import new_id
from restic_manager.server.store.schema import server

REVISIONS: Final = ("0001", "0002", "0003")
"""Every revision, oldest first; the last one is what this program reads and writes."""


def bring_up(connection: Connection, path: Path, *, now: datetime) -> None:
    """Given the writing connection, bring its database to the newest revision, all or nothing.

    A new database also gets its `server` row (a fresh epoch). Raise StorageError for a database that is newer than
    this program or is not one of ours.
    """
    with connection.begin():
        found = _revision(connection, path)
        if found == REVISIONS[-1]:
            return
        _upgrade(connection)
        if connection.execute(sqlalchemy.select(server.c.id)).first() is None:
            connection.execute(server.insert().values(id=1, epoch=new_id(), created_at=now))


def _revision(connection: Connection, path: Path) -> str | None:
    """Return the database's revision, None for an empty one; raise StorageError for one that is not for us."""
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
