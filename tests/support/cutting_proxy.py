"""A small TCP proxy whose connections a test can break: at once, for a while, or by holding what is on its way.

with cutting_proxy(port) as proxy:      # dial 127.0.0.1:proxy.port instead
    proxy.cut()                         # every connection is reset, in the middle of whatever it carried
    proxy.hold(); proxy.go_on()         # bytes stay on the way: both ends think the other is slow
    proxy.down(); proxy.up()            # nobody gets through
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Final

_RESET: Final = struct.pack("ii", 1, 0)


class CuttingProxy:
    """Where to dial, and the ways to break it."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._open = threading.Event()
        self._moving = threading.Event()
        self._over = threading.Event()
        self._open.set()
        self._moving.set()
        self._thread = threading.Thread(target=self._accept, name="cutting proxy", daemon=True)
        self._thread.start()

    def cut(self) -> int:
        """Reset every connection; return how many there were."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for end in pair:
                _reset(end)
        return len(pairs)

    def down(self) -> None:
        """Reset every connection, and each new one at once, until `up`."""
        self._open.clear()
        self.cut()

    def up(self) -> None:
        """Let newcomers through again."""
        self._open.set()

    def hold(self) -> None:
        """Keep what is on its way from arriving, until `go_on`."""
        self._moving.clear()

    def go_on(self) -> None:
        """Let it arrive."""
        self._moving.set()

    def close(self) -> None:
        """End the proxy and all that goes through it."""
        self._over.set()
        self._moving.set()
        self._listener.close()
        self.cut()
        self._thread.join(5)

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                if not select.select([self._listener], [], [], 0.2)[0]:
                    continue
                client, _ = self._listener.accept()
            except (OSError, ValueError):
                return  # closed
            try:
                if not self._open.is_set():
                    _reset(client)
                    continue
                server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                _reset(client)
                continue
            pair = (client, server)
            with self._lock:
                self._pairs.add(pair)
            for source, drain in (pair, pair[::-1]):
                threading.Thread(target=self._carry, args=(pair, source, drain), daemon=True).start()

    def _carry(self, pair: tuple[socket.socket, socket.socket], source: socket.socket, drain: socket.socket) -> None:
        try:
            while chunk := source.recv(16_384):
                self._moving.wait()
                drain.sendall(chunk)
        except (OSError, ValueError):
            pass  # cut, here or by one of the ends: both go
        with self._lock:
            self._pairs.discard(pair)
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def _reset(end: socket.socket) -> None:
    """Close it so that the peer sees a reset, whatever waits in its buffers; wake the thread that reads from it."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        end.shutdown(socket.SHUT_RD)
    end.close()


@contextlib.contextmanager
def cutting_proxy(target: int) -> Iterator[CuttingProxy]:
    """Given a port of this machine, serve in front of it until the block ends."""
    proxy = CuttingProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
