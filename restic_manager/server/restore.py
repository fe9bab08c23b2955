"""Putting a server's copy in place: checked before anything is touched, the old files kept, in a new epoch.

Owns the order in which files change places, so that a crash leaves either a data directory that starts or one that says
what to do. The certificate by which hosts know the server is put in place only where there is none: one that is there
may be newer than the copy, and hosts know that. It refuses to know the form of a copy (that is `backup`).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from restic_manager.domain.errors import ConflictError, StorageError
from restic_manager.domain.instants import instant_text
from restic_manager.runtime import datadir
from restic_manager.runtime.keyplace import OWN_KEY, KeyChoice
from restic_manager.secrets import open_sealer
from restic_manager.server.backup import Manifest, unpack
from restic_manager.server.places import CERTIFICATES, DATABASE, KEY_FILE, LOCK, RESTORING
from restic_manager.server.store import copies, engine, events, identity

_SIDE_FILES: Final = ("-wal", "-shm", "-journal")


class Restored(Struct, frozen=True, kw_only=True):
    """What a restore has done. aside: the files that were there before, as they are called now."""

    data_dir: str
    made_at: datetime
    database: copies.Facts
    epoch: str
    aside: list[str]


def restore_copy(file: Path, data_dir: Path, *, force: bool, now: datetime, key: KeyChoice = OWN_KEY) -> Restored:
    """Given a copy and a data directory no server runs on, put the copy in place and return what was done.

    key: where the key is, if the copy does not hold it.
    Raise ConflictError when a server's data is there (and not force), StorageError when a server runs on it, or the
    copy is damaged or newer than this program; then nothing was changed.
    """
    datadir.prepare(data_dir)
    with datadir.lock(data_dir, "server"), _folder_in(data_dir) as folder:
        unfinished = (data_dir / RESTORING).exists()
        there = [path for name in (DATABASE, KEY_FILE) if _holds_anything(path := data_dir / name)]
        if there and not force and not unfinished:
            raise ConflictError(
                f"{data_dir} holds a server's data already ({there[0].name}): name another --data-dir, or say --force "
                "to put the copy in its place (what is there is moved aside, not removed)"
            )
        manifest = unpack(file, folder)
        database = folder / DATABASE
        copies.look_through(database)
        held = KEY_FILE in manifest.files
        if not held and key.own:
            raise StorageError(
                f"{file} does not hold the key, which was kept elsewhere: say where it is now (`key_file` or "
                "`key_command` in the config file's table [server])",
                code="storage_key",
            )
        copies.facts(database, open_sealer(folder / KEY_FILE, create=False, choice=OWN_KEY if held else key))
        epoch = _new_epoch(database, manifest, file, now)
        try:
            aside = _put_in_place(folder, data_dir, f"replaced-{now:%Y%m%dT%H%M%SZ}")
        except OSError as error:
            raise datadir.storage_error(error, f"the data directory {data_dir}") from error
    return Restored(
        data_dir=str(data_dir), made_at=manifest.made_at, database=manifest.database, epoch=epoch, aside=aside
    )


def refuse_what_is_lost(data_dir: Path) -> None:
    """Given the data directory of a server that is to start, raise StorageError if its database is gone.

    A key without a database, or with an empty one, is what is left of a server; beginning anew there would look like
    one that has no hosts.
    """
    if (data_dir / RESTORING).exists():
        raise StorageError(
            f"a restore into {data_dir} was cut off: run `restic-manager server restore FILE` again, or (if what is "
            f"there is as you want it) remove {data_dir / RESTORING}",
            code="storage_restoring",
        )
    database, key = data_dir / DATABASE, data_dir / KEY_FILE
    if key.exists() and not _holds_anything(database):
        what = "is empty" if database.exists() else "is gone"
        raise StorageError(
            f"the database {database} {what}, and its key {key} is there: put a copy in place with `restic-manager "
            f"server restore FILE --force`; or, to begin with no hosts at all, move {key.name} away",
            code="storage_lost",
        )


def _holds_anything(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _new_epoch(database: Path, manifest: Manifest, file: Path, now: datetime) -> str:
    """Give the unpacked database its new epoch; return that."""
    writing = engine.writing_engine(database)
    with engine.explaining(database), writing.connect() as connection:
        with connection.begin():
            detail = f"from {file.name}, made at {instant_text(manifest.made_at)}"
            events.record(connection, now=now, actor="operator", what="restored", detail=detail)
            epoch = identity.new_epoch(connection, now=now, reason=f"the database was restored {detail}")
        # One file is what changes places: nothing of it may be left in a second one.
        raw: Any = connection.connection.driver_connection
        raw.execute("PRAGMA journal_mode=DELETE")
    writing.dispose()
    return epoch


def _put_in_place(folder: Path, data_dir: Path, suffix: str) -> list[str]:
    """Exchange the files; while it is under way a mark keeps servers from starting on half of it."""
    datadir.atomic_write(data_dir / RESTORING, b"`restic-manager server restore` is at work, or was cut off\n")
    aside = []
    for name in (DATABASE, KEY_FILE):
        for end in (*_SIDE_FILES, "") if name == DATABASE else ("",):
            old = data_dir / (name + end)
            if old.exists():
                kept = data_dir / f"{name}.{suffix}{end}"
                old.replace(kept)
                aside.append(str(kept))
    if not any((data_dir / name).exists() for name in CERTIFICATES):
        for name in CERTIFICATES:
            if (folder / name).exists():
                (folder / name).replace(data_dir / name)
    for name in (KEY_FILE, DATABASE):
        if (folder / name).exists():
            (folder / name).replace(data_dir / name)
    _give_to_owner(data_dir)
    datadir.sync_folder(data_dir)
    (data_dir / RESTORING).unlink()
    datadir.sync_folder(data_dir)
    return aside


def _give_to_owner(data_dir: Path) -> None:
    """Where root restores for a server that runs as another user, what was made has to be that user's."""
    owner = data_dir.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    for name in (KEY_FILE, DATABASE, LOCK, *CERTIFICATES):
        if (data_dir / name).exists():
            os.chown(data_dir / name, owner.st_uid, owner.st_gid)


@contextlib.contextmanager
def _folder_in(data_dir: Path) -> Iterator[Path]:
    try:
        with tempfile.TemporaryDirectory(prefix=".restoring.", dir=data_dir) as name:
            yield Path(name)
    except OSError as error:
        raise datadir.storage_error(error, f"the data directory {data_dir}") from error
