"""Which snapshot is meant where none is named: the newest of a restic host or schedule, as the repository tells it.

It is looked up when the job runs, so that a schedule says it once and means it each time. Refuses to know what is then
done with it.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from restic_manager.domain.instants import instant_text
from restic_manager.domain.model import Outcome, Status
from restic_manager.domain.results import SnapshotRow
from restic_manager.domain.specs import DiffSpec, SnapshotsSpec, TagSpec
from restic_manager.restic.answers.reader import Finding
from restic_manager.restic.answers.snapshots import SnapshotsReader
from restic_manager.restic.commands.reading import snapshots_command
from restic_manager.restic.spec_checks import NewestSpec, named
from restic_manager.restic.verdict import failure
from restic_manager.restic.work import Unseen, Work

_NUMBER: Final = {1: "no snapshot", 2: "only one snapshot, so none to compare it with"}


async def name_snapshots(work: Work, spec: NewestSpec) -> NewestSpec | Outcome:
    """Given a checked spec, return it with its snapshots named; or the outcome, when there is none to be named."""
    if named(spec):
        return spec
    wanted = 2 if isinstance(spec, DiffSpec) else 1
    reader = SnapshotsReader()
    command = snapshots_command(work.setting, SnapshotsSpec(restic_host=spec.restic_host, schedule_id=spec.schedule_id))
    ran = await work.stage.run(command, Unseen(reader))
    finding = reader.finding()
    if ran.end.code != 0 or finding.code is not None:
        return work.judged(ran, Finding(None, finding.code, finding.detail))
    found = sorted(reader.found, key=lambda row: (row.time, row.id))[-wanted:]
    if len(found) < wanted:
        whose = f"{_NUMBER[len(found) + 1]} of {_whose(spec)} here."
        return Outcome(status=Status.FAILED, exit_code=0, error=failure("snapshot_missing", f"There is {whose}"))
    await work.stage.say(*(_said(spec, row) for row in found))
    match spec:
        case DiffSpec():
            return replace(spec, old=found[0].id, new=found[1].id, restic_host=None, schedule_id=None)
        case TagSpec():
            return replace(spec, snapshots=(found[0].id,), restic_host=None, schedule_id=None)
        case _:
            return replace(spec, snapshot=found[0].id, restic_host=None, schedule_id=None)


def _whose(spec: NewestSpec) -> str:
    host = None if spec.restic_host is None else f"host {spec.restic_host}"
    schedule = None if spec.schedule_id is None else f"schedule {spec.schedule_id}"
    return " and ".join(part for part in (host, schedule) if part is not None)


def _said(spec: NewestSpec, row: SnapshotRow) -> str:
    return f"snapshot {row.id[:8]} of {_whose(spec)}, made at {instant_text(row.time)}"
