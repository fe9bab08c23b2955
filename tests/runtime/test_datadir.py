"""The data directory: found, made, proven, locked; files replaced whole; the socket's place."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from restic_manager.domain.errors import StorageError
from restic_manager.runtime import datadir

AS_ROOT = os.geteuid() == 0


def test_the_flag_wins_over_the_environment_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"RESTIC_MANAGER_DATA_DIR": "/from/env"}
    assert datadir.default_data_dir("/from/flag", environ) == Path("/from/flag")
    assert datadir.default_data_dir(None, environ) == Path("/from/env")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert datadir.default_data_dir(None, {}) == Path("/var/lib/restic-manager")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/home/joe/.local/state")
    assert datadir.default_data_dir(None, {}) == Path("/home/joe/.local/state/restic-manager")


def test_a_relative_directory_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert datadir.default_data_dir("here/../there", {}) == tmp_path / "there"


def test_a_missing_directory_is_made_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    datadir.prepare(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert list(path.iterdir()) == []
    datadir.prepare(path)


def test_a_directory_that_every_user_can_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(StorageError) as caught:
        datadir.prepare(tmp_path)
    assert "chmod 700" in caught.value.message


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught:
        datadir.prepare(tmp_path / "file")
    assert str(tmp_path / "file") in caught.value.message


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "storage_full"),
        (errno.EDQUOT, "storage_full"),
        (errno.EROFS, "storage_read_only"),
        (5, "storage"),
    ],
)
def test_a_directory_that_cannot_be_written_is_a_clear_error_and_leaves_nothing(
    number: int, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(descriptor: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", fails)
    with pytest.raises(StorageError) as caught:
        datadir.prepare(tmp_path)
    assert caught.value.code == code
    assert str(tmp_path) in caught.value.message
    assert list(tmp_path.iterdir()) == []


HOLD = """
import sys, pathlib
from restic_manager.runtime import datadir
with datadir.lock(pathlib.Path(sys.argv[1]), "server"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StorageError) as caught, datadir.lock(tmp_path, "server"):
            pytest.fail("got the lock")
        assert caught.value.code == "storage_locked"
        assert f"process {holder.pid}" in caught.value.message
        assert str(tmp_path) in caught.value.message
        with datadir.lock(tmp_path, "agent"):  # a server and an agent may share a directory
            pass
        holder.kill()
        holder.wait(timeout=10)
    with datadir.lock(tmp_path, "server"):  # it died without a word: the lock died with it
        assert (tmp_path / "server.lock").read_text() == f"{os.getpid()}\n"


def test_the_lock_is_free_after_the_block(tmp_path: Path) -> None:
    for _ in range(2):
        with datadir.lock(tmp_path, "agent"):
            assert stat.S_IMODE((tmp_path / "agent.lock").stat().st_mode) == 0o600


def test_a_file_is_replaced_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    path.write_bytes(b"old")
    path.chmod(0o644)
    datadir.atomic_write(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["identity.json"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "identity.json"
    datadir.atomic_write(path, b"old")

    def fails(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(StorageError) as caught:
        datadir.atomic_write(path, b"new")
    assert caught.value.code == "storage_full"
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["identity.json"]


def test_both_the_file_and_its_folder_are_on_disk_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        synced.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    datadir.atomic_write(tmp_path / "x", b"1")
    assert synced == ["file", "folder"]


def test_the_socket_is_in_the_data_directory(tmp_path: Path) -> None:
    short = Path("/srv/rm")
    assert datadir.socket_path(short) == short / "server.sock"
    assert datadir.make_socket_path(short, {}) == short / "server.sock"


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rm") as folder:
        yield Path(folder)


def test_too_long_a_path_gets_a_short_one_that_clients_find(tmp_path: Path, run_dir: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    place = datadir.make_socket_path(deep, {"XDG_RUNTIME_DIR": str(run_dir)})
    assert place.parent.parent == run_dir
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    assert datadir.socket_path(deep) == place
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(place))
    assert datadir.make_socket_path(deep, {"XDG_RUNTIME_DIR": str(run_dir)}) == place  # the same after a restart


def test_two_long_directories_do_not_share_a_place(tmp_path: Path, run_dir: Path) -> None:
    places = set()
    for name in "fg":
        deep = tmp_path / (name * 120)
        deep.mkdir()
        places.add(datadir.make_socket_path(deep, {"XDG_RUNTIME_DIR": str(run_dir)}))
    assert len(places) == 2


def test_a_place_that_others_could_have_made_is_refused(tmp_path: Path, run_dir: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    environ = {"XDG_RUNTIME_DIR": str(run_dir)}
    place = datadir.make_socket_path(deep, environ).parent
    place.chmod(0o755)
    with pytest.raises(StorageError) as caught:
        datadir.make_socket_path(deep, environ)
    assert str(place) in caught.value.message
    place.rmdir()
    place.symlink_to(tmp_path)
    with pytest.raises(StorageError):
        datadir.make_socket_path(deep, environ)


@pytest.mark.skipif(AS_ROOT, reason="root may write everywhere")
def test_no_permission_is_a_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError) as caught:
        datadir.prepare(tmp_path / "x")
    assert caught.value.code == "storage_read_only"
