"""`/v1/jobs`: list, show, cancel, follow, read listings; and what makes a job: run a schedule now, create a repository.

Thin over the dispatcher and `store.job_lists`. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import Connection

from restic_manager.domain.model import Kind, Status
from restic_manager.protocol.api import Event, InitRequest, JobRequest, JobView, PreviewRequest, RowsLine, RunRequest
from restic_manager.server.api.follow import Emit, JsonLines, follow_job
from restic_manager.server.api.follow_rows import follow_rows
from restic_manager.server.api.job_views import views
from restic_manager.server.api.operations import Call, Operation
from restic_manager.server.api.pauses import view
from restic_manager.server.api.problems import paused
from restic_manager.server.services import Services
from restic_manager.server.store import hosts, job_lists, pauses, repos, schedules
from restic_manager.server.store.job_rows import JobRow
from restic_manager.server.store.pauses import PauseRow

MOST: Final = 100_000


class JobsQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which jobs, and at most how many, newest first.

    The lists of snapshots that the server makes for itself are told where the kind is asked for.
    """

    host: str | None = None
    schedule: str | None = None
    repo: str | None = None
    kind: Kind | None = None
    status: Status | None = None
    limit: Annotated[int, Meta(ge=1, le=MOST)] = 100


class EventsQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Flags, 0 or 1. follow: stay until it has ended. logs: with its log. attempts: go on with the next attempt."""

    follow: Annotated[int, Meta(ge=0, le=1)] = 0
    logs: Annotated[int, Meta(ge=0, le=1)] = 1
    attempts: Annotated[int, Meta(ge=0, le=1)] = 0


class RowsQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rows: those after the first so many. follow, 0 or 1: stay until the job has ended."""

    after: Annotated[int, Meta(ge=0, le=2**53)] = 0
    follow: Annotated[int, Meta(ge=0, le=1)] = 0


async def list_jobs(services: Services, call: Call[None, JobsQuery]) -> list[JobView]:
    """Return jobs, newest first."""
    query, now = call.query, services.clock.now()

    def question(tx: Connection) -> list[JobView]:
        rows = job_lists.listing(
            tx,
            limit=query.limit,
            host_id=None if query.host is None else hosts.resolve(tx, query.host).id,
            schedule_id=None if query.schedule is None else schedules.resolve(tx, query.schedule).id,
            repo_id=None if query.repo is None else repos.resolve(tx, query.repo).id,
            kind=query.kind,
            statuses=() if query.status is None else (query.status,),
        )
        return views(tx, rows, hub=services.hub, now=now)

    return await services.store.read(question)


async def ask(services: Services, call: Call[JobRequest, None]) -> JobView:
    """Queue what an operator wants done."""
    return (await _views(services, [await services.dispatcher.ask(call.body, within=call.act.within)]))[0]


async def preview_forget(services: Services, call: Call[PreviewRequest, None]) -> list[JobView]:
    """Queue jobs that find out what a schedule's retention would remove."""
    return await _views(
        services, await services.dispatcher.preview_forget(call.path["ref"], call.body.host, within=call.act.within)
    )


async def show(services: Services, call: Call[None, None]) -> JobView:
    """Return one job."""
    now = services.clock.now()
    return await services.store.read(
        lambda tx: views(tx, [job_lists.resolve(tx, call.path["ref"])], hub=services.hub, now=now)[0]
    )


async def cancel(services: Services, call: Call[None, None]) -> JobView:
    """Ask for a job's end."""
    return (await _views(services, [await services.dispatcher.cancel(call.path["ref"], within=call.act.within)]))[0]


async def events(services: Services, call: Call[None, EventsQuery]) -> JsonLines:
    """Stream a job's events."""
    query = call.query
    job = await services.store.read(lambda tx: job_lists.resolve(tx, call.path["ref"]))

    async def produce(emit: Emit) -> None:
        await follow_job(
            services,
            job.id,
            emit,
            follow=bool(query.follow),
            with_logs=bool(query.logs),
            attempts=bool(query.attempts),
        )

    return JsonLines(produce)


