"""Staying with jobs until they end: through their attempts, and through a server that goes away and comes back.

Owns when a job counts as over, and how long a silent server is waited for. It refuses to know how anything is drawn.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from restic_manager.client import Client
from restic_manager.domain.errors import ManagerError, UnreachableError
from restic_manager.domain.model import Progress
from restic_manager.protocol.api import Event, GapEvent, JobEvent, JobView, LogEvent, ProgressEvent

PATIENCE: Final = 120.0
"""Seconds that a server which went away is waited for. The job itself needs no server to go on."""

STREAMS: Final = 16
"""Jobs followed live at the same time; the others are looked at when one of these has ended."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


def over(job: JobView, *, attempts: bool) -> bool:
    """Given a job, return whether nothing more will come of it (with `attempts`: of its further attempts either)."""
    return job.status.terminal and not (attempts and job.next_attempt)


def stay(
    client: Client,
    job_id: str,
    *,
    logs: bool,
    attempts: bool,
    note: Callable[[str], None],
    patience: float = PATIENCE,
) -> Iterator[Event]:
    """Given a job, yield its events until it is over, each log line and each gap once.

    A server that goes away is waited for (`patience` seconds, said by `note`) and asked again; raise UnreachableError
    when that is in vain, or when it did not answer in the first place.
    """
    seen = _Seen()
    wanted = job_id
    latest: JobView | None = None
    away_since: float | None = None
    pause = _FIRST_PAUSE
    while True:
        lost = UnreachableError("the server ended the stream before the job had ended")
        heard = False
        try:
            for event in client.events(wanted, follow=True, logs=logs, attempts=attempts):
                if away_since is not None:
                    note("the server is back")
                away_since, pause, heard = None, _FIRST_PAUSE, True
                if isinstance(event, JobEvent):
                    latest, wanted = event.job, event.job.id
                yield from seen.fresh(event)
        except UnreachableError as error:
            if latest is None:
                raise
            lost = error
        yield from seen.rest()
        if latest is not None and over(latest, attempts=attempts):
            return
        if latest is not None and latest.status.terminal and latest.next_attempt:
            wanted = latest.next_attempt
            if heard:
                continue
        now = time.monotonic()
        if away_since is None:
            away_since = now
            note("the server went away; the job goes on without it; waiting for it to come back")
        elif now - away_since > patience:
            raise lost
        # Nothing rings when a server comes back: it has to be asked.
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


class _Seen:
    """What has been yielded of each log, so that a stream read again from its beginning repeats nothing."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._gap: GapEvent | None = None

    def fresh(self, event: Event) -> Iterator[Event]:
        """Given the next event of the stream, yield what is new."""
        match event:
            case GapEvent():
                # Old or new? The line after it tells.
                self._gap = event
            case LogEvent():
                if event.line > self._last.get(event.job_id, 0):
                    yield from self.rest()
                    self._last[event.job_id] = event.line
                    yield event
                self._gap = None
            case _:
                yield event

    def rest(self) -> Iterator[Event]:
        """Yield a gap that nothing followed."""
        if self._gap is not None:
            gap, self._gap = self._gap, None
            yield gap


class Watcher:
    """Told what happens to each of several jobs, on the caller's own thread. Does nothing; a drawing overrides it."""

    def job(self, index: int, job: JobView) -> None:
        """The job at this place is now so."""

    def progress(self, index: int, progress: Progress) -> None:
        """The job at this place has come so far."""

    def note(self, text: str) -> None:
        """A word for the person who waits."""


_Said = JobView | Progress | str | ManagerError
_News = tuple[int, _Said | None]
"""What was heard of the job at a place; None: nothing more will be."""


def follow_all(client: Client, jobs: list[JobView], watcher: Watcher, *, limit: float | None = None) -> list[JobView]:
    """Given jobs, tell the watcher what becomes of them, and return them, in the same order, as they ended.

    The list itself is kept current, so that who is interrupted knows how they stand. The last attempt stands for the
    job. Raise the first error met in asking (the jobs themselves go on). limit: seconds after which they are returned
    as they stand then.
    """
    news: queue.SimpleQueue[_News] = queue.SimpleQueue()
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    ids = [job.id for job in jobs]
    for index in range(len(jobs)):
        todo.put(index)

    def follow_some() -> None:
        while True:
            try:
                index = todo.get_nowait()
            except queue.Empty:
                return
            _follow_one(client, ids[index], index, news)

    for number in range(min(STREAMS, len(jobs))):
        # Daemons: Ctrl-C ends the process though a thread waits for a silent server.
        threading.Thread(target=follow_some, name=f"follow-{number}", daemon=True).start()

    for index, said in _until_over(news, len(jobs), None if limit is None else time.monotonic() + limit):
        match said:
            case JobView():
                jobs[index] = said
                watcher.job(index, said)
            case Progress():
                watcher.progress(index, said)
            case str():
                watcher.note(said)
            case ManagerError():
                raise said
    return jobs


def _until_over(news: queue.SimpleQueue[_News], open_jobs: int, deadline: float | None) -> Iterator[tuple[int, _Said]]:
    """Yield what is heard of so many jobs until nothing more will be heard of any, or the time is up."""
    while open_jobs:
        try:
            index, said = news.get(timeout=None if deadline is None else max(deadline - time.monotonic(), 0))
        except queue.Empty:
            return
        if said is None:
            open_jobs -= 1
        else:
            yield index, said


def _follow_one(client: Client, job_id: str, index: int, news: queue.SimpleQueue[_News]) -> None:
    try:
        for event in stay(client, job_id, logs=False, attempts=True, note=lambda text: news.put((index, text))):
            match event:
                case JobEvent():
                    news.put((index, event.job))
                case ProgressEvent():
                    news.put((index, event.progress))
                case LogEvent() | GapEvent():
                    pass  # not asked for
        news.put((index, None))
    except ManagerError as error:
        news.put((index, error))
    except Exception as error:  # noqa: BLE001 - the thread's only barrier: unsaid, the waiting thread would wait for ever
        news.put((index, ManagerError(f"following job {job_id} failed: {type(error).__name__}: {error}")))
