"""How each kind beside backup and init is carried out: which commands, in which order, and what their ends amount to.

Acts thinly: the commands, the readers and the verdicts are pure and live elsewhere. Stops at the first command that did
not end well. Refuses to know who asked and where outcome and rows go.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Final

import msgspec

from restic_manager.domain.model import Outcome, Status
from restic_manager.domain.pathtext import text_to_path
from restic_manager.domain.results import CheckStats, RestoreStats, TagStats, UnlockStats
from restic_manager.domain.specs import (
    CheckSpec,
    CopySpec,
    DiffSpec,
    DumpSpec,
    FindSpec,
    ForgetSpec,
    LocksSpec,
    LsSpec,
    ProbeSpec,
    PruneSpec,
    RestoreSpec,
    SnapshotsSpec,
    StatsSpec,
    TagSpec,
    UnlockSpec,
    VerifySpec,
)
from restic_manager.restic.after import LookupFailedError
from restic_manager.restic.answers.listing import DiffReader, FindReader, LsReader, NamedReader, NamesReader
from restic_manager.restic.answers.reader import Finding, Reader
from restic_manager.restic.answers.restoring import CopyReader, RestoreReader
from restic_manager.restic.answers.snapshots import SnapshotsReader
from restic_manager.restic.answers.upkeep import CheckReader, PackFilesReader, PruneReader, StatsReader, TagReader
from restic_manager.restic.command import Command, Setting, probe_command
from restic_manager.restic.commands import keeping, reading, restoring
from restic_manager.restic.dumping import dump
from restic_manager.restic.forgetting import forget, forget_named, missing_snapshots
from restic_manager.restic.locking import list_locks
from restic_manager.restic.newest import name_snapshots
from restic_manager.restic.output import Heard
from restic_manager.restic.probing import probe
from restic_manager.restic.proving import verify
from restic_manager.restic.spec_checks import NewestSpec
from restic_manager.restic.verdict import classify, failure
from restic_manager.restic.version import Feature
from restic_manager.restic.work import Unseen, Work

OtherSpec = (
    ForgetSpec
    | PruneSpec
    | CheckSpec
    | UnlockSpec
    | StatsSpec
    | RestoreSpec
    | VerifySpec
    | CopySpec
    | LsSpec
    | FindSpec
    | DiffSpec
    | TagSpec
    | SnapshotsSpec
    | LocksSpec
    | DumpSpec
    | ProbeSpec
)
"""Every spec but those of backup and init."""

_PACKS_ASKED: Final = 200
"""So many damaged packs are looked up; a repository with more has nothing that is worth naming file by file."""


async def carry_out(work: Work, spec: OtherSpec) -> Outcome:  # noqa: C901, PLR0911, PLR0912 - one case a kind
    """Given a checked spec, carry it out and return the outcome; raise SpawnError if restic cannot be started."""
    setting = work.setting
    if isinstance(spec, NewestSpec):
        found = await name_snapshots(work, spec)
        if isinstance(found, Outcome):
            return found
        spec = found
    match spec:
        case ForgetSpec():
            return await (forget_named(work, spec) if spec.snapshots else forget(work, spec))
        case PruneSpec():
            return await work.simple(keeping.prune_command(setting, spec), PruneReader(dry_run=spec.dry_run))
        case CheckSpec():
            return await _check(work, spec)
        case UnlockSpec():
            return await _unlock(work, spec)
        case StatsSpec():
            return await work.simple(keeping.stats_command(setting, spec), StatsReader(spec))
        case TagSpec():
            missing = await missing_snapshots(work, spec.snapshots, TagStats())
            return missing or await work.simple(keeping.tag_command(setting, spec), TagReader())
        case RestoreSpec():
            return await _restore(work, spec)
        case VerifySpec():
            return await verify(work, spec)
        case CopySpec():
            return await _copy(work, spec)
        case SnapshotsSpec():
            return await work.simple(reading.snapshots_command(setting, spec), SnapshotsReader())
        case LsSpec():
            ls = partial(reading.ls_command, setting, spec)
            return await _list(work, LsReader(spec.path), ls(), ls(text=True))
        case FindSpec():
            find = partial(reading.find_command, setting, spec)
            return await _list(work, FindReader(), find(), find(text=True))
        case DiffSpec():
            diff = partial(reading.diff_command, setting, spec)
            return await _list(work, DiffReader(), diff(), diff(text=True))
        case LocksSpec():
            return await list_locks(work)
        case DumpSpec():
            return await dump(work, spec)
        case ProbeSpec():
            return await probe(work)


async def _unlock(work: Work, spec: UnlockSpec) -> Outcome:
    """Remove locks, and say by looking how many: restic itself says the same whether there were any or not."""
    try:
        before = await work.stage.asker.locks()
        ran = await work.stage.run(keeping.unlock_spec_command(work.setting, spec))
        if ran.end.code != 0:
            return work.judged(ran, Finding())
        after = await work.stage.asker.locks()
    except LookupFailedError as error:
        heard = Heard(work.stage.redact)
        heard.take("stderr", [error.message.encode()])
        entry = classify(work.stage.binary.version, 1, heard)
        return Outcome(
            status=Status.FAILED, error=failure(entry.code if entry is not None else "failed", error.message)
        )
    left = sum(lock in after for lock in before)
    return work.judged(ran, Finding(UnlockStats(removed=len(before) - left, left=left)))


# -- checking ---------------------------------------------------------------------------------------------------------


async def _check(work: Work, spec: CheckSpec) -> Outcome:
    """Check, and when packs are damaged ask which snapshots and files need them."""
    if spec.rolling is not None and spec.read is None:
        await work.stage.say("the order does not say which part of the data is next, so none is read")
    reader = CheckReader(spec)
    outcome = await work.simple(keeping.check_command(work.setting, spec), reader)
    result = outcome.result
    if not isinstance(result, CheckStats) or outcome.error is None or outcome.error.code != "repo_damaged":
        # A check that did not come to its end has found nothing: restic counts a lock clash as an error too.
        return outcome if outcome.error is None else msgspec.structs.replace(outcome, result=None)
    if not reader.packs or work.stage.halt.reason is not None:
        return outcome
    files = PackFilesReader()
    ran = await work.stage.run(keeping.pack_files_command(work.setting, reader.packs[:_PACKS_ASKED]), files)
    if ran.end.code != 0 or not files.read:
        await work.stage.say("which snapshots and files the damaged packs belong to could not be found out")
        return outcome
    if not files.count:
        said = f"{_many(len(reader.packs), 'damaged pack')}, and no file of a snapshot was found to need it: what it "
        said += "holds are records of folders, or data that nothing needs"
        await work.stage.say(said)
        return msgspec.structs.replace(outcome, error=failure("repo_damaged", f"{said}.", outcome.error.lines))
    result = msgspec.structs.replace(
        result,
        damaged_snapshots=tuple(files.snapshots),
        damaged_files=tuple(files.files),
        damaged_files_count=files.count,
        files_known=True,
    )
    named = ", ".join(one.path for one in files.files[:3])
    need = f"{_many(files.count, 'file')} in {_many(len(files.snapshots), 'snapshot')}"
    said = f"{_many(len(reader.packs), 'damaged pack')}, needed by {need}"
    await work.stage.say(said, *(f"damaged: {one.snapshot[:8]} {one.path}" for one in files.files))
    shown = f"{said} ({named}{' …' if files.count > 3 else ''})."
    error = failure("repo_damaged", shown, outcome.error.lines)
    return msgspec.structs.replace(outcome, result=result, error=error)


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


# -- restoring and copying --------------------------------------------------------------------------------------------


async def _restore(work: Work, spec: RestoreSpec) -> Outcome:
    if spec.target is not None:
        look = partial(target_problem, text_to_path(spec.target), may_be_full=spec.overwrite is not None)
        problem = await work.stage.look(look)
        if problem is not None:
            return Outcome(status=Status.FAILED, error=failure("restore_target", f"{spec.target} {problem}."))
    if spec.target is None or spec.overwrite is not None:
        nothing = await _nothing_there(work, spec)
        if nothing is not None:
            return nothing
    reader = RestoreReader(dry_run=spec.dry_run, verify=spec.verify)
    ran = await work.stage.run(restoring.restore_command(work.setting, spec), reader)
    found = reader.finding()
    if isinstance(found.result, RestoreStats):
        errors = found.result.errors + ran.heard.item_errors
        found = Finding(msgspec.structs.replace(found.result, errors=errors), found.code, found.detail)
    silent = isinstance(found.result, RestoreStats) and found.result.files_total is None
    if silent and ran.end.code == 0 and spec.target is not None:
        # 0.14 does not say that nothing matched; that nothing is there does.
        empty = await work.stage.look(partial(_is_empty, text_to_path(spec.target)))
        found = Finding(found.result, "nothing_restored") if empty else found
    return work.judged(ran, found)


async def _nothing_there(work: Work, spec: RestoreSpec) -> Outcome | None:
    """Return the failure of a restore none of whose paths the snapshot has, where its restic would not say so.

    0.14 and 0.15 tell success then; what is in the folder beforehand hides that nothing came.
    """
    if work.stage.binary.version.has(Feature.JSON_RESTORE):
        return None
    for path in spec.paths:
        reader = LsReader(path)
        ran = await work.stage.run(
            reading.ls_command(work.setting, LsSpec(snapshot=spec.snapshot, path=path)), Unseen(reader)
        )
        found = reader.finding()
        if ran.end.code != 0:
            return work.judged(ran, Finding())
        if found.code != "path_missing":
            return None
    return Outcome(status=Status.FAILED, exit_code=0, error=failure("nothing_restored")) if spec.paths else None


def target_problem(folder: bytes, *, may_be_full: bool) -> str | None:
    """Given a folder to restore into, return what is wrong with it, None if nothing is. Blocks like its file system."""
    try:
        with os.scandir(folder) as entries:
            if not may_be_full and any(True for _ in entries):
                return "is not empty, and what is to happen to what is there was not said"
    except FileNotFoundError:
        return None  # restic makes it
    except NotADirectoryError:
        return "is (or lies below) a file, not a folder"
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    return None


def _is_empty(folder: bytes) -> bool:
    try:
        with os.scandir(folder) as entries:
            return not any(True for _ in entries)
    except OSError:
        return True


async def _copy(work: Work, spec: CopySpec) -> Outcome:
    """Copy, after the source has answered: restic's words do not tell which of the two failed."""
    if work.source is None:
        return Outcome(status=Status.FAILED, error=failure("invalid_input", "No access to the source came with it."))
    refused = await probe_source(work)
    if refused is not None:
        return refused
    return await work.simple(restoring.copy_command(work.setting, spec), CopyReader())


