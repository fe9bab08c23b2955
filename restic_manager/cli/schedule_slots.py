"""`schedule next` and `schedule explain`: coming slots, with and without a server. Owns their options."""

from __future__ import annotations

from typing import Annotated

import typer

from restic_manager.cli.command import Operator, operator_command

NameArgument = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
CountOption = Annotated[str, typer.Option("--count", metavar="N", help="How many slots (1 to 1000).")]


def add_slots(app: typer.Typer) -> None:
    """Given the commands of `schedule`, add these."""
    operator_command(app, "next")(next_slots)
    operator_command(
        app,
        "explain",
        local=True,
        examples="""
      restic-manager schedule explain '30 2 * * *' --timezone Europe/Berlin
      restic-manager schedule explain '*/20 * * * *' --after 2026-10-25T00:00:00Z
      restic-manager schedule explain '@every 6h' --count 20 --json
    """,
    )(explain_expression)


def next_slots(operator: Operator, name: NameArgument, *, count: CountOption = "5") -> None:
    """List a schedule's coming slots, with zone and UTC offset; host by host where they differ (H, zone `host`)."""
    from restic_manager.cli.typed import whole_number

    number = whole_number(count, "--count", least=1, most=1_000)
    coming = operator.client.next_slots(name, count=number)
    if operator.as_json:
        operator.screen.data(coming)
        return
    from restic_manager.cli.schedule_view import slots

    view = operator.client.schedule(name)
    operator.screen.say(f"{view.name}: {view.words}" + ("" if view.enabled else " (disabled)"))
    slots(operator.screen, coming, view.timezone, operator.now())


def explain_expression(
    operator: Operator,
    expression: Annotated[
        str, typer.Argument(metavar="EXPR", help="Five fields, @daily… or '@every 6h'.", show_default=False)
    ],
    *,
    timezone: Annotated[
        str | None,
        typer.Option("--timezone", metavar="Z", help="An IANA zone; else this machine's own.", show_default=False),
    ] = None,
    after: Annotated[
        str | None,
        typer.Option(
            "--after", metavar="INSTANT", help="From here on (2026-03-28T00:00:00Z); else now.", show_default=False
        ),
    ] = None,
    count: CountOption = "5",
) -> None:
    """Say what an expression means, and when it comes next. Asks no server.

    What the coming changes of the clock do to it is said below.
    """
    from restic_manager.cli.explain import explain
    from restic_manager.cli.schedule_view import slots
    from restic_manager.cli.typed import whole_number
    from restic_manager.domain.instants import parse_instant
    from restic_manager.runtime.localzone import local_timezone

    start = parse_instant(after) if after is not None else operator.now()
    number = whole_number(count, "--count", least=1, most=1_000)
    found = explain(expression, timezone or local_timezone(), after=start, count=number)
    if operator.as_json:
        operator.screen.data(found)
        return
    operator.screen.say(found.words)
    slots(operator.screen, found.next, found.timezone, operator.now() if after is None else None)
    for note in found.notes:
        operator.screen.say(f"- {note}")
