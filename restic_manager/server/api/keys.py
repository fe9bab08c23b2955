"""`/v1/server/key`: a new key for everything that is sealed. Thin over `server.keys`; answers with no key."""

from __future__ import annotations

from typing import Final

from restic_manager.domain.errors import ConflictError
from restic_manager.protocol.api import KeyView
from restic_manager.server.api.operations import Call, Operation
from restic_manager.server.services import Services


async def rotate(services: Services, call: Call[None, None]) -> KeyView:
    """Make a new key, and seal everything with it."""
    if services.keys is None:
        raise ConflictError("this server's key is fixed: it cannot be changed while it runs")
    return KeyView(sealed_anew=await services.keys.rotate(services.store, call.act.within))


OPERATIONS: Final = (
    Operation(
        method="POST",
        path="/v1/server/key/rotate",
        name="key_rotate",
        summary="Make a new key, seal every secret with it, and forget the old one",
        handler=rotate,
        response=KeyView,
    ),
)