async def rows(services: Services, call: Call[None, RowsQuery]) -> JsonLines:
    """Stream a job's listing."""
    query = call.query
    job = await services.store.read(lambda tx: job_lists.resolve(tx, call.path["ref"]))

    async def produce(emit: Emit) -> None:
        await follow_rows(services, job.id, emit, after=query.after, follow=bool(query.follow))

    return JsonLines(produce)


async def run_schedule(services: Services, call: Call[RunRequest, None]) -> list[JobView]:
    """Queue a schedule's work now."""
    rows = await services.dispatcher.run_schedule(call.path["ref"], call.body.host, within=call.act.within)
    now = services.clock.now()

    def question(tx: Connection) -> list[JobView]:
        holding = pauses.holding(tx, now)
        told = views(tx, rows, hub=services.hub, now=now)
        return [
            msgspec.structs.replace(job, warnings=_in_spite_of(holding, row))
            for job, row in zip(told, rows, strict=True)
        ]

    return await services.store.read(question)


def _in_spite_of(holding: Sequence[PauseRow], job: JobRow) -> tuple[str, ...]:
    """The pauses that would have stopped a slot of the same schedule on the same host."""
    targets = {None, job.host_id, job.schedule_id}
    return tuple(f"{paused(view(row))}; it runs all the same" for row in holding if row.target in targets)


async def init_repo(services: Services, call: Call[InitRequest, None]) -> JobView:
    """Queue the creation of a repository."""
    return (
        await _views(
            services, [await services.dispatcher.init_repo(call.path["ref"], call.body.host, within=call.act.within)]
        )
    )[0]


async def _views(services: Services, rows: list[JobRow]) -> list[JobView]:
    now = services.clock.now()
    return await services.store.read(lambda tx: views(tx, rows, hub=services.hub, now=now))


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/jobs",
        name="job_list",
        summary="Jobs, newest first",
        handler=list_jobs,
        query=JobsQuery,
        response=list[JobView],
    ),
    Operation(
        method="POST",
        path="/v1/jobs",
        name="job_ask",
        summary="Do something on a repository now, by a host that is named or chosen",
        handler=ask,
        request=JobRequest,
        response=JobView,
        status=201,
    ),
    Operation(method="GET", path="/v1/jobs/{ref}", name="job_show", summary="One job", handler=show, response=JobView),
    Operation(
        method="POST",
        path="/v1/jobs/{ref}/cancel",
        name="job_cancel",
        summary="End a job: at once where no host has it, else as soon as its host says how it ended",
        handler=cancel,
        response=JobView,
    ),
    Operation(
        method="GET",
        path="/v1/jobs/{ref}/events",
        name="job_events",
        summary="The job, its log and (followed) what becomes of it, one event a line; the last line tells its end",
        handler=events,
        query=EventsQuery,
        response=Event,
        media_type="application/jsonl",
    ),
    Operation(
        method="GET",
        path="/v1/jobs/{ref}/rows",
        name="job_rows",
        summary="What the job has listed, many rows a line, and (followed) what it lists further; the last line is the "
        "job",
        handler=rows,
        query=RowsQuery,
        response=RowsLine,
        media_type="application/jsonl",
    ),
    Operation(
        method="POST",
        path="/v1/schedules/{ref}/run",
        name="schedule_run",
        summary="Run a schedule's work now, on one of its hosts or on all",
        handler=run_schedule,
        request=RunRequest,
        response=list[JobView],
        status=201,
    ),
    Operation(
        method="POST",
        path="/v1/schedules/{ref}/forget-preview",
        name="schedule_forget_preview",
        summary="Say what a schedule's retention would remove now and why, by jobs that list it and remove nothing",
        handler=preview_forget,
        request=PreviewRequest,
        response=list[JobView],
        status=201,
    ),
    Operation(
        method="POST",
        path="/v1/repos/{ref}/init",
        name="repo_init",
        summary="Create the repository, by a job on this host that runs alone on it",
        handler=init_repo,
        request=InitRequest,
        response=JobView,
        status=201,
    ),
)
