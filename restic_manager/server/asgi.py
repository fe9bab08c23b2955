"""One HTTP/1.1 connection to an ASGI application, over trio and h11. Owns what a client may take: time, bytes, order.

Small on purpose: no HTTP/2, no WebSockets, one request after the other; TLS is the stream's business (`operators`). It
refuses to know what is asked. A client that is silent, slow, or hangs up ends its own connection; a bug in an answer is
a 500, and logged.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import h11
import trio

from restic_manager.server.peers import SCOPE_KEY, Peer

logger = logging.getLogger(__name__)

READ_SIZE: Final = 64 << 10
LINGER_SECONDS: Final = 1.0
LINGER_BYTES: Final = 8 << 20

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
"""An ASGI application."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one client may take. Times in seconds.

    headers: bytes of a request's line and headers. idle: open without a whole request head. body: from the head to the
    body's last byte. send: how long it may not read.
    """

    headers: int = 32 << 10
    idle: float = 10.0
    body: float = 30.0
    send: float = 60.0


class Connection:
    """One client's connection."""

    def __init__(self, app: App, stream: trio.abc.Stream, limits: Limits, peer: Peer) -> None:
        """Given an application and who to serve, hold them; `serve` does it."""
        self.peer = peer
        self._app = app
        self._stream = stream
        self._limits = limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.headers)
        self._idle: trio.CancelScope | None = None
        self._last = False

    async def serve(self) -> None:
        """Answer requests until the client has no more, misbehaves, or `finish` was called."""
        try:
            while (request := await self._next_request()) is not None:
                await _Exchange(self._app, self, request).run()
                if self._last or self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                    break
                self._http.start_next_cycle()
            if self._http.their_state in {h11.SEND_BODY, h11.ERROR}:
                await self._linger()
        except (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionError):
            logger.debug("operators' door: a client went away")

    def finish(self) -> None:
        """Take no further request: hang up now when idle, after the answer when one is under way."""
        self._last = True
        if self._idle is not None:
            self._idle.cancel()

    # -- for the exchange ----------------------------------------------------------------------------------------------

    @property
    def limits(self) -> Limits:
        """What this client may take."""
        return self._limits

    @property
    def last(self) -> bool:
        """Whether no further request is taken after this one."""
        return self._last

    async def read(self) -> object:
        """Return the next event from the client, ConnectionClosed when it hung up; raise h11.RemoteProtocolError."""
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            if self._http.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self._receive())

    async def gone(self) -> None:
        """Wait until the client hangs up. What it sends meanwhile is kept for later, within the limit of a head."""
        kept = 0
        while kept <= self._limits.headers:
            data = await self._receive()
            if not data:
                self._last = True
                return
            kept += len(data)
            self._http.receive_data(data)

    async def send(self, *events: h11.Event) -> None:
        """Given events, send them at once; raise ConnectionError when the client does not take them in time."""
        data = b"".join(self._http.send(event) or b"" for event in events)
        if not data:
            return
        with trio.move_on_after(self._limits.send) as scope:
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ConnectionAbortedError("the client went away") from error
        if scope.cancelled_caught:
            raise ConnectionAbortedError(f"the client has not read for {self._limits.send:g} s")

    async def _receive(self) -> bytes:
        """Return what came; empty when the client has hung up, in whatever way."""
        try:
            return bytes(await self._stream.receive_some(READ_SIZE))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    # -- its own -------------------------------------------------------------------------------------------------------

    async def _next_request(self) -> h11.Request | None:
        event: object = None
        try:
            with trio.move_on_after(self._limits.idle) as self._idle:
                if not self._last:
                    event = await self.read()
        except h11.RemoteProtocolError as error:
            logger.debug("operators' door: no request: %s", error)
            if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
                await self.send(*_short_answer(error.error_status_hint))
        finally:
            self._idle = None
        return event if isinstance(event, h11.Request) else None

    async def _linger(self) -> None:
        """Let the client read the end of the answer before the socket, with bytes unread, turns it into a reset."""
        with trio.move_on_after(LINGER_SECONDS):
            if isinstance(self._stream, trio.abc.HalfCloseableStream):  # over TLS nobody can hang up by halves
                await self._stream.send_eof()
            left = LINGER_BYTES
            while left > 0 and (data := await self._stream.receive_some(READ_SIZE)):
                left -= len(data)


