"""One question and its answer, over HTTP on a Unix socket or TCP.

Owns the connection, its time limits, and how every way of going wrong becomes one of our errors, with the server's own
code where it gave one. It refuses to know which questions there are.

Each question has a connection of its own: an operator asks little, and a connection that went stale between two
questions could not tell whether an order had been taken.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from restic_manager.client.address import ServerAddress
from restic_manager.domain.errors import (
    ConflictError,
    InputError,
    ManagerError,
    NotFoundError,
    NotPermittedError,
    StorageError,
    UnreachableError,
    UntrustedError,
)
from restic_manager.protocol import api
from restic_manager.protocol.jointoken import pin_of
from restic_manager.runtime.trust import client_context

T = TypeVar("T")

_READ_SIZE = 65_536
LOOK_SECONDS = 10.0
"""How long it may take to see who answers at an address."""
_ERRORS_BY_CODE: dict[str, type[ManagerError]] = {
    kind.default_code: kind
    for kind in (ConflictError, InputError, NotFoundError, NotPermittedError, StorageError, UnreachableError)
}
_ERRORS_BY_STATUS: dict[int, type[ManagerError]] = {
    400: InputError,
    401: NotPermittedError,
    403: NotPermittedError,
    404: NotFoundError,
    409: ConflictError,
    413: InputError,
    422: InputError,
    429: NotPermittedError,
    503: StorageError,
    507: StorageError,
}
_KNOWN_EVENTS = frozenset({"log", "gap", "progress", "job", "rows"})


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("restic-manager", timeout=timeout)
        self._path = path
        self._patience = timeout

    def connect(self) -> None:
        """Connect; raise OSError if nobody listens there, TimeoutError if nobody accepts."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # With Python's own timeout a queue that is full for a moment is an error at once (EAGAIN): the kernel waits.
        seconds, rest = divmod(self._patience, 1)
        limit = struct.pack("@ll", int(seconds), int(rest * 1_000_000))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        try:
            self.sock.connect(str(self._path))
        except BlockingIOError as error:
            raise TimeoutError from error
        self.sock.settimeout(self._patience)


class _SecureConnection(http.client.HTTPSConnection):
    """HTTP over TLS, with a server that has one of these pins, or without any one that the system's CAs vouch for."""

    def __init__(self, where: ServerAddress, timeout: float) -> None:
        super().__init__(where.host, where.port, timeout=timeout, context=client_context(pinned=bool(where.pins)))
        self._where = where

    def connect(self) -> None:
        """Connect; raise OSError if that fails, UntrustedError, before anything is said, if somebody else answers."""
        try:
            super().connect()
        except ssl.SSLCertVerificationError as error:
            raise UntrustedError(
                f"the system's CAs do not vouch for the certificate of {self._where} "
                f"({error.verify_message.rstrip('.')}): a server with a certificate of its own is known by its pin, "
                "which `restic-manager server cert show` shows there: say it to `restic-manager login URL --pin PIN`"
            ) from None
        shown = pin_of(self.sock.getpeercert(binary_form=True) or b"")
        if self._where.pins and shown not in self._where.pins:
            self.close()
            expected = " or ".join(self._where.pins)
            raise UntrustedError(
                f"the certificate of {self._where} has the pin {shown}, and expected is {expected}: either somebody is "
                "in between, or the server has another certificate now. Nothing was said to it. See what "
                "`restic-manager server cert show` shows on the server, and run "
                f"`restic-manager login {self._where} --pin PIN` with that",
                pin=shown,
            )


def is_vouched_for(where: ServerAddress, *, timeout: float) -> bool:
    """Given an https:// address, return whether the system's CAs vouch for who answers; raise UnreachableError."""
    try:
        connection = _SecureConnection(where, timeout)
        connection.connect()
    except UntrustedError:
        return False
    except OSError as error:
        raise UnreachableError(f"the server at {where} does not answer: {error.strerror or error}") from error
    connection.close()
    return True


def shown_pin(where: ServerAddress, *, timeout: float) -> str:
    """Given an https:// address, return the pin of whoever answers there, believed or not; raise UnreachableError."""
    try:
        with (
            socket.create_connection((where.host, where.port), timeout=timeout) as plain,
            client_context(pinned=True).wrap_socket(plain, server_hostname=where.host) as secured,
        ):
            return pin_of(secured.getpeercert(binary_form=True) or b"")
    except OSError as error:
        raise UnreachableError(f"the server at {where} does not answer: {error.strerror or error}") from error


