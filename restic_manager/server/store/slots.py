"""Slots that become jobs: answering a fire, and adopting a run that the host began by its standing order.

Each writes the job and the slot's fate together. What the answer is, `domain.firing` decides; this asks the rows and
writes. It refuses to know sessions, and when the job is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, bindparam, select

from restic_manager.domain import firing
from restic_manager.domain.firing import Dispatched, Duplicate, Interval, KnownRun
from restic_manager.domain.instants import slot_text, whole_second
from restic_manager.domain.model import Actor, Evidence, Limits, Spec, Status, slot_job_id
from restic_manager.domain.spans import Stretch
from restic_manager.protocol.messages import ScheduleFire, ScheduleFired
from restic_manager.server.store import events, fates, job_rows, jobs, retries
from restic_manager.server.store.fates import Pair, Stored
from restic_manager.server.store.intervals import of_pair
from restic_manager.server.store.job_rows import JobRow
from restic_manager.server.store.ripple import Ripple
from restic_manager.server.store.schema import jobs as job_table
from restic_manager.server.store.schema import schedules

_spec: Final[msgspec.json.Decoder[Spec]] = msgspec.json.Decoder(Spec)


class Caller(Struct, frozen=True, kw_only=True):
    """The host at the other end: whose slots these are, and how far its clock and zone tables can be trusted.

    clock_offset: seconds its clock is ahead of the server's.
    """

    host_id: str
    clock_offset: float
    same_tzdata: bool


class Work(Struct, frozen=True):
    """What a schedule does, as of now."""

    spec: Spec
    repo_id: str
    limits: Limits = Limits()


def take_fire(tx: Connection, fire: ScheduleFire, *, caller: Caller, now: datetime, ripple: Ripple) -> ScheduleFired:
    """Given a fire, return the answer; where it is `dispatched`, its job and its fate are stored."""
    slot = fire.scheduled_at
    job_id = slot_job_id(fire.schedule_id, caller.host_id, slot)
    run = None if slot.microsecond else _run(tx, job_id)
    work = None if run else find_work(tx, fire.schedule_id)
    owned = () if work is None else intervals(tx, fire.schedule_id, caller.host_id)
    there = fates.at(tx, Pair(fire.schedule_id, caller.host_id), slot) if owned and not run else None
    # What the server alone thought, was told too early or of another revision's slots is no reason to refuse a run.
    firm = None if there is None else there.firm
    decided = there is not None and firm is not None and slot <= firm.last and there.fate.revision == fire.revision
    answer = firing.answer_fire(
        slot,
        fire.revision,
        now=now,
        schedule_known=work is not None,
        intervals=owned,
        clock_offset=caller.clock_offset,
        same_tzdata=caller.same_tzdata,
        run=run,
        fate=there.known if there is not None and decided else None,
    )
    said = ScheduleFired(schedule_id=fire.schedule_id, revision=fire.revision, scheduled_at=slot, answer="rejected")
    match answer:
        case Duplicate(run=known):
            return msgspec.structs.replace(said, answer="duplicate", job_id=known.job_id, status=known.status)
        case Dispatched(interval=interval, odd=odd) if work is not None:
            _make(
                tx,
                job_id,
                work,
                schedule_id=fire.schedule_id,
                host_id=caller.host_id,
                slot=slot,
                revision=interval.revision,
                trigger=fire.trigger,
                stands_for=fire.stands_for,
                now=now,
                ripple=ripple,
                there=there,
                owned=owned,
                evidence=fire.evidence,
            )
            if odd is not None:
                events.record_of_host(
                    tx, now=now, actor="server", what="odd_slot", host_id=caller.host_id, detail=f"job {job_id}: {odd}"
                )
            ripple.jobs.add(job_id)
            ripple.hosts.add(caller.host_id)
            return msgspec.structs.replace(said, answer="dispatched", job_id=job_id, status=Status.QUEUED)
        case firing.Rejected(code=code, message=message):
            return msgspec.structs.replace(said, code=code, message=message)
        case _:
            raise AssertionError("a slot was dispatched without its schedule")


def adopt(
    tx: Connection,
    job_id: str,
    *,
    host_id: str,
    schedule_id: str,
    slot: datetime,
    clock_offset: float,
    now: datetime,
    ripple: Ripple,
) -> JobRow | str:
    """Given a job the host says it has and the server does not know, store it; return why not if it does not check out.

    It checks out when its id is that of a slot of a schedule, removed ones too, that this host has or once had.
    """
    if whole_second(slot) != slot or slot_job_id(schedule_id, host_id, slot) != job_id:
        return "its id is not that of the slot it names"
    work = find_work(tx, schedule_id)
    if work is None:
        return "it names a schedule the server does not know"
    owned = intervals(tx, schedule_id, host_id)
    if not owned:
        return "it names a schedule that is not this host's and never was"
    if slot > now + firing.FUTURE_LIMIT:
        return f"its slot {slot_text(slot)} is in the future"
    interval = firing.ran_under(slot, owned, timedelta(seconds=clock_offset))
    return _make(
        tx,
        job_id,
        work,
        schedule_id=schedule_id,
        host_id=host_id,
        slot=slot,
        revision=interval.revision,
        trigger=None,
        stands_for=1,
        now=now,
        ripple=ripple,
        there=fates.at(tx, Pair(schedule_id, host_id), slot),
        owned=owned,
        sent_at=now,
    )


def find_work(tx: Connection, schedule_id: str) -> Work | None:
    """Given a schedule, removed ones too, return what it does, None if there is no such schedule."""
    row = tx.execute(_WORK, {"schedule_id": schedule_id}).first()
    if row is None:
        return None
    return Work(_spec.decode(row.spec), row.repo_id, Limits(time_limit=row.time_limit, stall_limit=row.stall_limit))


def intervals(tx: Connection, schedule_id: str, host_id: str) -> Sequence[Interval]:
    """Given a schedule and a host, return all times in which the host had it, oldest first."""
    return of_pair(tx, Pair(schedule_id, host_id)).intervals


_WORK = select(schedules.c.spec, schedules.c.repo_id, schedules.c.time_limit, schedules.c.stall_limit).where(
    schedules.c.id == bindparam("schedule_id")
)
_RUN = select(job_table.c.status).where(job_table.c.id == bindparam("job_id"))


def _run(tx: Connection, job_id: str) -> KnownRun | None:
    status = tx.execute(_RUN, {"job_id": job_id}).scalar()
    return None if status is None else KnownRun(job_id, Status(status))


def _make(
    tx: Connection,
    job_id: str,
    work: Work,
    *,
    schedule_id: str,
    host_id: str,
    slot: datetime,
    revision: int,
    trigger: str | None,
    stands_for: int,
    now: datetime,
    ripple: Ripple,
    there: Stored | None,
    owned: Sequence[Interval],
    sent_at: datetime | None = None,
    evidence: Evidence | None = None,
) -> JobRow:
    """Make the slot's job, and its fate in place of what the ledger held for it."""
    waiting = retries.overtaken(tx, schedule_id, host_id, slot)
    jobs.supersede(tx, waiting, f"the slot {slot_text(slot)} takes its place", now=now, ripple=ripple)
    row = job_rows.insert(
        tx,
        job_id=job_id,
        spec=work.spec,
        host_id=host_id,
        repo_id=work.repo_id,
        actor=Actor.SCHEDULE,
        now=now,
        schedule_id=schedule_id,
        slot=slot,
        revision=revision,
        trigger=trigger,
        stands_for=stands_for,
        limits=work.limits,
        sent_at=sent_at,
    )
    if there is not None:
        fates.cut_out(tx, Pair(schedule_id, host_id), there, [Stretch(slot, slot)], intervals=owned)
    fates.record_ran(
        tx,
        schedule_id=schedule_id,
        host_id=host_id,
        revision=revision,
        slot=slot,
        job_id=job_id,
        now=now,
        evidence=evidence,
    )
    return row