class _Exchange:
    """One request and its answer."""

    def __init__(self, app: App, connection: Connection, request: h11.Request) -> None:
        self._app = app
        self._connection = connection
        self._request = request
        self._body_deadline = trio.current_time() + connection.limits.body
        self._body_over = False
        self._gone = False
        self._start: h11.Response | None = None
        self._started = False
        self._done = False

    async def run(self) -> None:
        scope = _scope(self._request, self._connection.peer)
        if scope is None:
            await self._connection.send(*_short_answer(400))
            return
        try:
            await self._app(scope, self._receive, self._send)
        except Exception as error:  # the barrier of one request
            if _is_hang_up(error):
                raise ConnectionAbortedError("the client went away") from None
            logger.exception("%s %s failed", scope["method"], scope["path"])
            if self._started:
                raise ConnectionAbortedError("the answer broke off") from None
            await self._connection.send(*_short_answer(500))
            return
        if not self._done:
            if self._gone or self._started:
                raise ConnectionAbortedError("the answer has no end")
            await self._connection.send(*_short_answer(500))

    async def _receive(self) -> dict[str, Any]:
        if not self._body_over:
            return await self._receive_body()
        if not self._gone:
            await self._connection.gone()
            self._gone = True
        return {"type": "http.disconnect"}

    async def _receive_body(self) -> dict[str, Any]:
        event: object = None
        try:
            with trio.move_on_at(self._body_deadline):
                event = await self._connection.read()
        except h11.RemoteProtocolError as error:
            logger.debug("operators' door: a body that is none: %s", error)
        if isinstance(event, h11.Data):
            return {"type": "http.request", "body": bytes(event.data), "more_body": True}
        self._body_over = True
        if isinstance(event, h11.EndOfMessage):
            return {"type": "http.request", "body": b"", "more_body": False}
        self._gone = True
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            if self._connection.last:
                headers.append((b"connection", b"close"))
            self._start = h11.Response(status_code=message["status"], headers=headers)
            return
        if self._start is None:
            raise RuntimeError("an answer's body before its start")
        events: list[h11.Event] = [] if self._started else [self._start]
        body = message.get("body", b"")
        if body and self._request.method != b"HEAD":
            events.append(h11.Data(data=body))
        if not message.get("more_body", False):
            events.append(h11.EndOfMessage())
            self._done = True
        self._started = True
        await self._connection.send(*events)


def _is_hang_up(error: BaseException) -> bool:
    """Whether this, or all there is in this group, is that the client went away."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_hang_up(inner) for inner in error.exceptions)
    return isinstance(error, ConnectionError)


def _scope(request: h11.Request, peer: Peer) -> dict[str, Any] | None:
    """Given a request, return what ASGI tells of it; None when its target is no path."""
    target = bytes(request.target)
    if not target.startswith(b"/"):
        return None
    raw_path, _, query = target.partition(b"?")
    return {
        "type": "http",
        # Not 2.4: by that a followed stream would learn of a hang-up only when it next has something to say.
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": request.http_version.decode("ascii"),
        "method": request.method.decode("ascii"),
        "scheme": "http",
        "path": unquote_to_bytes(raw_path).decode("utf-8", "replace"),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": [(bytes(name), bytes(value)) for name, value in request.headers],
        "client": None,
        "server": None,
        SCOPE_KEY: peer,
    }


def _short_answer(status: int) -> tuple[h11.Event, ...]:
    headers = [("connection", "close"), ("content-length", "0")]
    return h11.Response(status_code=status, headers=headers), h11.EndOfMessage()
