"""Where a process finds the key that its secrets are sealed with, from what its administrator said. Opens nothing.

By default a file of its own in the data directory. Or a file that somebody else keeps, what a command prints, or a
systemd credential: then the data directory alone opens nothing, and the key is changed where it is kept.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from restic_manager.domain.errors import InputError

CREDENTIAL: Final = "restic-manager-key"
"""The name of the systemd credential (`LoadCredential=restic-manager-key:/etc/…`)."""
_CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"


@dataclass(frozen=True)
class KeyChoice:
    """At most one of these. credential: the file is systemd's, whose folder keeps others out whatever its mode."""

    file: Path | None = None
    command: tuple[str, ...] = ()
    credential: bool = False

    @property
    def own(self) -> bool:
        """Whether the key is in a file of our own in the data directory."""
        return self.file is None and not self.command

    @property
    def told(self) -> str:
        """Where it is, for people."""
        if self.command:
            return f"what the command {self.command[0]} prints"
        return f"the systemd credential {CREDENTIAL}" if self.credential else f"the file {self.file}"


OWN_KEY: Final = KeyChoice()


def choose_key(environ: Mapping[str, str], *, file: str | None, command: str | None) -> KeyChoice:
    """Given the environment and what was said, return where the key is; raise InputError for what contradicts itself.

    A systemd credential counts where nothing was said.
    """
    if file is not None and command is not None:
        raise InputError("key_file and key_command: say only one of them")
    if file is not None:
        return KeyChoice(file=Path(file).absolute())
    if command is not None:
        return KeyChoice(command=_words(command))
    folder = environ.get(_CREDENTIALS)
    if folder and (Path(folder) / CREDENTIAL).exists():
        return KeyChoice(file=Path(folder) / CREDENTIAL, credential=True)
    return OWN_KEY


def _words(command: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        raise InputError(f"key_command: {error}") from None
    if not words or not words[0].startswith("/"):
        raise InputError("key_command: begin with the program's whole path (no shell reads it)")
    return words
