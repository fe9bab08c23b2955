"""The doorbell: wakes one waiting task, carries nothing. What it woke for is read from rows, never from the bell."""

from __future__ import annotations

import trio


class Bell:
    """Wakes one waiting task: ringing twice before it looks is ringing once."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[None](1)

    def ring(self) -> None:
        """Wake the waiting task, or let its next wait return at once."""
        try:
            self._send.send_nowait(None)
        except trio.WouldBlock:
            return  # it has been rung already

    async def wait(self) -> None:
        """Sleep until rung."""
        await self._receive.receive()
