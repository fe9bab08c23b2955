"""`status`: the whole fleet on one screen, worst first. Owns that screen; what is a problem the server decides."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from restic_manager.cli.command import Operator, new_app, operator_command
from restic_manager.cli.render import Column
from restic_manager.cli.text import amount, span, when
from restic_manager.domain.errors import InputError, UnreachableError

if TYPE_CHECKING:
    from restic_manager.protocol.api import StatusView

app = new_app("The fleet at a glance.")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


@operator_command(
    app,
    "status",
    examples="""
      restic-manager status
      restic-manager status --wait 30 && echo 'the server is up'
      restic-manager status --json | jq -r '.problems[]'
    """,
)
def status(
    operator: Operator,
    *,
    wait: Annotated[
        str | None,
        typer.Option(
            "--wait", metavar="SECONDS", help="Wait up to this long for the server to answer.", show_default=False
        ),
    ] = None,
) -> None:
    """Show the fleet at a glance: what is wrong, who is there, what ran and what comes next.

    Ends with 0 whenever the server has answered, whatever it told.
    """
    view = _patiently(operator, _seconds(wait))
    if operator.as_json:
        operator.screen.data(view)
        return
    _show(operator, view)


def _seconds(text: str | None) -> float:
    """Given the value of --wait, return seconds; raise InputError if it is none."""
    if text is None:
        return 0.0
    from restic_manager.domain.instants import parse_duration

    try:
        seconds = float(text)
    except ValueError:
        return parse_duration(text).total_seconds()
    if not 0 <= seconds <= 86_400:
        raise InputError(f"--wait {text}: seconds from 0 to 86400, or a duration like 90s or 5m")
    return seconds


def _patiently(operator: Operator, patience: float) -> StatusView:
    """Ask until the server answers or the time is up. Nothing can ring before a server is there, hence the pauses."""
    deadline = time.monotonic() + patience
    pause = _FIRST_PAUSE
    while True:
        try:
            return operator.client.status()
        except UnreachableError:
            left = deadline - time.monotonic()
            if left <= 0:
                raise
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, _LONGEST_PAUSE)


def _show(operator: Operator, view: StatusView) -> None:
    screen, now = operator.screen, operator.now()
    if view.problems:
        screen.say(f"{amount(len(view.problems), 'problem')}:")
        for problem in view.problems:
            screen.say(f"  ! {problem}")
    else:
        screen.say("nothing is known to be wrong")
    screen.say(
        f"{view.hosts_online:,} of {amount(view.hosts_total, 'host')} online; "
        f"{view.schedules_enabled:,} of {amount(view.schedules_total, 'schedule')} enabled; "
        f"{view.jobs_running:,} running, {view.jobs_queued:,} queued"
    )
    ended = ", ".join(f"{count:,} {status}" for status, count in view.last_24h.items() if count)
    screen.say(f"last 24 hours: {ended or 'no job has ended'}")
    screen.say(f"server {view.server.version}, up for {span(now - view.server.started_at)}, {view.server.timezone}")
    screen.say("")
    screen.table(
        ["HOST", "STATE", "LAST JOB", Column("", keep=True), "SUCCESS", "PROVEN", "NEXT", "RUNS"],
        (
            (
                host.name,
                "online" if host.online else "offline",
                host.last_job_status or "-",
                when(host.last_job_at, now, never="-"),
                when(host.last_success_at, now),
                when(host.proven_at, now),
                when(host.next_slot, now, never="-"),
                f"{host.running}+{host.queued}" if host.queued else str(host.running) if host.running else "-",
            )
            for host in view.hosts
        ),
        empty="no hosts yet: `restic-manager host invite NAME` lets one join",
    )
