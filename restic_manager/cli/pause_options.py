"""The options that every `pause` shares: their names and what their help says. What becomes of them is `pausing`."""

from __future__ import annotations

from typing import Annotated

import typer

ReasonOption = Annotated[
    str,
    typer.Option("--reason", metavar="TEXT", help="Why: it stands with every slot that passes.", show_default=False),
]
UntilOption = Annotated[
    str | None,
    typer.Option(
        "--until", metavar="INSTANT", help="End it by itself then (2026-11-02T06:00:00Z).", show_default=False
    ),
]
ForOption = Annotated[
    str | None,
    typer.Option("--for", metavar="D", help="End it by itself after this long (3h, 2d).", show_default=False),
]
