"""`schedule`: when, where and what. Owns the verbs; what their options mean is `schedule_request`, how a schedule is
shown `schedule_view`; coming slots are `schedule_slots`, past ones `schedule_history`, and what retention would remove
`forget_preview`.
"""

from __future__ import annotations

from typing import Annotated

import typer

from restic_manager.cli.command import Operator, WaitOption, YesOption, new_app, operator_command
from restic_manager.cli.forget_preview import add_preview
from restic_manager.cli.hook_options import HookOptions
from restic_manager.cli.keep_options import KeepOptions
from restic_manager.cli.pause_options import ForOption, ReasonOption, UntilOption
from restic_manager.cli.schedule_history import add_history
from restic_manager.cli.schedule_options import WhenOptions
from restic_manager.cli.schedule_slots import add_slots
from restic_manager.cli.spec_options import SpecOptions
from restic_manager.domain.errors import InputError

app = new_app("When, where and what: add, edit, run now, explain. NAME is a schedule's name or the start of its id.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
KindOption = Annotated[
    str | None,
    typer.Option(
        "--kind",
        metavar="KIND",
        help="backup (the default), forget, prune, check, verify, stats, copy, unlock, restore, tag, ls, find, diff or"
        " snapshots.",
        show_default=False,
    ),
]


@operator_command(
    app,
    "add",
    examples="""
      restic-manager schedule add nightly --all --cron '30 2 * * *' \\
          --repo main /etc /home
      restic-manager schedule add web --label role=web --cron 'H 1-4 * * *' \\
          --timezone host --repo main --exclude-caches --tag web /srv/www
      restic-manager schedule add often --host db1 --every 15m --repo main \\
          --keep-last 8 --keep-daily 14 --keep-weekly 8 /var/backups
      restic-manager schedule add tidy --kind check --host web1 --repo main \\
          --cron 'H H * * *' --read-data-subset 1/28
    """,
)
def add(
    operator: Operator,
    name: NameArgument,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH", help="What to save: absolute paths on the hosts.", show_default=False),
    ] = None,
    *,
    kind: KindOption = None,
    when: WhenOptions,
    disabled: Annotated[bool, typer.Option("--disabled", help="Add it without running anything yet.")] = False,
    content: SpecOptions,
    keep: KeepOptions,
    hooks: HookOptions,
    yes: YesOption = False,
) -> None:
    """Add a schedule, and say what will happen: in words, its next five slots, who is online, what is kept.

    Where: --host, --label or --all. When: --cron or --every. A missed slot is caught up with once; nothing runs twice.
    Without --kind it is one of backups. An option that the kind does not have is refused. One that restores in place
    asks on a terminal, and needs --yes elsewhere.
    """
    from restic_manager.cli.job_run import meant_again
    from restic_manager.cli.schedule_request import check_new, keep_said, to_request, when_said
    from restic_manager.cli.schedule_view import announce
    from restic_manager.cli.spec_names import names_found
    from restic_manager.cli.spec_request import kind_named, said, spec_of

    chosen = kind_named(kind or "backup", scheduled=True)
    timing = when_said(when)
    check_new(timing, chosen)
    kept = keep_said(keep, chosen)
    found = said(chosen, content, paths or (), scheduled=True, now=operator.now())
    spec = spec_of(chosen, found | names_found(operator.client, content))
    if not meant_again(operator, spec, str(timing["repo"]), yes=yes):
        return
    view = operator.client.add_schedule(to_request(name, spec, timing, kept, hooks=hooks, enabled=not disabled))
    if operator.as_json:
        operator.screen.data(view)
    else:
        announce(operator.screen, view, operator.now())


@operator_command(app, "list")
def list_schedules(operator: Operator) -> None:
    """List all schedules: when, where, to which repository, and the next slot."""
    views = operator.client.schedules()
    if operator.as_json:
        operator.screen.data(views)
        return
    from restic_manager.cli.schedule_view import table

    table(operator.screen, views, operator.now())


@operator_command(app, "show")
def show(operator: Operator, name: NameArgument) -> None:
    """Show one schedule: its timing in words, what it saves, its hosts, its next slots."""
    view = operator.client.schedule(name)
    if operator.as_json:
        operator.screen.data(view)
        return
    from msgspec.structs import replace

    from restic_manager.cli.schedule_view import page
    from restic_manager.cli.spec_names import with_names

    page(operator.screen, replace(view, spec=with_names(operator.client, view.spec)), operator.now())


