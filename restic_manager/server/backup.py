"""The server's own copy, in one file: the database as of one moment, the key its secrets are sealed with, the
certificate by which hosts know it (if it has its own), a manifest.

Owns the form of the file: a plain tar, so that anybody can look into it without this program. Making one asks nothing
of a running server but a reading transaction. It holds the key: whoever has the file can open every repository.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Final

import msgspec
from msgspec import Struct

from restic_manager import __version__
from restic_manager.domain.errors import ConflictError, InputError, StorageError
from restic_manager.domain.model import Instant
from restic_manager.runtime import datadir
from restic_manager.runtime.keyplace import OWN_KEY, KeyChoice
from restic_manager.secrets import open_sealer
from restic_manager.server.places import CERTIFICATES, DATABASE, KEY_FILE
from restic_manager.server.store import copies

_MANIFEST: Final = "manifest.json"
_FORM: Final = 1
_MANIFEST_LIMIT: Final = 1 << 20
_PIECE: Final = 1 << 20


class Member(Struct, frozen=True, kw_only=True):
    """One file in the copy: its bytes and their SHA-256."""

    size: int
    sha256: str


class Manifest(Struct, frozen=True, kw_only=True):
    """What a copy is: when and by which program it was made, and what is in it."""

    form: int
    made_at: Instant
    program: str
    database: copies.Facts
    files: dict[str, Member]


def make_copy(data_dir: Path, target: Path, *, force: bool, now: datetime, key: KeyChoice = OWN_KEY) -> Manifest:
    """Given a server's data directory and a path, write its copy there, whole or not at all, and return what is in it.

    key: where the key is; one that is kept elsewhere is not in the copy.
    The server may run. Raise ConflictError when there is something at the path already (and not force), StorageError
    when the directory holds no server's data, it is damaged, or the copy cannot be written.
    """
    if target.is_dir():
        raise InputError(f"{target} is a folder: name the file that is to be written")
    if target.exists() and not force:
        raise ConflictError(f"{target} is there already: name another file, or say --force to replace it")
    if not (data_dir / DATABASE).exists():
        raise StorageError(
            f"there is no server's database in {data_dir}: name its data directory with --data-dir",
            code="storage_missing",
        )
    with _folder_beside(target) as folder:
        database, facts = _copy_database(data_dir, folder, key)
        members = [database, *([folder / KEY_FILE] if key.own else []), *_copy_certificates(data_dir, folder)]
        manifest = Manifest(
            form=_FORM,
            made_at=now,
            program=__version__,
            database=facts,
            files={path.name: _member(path) for path in members},
        )
        whole = folder / "copy"
        with _private(whole) as file:
            _write(file, manifest, members, now)
        whole.replace(target)
        datadir.sync_folder(target.parent)
    return manifest


def _copy_database(data_dir: Path, folder: Path, key: KeyChoice) -> tuple[Path, copies.Facts]:
    """Copy database and key so that they fit, and return the copy and what it holds. Between one and the other the key
    may be changed: then both are copied once more.
    """
    database = folder / DATABASE
    for last in (False, True):
        open_sealer(data_dir / KEY_FILE, create=False, choice=key)  # what is wrong with it is said before the work
        database.unlink(missing_ok=True)
        copies.copy_database(data_dir / DATABASE, database)
        copies.look_through(database)
        if key.own:
            (folder / KEY_FILE).unlink(missing_ok=True)
            _copy_private(data_dir / KEY_FILE, folder / KEY_FILE)
        try:
            return database, copies.facts(database, open_sealer(folder / KEY_FILE, create=False, choice=key))
        except StorageError as error:
            if last or error.code != "storage_key":
                raise
    raise AssertionError("the last try returns or raises")


def _copy_private(source: Path, target: Path) -> None:
    with _private(target) as file:
        file.write(source.read_bytes())


def unpack(file: Path, folder: Path) -> Manifest:
    """Given a copy and an empty folder, write its files there, checked, and return its manifest; raise StorageError."""
    try:
        with file.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:") as archive:
            manifest = _manifest(archive, file)
            if not {DATABASE} <= set(manifest.files) <= {DATABASE, KEY_FILE, *CERTIFICATES}:
                raise _damaged(file, f"it holds {', '.join(sorted(manifest.files))}")
            for name, member in manifest.files.items():
                with _private(folder / name) as target:
                    source = _inside(archive, name, file)
                    shutil.copyfileobj(source, target, _PIECE)
                if _member(folder / name) != member:
                    raise _damaged(file, f"{name} in it is not what was written")
    except FileNotFoundError as error:
        raise StorageError(f"there is no file {file}", code="storage_missing") from error
    except tarfile.TarError as error:
        raise _damaged(file, str(error)) from error
    except OSError as error:
        raise datadir.storage_error(error, f"{file}, unpacked in {folder},") from error
    return manifest


def _copy_certificates(data_dir: Path, folder: Path) -> Iterator[Path]:
    """Copy what there is. The next one first: a server that shows it meanwhile has then at worst copied it twice."""
    for name in reversed(CERTIFICATES):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(data_dir / name, folder / name)
            yield folder / name


def _manifest(archive: tarfile.TarFile, file: Path) -> Manifest:
    raw = _inside(archive, _MANIFEST, file).read(_MANIFEST_LIMIT)
    try:
        form = msgspec.json.decode(raw, type=dict[str, msgspec.Raw]).get("form", msgspec.Raw(b"null"))
        if bytes(form) != str(_FORM).encode():
            raise StorageError(
                f"{file} was made by a newer restic-manager (form {bytes(form).decode()[:20]}): install that version "
                "or a later one",
                code="storage_newer",
            )
        return msgspec.json.decode(raw, type=Manifest)
    except msgspec.DecodeError as error:
        raise _damaged(file, f"its manifest: {error}") from error


def _inside(archive: tarfile.TarFile, name: str, file: Path) -> IO[bytes]:
    try:
        found = archive.extractfile(name)
    except KeyError:
        found = None
    if found is None:
        raise _damaged(file, f"there is no {name} in it")
    return found


def _damaged(file: Path, why: str) -> StorageError:
    return StorageError(f"{file} is not a whole copy of a server ({why}): use another one", code="storage_damaged")


def _write(file: IO[bytes], manifest: Manifest, members: list[Path], now: datetime) -> None:
    with tarfile.open(fileobj=file, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
        archive.addfile(_entry(_MANIFEST, len(text), now), io.BytesIO(text))
        for path in members:
            with path.open("rb") as source:
                archive.addfile(_entry(path.name, manifest.files[path.name].size, now), source)


def _entry(name: str, size: int, now: datetime) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o600, int(now.timestamp())
    return entry


def _member(path: Path) -> Member:
    with path.open("rb") as file:
        return Member(size=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


@contextlib.contextmanager
def _private(path: Path) -> Iterator[IO[bytes]]:
    """Make a new file for this user alone, on disk when the block ends."""
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _folder_beside(target: Path) -> Iterator[Path]:
    """Hand out a folder for this user alone on the target's own file system; it goes with the block."""
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as name:
            yield Path(name)
    except OSError as error:
        raise datadir.storage_error(error, f"the copy {target}") from error
