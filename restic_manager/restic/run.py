"""Running one job's restic from checks to outcome: the room's front door.

A failed backup is a value (`Outcome`); what is raised is our caller's own errors and cancellation. Refuses to know
where lines, rows and progress go, who asked, and what a job's outcome leads to. How a backup is carried out is
`restic.backing`, every other kind `restic.kinds`.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import trio

from restic_manager.domain.errors import InputError
from restic_manager.domain.model import Limits, Outcome, Progress, RepoAccess, Status, kind_of
from restic_manager.domain.specs import BackupSpec, InitSpec, Spec
from restic_manager.restic.after import Asker
from restic_manager.restic.backing import back_up, halted, missing_paths
from restic_manager.restic.binary import Binary, find_binary
from restic_manager.restic.checks import check_looked_up, check_source, check_task
from restic_manager.restic.command import Setting, ceiling_words, init_command, make_setting
from restic_manager.restic.commands.restoring import with_source
from restic_manager.restic.commands.shared import priority_words
from restic_manager.restic.gates import pass_gates
from restic_manager.restic.kinds import OtherSpec, carry_out, probe_source
from restic_manager.restic.locking import name_holders
from restic_manager.restic.output import Redact
from restic_manager.restic.process import SpawnError, the_cause
from restic_manager.restic.proving import SCRATCH
from restic_manager.restic.redact import redactor
from restic_manager.restic.stage import HaltedError, LogLines, OnRows, Stage
from restic_manager.restic.verdict import failure, judge
from restic_manager.restic.version import Feature, ResticUnusableError
from restic_manager.restic.work import Work

__all__ = ["Binary", "LogLines", "OnRows", "Task", "find_binary", "make_asker", "missing_paths", "run_task"]

NO_LIMITS = Limits()
_LOCK_PAUSE = 5.0
"""Seconds between two tries where restic itself cannot wait for a lock."""


@dataclass(frozen=True, slots=True)
class Task:
    """One job as the runner hands it over.

    source: access to the second repository that a copy or an init names. upload_limit, download_limit: ceilings of all
    its commands, KiB/s. program: whose output a backup saves, where its spec names one.
    """

    job_id: str
    schedule_id: str | None
    spec: Spec
    repo: RepoAccess
    restic_host: str
    limits: Limits = NO_LIMITS
    source: RepoAccess | None = None
    upload_limit: int | None = None
    download_limit: int | None = None
    program: Path | None = None


async def run_task(
    task: Task,
    *,
    binary: Binary,
    cache_dir: Path,
    on_lines: LogLines,
    on_progress: Callable[[Progress], None],
    on_spawned: Callable[[int], None] | None = None,
    on_rows: OnRows | None = None,
    stop: trio.Event,
    kill_after: float = 30.0,
    lookup_within: float = 30.0,
    redact: Redact | None = None,
) -> Outcome:
    """Given a task, run it to its outcome. Setting `stop` asks restic to end; being cancelled kills it at once.

    on_rows: takes the rows of the listing kinds; those of names that are not UTF-8 come last. kill_after: seconds from
    asking to killing. lookup_within: seconds for each question to the repository afterwards. redact: takes further
    secrets out of every line (the repository's own are always taken out).
    """

    async def once() -> Outcome:
        run = _Run(
            task=task,
            binary=binary,
            cache_dir=cache_dir,
            on_lines=on_lines,
            on_progress=on_progress,
            on_rows=on_rows,
            on_spawned=on_spawned,
            kill_after=kill_after,
            redact=redact,
            lookup_within=lookup_within,
        )
        return await run.outcome(stop)

    until = trio.current_time() + (task.limits.lock_wait or 0)
    outcome = await once()
    while (
        not binary.version.has(Feature.RETRY_LOCK)
        and outcome.error is not None
        and outcome.error.code == "locked"
        and (left := until - trio.current_time()) > 0
        and not stop.is_set()
    ):
        await on_lines("agent", [f"the repository is locked: trying again for {left:.0f} s more"])
        with trio.move_on_after(min(left, _LOCK_PAUSE)):
            await stop.wait()
        outcome = await once()
    if outcome.error is None or outcome.error.code != "locked":
        return outcome

    async def say(line: str) -> None:
        await on_lines("agent", [asker.redact(line)])

    asker = make_asker(task, binary=binary, cache_dir=cache_dir, within=lookup_within, redact=redact)
    return await name_holders(outcome, asker, kind_of(task.spec), say=say, now=lambda: datetime.now(UTC), stop=stop)


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
    return Asker(setting, binary.version, _redact(task, redact), within)


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
        on_rows: OnRows | None,
        on_spawned: Callable[[int], None] | None,
        kill_after: float,
        redact: Redact | None,
        lookup_within: float,
    ) -> None:
        self._task = task
        self._binary = binary
        self._cache_dir = cache_dir
        self._on_lines = on_lines
        self._on_progress = on_progress
        self._on_rows = on_rows
        self._on_spawned = on_spawned
        self._kill_after = kill_after
        self._redact = redact
        self._lookup_within = lookup_within
        self._kind = kind_of(task.spec)

    async def outcome(self, stop: trio.Event) -> Outcome:
        """Return the outcome."""
        try:
            asker = make_asker(
                self._task,
                binary=self._binary,
                cache_dir=self._cache_dir,
                within=self._lookup_within,
                redact=self._redact,
            )
            check_source(self._task.spec, self._task.repo, self._task.source)
            if self._task.source is not None:
                check_looked_up(self._task.source)
            different = pass_gates(self._task.spec, self._binary.version)
        except InputError as error:
            return _never_ran("invalid_input", error.message)
        except ResticUnusableError as error:
            return _never_ran(error.code, f"{error.message}.")
        stage = Stage(
            kind=self._kind,
            binary=self._binary,
            asker=asker,
            limits=self._task.limits,
            redact=asker.redact,
            on_lines=self._on_lines,
            on_progress=self._on_progress,
            on_rows=self._on_rows,
            on_spawned=self._on_spawned,
            kill_after=self._kill_after,
        )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stage.halt.watch, stop, name="restic watch")
                outcome = await self._start(stage, asker.setting, different)
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise the_cause(group) from None
        return outcome

    async def _start(self, stage: Stage, setting: Setting, different: Sequence[str]) -> Outcome:
        task = self._task
        await stage.say(*different)
        setting = await self._tuned(stage, setting)
        try:
            if isinstance(task.spec, BackupSpec):
                return await back_up(
                    stage,
                    setting,
                    task.spec,
                    job_id=task.job_id,
                    schedule_id=task.schedule_id,
                    restic_host=task.restic_host,
                    program=task.program,
                )
            if stage.halt.reason is not None:
                return halted(stage)
            if task.source is not None:
                setting = with_source(setting, task.repo, task.source)
            return await self._carry_out(stage, setting, task.spec)
        except SpawnError as error:
            return _never_ran(error.code, f"{error.message}.")
        except HaltedError:
            return halted(stage)

    async def _tuned(self, stage: Stage, setting: Setting) -> Setting:
        """Return the setting with what holds for each of the job's commands: its priority, its patience with locks."""
        tuning = getattr(self._task.spec, "tuning", None)
        before, missing = priority_words(tuning, shutil.which)
        await stage.say(*(f"there is no {name} on this host: running without that priority" for name in missing))
        wait = self._task.limits.lock_wait or 0
        waits = wait and self._binary.version.has(Feature.RETRY_LOCK)
        flags: tuple[str, ...] = (f"--retry-lock={wait}s",) if waits else ()
        # Before the spec's own, which are lower where there are any: restic takes the last.
        flags += ceiling_words(self._task.upload_limit, self._task.download_limit)
        return dataclasses.replace(setting, before=before, flags=flags)

    async def _carry_out(self, stage: Stage, setting: Setting, spec: InitSpec | OtherSpec) -> Outcome:
        task = self._task
        work = Work(
            stage=stage,
            setting=setting,
            kind=self._kind,
            job_id=task.job_id,
            repo=task.repo,
            source=task.source,
            scratch=str(self._cache_dir / f"{SCRATCH}{task.job_id}"),
            now=lambda: datetime.now(UTC),
        )
        if not isinstance(spec, InitSpec):
            return await carry_out(work, spec)
        refused = await probe_source(work) if task.source is not None else None
        if refused is not None:
            return refused
        ran = await stage.run(init_command(setting, chunker=task.source is not None))
        return judge(ran.ended(self._kind, self._binary.version), ran.heard)


def _never_ran(code: str, detail: str) -> Outcome:
    return Outcome(status=Status.FAILED, error=failure(code, detail))


def _redact(task: Task, further: Redact | None) -> Redact:
    """Return what takes every secret of a task out of a text."""
    own = redactor(*(repo for repo in (task.repo, task.source) if repo is not None))
    return own if further is None else lambda text: further(own(text))
