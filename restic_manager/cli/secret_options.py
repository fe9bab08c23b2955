"""The options that say what opens a repository, and what they amount to. Secrets come from files here or are references
to what stands on the hosts; none is ever an argument.

Owns their names and what their help says; where a secret is read from is `secret_input`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from restic_manager.cli.command import OptionSet
from restic_manager.cli.spec_options import value
from restic_manager.domain.errors import InputError

if TYPE_CHECKING:
    from restic_manager.protocol.api import RepoView

_FORMS = "agent-file:/path, agent-env:NAME or agent-command:NAME"


@dataclass(frozen=True, kw_only=True)
class SecretOptions(OptionSet):
    """The password, the login where the repository is kept, and further variables."""

    password_file: Annotated[
        str | None, value("--password-file", "F", "Read the password from this file here; - is standard input.")
    ] = None
    password_from: Annotated[
        str | None,
        value("--password-from", "REF", f"Each host looks the password up itself, the server never sees it: {_FORMS}."),
    ] = None
    user: Annotated[str | None, value("--user", "NAME", "Log in as this user where the repository is kept.")] = None
    user_password_file: Annotated[
        str | None, value("--user-password-file", "F", "Read that user's password (or key) from this file here.")
    ] = None
    user_password_from: Annotated[
        str | None, value("--user-password-from", "REF", "Each host looks that user's password up itself.")
    ] = None
    env_file: Annotated[
        str | None,
        value("--env-file", "F", "Read NAME=VALUE lines that restic needs (AWS_ACCESS_KEY_ID…); - is standard input."),
    ] = None
    env_from: Annotated[
        list[str] | None, value("--env-from", "NAME=REF", "Each host looks this variable up itself; repeat.")
    ] = None


def fields(options: SecretOptions) -> dict[str, Any]:
    """Given the options, return what a request says but for the password; raise InputError, naming the option."""
    from restic_manager.cli.secret_input import STDIN, read_env_file, read_one

    files = {
        "--password-file": options.password_file,
        "--user-password-file": options.user_password_file,
        "--env-file": options.env_file,
    }
    from_stdin = [name for name, file in files.items() if file == STDIN]
    if len(from_stdin) > 1:
        raise InputError(f"{' - and '.join(from_stdin)} -: only one of them can be standard input")
    found: dict[str, Any] = {
        "password_from": options.password_from,
        "user": options.user,
        "user_password_from": options.user_password_from,
        "env": read_env_file(options.env_file),
        "env_from": references_given(options.env_from, "--env-from"),
    }
    if options.user_password_file is not None:
        found["user_password"] = read_one(options.user_password_file, "--user-password-file")
    return found


def references_given(texts: list[str] | None, option: str) -> dict[str, str]:
    """Given `NAME=REF` texts, return references by name; raise InputError, naming the option, for what is none."""
    from restic_manager.domain.references import parse

    found: dict[str, str] = {}
    for text in texts or ():
        name, equals, reference = text.partition("=")
        if not equals or not name.isidentifier() or not name.isascii():
            # What is behind it may be a secret that was meant for a file.
            raise InputError(f"{option}: write NAME=REF, where REF is {_FORMS}")
        if name in found:
            raise InputError(f"{option}: {name} is given twice")
        try:
            parse(reference)
        except InputError as error:
            raise InputError(f"{option} {name}: {error.message}") from None
        found[name] = reference
    return found


def secret_fields(repo: RepoView) -> list[tuple[str, str]]:
    """Given a repository, return what is known of its secrets, as fields of a page: where they are, never what."""
    return [
        ("Password", "sealed" if repo.password_from is None else repo.password_from),
        ("Environment", variables(repo.env_names, repo.env_from)),
    ]


def variables(sealed: tuple[str, ...], references: dict[str, str]) -> str:
    """Given names of sealed variables and references by name, return them line by line."""
    lines = {name: f"{name}=(sealed)" for name in sealed}
    lines |= {name: f"{name} from {reference}" for name, reference in references.items()}
    return "\n".join(lines[name] for name in sorted(lines))
