"""Makes docs/limits.md of the table and the program's own values: `python -m tests.limits.document`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Final

from restic_manager.domain.instants import duration_text
from tests.limits.constants import Value, bounds
from tests.limits.table import PARTS, Row

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "limits.md"
_BEGIN: Final = """\
# Limits

Every bound that somebody outside the program can come to be past, with what happens there. Each has a test at its edge
and just past it; the tables are made from the program's own values (`python -m tests.limits.document`), and a test
fails when a bound is not in them.

None of them ends anything but the connection, the request or the message that is past it. The lengths and ranges of
single fields are in [protocol.md](protocol.md) and [openapi.json](openapi.json), and each is tested as well
(`tests/limits/test_shapes.py`). What hostile agents do to all this together is played by
`python -m tests.hostile --messages 1000000 --seed 1`: a million damaged messages from hosts with good credentials, with
an honest agent and an operator beside them.

A network is an IPv4 address, or the /64 of an IPv6 address. With `--behind-proxy` all agents have the proxy's address,
so that what is bounded by network is for the proxy to bound.
"""


def rendered() -> str:
    """Return the document as it has to be."""
    values = bounds() | _plain()
    parts = [_BEGIN]
    for title, rows in PARTS.items():
        lines = [f"## {title}", "", "| what | at most | past it | constant |", "|---|---|---|---|"]
        lines += [
            f"| {row.what} | {_said(values[row.constant], row)} | {row.past} | `{row.constant}` |" for row in rows
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _plain() -> dict[str, Value]:
    """Bounds whose names do not say that they are."""
    from restic_manager.server import attempts

    return {"server.attempts.FREE": attempts.FREE}


def _said(value: Value, row: Row) -> str:
    if isinstance(value, timedelta):
        return duration_text(value)
    number = f"{value:,.0f}" if float(value).is_integer() else f"{value:g}"
    return f"{number} {row.unit}".rstrip()


if __name__ == "__main__":
    DOCUMENT.write_text(rendered(), encoding="utf-8")
