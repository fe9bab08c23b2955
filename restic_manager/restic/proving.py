"""Kind `verify`: a sample of a snapshot, restored to a scratch folder, compared and removed again.

Owns the choice of the sample (pure, seeded) and the comparison. restic checks each block against its hash when it
writes it and reads the files again (`--verify`); here sizes and times are compared with the snapshot's own record, and
contents with the host's own files where those have not changed since. Refuses to know schedules and retention.
"""

from __future__ import annotations

import hashlib
import heapq
import os
import shutil
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio
from msgspec.structs import replace

from restic_manager.domain.model import Outcome, Status
from restic_manager.domain.pathtext import path_to_text, text_to_path
from restic_manager.domain.results import Difference, NodeRow, VerifyStats
from restic_manager.domain.specs import LsSpec, VerifySpec
from restic_manager.restic.answers.listing import LsReader
from restic_manager.restic.answers.reader import Finding
from restic_manager.restic.answers.restoring import RestoreReader
from restic_manager.restic.commands.reading import ls_command
from restic_manager.restic.commands.restoring import sample_command
from restic_manager.restic.commands.shared import chosen
from restic_manager.restic.stage import Ran
from restic_manager.restic.verdict import failure
from restic_manager.restic.work import Work

SCRATCH: Final = "verify-"
"""Beginning of the scratch folders' names."""
_MOST_ALWAYS: Final = 10_000
_ARGV_BYTES: Final = 96 << 10
"""Bytes of paths in one command line; more are restored by several."""
_BLOCK: Final = 1 << 20


class Sample:
    """The files of a seeded sample, chosen while a listing goes by: the same seed and snapshot choose the same."""

    def __init__(self, spec: VerifySpec, snapshot: str) -> None:
        self._spec = spec
        self._key = f"{spec.seed};{snapshot};".encode()
        self._always: list[NodeRow] = []
        self._lowest: list[tuple[int, str, NodeRow]] = []
        self.missing = {path: path.rstrip("/") + "/" for path in spec.always if _is_told(path)}
        """Of the paths that are always in it those that were not come upon yet, each with what lies below it."""

    def take(self, row: NodeRow) -> None:
        """Given the next row of the listing, consider it."""
        for path in [one for one, below in self.missing.items() if row.path == one or row.path.startswith(below)]:
            del self.missing[path]
        if row.type != "file" or not row.exact:
            return
        if any(row.path == path or row.path.startswith(path.rstrip("/") + "/") for path in self._spec.always):
            if len(self._always) < _MOST_ALWAYS:
                self._always.append(row)
            return
        if row.size > self._spec.size:
            return
        # A number that any order of the listing gives the same: the smallest so many are the sample.
        rank = int.from_bytes(hashlib.blake2b(self._key + row.path.encode(), digest_size=8).digest())
        entry = (-rank, row.path, row)
        if len(self._lowest) < self._spec.files:
            heapq.heappush(self._lowest, entry)
        elif entry > self._lowest[0]:
            heapq.heapreplace(self._lowest, entry)

    def chosen(self) -> list[NodeRow]:
        """Return the sample: what is always in it, then by rank what fits into its size."""
        found = list(self._always)
        room = self._spec.size
        for _, _, row in sorted(self._lowest, reverse=True):
            if row.size <= room:
                found.append(row)
                room -= row.size
        return found


class _SampleReader(LsReader):
    """Reads a listing into a sample, and keeps nothing else of it."""

    def __init__(self, sample: Sample) -> None:
        super().__init__("/")
        self._sample = sample

    def stdout(self, raw: bytes) -> bool:
        taken = super().stdout(raw)
        for row in super().rows():
            if isinstance(row, NodeRow):
                self._sample.take(row)
        self.held.clear()  # a name that is not known for sure cannot be asked for
        return taken

    def rows(self) -> list[object]:  # type: ignore[override]  # none: nobody is to see them
        return []


