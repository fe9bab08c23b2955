"""SIGTERM and SIGINT as two events: the first asks to finish, the second to stop at once. Decides nothing else.

Without this a SIGTERM ends Python without running a single `finally`.
"""

from __future__ import annotations

import logging
import signal
from typing import NamedTuple

import trio

logger = logging.getLogger(__name__)


class StopSignals(NamedTuple):
    """`drain` is set by the first signal, `cancel` by the second."""

    drain: trio.Event
    cancel: trio.Event


async def watch_signals(task_status: trio.TaskStatus[StopSignals]) -> None:
    """Start it with `nursery.start` in the main thread: it returns the two events, and watches until it is cancelled.

    Signals after the second do nothing more.
    """
    stop = StopSignals(trio.Event(), trio.Event())
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as numbers:
        task_status.started(stop)
        async for number in numbers:
            name = signal.Signals(number).name
            if not stop.drain.is_set():
                logger.info("%s: finishing; a second one stops at once", name)
                stop.drain.set()
            elif not stop.cancel.is_set():
                logger.warning("%s again: stopping at once", name)
                stop.cancel.set()
