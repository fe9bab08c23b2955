"""Secrets into a command: from a file, standard input, the environment or a prompt; never from argv.

Owns where a repository's password and environment are read from, and in which order. It refuses to know where they go.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from restic_manager.cli.render import Screen
from restic_manager.domain.errors import InputError

STDIN = "-"
PASSWORD_VARIABLE = "RESTIC_PASSWORD"  # noqa: S105 - the name of a variable
_MOST_BYTES = 1_048_576


def read_password(screen: Screen, *, file: str | None, generate: bool) -> str | None:
    """Given the options, return the password, None if the server shall make one; raise InputError without any.

    Without an option: RESTIC_PASSWORD, which restic itself would use, and it is said so; else a prompt on a terminal.
    """
    if file is not None and generate:
        raise InputError("--password-file and --generate-password: choose one")
    if generate:
        return None
    if file is not None:
        # As restic does with its own password file.
        password = read_secret(file, "--password-file").strip()
        source = "standard input" if file == STDIN else file
    elif PASSWORD_VARIABLE in os.environ:
        password, source = os.environ[PASSWORD_VARIABLE], PASSWORD_VARIABLE
        screen.note(f"taking the password from {PASSWORD_VARIABLE}")
    elif screen.may_ask:
        password, source = _prompt(), "what was typed"
    else:
        raise InputError(
            "no password for the repository: give --password-file FILE (- for standard input), or --generate-password"
            f" for a new repository, or set {PASSWORD_VARIABLE}"
        )
    if not password:
        raise InputError(f"the password is empty ({source}): restic takes no empty password")
    return password


def read_one(file: str, option: str) -> str:
    """Given a file (`-`: standard input) and the option that named it, return the one secret in it; raise InputError
    for an empty one. Spaces and line ends around it do not count.
    """
    secret = read_secret(file, option).strip()
    if not secret:
        raise InputError(f"{option} {file}: there is nothing in it")
    return secret


def read_env_file(file: str | None, option: str = "--env-file") -> dict[str, str]:
    """Given a file of `NAME=VALUE` lines, return them; raise InputError, naming the line, if one is something else.

    Empty lines and `#` lines are left out, `export ` in front and one pair of quotes around a value are taken off.
    Nothing is expanded.
    """
    env: dict[str, str] = {}
    if file is None:
        return env
    for number, raw in enumerate(read_secret(file, option).splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.removeprefix("export ").partition("=")
        name, value = name.strip(), value.strip()
        if not equals or not name.isidentifier() or not name.isascii():
            # The line itself may be a secret: its number must do.
            raise InputError(f"{option} {file}, line {number}: not NAME=VALUE")
        if name in env:
            raise InputError(f"{option} {file}, line {number}: {name} is given twice")
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        env[name] = value
    return env


def _prompt() -> str:
    import getpass

    password = getpass.getpass("repository password: ", stream=sys.stderr)
    if password and getpass.getpass("once more: ", stream=sys.stderr) != password:
        raise InputError("the two passwords differ: nothing was stored")
    return password


def read_secret(file: str, option: str) -> str:
    """Given a file (`-`: standard input) and the option that named it, return its text; raise InputError."""
    try:
        if file == STDIN:
            raw = sys.stdin.buffer.read(_MOST_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                raw = opened.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{option} {file}: {error.strerror or error}") from None
    if len(raw) > _MOST_BYTES:
        raise InputError(f"{option} {file}: longer than 1 MiB, which no secret is")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{option} {file}: not UTF-8 text") from None