class Exchange:
    """How one server is asked."""

    def __init__(self, server: ServerAddress, *, timeout: float) -> None:
        """Given an address and the seconds a question may take, hold them: nothing is connected yet."""
        self.address = server
        self._timeout = timeout

    def ask(self, method: str, path: str, wanted: type[T], request: msgspec.Struct | None = None) -> T:
        """Given a request, return its answer as the wanted type; raise ManagerError if there is none like that."""
        connection = self._connection()
        try:
            answer = self._send(connection, method, path, request)
            body = self._read(answer)
        finally:
            connection.close()
        try:
            return msgspec.json.decode(body, type=wanted)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise self._not_understood(error) from None

    def stream(self, path: str, decoder: msgspec.json.Decoder[T], *, endless: bool) -> Iterator[T]:
        """Given a path, yield the lines of its answer as they come; an endless one may be silent for long."""
        connection = self._connection()
        try:
            answer = self._send(connection, "GET", path, None)
            if endless and connection.sock is not None:
                connection.sock.settimeout(None)
            for line in self._lines(answer):
                event = self._event(decoder, line)
                if event is not None:
                    yield event
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        where = self.address
        if where.path is not None:
            return _SocketConnection(where.path, self._timeout)
        if where.secure:
            return _SecureConnection(where, self._timeout)
        return http.client.HTTPConnection(where.host, where.port, timeout=self._timeout)

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, request: msgspec.Struct | None
    ) -> http.client.HTTPResponse:
        headers: Mapping[str, str] = {"Accept": "application/json", "Connection": "close"}
        body: bytes | None = None
        if self.address.token is not None and self.address.path is None:
            if self.address.in_clear:
                raise InputError(
                    f"{self.address} is not encrypted, and everybody on the way could read the token: ask an https:// "
                    "address, or a port of this machine that an SSH tunnel leads from"
                )
            headers = {**headers, "Authorization": f"Bearer {self.address.token}"}
        if request is not None:
            try:
                body = msgspec.json.encode(request)
            except UnicodeEncodeError as error:
                raise _not_utf8(str(error.object)) from None
            headers = {**headers, "Content-Type": "application/json"}
        try:
            connection.connect()
            if self.address.path is None:
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.request(method, self.address.prefix + path, body=body, headers=headers)
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        if answer.status >= 300:
            raise self._refusal(answer.status, self._read(answer))
        return answer

    def _read(self, answer: http.client.HTTPResponse) -> bytes:
        try:
            return answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error

    def _lines(self, answer: http.client.HTTPResponse) -> Iterator[bytes]:
        """Yield the lines of a stream as they come, without waiting for more than there is."""
        rest: list[bytes] = []
        while True:
            try:
                piece = answer.read1(_READ_SIZE)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise self._unreachable(error) from error
            if not piece:
                break
            head, *others = piece.split(b"\n")
            rest.append(head)
            for other in others:
                yield b"".join(rest)
                rest = [other]
        yield b"".join(rest)

    def _event(self, decoder: msgspec.json.Decoder[T], line: bytes) -> T | None:
        """Return the event of one line; None for an empty one, and for a kind that only a later version knows."""
        if not line.strip():
            return None
        try:
            return decoder.decode(line)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            try:
                kind = msgspec.json.decode(line, type=dict[str, Any]).get("event")
            except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
                kind = None
            if isinstance(kind, str) and kind not in _KNOWN_EVENTS:
                return None
            raise self._not_understood(error) from None

    def _unreachable(self, error: Exception) -> UnreachableError:
        """Return what to say when nobody answers: what was tried, what went wrong, and what to do."""
        where = self.address
        looked = f" (from {where.origin})" if where.origin else ""
        if isinstance(error, PermissionError):
            remedy = "only the user who runs the server may use its socket: run this as that user, or use sudo"
            return UnreachableError(f"the server at {where}{looked} cannot be asked: permission denied; {remedy}")
        if isinstance(error, FileNotFoundError) and where.path is not None:
            why = "there is no such socket"
        elif isinstance(error, ConnectionRefusedError):
            why = "nobody listens there"
        elif isinstance(error, TimeoutError):
            why = f"no answer within {self._timeout:g} s"
        elif isinstance(error, http.client.HTTPException):
            why = f"the connection broke off ({type(error).__name__})"
        elif isinstance(error, ssl.SSLError):
            why = f"what it speaks is no TLS ({(error.reason or 'unknown').replace('_', ' ').lower()})"
        else:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        remedy = "is `restic-manager server` running? --data-dir or --server say where to look"
        return UnreachableError(f"the server at {where}{looked} does not answer: {why}; {remedy}")

    def _refusal(self, status: int, body: bytes) -> ManagerError:
        """Given an answer that is not 2xx, return the error it stands for, with the server's own code."""
        try:
            said = msgspec.json.decode(body, type=api.ErrorAnswer).error
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return ManagerError(
                f"{self.address} answered HTTP {status} in a way restic-manager does not: is it a restic-manager "
                "server's operators' address?",
                code="bad_answer",
            )
        kind = _ERRORS_BY_CODE.get(said.code) or _ERRORS_BY_STATUS.get(status, ManagerError)
        return kind(said.message, code=said.code)

    def _not_understood(self, error: Exception) -> ManagerError:
        return ManagerError(
            f"the answer of {self.address} is not understood ({error}): are server and command of the same version?",
            code="bad_answer",
        )


def part(ref: str, what: str) -> str:
    """Given a name or id prefix, return it as one part of a path; raise InputError if it can be neither."""
    if ref in {"", ".", ".."}:
        raise InputError(f"{ref!r} is not a {what}: give its name, or the start of its id")
    try:
        return quote(ref, safe="")
    except UnicodeEncodeError:
        raise _not_utf8(ref) from None


def query_text(asked: Mapping[str, object]) -> str:
    """Given names and values, return them as a URL's query; raise InputError if one is no UTF-8."""
    try:
        return urlencode(asked)
    except UnicodeEncodeError as error:
        raise _not_utf8(str(error.object)) from None


def _not_utf8(text: str) -> InputError:
    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return InputError(f"'{shown}' is not UTF-8 text: only paths may be that; write it in UTF-8")
