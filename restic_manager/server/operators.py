"""The operators' door: an ASGI application behind a Unix socket, with a crash barrier round each connection.

Owns the socket file, how many may be inside, and how the door closes. Connections are served by our own small glue
(`server.asgi`), never by `hypercorn.trio.serve`, which one hostile request ends. It refuses to know what is asked.
"""

from __future__ import annotations

import logging
import os
import socket
from functools import partial
from pathlib import Path
from typing import Final

import trio

from restic_manager.runtime.datadir import storage_error
from restic_manager.server.asgi import App, Connection, Limits

logger = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 256
FINISH_SECONDS: Final = 2.0
"""How long requests under way may take when the server stops. A stream whose reader does not read ends then, too."""


def bind_socket(path: Path) -> trio.SocketListener:
    """Given where the socket is to be, return its listener, the file open to this user only; raise StorageError.

    Whoever calls holds the data directory's lock: a file that is there already is of a server that is gone.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            sock.bind(os.fspath(path))
        finally:
            os.umask(before)
        sock.listen(128)
    except OSError as error:
        sock.close()
        raise storage_error(error, f"the socket {path}") from error
    return trio.SocketListener(trio.socket.from_stdlib_socket(sock))


async def serve_operators(
    app: App,
    listener: trio.SocketListener,
    stop: trio.Event,
    *,
    limits: Limits | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Given an application and a listener, serve until `stop` is set; then let what is under way finish, bounded."""
    door = _Door(app, limits or Limits())
    try:
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                accept = partial(trio.serve_listeners, door.handle, [listener], handler_nursery=connections)
                await accepting.start(accept, name="operators' door")
                task_status.started()
                await stop.wait()
                accepting.cancel_scope.cancel()
            with trio.move_on_after(FINISH_SECONDS):
                await door.finish()
            connections.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(listener)


class _Door:
    """Who is inside."""

    def __init__(self, app: App, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._inside: set[Connection] = set()
        self._left = trio.Event()

    async def handle(self, stream: trio.SocketStream) -> None:
        """Serve one connection. Whatever goes wrong in it stays in it."""
        if len(self._inside) >= MAX_CONNECTIONS:
            logger.warning("operators' door: refused a connection, %d are open", len(self._inside))
            return
        connection = Connection(self._app, stream, self._limits)
        self._inside.add(connection)
        try:
            await connection.serve()
        except Exception:  # the barrier of one connection
            logger.exception("operators' door: a connection failed")
        finally:
            self._inside.discard(connection)
            self._left.set()

    async def finish(self) -> None:
        """Take no further requests, and wait until everybody has left."""
        for connection in list(self._inside):
            connection.finish()
        while self._inside:
            await self._left.wait()
            self._left = trio.Event()
