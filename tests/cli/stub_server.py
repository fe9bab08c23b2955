"""A small real HTTP server on a Unix socket (or TCP), with scripted answers: what the client is tested against.

It speaks HTTP by the standard library, not by ours, so that a mistake of ours is not met by the same mistake here.
"""

from __future__ import annotations

import contextlib
import http.server
import queue
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

LIMIT = 10.0
"""Seconds after which a scripted stream that nobody fed gives up."""


class Asked(NamedTuple):
    """One request as it came in."""

    method: str
    path: str
    body: Any
    authorization: str | None = None


class Stream:
    """An answer in pieces: the test puts them, each is sent at once. `end` closes it well, `cut` breaks it off."""

    def __init__(self) -> None:
        self.pieces: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.broken = False

    def put(self, *values: Any) -> Stream:
        for value in values:
            self.pieces.put(value if isinstance(value, bytes) else msgspec.json.encode(value) + b"\n")
        return self

    def end(self) -> Stream:
        self.pieces.put(None)
        return self

    def cut(self) -> Stream:
        self.broken = True
        return self.end()


Answer = Any
"""A value (answered as JSON with 200), a (status, value) pair, raw bytes, a Stream, or a function that makes one."""


class StubServer:
    """Holds the script: answers by (method, path), used up in order, the last one staying."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._answers: dict[tuple[str, str], list[Answer]] = {}

    def on(self, method: str, path: str, *answers: Answer) -> None:
        self._answers[method, path] = list(answers)

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        answers = self._answers.get((asked.method, asked.path))
        if not answers:
            return 404, {"error": {"code": "not_found", "message": f"nothing scripted for {asked.method} {asked.path}"}}
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return found(asked) if callable(found) else found


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = msgspec.json.decode(self.rfile.read(length)) if length else None
        answer = self.server.stub.answer(Asked(self.command, self.path, body, self.headers.get("Authorization")))
        status = 200
        if isinstance(answer, tuple):
            status, answer = answer
        if isinstance(answer, Stream):
            self._stream(answer)
            return
        raw = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _stream(self, stream: Stream) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, queue.Empty):
            while (piece := stream.pieces.get(timeout=LIMIT)) is not None:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()
            if not stream.broken:
                self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 - the names http.server looks for

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        del format, args

    def address_string(self) -> str:
        return "stub"


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    stub: StubServer


class _TcpServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    address_family = socket.AF_INET
    stub: StubServer


@contextlib.contextmanager
def serving(path: Path) -> Iterator[StubServer]:
    """Given a socket's path, serve a script there for the block."""
    with _running(lambda: _UnixServer(str(path), _Handler)) as stub:
        yield stub[0]
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def serving_tcp() -> Iterator[tuple[StubServer, int]]:
    """Serve a script on a free port of this machine for the block."""
    with _running(lambda: _TcpServer(("127.0.0.1", 0), _Handler)) as (stub, server):
        yield stub, server.server_address[1]


@contextlib.contextmanager
def _running(make: Callable[[], Any]) -> Iterator[tuple[StubServer, Any]]:
    with make() as server:
        server.stub = StubServer()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="stub-server")
        thread.start()
        try:
            yield server.stub, server
        finally:
            server.shutdown()
            thread.join(LIMIT)