@dataclass(slots=True)
class Compared:
    """What a comparison has found so far."""

    files: int = 0
    size: int = 0
    live: int = 0
    changed: int = 0
    count: int = 0
    differences: list[Difference] = field(default_factory=list)

    def differs(self, row: NodeRow, against: str, what: str) -> None:
        """Note a difference; the first hundred are named."""
        self.count += 1
        if len(self.differences) < 100:
            self.differences.append(
                Difference(path=row.path, against="live" if against == "live" else "snapshot", what=what[:256])
            )


def compare(rows: Iterable[NodeRow], scratch: Path, *, live: bool) -> Compared:
    """Given a sample restored below `scratch`, compare each file with its record, and with the live one. Blocks."""
    found = Compared()
    for row in rows:
        own = text_to_path(row.path)
        restored = os.fsencode(scratch) + own
        try:
            facts = os.lstat(restored)
        except OSError as error:
            found.differs(row, "snapshot", f"was not restored: {error.strerror}")
            continue
        found.files += 1
        found.size += facts.st_size
        if not stat.S_ISREG(facts.st_mode) or facts.st_size != row.size:
            found.differs(row, "snapshot", f"has {facts.st_size} bytes instead of {row.size}")
        elif row.mtime is not None and not _same_time(facts, row):
            found.differs(row, "snapshot", "has another modification time")
        elif live:
            _compare_live(found, row, restored, own)
    return found


def _same_time(facts: os.stat_result, row: NodeRow) -> bool:
    if row.mtime is None:
        return False
    whole = int(row.mtime.timestamp()) * 1_000_000 + row.mtime.microsecond
    return facts.st_mtime_ns // 1_000 == whole


def _compare_live(found: Compared, row: NodeRow, restored: bytes, own: bytes) -> None:
    """Compare with the host's own file by content, if it is the same by its size and time before and afterwards."""
    try:
        before = os.lstat(own)
        if not stat.S_ISREG(before.st_mode) or before.st_size != row.size or not _same_time(before, row):
            found.changed += 1
            return
        same = _same_content(restored, own)
        after = os.lstat(own)
    except OSError:
        found.changed += 1  # gone, or not to be read now: nothing that this could prove
        return
    if (before.st_mtime_ns, before.st_ctime_ns, before.st_size) != (
        after.st_mtime_ns,
        after.st_ctime_ns,
        after.st_size,
    ):
        found.changed += 1
        return
    found.live += 1
    if not same:
        found.differs(row, "live", "has other content than the host's file of the same size and time")


def _same_content(one: bytes, other: bytes) -> bool:
    with Path(os.fsdecode(one)).open("rb") as first, Path(os.fsdecode(other)).open("rb") as second:
        while True:
            block = first.read(_BLOCK)
            if block != second.read(_BLOCK):
                return False
            if not block:
                return True


def batches(paths: Sequence[str]) -> list[list[str]]:
    """Given path texts, return them in groups that each fit into a command line."""
    found: list[list[str]] = []
    room = 0
    for path in paths:
        length = 2 * len(path.encode()) + 16
        if not found or length > room:
            found.append([])
            room = _ARGV_BYTES
        found[-1].append(path)
        room -= length
    return found


async def verify(work: Work, spec: VerifySpec) -> Outcome:
    """Given a spec whose snapshot has been named, prove its restore and leave nothing behind."""
    began = trio.current_time()
    folder, stage = Path(work.scratch), work.stage
    if spec.seed is None:
        spec = replace(spec, seed=seed_of(work.job_id))
        await stage.say(f"the sample is the one of seed {spec.seed}")
    await trio.to_thread.run_sync(_clean, folder)
    try:
        return await _prove(work, spec, folder, began)
    finally:
        # Also when we are being cancelled: somebody's files must not be left lying about.
        with trio.CancelScope(shield=True):
            left = await trio.to_thread.run_sync(_clean, folder)
            await stage.say(*(f"remove {path} by hand: restored files are left in it, {why}" for path, why in left))


