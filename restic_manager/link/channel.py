"""The link itself: a typed message channel over one WebSocket, the same at both ends.

It owns the socket: one task reads (the library's), one writes, one sends heartbeats and watches that the peer is there.
They die together with the `async with` block that holds the link. It decides how a link ends (who is stuck, which close
code) and nothing about what messages mean.

Anything read counts as life, and while nobody takes what was read, silence proves nothing: a slow consumer never makes
its peer look dead. Sending is put or close: a peer that does not read loses its link, and never holds up anyone.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any, Final, NamedTuple

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection
from wsproto.frame_protocol import FrameProtocol

from restic_manager.link.meter import Overrun
from restic_manager.link.wire import Wire
from restic_manager.protocol.codec import Decoder, WireError, encode
from restic_manager.protocol.messages import MAX_MESSAGE, Heartbeat, Message
from restic_manager.runtime.clock import Clock

logger = logging.getLogger(__name__)

MAX_QUEUED: Final = 1_024
"""Messages that may wait to be sent; one more closes the link."""
MAX_QUEUED_TEXT: Final = 8 * MAX_MESSAGE
"""Characters that may wait to be sent."""
CLOSE_SECONDS: Final = 2.0
"""How long the peer's answer to our close is waited for."""
MISSED_HEARTBEATS: Final = 3


class Incoming(NamedTuple):
    """One message (or what was wrong with it) and its frame. Heartbeats are never delivered."""

    message: Any
    frame: str


