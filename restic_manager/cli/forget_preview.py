"""`schedule forget-preview`: what retention would remove now, and why the rest stays. Owns its table."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Annotated

import typer

from restic_manager.cli.command import Operator, operator_command

if TYPE_CHECKING:
    from restic_manager.domain.results import FateRow
    from restic_manager.protocol.api import JobView

NameArgument = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]


def add_preview(app: typer.Typer) -> None:
    """Given the commands of `schedule`, add this one."""
    operator_command(
        app,
        "forget-preview",
        examples="""
      restic-manager schedule forget-preview nightly
      restic-manager schedule forget-preview nightly --host web1 --json
    """,
    )(preview)


def preview(
    operator: Operator,
    name: NameArgument,
    *,
    host: Annotated[
        str | None, typer.Option("--host", metavar="H", help="Only of this one of its hosts.", show_default=False)
    ] = None,
) -> int:
    """Say which snapshots the schedule's retention would remove now, which stay, and by which rule. Removes nothing.

    restic itself says it, on each host: the command waits for that.
    """
    from restic_manager.cli import exits
    from restic_manager.cli.listing import collected
    from restic_manager.cli.result_words import result_words
    from restic_manager.cli.text import listing
    from restic_manager.domain.results import FateRow
    from restic_manager.protocol.api import PreviewRequest

    screen = operator.screen
    jobs = operator.client.preview_forget(name, PreviewRequest(host=host))
    fates: list[FateRow] = []
    codes = []
    try:
        for job in jobs:
            found, ended, code = collected(operator, job, FateRow)
            fates += found
            codes.append(code)
            if code == exits.DONE and ended.result is not None:
                whose = listing(sorted({fate.snapshot.hostname for fate in found})) or ended.host
                screen.note(f"{whose}: {result_words(ended.result)}")
    except KeyboardInterrupt:
        _give_up(operator, jobs)
        raise
    code = exits.worst(codes)
    well = code in {exits.DONE, exits.WARNING}
    if not operator.as_json:
        if fates or well:
            _table(operator, fates)
    elif fates or well:
        screen.data(fates)
    return code


def _table(operator: Operator, fates: list[FateRow]) -> None:
    from restic_manager.cli.render import Column
    from restic_manager.cli.text import short

    # What would go first, and among that the newest: the doubtful ones stand together.
    ordered = sorted(fates, key=lambda fate: (fate.keep, -fate.snapshot.time.timestamp()))
    operator.screen.table(
        [Column("", keep=True), Column("ID", keep=True), Column("TIME (UTC)", keep=True), "HOST", "WHY"],
        (
            (
                "stays" if fate.keep else "goes",
                short(fate.snapshot.id),
                f"{fate.snapshot.time.astimezone(UTC):%Y-%m-%d %H:%M}",
                fate.snapshot.hostname,
                ", ".join(fate.reasons) or ("" if fate.keep else "no rule keeps it"),
            )
            for fate in ordered
        ),
        empty="there is no snapshot that the schedule's retention is about",
    )


def _give_up(operator: Operator, jobs: list[JobView]) -> None:
    """Cancel what nobody waits for any more: a preview is worth nothing to anybody later."""
    from restic_manager.domain.errors import ConflictError

    for job in jobs:
        try:
            operator.client.cancel_job(job.id)
        except ConflictError:
            continue  # it had ended already
