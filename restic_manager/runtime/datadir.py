"""The data directory: where it is, that it can be used, whose it is now, and how a file in it is replaced whole.

Every fault is a StorageError that names the path and the remedy. It refuses to know what the files mean.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from restic_manager.domain.errors import StorageError

ENVIRONMENT: Final = "RESTIC_MANAGER_DATA_DIR"
ROOTS_OWN: Final = Path("/var/lib/restic-manager")
SOCKET: Final = "server.sock"
_POINTER: Final = "server.sock.path"
_LONGEST_SOCKET: Final = 100
"""A socket's path has at most 107 bytes on Linux, 103 elsewhere."""


def default_data_dir(flag: str | None, environ: Mapping[str, str]) -> Path:
    """Given --data-dir and the environment, return the data directory: the flag's, RESTIC_MANAGER_DATA_DIR's, else
    `/var/lib/restic-manager` for root and the user's state folder for others. Always absolute."""
    named = flag or environ.get(ENVIRONMENT)
    if named:
        return Path(os.path.abspath(Path(named).expanduser()))  # noqa: PTH100 - resolve() would follow a swapped link
    if os.geteuid() == 0:
        return ROOTS_OWN
    import platformdirs

    return platformdirs.user_state_path("restic-manager")


def prepare(path: Path) -> None:
    """Given the data directory, make it (0700) where it is missing, and prove that it can be written."""
    try:
        if not path.is_dir():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.stat().st_mode
        if mode & stat.S_IWOTH:
            raise StorageError(
                f"the data directory {path} can be written by every user: name a folder of its own, or run chmod 700",
                code="storage_open",
            )
        descriptor, probe = tempfile.mkstemp(prefix=".probe.", dir=path)
        try:
            # A full disk takes an empty file, so write something.
            os.write(descriptor, bytes(4096))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            Path(probe).unlink()
    except OSError as error:
        raise storage_error(error, f"the data directory {path}") from error


@contextlib.contextmanager
def lock(path: Path, name: str) -> Iterator[None]:
    """Given the data directory and who wants it (`server`, `agent`), hold it for the block; raise StorageError if
    another process has it, saying which.

    The lock is the kernel's: it ends with the process, however that ends.
    """
    file = path / f"{name}.lock"
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise storage_error(error, f"the lock file {file}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            raise StorageError(
                f"another {name} runs on the data directory {path} (process {holder or 'unknown'}): stop it first, or "
                "name another directory with --data-dir",
                code="storage_locked",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(descriptor)


def atomic_write(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Given a file's path and its content, replace it, whole and on disk: a crash leaves the old one or the new."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, mode)
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            new.replace(path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(error, str(path)) from error


def socket_path(data_dir: Path) -> Path:
    """Given the data directory, return where its server's socket is, running or not."""
    plain = data_dir / SOCKET
    if _fits(plain):
        return plain
    try:
        return Path(os.fsdecode((data_dir / _POINTER).read_bytes()).strip())
    except OSError:
        return plain


def make_socket_path(data_dir: Path, environ: Mapping[str, str]) -> Path:
    """Given the data directory (whose lock the caller holds), return where to bind the socket.

    Too long a path gets a folder (0700) in the user's run directory, and a pointer to it in the data directory.
    """
    plain = data_dir / SOCKET
    pointer = data_dir / _POINTER
    if _fits(plain):
        pointer.unlink(missing_ok=True)
        return plain
    name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    for base in (environ.get("XDG_RUNTIME_DIR"), "/run" if os.geteuid() == 0 else None, tempfile.gettempdir()):
        place = Path(base or "/nowhere", f"restic-manager-{name}")
        if base and Path(base).is_dir() and _fits(place / SOCKET):
            break
    else:
        raise StorageError(
            f"the data directory {data_dir} has too long a name for a socket, and there is no run directory with a "
            "shorter one: name another with --data-dir",
            code="storage_path",
        )
    try:
        with contextlib.suppress(FileExistsError):
            place.mkdir(mode=0o700)
        found = place.lstat()
    except OSError as error:
        raise storage_error(error, f"the run directory {place}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o067:
        # A group may be allowed to pass through (`--socket-group`).
        raise StorageError(f"{place} is not this user's own folder (0700): remove it", code="storage_open")
    atomic_write(pointer, os.fsencode(place / SOCKET))
    return place / SOCKET


def storage_error(error: OSError, what: str) -> StorageError:
    """Given the system's error about something, return ours, with the remedy."""
    reason = error.strerror or str(error)
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageError(f"{what} cannot be written, the disk is full: free some space", code="storage_full")
    if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
        return StorageError(
            f"{what} cannot be written ({reason}): give this user write permission, or name another with --data-dir",
            code="storage_read_only",
        )
    return StorageError(f"{what} cannot be used: {reason}", code="storage")


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= _LONGEST_SOCKET


def sync_folder(path: Path) -> None:
    """Given a folder, return when what was made, renamed or removed in it is on disk; raise OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