def _clean(folder: Path) -> list[tuple[Path, str]]:
    """Remove this scratch folder, and those that a killed agent has left: no two of one host run at once.

    Return those that could not be removed, each with why.
    """
    left: list[tuple[Path, str]] = []
    for old in folder.parent.glob(f"{SCRATCH}*"):
        try:
            shutil.rmtree(old)
        except OSError as error:
            left.append((old, error.strerror or str(error)))
    return left


def seed_of(job_id: str) -> int:
    """Given a job, return the seed of its sample where none was said: another one each time, the same if told again."""
    return int.from_bytes(hashlib.blake2b(job_id.encode(), digest_size=6).digest())


async def _prove(work: Work, spec: VerifySpec, folder: Path, began: float) -> Outcome:
    stage, setting, snapshot = work.stage, work.setting, chosen(spec.snapshot)
    sample = Sample(spec, snapshot)
    reader = _SampleReader(sample)
    ran = await stage.run(ls_command(setting, LsSpec(snapshot=snapshot, recursive=True)), reader)
    found = reader.finding()
    if ran.end.code != 0 or found.code is not None:
        return work.judged(ran, Finding(None, found.code, found.detail))
    rows = sample.chosen()
    if not rows:
        return Outcome(status=Status.FAILED, exit_code=0, error=failure("nothing_to_verify", _lacking(sample)))
    await stage.say(f"restoring {len(rows)} files of snapshot {snapshot[:8]}, {sum(row.size for row in rows)} bytes")
    await trio.to_thread.run_sync(lambda: folder.mkdir(mode=0o700, parents=True))
    target = path_to_text(os.fsencode(folder))
    for paths in batches([row.path for row in rows]):
        restored = RestoreReader(verify=True)
        ran = await stage.run(sample_command(setting, snapshot, target, paths, spec.tuning), restored)
        if ran.end.code != 0:
            break
    if ran.end.code != 0 and (ran.stopped is not None or ran.end.code is None):
        return work.judged(ran, Finding())
    # Also after a restore that failed: which files did not come is what is to be known.
    compared = await stage.look(partial(compare, rows, folder, live=spec.live))
    result = VerifyStats(
        snapshot=snapshot,
        files=compared.files,
        size=compared.size,
        live=compared.live,
        changed=compared.changed,
        differences=tuple(compared.differences),
        differences_count=compared.count,
        duration=trio.current_time() - began,
    )
    await stage.say(*(f"differs from the {one.against}: {one.path} {one.what}" for one in compared.differences))
    return _proven(result, ran, sample) if ran.end.code == 0 else work.judged(ran, Finding(result))


def _is_told(path: str) -> bool:
    """Whether restic's JSON tells a path as it is: what is not UTF-8 comes as another name."""
    try:
        text_to_path(path).decode()
    except UnicodeDecodeError:
        return False
    return True


def _lacking(sample: Sample) -> str:
    """Return what of the paths to be proven always the snapshot does not have, in a sentence; nothing if it has all."""
    return (
        f"To be proven always, but not in the snapshot: {', '.join(list(sample.missing)[:5])}."
        if sample.missing
        else ""
    )


def _proven(result: VerifyStats, ran: Ran, sample: Sample) -> Outcome:
    if not result.differences_count and sample.missing:
        # What was restored is right; that it lacks what matters most is for a person to see.
        error = failure("path_missing", _lacking(sample))
        return Outcome(status=Status.WARNING, exit_code=ran.end.code, error=error, result=result)
    if not result.differences_count:
        return Outcome(status=Status.SUCCEEDED, exit_code=ran.end.code, result=result)
    worst = any(one.against == "snapshot" for one in result.differences)
    named = "; ".join(f"{one.path} {one.what}" for one in result.differences[:3])
    error = failure("verify_failed" if worst else "live_differs", f"{result.differences_count} differ: {named}.")
    status = Status.FAILED if worst else Status.WARNING
    return Outcome(status=status, exit_code=ran.end.code, error=error, result=result)
