"""`job`: the runs. Owns how jobs and their logs are shown."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from restic_manager.cli import exits
from restic_manager.cli.command import Operator, WaitOption, new_app, operator_command
from restic_manager.cli.job_run import add_run
from restic_manager.cli.render import Column
from restic_manager.cli.text import amount, moment, short, size, took, when
from restic_manager.cli.typed import whole_number
from restic_manager.domain.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from restic_manager.domain.model import Status
    from restic_manager.protocol.api import Event, JobView

app = new_app("Runs: list, run, show, follow the log, cancel. ID is a job's id or the start of it.")

DEFAULT_LIMIT = 50
MOST = 100_000

IdArgument = Annotated[str, typer.Argument(metavar="ID", show_default=False)]


@operator_command(
    app,
    "list",
    examples="""
      restic-manager job list --status failed
      restic-manager job list --host web1 --schedule nightly --limit 1000 --json
    """,
)
def list_jobs(
    operator: Operator,
    *,
    host: Annotated[
        str | None, typer.Option("--host", metavar="H", help="Only of this host.", show_default=False)
    ] = None,
    schedule: Annotated[
        str | None, typer.Option("--schedule", metavar="S", help="Only of this schedule.", show_default=False)
    ] = None,
    status: Annotated[
        str | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help="Only with this status: queued, running, succeeded, warning, failed, cancelled, interrupted.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[str, typer.Option("--limit", metavar="N", help="At most so many, newest first.")] = str(
        DEFAULT_LIMIT
    ),
) -> None:
    """List jobs, newest first."""
    most = whole_number(limit, "--limit", least=1, most=MOST)
    jobs = operator.client.jobs(host=host, schedule=schedule, status=_status(status), limit=most)
    if operator.as_json:
        operator.screen.data(jobs)
        return
    now = operator.now()
    operator.screen.table(
        ["ID", "HOST", "WHAT", "STATUS", Column("WHEN", keep=True), Column("TOOK", keep=True), "SIZE"],
        (
            (
                short(job.id),
                job.host,
                job.schedule or job.kind,
                job.status,
                when(job.started_at or job.created_at, now),
                took(job.started_at, job.finished_at or (now if job.started_at else None)),
                size(job.stats.total_bytes_processed) if job.stats else "",
            )
            for job in jobs
        ),
        empty="no such jobs",
    )
    if len(jobs) == most:
        operator.screen.note(f"only the newest {most:,} are shown: --limit N for more")


@operator_command(app, "show")
def show(operator: Operator, job_id: IdArgument) -> None:
    """Show one job: why it ran, how it stands, and what went wrong."""
    job = operator.client.job(job_id)
    if operator.as_json:
        operator.screen.data(job)
        return
    from msgspec.structs import replace

    from restic_manager.cli.spec_names import with_names

    operator.screen.fields(_page(replace(job, spec=with_names(operator.client, job.spec)), operator.now()))


add_run(app)


@operator_command(
    app,
    "logs",
    examples="""
      restic-manager job logs 3f2a91c0
      restic-manager job logs -f 3f2a91c0        as it happens, until the job ends
    """,
)
def logs(
    operator: Operator,
    job_id: IdArgument,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the job has ended.")] = False,
) -> int | None:
    """Print a job's log: its lines on standard output, what is to be said about them on standard error.

    With --json, one JSON object a line, as they come: the job, its log lines, gaps where lines were not kept, progress.
    Ctrl-C ends the following and leaves the job alone. Ends with 0 however the job ended.
    """
    from restic_manager.cli.follow import stay

    screen = operator.screen
    events: Iterable[Event]
    if follow:
        events = stay(operator.client, job_id, logs=True, attempts=False, note=screen.note)
    else:
        events = operator.client.events(job_id, follow=False, logs=True, attempts=False)
    try:
        job, lines = _print_events(operator, events)
    except KeyboardInterrupt:
        screen.note("no longer following; the job goes on")
        return exits.INTERRUPTED
    if job is None:
        return None
    if not lines:
        from restic_manager.cli.progress import waiting

        screen.note(f"job {short(job.id)} has no log; it is {job.status}{waiting(job)}")
    elif follow:
        screen.note(f"job {short(job.id)} {job.status}")
    return None


@operator_command(app, "cancel")
def cancel(operator: Operator, job_id: IdArgument, *, wait: WaitOption = False) -> int | None:
    """Ask for a job's end. One that its host may know of ends when the host says so; --wait waits for that.

    With --wait it ends with 0 when the job was cancelled, with 1 when it ended otherwise before that.
    """
    from restic_manager.domain.model import Status

    job = operator.client.cancel_job(job_id)
    code = None
    if wait and not job.status.terminal:
        from restic_manager.cli.progress import wait_for

        (job,), _ = wait_for(operator, [job])
    if wait and job.status is not Status.CANCELLED:
        code = exits.FAILED
    if operator.as_json:
        operator.screen.data(job)
    elif job.status.terminal:
        operator.screen.say(f"job {short(job.id)} on {job.host}: {job.status}")
    else:
        operator.screen.say(
            f"job {short(job.id)} on {job.host} is asked to end; it is {job.status} until the host answers"
        )
    return code


def _status(text: str | None) -> Status | None:
    if text is None:
        return None
    from restic_manager.domain.model import Status

    try:
        return Status(text)
    except ValueError:
        raise InputError(f"--status {text}: one of {', '.join(Status)}") from None


def _print_events(operator: Operator, events: Iterable[Event]) -> tuple[JobView | None, int]:
    """Print what is the log's own; return the job as it was last told, and how many lines it had."""
    from restic_manager.protocol.api import GapEvent, JobEvent, LogEvent, ProgressEvent

    screen = operator.screen
    job: JobView | None = None
    lines = 0
    for event in events:
        match event:
            case JobEvent():
                job = event.job
            case LogEvent():
                lines += 1
            case GapEvent():
                screen.note(f"… {amount(event.lines, 'line')} not kept …")
            case ProgressEvent():
                pass
        if operator.as_json:
            screen.event(event)
        elif isinstance(event, LogEvent):
            screen.line(event.text)
    return job, lines


