"""Who is let in at the operators' door: the user of the socket, or who has a token. In front of every operation.

Owns what a bearer token becomes, and how failures are answered: later and later, written down, and never to the cost of
who has the right token. Which role an operation needs is `roles`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio
from sqlalchemy import Connection
from starlette.types import ASGIApp, Receive, Scope, Send

from restic_manager.domain.errors import InputError, ManagerError, NotPermittedError, StorageError
from restic_manager.domain.roles import Role
from restic_manager.domain.tokens import check_operator_token, token_sha256
from restic_manager.server.api.acts import Asker
from restic_manager.server.api.answers import error_response
from restic_manager.server.attempts import Attempts
from restic_manager.server.peers import SCOPE_KEY, Peer
from restic_manager.server.store import audit, tokens
from restic_manager.server.store.audit import Entry
from restic_manager.server.store.tokens import TokenRow

if TYPE_CHECKING:
    from restic_manager.server.services import Services

logger = logging.getLogger(__name__)

ASKER_KEY: Final = "restic_manager.asker"
"""Where an ASGI scope holds the Asker, once it is known."""
AUTHENTICATE: Final = "authenticate"
"""The operation of the audit's rows about who was not let in."""
_WHO: Final = (
    "who are you? Over TCP an operator's token is needed: `restic-manager login URL` keeps one (an admin makes it with "
    "`restic-manager token create`)"
)


class Doorman:
    """The ASGI application that stands in front of the operations."""

    def __init__(self, app: ASGIApp, *, services: Services, attempts: Attempts | None = None) -> None:
        """Given the operations, and the server they are of, let in who has the right to ask."""
        self._app = app
        self._services = services
        self._attempts = attempts or Attempts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on with its asker."""
        if scope["type"] == "http":
            peer: Peer = scope.get(SCOPE_KEY) or Peer(origin="unknown", network="unknown")
            try:
                scope[ASKER_KEY] = await self._asker(peer, scope)
            except ManagerError as error:
                await error_response(error, 401 if isinstance(error, NotPermittedError) else None)(scope, receive, send)
                return
            peer.admitted = True
            asker: Asker = scope[ASKER_KEY]
            if asker.token_id is not None:
                left = None if asker.expires_at is None else asker.expires_at - self._services.clock.now()
                with self._services.guests.inside(asker.token_id, None if left is None else left.total_seconds()):
                    await self._app(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _asker(self, peer: Peer, scope: Scope) -> Asker:
        """Return who asks; raise NotPermittedError, after the time that this takes, for nobody we know."""
        if peer.user is not None:
            return Asker(name=peer.user, role=Role.ADMIN, origin=peer.origin)
        found = await self._token(scope)
        if isinstance(found, NotPermittedError):
            await self._turn_away(peer, scope, found)
            raise found
        now = self._services.clock.now()
        if tokens.use_is_news(found, now):
            try:
                await self._services.store.write(lambda tx: tokens.note_used(tx, found.id, origin=peer.origin, now=now))
            except StorageError as error:  # a full disk must not keep out who comes to look after it
                logger.warning("that token %s is used could not be stored: %s", found.name, error.message)
        return Asker(
            name=found.name,
            role=found.role,
            origin=peer.origin,
            expires_at=found.expires_at,
            scope=found.scope,
            token_id=found.id,
        )

    async def _token(self, scope: Scope) -> TokenRow | NotPermittedError:
        given = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
        if not given:
            return NotPermittedError(_WHO, code="no_token")
        scheme, _, text = given[0].decode("latin-1").strip().partition(" ")
        if len(given) > 1 or scheme.lower() != "bearer":
            return NotPermittedError(
                "the Authorization header has to be `Bearer` and an operator's token", code="no_token"
            )
        try:
            digest = token_sha256(check_operator_token(text.strip()))
        except InputError as error:
            return NotPermittedError(error.message, code=error.code)
        now = self._services.clock.now()
        return await self._services.store.read(lambda tx: tokens.recognise(tx, digest, now=now))

    async def _turn_away(self, peer: Peer, scope: Scope, refusal: NotPermittedError) -> None:
        """Return when it is time to give the refusal, which is written down then.

        Raise NotPermittedError at once for a network that has as many under way as it may: that is only counted.
        """
        if not self._attempts.may_be_heard(peer.network):
            raise NotPermittedError(
                "too many failed attempts from your address: wait until those are answered", code="too_many_attempts"
            )
        seconds = self._attempts.failed(peer.network, trio.current_time())
        try:
            await trio.sleep(seconds)
        finally:
            unheard = self._attempts.refused(peer.network)
        more = f"; {unheard} more attempts were turned away unheard" if unheard else ""
        logger.warning("operators' door: %s was not let in: %s%s", peer.origin, refusal.code, more)
        entry = Entry(
            who="nobody",
            role=None,
            origin=peer.origin,
            operation=AUTHENTICATE,
            object=f"{scope['method']} {scope['path']}".replace("\0", "\ufffd"),
            outcome=refusal.code,
            message=f"{refusal.message}{more}",
        )
        now = self._services.clock.now()

        def note(tx: Connection) -> None:
            audit.record(tx, entry, now=now)

        try:
            await self._services.store.write(note)
        except StorageError as error:
            logger.warning("audit: that %s was not let in is not in it: %s", peer.origin, error.message)
