"""Where a server is, as a URL says it. Decides which URLs are right and what to say about the others; dials nothing."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from restic_manager.domain.errors import InputError

_HELPFUL = {"http": "ws", "https": "wss"}


class ServerUrl(NamedTuple):
    """A server's agents' door: `prefix` is what stands before `/agent` and `/join` (empty, or `/some/path`)."""

    tls: bool
    host: str
    port: int
    prefix: str

    @property
    def host_header(self) -> str:
        """The value of HTTP's Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def parse_server_url(url: str) -> ServerUrl:
    """Given a ws:// or wss:// URL, return its parts; raise InputError, which names the URL without its user part."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise InputError(f"the server URL {url[:200]!r} holds characters a URL cannot have (write the host in ASCII)")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InputError(f"the server URL {_without_user(url)!r} cannot be read: {error}") from None
    shown = _without_user(url)
    if parts.scheme in _HELPFUL:
        better = _HELPFUL[parts.scheme] + shown[len(parts.scheme) :]
        raise InputError(f"the server URL {shown!r} has to begin with ws:// or wss://: did you mean {better!r}?")
    if parts.scheme not in {"ws", "wss"} or not parts.hostname:
        raise InputError(f"the server URL {shown!r} has to look like ws://HOST:PORT or wss://HOST")
    if "@" in parts.netloc:
        raise InputError(f"the server URL {shown!r} must not hold a user or password: an agent joins with a token")
    if parts.query or parts.fragment:
        raise InputError(f"the server URL {shown!r} must not have a query or a fragment")
    if port == 0:
        raise InputError(f"the server URL {shown!r} has port 0")
    tls = parts.scheme == "wss"
    return ServerUrl(tls, parts.hostname, port or (443 if tls else 80), parts.path.rstrip("/"))


def check_pinned_url(url: str) -> None:
    """Given the URL of a server that is known by its certificate's pin, raise InputError unless it has TLS."""
    address = parse_server_url(url)
    if not address.tls:
        raise InputError(
            f"the server is known by its certificate's pin, and {url!r} has no TLS: did you mean 'wss{url[2:]}'?"
        )


def _without_user(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return (scheme + separator + authority.rpartition("@")[2] + slash + path)[:200]
