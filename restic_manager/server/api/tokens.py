"""`/v1/tokens` and `/v1/whoami`: operators elsewhere, and who one is. Thin over `store.tokens`.

A token is in the answer that makes it, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import msgspec
from sqlalchemy import Connection

from restic_manager.domain.errors import InputError
from restic_manager.domain.names import check_labels
from restic_manager.domain.selectors import TargetRule
from restic_manager.protocol.api import TokenRequest, TokenView, WhoView
from restic_manager.server.api.operations import Call, Operation
from restic_manager.server.services import Services
from restic_manager.server.store import hosts, schema, tokens
from restic_manager.server.store.references import names_of
from restic_manager.server.store.tokens import Made, TokenRow


async def create(services: Services, call: Call[TokenRequest, None]) -> TokenView:
    """Make a token."""
    request, now = call.body, services.clock.now()
    lifetime = None if request.seconds is None else timedelta(seconds=request.seconds)

    def change(tx: Connection) -> Made:
        return tokens.create(
            tx,
            name=request.name,
            role=request.role,
            scope=_scope(tx, request),
            lifetime=lifetime,
            created_by=call.act.asker.name,
            now=now,
        )

    made = await services.store.write(call.act.within(change))
    view = await services.store.read(lambda tx: _views(tx, [made.row])[0])
    return msgspec.structs.replace(view, token=made.token)


async def list_tokens(services: Services, call: Call[None, None]) -> list[TokenView]:  # noqa: ARG001 - a handler's form
    """Return every token."""
    return await services.store.read(lambda tx: _views(tx, tokens.all_tokens(tx)))


async def revoke(services: Services, call: Call[None, None]) -> TokenView:
    """Revoke a token, and return it."""
    now = services.clock.now()

    def change(tx: Connection) -> TokenView:
        return _views(tx, [tokens.revoke(tx, tokens.resolve(tx, call.path["ref"]), now=now)])[0]

    view = await services.store.write(call.act.within(change))
    if view.id != call.act.asker.token_id:  # who revokes its own token gets the answer
        services.guests.turn_out(view.id)
    return view


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


def _scope(tx: Connection, request: TokenRequest) -> TargetRule | None:
    """Return which hosts a token is to be for, None for all; raise InputError or NotFoundError."""
    if not request.hosts and not request.labels:
        return None
    if request.hosts and request.labels:
        raise InputError("hosts or labels limit a token, not both: leave one out")
    check_labels(request.labels)
    return TargetRule(hosts=tuple(hosts.resolve(tx, each).id for each in request.hosts), labels=request.labels)


def _views(tx: Connection, rows: Sequence[TokenRow]) -> list[TokenView]:
    limited = {host_id for row in rows if row.scope is not None for host_id in row.scope.hosts}
    names = names_of(tx, schema.hosts, limited)
    return [
        TokenView(
            id=row.id,
            name=row.name,
            role=row.role,
            hosts=() if row.scope is None else tuple(names.get(each, each) for each in row.scope.hosts),
            labels={} if row.scope is None else row.scope.labels,
            created_at=row.created_at,
            created_by=row.created_by,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            last_used_at=row.last_used_at,
            last_used_from=row.last_used_from,
        )
        for row in rows
    ]


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
