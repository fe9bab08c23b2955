"""Asks an ASGI application in this process, without sockets and without asyncio: one request, one whole answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import msgspec
import trio
from starlette.types import ASGIApp, Message

from restic_manager.server.peers import SCOPE_KEY, Peer


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> str:
        """The code of an error answer."""
        return str(self.json["error"]["code"])

    @property
    def message(self) -> str:
        """The message of an error answer."""
        return str(self.json["error"]["message"])


def socket_user(name: str = "tester") -> Peer:
    """Return a user of the socket."""
    return Peer(user=name, origin="socket (uid 1000, process 1)", network="socket", admitted=True)


async def ask(
    app: ASGIApp,
    method: str,
    target: str,
    body: Any = None,
    *,
    headers: dict[str, str] | None = None,
    peer: Peer | None = None,
    patience: float = 20.0,
    take: Callable[[bytes], None] | None = None,
) -> Answer:
    """Given a request, return the application's whole answer. body: bytes as they are, anything else as JSON.

    peer: who asks; somebody at the socket by default. patience: seconds the whole answer may take. take: is given each
    piece of it as it comes.
    """
    raw = b"" if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
    parts = urlsplit(target)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": parts.path,
        "raw_path": quote(parts.path).encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
        "server": ("unix", None),
        "client": None,
        SCOPE_KEY: peer or socket_user(),
    }
    # In pieces, as a socket would give them.
    pieces = [raw[start : start + 65_536] for start in range(0, len(raw), 65_536)] or [b""]
    status, told, answer = 0, {}, bytearray()

    async def receive() -> Message:
        if not pieces:
            await trio.sleep_forever()
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            told.update({name.decode(): value.decode() for name, value in message["headers"]})
        else:
            answer.extend(message.get("body", b""))
            if take is not None:
                take(message.get("body", b""))

    with trio.fail_after(patience):
        await app(scope, receive, send)
    return Answer(status, told, bytes(answer))
