"""Follows the frames in a peer's bytes without keeping any: how many began, and whether one message is in order.

The library under the link counts characters of a message and nothing else: a message of a million empty pieces, or a
megabyte of pings, is nothing to it. Only headers are looked at here (RFC 6455, 5.2); whether frames are right is for
the library to say.
"""

from __future__ import annotations

from typing import Final

from restic_manager.protocol.messages import MAX_MESSAGE

MAX_PARTS: Final = 1_024
"""Frames of one message. Our own peers send one; what is between them may cut it."""
MAX_BYTES: Final = 4 * MAX_MESSAGE
"""Bytes of one message: as many as MAX_MESSAGE characters may take."""

_CONTROL: Final = 8
_LENGTH: Final = {126: 2, 127: 8}


class Overrun(Exception):  # noqa: N818 - a verdict about the peer
    """The peer sends what no peer of ours does; the link closes with `code`."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)
        self.code = code


class FrameMeter:
    """The frames of one direction of one connection, from its first on."""

    __slots__ = ("_bytes", "_head", "_left", "_parts")

    def __init__(self) -> None:
        """Expect the first frame's header."""
        self._head = b""
        self._left = 0
        self._parts = 0
        self._bytes = 0

    def take(self, data: bytes | bytearray, most: int) -> tuple[int, int]:
        """Given the next bytes, return how many of them hold at most `most` beginnings of frames, and how many they do.

        The bytes that are left over are to be given again. Raise Overrun when a message is none of ours.
        """
        at = frames = 0
        size = len(data)
        while at < size:
            if self._left:
                step = min(self._left, size - at)
                self._left -= step
                at += step
                continue
            if frames >= most and not self._head:
                break
            piece = bytes(data[at : at + 14 - len(self._head)])
            head = self._head + piece
            length = _header_length(head)
            if length is None or len(head) < length:
                self._head = head
                return size, frames
            at += length - len(self._head)
            self._head = b""
            frames += 1
            self._begin(head)
        return at, frames

    def _begin(self, head: bytes) -> None:
        short = head[1] & 0x7F
        extended = _LENGTH.get(short, 0)
        self._left = int.from_bytes(head[2 : 2 + extended], "big") if extended else short
        opcode = head[0] & 0x0F
        if opcode >= _CONTROL:
            return
        if opcode:
            self._parts = self._bytes = 0
        self._parts += 1
        self._bytes += self._left
        if self._parts > MAX_PARTS:
            raise Overrun(f"a message in over {MAX_PARTS} frames", 1008)
        if self._bytes > MAX_BYTES:
            raise Overrun(f"a message of over {MAX_BYTES} bytes", 1009)
        if head[0] & 0x80:
            self._parts = self._bytes = 0


def _header_length(head: bytes) -> int | None:
    """Given the beginning of a frame, return how long its header is; None where that cannot be told yet."""
    if len(head) < 2:
        return None
    return 2 + _LENGTH.get(head[1] & 0x7F, 0) + (4 if head[1] & 0x80 else 0)
