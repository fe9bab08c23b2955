"""One connection's bytes and its tasks: who heard what when, and how a connection ends.

A `Wire` is a stream for a protocol library: it knows when anything was last read, whether someone is reading or stuck
in a write, and it keeps the library from closing the socket before the goodbye is out. It also runs the library's and
our own tasks of the connection, so that cancelling the owner lets them finish a frame, and so that a crash in one (a
library's bug on hostile input) ends this connection only. It knows nothing of frames or messages.

An idle connection is mostly memory: no task, scope or buffer here is without need.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from restic_manager.link.meter import Overrun
from restic_manager.link.sluice import Sluice

READ_SIZE = 64 << 10
"""Most bytes of one read."""
WRITE_SIZE = 64 << 10
"""Most bytes of one write: after each the wire counts as moving."""
HANDSHAKE_BYTES = 128 << 10
"""Most bytes a peer may send before `open()` says that the handshake is over."""
LINGER_SECONDS = 1.0
"""How long to wait for the peer to hang up too, so that what we said last is not overtaken by a reset."""
LINGER_BYTES = 32 << 20


class Wire(trio.abc.Stream):
    """A stream that a protocol library may use but not close, and the tasks that work on it. Made by `wired`.

    `on_end` is called when it is over: the peer hung up, the connection broke, the library has let go of it, or a task
    has failed (then `crash` says how). `last_words` says what to send before hanging up.
    """

    __slots__ = (
        "_closed",
        "_handshake_left",
        "_nursery",
        "_scopes",
        "_sluice",
        "_stream",
        "crash",
        "ended",
        "first_byte",
        "heard_at",
        "last_words",
        "on_end",
        "peer_gone",
        "reading_since",
        "sent",
        "torn",
        "writing_since",
    )

    def __init__(self, stream: trio.abc.Stream, nursery: trio.Nursery) -> None:
        self._stream = stream
        self._nursery = nursery
        self._scopes: set[trio.CancelScope] | None = set()
        self._handshake_left: int | None = HANDSHAKE_BYTES
        self._sluice = Sluice()
        self._closed = False
        self.on_end: Callable[[], object] = _nothing
        self.last_words: Callable[[], bytes] = bytes
        self.crash: Exception | None = None
        self.first_byte: int | None = None
        """What the peer began with: tells one protocol from another."""
        self.ended = False
        """Whether it is over."""
        self.peer_gone = False
        """The peer hung up or the connection broke."""
        self.sent = False
        """Whether anything was ever sent."""
        self.torn = False
        """Whether a write was cut short: nothing sensible can be sent after it."""
        self.heard_at = trio.current_time()
        self.reading_since: float | None = None
        self.writing_since: float | None = None

    def open(self) -> None:
        """The handshake is over: the peer may send as much as it likes."""
        self._handshake_left = None

    def start_soon(self, task: Callable[..., Awaitable[object]], *args: object, name: object = None) -> None:
        """Given a task, run it until it ends or `stop_tasks` is called, whatever cancels the owner.

        This is all that trio-websocket asks of a nursery.
        """
        self._nursery.start_soon(self._run, task, args, name=name or task)

    def stop_tasks(self) -> None:
        """End every task, also those still to be started. A frame half sent stays so."""
        scopes, self._scopes = self._scopes or (), None
        for scope in scopes:
            scope.cancel()

    def quiet_since(self) -> float:
        """Return since when (trio's seconds) nothing came although we listened; now while nobody reads."""
        if self.reading_since is None:
            return trio.current_time()
        return max(self.heard_at, self.reading_since)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Given a limit, return what came, empty when the peer has hung up; no more and no faster than it may."""
        if self._closed:
            raise trio.ClosedResourceError("this connection is being closed")
        if kept := self._sluice.kept():
            await trio.lowlevel.checkpoint()
        data = kept or await self._read(min(max_bytes or READ_SIZE, READ_SIZE))
        try:
            return await self._sluice.let_through(data)
        except Overrun as overrun:
            self.crash = self.crash or overrun  # before the library tells anybody that it is over
            self._end()
            raise

    async def _read(self, most: int) -> bytes | bytearray:
        self.reading_since = trio.current_time()
        try:
            data = await self._stream.receive_some(most)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._gone()
            raise
        finally:
            self.reading_since = None
        self.heard_at = trio.current_time()
        if not data:
            self._gone()
        elif self._handshake_left is not None:
            if self.first_byte is None:
                self.first_byte = data[0]
            self._handshake_left -= len(data)
            if self._handshake_left < 0:
                raise trio.BrokenResourceError(f"over {HANDSHAKE_BYTES} bytes before the handshake was done")
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Given bytes, send them in pieces, so that a slow connection that moves is told from one that is stuck."""
        if self._closed:
            raise trio.ClosedResourceError("this connection is being closed")
        whole = False
        try:
            for piece in _pieces(data):
                self.writing_since = trio.current_time()
                await self._stream.send_all(piece)
                self.sent = True
            whole = True
        except trio.BrokenResourceError:
            self._gone()
            raise
        finally:
            self.writing_since = None
            self.torn = self.torn or not whole

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until a send might go through."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """The library is done with it. The connection itself is closed by `hang_up`."""
        self._closed = True
        self._end()
        await trio.lowlevel.checkpoint()

    async def hang_up(self) -> None:
        """Say the last words, wait a moment for the peer to hang up too, and close. Bounded.

        Closing with bytes unread makes the kernel send a reset, which can overtake the last words.
        """
        try:
            if not self.peer_gone:
                with trio.move_on_after(LINGER_SECONDS, shield=True):
                    await self._say_goodbye(self.last_words())
        finally:
            await trio.aclose_forcefully(self._stream)

    async def _run(self, task: Callable[..., Awaitable[object]], args: tuple[object, ...]) -> None:
        if self._scopes is None:
            return
        with trio.CancelScope(shield=True) as scope:
            self._scopes.add(scope)
            try:
                await task(*args)
            except Exception as error:  # noqa: BLE001 - the barrier of one connection: told by `crash`
                self.crash = self.crash or error
                self.stop_tasks()
                self._end()
            finally:
                if self._scopes is not None:
                    self._scopes.discard(scope)

    async def _say_goodbye(self, last_words: bytes) -> None:
        try:
            if last_words and not self.torn:
                await self._stream.send_all(last_words)
            # TLS has no half-close of its own, and waiting for the peer's word would take as long as it likes.
            below = self._stream.transport_stream if isinstance(self._stream, trio.SSLStream) else self._stream
            if isinstance(below, trio.abc.HalfCloseableStream):
                await below.send_eof()
            left = LINGER_BYTES
            while left > 0 and (data := await self._stream.receive_some(READ_SIZE)):
                left -= len(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            self._gone()

    def _gone(self) -> None:
        self.peer_gone = True
        self._end()

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            self.on_end()


@asynccontextmanager
async def wired(stream: trio.abc.Stream) -> AsyncIterator[Wire]:
    """Given a stream, yield its wire; the stream is closed when the block is over, its tasks ended before.

    The body's own exception leaves as it is, in no group.
    """
    failure: Exception | None = None
    wire: Wire | None = None
    try:
        async with trio.open_nursery() as nursery:
            wire = Wire(stream, nursery)
            try:
                yield wire
            except Exception as error:  # noqa: BLE001 - carried out of the nursery unwrapped, and raised again below
                failure = error
            finally:
                wire.stop_tasks()
        if failure is not None:
            raise failure
    finally:
        failure = None  # or it would hold its own traceback
        if wire is not None:
            await wire.hang_up()


def _pieces(data: bytes | bytearray | memoryview) -> list[bytes | bytearray | memoryview]:
    if len(data) <= WRITE_SIZE:
        return [data]
    view = memoryview(data)
    return [view[at : at + WRITE_SIZE] for at in range(0, len(view), WRITE_SIZE)]


def _nothing() -> None:
    return None
