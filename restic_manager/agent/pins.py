"""Which certificates the server may show: the pins of this host's identity, and how it learns the next ones.

What the server says over a session is stored, on disk, before it is used or told: a crash in between leaves the pins
that were good before. It refuses to know how a connection is made.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec
import trio

from restic_manager.agent.identity import Identity, IdentityFiles
from restic_manager.domain.errors import StorageError, UntrustedError

logger = logging.getLogger(__name__)


class PinBook:
    """The pins this host holds. Empty where the system's CAs decide, and then nothing is learned."""

    def __init__(self, files: IdentityFiles, identity: Identity) -> None:
        self._files = files
        self._identity = identity

    @property
    def held(self) -> tuple[str, ...]:
        """The pins the server's certificate may have."""
        return self._identity.pins

    async def learn(self, pins: Sequence[str]) -> bool:
        """Given the pins that the server says are good, hold these; return whether that changed anything.

        None at all changes nothing. Where they cannot be stored the old ones stay, until the next welcome.
        """
        if not self.held or not pins or set(pins) == set(self.held):
            return False
        identity = msgspec.structs.replace(self._identity, pins=tuple(pins))
        try:
            await trio.to_thread.run_sync(self._files.store, identity)
        except StorageError as error:
            logger.error("the next pin of the server's certificate cannot be stored: %s", error.message)  # noqa: TRY400 - the message says it all
            return False
        self._identity = identity
        logger.info("the server's certificate changes: these are its pins from now on: %s", ", ".join(pins))
        return True


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
