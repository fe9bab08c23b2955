"""The OpenAPI document, made from the same rows as the routes. Decides how our types are told; knows no server.

`docs/openapi.json` is what this makes, and a test keeps it so: `python -m restic_manager.server.api.openapi FILE`
writes it anew.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from restic_manager import __version__
from restic_manager.protocol.api import ErrorAnswer
from restic_manager.server.api.operations import Operation
from restic_manager.server.api.roles import ROLES

_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_TAGS: Final = re.compile(r"^/(?:v1/)?(\w+)")
_REF: Final = "#/components/schemas/{name}"


def openapi(operations: Iterable[Operation]) -> dict[str, Any]:
    """Given operations, return their OpenAPI 3.1 document."""
    rows = list(operations)
    types = [ErrorAnswer, *(type_ for row in rows for type_ in (row.response, row.request, row.query) if type_)]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    for component in components.values():
        # A docstring, indented as it stands in the source.
        component["description"] = inspect.cleandoc(component.get("description", ""))
    told = dict(zip(map(_key, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for row in rows:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, told, components)
    # Parameters are told one by one; their struct is no part of any body.
    for query in {row.query.__name__ for row in rows if row.query}:
        components.pop(query, None)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "restic-manager",
            "version": __version__,
            "description": "What the operators' door of a restic-manager server answers. Times are RFC 3339 in UTC, "
            "durations are seconds, sizes are bytes. {ref} is a name or the unique beginning of an id.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": dict(sorted(paths.items())),
        # The Unix socket needs none: whoever may open it is an admin.
        "security": [{}, {"token": []}],
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An operator's token, over TCP. `x-role` says which role an operation needs.",
                }
            },
        },
    }


def document(operations: Iterable[Operation]) -> str:
    """Given operations, return the text of `docs/openapi.json`."""
    return msgspec.json.format(msgspec.json.encode(openapi(operations)), indent=2).decode() + "\n"


def _operation(row: Operation, told: dict[str, dict[str, Any]], components: dict[str, Any]) -> dict[str, Any]:
    tag = _TAGS.match(row.path)
    answer = {"description": row.summary, "content": {row.media_type: {"schema": told[_key(row.response)]}}}
    if row.media_type == "application/jsonl":
        answer["description"] = f"{row.summary}; one JSON value a line, each of this schema"
    found: dict[str, Any] = {
        "operationId": row.name,
        "summary": row.summary,
        "tags": [tag[1]] if tag else [],
        "parameters": [*_path_parameters(row), *_query_parameters(row, components)],
        "x-role": ROLES[row.name].value,
        "responses": {
            str(row.status): answer,
            "default": {
                "description": "It was not done; nothing was changed",
                "content": {"application/json": {"schema": told[_key(ErrorAnswer)]}},
            },
        },
    }
    if row.request is not None:
        required = bool(components[row.request.__name__].get("required"))
        found["requestBody"] = {
            "required": required,
            "content": {"application/json": {"schema": told[_key(row.request)]}},
        }
    return found


def _path_parameters(row: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(row.path)
    ]


def _query_parameters(row: Operation, components: dict[str, Any]) -> list[dict[str, Any]]:
    if row.query is None:
        return []
    struct = components[row.query.__name__]
    required = struct.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": schema}
        for name, schema in struct["properties"].items()
    ]


def _key(type_: Any) -> str:
    """Types are looked up by how they are spelt: two spellings of one generic alias are not the same object."""
    return repr(type_)


def main() -> None:
    """Write the document of this program to the file named on the command line."""
    from restic_manager.server.api.app import operations

    Path(sys.argv[1]).write_text(document(operations()), encoding="utf-8")


if __name__ == "__main__":
    main()
