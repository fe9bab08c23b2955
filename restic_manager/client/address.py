"""Where a server answers operators. Owns how that is written, not how it is found, nor what is said there."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from restic_manager.domain.errors import InputError


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server answers operators: a Unix socket, or a TCP host and port with what its paths begin with.

    `origin` says how we came to look there (`--server`, a data directory): the one thing to check when nobody answers.
    `token` is said to a server that is asked over TCP; it is never shown. `pins`: those that its certificate may have;
    without any it has to be one that the system's CAs vouch for.
    """

    path: Path | None = None
    host: str = ""
    port: int = 0
    secure: bool = False
    prefix: str = ""
    origin: str = ""
    token: str | None = field(default=None, repr=False)
    pins: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, *, origin: str = "--server") -> ServerAddress:
        """Given `http://host:port`, `unix:/path` or an absolute path, return the address; raise InputError if none."""
        problem = f"{text!r} ({origin}) is not a server's address: write http://HOST:PORT or the path of its socket"
        if text.startswith(("ws://", "wss://")):
            raise InputError(
                f"{text!r} ({origin}) is where agents dial in: operators ask the server's socket, or http://"
            )
        if text.startswith(("http://", "https://")):
            try:
                parts = urlsplit(text)
                secure = parts.scheme == "https"
                port = parts.port or (443 if secure else 80)
            except ValueError:
                raise InputError(problem) from None
            if not parts.hostname or parts.query or parts.fragment or parts.username is not None:
                raise InputError(problem)
            return cls(host=parts.hostname, port=port, secure=secure, prefix=parts.path.rstrip("/"), origin=origin)
        path = text.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path:
            raise InputError(problem)
        return cls(path=Path(path), origin=origin)

    @property
    def in_clear(self) -> bool:
        """Whether what is said there can be read on the way: plain HTTP to another machine."""
        return self.path is None and not self.secure and not _is_loopback(self.host)

    def __str__(self) -> str:
        """Return it as `--server` takes it."""
        if self.path is not None:
            return str(self.path)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}{self.prefix}"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
