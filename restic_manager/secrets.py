"""Sealing of secrets at rest. Owns the key file and the form of a sealed value.

A sealed value is ChaCha20-Poly1305 under one 256-bit key, bound to the owner's id and a purpose, so that a value moved
to another row does not open. The key is in a file of its own beside the database: a copy of the database alone gives
no secret away. It refuses to know tables and what a secret is for. `cryptography` is imported when first needed.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from restic_manager.domain.errors import StorageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_FORM: Final = b"\x01"
_PREFIX: Final = "rmk1-"


class Sealer:
    """Seals and opens values with one key. Has no readable form of the key."""

    __slots__ = ("_aead", "_key")

    def __init__(self, key: bytes) -> None:
        """Given 32 key bytes, hold them; raise ValueError for any other length."""
        if len(key) != _KEY_BYTES:
            raise ValueError(f"a key has {_KEY_BYTES} bytes, not {len(key)}")
        self._key = key
        self._aead: ChaCha20Poly1305 | None = None

    def seal(self, owner_id: str, purpose: str, plaintext: bytes) -> bytes:
        """Given a secret and whose it is, return it sealed: only the same owner and purpose open it."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _FORM + nonce + self._cipher().encrypt(nonce, plaintext, _bound(owner_id, purpose))

    def unseal(self, owner_id: str, purpose: str, sealed: bytes) -> bytes:
        """Given a sealed value and whose it is, return the secret; raise StorageError if it does not open."""
        from cryptography.exceptions import InvalidTag

        form, nonce, body = sealed[:1], sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        if form == _FORM and len(nonce) == _NONCE_BYTES:
            # suppressed: which of the checks failed would help nobody but somebody who forges values
            with contextlib.suppress(InvalidTag):
                return self._cipher().decrypt(nonce, body, _bound(owner_id, purpose))
        raise StorageError(
            f"the sealed {purpose} of {owner_id} does not open: the key file is not the one it was sealed with, or the "
            "database is damaged; restore both from the same copy",
            code="storage_damaged",
        )

    def _cipher(self) -> ChaCha20Poly1305:
        if self._aead is None:
            from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

            self._aead = ChaCha20Poly1305(self._key)
        return self._aead


def open_sealer(path: Path, *, create: bool) -> Sealer:
    """Given the key file's path, return the sealer of its key; with create=True a missing file is made (0600, fsynced).

    Whoever calls holds the lock of the data directory. Raise StorageError when the file is missing, is readable by
    others, or is no key.
    """
    try:
        mode, text = _read(path)
    except FileNotFoundError:
        if not create:
            raise StorageError(
                f"the key file {path} is missing, and the database holds secrets sealed with it: put the file back "
                "from your copy; without it the repository passwords have to be entered anew",
                code="storage_key",
            ) from None
        return Sealer(_make(path))
    except OSError as error:
        raise StorageError(f"the key file {path} cannot be read: {error.strerror}", code="storage_key") from error
    if mode & 0o077:
        raise StorageError(
            f"the key file {path} has mode {stat.S_IMODE(mode):04o}, so that others may read it: run chmod 600 {path}, "
            "and change the repository passwords if somebody has",
            code="storage_key",
        )
    try:
        return Sealer(base64.b64decode(text.strip().removeprefix(_PREFIX), altchars=b"-_", validate=True))
    except ValueError:
        raise StorageError(
            f"the key file {path} does not hold a key: put it back from your copy", code="storage_key"
        ) from None


def _read(path: Path) -> tuple[int, str]:
    """Return the mode of the opened file itself (not of what the name meant a moment before) and its first bytes."""
    with path.open("rb") as file:
        return os.fstat(file.fileno()).st_mode, file.read(1024).decode("ascii", errors="replace")


def _make(path: Path) -> bytes:
    """Make the key file so that it is either there whole and on disk or not at all; return the key."""
    key = secrets.token_bytes(_KEY_BYTES)
    line = f"{_PREFIX}{base64.urlsafe_b64encode(key).decode('ascii')}\n".encode("ascii")
    new = path.with_name(f".{path.name}.new")
    try:
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(line)
            file.flush()
            os.fsync(descriptor)
        new.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StorageError(
            f"the key file {path} cannot be made ({error.strerror}): check the folder's permissions and free space",
            code="storage_key",
        ) from error
    return key


def _bound(owner_id: str, purpose: str) -> bytes:
    """What a value is bound to, each part with its length, so that no two pairs read the same."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in (owner_id.encode(), purpose.encode()))
