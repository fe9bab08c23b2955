"""`schedule`: when, where and what. Owns the verbs; what their options mean is `schedule_request`, how a schedule is
shown `schedule_view`, slots without a server `explain`, and what became of slots `schedule_history`.

Over 400 lines, because it is one file a noun, and this noun has the most verbs; options and views are elsewhere.
"""

from __future__ import annotations

from typing import Annotated

import typer

from restic_manager.cli import schedule_options as opt
from restic_manager.cli.command import Operator, WaitOption, YesOption, new_app, operator_command
from restic_manager.cli.pause_options import ForOption, ReasonOption, UntilOption
from restic_manager.cli.schedule_history import add_history

app = new_app("When, where and what: add, edit, run now, explain. NAME is a schedule's name or the start of its id.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
CountOption = Annotated[str, typer.Option("--count", metavar="N", help="How many slots (1 to 1000).")]


@operator_command(
    app,
    "add",
    examples="""
      restic-manager schedule add nightly --all --cron '30 2 * * *' \\
          --repo main /etc /home
      restic-manager schedule add web --label role=web --cron 'H 1-4 * * *' \\
          --timezone host --repo main --exclude-caches --tag web /srv/www
      restic-manager schedule add often --host db1 --every 15m --repo main \\
          --overlap skip --max-lateness 1h --retry 3 /var/backups
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
    host: opt.HostsOption = None,
    label: opt.LabelsOption = None,
    every_host: opt.AllOption = False,
    cron: opt.CronOption = None,
    every: opt.EveryOption = None,
    repo: opt.RepoOption = None,
    timezone: opt.TimezoneOption = None,
    splay: opt.SplayOption = None,
    overlap: opt.OverlapOption = None,
    offline: opt.OfflineOption = None,
    max_lateness: opt.LatenessOption = None,
    retry: opt.RetryOption = None,
    retry_backoff: opt.RetryBackoffOption = None,
    time_limit: opt.TimeLimitOption = None,
    stall_limit: opt.StallLimitOption = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Add it without running anything yet.")] = False,
    exclude: opt.ExcludeOption = None,
    exclude_file: opt.ExcludeFileOption = None,
    exclude_caches: Annotated[
        bool, typer.Option("--exclude-caches", help="Leave out folders marked as caches.")
    ] = False,
    exclude_if_present: opt.ExcludeIfPresentOption = None,
    one_file_system: Annotated[
        bool, typer.Option("--one-file-system", help="Stay on the file system each path begins on.")
    ] = False,
    tag: opt.TagOption = None,
) -> None:
    """Add a schedule of backups, and say what will happen: in words, its next five slots, who is online.

    Where: --host, --label or --all. When: --cron or --every. A missed slot is caught up with once; nothing runs twice.
    """
    from restic_manager.cli.schedule_request import Typed, to_request
    from restic_manager.cli.schedule_view import announce

    typed = Typed(
        cron=cron,
        every=every,
        repo=repo,
        hosts=host,
        labels=label,
        every_host=every_host,
        timezone=timezone,
        splay=splay,
        overlap=overlap,
        offline=offline,
        max_lateness=max_lateness,
        retry=retry,
        retry_backoff=retry_backoff,
        time_limit=time_limit,
        stall_limit=stall_limit,
        paths=paths,
        excludes=exclude,
        exclude_files=exclude_file,
        exclude_if_present=exclude_if_present,
        exclude_caches=exclude_caches,
        one_file_system=one_file_system,
        tags=tag,
    )
    view = operator.client.add_schedule(to_request(name, typed, enabled=not disabled))
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
    from restic_manager.cli.schedule_view import page

    page(operator.screen, view, operator.now())


@operator_command(
    app,
    "edit",
    examples="""
      restic-manager schedule edit nightly --cron '0 4 * * *' --yes
      restic-manager schedule edit nightly --path /etc --path /home --path /srv
      restic-manager schedule edit nightly --exclude '' --max-lateness none
    """,
)
def edit(
    operator: Operator,
    name: NameArgument,
    *,
    new_name: Annotated[
        str | None, typer.Option("--name", metavar="NEW", help="Give it another name.", show_default=False)
    ] = None,
    host: opt.HostsOption = None,
    label: opt.LabelsOption = None,
    every_host: opt.AllOption = False,
    cron: opt.CronOption = None,
    every: opt.EveryOption = None,
    repo: opt.RepoOption = None,
    timezone: opt.TimezoneOption = None,
    splay: opt.SplayOption = None,
    overlap: opt.OverlapOption = None,
    offline: opt.OfflineOption = None,
    max_lateness: opt.LatenessOption = None,
    retry: opt.RetryOption = None,
    retry_backoff: opt.RetryBackoffOption = None,
    time_limit: opt.TimeLimitOption = None,
    stall_limit: opt.StallLimitOption = None,
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
    exclude: opt.ExcludeOption = None,
    exclude_file: opt.ExcludeFileOption = None,
    exclude_caches: Annotated[
        bool | None,
        typer.Option(
            "--exclude-caches/--no-exclude-caches", help="Leave out folders marked as caches.", show_default=False
        ),
    ] = None,
    exclude_if_present: opt.ExcludeIfPresentOption = None,
    one_file_system: Annotated[
        bool | None,
        typer.Option(
            "--one-file-system/--no-one-file-system",
            help="Stay on the file system each path begins on.",
            show_default=False,
        ),
    ] = None,
    tag: opt.TagOption = None,
    yes: YesOption = False,
) -> None:
    """Change a schedule. What is not named stays; a repeated option replaces the whole list, one '' empties it.

    Shows what changes (old → new) and asks on a terminal. A change of paths, tags or targets leaves the slots as they
    are; one of the timing starts them anew from now.
    """
    from restic_manager.cli.schedule_request import Typed, changed, to_edit
    from restic_manager.cli.schedule_view import announce, differences

    typed = Typed(
        cron=cron,
        every=every,
        repo=repo,
        hosts=host,
        labels=label,
        every_host=every_host,
        timezone=timezone,
        splay=splay,
        overlap=overlap,
        offline=offline,
        max_lateness=max_lateness,
        retry=retry,
        retry_backoff=retry_backoff,
        time_limit=time_limit,
        stall_limit=stall_limit,
        paths=path,
        excludes=exclude,
        exclude_files=exclude_file,
        exclude_if_present=exclude_if_present,
        exclude_caches=exclude_caches,
        one_file_system=one_file_system,
        tags=tag,
    )
    request = to_edit(typed, name=new_name, enabled=None if disabled is None else not disabled)
    before = operator.client.schedule(name)
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


@operator_command(app, "next")
def next_slots(operator: Operator, name: NameArgument, *, count: CountOption = "5") -> None:
    """List a schedule's coming slots, with zone and UTC offset; host by host where they differ (H, zone `host`)."""
    from restic_manager.cli.job import whole_number

    number = whole_number(count, "--count", least=1, most=1_000)
    coming = operator.client.next_slots(name, count=number)
    if operator.as_json:
        operator.screen.data(coming)
        return
    from restic_manager.cli.schedule_view import slots

    view = operator.client.schedule(name)
    operator.screen.say(f"{view.name}: {view.words}" + ("" if view.enabled else " (disabled)"))
    slots(operator.screen, coming, view.timezone, operator.now())


add_history(app)


@operator_command(
    app,
    "explain",
    local=True,
    examples="""
      restic-manager schedule explain '30 2 * * *' --timezone Europe/Berlin
      restic-manager schedule explain '*/20 * * * *' --after 2026-10-25T00:00:00Z
      restic-manager schedule explain '@every 6h' --count 20 --json
    """,
)
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
    from restic_manager.cli.job import whole_number
    from restic_manager.cli.schedule_view import slots
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
