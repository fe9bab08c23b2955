"""What a peer may send and how fast: decides how much of what came is handed on at a time, and when.

A peer that is too fast is not read, and TCP holds it back; nothing is dropped, and nobody else waits for it. Which
frames are none of ours says `link.meter`. It refuses to know streams, and what frames mean.
"""

from __future__ import annotations

from typing import Final

import trio

from restic_manager.domain.pace import Pace
from restic_manager.link.meter import FrameMeter

FRAMES_A_READ: Final = 256
"""Most frames handed on at a time: then it is the other connections' turn."""
FRAMES_A_SECOND: Final = 2_000.0
FRAMES_AT_ONCE: Final = 10_000.0
"""Frames that a peer may send, of whatever sort: a host that was away for long has much to tell at first."""
BYTES_A_SECOND: Final = 32.0 * (1 << 20)
BYTES_AT_ONCE: Final = 64.0 * (1 << 20)

_END_OF_HEAD: Final = b"\r\n\r\n"


class Sluice:
    """Between one connection's bytes and the library that reads them."""

    __slots__ = ("_bytes", "_frames", "_head", "_meter", "_rest")

    def __init__(self) -> None:
        """Expect the head of an HTTP request or answer; frames come behind it."""
        self._head: bytearray | None = bytearray()
        self._meter: FrameMeter | None = None
        self._rest: bytes | bytearray = b""
        self._frames: Pace | None = None
        self._bytes: Pace | None = None

    def kept(self) -> bytes | bytearray:
        """Return what came before and is still to be handed on, for `let_through`."""
        kept, self._rest = self._rest, b""
        return kept

    async def let_through(self, data: bytes | bytearray) -> bytes | bytearray:
        """Given the next bytes, return those that may be handed on now, when they may; the rest is kept.

        Raise Overrun for frames that no peer of ours sends.
        """
        if not data:
            return data
        if self._head is not None:
            return self._only_head(self._head, data)
        if self._meter is None:
            return data
        size, frames = self._meter.take(data, FRAMES_A_READ)
        if size < len(data):
            self._rest = data[size:]
            data = data[:size]
        now = trio.current_time()
        if self._frames is None or self._bytes is None:
            self._frames = Pace(FRAMES_A_SECOND, FRAMES_AT_ONCE)
            self._bytes = Pace(BYTES_A_SECOND, BYTES_AT_ONCE)
        wait = max(self._frames.take(now, frames), self._bytes.take(now, size))
        if wait > 0:
            await trio.sleep(wait)
        return data

    def _only_head(self, head: bytearray, data: bytes | bytearray) -> bytes | bytearray:
        """Given bytes of the handshake, return those up to the end of its head."""
        known = len(head)
        head += data
        end = head.find(_END_OF_HEAD, max(0, known - 3))
        if end < 0:
            return data
        self._head = None
        if not head.startswith(b"HTTP/") or head[8:13] == b" 101 ":  # a refusal has a body
            self._meter = FrameMeter()
        cut = end + len(_END_OF_HEAD) - known
        self._rest = data[cut:]
        return data[:cut]
