"""Who this host is, as long as the agent runs: what of it changes over a session, and is on disk before it is used.

The server's certificate gets a new pin; the credential is replaced. A crash anywhere in between leaves what was good
before, or what is good now. The credential before stays on disk: a server that was put back to an older copy of its
database knows only that one. It refuses to know how a connection is made, and who asks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import trio

from restic_manager.agent.identity import Identity, IdentityFiles, new_credential, sha256_hex
from restic_manager.domain.errors import StorageError
from restic_manager.protocol.messages import (
    CredentialHeld,
    CredentialNew,
    CredentialRotate,
    CredentialUsed,
    Message,
)

logger = logging.getLogger(__name__)


class IdentityBook:
    """This host's identity. Every change of it is forced to disk first; without files it lasts as long as this does."""

    def __init__(self, identity: Identity, files: IdentityFiles | None = None) -> None:
        self._identity = identity
        self._files = files
        self._elder = False

    @property
    def credential(self) -> str:
        """What to dial with."""
        return (self._elder and self._identity.former_credential) or self._identity.credential

    @property
    def pins(self) -> tuple[str, ...]:
        """The pins the server's certificate may have. None where the system's CAs decide, and then none is learned."""
        return self._identity.pins

    # -- the server's certificate --------------------------------------------------------------------------------------

    async def learn(self, pins: Sequence[str]) -> bool:
        """Given the pins that the server says are good, hold these; return whether that changed anything.

        None at all changes nothing. Where they cannot be stored the old ones stay, until the next welcome.
        """
        if not self.pins or not pins or set(pins) == set(self.pins):
            return False
        try:
            await self._store(pins=tuple(pins))
        except StorageError as error:
            logger.error("the next pin of the server's certificate cannot be stored: %s", error.message)  # noqa: TRY400 - the message says it all
            return False
        logger.info("the server's certificate changes: these are its pins from now on: %s", ", ".join(pins))
        return True

    # -- the credential ------------------------------------------------------------------------------------------------

    async def told(self, message: CredentialRotate | CredentialHeld, say: Callable[[Message], object]) -> None:
        """Given what the server says of our credential, do it and answer. What cannot be stored is asked for again."""
        try:
            if isinstance(message, CredentialRotate):
                say(CredentialNew(credential_sha256=await self.next_credential()))
            elif await self.switch(message.credential_sha256):
                say(CredentialUsed(credential_sha256=message.credential_sha256))
        except StorageError as error:
            logger.error("the credential cannot be replaced: %s", error.message)  # noqa: TRY400 - the message says it all

    async def next_credential(self) -> str:
        """Return the hash of the credential to use next; it is made, and on disk, when this returns.

        Until `switch` it is the same one each time. Raise StorageError where it cannot be stored.
        """
        following = self._identity.next_credential
        if following is None:
            following = new_credential()
            await self._store(next_credential=following)
        return sha256_hex(following)

    async def switch(self, digest: str) -> bool:
        """Given the hash of a credential that the server lets in, use that from now on if it is our next one.

        Return whether it is the one in use now. Raise StorageError where that cannot be stored; then nothing changed.
        """
        following = self._identity.next_credential
        if following is not None and sha256_hex(following) == digest:
            await self._store(credential=following, next_credential=None, former_credential=self._identity.credential)
            logger.info("this host has a new credential now; the one before is no longer used")
        return sha256_hex(self._identity.credential) == digest

    def unknown(self) -> bool:
        """The server does not know the credential it was dialled with: return whether to dial with the other one.

        That is the one before, once; and then the one in use again.
        """
        if self._identity.former_credential is None:
            return False
        self._elder = not self._elder
        return self._elder

    async def welcomed(self) -> None:
        """The credential it was dialled with is good: if that is the one before, live by that again.

        Raise StorageError where that cannot be stored.
        """
        former = self._identity.former_credential
        if self._elder and former is not None:
            await self._store(credential=former, next_credential=self._identity.credential, former_credential=None)
            logger.warning(
                "the server was put back to a time before this host's credential was replaced: it goes on with the "
                "one before"
            )
        self._elder = False

    async def _store(self, **changes: Any) -> None:
        identity = msgspec.structs.replace(self._identity, **changes)
        if self._files is not None:
            await trio.to_thread.run_sync(self._files.store, identity)
        self._identity = identity
