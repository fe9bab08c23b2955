"""`snapshot tag` and `snapshot forget`: what changes snapshots. Owns their options and what is asked before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from restic_manager.cli.command import Operator, YesOption, operator_command
from restic_manager.cli.spec_options import value

if TYPE_CHECKING:
    from restic_manager.domain.specs import Spec

IdsArgument = Annotated[list[str], typer.Argument(metavar="ID", show_default=False)]


def add_changes(app: typer.Typer) -> None:
    """Given the commands of `snapshot`, add these."""
    operator_command(app, "tag", examples="restic-manager snapshot tag deadbeef --add keep --remove old")(tag)
    operator_command(
        app,
        "forget",
        examples="""
      restic-manager snapshot forget 0123abcd deadbeef --dry-run
      restic-manager snapshot forget 0123abcd deadbeef
    """,
    )(forget)


def tag(
    operator: Operator,
    snapshots: IdsArgument,
    *,
    add: Annotated[list[str] | None, value("--add", "T", "Add this tag; repeat.")] = None,
    remove: Annotated[list[str] | None, value("--remove", "T", "Take this tag away; repeat.")] = None,
) -> int:
    """Add tags to snapshots and take them away. Each snapshot gets a new id by it; its content stays as it is."""
    from restic_manager.cli.snapshot_pick import pick_all
    from restic_manager.cli.spec_request import check_whole
    from restic_manager.domain.specs import TagSpec

    spec = TagSpec(add=tuple(dict.fromkeys(add or ())), remove=tuple(dict.fromkeys(remove or ())))
    check_whole(spec)
    chosen = pick_all(operator, snapshots)
    return _done(
        operator, TagSpec(snapshots=tuple(one.id for one in chosen), add=spec.add, remove=spec.remove), chosen[0].repo
    )


def forget(
    operator: Operator,
    snapshots: IdsArgument,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing: say what would go.")] = False,
    yes: YesOption = False,
) -> int | None:
    """Remove exactly these snapshots. Asks on a terminal. Their data goes with the next prune.

    Schedules with retention remove their old ones by themselves: this is for what should not be there at all.
    """
    from restic_manager.cli.snapshot_pick import of_whom, pick_all
    from restic_manager.cli.text import amount, moment, short
    from restic_manager.domain.specs import ForgetSpec

    chosen = pick_all(operator, snapshots)
    now = operator.now()
    for one in chosen:
        operator.screen.note(f"{short(one.id)} of {of_whom(one)}, {moment(one.time, now)}")
    question = f"remove {amount(len(chosen), 'snapshot')} from {chosen[0].repo}?"
    if not dry_run and not operator.agrees(question, yes=yes):
        return None
    spec = ForgetSpec(snapshots=tuple(one.id for one in chosen), dry_run=dry_run)
    return _done(operator, spec, chosen[0].repo)


def _done(operator: Operator, spec: Spec, repo: str) -> int:
    """Have it done, wait for the end, and say how it ended; return the exit code."""
    from restic_manager.cli.listing import asked, drained, verdict
    from restic_manager.cli.progress import ending
    from restic_manager.protocol.api import JobRequest

    job = drained(operator, asked(operator, JobRequest(spec=spec, repo=repo)), lambda _: None)
    if operator.as_json:
        from restic_manager.cli import exits

        operator.screen.data(job)
        return exits.of_job(job)
    code = verdict(operator, job, 0)
    if code == 0:
        operator.screen.say(ending(job))
    return code
