"""The schedule sets of one session: parts are gathered, and a set that is whole is applied and acknowledged.

Owns what has come of a set so far; it dies with the session, because the server sends the whole set again in the next.
What a set means for each schedule is decided in `slots`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import msgspec

from restic_manager.agent.slots import Slots
from restic_manager.link import Link
from restic_manager.protocol.messages import Ended, ScheduleSet
from restic_manager.runtime.bell import Bell
from restic_manager.runtime.clock import Clock


@dataclass
class _Parts:
    """A schedule set that is coming in parts."""

    epoch: str
    version: int
    parts: dict[int, ScheduleSet]


class ScheduleSets:
    """Takes parts from the reading task, and applies whole sets in one of its own: a large set takes seconds."""

    def __init__(
        self,
        slots: Slots,
        clock: Clock,
        *,
        server_ahead: timedelta,
        with_orders: bool,
        applied: Callable[[], None],
    ) -> None:
        """server_ahead: how far the server's clock is ahead of this one. with_orders: sets come with standing orders.

        applied: called after each set.
        """
        self._slots = slots
        self._clock = clock
        self._server_ahead = server_ahead
        self._with_orders = with_orders
        self._applied = applied
        self._parts: _Parts | None = None  # of a set that has not come whole yet
        self._complete: _Parts | None = None  # one that has, and waits to be applied
        self._bell = Bell()

    def take(self, message: ScheduleSet) -> None:
        """Given a part, keep it. A newer set replaces one that waits: what ended since the last ack is in it, too."""
        parts = self._parts
        if parts is None or (parts.epoch, parts.version) != (message.epoch, message.version):
            parts = self._parts = _Parts(message.epoch, message.version, {})
        parts.parts[message.part] = message
        if len(parts.parts) < message.parts:
            return
        self._parts, self._complete = None, parts
        self._bell.ring()

    async def run(self, link: Link) -> None:
        """Apply what has come whole, and acknowledge it on the link, for ever."""
        while True:
            await self._bell.wait()
            complete, self._complete = self._complete, None
            if complete is None:
                continue
            raw: list[msgspec.Raw] = []
            ended: list[Ended] = []
            for _, part in sorted(complete.parts.items()):
                raw.extend(part.entries)
                ended.extend(part.ended)
            now = self._clock.now()
            ack = await self._slots.apply(
                epoch=complete.epoch,
                version=complete.version,
                raw_entries=raw,
                ended=ended,
                now=now,
                server_ahead=self._server_ahead,
                with_orders=self._with_orders,
            )
            self._applied()
            await link.send(ack)
