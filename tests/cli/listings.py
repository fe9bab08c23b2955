"""Scripts of jobs and their listings, for the tests of what reads snapshots and repositories."""

from __future__ import annotations

from typing import Any

from restic_manager.domain.model import Status
from restic_manager.domain.results import ListStats, Row
from restic_manager.protocol import api
from tests.cli import samples
from tests.cli.stub_server import Asked, Stream, StubServer

JOB = samples.JOB_ID
ROWS = f"/v1/jobs/{JOB}/rows?after=0&follow=1"
EVENTS = f"/v1/jobs/{JOB}/events?follow=1&logs=0&attempts=1"


def ended(status: Status = Status.SUCCEEDED, **changes: Any) -> api.JobView:
    return samples.job(status, stats=None, snapshot_id=None, schedule=None, slot=None, **changes)


def rows(first: int, *found: Row) -> api.RowsEvent:
    return api.RowsEvent(job_id=JOB, first=first, rows=found)


def answers(server: StubServer, job: api.JobView, *found: Row) -> None:
    """Let the server take a job, give these rows, and end it so."""
    server.on("POST", "/v1/jobs", (201, ended(Status.QUEUED, kind=job.kind, spec=job.spec)))

    def stream(_: Asked) -> Stream:
        told = Stream().put(rows(1, *found)) if found else Stream()
        return told.put(api.JobEvent(job=job)).end()

    server.on("GET", ROWS, stream)


def listing(server: StubServer, kind: Any, spec: Any, *found: Row) -> None:
    """Let the server take a listing job that ends well with these rows."""
    answers(server, ended(kind=kind, spec=spec, result=ListStats(rows=len(found))), *found)


def asked_spec(server: StubServer) -> dict[str, Any]:
    """Return the request for the job, without what is null."""
    body = [asked.body for asked in server.asked if asked[:2] == ("POST", "/v1/jobs")][-1]
    return {name: value for name, value in body.items() if value is not None}
