"""What a host's messages do to the rows: durable reports in sequence, fires, acks, listings. Synchronous.

One call takes a batch in the order it came, in one transaction; its answers go out after the commit. A report that
cannot be used (it does not decode, it names a job that is nobody's, it contradicts the ledger) is set aside, counted as
taken and audited, because the outbox would repeat it for ever. Only a claim on ANOTHER host's job ends the session.
It refuses to know links and tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import assert_never

import msgspec
from sqlalchemy import Connection

from restic_manager.domain import firing, lifecycle
from restic_manager.domain.firing import Interval
from restic_manager.domain.instants import slot_text, whole_second
from restic_manager.domain.model import Fate, slot_job_id
from restic_manager.domain.planning import CLOCK_HOLD
from restic_manager.domain.spans import SECOND, Span, Stretch, remainder, shifted
from restic_manager.link import Incoming
from restic_manager.protocol.codec import WireError
from restic_manager.protocol.messages import (
    Ack,
    CredentialHeld,
    CredentialNew,
    CredentialUsed,
    DurableReport,
    Error,
    JobFinished,
    JobLog,
    JobRows,
    JobStarted,
    Message,
    Refused,
    ScheduleAck,
    ScheduleFire,
    SlotDecided,
)
from restic_manager.protocol.session import JournalRecord, frame_hash, judge_sequence
from restic_manager.server.store import (
    assignments,
    credentials,
    events,
    fates,
    job_rows,
    jobs,
    journals,
    judging,
    listings,
    logs,
    slots,
)
from restic_manager.server.store.job_rows import JobRow
from restic_manager.server.store.logs import Chunk
from restic_manager.server.store.ripple import Ripple
from restic_manager.server.store.slots import Caller


@dataclass(frozen=True)
class Sender:
    """Whose messages these are. gap_allowed: its journal is ahead of this store, which is an old copy."""

    caller: Caller
    host_name: str
    journal_id: str
    gap_allowed: bool = False


@dataclass
class Taken:
    """What became of a batch: what to answer, what it calls for, jobs that are this host's, and why to end, if so."""

    answers: list[Message] = field(default_factory=list)
    ripple: Ripple = field(default_factory=Ripple)
    running: set[str] = field(default_factory=set)
    end: Error | None = None


class _Unusable(Exception):  # noqa: N818 - a verdict about a report, caught right here
    """Why a report is set aside. foreign: it lays claim to what is another host's."""

    def __init__(self, reason: str, *, foreign: bool = False) -> None:
        super().__init__(reason)
        self.foreign = foreign


def take(tx: Connection, batch: Iterable[Incoming], sender: Sender, *, now: datetime) -> Taken:
    """Given messages of one host in order, apply them; return the answers to give once this is committed.

    Stops behind the first message that ends the session.
    """
    taken = Taken()
    run = _Batch(tx, sender, now, taken)
    for incoming in batch:
        message = incoming.message
        match message:
            case ScheduleFire():
                taken.answers.append(slots.take_fire(tx, message, caller=sender.caller, now=now, ripple=taken.ripple))
            case ScheduleAck():
                assignments.note_ack(tx, sender.caller.host_id, message, now)
            case JobRows():
                run.rows(message)
            case CredentialNew(credential_sha256=digest) | CredentialUsed(credential_sha256=digest):
                used = isinstance(message, CredentialUsed)
                taken.answers += _rotate(tx, sender.caller.host_id, digest, used=used, now=now)
            case _:
                run.report(message, incoming.frame)
        if taken.end is not None:
            break
    run.finish()
    return taken


def _rotate(tx: Connection, host_id: str, digest: str, *, used: bool, now: datetime) -> list[Message]:
    """Given a host's word about its next credential, keep it; return the answer. Used: that it lives by it now."""
    if used:
        refused = credentials.use(tx, host_id, digest, now=now)
        why = refused.message if isinstance(refused, Refused) else None
    else:
        why = credentials.note_next(tx, host_id, digest)
    if why is not None:
        return [Error(code="invalid", message=why, ref="credential.used" if used else "credential.new")]
    return [] if used else [CredentialHeld(credential_sha256=digest)]


def set_aside(tx: Connection, incoming: Incoming, sender: Sender, *, reason: str, now: datetime) -> Taken:
    """Given one report that could not even be applied, set it aside if it is the next one, and return the answers."""
    taken = Taken()
    run = _Batch(tx, sender, now, taken)
    run.report(incoming.message, incoming.frame, unusable=reason)
    run.finish()
    return taken


