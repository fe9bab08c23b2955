"""The roads between hosts and the server: streams of bytes in virtual time that can be cut, stalled and slowed.

A process whose fuse has blown neither sends nor hears anything more; its peer hears what was already under way, then
the end. It knows nothing of frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from tests.simulation.fuse import Fuse

_READ = 64 << 10


class _Way:
    """One direction of a connection: what is under way, and whether more can come."""

    __slots__ = ("broken", "chunks", "deaf", "eof", "last", "wake")

    def __init__(self) -> None:
        self.chunks: deque[tuple[float, bytes]] = deque()
        self.eof = False  # the sender has hung up
        self.deaf = False  # the receiver has hung up
        self.broken = False
        self.last = 0.0
        self.wake = trio.Event()

    def poke(self) -> None:
        self.wake.set()
        self.wake = trio.Event()


class End(trio.abc.Stream):
    """One process's end of a connection."""

    def __init__(self, line: Line, fuse: Fuse, incoming: _Way, outgoing: _Way) -> None:
        self._line = line
        self._fuse = fuse
        self._incoming = incoming
        self._outgoing = outgoing
        self._closed = False
        fuse.ends[self] = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        way = self._outgoing
        if self._closed:
            raise trio.ClosedResourceError
        if self._fuse.blown or way.broken or way.deaf:
            raise trio.BrokenResourceError("the connection is gone")
        before = self._line.cuts_now()
        if before and self._line.cut_loses:
            self._line.cut()
            raise trio.BrokenResourceError("cut")
        # Bytes stay in order, whatever each of them meets on the way.
        way.last = max(way.last, self._line.arrival())
        way.chunks.append((way.last, bytes(data)))
        way.poke()
        if before:
            self._line.cut()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        way = self._incoming
        while True:
            if self._closed:
                raise trio.ClosedResourceError
            if self._fuse.blown or way.broken:
                raise trio.BrokenResourceError("the connection is gone")
            if way.chunks:
                at, data = way.chunks[0]
                if at <= trio.current_time():
                    way.chunks.popleft()
                    most = max_bytes or _READ
                    if len(data) > most:
                        way.chunks.appendleft((at, data[most:]))
                    return data[:most]
                wake = way.wake
                with trio.move_on_at(at):
                    await wake.wait()
            elif way.eof:
                return b""
            else:
                await way.wake.wait()

    async def aclose(self) -> None:
        self.hang_up()
        await trio.lowlevel.checkpoint()

    def hang_up(self) -> None:
        """Close this end, now: by the process, or by the kernel because the process is dead."""
        self._closed = True
        self._fuse.ends.pop(self, None)
        self._outgoing.eof = True
        self._outgoing.poke()
        self._incoming.deaf = True
        self._incoming.poke()


class Line:
    """The road of one host: makes its connections and does to them what the faults say."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.up = True
        self.latency: Callable[[], float] | None = None
        self.stalled_until = 0.0
        self.cut_loses = False
        self._sends_left: int | None = None
        self._ways: list[_Way] = []
        self._note = note

    def connect(self, client: Fuse, server: Fuse) -> tuple[End, End]:
        """Given both processes' fuses, return (client's end, server's end) of a new connection."""
        there, back = _Way(), _Way()
        self._ways = [way for way in self._ways if not (way.eof and way.deaf) and not way.broken] + [there, back]
        return End(self, client, back, there), End(self, server, there, back)

    def cut(self) -> None:
        """Break every connection; what is under way is lost."""
        for way in self._ways:
            way.broken = True
            way.poke()
        self._ways = []

    def cut_after(self, sends: int, *, loses: bool) -> None:
        """Break everything at the so-many-th send from now on; `loses`: that one does not arrive either."""
        self._sends_left = sends
        self.cut_loses = loses

    def calm(self) -> None:
        """No fault is left on this road."""
        self.up, self.latency, self._sends_left = True, None, None
        self.stalled_until = min(self.stalled_until, trio.current_time())

    def cuts_now(self) -> bool:
        """Count a send; return whether the road breaks at it."""
        if self._sends_left is None:
            return False
        self._sends_left -= 1
        if self._sends_left > 0:
            return False
        self._sends_left = None
        self._note("line cut at a send" + (" (lost)" if self.cut_loses else " (arrives)"))
        return True

    def arrival(self) -> float:
        """Return when what is sent now arrives."""
        now = trio.current_time()
        return max(now + (self.latency() if self.latency is not None else 0.0), self.stalled_until)
