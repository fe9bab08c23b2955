"""Waiting for jobs, shown: a bar for each on a terminal, a line now and then elsewhere.

Owns what is drawn while jobs run and the sentence each ends with. It refuses to know how they are followed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from restic_manager.cli import exits
from restic_manager.cli.command import Operator
from restic_manager.cli.follow import Watcher, follow_all
from restic_manager.cli.render import Screen
from restic_manager.cli.result_words import result_lines, result_words
from restic_manager.cli.text import amount, safe, short, size, span, took
from restic_manager.domain.model import Progress, Status
from restic_manager.domain.results import ListStats
from restic_manager.protocol.api import JobView

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

MOST_BARS: Final = 10
"""With more jobs than this, one bar counts them instead."""

LINE_EVERY: Final = 10.0
"""Seconds between two lines about a running job where nothing can be drawn."""

_NAME_WIDTH: Final = 16


def wait_for(operator: Operator, jobs: list[JobView]) -> tuple[list[JobView], int]:
    """Given jobs just made, show them until all have ended; return them as they ended, and the exit code of the worst.

    Ctrl-C ends the waiting, not the jobs, and says so; it is raised again as KeyboardInterrupt.
    """
    screen = operator.screen
    latest = list(jobs)
    watcher = _Drawing(screen, jobs) if screen.draws else _Lines(screen, jobs)
    try:
        with watcher:
            ended = follow_all(operator.client, latest, watcher)
    except KeyboardInterrupt:
        left = "the job goes on" if len(jobs) == 1 else "the jobs go on"
        screen.note(f"no longer waiting; {left}: see `restic-manager job logs -f {short(latest[0].id)}`")
        raise
    return ended, exits.worst([exits.of_job(job) for job in ended])


def ending(job: JobView) -> str:
    """Given a job, return how it stands, in a sentence for a person, restic's own first error lines below."""
    words = f"{job.host}: {job.kind} {job.status}"
    if duration := took(job.started_at, job.finished_at):
        words += f" in {duration}"
    if job.stats is not None and job.snapshot_id:
        stats = job.stats
        words += (
            f", snapshot {short(job.snapshot_id)}: {amount(stats.total_files_processed, 'file')}, "
            f"{size(stats.total_bytes_processed)}, {size(stats.data_added)} new"
        )
    elif job.snapshot_id:
        words += f", snapshot {short(job.snapshot_id)}"
    if job.result is not None and not (job.status is Status.FAILED and isinstance(job.result, ListStats)):
        words += f": {result_words(job.result)}"
    if not job.status.terminal:
        return words + waiting(job)
    if job.error is not None:
        words += f"\n  {safe(job.error.message)}"
        words += "".join(f"\n  | {safe(line)}" for line in job.error.lines)
    words += "".join(f"\n  | {safe(line)}" for line in result_lines(job.result))
    if job.status is not Status.SUCCEEDED:
        words += f"\n  the whole log: restic-manager job logs {short(job.id)}"
    return words


def waiting(job: JobView) -> str:
    """Given a job, return what it waits for, as the end of a sentence; nothing where it waits for nothing."""
    return f", waits for {job.waits_for}" if job.waits_for else ""


def standing(progress: Progress) -> str:
    """Given the latest progress, return how far it is, in a few words."""
    words = f"{progress.percent_done:4.0%}"
    if progress.bytes_total:
        words += f" {size(progress.bytes_done)} of {size(progress.bytes_total)}"
    if progress.files_total:
        words += f", {progress.files_done:,} of {amount(progress.files_total, 'file')}"
    if progress.errors:
        words += f", {amount(progress.errors, 'error')}"
    return words


class _Lines(Watcher):
    """Plain lines on standard error: each change of a status, and how far a running job is from time to time."""

    def __init__(self, screen: Screen, jobs: list[JobView]) -> None:
        self._screen = screen
        self._names = [job.host for job in jobs]
        self._told: list[tuple[str, Status] | None] = [None] * len(jobs)
        self._last_line = [time.monotonic()] * len(jobs)

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def job(self, index: int, job: JobView) -> None:
        """Say a status that is new."""
        if self._told[index] == (job.id, job.status):
            return
        self._told[index] = (job.id, job.status)
        words = f"{job.host}: job {short(job.id)} {job.status}"
        self._screen.note(words + waiting(job))

    def progress(self, index: int, progress: Progress) -> None:
        """Say how far it is, when it has not been said for a while and the jobs are few."""
        now = time.monotonic()
        if len(self._names) <= MOST_BARS and now - self._last_line[index] >= LINE_EVERY:
            self._last_line[index] = now
            self._screen.note(f"{self._names[index]}: {standing(progress).strip()}")

    def note(self, text: str) -> None:
        """Say it."""
        self._screen.note(text)


class _Drawing(Watcher):
    """Bars on standard error that stay where they ended."""

    def __init__(self, screen: Screen, jobs: list[JobView]) -> None:
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._names = [_name(job) for job in jobs]
        self._ended: set[int] = set()
        self._each = len(jobs) <= MOST_BARS
        self._bars: Bars = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=14),
            TextColumn("{task.fields[words]}", markup=False),
            console=screen.console(),
            refresh_per_second=4,
        )
        self._tasks: list[TaskID] = []
        if self._each:
            width = max(len(name) for name in self._names)
            self._tasks = [self._bars.add_task(name.ljust(width), total=1.0, words="") for name in self._names]
        else:
            self._tasks = [self._bars.add_task("jobs", total=float(len(jobs)), words=f"0 of {len(jobs):,} ended")]

    def __enter__(self) -> _Drawing:
        self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.stop()

    def job(self, index: int, job: JobView) -> None:
        """Show the status; a bar that ended well is full."""
        if not self._each:
            if job.status.terminal and not job.next_attempt:
                self._ended.add(index)
            count = len(self._ended)
            self._bars.update(self._tasks[0], completed=count, words=f"{count:,} of {len(self._names):,} ended")
            return
        words = safe(f"{job.status}{waiting(job)}")
        if job.status in {Status.SUCCEEDED, Status.WARNING}:
            self._bars.update(self._tasks[index], completed=1.0, words=words)
        else:
            self._bars.update(self._tasks[index], words=words)
        if job.progress is not None:
            self.progress(index, job.progress)

    def progress(self, index: int, progress: Progress) -> None:
        """Move the bar."""
        if not self._each:
            return
        words = standing(progress)
        if progress.seconds_remaining is not None:
            from datetime import timedelta

            words += f", {span(timedelta(seconds=progress.seconds_remaining))} left"
        self._bars.update(self._tasks[index], completed=progress.percent_done, words=words)

    def note(self, text: str) -> None:
        """Say it above the bars."""
        self._bars.console.print(safe(text))


def _name(job: JobView) -> str:
    name = safe(job.host)
    return name if len(name) <= _NAME_WIDTH else name[: _NAME_WIDTH - 1] + "…"
