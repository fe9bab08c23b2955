"""Kind `probe`: can this host delete in the repository? Found out by trying, on a snapshot made for it.

Owns what is tried: a snapshot of one small file, under a host name and tag of its own, made once and asked to be
forgotten. Nothing of anybody else's is touched, and no retention of ours ever sees it. Whether it is gone is looked up:
restic's exit code says nothing (0.18 ends 0 when the storage refused). Where it is refused, that one snapshot stays,
and the next probe tries the same again. It refuses to know what the answer is for.
"""

from __future__ import annotations

import re
import shutil
from functools import partial
from pathlib import Path
from typing import Final

import trio

from restic_manager.domain.model import Outcome, Status
from restic_manager.domain.results import ProbeStats
from restic_manager.restic.after import LookupFailedError
from restic_manager.restic.answers.reader import Finding, Reader
from restic_manager.restic.command import JOB_TAG, Command, Setting
from restic_manager.restic.commands import keeping
from restic_manager.restic.verdict import Stop, failure
from restic_manager.restic.work import Work

PROBE: Final = "deletion-probe"
"""What stands for a job's id in the tag of the snapshot: that of a job it never is."""
HOST: Final = "restic-manager-probe"
"""The host its snapshot is of: none of ours, so that it is never anybody's newest."""
SCRATCH: Final = "probe-"
_TEXT: Final = "restic-manager asks here whether it may delete: this snapshot is made to be forgotten\n"
_DENIED: Final = re.compile(
    r"\b40[135]\b|Forbidden|Access ?Denied|[Pp]ermission denied|[Oo]peration not permitted|[Rr]ead-only file system"
)


def probe_command(setting: Setting, file: Path) -> Command:
    """Given the small file, return the backup that makes the snapshot."""
    return setting.command("backup", "--json", f"--host={HOST}", f"--tag={JOB_TAG}{PROBE}", "--", str(file))


class _Deleting(Reader):
    """Hears whether the storage said no, and not something else."""

    def __init__(self) -> None:
        super().__init__()
        self.denied = False

    def stderr(self, text: str) -> None:
        super().stderr(text)
        self.denied = self.denied or _DENIED.search(text) is not None


async def probe(work: Work) -> Outcome:
    """Try to delete the probe's own snapshot, and return whether that was refused, or done, or cannot be told."""
    try:
        snapshot = await work.stage.asker.find_snapshot(PROBE)
        if snapshot is None:
            made = await _make(work)
            if made.status is not Status.SUCCEEDED:
                return made
            snapshot = await work.stage.asker.find_snapshot(PROBE)
        if snapshot is None:
            return _unknown("the snapshot that was made for it is not there")
        return await _try(work, snapshot)
    except LookupFailedError as error:
        return _unknown(error.message)


async def _try(work: Work, snapshot: str) -> Outcome:
    """Try to forget this snapshot, and look whether it is still there."""
    reader = _Deleting()
    ran = await work.stage.run(keeping.forget_snapshots_command(work.setting, (snapshot,), dry_run=False), reader)
    if ran.stopped not in {None, Stop.REFUSED}:
        return work.judged(ran, Finding())
    if await work.stage.asker.find_snapshot(PROBE) is None:
        await work.stage.say("it is gone: this host can delete in the repository")
        return Outcome(status=Status.SUCCEEDED, exit_code=ran.end.code, result=ProbeStats(deletion="possible"))
    if reader.denied or ran.stopped is Stop.REFUSED:
        await work.stage.say("it was refused, and the snapshot is still there: this host cannot delete")
        return Outcome(status=Status.SUCCEEDED, exit_code=ran.end.code, result=ProbeStats(deletion="refused"))
    judged = work.judged(ran, reader.trouble() or Finding())
    return _unknown("it was not deleted, and not refused" if judged.error is None else judged.error.message)


async def _make(work: Work) -> Outcome:
    """Save the snapshot that is to be deleted."""
    folder = Path(work.scratch).with_name(f"{SCRATCH}{work.job_id}")
    file = folder / "restic-manager-probe"
    await trio.to_thread.run_sync(partial(_write, file))
    try:
        return await work.simple(probe_command(work.setting, file), Reader())
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(partial(shutil.rmtree, folder, ignore_errors=True))


def _write(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(_TEXT, encoding="ascii")


def _unknown(why: str) -> Outcome:
    said = f"Whether deleting is possible could not be found out: {why}"
    error = failure("failed", said if said.endswith(".") else f"{said}.")
    return Outcome(status=Status.FAILED, error=error, result=ProbeStats(deletion="unknown"))
