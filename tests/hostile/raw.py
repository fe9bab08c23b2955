"""A WebSocket client that keeps to nothing: it writes whatever bytes it is given, and counts what comes back."""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import trio

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10


def frame(payload: bytes, opcode: int = TEXT, *, fin: bool = True, mask: bytes = b"\0\0\0\0") -> bytes:
    """Given a payload, return its frame as a client sends it. The mask of zeros leaves the payload as it is."""
    size = len(payload)
    head = bytes([opcode | (0x80 if fin else 0)])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += b"\xfe" + struct.pack("!H", size)
    else:
        head += b"\xff" + struct.pack("!Q", size)
    return head + mask + payload


def request(bearer: str, path: str = "/agent") -> bytes:
    """Return a whole WebSocket request."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: server\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nAuthorization: Bearer {bearer}\r\n\r\n"
    ).encode()


class Over(Exception):  # noqa: N818 - an end, not always an error
    """The server has closed the connection. code: of its close frame, None without one."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


class Raw:
    """One connection after its upgrade."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = bytearray()

    async def send(self, data: bytes) -> None:
        """Given bytes, send them; raise Over when nobody takes them any more."""
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Over(None) from None

    async def frames(self) -> tuple[int, bytes]:
        """Return the opcode and payload of the next frame; raise Over at the end."""
        while True:
            size, skip = _size(self._buffer)
            if size is not None and len(self._buffer) >= skip + size:
                opcode, payload = self._buffer[0] & 15, bytes(self._buffer[skip : skip + size])
                del self._buffer[: skip + size]
                if opcode == CLOSE:
                    raise Over(struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else None)
                return opcode, payload
            try:
                data = await self.stream.receive_some(1 << 16)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise Over(None) from None
            if not data:
                raise Over(None)
            self._buffer += data

    async def message(self) -> dict[str, object]:
        """Return the next message; raise Over at the end."""
        while True:
            opcode, payload = await self.frames()
            if opcode == TEXT:
                found: dict[str, object] = msgspec.json.decode(payload)
                return found


def _size(data: bytearray) -> tuple[int | None, int]:
    if len(data) < 2:
        return None, 0
    short = data[1] & 127
    if short < 126:
        return short, 2
    if short == 126:
        return (struct.unpack("!H", data[2:4])[0], 4) if len(data) >= 4 else (None, 0)
    return (struct.unpack("!Q", data[2:10])[0], 10) if len(data) >= 10 else (None, 0)


@asynccontextmanager
async def connected(port: int, bearer: str, path: str = "/agent") -> AsyncIterator[Raw]:
    """Yield a connection that was let in; raise Over when it was not."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        raw = Raw(stream)
        await raw.send(request(bearer, path))
        head = bytearray()
        while b"\r\n\r\n" not in head:
            try:
                data = await stream.receive_some(1 << 16)
            except trio.BrokenResourceError:
                raise Over(None) from None
            if not data:
                raise Over(None)
            head += data
        if not head.startswith(b"HTTP/1.1 101"):
            raise Over(int(head[9:12]))
        raw._buffer += head.partition(b"\r\n\r\n")[2]
        yield raw
