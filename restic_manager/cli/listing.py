"""Listings: a job's rows, printed as they come, and how the job ended.

Owns following rows through a server that goes away and comes back (none twice, none lost unsaid), and giving up a job
that nobody reads any more. A failed job is its verdict on standard error and exit code 1. Refuses to know which job.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Final, TypeVar

from restic_manager.cli import exits
from restic_manager.cli.command import Operator
from restic_manager.cli.follow import PATIENCE
from restic_manager.cli.progress import waiting
from restic_manager.cli.result_words import result_lines, result_words
from restic_manager.cli.row_words import row_line
from restic_manager.cli.text import amount, short
from restic_manager.client import Client
from restic_manager.domain.errors import ManagerError, UnreachableError
from restic_manager.domain.model import Status
from restic_manager.domain.results import BytesRow, DiffStats, ListStats, Row
from restic_manager.protocol.api import JobEvent, JobRequest, JobView, RowsEvent

R = TypeVar("R")

Rows = Generator[tuple[Row, ...], None, JobView]
"""The rows of a job, some at a time; its return value is the job as it ended."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_WELL: Final = (exits.DONE, exits.WARNING)
INCOMPLETE: Final = "rows_lost"
"""The code of a listing of which rows are missing."""


def rows_of(client: Client, job: JobView, *, note: Callable[[str], None], patience: float = PATIENCE) -> Rows:
    """Given a job, yield its rows as they come, each once, and return the job as it ended.

    Raise ManagerError (rows_lost) when rows are missing in between, UnreachableError when the server stays away.
    """
    latest, after = job, 0
    away = _Away(note, patience)
    waits = _Waits(note)
    while True:
        lost = UnreachableError("the server ended the stream before the job had ended")
        try:
            for line in client.rows(latest.id, after=after):
                away.over()
                if isinstance(line, RowsEvent):
                    fresh = _fresh(line, after)
                    after += len(fresh)
                    if fresh:
                        yield fresh
                elif isinstance(line, JobEvent):
                    latest = line.job
                    waits.say(latest)
        except UnreachableError as error:
            lost = error
        if not latest.status.terminal:
            away.wait(lost)
        elif latest.next_attempt is None or after:
            return latest
        else:
            latest = client.job(latest.next_attempt)


class _Waits:
    """Says what a job waits for, once."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._told = ""

    def say(self, job: JobView) -> None:
        """Given the job as it is, say what it waits for, if that is new."""
        if not job.status.terminal and job.waits_for and job.waits_for != self._told:
            self._told = job.waits_for
            self._note(f"job {short(job.id)} {job.status}{waiting(job)}")


class _Away:
    """A server that goes away: how long it is waited for."""

    def __init__(self, note: Callable[[str], None], patience: float) -> None:
        self._note = note
        self._patience = patience
        self._since: float | None = None
        self._pause = _FIRST_PAUSE

    def over(self) -> None:
        """It has been heard."""
        if self._since is not None:
            self._note("the server is back")
        self._since, self._pause = None, _FIRST_PAUSE

    def wait(self, lost: UnreachableError) -> None:
        """Wait a moment; raise what was lost when that has gone on for too long."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self._note("the server went away; waiting for it to come back")
        elif now - self._since > self._patience:
            raise lost
        # Nothing rings when a server comes back: it has to be asked.
        time.sleep(self._pause)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)


def listed(operator: Operator, job: JobView, *, empty: str) -> int:
    """Given a job, print its rows as they come, one a line or as one JSON array; return the exit code.

    empty: what is said when it went well and there is no row.
    """
    screen = operator.screen
    array = screen.array()
    count = 0

    def show(rows: tuple[Row, ...]) -> None:
        nonlocal count
        count += len(rows)
        for row in rows:
            if screen.as_json:
                array.add(row)
            else:
                screen.row(row_line(row))

    try:
        ended = drained(operator, job, show)
    except ManagerError:
        array.close(well=False)
        raise
    code = verdict(operator, ended, count)
    if screen.as_json:
        array.close(well=code in _WELL)
    elif not count and code in _WELL:
        screen.note(empty)
    elif code in _WELL and isinstance(ended.result, DiffStats):
        screen.note(result_words(ended.result))
    return code


def collected(operator: Operator, job: JobView, wanted: type[R]) -> tuple[list[R], JobView, int]:
    """Given a job of few rows, return those of the wanted type, the job as it ended, and the exit code (said)."""
    found: list[R] = []
    count = 0

    def keep(rows: tuple[Row, ...]) -> None:
        nonlocal count
        count += len(rows)
        found.extend(row for row in rows if isinstance(row, wanted))

    ended = drained(operator, job, keep)
    return found, ended, verdict(operator, ended, count)


def written(operator: Operator, job: JobView) -> int:
    """Given a job that reads a file, write its bytes to standard output as they are; return the exit code."""

    count = 0

    def write(rows: tuple[Row, ...]) -> None:
        nonlocal count
        count += len(rows)
        for row in rows:
            if isinstance(row, BytesRow):
                operator.screen.raw(row.data)

    return verdict(operator, drained(operator, job, write), count)


def drained(operator: Operator, job: JobView, take: Callable[[tuple[Row, ...]], None]) -> JobView:
    """Given a job, hand its rows on and return it as it ended. Who stops reading ends a job that only reads, too."""
    rows = rows_of(operator.client, job, note=operator.screen.note)
    try:
        while True:
            try:
                take(next(rows))
            except StopIteration as stop:
                ended: JobView = stop.value
                return ended
    except (KeyboardInterrupt, BrokenPipeError):
        if job.kind.reading:
            operator.client.cancel_job(job.id)
        raise


def asked(operator: Operator, request: JobRequest) -> JobView:
    """Given what is to be done, ask for the job, and say what it does in spite of something."""
    job = operator.client.run_job(request)
    for warning in job.warnings:
        operator.screen.note(f"warning: {warning}")
    return job


def verdict(operator: Operator, job: JobView, rows: int) -> int:
    """Given a job as it ended and how many rows came, say on standard error what went wrong; return the exit code."""
    screen = operator.screen
    code = exits.of_job(job)
    if code == exits.DONE:
        expected = job.result.rows if isinstance(job.result, ListStats | DiffStats) else rows
        if rows >= expected:
            for warning in job.warnings:
                screen.note(f"warning: {warning}")
            return code
        why = "; ".join(job.warnings) or "ask again, or for less"
        sentence = f"the listing is not complete: {rows:,} of {amount(expected, 'row')} came ({why})"
        screen.error(ManagerError(sentence, code=INCOMPLETE))
        return exits.FAILED
    why = job.error.message if job.error is not None else f"it is {job.status}"
    sentence = f"{job.host}: {job.kind} {job.status}: {why}"
    if job.status is Status.WARNING:
        screen.note(f"warning: {sentence}")
    else:
        screen.error(ManagerError(sentence, code=job.error.code if job.error is not None else str(job.status)))
    for line in (*(job.error.lines if job.error is not None else ()), *result_lines(job.result)):
        screen.note(f"  | {line}")
    screen.note(f"  the whole log: restic-manager job logs {short(job.id)}")
    return code


def _fresh(event: RowsEvent, after: int) -> tuple[Row, ...]:
    """Return the rows of an event beyond those that were had."""
    if event.first > after + 1:
        missing = amount(event.first - after - 1, "row")
        raise ManagerError(f"{missing} of the listing were not kept: ask for it again", code=INCOMPLETE)
    return event.rows[after + 1 - event.first :]
