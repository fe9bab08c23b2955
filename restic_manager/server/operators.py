"""The operators' door: an ASGI application behind a Unix socket or a TCP port, a crash barrier round each connection.

Owns the socket file and who may open it, how many may be inside, and how the door closes. Connections are served by our
own small glue (`server.asgi`), never by `hypercorn.trio.serve`, which one hostile request ends. It refuses to know what
is asked, and who may ask it.
"""

from __future__ import annotations

import grp
import logging
import os
import socket
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from restic_manager.domain.errors import InputError, StorageError
from restic_manager.runtime.datadir import storage_error
from restic_manager.runtime.tls import Gatekeeper, HandshakeError
from restic_manager.server.asgi import App, Connection, Limits
from restic_manager.server.peers import Peer, socket_peer, tcp_peer

logger = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 256
"""Connections of one door, and so requests under way and streams that are followed."""
MAX_OF_NETWORK: Final = 128
"""Of these, over TCP, from one network, whoever they are: one busy script does not close the door to the others."""
_TLS_NEEDED: Final = (
    b'{"error":{"code":"tls_needed","message":"this server speaks TLS: its address has to begin with https://"}}'
)
TLS_NEEDED: Final = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: "
    + str(len(_TLS_NEEDED)).encode()
    + b"\r\n\r\n"
    + _TLS_NEEDED
)
"""What somebody reads who speaks HTTP to a door with TLS."""
FINISH_SECONDS: Final = 2.0
"""How long requests under way may take when the server stops. A stream whose reader does not read ends then, too."""


MAX_UNKNOWN: Final = 64
"""Connections over TCP that have not yet shown who they are: all of them, and those of one network."""
MAX_UNKNOWN_OF_NETWORK: Final = 16


def group_id(name: str) -> int:
    """Given a group's name, return its number; raise InputError if this system has none of that name."""
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        raise InputError(
            f"there is no group {name!r} on this system: make it (groupadd {name}), or name another with --socket-group"
        ) from None


def bind_socket(path: Path, *, group: int | None = None) -> trio.SocketListener:
    """Given where the socket is to be, return its listener, the file open to this user only; raise StorageError.

    With a group its members may open it too: the socket is theirs (0660), and they may pass through its folder (0710).
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
        if group is not None:
            _open_to_group(path, group)
        sock.listen(128)
    except StorageError:
        sock.close()
        raise
    except OSError as error:
        sock.close()
        raise storage_error(error, f"the socket {path}") from error
    return trio.SocketListener(trio.socket.from_stdlib_socket(sock))


def _open_to_group(path: Path, group: int) -> None:
    for what, mode in ((path.parent, 0o710), (path, 0o660)):
        try:
            os.chown(what, -1, group)
            what.chmod(mode)
        except PermissionError as error:
            raise StorageError(
                f"{what} cannot be given to the group {group}: the user who runs the server has to own it and be a "
                "member of that group",
                code="storage_read_only",
            ) from error


async def serve_operators(
    app: App,
    listeners: list[trio.SocketListener],
    stop: trio.Event,
    *,
    limits: Limits | None = None,
    gatekeeper: Gatekeeper | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Given an application and listeners, serve until `stop` is set; then let what is under way finish, bounded.

    With a gatekeeper everybody has to speak TLS.
    """
    door = _Door(app, limits or Limits(), gatekeeper)
    try:
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                accept = partial(trio.serve_listeners, door.handle, listeners, handler_nursery=connections)
                await accepting.start(accept, name="operators' door")
                task_status.started()
                await stop.wait()
                accepting.cancel_scope.cancel()
            with trio.move_on_after(FINISH_SECONDS):
                await door.finish()
            connections.cancel_scope.cancel()
    finally:
        for listener in listeners:
            await trio.aclose_forcefully(listener)


@dataclass(eq=False)
class _Visit:
    """One connection. connection: None until its TLS stands, if it has to have any."""

    peer: Peer
    connection: Connection | None = None


class _Door:
    """Who is inside."""

    def __init__(self, app: App, limits: Limits, gatekeeper: Gatekeeper | None) -> None:
        self._app = app
        self._limits = limits
        self._gatekeeper = gatekeeper
        self._closing = False
        self._inside: set[_Visit] = set()
        self._left = trio.Event()

    async def handle(self, stream: trio.SocketStream) -> None:
        """Serve one connection. Whatever goes wrong in it stays in it."""
        try:
            peer = socket_peer(stream) if stream.socket.family == socket.AF_UNIX else tcp_peer(stream)
        except OSError:
            return  # it has hung up already
        if self._is_full(peer):
            return
        visit = _Visit(peer)
        self._inside.add(visit)
        try:
            secured = stream if self._gatekeeper is None else await self._gatekeeper.secure(stream)
            visit.connection = Connection(self._app, secured, self._limits, peer)
            if not self._closing:
                await visit.connection.serve()
        except HandshakeError as error:
            logger.info("operators' door: %s: %s", peer.origin, error)
        except Exception:  # the barrier of one connection
            logger.exception("operators' door: a connection failed")
        finally:
            self._inside.discard(visit)
            self._left.set()

    def _is_full(self, peer: Peer) -> bool:
        unknown = [other.peer for other in self._inside if not other.peer.admitted]
        if len(self._inside) >= MAX_CONNECTIONS:
            why = f"{len(self._inside)} are open"
        elif peer.admitted:
            return False
        elif sum(other.peer.network == peer.network for other in self._inside) >= MAX_OF_NETWORK:
            why = f"{MAX_OF_NETWORK} of its network are open"
        elif len(unknown) >= MAX_UNKNOWN:
            why = f"{len(unknown)} are open that have not shown who they are"
        elif sum(other.network == peer.network for other in unknown) >= MAX_UNKNOWN_OF_NETWORK:
            why = f"{MAX_UNKNOWN_OF_NETWORK} of its network are open that have not shown who they are"
        else:
            return False
        logger.warning("operators' door: refused a connection from %s, %s", peer.origin, why)
        return True

    async def finish(self) -> None:
        """Take no further requests, and wait until everybody has left."""
        self._closing = True
        for visit in list(self._inside):
            if visit.connection is not None:
                visit.connection.finish()
        while self._inside:
            await self._left.wait()
            self._left = trio.Event()
