"""Sealing of secrets at rest. Owns the form of a sealed value, the form of a key, and the key file.

A sealed value is ChaCha20-Poly1305 under one 256-bit key, bound to the owner's id and a purpose, so that a value moved
to another row does not open. It names its key, so that several can be held while one takes the place of another. The
key is in a file of its own beside the database, or elsewhere altogether: a copy of the database alone gives no secret
away. It refuses to know tables and what a secret is for. `cryptography` is imported when first needed.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import secrets
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from restic_manager.domain.errors import StorageError
from restic_manager.runtime.datadir import atomic_write
from restic_manager.runtime.keyplace import OWN_KEY, KeyChoice

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_ID_BYTES: Final = 4
_NAMELESS: Final = b"\x01"
"""The form of values that do not name their key: the first one that was in use."""
_FORM: Final = b"\x02"
_PREFIX: Final = "rmk1-"
_LONGEST: Final = 4_096
_MOST_KEYS: Final = 10
_COMMAND_WITHIN: Final = 30.0
"""Seconds a command may take to print the key."""


class Sealer:
    """Seals values with one key, and opens those of the keys before it as well. Has no readable form of any."""

    __slots__ = ("_aeads", "_keys")

    def __init__(self, key: bytes, *older: bytes) -> None:
        """Given 32 key bytes, and keys that values may still be sealed with, hold them; raise ValueError otherwise."""
        for one in (key, *older):
            if len(one) != _KEY_BYTES:
                raise ValueError(f"a key has {_KEY_BYTES} bytes, not {len(one)}")
        self._keys = (key, *older)
        self._aeads: dict[bytes, ChaCha20Poly1305] = {}

    @property
    def keys(self) -> int:
        """How many keys it holds."""
        return len(self._keys)

    def seal(self, owner_id: str, purpose: str, plaintext: bytes) -> bytes:
        """Given a secret and whose it is, return it sealed: only the same owner and purpose open it."""
        nonce, key = secrets.token_bytes(_NONCE_BYTES), self._keys[0]
        return _FORM + _id(key) + nonce + self._cipher(key).encrypt(nonce, plaintext, _bound(owner_id, purpose))

    def unseal(self, owner_id: str, purpose: str, sealed: bytes) -> bytes:
        """Given a sealed value and whose it is, return the secret; raise StorageError if it does not open."""
        from cryptography.exceptions import InvalidTag

        form, rest = sealed[:1], sealed[1:]
        candidates = self._keys if form == _NAMELESS else ()
        if form == _FORM:
            candidates = tuple(key for key in self._keys if _id(key) == rest[:_ID_BYTES])
            rest = rest[_ID_BYTES:]
        nonce, body = rest[:_NONCE_BYTES], rest[_NONCE_BYTES:]
        for key in candidates if len(nonce) == _NONCE_BYTES else ():
            # suppressed: which of the checks failed would help nobody but somebody who forges values
            with contextlib.suppress(InvalidTag):
                return self._cipher(key).decrypt(nonce, body, _bound(owner_id, purpose))
        raise StorageError(
            f"the sealed {purpose} of {owner_id} does not open: the key file is not the one it was sealed with, or the "
            "database is damaged; restore both from the same copy",
            code="storage_damaged",
        )

    def is_newest(self, sealed: bytes) -> bool:
        """Given a sealed value, return whether it names the key that values are sealed with now."""
        return sealed[: 1 + _ID_BYTES] == _FORM + _id(self._keys[0])

    def take(self, key: bytes) -> None:
        """Given a new key, seal with that from now on; what is sealed with the others still opens."""
        self._keys = (Sealer(key)._keys[0], *self._keys)  # noqa: SLF001 - its own class: the length is checked there

    def _cipher(self, key: bytes) -> ChaCha20Poly1305:
        if key not in self._aeads:
            from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

            self._aeads[key] = ChaCha20Poly1305(key)
        return self._aeads[key]


def new_key() -> bytes:
    """Return a fresh random key."""
    return secrets.token_bytes(_KEY_BYTES)


def key_text(key: bytes) -> str:
    """Given a key, return it as a key file's line, without the line end. Show it to nobody but who is to keep it."""
    return f"{_PREFIX}{base64.urlsafe_b64encode(key).decode('ascii')}"


