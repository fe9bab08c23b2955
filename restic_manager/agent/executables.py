"""Programs that the host's owner keeps for this agent, found by name: hooks and commands.

Owns the proof that a file may be run: the name is plain, nobody but root and the agent's own user could have put it
there or changed it, nor any folder on the way to it from the data directory. Refuses to know what it is run for, and
whether the policy lets it be.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from restic_manager.domain.errors import NotPermittedError

HOOKS: Final = "hooks"
COMMANDS: Final = "commands"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ROOT: Final = 0
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def find(folder: Path, name: str) -> Path:
    """Given a folder of the data directory (`hooks`, `commands`) and a program's name, return the program's path.

    Raise NotPermittedError, with the remedy, unless it is a regular file that may be executed, and it, the folder and
    the data directory belong to root or to the agent's user and are writable by nobody else.
    """
    if _NAME.fullmatch(name) is None:
        raise NotPermittedError(
            f"{name[:80]!r} is no program's name: letters, digits, dots, dashes and underscores, at most 64, beginning "
            "with a letter or digit"
        )
    path = folder / name
    for place in (folder.parent, folder):
        _check_owned(place, _look(place, path), wanted=stat.S_ISDIR, what="a folder")
    found = _look(path, path)
    _check_owned(path, found, wanted=stat.S_ISREG, what="a regular file")
    if not found.st_mode & 0o111 or not os.access(path, os.X_OK):
        raise NotPermittedError(f"{path} is not executable: run chmod 700 {path} on the host")
    return path


def _look(place: Path, path: Path) -> os.stat_result:
    try:
        # Not followed: a link's target could be anybody's.
        return place.lstat()
    except FileNotFoundError:
        raise NotPermittedError(
            f"there is no {path} on this host: its administrator puts the program there, owned by root or the agent's "
            "user and writable by nobody else"
        ) from None
    except OSError as error:
        raise NotPermittedError(f"{place} cannot be looked at: {error.strerror}") from None


def _check_owned(place: Path, found: os.stat_result, *, wanted: Callable[[int], bool], what: str) -> None:
    if not wanted(found.st_mode):
        raise NotPermittedError(f"{place} is not {what}: put {what} there (a symbolic link is not followed)")
    if found.st_uid not in {_ROOT, os.geteuid()}:
        raise NotPermittedError(
            f"{place} belongs to user {found.st_uid}, who is neither root nor the agent's user: run "
            f"chown {os.geteuid()} {place} on the host if it is to be trusted"
        )
    if found.st_mode & _OTHERS_WRITE:
        raise NotPermittedError(
            f"{place} is writable by others than its owner: run chmod go-w {place} on the host if it is to be trusted"
        )
