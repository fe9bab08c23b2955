"""Kind `forget`: by policies, each after restic has said what it would remove; or exactly the snapshots named.

Owns the order: nothing is removed before what would go is known and nothing speaks against it. The judgement of that
is `domain.retention`'s.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from restic_manager.domain.model import Outcome, Status
from restic_manager.domain.results import ForgetStats, TagStats
from restic_manager.domain.retention import refusal
from restic_manager.domain.specs import ForgetPolicy, ForgetSpec, SnapshotsSpec
from restic_manager.restic.answers.reader import Finding, Reader
from restic_manager.restic.answers.snapshots import ForgetReader, SnapshotsReader
from restic_manager.restic.commands import keeping, reading
from restic_manager.restic.verdict import failure
from restic_manager.restic.work import Unseen, Work


async def forget(work: Work, spec: ForgetSpec) -> Outcome:
    """Apply each policy, after restic has said what it would remove and nothing speaks against it."""
    total = ForgetStats(dry_run=spec.dry_run)
    for policy in spec.policies:
        outcome = await _apply(work, policy, dry_run=spec.dry_run)
        total = _sum(total, outcome.result)
        if outcome.status is not Status.SUCCEEDED and not _was_refused(outcome):
            return msgspec.structs.replace(outcome, result=total)
    if total.refused:
        refused = failure("retention_refused", "; ".join(total.refused) + ".")
        return Outcome(status=Status.FAILED, exit_code=0, error=refused, result=total)
    return Outcome(status=Status.SUCCEEDED, exit_code=0, result=total)


async def _apply(work: Work, policy: ForgetPolicy, *, dry_run: bool) -> Outcome:
    would = ForgetReader(policy.schedule_id, dry_run=True)
    ran = await work.stage.run(keeping.forget_command(work.setting, policy, dry_run=True), would)
    outcome = work.judged(ran, would.finding())
    if outcome.status is not Status.SUCCEEDED:
        return outcome
    against = refusal(would.keep, would.remove, newest_good=policy.newest_good, now=work.now())
    if against is not None:
        said = f"the retention of schedule {policy.schedule_id} on {policy.restic_host} was not applied: {against}"
        await work.stage.say(said)
        result = ForgetStats(kept=len(would.keep) + len(would.remove), refused=(said,), dry_run=dry_run)
        return msgspec.structs.replace(outcome, status=Status.FAILED, error=failure("retention_refused"), result=result)
    if dry_run or not would.remove:
        return outcome
    done = ForgetReader(policy.schedule_id)
    ran = await work.stage.run(keeping.forget_command(work.setting, policy, dry_run=False), Unseen(done))
    return work.judged(ran, done.finding())


def _was_refused(outcome: Outcome) -> bool:
    return outcome.error is not None and outcome.error.code == "retention_refused"


def _sum(total: ForgetStats, one: object) -> ForgetStats:
    if not isinstance(one, ForgetStats):
        return total
    return ForgetStats(
        kept=total.kept + one.kept,
        removed=total.removed + one.removed,
        removed_ids=(total.removed_ids + one.removed_ids)[:1_000],
        refused=(total.refused + one.refused)[:100],
        dry_run=total.dry_run,
    )


async def forget_named(work: Work, spec: ForgetSpec) -> Outcome:
    """Remove exactly these snapshots: if one of them is not there, nothing is removed."""
    missing = await missing_snapshots(work, spec.snapshots, ForgetStats(dry_run=spec.dry_run))
    if missing is not None:
        return missing
    reader = Reader()
    command = keeping.forget_snapshots_command(work.setting, spec.snapshots, dry_run=spec.dry_run)
    ran = await work.stage.run(command, reader)
    well = ran.end.code == 0
    gone = [one for one in spec.snapshots if not any(stayed.startswith(one) for stayed in reader.refused)]
    result = ForgetStats(
        removed=len(gone) if well else 0, removed_ids=tuple(gone[:1_000]) if well else (), dry_run=spec.dry_run
    )
    return work.judged(ran, reader.trouble(result) or Finding(result))


async def missing_snapshots(work: Work, wanted: Sequence[str], result: ForgetStats | TagStats) -> Outcome | None:
    """Return the failure when one of these snapshots is not there or is ambiguous; None when all are."""
    reader = SnapshotsReader()
    ran = await work.stage.run(reading.snapshots_command(work.setting, SnapshotsSpec()), Unseen(reader))
    found = reader.finding()
    if ran.end.code != 0 or found.code is not None:
        return work.judged(ran, Finding(result, found.code, found.detail))
    there = [row.id for row in reader.found]
    bad = [one for one in wanted if sum(known.startswith(one) for known in there) != 1]
    if not bad:
        return None
    named = ", ".join(bad[:5])
    return Outcome(
        status=Status.FAILED, error=failure("snapshot_missing", f"Not (or not alone) there: {named}."), result=result
    )
