"""`/v1/tokens` and `/v1/whoami`: operators elsewhere, and who one is. Thin over `store.tokens`.

A token is in the answer that makes it, and nowhere else.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from sqlalchemy import Connection

from restic_manager.protocol.api import TokenRequest, TokenView, WhoView
from restic_manager.server.api.operations import Call, Operation
from restic_manager.server.services import Services
from restic_manager.server.store import tokens
from restic_manager.server.store.tokens import Made, TokenRow


async def create(services: Services, call: Call[TokenRequest, None]) -> TokenView:
    """Make a token."""
    request, now = call.body, services.clock.now()
    lifetime = None if request.seconds is None else timedelta(seconds=request.seconds)

    def change(tx: Connection) -> Made:
        by = call.act.asker.name
        return tokens.create(tx, name=request.name, role=request.role, lifetime=lifetime, created_by=by, now=now)

    made = await services.store.write(call.act.within(change))
    return _view(made.row, made.token)


async def list_tokens(services: Services, call: Call[None, None]) -> list[TokenView]:  # noqa: ARG001 - a handler's form
    """Return every token."""
    return await services.store.read(lambda tx: [_view(row) for row in tokens.all_tokens(tx)])


async def revoke(services: Services, call: Call[None, None]) -> TokenView:
    """Revoke a token, and return it."""
    now = services.clock.now()

    def change(tx: Connection) -> TokenRow:
        return tokens.revoke(tx, tokens.resolve(tx, call.path["ref"]), now=now)

    return _view(await services.store.write(call.act.within(change)))


async def whoami(services: Services, call: Call[None, None]) -> WhoView:
    """Return who asks."""
    asker = call.act.asker
    return WhoView(
        name=asker.name,
        role=asker.role,
        origin=asker.origin,
        expires_at=asker.expires_at,
        pins=services.operators_pins(),
    )


def _view(row: TokenRow, token: str | None = None) -> TokenView:
    return TokenView(
        id=row.id,
        name=row.name,
        role=row.role,
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        last_used_from=row.last_used_from,
        token=token,
    )


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/whoami",
        name="whoami",
        summary="Who asks, and with which role",
        handler=whoami,
        response=WhoView,
    ),
    Operation(
        method="POST",
        path="/v1/tokens",
        name="token_create",
        summary="Make a token for an operator elsewhere; it is answered once",
        handler=create,
        request=TokenRequest,
        response=TokenView,
        status=201,
    ),
    Operation(
        method="GET",
        path="/v1/tokens",
        name="token_list",
        summary="Every token there ever was, the newest first, without what they are",
        handler=list_tokens,
        response=list[TokenView],
    ),
    Operation(
        method="DELETE",
        path="/v1/tokens/{ref}",
        name="token_revoke",
        summary="Revoke a token: it lets nobody in any more",
        handler=revoke,
        response=TokenView,
    ),
)
