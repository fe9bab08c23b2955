"""The program's own constants that bound something: found in its source by their names, with the values they have.

It decides what is a bound by how it is called; those who name one otherwise hide it, and those in `cli` only say how
much is shown.
"""

from __future__ import annotations

import ast
import importlib
import re
from datetime import timedelta
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2] / "restic_manager"
_BOUND: Final = re.compile(
    r"(^|_)(MAX|MOST|LIMITS?|LONGEST|SHORTEST|CAP|AT_ONCE|A_SECOND|A_READ|KEEP|KEPT|BYTES|LIFETIME|HISTORY|LOGS|SECONDS"
    r"|DELAY|WITHIN|QUEUED|WAITING|REMEMBERED|NETWORKS|READERS|AHEAD|HEARTBEATS)(_|$)"
)
_FIELDS: Final = {"server.asgi": ("Limits", ("headers", "idle", "body", "send"))}
"""Bounds that are defaults of a class's fields."""

Value = int | float | timedelta


def bounds() -> dict[str, Value]:
    """Return every bound there is, by module and name below the package."""
    found: dict[str, Value] = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[0] in {"cli", "__main__"} or "versions" in parts:
            continue
        module = ".".join(part for part in parts if part != "__init__")
        names = [name for name in _assigned(path) if _BOUND.search(name)]
        if not names and module not in _FIELDS:
            continue
        loaded = importlib.import_module(f"restic_manager.{module}")
        for name in names:
            value = getattr(loaded, name)
            if isinstance(value, int | float | timedelta) and not isinstance(value, bool):
                found[f"{module}.{name}"] = value
        if module in _FIELDS:
            cls, fields = _FIELDS[module]
            found |= {f"{module}.{cls}.{field}": getattr(getattr(loaded, cls)(), field) for field in fields}
    return found


def _assigned(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
        elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            names.append(node.targets[0].id)
    return names
