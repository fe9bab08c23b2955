"""Sealed values and their key file: what opens, what does not, and how a wrong key is told."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from restic_manager.domain.errors import StorageError
from restic_manager.secrets import Sealer, open_sealer


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "secret.key"


def test_a_sealed_value_opens_for_its_owner_and_purpose_only() -> None:
    sealer = Sealer(b"k" * 32)
    sealed = sealer.seal("repo-1", "password", b"hunter2")
    assert sealer.unseal("repo-1", "password", sealed) == b"hunter2"
    assert b"hunter2" not in sealed
    for owner, purpose in (("repo-2", "password"), ("repo-1", "env"), ("repo-1p", "assword"), ("", "")):
        with pytest.raises(StorageError) as caught:
            sealer.unseal(owner, purpose, sealed)
        assert caught.value.code == "storage_damaged"


def test_the_same_secret_is_sealed_differently_each_time() -> None:
    sealer = Sealer(b"k" * 32)
    assert sealer.seal("a", "b", b"c") != sealer.seal("a", "b", b"c")


@pytest.mark.parametrize("position", [0, 1, 12, 13, -1])
def test_one_changed_byte_does_not_open(position: int) -> None:
    sealer = Sealer(b"k" * 32)
    sealed = bytearray(sealer.seal("a", "b", b"c"))
    sealed[position] ^= 1
    with pytest.raises(StorageError):
        sealer.unseal("a", "b", bytes(sealed))


@pytest.mark.parametrize("sealed", [b"", b"\x01", b"\x01short", b"\x02" + b"x" * 40])
def test_what_is_no_sealed_value_does_not_open(sealed: bytes) -> None:
    with pytest.raises(StorageError):
        Sealer(b"k" * 32).unseal("a", "b", sealed)


def test_the_key_file_is_made_once_and_private(key: Path) -> None:
    sealed = open_sealer(key, create=True).seal("a", "b", b"c")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert [entry.name for entry in key.parent.iterdir()] == ["secret.key"]
    for create in (True, False):
        assert open_sealer(key, create=create).unseal("a", "b", sealed) == b"c"


def test_what_a_crash_left_behind_is_no_key(key: Path) -> None:
    (key.parent / ".secret.key.new").write_text("half a k")
    sealed = open_sealer(key, create=True).seal("a", "b", b"c")
    assert open_sealer(key, create=False).unseal("a", "b", sealed) == b"c"
    assert [entry.name for entry in key.parent.iterdir()] == ["secret.key"]


def test_a_missing_key_is_not_replaced_where_there_are_secrets(key: Path) -> None:
    with pytest.raises(StorageError, match="missing"):
        open_sealer(key, create=False)
    assert not key.exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o610])
def test_a_key_others_may_read_is_refused_with_the_remedy(key: Path, mode: int) -> None:
    open_sealer(key, create=True)
    key.chmod(mode)
    with pytest.raises(StorageError, match=f"chmod 600 {key}"):
        open_sealer(key, create=True)


@pytest.mark.parametrize("text", ["", "rmk1-", "rmk1-AAAA", "rmk1-" + "!" * 44, "rmk1-" + "é" * 44])
def test_a_damaged_key_file_is_said_plainly_and_kept(key: Path, text: str) -> None:
    key.write_text(text)
    key.chmod(0o600)
    with pytest.raises(StorageError, match="does not hold a key"):
        open_sealer(key, create=True)
    assert key.read_text() == text


def test_a_folder_that_is_not_there_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be made"):
        open_sealer(tmp_path / "no" / "secret.key", create=True)


def test_the_key_is_in_no_readable_form() -> None:
    assert "kkkk" not in repr(Sealer(b"k" * 32))


def test_cryptography_is_not_loaded_until_a_value_is_sealed() -> None:
    code = "import sys, restic_manager.secrets; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0
