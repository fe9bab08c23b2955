"""Servers that this user has logged in to: a name, an address, a token each; and which one is asked by default.

Owns the file, which is this user's alone (0600 in a 0700 folder). It refuses to know servers, and who chooses one.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from restic_manager.domain.errors import InputError, NotFoundError, StorageError

FILE: Final = "contexts.json"
_MOST_BYTES: Final = 1 << 20


class Context(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One server: its address as `--server` takes it, this user's token there, and the pins of its certificate.

    pins: none where the system's CAs vouch for it, or where it speaks no TLS.
    """

    server: str
    token: Annotated[str, Meta(min_length=1)]
    pins: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return it without the token: this may end up in a traceback."""
        return f"Context(server={self.server!r})"


class Contexts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of them by name. current: the one that is asked when nothing else is said; None for the local socket."""

    current: str | None = None
    contexts: dict[str, Context] = {}

    def get(self, name: str) -> Context:
        """Given a name, return the context; raise NotFoundError if there is none."""
        found = self.contexts.get(name)
        if found is None:
            there = ", ".join(sorted(self.contexts)) or "none at all"
            raise NotFoundError(
                f"there is no context {name!r}: there is {there} (`restic-manager login URL` makes one)"
            )
        return found

    def at(self, server: str) -> Context | None:
        """Given a server's address, return what was kept for it, None if nothing was."""
        return next((one for one in self.contexts.values() if one.server == server), None)


def default_folder() -> Path:
    """Return this user's folder of configuration for this program."""
    import platformdirs

    return platformdirs.user_config_path("restic-manager")


def load(folder: Path) -> Contexts:
    """Given the folder, return what is kept there; raise StorageError if others could read it or it is damaged."""
    path = folder / FILE
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise StorageError(
                    f"{path} holds tokens and can be read by others: run `chmod 600 {path}`, and if others may have "
                    "read it, have its tokens revoked",
                    code="storage_open",
                )
            raw = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return Contexts()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        found = msgspec.json.decode(raw, type=Contexts)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # What it says exactly could be a token.
        raise StorageError(
            f"{path} is damaged: remove it, and log in again (`restic-manager login URL`)", code="storage_damaged"
        ) from None
    return found


def save(folder: Path, contexts: Contexts) -> None:
    """Given the folder, keep these contexts there, for this user alone, whole or not at all; raise StorageError."""
    path = folder / FILE
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, new = tempfile.mkstemp(prefix=f".{FILE}.", dir=folder)  # 0600 by itself
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(contexts), indent=2) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            Path(new).replace(path)
        except BaseException:
            Path(new).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from None


def check_context_name(name: str) -> str:
    """Given a name for a context, return it; raise InputError if it cannot be one."""
    if not name or len(name) > 63 or not all(each.isascii() and (each.isalnum() or each in "._-:") for each in name):
        raise InputError(f"{name[:80]!r} is not a context's name: use up to 63 of A-Z a-z 0-9 . _ - :")
    return name
