"""From any older database to this program's schema: complete, in one transaction, quick when there is nothing to do."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from restic_manager.domain.errors import StorageError
from restic_manager.runtime.clock import SystemClock
from restic_manager.server.store import engine, migrations, schema
from restic_manager.server.store.writer import open_store


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlalchemy.Connection]:
    with engine.writing_engine(tmp_path / "server.db").connect() as opened:
        yield opened


def bring_up(connection: sqlalchemy.Connection) -> None:
    migrations.bring_up(connection, Path("server.db"), now=SystemClock().now())


def tables(connection: sqlalchemy.Connection) -> set[str]:
    with connection.begin():
        return set(connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars())


def test_the_migrated_schema_is_the_programs(connection: sqlalchemy.Connection) -> None:
    bring_up(connection)
    with connection.begin():
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, schema.metadata) == []


def test_every_table_and_index_is_spelt_as_the_schema_would(connection: sqlalchemy.Connection) -> None:
    """compare_metadata does not see everything (names of keys, say): compare what SQLite itself says."""
    bring_up(connection)
    other = sqlalchemy.create_engine("sqlite://")
    with other.connect() as made, made.begin():
        schema.metadata.create_all(made)
        wanted = shape(made)
    other.dispose()
    with connection.begin():
        assert shape(connection) == wanted


def shape(connection: sqlalchemy.Connection) -> dict[str, Any]:
    inspector = sqlalchemy.inspect(connection)
    return {
        name: {
            "columns": [{**column, "type": str(column["type"])} for column in inspector.get_columns(name)],
            "primary": inspector.get_pk_constraint(name),
            "foreign": sorted(inspector.get_foreign_keys(name), key=str),
            "unique": sorted(inspector.get_unique_constraints(name), key=str),
            "indexes": sorted(inspector.get_indexes(name), key=str),
        }
        for name in inspector.get_table_names()
        if name != "alembic_version"
    }


def test_the_known_revisions_are_those_in_the_folder() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    found = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(found)) == migrations.REVISIONS


def test_a_new_database_gets_its_epoch_once(connection: sqlalchemy.Connection) -> None:
    bring_up(connection)
    with connection.begin():
        first = connection.execute(sqlalchemy.select(schema.server.c.epoch)).scalar_one()
    bring_up(connection)
    with connection.begin():
        assert connection.execute(sqlalchemy.select(schema.server.c.epoch)).scalars().all() == [first]


@pytest.mark.parametrize("found", ["9999", "0002_future"])
def test_a_newer_database_is_refused_and_left_alone(connection: sqlalchemy.Connection, found: str) -> None:
    bring_up(connection)
    with connection.begin():
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = ?", (found,))
    with pytest.raises(StorageError, match=found) as caught:
        bring_up(connection)
    assert caught.value.code == "storage_newer"
    with connection.begin():
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one() == found


def test_another_programs_database_is_refused_and_left_alone(connection: sqlalchemy.Connection) -> None:
    with connection.begin():
        connection.exec_driver_sql("CREATE TABLE albums (title TEXT)")
    with pytest.raises(StorageError) as caught:
        bring_up(connection)
    assert caught.value.code == "storage_foreign"
    assert tables(connection) == {"albums"}


def test_a_migration_that_breaks_leaves_nothing_behind(
    connection: sqlalchemy.Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, broken, ignore=shutil.ignore_patterns("__pycache__"))
    script = next((broken / "versions").glob("*.py"))
    script.write_text(script.read_text() + '    raise RuntimeError("half way")\n')
    monkeypatch.setattr(migrations, "__file__", str(broken / "__init__.py"))
    with pytest.raises(RuntimeError, match="half way"):
        bring_up(connection)
    assert tables(connection) == set()
    monkeypatch.undo()
    bring_up(connection)
    assert "hosts" in tables(connection)


@pytest.mark.parametrize(
    ("content", "code"), [(b"this is not a database, it is a text file\n" * 100, "storage_damaged")]
)
async def test_a_file_that_is_no_database_is_said_plainly(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "server.db"
    path.write_bytes(content)
    with pytest.raises(StorageError) as caught:
        async with open_store(path, clock=SystemClock()):
            pass
    assert caught.value.code == code
    assert path.read_bytes() == content


async def test_a_folder_that_is_not_there_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        async with open_store(tmp_path / "no" / "server.db", clock=SystemClock()):
            pass
    assert caught.value.code == "storage_read_only"


async def test_the_file_is_private_and_in_wal_mode(tmp_path: Path) -> None:
    path = tmp_path / "server.db"
    async with open_store(path, clock=SystemClock()) as store:
        assert path.stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "server.db-wal").stat().st_mode & 0o777 == 0o600
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        assert await store.write(lambda tx: [tx.exec_driver_sql(f"PRAGMA {p}").scalar() for p in pragmas]) == [
            "wal",
            2,
            1,
            5000,
        ]
    assert os.listdir(tmp_path) == ["server.db"]  # noqa: PTH208 - after the end, in a test


def test_a_start_with_nothing_to_migrate_does_not_load_alembic(tmp_path: Path) -> None:
    code = f"""
import sys, trio
from pathlib import Path
from restic_manager.runtime.clock import SystemClock
from restic_manager.server.store.writer import open_store
async def main():
    async with open_store(Path({str(tmp_path / "server.db")!r}), clock=SystemClock()):
        pass
trio.run(main)
print("alembic" in sys.modules)
"""
    for expected in ("True", "False"):
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
        assert ran.stdout.strip() == expected


def test_data_of_every_older_revision_comes_through(tmp_path: Path) -> None:
    """Each revision's database, with one row in every table, is brought to the newest and keeps every value."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    for revision in migrations.REVISIONS:
        path = tmp_path / f"{revision}.db"
        with engine.writing_engine(path).connect() as connection:
            with connection.begin():
                config.attributes["connection"] = connection
                command.upgrade(config, revision)
                fill(connection)
                before = content(connection)
            bring_up(connection)
            with connection.begin():
                after = content(connection)
        for table, rows in before.items():
            for row in rows:
                assert any(row.items() <= kept.items() for kept in after[table]), table
        with contextlib.closing(sqlite3.connect(path)) as plain:
            assert plain.execute("PRAGMA foreign_key_check").fetchall() == []


def test_fates_of_the_first_release_were_told_by_agents(connection: sqlalchemy.Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    with connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        fill(connection)
    bring_up(connection)
    with connection.begin():
        assert connection.execute(sqlalchemy.select(schema.fates.c.decided_by)).scalars().all() == ["agent"]


def fill(connection: sqlalchemy.Connection) -> None:
    """Put one row into every table, its parents first; every reference points to the parent's row."""
    reflected = sqlalchemy.MetaData()
    reflected.reflect(connection)
    for table in reflected.sorted_tables:
        if table.name == "alembic_version":
            continue
        row: dict[str, Any] = {}
        for column in table.columns:
            kind = column.type.python_type
            value: Any = 1 if kind in {int, float, bool} else b"x" if kind is bytes else "1"
            row[column.name] = value
        connection.execute(table.insert().values(row))


def content(connection: sqlalchemy.Connection) -> dict[str, list[dict[str, Any]]]:
    reflected = sqlalchemy.MetaData()
    reflected.reflect(connection)
    return {
        table.name: [dict(row) for row in connection.execute(sqlalchemy.select(table)).mappings()]
        for table in reflected.sorted_tables
        if table.name != "alembic_version"
    }
