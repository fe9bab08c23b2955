"""One row an operation: method, path, types, handler. Owns how a request becomes a call and an answer becomes bytes.

Both the Starlette routes and the OpenAPI document are made from the same rows, so that neither can drift from the
other. A request is decoded strictly (an unknown field or parameter is an error that names it), after its asker's role
was looked at. It refuses to know what any operation does, and who is let in at all (`access`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from restic_manager.domain.errors import InputError, ManagerError, NotPermittedError, StorageError
from restic_manager.server.api.access import ASKER_KEY
from restic_manager.server.api.acts import Act, Asker
from restic_manager.server.api.answers import error_response, json_response
from restic_manager.server.api.misfits import misfit
from restic_manager.server.api.roles import refuse_unless_allowed
from restic_manager.server.api.scoping import Asked, refuse_out_of_scope, within

if TYPE_CHECKING:
    from restic_manager.server.services import Services

logger = logging.getLogger(__name__)

MAX_BODY: Final = 1 << 20
"""Longest request body, in bytes."""

B = TypeVar("B")
Q = TypeVar("Q")

_DECODE_ERRORS: Final = (msgspec.DecodeError, RecursionError, UnicodeError, ValueError, OverflowError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Call(Generic[B, Q]):
    """One request, decoded: the path's parameters by name, the body, the query; and who asks.

    A handler that changes something has its change written down: `services.store.write(call.act.within(change))`.
    """

    path: Mapping[str, str]
    body: B
    query: Q
    act: Act


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One thing an operator can ask for.

    request, query: msgspec structs (None: there is none) with `forbid_unknown_fields`; response: the type of the
    answer's JSON, or of one line of it when media_type is `application/jsonl`. The handler returns a value of that
    type, or a Starlette Response where it streams or answers something other than JSON.
    """

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    name: str
    summary: str
    handler: Callable[[Services, Call[Any, Any]], Awaitable[Any]]
    response: Any
    request: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    status: int = 200
    media_type: str = "application/json"


def route(services: Services, operation: Operation) -> Route:
    """Given an operation, return the route that answers it. Every failure in it is answered here, as JSON."""

    async def endpoint(request: Request) -> Response:
        asker: Asker = request.scope[ASKER_KEY]
        act = Act(services, asker, operation=operation.name, path=operation.path, changes=operation.method != "GET")
        try:
            answer = await _answer(services, operation, request, act)
        except ManagerError as error:
            if isinstance(error, StorageError):
                logger.warning("%s %s: %s", request.method, request.url.path, error.message)
            await act.failed(error)
            return error_response(error)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception:  # the barrier of one request: a bug in one answer must not end the door
            logger.exception("%s %s failed", request.method, request.url.path)
            mistake = ManagerError("the server made a mistake: its log tells which")
            await act.failed(mistake)
            return error_response(mistake)
        return answer if isinstance(answer, Response) else json_response(answer, operation.status)

    return Route(operation.path, endpoint, methods=[operation.method], name=operation.name)


async def _answer(services: Services, operation: Operation, request: Request, act: Act) -> Any:
    path = dict(request.path_params)
    act.about(path, None)
    _refuse_web_pages(request)
    refuse_unless_allowed(operation.name, act.asker.name, act.asker.role)
    call = Call(path=path, body=await _body(operation, request), query=_query(operation, request), act=act)
    act.about(path, call.body)
    scope = act.asker.scope
    if scope is not None:
        asked = Asked(path, call.body, call.query)
        await services.store.read(
            lambda tx: refuse_out_of_scope(tx, within(tx, act.asker.name, scope), operation.name, asked)
        )
    return await operation.handler(services, call)


def _refuse_web_pages(request: Request) -> None:
    """Refuse what a browser sends on behalf of a page: a page must not command the fleet behind its reader's back."""
    if "origin" in request.headers or request.headers.get("sec-fetch-site", "none") != "none":
        raise NotPermittedError("requests from web pages are refused: use restic-manager, or a program of your own")


async def _body(operation: Operation, request: Request) -> msgspec.Struct | None:
    if operation.request is None:
        return None
    raw = await _raw_body(request)
    try:
        # No body at all is an object without fields.
        value = msgspec.json.decode(raw or b"{}", type=operation.request)
    except _DECODE_ERRORS as error:
        raise InputError(misfit(error, raw)) from None
    if b"\\u0000" in raw and _has_nul(msgspec.to_builtins(value)):
        raise InputError("the request holds a NUL character, which no name, path or secret may")
    return value


async def _raw_body(request: Request) -> bytes:
    """Read the whole body, up to the limit (not by `request.stream()`: an async generator must not be left early)."""
    raw = bytearray()
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        raw += message.get("body", b"")
        more = message.get("more_body", False)
        if len(raw) > MAX_BODY:
            raise InputError(f"the request is longer than {MAX_BODY} bytes: ask for less at once", code="too_large")
    return bytes(raw)


def _query(operation: Operation, request: Request) -> msgspec.Struct | None:
    if operation.query is None:
        if request.query_params:
            raise InputError(f"unknown parameter {next(iter(request.query_params))[:64]!r}: this takes none")
        return None
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise InputError(f"the parameter {name[:64]!r} is given twice: give it once")
        given[name] = value
    try:
        return msgspec.convert(given, type=operation.query, strict=False)
    except _DECODE_ERRORS as error:
        raise InputError(f"the parameters are not valid: {str(error)[:400]}") from None


def _has_nul(value: Any) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
        case list() | tuple():
            return any(_has_nul(item) for item in value)
        case _:
            return False
