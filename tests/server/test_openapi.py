"""The committed OpenAPI document is what the program would make, and tells every route there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from starlette.routing import Route

from restic_manager.server.api.app import build_api, operations
from restic_manager.server.api.openapi import document, openapi

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"


def told() -> set[tuple[str, str]]:
    committed = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    return {(method.upper(), path) for path, methods in committed["paths"].items() for method in methods}


def test_the_document_is_what_the_program_makes() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(operations()), (
        "run: python -m restic_manager.server.api.openapi docs/openapi.json"
    )


def test_every_route_is_told_and_nothing_else() -> None:
    app = build_api(None)  # type: ignore[arg-type]  # no request is made
    routes = {
        (method, route.path)
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert len(routes) == len(app.routes)
    assert routes == told()


def test_every_reference_is_there_and_every_schema_is_used() -> None:
    made = openapi(operations())
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(made)))
    assert references == made["components"]["schemas"].keys()


def test_names_are_unique_and_every_path_parameter_is_told() -> None:
    made = openapi(operations())
    rows: list[dict[str, Any]] = [row for methods in made["paths"].values() for row in methods.values()]
    names = [row["operationId"] for row in rows]
    assert len(set(names)) == len(names)
    for path, methods in made["paths"].items():
        for row in methods.values():
            given = {parameter["name"] for parameter in row["parameters"] if parameter["in"] == "path"}
            assert given == set(re.findall(r"\{(\w+)\}", path))
            assert row["summary"]
            assert "default" in row["responses"]
