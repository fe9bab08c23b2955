"""Running one job's restic from checks to outcome: the room's front door.

A failed backup is a value (`Outcome`); what is raised is our caller's own errors and cancellation. Refuses to know
where lines and progress go, who asked, and what a job's outcome leads to.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import trio

from restic_manager.domain.errors import InputError
from restic_manager.domain.model import BackupSpec, InitSpec, Kind, Limits, Outcome, Progress, RepoAccess, Spec, Status
from restic_manager.domain.model import kind_of as kind_of_spec
from restic_manager.domain.pathtext import text_to_path
from restic_manager.restic.after import Asker, LookupFailedError
from restic_manager.restic.binary import Binary, find_binary
from restic_manager.restic.checks import check_task
from restic_manager.restic.command import Command, backup_command, init_command, make_setting
from restic_manager.restic.output import Heard, Redact, Stream
from restic_manager.restic.process import Exit, Patience, SpawnError, describe, run_process, the_cause
from restic_manager.restic.redact import redactor
from restic_manager.restic.verdict import Ended, Stop, failure, judge, missing_text, needs_lookup
from restic_manager.restic.version import stop_signal
from restic_manager.restic.watch import Halt

__all__ = ["Binary", "LogLines", "Task", "find_binary", "make_asker", "missing_paths", "run_task"]

LogLines = Callable[[Literal["stdout", "stderr", "agent"], Sequence[str]], Awaitable[None]]
"""Takes log lines in order, one batch at a time. While it waits, restic waits (its pipe fills up)."""

NO_LIMITS = Limits()
_path_threads = trio.CapacityLimiter(8)
"""Looking at paths can hang for ever on a dead mount; so it has threads of its own, never those of the journal."""


@dataclass(frozen=True, slots=True)
class Task:
    """One job as the runner hands it over."""

    job_id: str
    schedule_id: str | None
    spec: Spec
    repo: RepoAccess
    restic_host: str
    limits: Limits = NO_LIMITS


async def run_task(
    task: Task,
    *,
    binary: Binary,
    cache_dir: Path,
    on_lines: LogLines,
    on_progress: Callable[[Progress], None],
    on_spawned: Callable[[int], None] | None = None,
    stop: trio.Event,
    kill_after: float = 30.0,
    lookup_within: float = 30.0,
    redact: Redact | None = None,
) -> Outcome:
    """Given a task, run it to its outcome. Setting `stop` asks restic to end; being cancelled kills it at once.

    kill_after: seconds from asking to killing. lookup_within: seconds for each question to the repository afterwards.
    redact: takes further secrets out of every line (the repository's own are always taken out).
    """
    run = _Run(
        task=task,
        binary=binary,
        cache_dir=cache_dir,
        on_lines=on_lines,
        on_progress=on_progress,
        redact=redact,
        lookup_within=lookup_within,
    )
    return await run.outcome(on_spawned, stop, kill_after)


def make_asker(
    task: Task, *, binary: Binary, cache_dir: Path, within: float = 30.0, redact: Redact | None = None
) -> Asker:
    """Given a task that ran earlier, return what can be asked about it: `find_snapshot(job_id)`, `release_lock(pid)`.

    Raise InputError if the task is not one that may be handed to restic.
    """
    check_task(task.spec, task.repo, task.restic_host)
    setting = make_setting(
        binary.path,
        binary.version,
        task.repo,
        job_id=task.job_id,
        cache_dir=str(cache_dir),
        inherited=os.environ,
    )
    return Asker(setting, binary.version, _both(redactor(task.repo), redact), within)


class _Run:
    """One run of one task."""

    def __init__(
        self,
        *,
        task: Task,
        binary: Binary,
        cache_dir: Path,
        on_lines: LogLines,
        on_progress: Callable[[Progress], None],
        redact: Redact | None,
        lookup_within: float,
    ) -> None:
        self._task = task
        self._binary = binary
        self._cache_dir = cache_dir
        self._on_lines = on_lines
        self._on_progress = on_progress
        self._redact = _both(redactor(task.repo), redact)
        self._own_redact = redact
        self._lookup_within = lookup_within
        self._heard = Heard(self._redact)
        self._one_at_a_time = trio.Lock()
        self._kind = kind_of_spec(task.spec)
        self._halt = Halt(task.limits, watch_stall=self._kind is Kind.BACKUP)

    async def outcome(self, on_spawned: Callable[[int], None] | None, stop: trio.Event, kill_after: float) -> Outcome:
        try:
            asker = make_asker(
                self._task,
                binary=self._binary,
                cache_dir=self._cache_dir,
                within=self._lookup_within,
                redact=self._own_redact,
            )
        except InputError as error:
            return _never_ran("invalid_input", error.message)
        started: Outcome | tuple[Exit, tuple[str, ...]]
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._halt.watch, stop, name="restic watch")
                started = await self._start(asker, on_spawned, kill_after)
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise the_cause(group) from None
        return started if isinstance(started, Outcome) else await self._judged(asker, *started)

    async def _start(
        self, asker: Asker, on_spawned: Callable[[int], None] | None, kill_after: float
    ) -> Outcome | tuple[Exit, tuple[str, ...]]:
        """Return restic's end and the missing paths, or the outcome when restic was not started."""
        missing = await self._missing_sources()
        if missing is None or self._halt.reason is not None:
            return self._halted()
        if isinstance(self._task.spec, BackupSpec) and len(missing) == len(set(self._task.spec.paths)):
            return _never_ran("source_missing", missing_text(missing))
        await self._say(*(f"{path} does not exist: backing up the rest" for path in missing))
        try:
            end = await run_process(
                self._command(asker),
                on_lines=self._take,
                stop=self._halt.event,
                stop_signal=stop_signal(self._binary.version),
                on_spawned=on_spawned,
                patience=Patience(stop=kill_after),
            )
        except SpawnError as error:
            return _never_ran(error.code, f"{error.message}.")
        return end, missing

    def _command(self, asker: Asker) -> Command:
        task = self._task
        match task.spec:
            case BackupSpec() as spec:
                return backup_command(
                    asker.setting,
                    spec,
                    job_id=task.job_id,
                    schedule_id=task.schedule_id,
                    restic_host=task.restic_host,
                )
            case InitSpec():
                return init_command(asker.setting)

    async def _missing_sources(self) -> tuple[str, ...] | None:
        """Return the source paths that do not exist, or None when the run is to stop before that is known."""
        if not isinstance(self._task.spec, BackupSpec):
            return ()
        paths = self._task.spec.paths
        found: tuple[str, ...] | None = None
        with self._halt.cutting_short():
            found = await trio.to_thread.run_sync(missing_paths, paths, abandon_on_cancel=True, limiter=_path_threads)
        return found  # noqa: RET504  # still None when cut short

    def _halted(self) -> Outcome:
        """Return the outcome of a run that was to stop before restic was started."""
        reason = self._halt.reason or Stop.CANCELLED
        status = Status.CANCELLED if reason is Stop.CANCELLED else Status.FAILED
        return Outcome(status=status, error=failure(reason.value, "restic was not started."))

    async def _take(self, stream: Stream, raw: list[bytes]) -> None:
        log, progress = self._heard.take(stream, raw)
        if progress is not None:
            self._halt.progressed(progress)
            self._on_progress(progress)
        if log:
            await self._pass_on(stream, log)

    async def _say(self, *lines: str) -> None:
        if lines:
            await self._pass_on("agent", [self._redact(line) for line in lines])

    async def _pass_on(self, stream: Literal["stdout", "stderr", "agent"], lines: list[str]) -> None:
        async with self._one_at_a_time:
            await self._on_lines(stream, lines)

    async def _judged(self, asker: Asker, end: Exit, missing: tuple[str, ...]) -> Outcome:
        """Return the outcome, after asking the repository what restic did not say."""
        # A bell that rang only after the end changed nothing about it.
        stopped = self._halt.reason if end.stopped else None
        if stopped is not None:
            by = "it had to be killed" if end.killed else f"it ended by itself ({describe(end)})"
            await self._say(f"asked to stop ({stopped.value}): {by}")
        if not end.drained:
            await self._say("something that restic started still holds its output open: the rest of it is not shown")
        if end.signal is not None:
            await self._release_lock(asker, end.pid)
        ended = Ended(self._kind, self._binary.version, end.code, end.signal, stopped, missing)
        if not needs_lookup(ended, self._heard):
            return judge(ended, self._heard)
        recovered: str | None = None
        problem: str | None = None
        try:
            recovered = await asker.find_snapshot(self._task.job_id)
        except LookupFailedError as error:
            problem = error.message
            await self._say(f"whether a snapshot was saved could not be found out: {problem}")
        if recovered is not None:
            await self._say(f"restic ended without a summary, but had saved snapshot {recovered[:8]} of this job")
        ended = Ended(self._kind, self._binary.version, end.code, end.signal, stopped, missing, recovered, problem)
        return judge(ended, self._heard)

    async def _release_lock(self, asker: Asker, pid: int) -> None:
        try:
            if await asker.release_lock(pid):
                await self._say("removed the lock that restic left behind")
        except LookupFailedError as error:
            await self._say(f"restic may have left its lock behind; this could not be found out: {error.message}")


def missing_paths(paths: Sequence[str]) -> tuple[str, ...]:
    """Given path texts, return those where nothing is. Blocks as long as the file systems do."""
    missing: list[str] = []
    for path in dict.fromkeys(paths):
        try:
            os.lstat(text_to_path(path))
        except (FileNotFoundError, NotADirectoryError):
            missing.append(path)
        except OSError:
            continue  # it is there, or may be: restic will say what is wrong with it
    return tuple(missing)


def _never_ran(code: str, detail: str) -> Outcome:
    return Outcome(status=Status.FAILED, error=failure(code, detail))


def _both(first: Redact, second: Redact | None) -> Redact:
    if second is None:
        return first
    return lambda text: second(first(text))
