"""Sleeping until a wall-clock instant. Owns the timer and the doorbell; refuses to say why it woke.

trio's clock is monotonic and stops during suspend, so a plain sleep is late after a resume and deaf to a clock that was
set. On Linux a timerfd on the real-time clock wakes within a millisecond in both cases; everywhere else, and beside it,
no sleep is longer than `LONGEST_SLEEP`. After any wake the caller recomputes everything from the clock.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Final

import trio

from restic_manager.runtime.bell import Bell
from restic_manager.runtime.clock import Clock, SystemClock

LONGEST_SLEEP: Final = 30.0
"""Seconds after which the wall clock is read again, whatever the timer does."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCK_REALTIME: Final = 0
_TFD_NONBLOCK: Final = os.O_NONBLOCK
_TFD_CLOEXEC: Final = os.O_CLOEXEC if hasattr(os, "O_CLOEXEC") else 0
_TFD_TIMER_ABSTIME: Final = 1
_TFD_TIMER_CANCEL_ON_SET: Final = 2


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class WallTimer:
    """A timerfd on the real-time clock: readable at the instant it is set to, and when the clock is set.

    Through ctypes, because Python offers timerfd only from 3.13 on. Raises OSError where the kernel has none.
    """

    def __init__(self) -> None:
        name = ctypes.util.find_library("c") or "libc.so.6"
        self._libc = ctypes.CDLL(name, use_errno=True)
        self.fd: int = self._libc.timerfd_create(_CLOCK_REALTIME, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def set(self, instant: datetime | None) -> None:
        """Wake at this instant (at once if it is past), or not before the clock is set when None."""
        nanoseconds = 2**62 if instant is None else max(int((instant - _EPOCH).total_seconds() * 1e9), 1)
        spec = _Itimerspec(_Timespec(0, 0), _Timespec(*divmod(nanoseconds, 1_000_000_000)))
        flags = _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET
        if self._libc.timerfd_settime(self.fd, flags, ctypes.byref(spec), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    async def wait(self) -> None:
        """Return once it has gone off or the clock was set since `set`."""
        await trio.lowlevel.wait_readable(self.fd)
        with suppress(OSError):  # ECANCELED: the clock was set; EAGAIN: set anew meanwhile. Both mean: look again.
            os.read(self.fd, 8)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)


class Alarm:
    """Wakes one task: at an instant, when rung, when the clock was set, or after LONGEST_SLEEP."""

    def __init__(self, clock: Clock, timer: WallTimer | None) -> None:
        self._clock = clock
        self._timer = timer
        self._bell = Bell()

    def ring(self) -> None:
        """Wake the waiting task, or let its next wait return at once."""
        self._bell.ring()

    async def wait(self, until: datetime | None) -> None:
        """Sleep until then (None: until rung), never longer than LONGEST_SLEEP."""
        seconds = LONGEST_SLEEP
        if until is not None:
            seconds = min(seconds, max((until - self._clock.now()).total_seconds(), 0.0))
            if self._timer is not None:
                # The timer is exact to the wall clock; the sleep beside it is only the cap.
                self._timer.set(until)
                seconds = LONGEST_SLEEP if seconds > 0 else 0.0
        with trio.move_on_after(seconds):
            await self._bell.wait()

    async def watch_timer(self) -> None:
        """Ring whenever the timer goes off: the alarm's own task."""
        if self._timer is not None:
            while True:
                await self._timer.wait()
                self.ring()


@asynccontextmanager
async def open_alarm(clock: Clock) -> AsyncIterator[Alarm]:
    """Given the clock to sleep by, give an alarm; with the system's clock on Linux it has a timer of the kernel's."""
    timer = None
    if isinstance(clock, SystemClock) and sys.platform == "linux":
        with suppress(OSError):  # an old or sandboxed kernel: the cap alone serves
            timer = WallTimer()
    alarm = Alarm(clock, timer)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alarm.watch_timer, name="wall-clock timer")
            yield alarm
            nursery.cancel_scope.cancel()
    finally:
        if timer is not None:
            timer.close()