def _page(job: JobView, now: datetime) -> list[tuple[str, str]]:
    stats = job.stats
    why = f"{job.actor_kind}" + (f", {job.trigger}" if job.trigger else "")
    if job.stands_for > 1:
        why += f", stands for {amount(job.stands_for, 'slot')}"
    attempt = f"{job.attempt}, of {job.attempt_of}" if job.attempt_of else ""
    size_line = ""
    if stats is not None:
        files = f"{stats.files_new:,} new, {stats.files_changed:,} changed"
        size_line = (
            f"{amount(stats.total_files_processed, 'file')} ({files}), "
            f"{size(stats.total_bytes_processed)}, {size(stats.data_added)} new"
        )
    log = amount(job.log_lines, "line")
    if job.log_lines_dropped:
        log += f", {job.log_lines_dropped:,} more not kept"
    progress = ""
    if job.progress is not None and not job.status.terminal:
        from restic_manager.cli.progress import standing

        progress = standing(job.progress).strip()
    asked = job.cancel_requested_at
    result = ""
    if job.result is not None:
        from restic_manager.cli.result_words import result_lines, result_words

        result = "\n".join([result_words(job.result), *(f"| {line}" for line in result_lines(job.result))])
    from restic_manager.cli.spec_words import spec_lines

    rows = f"{amount(job.rows, 'row')}: restic-manager job rows {short(job.id)}" if job.rows else ""
    return [
        ("Id", job.id),
        ("Status", job.status),
        ("Waits for", job.waits_for or ""),
        ("Progress", progress),
        ("Error", job.error.message if job.error else ""),
        ("", "\n".join(f"| {line}" for line in job.error.lines) if job.error else ""),
        ("Result", result),
        ("Rows", rows),
        ("Kind", job.kind),
        *spec_lines(job.spec),
        ("Host", job.host),
        ("Schedule", job.schedule or ""),
        ("Repository", job.repo),
        ("Slot", moment(job.slot, now, never="")),
        ("Wanted by", why),
        ("Caused by", job.caused_by or ""),
        ("Not before", moment(job.not_before, now, never="")),
        ("Attempt", attempt),
        ("Next attempt", job.next_attempt or ""),
        ("Created", moment(job.created_at, now)),
        ("Started", moment(job.started_at, now, never="not yet" if not job.status.terminal else "")),
        ("Finished", moment(job.finished_at, now, never="")),
        ("Took", took(job.started_at, job.finished_at)),
        ("Cancel", f"asked for {when(asked, now)}" if asked else ""),
        ("Exit code", "" if job.exit_code is None else str(job.exit_code)),
        ("Snapshot", job.snapshot_id or ""),
        ("Size", size_line),
        ("Log", f"{log}: restic-manager job logs {short(job.id)}" if job.log_lines else "none"),
    ]
