"""What goes back: a value as JSON, an error with the HTTP status that fits. Owns that one mapping."""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.responses import Response

from restic_manager.domain.errors import (
    ConflictError,
    InputError,
    ManagerError,
    NotFoundError,
    NotPermittedError,
    StorageError,
    UnreachableError,
)
from restic_manager.protocol.api import ErrorAnswer, ErrorBody

_STATUS: Final[tuple[tuple[type[ManagerError], int], ...]] = (
    (InputError, 400),
    (NotPermittedError, 403),
    (NotFoundError, 404),
    (ConflictError, 409),
    (StorageError, 503),
    (UnreachableError, 503),
)
_STATUS_BY_CODE: Final = {"storage_full": 507, "too_large": 413, "too_many_attempts": 429}


def json_response(answer: object, status: int = 200) -> Response:
    """Given a value of our API's types, return it as a JSON answer."""
    return Response(msgspec.json.encode(answer), status_code=status, media_type="application/json")


def error_response(error: ManagerError, status: int | None = None) -> Response:
    """Given an error, return the answer that tells code and message, with the HTTP status that fits."""
    if status is None:
        status = next((number for kind, number in _STATUS if isinstance(error, kind)), 500)
    status = _STATUS_BY_CODE.get(error.code, status)
    return json_response(ErrorAnswer(error=ErrorBody(code=error.code, message=error.message)), status)