class LinkClosed(Exception):  # noqa: N818 - an end, not always an error
    """The link is over. `code` is the WebSocket close code, None when the connection broke without one."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(f"{code}: {reason}" if code is not None else reason)
        self.code = code
        self.reason = reason


class Link:
    """Messages to and from one peer. Made by `dial` and `answer`, over when their block is over."""

    __slots__ = (
        "_connection",
        "_decoder",
        "_drain",
        "_ending",
        "_moved",
        "_over",
        "_queue",
        "_queued_text",
        "_wire",
        "_writing",
        "remote",
    )

    def __init__(self, connection: WebSocketConnection, wire: Wire, decoder: Decoder, remote: str) -> None:
        """Given an accepted connection over this wire, be its link: its tasks are the wire's."""
        self.remote = remote
        self._connection = connection
        self._wire = wire
        self._decoder = decoder
        self._queue: deque[str] | None = None  # none while there is nothing to write, and then no writer either
        self._queued_text = 0
        self._writing = False
        self._moved: trio.Event | None = None
        self._ending: LinkClosed | None = None
        self._drain = 0.0
        self._over = trio.Event()
        wire.open()
        wire.on_end = self._wire_ended
        wire.last_words = self._last_words

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more. What came before may still be received."""
        return self._ending is not None or self._wire.ended or self._connection.closed is not None

    def put(self, message: Message) -> bool:
        """Given a message, queue it without waiting and return True; False when the link is over.

        A full queue means that the peer does not read: it closes the link.
        """
        return self._put_frame(encode(message))

    async def send(self, message: Message) -> None:
        """Given a message, wait for room and queue it; raise LinkClosed when the link is over."""
        await self.send_frame(encode(message))

    async def send_frame(self, frame: str) -> None:
        """Given an encoded message, wait for room and queue it; raise LinkClosed when the link is over."""
        await trio.lowlevel.checkpoint()
        while not self.closed and not self._room(frame):
            await self._movement()
        if not self._put_frame(frame):
            raise self._why()

    async def receive(self) -> Incoming:
        """Return the next message, or the WireError it was; raise LinkClosed after the last one.

        A WireError that is fatal has closed the link; nothing comes after it.
        """
        while True:
            if self._ending is not None:
                raise self._why()
            try:
                frame = await self._connection.get_message()
            except ConnectionClosed:
                raise self._why() from None
            if not isinstance(frame, str):
                self._end(1003, "binary frames are not spoken here")
                raise self._why()
            try:
                message = self._decoder.decode(frame)
            except WireError as error:
                if error.fatal:
                    self._end(1009 if error.code == "too_large" else 1007, error.message)
                return Incoming(error, frame)
            if not isinstance(message, Heartbeat):
                return Incoming(message, frame)

    def start_heartbeat(self, interval: float, clock: Clock) -> None:
        """Given the interval in seconds, send heartbeats, and close when nothing came for three intervals."""
        if not self.closed:
            self._wire.start_soon(self._beat, interval, clock, name=f"link heartbeat {self.remote}")

    async def answers(self, within: float) -> bool:
        """Given a number of seconds, return whether the peer proves in that time that it is still there."""
        if self.closed:
            return False
        answered = trio.Event()
        # A task of the link's own: a ping given up half-way would tear a frame.
        self._wire.start_soon(self._ask, answered, name=f"link probe {self.remote}")
        with trio.move_on_after(within):
            await answered.wait()
        return answered.is_set() and not self.closed

    async def close(self, code: int = 1000, reason: str = "", *, drain: float = 5.0) -> None:
        """Given a close code, send what is queued (for at most `drain` seconds), then the close, and wait for its end.

        Bounded, also when the peer does not answer. A link that is over stays as it ended.
        """
        self._end(code, reason, drain=drain)
        await self._over.wait()

    # -- how it ends ---------------------------------------------------------------------------------------------------

    async def end_of_block(self, code: int, reason: str, drain: float) -> None:
        """The block that held the link is over: close it, whatever has cancelled the block."""
        with trio.CancelScope(shield=True):
            await self.close(code, reason, drain=drain)

    def _end(self, code: int | None, reason: str, *, drain: float = 0.0) -> None:
        """Begin the end, once: nothing more is queued or received; `_shut` says goodbye."""
        if self._ending is not None:
            return
        if self._connection.closed is not None or self._wire.ended:
            self._ending = self._why()
            self._finish()
            return
        self._ending = LinkClosed(code, reason)
        self._drain = drain
        if not drain:
            self._forget_queue()
        self._move()
        self._wire.start_soon(self._shut, code or 1000, name=f"link closer {self.remote}")

    async def _shut(self, code: int) -> None:
        reason = self._ending.reason if self._ending is not None else ""
        try:
            with trio.move_on_after(self._drain):
                while self._queue and not self._wire.ended:
                    await self._movement()
            with trio.move_on_after(CLOSE_SECONDS):  # a writer stuck inside a frame may finish it in this time, too
                while self._writing and not self._wire.ended:
                    await self._movement()
                await self._connection.aclose(code, short(reason))
        finally:
            self._finish()

    def _finish(self) -> None:
        self._forget_queue()
        self._over.set()
        self._move()
        self._wire.stop_tasks()  # its reader's end wakes whoever waits in `receive`

    def _wire_ended(self) -> None:
        """The wire is over. What came before is still to be received."""
        self._forget_queue()
        self._move()
        if self._wire.crash is not None:
            if self._ending is None:
                self._ending = LinkClosed(*_fault(self._wire.crash))
                logger.info("link %s: closed, its reader failed: %r", self.remote, self._wire.crash)
            self._finish()

    def _forget_queue(self) -> None:
        if self._queue is not None:
            self._queue.clear()
        self._queued_text = 0

    def _move(self) -> None:
        """The queue has moved, or never will again: wake who waits for it."""
        if self._moved is not None:
            self._moved.set()
            self._moved = None

    async def _movement(self) -> None:
        if self._moved is None:
            self._moved = trio.Event()
        await self._moved.wait()

    def _why(self) -> LinkClosed:
        if self._ending is not None:
            return LinkClosed(self._ending.code, self._ending.reason)
        closed = self._connection.closed
        if closed is None or closed.code == 1006:
            return LinkClosed(None, "the connection broke")
        return LinkClosed(closed.code, closed.reason or "")

    def _last_words(self) -> bytes:
        """Return a close frame where one is owed: the library says none when a frame cannot be understood."""
        if self._wire.crash is not None:
            code, reason = _fault(self._wire.crash)
        elif (closed := self._connection.closed) is not None and closed.code in {1002, 1007}:
            code, reason = closed.code, closed.reason or ""
        else:
            return b""
        return bytes(FrameProtocol(self._connection.is_client, []).close(code, short(reason)))

    # -- its tasks -----------------------------------------------------------------------------------------------------

    async def _write(self, queue: deque[str]) -> None:
        """Write the queue out, then end: an idle link has no writer."""
        try:
            while queue:
                frame = queue.popleft()
                self._queued_text -= len(frame)
                self._writing = True
                try:
                    await self._connection.send_message(frame)
                finally:
                    self._writing = False
                    self._move()
        except ConnectionClosed:
            self._forget_queue()
        finally:
            self._queue = None

    async def _beat(self, interval: float, clock: Clock) -> None:
        limit = MISSED_HEARTBEATS * interval
        next_beat = trio.current_time() + interval
        while self._ending is None and not self._wire.ended:
            now = trio.current_time()
            if now >= next_beat:
                self.put(Heartbeat(clock=clock.now()))
                next_beat = now + interval
            if self._stuck(limit):
                # Our own process may have been stopped, and what came meanwhile not yet be read: look again.
                await trio.sleep(min(1.0, interval / 10))
                if verdict := self._stuck(limit):
                    self._end(1008, verdict)
            since = min(self._wire.quiet_since(), self._wire.writing_since or now)
            await trio.sleep_until(min(next_beat, max(since + limit, now + interval / 100)))

    def _stuck(self, limit: float) -> str | None:
        now = trio.current_time()
        if now - self._wire.quiet_since() >= limit:
            return f"nothing came for {limit:g} s"
        if self._wire.writing_since is not None and now - self._wire.writing_since >= limit:
            return f"nothing could be sent for {limit:g} s"
        return None

    async def _ask(self, answered: trio.Event) -> None:
        try:
            await self._connection.ping()
        except ConnectionClosed:
            return
        answered.set()

    # -- small parts ---------------------------------------------------------------------------------------------------

    def _room(self, frame: str) -> bool:
        return not self._queue or (len(self._queue) < MAX_QUEUED and self._queued_text + len(frame) <= MAX_QUEUED_TEXT)

    def _put_frame(self, frame: str) -> bool:
        if self.closed:
            return False
        if not self._room(frame):
            logger.warning("link %s: closed, the peer does not read and too many messages wait", self.remote)
            self._end(1013, "too many messages wait to be read")
            return False
        self._queued_text += len(frame)
        if self._queue is None:
            self._queue = deque((frame,))
            self._wire.start_soon(self._write, self._queue, name=f"link writer {self.remote}")
        else:
            self._queue.append(frame)
        return True


def _fault(crash: Exception) -> tuple[int, str]:
    """Given what ended the reading of a peer's bytes, return the close code and the reason."""
    if isinstance(crash, Overrun):
        return crash.code, str(crash)
    return 1002, "the peer's bytes could not be understood"


def short(reason: str) -> str:
    """Given a reason, return what of it fits a close frame (123 bytes of UTF-8)."""
    return reason.encode("utf-8")[:120].decode("utf-8", "ignore")
