"""Sealed values and their key file: what opens, what does not, and how a wrong key is told."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from restic_manager import secrets as sealing
from restic_manager.domain.errors import InputError, StorageError
from restic_manager.runtime.keyplace import CREDENTIAL, choose_key
from restic_manager.secrets import Sealer, key_text, new_key, open_sealer, read_keys, write_keys


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
    (key.parent / ".secret.key.4711.new").write_text("half a k")
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


def test_values_of_older_keys_open_and_new_ones_name_theirs() -> None:
    old, new = b"o" * 32, b"n" * 32
    nameless = b"\x01" + Sealer(old).seal("a", "b", b"c")[5:]  # as the first release sealed them
    sealed = Sealer(old).seal("a", "b", b"c")
    both = Sealer(new, old)
    for value in (nameless, sealed):
        assert both.unseal("a", "b", value) == b"c"
        assert not both.is_newest(value)
        with pytest.raises(StorageError):
            Sealer(new).unseal("a", "b", value)
    assert both.is_newest(both.seal("a", "b", b"c"))
    changed = Sealer(old)
    changed.take(new)
    assert changed.is_newest(both.seal("a", "b", b"c"))
    assert changed.unseal("a", "b", sealed) == b"c"
    assert changed.keys == 2


def test_a_key_file_may_hold_the_key_before(key: Path) -> None:
    old, new = new_key(), new_key()
    write_keys(key, [new, old])
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert read_keys(key) == (new, old)
    assert open_sealer(key, create=False).unseal("a", "b", Sealer(old).seal("a", "b", b"c")) == b"c"
    key.write_text(f"{key_text(new)}\nrubbish\n")
    with pytest.raises(StorageError, match="does not hold a key") as caught:
        open_sealer(key, create=False)
    assert key_text(new) not in caught.value.message


class TestKeptElsewhere:
    def test_a_file_of_the_administrators(self, key: Path, tmp_path: Path) -> None:
        theirs, secret = tmp_path / "theirs", new_key()
        choice = choose_key({}, file=str(theirs), command=None)
        with pytest.raises(StorageError, match="is missing: put it there"):
            open_sealer(key, create=True, choice=choice)
        theirs.write_text(key_text(secret))
        theirs.chmod(0o640)
        with pytest.raises(StorageError, match="chmod 600"):
            open_sealer(key, create=True, choice=choice)
        theirs.chmod(0o600)
        sealed = Sealer(secret).seal("a", "b", b"c")
        assert open_sealer(key, create=True, choice=choice).unseal("a", "b", sealed) == b"c"
        assert not key.exists()

    def test_a_systemd_credential_whatever_its_mode(self, key: Path, tmp_path: Path) -> None:
        folder, secret = tmp_path / "credentials", new_key()
        folder.mkdir()
        environ = {"CREDENTIALS_DIRECTORY": str(folder)}
        assert choose_key(environ, file=None, command=None).own
        (folder / CREDENTIAL).write_text(key_text(secret) + "\n")
        (folder / CREDENTIAL).chmod(0o444)
        choice = choose_key(environ, file=None, command=None)
        assert (choice.credential, choice.own) == (True, False)
        sealed = Sealer(secret).seal("a", "b", b"c")
        assert open_sealer(key, create=True, choice=choice).unseal("a", "b", sealed) == b"c"
        assert choose_key(environ, file="/x", command=None).file == Path("/x")

    def test_what_a_command_prints(self, key: Path, tmp_path: Path) -> None:
        secret, script = new_key(), tmp_path / "give key"
        script.write_text(f"#!/bin/sh\necho {key_text(secret)}\n")
        script.chmod(0o700)
        choice = choose_key({}, file=None, command=f"'{script}' now")
        assert choice.command == (str(script), "now")
        sealed = Sealer(secret).seal("a", "b", b"c")
        assert open_sealer(key, create=True, choice=choice).unseal("a", "b", sealed) == b"c"
        for text, said in (("echo secret-words >&2; exit 4", "exit code 4"), ("echo nothing", "does not hold a key")):
            script.write_text(f"#!/bin/sh\n{text}\n")
            with pytest.raises(StorageError, match=said) as caught:
                open_sealer(key, create=True, choice=choice)
            assert "secret-words" not in caught.value.message
        script.unlink()
        with pytest.raises(StorageError, match="cannot be started"):
            open_sealer(key, create=True, choice=choice)

    def test_a_command_that_hangs_is_ended(self, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        script = tmp_path / "hang"
        script.write_text("#!/bin/sh\nexec sleep 60\n")
        script.chmod(0o700)
        monkeypatch.setattr(sealing, "_COMMAND_WITHIN", 0.2)
        with pytest.raises(StorageError, match=r"did not end within 0\.2 s"):
            open_sealer(key, create=True, choice=choose_key({}, file=None, command=str(script)))

    @pytest.mark.parametrize(
        ("file", "command", "said"),
        [
            ("/x", "/y", "say only one"),
            (None, "pass show key", "whole path"),
            (None, "", "whole path"),
            (None, "/bin/echo 'x", "key_command: No closing quotation"),
        ],
    )
    def test_what_contradicts_itself(self, file: str | None, command: str | None, said: str) -> None:
        with pytest.raises(InputError, match=said):
            choose_key({}, file=file, command=command)
