"""The operators' door as one ASGI application: every noun's operations as routes. Owns nothing but the sum.

In front of them all stands the doorman (`access`). It refuses to know sockets (`server.operators`).
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from restic_manager.domain.errors import InputError, NotFoundError
from restic_manager.server.api import (
    audit,
    certificate,
    host_trust,
    hosts,
    jobs,
    keys,
    ledger,
    maintenance,
    pauses,
    repos,
    schedules,
    snapshots,
    status,
    tokens,
)
from restic_manager.server.api.access import Doorman
from restic_manager.server.api.answers import error_response
from restic_manager.server.api.operations import Operation, route
from restic_manager.server.services import Services


def operations() -> tuple[Operation, ...]:
    """Return every operation there is."""
    return (
        *status.OPERATIONS,
        *certificate.OPERATIONS,
        *keys.OPERATIONS,
        *hosts.OPERATIONS,
        *host_trust.OPERATIONS,
        *repos.OPERATIONS,
        *maintenance.OPERATIONS,
        *snapshots.OPERATIONS,
        *schedules.OPERATIONS,
        *ledger.OPERATIONS,
        *jobs.OPERATIONS,
        *pauses.OPERATIONS,
        *tokens.OPERATIONS,
        *audit.OPERATIONS,
    )


def build_api(services: Services) -> Starlette:
    """Given a server's parts, return the application that answers its operators."""
    return Starlette(
        routes=[route(services, operation) for operation in operations()],
        middleware=[Middleware(Doorman, services=services)],
        exception_handlers={404: _no_such_path, 405: _no_such_method},  # Starlette's own are plain text
    )


async def _no_such_path(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's signature
    return error_response(NotFoundError(f"this server has no {request.url.path[:200]!r}"))


async def _no_such_method(request: Request, error: Exception) -> Response:
    headers = (error.headers if isinstance(error, HTTPException) else None) or {}
    answer = error_response(
        InputError(f"{request.url.path[:200]!r} does not take {request.method}", code="method_not_allowed"), 405
    )
    answer.headers.update(headers)
    return answer
