"""Looking secrets up on the host: from references in an order to the access that restic is run with. Promise 3.

The server that sent a reference never sees what it stands for. Owns which files may hold a secret: one line, nobody
else's to read, and none of the agent's own. Commands come by name from the host's own folder, if its policy allows
them. It refuses to know what a secret opens, and keeps none.
"""

from __future__ import annotations

import logging
import os
import signal
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NoReturn

import trio
from msgspec.structs import replace

from restic_manager.domain import references
from restic_manager.domain.errors import ManagerError
from restic_manager.domain.model import RepoAccess
from restic_manager.domain.references import Reference, Source
from restic_manager.restic.capture import capture
from restic_manager.restic.command import Command
from restic_manager.restic.process import SpawnError
from restic_manager.runtime.redact import Redactor

logger = logging.getLogger(__name__)

SECRETS: Final = "secrets"
"""The folder of the data directory whose files may be referred to; the agent's own beside it may not."""
LONGEST: Final = 4_096
"""Characters a secret may have: as many as `RepoAccess` takes of a password."""
COMMAND_WITHIN: Final = 30.0
"""Seconds a command may take to print a secret."""
_FILE_WITHIN: Final = 10.0
_PASSED: Final = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR")


class SecretMissingError(ManagerError):
    """A reference leads to no secret on this host. The message names it and the remedy, never what was found."""

    default_code = "secret_missing"


class Lookup:
    """Looks references up on this host."""

    def __init__(
        self,
        *,
        data_dir: Path,
        environ: Mapping[str, str],
        find_command: Callable[[str], Path],
        redactor: Redactor | None = None,
    ) -> None:
        """environ: the agent's own. find_command: given a command's name, returns its path if it may be run, or raises
        NotPermittedError. redactor: of this process; it is told what was found.
        """
        self._data_dir = data_dir
        self._environ = environ
        self._find_command = find_command
        self._redactor = redactor

    async def open(self, access: RepoAccess) -> RepoAccess:
        """Given a repository's access, return it with every reference replaced by what it stands for on this host.

        Raise SecretMissingError where there is nothing, InputError for what is no reference, NotPermittedError for a
        command that this host does not allow.
        """
        if not access.referenced:
            self._learn(access)
            return access
        references.check_all(access.password_from, access.env, access.env_from)
        found: dict[str, str] = {}
        for text in (*((access.password_from,) if access.password_from else ()), *access.env_from.values()):
            if text not in found:
                found[text] = await self._look_up(references.parse(text))
        opened = replace(
            access,
            password=found[access.password_from] if access.password_from else access.password,
            password_from=None,
            env={**access.env, **{name: found[text] for name, text in access.env_from.items()}},
            env_from={},
        )
        self._learn(opened, *found.values())
        return opened

    def _learn(self, access: RepoAccess, *more: str) -> None:
        if self._redactor is not None:
            self._redactor.add(*([access.password] if access.password else ()), *more)

    async def _look_up(self, reference: Reference) -> str:
        if reference.source is Source.FILE:
            raw = await self._file(reference)
        elif reference.source is Source.ENV:
            raw = self._variable(reference)
        else:
            raw = await self._command(reference)
        secret = raw.strip()
        if not secret:
            _missing(reference, "it is empty")
        if len(secret) > LONGEST or "\n" in secret or "\0" in secret:
            # A key or a list of accounts is not what a repository is opened with: a server that asks for one is wrong.
            _missing(reference, f"a secret is one line of at most {LONGEST} characters, and that is not what is there")
        return secret

    def _variable(self, reference: Reference) -> str:
        if reference.value not in self._environ:
            _missing(reference, "the agent's environment has no such variable: set it where the agent is started")
        return self._environ[reference.value]

    async def _file(self, reference: Reference) -> str:
        raw = None
        with trio.move_on_after(_FILE_WITHIN):
            raw = await trio.to_thread.run_sync(self._read, reference, abandon_on_cancel=True)
        if raw is None:
            _missing(reference, f"it could not be read within {_FILE_WITHIN:g} s: is its file system there?")
        return raw

    def _read(self, reference: Reference) -> str:
        try:
            real = Path(reference.value).resolve(strict=True)
            own = self._data_dir.resolve()
            if real.is_relative_to(own) and not real.is_relative_to(own / SECRETS):
                _missing(reference, f"the agent's own files are none of its: put it elsewhere, or into {own / SECRETS}")
            descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb") as file:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode):
                    _missing(reference, "it is no regular file")
                if found.st_mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
                    _missing(
                        reference,
                        f"others may read or change it: run chmod 600 {real}, and change the secret if somebody has",
                    )
                raw = file.read(LONGEST * 4 + 2)
        except FileNotFoundError:
            _missing(reference, "there is no such file: write the secret into it, for the agent's user only")
        except (OSError, RuntimeError) as error:
            said = error.strerror if isinstance(error, OSError) else "its links go round in circles"
            _missing(reference, f"it cannot be read: {said}")
        return _text(reference, raw)

    async def _command(self, reference: Reference) -> str:
        path = await trio.to_thread.run_sync(self._find_command, reference.value)
        env = {name: self._environ[name] for name in _PASSED if name in self._environ}
        try:
            answer = await capture(
                Command((os.fsencode(path),), env),
                within=COMMAND_WITHIN,
                stop_signal=signal.SIGTERM,
                most=LONGEST * 4 + 2,
            )
        except SpawnError as error:
            _missing(reference, f"{path} cannot be started: {error.message}")
        if answer.timed_out:
            _missing(reference, f"{path} did not end within {COMMAND_WITHIN:g} s")
        if answer.exit.code != 0:
            # What it wrote may be the secret, or about it: only who is on the host is to see that.
            how = f"exit code {answer.exit.code}" if answer.exit.signal is None else f"signal {answer.exit.signal}"
            _missing(reference, f"{path} failed ({how}): run it on the host as the agent's user to see why")
        return _text(reference, answer.stdout)


def _text(reference: Reference, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        _missing(reference, "it is not UTF-8 text")


def _missing(reference: Reference, why: str) -> NoReturn:
    raise SecretMissingError(f"{reference.text} gives no secret on this host: {why}") from None
