"""Log lines that a stranger can cause: so many, and then only how many more there were.

Nobody fills the disk with them. It refuses to know what they say.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from restic_manager.domain.pace import Pace

LINES_AT_ONCE: Final = 20.0
LINES_A_SECOND: Final = 0.2
"""Lines of one sort that are written down."""


class Seldom:
    """One sort of lines of one logger."""

    __slots__ = ("_logger", "_monotonic", "_omitted", "_pace")

    def __init__(self, logger: logging.Logger, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Given the logger and a clock in seconds, hold them."""
        self._logger = logger
        self._monotonic = monotonic
        self._pace = Pace(LINES_A_SECOND, LINES_AT_ONCE)
        self._omitted = 0

    def say(self, level: int, message: str, *arguments: object, trace: bool = False) -> None:
        """Given a line as for a logger (trace: with the exception that is being handled), write it down or count it."""
        if not self._pace.allows(self._monotonic()):
            self._omitted += 1
            return
        omitted, self._omitted = self._omitted, 0
        if omitted:
            message, arguments = f"{message} (%d more like it were not written down)", (*arguments, omitted)
        self._logger.log(level, message, *arguments, exc_info=trace)
