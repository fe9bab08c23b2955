"""References: where on a host a secret stands that the server never sees. Pure: reads and writes the text of one.

`agent-file:/etc/restic/pw` is the content of a file, `agent-env:NAME` a variable of the agent's own environment,
`agent-command:NAME` what a program from the host's own folder of commands prints. It refuses to know how they are
looked up (`agent.lookup`), and whether a host allows it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Final, NamedTuple

from msgspec import Meta

from restic_manager.domain.errors import InputError

ReferenceText = Annotated[str, Meta(min_length=1, max_length=4_096)]

_FORMS: Final = "agent-file:/path/on/the/host, agent-env:VARIABLE or agent-command:NAME"
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
_COMMAND: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_WHOLE: Final = re.compile(r"/[^/]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_OURS: Final = "RESTIC_MANAGER_"

STEERING: Final = frozenset(
    {
        "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "RESTIC_CACERT",
        "OS_AUTH_URL", "OS_STORAGE_URL", "ST_AUTH", "AZURE_ENDPOINT_SUFFIX", "RESTIC_AWS_ASSUME_ROLE_STS_ENDPOINT",
        "SSH_AUTH_SOCK",
    }
)  # fmt: skip
"""Variables that decide to whom restic shows its credentials. Beside credentials that come from the host they must come
from the host as well: else a stolen server had them sent to itself."""


class Source(StrEnum):
    """Where on the host a secret is looked up."""

    FILE = "agent-file"
    ENV = "agent-env"
    COMMAND = "agent-command"


class Reference(NamedTuple):
    """One reference. value: an absolute path, a variable's name, or a command's name."""

    source: Source
    value: str

    @property
    def text(self) -> str:
        """How it is written."""
        return f"{self.source}:{self.value}"


def parse(text: str) -> Reference:
    """Given a reference as written, return it; raise InputError naming what is wrong and how it is written."""
    word, colon, value = text.partition(":")
    shown = repr(text[:120])
    if not colon or word not in set(Source):
        # What was written here may be the secret itself, which is not shown again.
        raise InputError(f"a reference to a secret on the host is written {_FORMS}")
    source = Source(word)
    if source is Source.FILE:
        if _CONTROL.search(value) or not _WHOLE.match(value) or posixpath.normpath(value) != value:
            raise InputError(f"the reference {shown} names no file: write a whole path, like agent-file:/etc/restic/pw")
    elif source is Source.ENV:
        if not _VARIABLE.fullmatch(value):
            raise InputError(f"the reference {shown} names no variable: write it like agent-env:RESTIC_PASSWORD")
        if value.startswith(_OURS):
            raise InputError(f"the reference {shown} names a variable of restic-manager itself: choose another name")
    elif not _COMMAND.fullmatch(value):
        raise InputError(
            f"the reference {shown} names no command: it is the name of a file in the host's own folder of commands, "
            "like agent-command:restic-password"
        )
    return Reference(source, value)


def check_all(password_from: str | None, env: Iterable[str], env_from: Mapping[str, str]) -> None:
    """Given the references of one repository and the names of the variables it brings itself, raise InputError where
    one is wrong, or a variable comes from both, or those it brings decide who gets to see what comes from the host.
    """
    if password_from is not None:
        parse(password_from)
    for name, text in env_from.items():
        try:
            parse(text)
        except InputError as error:
            raise InputError(f"variable {name[:80]}: {error.message}") from None
    names = set(env)
    if both := sorted(names & env_from.keys()):
        raise InputError(f"the variable {both[0]} is given and comes from the host as well: keep only one")
    if env_from and (steering := sorted(names & STEERING)):
        raise InputError(
            f"{steering[0]} decides who gets to see {', '.join(sorted(env_from))}, which come from the host: set it in "
            f"the agent's own environment, or let it come from the host, too ({steering[0]}=agent-env:{steering[0]})"
        )