async def probe_source(work: Work) -> Outcome | None:
    """Return the failure when the source of a copy (or of chunker parameters) does not open; None when it does."""
    env = dict(work.setting.env)
    env["RESTIC_REPOSITORY"], env["RESTIC_PASSWORD"] = env["RESTIC_FROM_REPOSITORY"], env["RESTIC_FROM_PASSWORD"]
    ran = await work.stage.run(probe_command(Setting(work.setting.binary, env)), _Taking())
    outcome = work.judged(ran, Finding())
    if outcome.error is None or outcome.status is Status.CANCELLED or ran.stopped is not None:
        return None if outcome.error is None else outcome
    entry = classify(work.stage.binary.version, ran.end.code, ran.heard)
    # What may pass by itself keeps its code, so that it is tried again.
    code = entry.code if entry is not None and entry.code in {"network", "locked"} else "source_repo_failed"
    said = f"The repository to copy from: {outcome.error.message}"
    return msgspec.structs.replace(outcome, error=failure(code, said, outcome.error.lines))


class _Taking(Reader):
    """A reader that keeps an answer out of the log."""

    def stdout(self, raw: bytes) -> bool:
        return bool(raw) or super().stdout(raw)


# -- listing ----------------------------------------------------------------------------------------------------------


async def _list(work: Work, reader: NamedReader, as_json: Command, as_text: Command) -> Outcome:
    """List, and once more in text if there were names that JSON does not show."""
    outcome = await work.simple(as_json, reader)
    if outcome.status is not Status.SUCCEEDED or not reader.held:
        return outcome
    names = NamesReader(reader.held)
    if work.stage.halt.reason is None:
        ran = await work.stage.run(as_text, names)
        if ran.end.code != 0:
            await work.stage.say("the names that are not UTF-8 could not be read")
    await work.stage.give(names.left())
    return outcome