class _Batch:
    """One batch being applied: where the journal stands, and the log lines gathered on the way."""

    def __init__(self, tx: Connection, sender: Sender, now: datetime, taken: Taken) -> None:
        self._tx = tx
        self._sender = sender
        self._host_id = sender.caller.host_id
        self._now = now
        self._taken = taken
        self._record: JournalRecord | None = None
        self._advanced = False
        self._reported = False
        self._jobs: dict[str, JobRow] = {}
        self._logs: dict[str, list[Chunk]] = {}
        self._dropped: set[str] = set()

    def report(self, message: DurableReport | WireError, frame: str, *, unusable: str | None = None) -> None:
        """Take one durable report, or what was wrong with one, in its turn."""
        seq = message.seq
        if seq is None:
            raise ValueError("only durable reports have a turn")
        self._reported = True
        record = self._standing()
        turn = judge_sequence(record.acked_through, seq, gap_allowed=self._sender.gap_allowed)
        if turn == "repeat":
            return
        if turn == "gap":
            self._taken.end = Error(
                code="gap",
                message=f"report {seq} came where {record.acked_through + 1} was expected: dial again and repeat",
            )
            return
        if isinstance(message, WireError):
            unusable = f"not understood: {message.message}"
        if unusable is None and not isinstance(message, WireError):
            try:
                self._apply(message)
            except _Unusable as why:
                self._quarantine(seq, frame, str(why), foreign=why.foreign)
        else:
            self._quarantine(seq, frame, unusable or "", foreign=False)
        self._record = JournalRecord(acked_through=seq, acked_hash=frame_hash(frame))
        self._advanced = True

    def rows(self, message: JobRows) -> None:
        """Take the next rows of a listing: they are in no outbox, so what cannot be used is dropped, and told."""
        job = self._jobs.get(message.job_id) or job_rows.find(self._tx, message.job_id)
        if job is None:
            self._drop(message, "unknown_job", f"the server knows no job {message.job_id}")
        elif job.host_id != self._host_id:
            reason = f"job {job.id} is another host's"
            if jobs.is_anothers(job, self._host_id):
                self._taken.end = Error(code="not_yours", message=reason, ref=job.id)
            else:
                self._drop(message, "not_yours", reason)
        elif job.status.terminal:
            self._drop(message, "job_over", f"job {job.id} is over: its rows are not taken any more")
        else:
            taken = listings.append(self._tx, job.id, message.first, message.rows, now=self._now)
            if taken == "out_of_order":
                self._drop(message, taken, f"row {message.first} of job {job.id} is not the next one")
            self._jobs[job.id] = job
            self._taken.ripple.jobs.add(job.id)

    def _drop(self, message: JobRows, code: str, reason: str) -> None:
        """Say once a batch and job that its rows are of no use."""
        if message.job_id not in self._dropped:
            self._dropped.add(message.job_id)
            self._taken.answers.append(Error(code=code, message=reason, ref=message.job_id))

    def finish(self) -> None:
        """Write what was gathered and how far the journal is, and add the ack."""
        for job_id, chunks in self._logs.items():
            logs.append(self._tx, job_id, chunks)
            self._taken.ripple.jobs.add(job_id)
        self._logs.clear()
        if self._advanced:
            journals.advance(self._tx, self._host_id, self._sender.journal_id, self._standing())
        if self._reported:
            self._taken.answers.append(Ack(through=self._standing().acked_through))

    def _standing(self) -> JournalRecord:
        if self._record is None:
            found = journals.find(self._tx, self._host_id, self._sender.journal_id)
            self._record = found or JournalRecord(acked_through=0, acked_hash=None)
        return self._record

    def _apply(self, report: DurableReport) -> None:
        match report:
            case JobStarted():
                job = self._job(report.job_id, report.schedule_id, report.scheduled_at)
                step = lifecycle.apply_started(job.state, started_at=report.started_at, now=self._now)
                self._settle(job, step)
            case JobLog():
                job = self._job(report.job_id, None, None)
                chunk = logs.chunk_of(
                    first_line=report.first_line,
                    at=report.at,
                    stream=report.stream,
                    text=report.text,
                    dropped=report.dropped,
                )
                self._logs.setdefault(job.id, []).append(chunk)
            case JobFinished():
                job = self._job(report.job_id, report.schedule_id, report.scheduled_at)
                step = lifecycle.apply_finished(
                    job.state,
                    report.outcome,
                    started_at=report.started_at,
                    finished_at=report.finished_at,
                    now=self._now,
                    judge=partial(judging.verdict, self._tx, job, started_at=report.started_at, now=self._now),
                )
                if step.contradiction is not None:
                    raise _Unusable(f"job {job.id}: {step.contradiction}")
                self._note_lost_log(job, report, first_told=step.state != job.state)
                self._settle(job, step, follow_up=not report.retold)
            case SlotDecided():
                self._decided(report)
            case _ as unreachable:
                assert_never(unreachable)

    def _note_lost_log(self, job: JobRow, report: JobFinished, *, first_told: bool) -> None:
        """Where the log had more lines than have come, say so in its last line: they will not come any more.

        The agent has forgotten them, because they were acknowledged: by a store that this one is an older copy of.
        """
        pending = self._logs.pop(job.id, [])
        known = logs.append(self._tx, job.id, pending).lines
        had = report.log_lines
        if had is None:
            lost = first_told and report.retold and report.started_at is not None
            line = "what this log held is not known: it was told to a database that this one is an older copy of"
        else:
            lost = had > known
            line = (
                "the lines before this one are lost: this database never had them, or is an older copy of one that had"
            )
        if lost:
            last = logs.chunk_of(
                first_line=max(known, had or 0) + 1, at=report.finished_at, stream="agent", text=line, dropped=0
            )
            logs.append(self._tx, job.id, [last])
            self._taken.ripple.jobs.add(job.id)

    def _settle(self, job: JobRow, step: lifecycle.Step, *, follow_up: bool = True) -> None:
        after = jobs.settle(self._tx, job, step, now=self._now, ripple=self._taken.ripple, follow_up=follow_up)
        self._jobs[job.id] = after
        if after.status.terminal:
            self._taken.running.discard(job.id)
        else:
            self._taken.running.add(job.id)
            if after.state.cancel_requested_at is not None and job.status.terminal:
                # It runs although it had been cancelled here before it was sent: now the host has to be asked.
                self._taken.ripple.cancels.append((self._host_id, jobs.cancel_message(after)))

    def _job(self, job_id: str, schedule_id: str | None, slot: datetime | None) -> JobRow:
        """Return the job a report speaks of, adopting it where its id checks out."""
        job = self._jobs.get(job_id) or job_rows.find(self._tx, job_id)
        if job is None:
            if schedule_id is None or slot is None:
                raise _Unusable(f"the server knows no job {job_id}")
            adopted = slots.adopt(
                self._tx,
                job_id,
                host_id=self._host_id,
                schedule_id=schedule_id,
                slot=slot,
                clock_offset=self._sender.caller.clock_offset,
                now=self._now,
                ripple=self._taken.ripple,
            )
            if isinstance(adopted, str):
                raise _Unusable(f"the server knows no job {job_id}, and {adopted}")
            job = adopted
            self._taken.ripple.jobs.add(job.id)
        if job.host_id != self._host_id:
            foreign = jobs.is_anothers(job, self._host_id)
            raise _Unusable(f"job {job_id} is another host's", foreign=foreign)
        self._jobs[job_id] = job
        return job

    def _decided(self, report: SlotDecided) -> None:
        if report.fate is Fate.RAN:
            raise _Unusable("a slot that ran is told by its job")
        if report.last < report.first or (report.count == 1) != (report.first == report.last):
            raise _Unusable("its first slot, last slot and count do not fit together")
        if report.count > (report.last - report.first) // SECOND + 1:
            raise _Unusable("it counts more slots than there are seconds")
        if whole_second(report.first) != report.first or whole_second(report.last) != report.last:
            raise _Unusable("its slots are not whole seconds")
        if slots.find_work(self._tx, report.schedule_id) is None:
            raise _Unusable("it names a schedule the server does not know")
        owned = slots.intervals(self._tx, report.schedule_id, self._host_id)
        if not owned:
            raise _Unusable("it names a schedule that is not this host's and never was")
        if report.count == 1:
            job_id = slot_job_id(report.schedule_id, self._host_id, report.first)
            if job_rows.find(self._tx, job_id) is not None:
                raise _Unusable(f"it says {report.fate} of a slot that has job {job_id}")
        owned = shifted(owned, self._sender.caller.clock_offset)
        report = self._without_future(report, owned)
        contradiction = fates.record(
            self._tx,
            schedule_id=report.schedule_id,
            host_id=self._host_id,
            revision=report.revision,
            first=report.first,
            last=report.last,
            count=report.count,
            fate=report.fate,
            reason=report.reason,
            into=report.into,
            evidence=report.evidence,
            now=self._now,
            intervals=owned,
        )
        if contradiction is not None:
            raise _Unusable(contradiction)

    def _without_future(self, report: SlotDecided, owned: Sequence[Interval]) -> SlotDecided:
        """Return what it says of slots up to now by the host's clock: a clock that was wrong has decided more.

        Where that was set back by no more than CLOCK_HOLD the agent waits until it is past them and never decides them
        anew, so this is all that will ever be told. One set back by more does: then what was told early gives way.
        """
        ahead = max(CLOCK_HOLD, timedelta(seconds=self._sender.caller.clock_offset))
        latest = whole_second(self._now + min(ahead, firing.OFFSET_LIMIT) + firing.FUTURE_LIMIT)
        if report.last <= latest:
            return report
        told = Span(report.first, report.last, report.count)
        kept = remainder(told, report.revision, owned, [Stretch(latest + SECOND, report.last)])
        if report.first > latest or not kept:
            raise _Unusable(f"its slots through {slot_text(report.last)} are in the future")
        return msgspec.structs.replace(report, first=kept[0].first, last=kept[0].last, count=kept[0].count)

    def _quarantine(self, seq: int, frame: str, reason: str, *, foreign: bool) -> None:
        first_for_long = journals.set_aside(
            self._tx, self._host_id, self._sender.journal_id, seq=seq, reason=reason, frame=frame, now=self._now
        )
        if first_for_long:
            events.record(
                self._tx,
                now=self._now,
                actor=self._sender.host_name,
                what="quarantined",
                host_id=self._host_id,
                detail=f"report {seq} was set aside: {reason}"[:2_000],
            )
        if foreign:
            self._taken.end = Error(code="not_yours", message=reason)
