"""The operator's client: every question and order of `protocol/api.py`, asked of one server over HTTP.

Owns how an operator reaches a server (a Unix socket or an HTTP URL), and how an answer becomes a value or one of our
errors. Small and synchronous, for the command line, for scripts and for tests. It refuses to know terminals, exit codes
and where the caller found the address.

Each request has a connection of its own: an operator asks little, and a connection that went stale between two
questions could not tell whether an order had been taken.
"""

from __future__ import annotations

import http.client
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from restic_manager.domain.errors import (
    ConflictError,
    InputError,
    ManagerError,
    NotFoundError,
    NotPermittedError,
    StorageError,
    UnreachableError,
)
from restic_manager.domain.model import Status
from restic_manager.protocol import api

T = TypeVar("T")

DEFAULT_TIMEOUT = 30.0
"""Seconds a question may take, connecting included. A followed stream may be silent for as long as it likes."""

_READ_SIZE = 65_536
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
    503: StorageError,
    507: StorageError,
}
_KNOWN_EVENTS = frozenset({"log", "gap", "progress", "job"})


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server answers operators: a Unix socket, or a TCP host and port with what its paths begin with.

    `origin` says how we came to look there (`--server`, a data directory): the one thing to check when nobody answers.
    """

    path: Path | None = None
    host: str = ""
    port: int = 0
    secure: bool = False
    prefix: str = ""
    origin: str = ""

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

    def __str__(self) -> str:
        """Return it as `--server` takes it."""
        if self.path is not None:
            return str(self.path)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}{self.prefix}"


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


class Client:
    """One server, as an operator sees it.

    Every method raises a ManagerError with the server's own code when it says no, and UnreachableError when it says
    nothing.
    """

    def __init__(self, server: ServerAddress, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Given an address, hold it: nothing is connected before the first question. `timeout` is in seconds."""
        self.address = server
        self._timeout = timeout

    # -- server -------------------------------------------------------------------------------------------------------

    def server(self) -> api.ServerView:
        """Return the server itself: version, epoch, since when, where."""
        return self._ask("GET", "/v1/server", api.ServerView)

    def status(self) -> api.StatusView:
        """Return the fleet at a glance."""
        return self._ask("GET", "/v1/status", api.StatusView)

    # -- hosts --------------------------------------------------------------------------------------------------------

    def invite_host(self, request: api.InviteRequest) -> api.InviteView:
        """Given a name, return a single-use token for it."""
        return self._ask("POST", "/v1/hosts/invite", api.InviteView, request)

    def hosts(self) -> list[api.HostView]:
        """Return all hosts."""
        return self._ask("GET", "/v1/hosts", list[api.HostView])

    def host(self, ref: str) -> api.HostView:
        """Given a name or unique id prefix, return the host."""
        return self._ask("GET", f"/v1/hosts/{_part(ref, 'host')}", api.HostView)

    def label_host(self, ref: str, request: api.LabelRequest) -> api.HostView:
        """Given a host and labels to set and take away, return the host as it is then."""
        return self._ask("POST", f"/v1/hosts/{_part(ref, 'host')}/labels", api.HostView, request)

    def rename_host(self, ref: str, request: api.RenameRequest) -> api.HostView:
        """Given a host and a new name, return the host as it is then."""
        return self._ask("POST", f"/v1/hosts/{_part(ref, 'host')}/rename", api.HostView, request)

    def remove_host(self, ref: str) -> api.HostView:
        """Given a host, forget it and return what it was."""
        return self._ask("DELETE", f"/v1/hosts/{_part(ref, 'host')}", api.HostView)

    # -- repositories -------------------------------------------------------------------------------------------------

    def add_repo(self, request: api.RepoRequest) -> api.RepoView:
        """Given a repository and its secrets, return it; with its password once, if the server made that."""
        return self._ask("POST", "/v1/repos", api.RepoView, request)

    def repos(self) -> list[api.RepoView]:
        """Return all repositories."""
        return self._ask("GET", "/v1/repos", list[api.RepoView])

    def repo(self, ref: str) -> api.RepoView:
        """Given a name or unique id prefix, return the repository."""
        return self._ask("GET", f"/v1/repos/{_part(ref, 'repository')}", api.RepoView)

    def init_repo(self, ref: str, request: api.InitRequest) -> api.JobView:
        """Given a repository and a host, return the job that creates it there."""
        return self._ask("POST", f"/v1/repos/{_part(ref, 'repository')}/init", api.JobView, request)

    def remove_repo(self, ref: str) -> api.RepoView:
        """Given a repository, forget it and return what it was."""
        return self._ask("DELETE", f"/v1/repos/{_part(ref, 'repository')}", api.RepoView)

    # -- schedules ----------------------------------------------------------------------------------------------------

    def add_schedule(self, request: api.ScheduleRequest) -> api.ScheduleView:
        """Given when, where and what, return the schedule."""
        return self._ask("POST", "/v1/schedules", api.ScheduleView, request)

    def schedules(self) -> list[api.ScheduleView]:
        """Return all schedules."""
        return self._ask("GET", "/v1/schedules", list[api.ScheduleView])

    def schedule(self, ref: str) -> api.ScheduleView:
        """Given a name or unique id prefix, return the schedule."""
        return self._ask("GET", f"/v1/schedules/{_part(ref, 'schedule')}", api.ScheduleView)

    def edit_schedule(self, ref: str, request: api.ScheduleEdit) -> api.ScheduleView:
        """Given a schedule and what to change of it, return it as it is then."""
        return self._ask("PATCH", f"/v1/schedules/{_part(ref, 'schedule')}", api.ScheduleView, request)

    def remove_schedule(self, ref: str) -> api.ScheduleView:
        """Given a schedule, remove it and return what it was."""
        return self._ask("DELETE", f"/v1/schedules/{_part(ref, 'schedule')}", api.ScheduleView)

    def run_schedule(self, ref: str, request: api.RunRequest) -> list[api.JobView]:
        """Given a schedule, and perhaps one of its hosts, return the jobs that run its work now."""
        return self._ask("POST", f"/v1/schedules/{_part(ref, 'schedule')}/run", list[api.JobView], request)

    def next_slots(self, ref: str, *, count: int) -> list[api.NextSlot]:
        """Given a schedule, return its next `count` slots."""
        path = f"/v1/schedules/{_part(ref, 'schedule')}/next?{_query({'count': count})}"
        return self._ask("GET", path, list[api.NextSlot])

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def jobs(
        self,
        *,
        host: str | None = None,
        schedule: str | None = None,
        status: Status | None = None,
        limit: int | None = None,
    ) -> list[api.JobView]:
        """Return jobs, newest first, of this host, schedule and status where given, at most `limit`."""
        asked = {"host": host, "schedule": schedule, "status": status, "limit": limit}
        query = _query({name: value for name, value in asked.items() if value is not None})
        return self._ask("GET", f"/v1/jobs?{query}" if query else "/v1/jobs", list[api.JobView])

    def job(self, ref: str) -> api.JobView:
        """Given an id or a unique prefix of one, return the job."""
        return self._ask("GET", f"/v1/jobs/{_part(ref, 'job')}", api.JobView)

    def cancel_job(self, ref: str) -> api.JobView:
        """Given a job, ask for its end; return it as it is now (a host that has it must answer first)."""
        return self._ask("POST", f"/v1/jobs/{_part(ref, 'job')}/cancel", api.JobView)

    def events(
        self, job_id: str, *, follow: bool = False, logs: bool = True, attempts: bool = False
    ) -> Iterator[api.Event]:
        """Given a job, yield it as it is, its log, and with `follow` what happens until it has ended.

        `attempts` goes on with its next attempt when there is one. A stream that breaks off raises UnreachableError;
        one that ends before the job has ended means that the server is shutting down.
        """
        flags = _query({"follow": int(follow), "logs": int(logs), "attempts": int(attempts)})
        connection = self._connection()
        try:
            answer = self._send(connection, "GET", f"/v1/jobs/{_part(job_id, 'job')}/events?{flags}", None)
            if follow and connection.sock is not None:
                connection.sock.settimeout(None)
            decoder = msgspec.json.Decoder(api.Event)
            for line in self._lines(answer):
                event = self._event(decoder, line)
                if event is not None:
                    yield event
        finally:
            connection.close()

    # -- how ----------------------------------------------------------------------------------------------------------

    def _ask(self, method: str, path: str, wanted: type[T], request: msgspec.Struct | None = None) -> T:
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

    def _connection(self) -> http.client.HTTPConnection:
        where = self.address
        if where.path is not None:
            return _SocketConnection(where.path, self._timeout)
        kind = http.client.HTTPSConnection if where.secure else http.client.HTTPConnection
        return kind(where.host, where.port, timeout=self._timeout)

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, request: msgspec.Struct | None
    ) -> http.client.HTTPResponse:
        headers: Mapping[str, str] = {"Accept": "application/json", "Connection": "close"}
        body: bytes | None = None
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

    def _event(self, decoder: msgspec.json.Decoder[api.Event], line: bytes) -> api.Event | None:
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


def _part(ref: str, what: str) -> str:
    """Given a name or id prefix, return it as one part of a path; raise InputError if it can be neither."""
    if ref in {"", ".", ".."}:
        raise InputError(f"{ref!r} is not a {what}: give its name, or the start of its id")
    try:
        return quote(ref, safe="")
    except UnicodeEncodeError:
        raise _not_utf8(ref) from None


def _query(asked: Mapping[str, object]) -> str:
    try:
        return urlencode(asked)
    except UnicodeEncodeError as error:
        raise _not_utf8(str(error.object)) from None


def _not_utf8(text: str) -> InputError:
    return InputError(f"{text!r} is not UTF-8 text")
