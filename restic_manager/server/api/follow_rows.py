"""A job's listing as JSON lines: its rows as they come, its progress, and at the end the job.

As `follow`: rows are read when the job's bell rings, as fast as this one listener takes them, a bounded piece at a
time. They go from the store to the line as text, undecoded. Owns the order: every row that is kept comes before the
last line. It refuses to know what rows are.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import msgspec
import trio
from msgspec import Struct
from sqlalchemy import Connection

from restic_manager.domain.model import Progress
from restic_manager.protocol.api import JobEvent, JobView, ProgressEvent
from restic_manager.server.api.follow import Emit
from restic_manager.server.api.job_views import views
from restic_manager.server.services import Services
from restic_manager.server.store import job_rows, listings
from restic_manager.server.store.listings import Chunk

QUIET: Final = 1.0
"""Seconds that a job may wait for something before its listener is told what for."""
_encoder: Final = msgspec.json.Encoder()


class _RawRowsEvent(Struct, frozen=True, kw_only=True, tag="rows", tag_field="event"):
    """A `protocol.api.RowsEvent` whose rows are the text they were stored as."""

    job_id: str
    first: int
    rows: msgspec.Raw


class _Look(NamedTuple):
    """A job at one moment, and the next rows of its listing."""

    view: JobView
    chunks: list[Chunk]


async def follow_rows(services: Services, job_id: str, emit: Emit, *, after: int, follow: bool) -> None:
    """Given a job, emit its rows beyond the first `after`, and last the job; with `follow` until it has ended.

    Rows that are taken away meanwhile (a listener slower than an hour) end it: the job says that they are gone. A
    server that stops ends it before the job has, with all there is to tell by then. A job that waits for something a
    while is emitted, too, each time that is something else.
    """
    hub = services.hub
    progress: Progress | None = None
    told: str | None = None

    def look(tx: Connection) -> _Look:
        row = job_rows.get(tx, job_id)
        chunks = listings.read(tx, job_id, after=after)
        return _Look(views(tx, [row], hub=hub, now=services.clock.now())[0], chunks)

    async with hub.watch(job_id) as bell:
        while True:
            last = hub.stopping or not follow  # asked before the look: what came until then is in it
            view, chunks = await services.store.read(look)
            for chunk in chunks:
                event = _RawRowsEvent(job_id=job_id, first=chunk.first, rows=msgspec.Raw(chunk.text.encode()))
                await emit(_encoder.encode_lines([event]))
                after = chunk.last
            if chunks:
                continue  # there may be more, and all of it comes before the end
            if view.status.terminal or last:
                await emit(_encoder.encode_lines([JobEvent(job=view)]))
                return
            if view.progress is not None and view.progress != progress:
                progress = view.progress
                await emit(_encoder.encode_lines([ProgressEvent(job_id=job_id, progress=progress)]))
            news = view.waits_for is not None and view.waits_for != told
            with trio.move_on_after(QUIET if news else math.inf) as patience:
                await bell.wait()
            if patience.cancelled_caught:
                told = view.waits_for
                await emit(_encoder.encode_lines([JobEvent(job=view)]))
