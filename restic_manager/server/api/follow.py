"""A job as JSON lines: what it is, its log, and what becomes of it while somebody listens.

Reads rows whenever the job's bell rings, as fast as this one listener takes them: a slow one is behind, and holds up
nobody. Owns the order of events: a job's last line comes before its end. It refuses to know who draws them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import msgspec
import trio
from sqlalchemy import Connection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from restic_manager.domain.model import Progress
from restic_manager.protocol.api import Event, GapEvent, JobEvent, JobView, LogEvent, ProgressEvent
from restic_manager.server.api.job_views import views
from restic_manager.server.services import Services
from restic_manager.server.store import job_rows, logs
from restic_manager.server.store.logs import Chunk

Emit = Callable[[bytes], Awaitable[None]]

_CHUNKS: Final = 64
_encoder: Final = msgspec.json.Encoder()


class JsonLines(Response):
    """An answer whose lines are written as they come. Ends when its producer does, or when the client hangs up."""

    media_type = "application/jsonl"

    def __init__(self, produce: Callable[[Emit], Awaitable[None]]) -> None:
        """Given what writes the lines, hold it until the answer is asked for."""
        super().__init__()
        del self.headers["content-length"]
        self._produce = produce

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Write the answer. The producer's exception leaves as it is, in no group."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

        async def emit(lines: bytes) -> None:
            await send({"type": "http.response.body", "body": lines, "more_body": True})

        failure: Exception | None = None
        over = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_gone, receive, nursery.cancel_scope, name="follower hangs up")
            try:
                await self._produce(emit)
                over = True
            except Exception as error:  # noqa: BLE001 - carried out of the nursery unwrapped, and raised again below
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if over:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Look(NamedTuple):
    """A job at one moment, and the next chunks of its log."""

    view: JobView
    chunks: list[Chunk]


async def follow_job(
    services: Services, job_id: str, emit: Emit, *, follow: bool, with_logs: bool, attempts: bool
) -> None:
    """Given a job, emit its events; with `follow` until it has ended, with `attempts` its further attempts' too.

    A server that stops ends it before that, with all there is to tell by then.
    """
    next_id: str | None = job_id
    while next_id is not None:
        last = await _follow_one(services, next_id, emit, follow=follow, with_logs=with_logs)
        next_id = last.next_attempt if attempts and last.status.terminal else None


async def _follow_one(services: Services, job_id: str, emit: Emit, *, follow: bool, with_logs: bool) -> JobView:
    hub = services.hub
    told: JobView | None = None
    progress: Progress | None = None
    first_line = last_line = 0

    def look(tx: Connection) -> _Look:
        row = job_rows.get(tx, job_id)
        chunks = logs.read(tx, job_id, after_line=first_line, limit=_CHUNKS) if with_logs else []
        return _Look(views(tx, [row], hub=hub, now=services.clock.now())[0], chunks)

    async with hub.watch(job_id) as bell:
        while True:
            last = hub.stopping or not follow  # asked before the look: what came until then is in it
            view, chunks = await services.store.read(look)
            plain = _plain(view)
            if told is None or (plain != told and not view.status.terminal):
                await emit(_lines([JobEvent(job=view)]))
                told = plain
            if chunks:
                await emit(_lines(_log_events(job_id, chunks, last_line)))
                first_line = chunks[-1].first_line
                last_line = first_line + chunks[-1].lines - 1
            if len(chunks) == _CHUNKS:
                continue  # the log comes before what became of the job
            if plain != told:
                await emit(_lines([JobEvent(job=view)]))
                told = plain
            if view.status.terminal or last:
                return view
            if view.progress is not None and view.progress != progress:
                progress = view.progress
                await emit(_lines([ProgressEvent(job_id=job_id, progress=progress)]))
            await bell.wait()


def _log_events(job_id: str, chunks: list[Chunk], last_line: int) -> list[Event]:
    events: list[Event] = []
    for chunk in chunks:
        missing = chunk.first_line - 1 - last_line
        if missing > 0:
            events.append(GapEvent(job_id=job_id, lines=missing))
        events += [
            LogEvent(job_id=job_id, line=chunk.first_line + number, at=chunk.at, stream=chunk.stream, text=text)  # type: ignore[arg-type]  # one of the three: the wire checked it
            for number, text in enumerate(chunk.text.split("\n"))
        ]
        last_line = chunk.first_line + chunk.lines - 1
    return events


def _plain(view: JobView) -> JobView:
    """The job without what changes with every line and every second: that has events of its own."""
    return msgspec.structs.replace(view, log_lines=0, log_lines_dropped=0, progress=None)


def _lines(events: list[Event]) -> bytes:
    return _encoder.encode_lines(events)


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    except (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionError):
        pass  # a reset is a way of hanging up, too
    scope.cancel()