def open_sealer(path: Path, *, create: bool, choice: KeyChoice = OWN_KEY) -> Sealer:
    """Given our own key file's path, and where the key is if elsewhere, return the sealer of what is there.

    create: our own file is made if it is missing (0600, fsynced). Whoever calls holds the lock of the data directory.
    Raise StorageError when there is no key, or others may read it.
    """
    if choice.command:
        return _sealer(_printed(choice), choice.told)
    if choice.file is not None:
        try:
            return _sealer(_read(choice.file, private=not choice.credential), choice.told)
        except FileNotFoundError:
            raise StorageError(
                f"the key file {choice.file} is missing: put it there (`restic-manager server secrets make-key` prints "
                "a fresh key)",
                code="storage_key",
            ) from None
    try:
        text = _read(path, private=True)
    except FileNotFoundError:
        if not create:
            raise StorageError(
                f"the key file {path} is missing, and the database holds secrets sealed with it: put the file back "
                "from your copy; without it the repository passwords have to be entered anew",
                code="storage_key",
            ) from None
        return Sealer(_make(path))
    return _sealer(text, f"the key file {path}")


def write_keys(path: Path, keys: Sequence[bytes]) -> None:
    """Given our own key file's path and keys, the newest first, put them there, whole and on disk or not at all."""
    try:
        for left in path.parent.glob(f".{path.name}.*new"):  # by a crash; it would be one more place for a key
            left.unlink(missing_ok=True)
        atomic_write(path, "".join(f"{key_text(key)}\n" for key in keys).encode("ascii"))
    except StorageError as error:
        raise StorageError(
            f"the key file {path} cannot be made ({error.message}): check the folder's permissions and free space",
            code="storage_key",
        ) from error


def read_keys(path: Path) -> tuple[bytes, ...]:
    """Given our own key file's path, return its keys, the newest first; raise StorageError if it holds none."""
    return _keys(_read(path, private=True), f"the key file {path}")


def _make(path: Path) -> bytes:
    key = new_key()
    write_keys(path, [key])
    return key


def _read(path: Path, *, private: bool) -> str:
    """Return what the file says; its mode is that of the opened file itself, not of what the name meant before."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_LONGEST).decode("ascii", errors="replace")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(f"the key file {path} cannot be read: {error.strerror}", code="storage_key") from error
    if private and mode & 0o077:
        raise StorageError(
            f"the key file {path} has mode {stat.S_IMODE(mode):04o}, so that others may read it: run chmod 600 {path}, "
            "and change the repository passwords if somebody has",
            code="storage_key",
        )
    return text


def _printed(choice: KeyChoice) -> str:
    try:
        # The administrator's own command, by its whole path, through no shell.
        done = subprocess.run(
            choice.command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMMAND_WITHIN, check=False
        )
    except subprocess.TimeoutExpired:
        why = f"did not end within {_COMMAND_WITHIN:g} s"
    except OSError as error:
        why = f"cannot be started: {error.strerror}"
    else:
        if done.returncode == 0:
            return done.stdout[:_LONGEST].decode("ascii", errors="replace")
        # What it wrote may be about the key: whoever runs it by hand sees it.
        why = f"ended with exit code {done.returncode}"
    raise StorageError(
        f"the key command {choice.command[0]} {why}: run it by hand to see why", code="storage_key"
    ) from (None)


def _sealer(text: str, told: str) -> Sealer:
    newest, *older = _keys(text, told)
    return Sealer(newest, *older)


def _keys(text: str, told: str) -> tuple[bytes, ...]:
    """Return the keys of a text, a line each; raise StorageError, without showing it, if one is none."""
    lines = text.split()
    try:
        keys = tuple(base64.b64decode(line.removeprefix(_PREFIX), altchars=b"-_", validate=True) for line in lines)
    except ValueError:
        keys = ()
    if not keys or len(keys) > _MOST_KEYS or any(len(key) != _KEY_BYTES for key in keys):
        raise StorageError(f"{told} does not hold a key: put it back from your copy", code="storage_key")
    return keys


def _id(key: bytes) -> bytes:
    """What a value names its key by; says nothing about the key."""
    return hashlib.sha256(b"restic-manager key id\0" + key).digest()[:_ID_BYTES]


def _bound(owner_id: str, purpose: str) -> bytes:
    """What a value is bound to, each part with its length, so that no two pairs read the same."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in (owner_id.encode(), purpose.encode()))
