"""How a link comes to be: `dial` at the agent, `answer` at the server's agents' door.

It decides what an HTTP request, a refusal and garbage get for an answer before there is a link. Who may come in is the
caller's `admit`, asked before the WebSocket is accepted. Never `serve_websocket`: one hostile packet ends it, and all
its connections with it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec
import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    WebSocketRequest,
    wrap_client_stream,
    wrap_server_stream,
)

from restic_manager.domain.errors import InputError, RefusedError, UnreachableError, UntrustedError
from restic_manager.link.channel import CLOSE_SECONDS, Link
from restic_manager.link.wire import READ_SIZE, Wire, wired
from restic_manager.protocol.address import ServerUrl, check_pinned_url, parse_server_url
from restic_manager.protocol.codec import Decoder, encode
from restic_manager.protocol.messages import MAX_MESSAGE, Refused
from restic_manager.protocol.session import refusal_error
from restic_manager.runtime.tls import HandshakeError, WrongCertificateError, certificate_pin, secure_client

logger = logging.getLogger(__name__)

AGENT_PATH: Final = "/agent"
JOIN_PATH: Final = "/join"
ANNOUNCE_PATH: Final = "/announce"
READ_AHEAD: Final = 64
"""Messages read before their consumer takes them; then reading stops, and TCP holds the peer back."""

_TLS_RECORD: Final = 0x16
"""What every TLS handshake begins with, and no HTTP request."""
_DONE: Final = (1000, "", 5.0)
_FAILED: Final = (1011, "internal error", 1.0)
_CANCELLED: Final = (1001, "going away", 1.0)
"""How a link is closed whose block is over: code, reason, and how long what is queued may take."""

V = TypeVar("V")
Admission = tuple[V, Decoder] | Refused
"""What is decided about a knock: go on with this value and this decoder, or why not."""


@dataclass(frozen=True)
class Knock:
    """A WebSocket request before it is accepted: what is asked for, with which bearer token, from where."""

    path: str
    bearer: str | None
    remote: str


@asynccontextmanager
async def answer(
    stream: trio.abc.Stream,
    *,
    admit: Callable[[Knock], Awaitable[Admission[V]]],
    remote: str,
    handshake_timeout: float = 10.0,
    paths: tuple[str, ...] = (AGENT_PATH, JOIN_PATH, ANNOUNCE_PATH),
) -> AsyncIterator[tuple[V, Link] | None]:
    """Given an accepted connection and who may come in, yield what `admit` gave and the link; None when none came.

    What is no WebSocket request gets HTTP 400, silence 408 after `handshake_timeout` seconds, another path 404, and a
    refusal 401 with the JSON `refused` body. The connection is closed when the block is over: 1000, 1011 after an error
    in the block, 1001 when it was cancelled.
    """
    async with wired(stream) as wire:
        request = await _read_request(wire, remote, handshake_timeout)
        if request is None:
            yield None
            return
        knock = Knock(path=request.path.partition("?")[0], bearer=_bearer(request), remote=remote)
        if knock.path not in paths:
            await _reject(request, 404, Refused(code="not_found", message="no such path"), remote)
            yield None
            return
        try:
            admission = await admit(knock)
        except Exception:
            await _reject(request, 503, Refused(code="unavailable", message="try again", retry=True), remote)
            raise
        if isinstance(admission, Refused):
            await _reject(request, 401, admission, remote)
            yield None
            return
        value, decoder = admission
        try:
            with trio.fail_after(handshake_timeout):
                connection = await request.accept()
        except (ConnectionClosed, trio.TooSlowError):
            logger.info("agents' door: %s hung up while it was being let in", remote)
            yield None
            return
        link = Link(connection, wire, decoder, remote)
        ending = _CANCELLED
        try:
            yield value, link
            ending = _DONE
        except Exception:
            ending = _FAILED
            raise
        finally:
            await link.end_of_block(*ending)


@asynccontextmanager
async def dial(
    url: str,
    *,
    path: str,
    bearer: str | None,
    decoder: Decoder,
    pins: Sequence[str] = (),
    open_stream: Callable[[], Awaitable[trio.abc.Stream]] | None = None,
    handshake_timeout: float = 10.0,
) -> AsyncIterator[Link]:
    """Given a server's URL, a path, the bearer token (if any) and the pins its certificate may have, yield the link.

    Without pins the system's CAs decide, for a wss:// URL. Raise RefusedError when the server says no and why,
    UnreachableError when it is not there, does not answer in `handshake_timeout` seconds or is no restic-manager server
    (UntrustedError when it shows another certificate: nothing was said to it), InputError for a URL or token that
    cannot be sent, as a pinned one without TLS.
    """
    address = parse_server_url(url)
    remote = address.host_header
    if bearer is not None and (not bearer or not bearer.isascii() or not bearer.isprintable() or " " in bearer):
        raise InputError("the token holds characters that no token has: copy it again")
    if pins:
        check_pinned_url(url)
    with trio.move_on_after(handshake_timeout) as scope:
        stream = await (open_stream() if open_stream is not None else _connect(address, pins))
    if scope.cancelled_caught:
        raise UnreachableError(f"cannot reach {remote}: no answer within {handshake_timeout:g} s")
    async with wired(stream) as wire:
        with trio.move_on_after(handshake_timeout) as scope:
            wire.on_end = scope.cancel
            connection = await wrap_client_stream(
                wire,  # type: ignore[arg-type] # of a nursery it uses start_soon alone
                wire,  # type: ignore[arg-type] # any stream will do, as in its own tests
                address.host_header,
                address.prefix + path,
                extra_headers=[] if bearer is None else [(b"Authorization", b"Bearer " + bearer.encode("ascii"))],
                message_queue_size=READ_AHEAD,
                max_message_size=MAX_MESSAGE,
                receive_buffer_size=READ_SIZE,
            )
        if scope.cancelled_caught:
            raise _not_linked(remote, wire, handshake_timeout)
        link = Link(connection, wire, decoder, remote)
        ending = _CANCELLED
        try:
            yield link
            ending = _DONE
        except Exception:
            ending = _FAILED
            raise
        finally:
            await link.end_of_block(*ending)


async def shown_pin(url: str, *, handshake_timeout: float = 10.0) -> str:
    """Given a server's URL with TLS, return the pin of the certificate that whoever answers there shows.

    Nothing is said to it, and nothing is believed. Raise UnreachableError.
    """
    address = parse_server_url(url)
    with trio.move_on_after(handshake_timeout):
        try:
            stream = await trio.open_tcp_stream(address.host, address.port)
            return await certificate_pin(stream, address.host)
        except OSError as error:
            raise UnreachableError(f"cannot reach {address.host_header}: {_cause(error)}") from error
        except HandshakeError as error:
            raise UnreachableError(f"cannot reach {address.host_header}: {error}") from error
    raise UnreachableError(f"cannot reach {address.host_header}: no answer within {handshake_timeout:g} s")


async def _read_request(wire: Wire, remote: str, seconds: float) -> WebSocketRequest | None:
    with trio.move_on_after(seconds) as scope:
        wire.on_end = scope.cancel
        return await wrap_server_stream(
            wire,  # type: ignore[arg-type] # of a nursery it uses start_soon alone
            wire,
            message_queue_size=READ_AHEAD,
            max_message_size=MAX_MESSAGE,
            receive_buffer_size=READ_SIZE,
        )
    if wire.peer_gone:
        logger.info("agents' door: %s hung up before it had asked for anything", remote)
    elif wire.ended:
        if wire.first_byte == _TLS_RECORD:
            logger.warning(
                "agents' door: %s speaks TLS, and this port does not: its URL has to begin with ws://", remote
            )
        else:
            logger.info("agents' door: %s sent no WebSocket request: %r", remote, wire.crash)
        wire.last_words = lambda: b"" if wire.sent else _http("400 Bad Request")
    else:
        logger.info("agents' door: %s sent no whole request within %g s", remote, seconds)
        wire.last_words = lambda: b"" if wire.sent else _http("408 Request Timeout")
    return None


async def _reject(request: WebSocketRequest, status: int, refused: Refused, remote: str) -> None:
    logger.info("agents' door: %s refused: %s", remote, refused.code)
    headers = [(b"Content-Type", b"application/json")]
    if status == 401:
        headers.append((b"WWW-Authenticate", b"Bearer"))
    with trio.move_on_after(CLOSE_SECONDS):
        try:
            await request.reject(status, extra_headers=headers, body=encode(refused).encode())
        except ConnectionClosed:
            logger.info("agents' door: %s hung up before it was told", remote)


def _bearer(request: WebSocketRequest) -> str | None:
    for name, value in request.headers:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer":
                return token.strip() or None
    return None


async def _connect(address: ServerUrl, pins: Sequence[str]) -> trio.abc.Stream:
    try:
        stream = await trio.open_tcp_stream(address.host, address.port)
    except OSError as error:
        raise UnreachableError(f"cannot reach {address.host_header}: {_cause(error)}") from error
    if not address.tls:
        return stream
    try:
        return await secure_client(stream, address.host, pins)
    except WrongCertificateError as error:
        raise UntrustedError(f"{address.host_header} is not trusted: {error}", pin=error.pin) from error
    except HandshakeError as error:
        raise UnreachableError(f"cannot reach {address.host_header}: {error}") from error


def _cause(error: BaseException) -> str:
    """Given trio's error, return the plainest reason inside it: the first refusal, the certificate's fault."""
    inner = error.__cause__
    if isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    if isinstance(inner, OSError):
        error = inner
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)) or type(error).__name__


def _not_linked(remote: str, wire: Wire, timeout: float) -> RefusedError | UnreachableError:
    """Given how a handshake failed, return what to raise."""
    crash = wire.crash
    if isinstance(crash, ConnectionRejected):
        try:
            refused = msgspec.json.decode(crash.body or b"", type=Refused)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            return UnreachableError(
                f"{remote} answered HTTP {crash.status_code}: is this the agents' door of a restic-manager server?"
            )
        return refusal_error(refused)
    if crash is not None:
        return UnreachableError(f"{remote} does not answer like a restic-manager server")
    if wire.ended:
        return UnreachableError(f"{remote} hung up without an answer")
    return UnreachableError(f"{remote} did not answer within {timeout:g} s")


def _http(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode("ascii")


def http_refusal(refused: Refused) -> bytes:
    """Given a refusal, return it as an HTTP answer for a connection on which no request could be read: 400."""
    body = encode(refused).encode()
    head = ("HTTP/1.1 400 Bad Request", "Connection: close", "Content-Type: application/json")
    return "\r\n".join((*head, f"Content-Length: {len(body)}", "", "")).encode("ascii") + body
