"""Carrying out a backup: looking for its sources first, asking for its snapshot afterwards.

A missing source is found here because not every restic tells of it; a backup that ended without a word may have saved
its snapshot all the same, which only the repository knows. Refuses to know where lines and progress go.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from restic_manager.domain.model import Kind, Outcome, Status
from restic_manager.domain.pathtext import text_to_path
from restic_manager.domain.specs import BackupSpec
from restic_manager.restic.after import LookupFailedError
from restic_manager.restic.command import Setting, backup_command
from restic_manager.restic.stage import Ran, Stage
from restic_manager.restic.verdict import Stop, failure, judge, missing_text, needs_lookup


async def back_up(
    stage: Stage,
    setting: Setting,
    spec: BackupSpec,
    *,
    job_id: str,
    schedule_id: str | None,
    restic_host: str,
    program: Path | None = None,
) -> Outcome:
    """Given a checked spec and whose job it is, back up and return the outcome. program: whose output is saved."""
    missing = await stage.look(partial(missing_paths, spec.paths))
    if spec.paths and not spec.files_from and len(missing) == len(set(spec.paths)):
        return Outcome(status=Status.FAILED, error=failure("source_missing", missing_text(missing)))
    await stage.say(*(f"{path} does not exist: backing up the rest" for path in missing))
    command = backup_command(
        setting,
        spec,
        job_id=job_id,
        schedule_id=schedule_id,
        restic_host=restic_host,
        version=stage.binary.version,
        program=program,
    )
    ran = await stage.run(command)
    return await _judged(stage, ran, missing, job_id, dry_run=spec.dry_run)


async def _judged(stage: Stage, ran: Ran, missing: tuple[str, ...], job_id: str, *, dry_run: bool) -> Outcome:
    """Return the outcome, after asking the repository what restic did not say."""
    ended = dataclasses.replace(ran.ended(Kind.BACKUP, stage.binary.version), missing=missing, dry_run=dry_run)
    if not needs_lookup(ended, ran.heard):
        return judge(ended, ran.heard)
    recovered: str | None = None
    problem: str | None = None
    try:
        recovered = await stage.asker.find_snapshot(job_id)
    except LookupFailedError as error:
        problem = error.message
        await stage.say(f"whether a snapshot was saved could not be found out: {problem}")
    if recovered is not None:
        await stage.say(f"restic ended without a summary, but had saved snapshot {recovered[:8]} of this job")
    return judge(dataclasses.replace(ended, recovered=recovered, lookup_problem=problem), ran.heard)


def halted(stage: Stage) -> Outcome:
    """Return the outcome of a run that was to stop before restic was started."""
    reason = stage.halt.reason or Stop.CANCELLED
    status = Status.CANCELLED if reason is Stop.CANCELLED else Status.FAILED
    return Outcome(status=status, error=failure(reason.value, "restic was not started, or not for its next step."))


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