@operator_command(
    app,
    "edit",
    examples="""
      restic-manager schedule edit nightly --cron '0 4 * * *' --yes
      restic-manager schedule edit nightly --path /etc --path /home --path /srv
      restic-manager schedule edit nightly --exclude '' --max-lateness none
      restic-manager schedule edit nightly --keep-daily 30 --keep-hourly none
    """,
)
def edit(
    operator: Operator,
    name: NameArgument,
    *,
    new_name: Annotated[
        str | None, typer.Option("--name", metavar="NEW", help="Give it another name.", show_default=False)
    ] = None,
    kind: KindOption = None,
    when: WhenOptions,
    disabled: Annotated[
        bool | None,
        typer.Option("--disabled/--enabled", help="Let nothing run, or let it run again.", show_default=False),
    ] = None,
    path: Annotated[
        list[str] | None,
        typer.Option(
            "--path", metavar="PATH", help="What to save, instead of what it saved; repeat.", show_default=False
        ),
    ] = None,
    content: SpecOptions,
    keep: KeepOptions,
    hooks: HookOptions,
    keep_none: Annotated[
        bool, typer.Option("--keep-none", help="Take the retention away: everything is kept.")
    ] = False,
    yes: YesOption = False,
) -> None:
    """Change a schedule. What is not named stays; a repeated option replaces the whole list, one '' empties it.

    `none` takes a limit, a rule of retention or a guard away. Shows what changes (old → new) and asks on a terminal. A
    change of paths, tags, retention or targets leaves the slots as they are; one of the timing starts them anew from
    now. The kind stays.
    """
    from restic_manager.cli.job_run import meant_again
    from restic_manager.cli.schedule_request import changed, keep_said, to_edit, when_said
    from restic_manager.cli.schedule_view import announce, differences
    from restic_manager.cli.spec_names import names_found
    from restic_manager.cli.spec_request import said, same_kind

    timing = when_said(when)
    nothing = SpecOptions(), KeepOptions(), HookOptions()
    idle = not (timing or path or keep_none or new_name is not None or disabled is not None)
    if idle and (content, keep, hooks) == nothing and kind is None:
        raise InputError("say what to change: an option like --cron, --path or --name")
    before = operator.client.schedule(name)
    now_kind = same_kind(before.spec, kind)
    request = to_edit(
        before,
        when=timing,
        content=said(now_kind, content, path or (), scheduled=True, now=operator.now())
        | names_found(operator.client, content),
        keep=keep_said(keep, now_kind),
        keep_none=keep_none,
        hooks=hooks,
        name=new_name,
        enabled=None if disabled is None else not disabled,
    )
    if request.spec and not meant_again(operator, request.spec, before.repo, yes=yes):
        return
    lines = differences(before, changed(request))
    for line in lines:
        operator.screen.note(line)
    if not lines:
        operator.screen.note(f"{before.name} is so already: nothing changes")
    elif not operator.agrees(f"change schedule {before.name}?", yes=yes):
        return
    view = operator.client.edit_schedule(before.id, request) if lines else before
    if operator.as_json:
        operator.screen.data(view)
    elif lines:
        announce(operator.screen, view, operator.now())


@operator_command(app, "enable")
def enable(operator: Operator, name: NameArgument) -> None:
    """Let a schedule run again, from its next slot on."""
    _switch(operator, name, on=True)


@operator_command(app, "disable")
def disable(operator: Operator, name: NameArgument) -> None:
    """Stop a schedule without losing it: its slots pass, recorded as skipped. What runs now goes on."""
    _switch(operator, name, on=False)


def _switch(operator: Operator, name: str, *, on: bool) -> None:
    from restic_manager.cli.schedule_view import announce
    from restic_manager.protocol.api import ScheduleEdit

    view = operator.client.edit_schedule(name, ScheduleEdit(enabled=on))
    if operator.as_json:
        operator.screen.data(view)
    else:
        announce(operator.screen, view, operator.now())


@operator_command(
    app,
    "pause",
    examples="""
      restic-manager schedule pause nightly --reason 'storage moves' --for 3h
      restic-manager schedule pause nightly --until 2026-11-02T06:00:00Z
    """,
)
def pause(
    operator: Operator,
    name: NameArgument,
    *,
    reason: ReasonOption = "",
    until: UntilOption = None,
    lasting: ForOption = None,
) -> None:
    """Let no slot of a schedule run for a while; they are recorded as skipped, with the reason.

    What runs or is queued already goes on. `schedule run` works all the same.
    """
    from restic_manager.cli.pausing import request, told

    told(operator, name, operator.client.pause_schedule(name, request(reason, until, lasting)))


@operator_command(app, "resume")
def resume(operator: Operator, name: NameArgument) -> None:
    """End a schedule's pause: its next slot runs."""
    from restic_manager.cli.pausing import told

    told(operator, name, operator.client.resume_schedule(name))


@operator_command(app, "remove")
def remove(operator: Operator, name: NameArgument, *, yes: YesOption = False) -> None:
    """Remove a schedule from all its hosts. Its jobs stay listed, its snapshots stay stored.

    Asks on a terminal. `schedule disable` stops it and keeps it.
    """
    if not yes and operator.screen.may_ask:
        known = operator.client.schedule(name)
        if not operator.agrees(f"remove schedule {known.name} ({known.words})?", yes=yes):
            return
        name = known.id
    view = operator.client.remove_schedule(name)
    if operator.as_json:
        operator.screen.data(view)
    else:
        operator.screen.say(f"schedule {view.name} is removed; its snapshots stay")


@operator_command(
    app,
    "run",
    examples="""
      restic-manager schedule run nightly --host web1 --wait
      restic-manager schedule run nightly            on all its hosts
    """,
)
def run(
    operator: Operator,
    name: NameArgument,
    *,
    host: Annotated[
        str | None, typer.Option("--host", metavar="H", help="Only on this one of its hosts.", show_default=False)
    ] = None,
    wait: WaitOption = False,
) -> int | None:
    """Run a schedule's work now, beside its slots.

    With --wait it stays until all jobs have ended, attempts included, and ends with 0, with 3 if there was a warning,
    with 1 if any job did worse. Ctrl-C ends the waiting, not the jobs. It runs while paused, too, and says so.
    """
    from restic_manager.cli.progress import ending, wait_for
    from restic_manager.cli.text import short
    from restic_manager.protocol.api import RunRequest

    jobs = operator.client.run_schedule(name, RunRequest(host=host))
    if not operator.as_json:
        for warning in dict.fromkeys(warning for job in jobs for warning in job.warnings):
            operator.screen.note(f"warning: {warning}")
    code = None
    if wait:
        jobs, code = wait_for(operator, jobs)
    if operator.as_json:
        operator.screen.data(jobs)
        return code
    for job in jobs:
        operator.screen.say(ending(job) if wait else f"job {short(job.id)} {ending(job)}")
    return code


add_slots(app)
add_history(app)
add_preview(app)
