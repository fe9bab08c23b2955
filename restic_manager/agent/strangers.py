"""Who answered in the server's place, and how loudly that is said. It refuses to know what is trusted, and why."""

from __future__ import annotations

import logging

from restic_manager.domain.errors import UntrustedError

logger = logging.getLogger(__name__)


class Strangers:
    """Who answered in the server's place. Decides how loudly that is said: once for each that shows itself."""

    def __init__(self) -> None:
        self._last: str | None = None

    def met(self, error: UntrustedError, pause: str) -> None:
        """Given what was wrong with it and how long until the next try, say so. Who is in between may go away."""
        level = logging.WARNING if self._last == error.message else logging.ERROR
        self._last = error.message
        logger.log(level, "%s. Nothing was said to it; next try in %s", error.message, pause)

    def gone(self) -> None:
        """The server itself was there: whoever comes now is told loudly again."""
        self._last = None
