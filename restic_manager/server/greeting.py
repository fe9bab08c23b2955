"""The start of a session, on the rows: may this agent go on from where it says, and what is it still to be told.

`greet` takes the hello in one transaction, with everything that follows from it: an old copy gets a new epoch, a new
journal ends what the old one was handed, claims are adopted before the dispatcher may send. `owed` is what the server
has wanted from this host and got no answer to yet. It refuses to know links and tasks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import Connection, and_, select

from restic_manager.domain import lifecycle
from restic_manager.domain.model import Failure, Status
from restic_manager.protocol.messages import CommandCancel, CredentialRotate, Hello, JobClaim, Message, Refused
from restic_manager.protocol.session import Accepted, Holding, JournalRecord, judge_hello
from restic_manager.server.orders import LOGIN_FORGOTTEN, Unseal, write_orders
from restic_manager.server.per_job import PerJob
from restic_manager.server.store import (
    assignments,
    closing,
    credentials,
    events,
    hosts,
    identity,
    job_rows,
    jobs,
    journals,
    slots,
)
from restic_manager.server.store.hosts import HostRow
from restic_manager.server.store.job_rows import JobRow
from restic_manager.server.store.queue import Order
from restic_manager.server.store.ripple import Ripple
from restic_manager.server.store.schema import hosts as host_rows
from restic_manager.server.store.schema import jobs as table

_NEW_JOURNAL: Final = (
    "the agent came back with a new journal: what it knew of this job is lost (a fresh data directory, or an old copy)"
)
_TOLD_WITHIN: Final = timedelta(days=2)
"""A host is told of what ended since it was last here, or this long ago: keeps the look-up short however long its
history is.
"""

EPOCH_EVERY: Final = timedelta(hours=1)
"""How often the word of an agent may give the store a new epoch."""


@dataclass
class Greeting:
    """A hello that was accepted. jobs: ids of unfinished jobs that it has. ended: what to tell it that ended here."""

    host: HostRow
    accepted: Accepted
    epoch: str
    new_epoch: bool
    clock_offset: float
    ripple: Ripple = field(default_factory=Ripple)
    jobs: set[str] = field(default_factory=set)
    ended: list[CommandCancel] = field(default_factory=list)


class Owed(NamedTuple):
    """What a host is told right after its greeting, and jobs that are to be ended, each with why."""

    messages: list[Message]
    lost: list[tuple[JobRow, Failure]]


def greet(
    tx: Connection, host_id: str, hello: Hello, *, credential_sha256: str, heard_at: datetime
) -> Greeting | Refused:
    """Given a host, by which credential it was let in, and its hello, take the hello and return the greeting.

    Or return why the session cannot be; then nothing of it is stored but the event.
    """
    owner = credentials.whose(tx, credential_sha256)
    if isinstance(owner, Refused):
        return owner  # it was good when it knocked: replaced or revoked in this very moment
    host = hosts.get(tx, host_id)
    holding = Holding(epoch=identity.epoch(tx), version=host.schedule_version)
    verdict = judge_hello(hello, journals.find(tx, host_id, hello.journal_id), holding)
    if isinstance(verdict, Accepted) and verdict.old_copy:
        verdict = _not_too_often(tx, host, verdict, heard_at)
    if isinstance(verdict, Refused):
        if verdict.code == "rekey":
            detail = f"its journal {hello.journal_id} is set aside: {verdict.message}"
            events.record_of_host(tx, now=heard_at, actor=host.name, what="rekey", host_id=host_id, detail=detail)
        return verdict
    foreign = _foreign(tx, host_id, hello.jobs)
    if foreign is not None:
        detail = f"it claims job {foreign}, which is another host's: the session was refused"
        events.record_of_host(tx, now=heard_at, actor=host.name, what="foreign_claim", host_id=host_id, detail=detail)
        return Refused(code="invalid", message=f"job {foreign} is another host's")
    credentials.use(tx, host_id, credential_sha256, now=heard_at)
    greeting = Greeting(
        host=host,
        accepted=verdict,
        epoch=holding.epoch,
        new_epoch=verdict.old_copy,
        clock_offset=(hello.clock - heard_at).total_seconds(),
    )
    if verdict.old_copy:
        reason = f"agent {host.name} was acked further than this database knows: the database is an old copy"
        greeting.epoch = identity.new_epoch(tx, now=heard_at, reason=reason)
    record = JournalRecord(acked_through=verdict.acked_through, acked_hash=verdict.acked_hash)
    replaced = journals.begin(tx, host_id, hello.journal_id, record, now=heard_at)
    claimed = frozenset(claim.job_id for claim in hello.jobs)
    if replaced:
        ended = jobs.end_unfinished(tx, host_id, code="journal_lost", message=_NEW_JOURNAL, now=heard_at, keep=claimed)
        greeting.ripple.add(ended)
        detail = (
            f"it reports by a new journal now, {hello.journal_id}; {len(ended.over)} jobs of the old are interrupted"
        )
        events.record_of_host(tx, now=heard_at, actor=host.name, what="new_journal", host_id=host_id, detail=detail)
        closing.close_lost(tx, host_id, clock_offset=greeting.clock_offset, now=heard_at)
    assignments.note_applied(tx, host_id, epoch=hello.applied_epoch, version=hello.applied_version, now=heard_at)
    hosts.note_hello(tx, host_id, hello, clock_offset=greeting.clock_offset, now=heard_at)
    _take_claims(tx, greeting, hello.jobs, heard_at)
    # As it was before this hello.
    last_here = heard_at if host.last_seen_at is None else host.last_seen_at
    greeting.ended = _tell_once(tx, host_id, min(last_here, heard_at - _TOLD_WITHIN))
    return greeting


def owed(
    tx: Connection,
    greeting: Greeting,
    claims: Sequence[JobClaim],
    *,
    unseal: Unseal,
    per_job: PerJob,
    since: datetime,
) -> Owed:
    """Given a greeted host and its claims, return the access it asks for, and what it was told before and has not
    answered: orders, and wishes to cancel; and jobs that never came there and cannot be sent again.

    Orders handed out after `since` (its greeting) are in this session's queue already; a repeat would do no harm.
    """
    claimed = {claim.job_id for claim in claims}
    messages = _access(tx, greeting, [claim.job_id for claim in claims if claim.recover], unseal, per_job)
    if credentials.rotation_asked(tx, greeting.host.id):
        messages.append(CredentialRotate())
    orders: list[Order] = []
    for job in jobs.unfinished(tx, greeting.host.id):
        if job.state.cancel_requested_at is not None:
            messages.append(jobs.cancel_message(job))
        elif job.state.sent_at is not None and job.state.sent_at <= since and job.id not in claimed:
            orders.append(Order(job, greeting.host.restic_host))
    written = write_orders(tx, orders, unseal=unseal, per_job=per_job)
    messages += [message for _, message in written.messages]
    # What cannot be opened now was sent before and may be running: it is not ended here, only not repeated. But a login
    # that is forgotten does not come back, and the host, which says all that it has, does not have this job.
    lost = [(job, why) for job, why in written.unsent if why.code == LOGIN_FORGOTTEN]
    return Owed(messages, lost)


def _access(tx: Connection, greeting: Greeting, asked: Sequence[str], unseal: Unseal, per_job: PerJob) -> list[Message]:
    """Given runs that were cut off and that their host cannot look up without access, return the answer for each.

    There is always one, or the agent would wait for ever: a job that nobody knows here, and one whose repository
    cannot be opened, can only be told as interrupted.
    """
    known = job_rows.find_many(tx, asked)
    orders = [Order(known[job_id], greeting.host.restic_host) for job_id in asked if job_id in known]
    written = write_orders(tx, orders, unseal=unseal, per_job=per_job, recover=True)
    refused = {job_id: "the server knows no such job" for job_id in asked if job_id not in known}
    refused |= {job.id: f"the server cannot open its repository: {why.message}" for job, why in written.unsent}
    return [message for _, message in written.messages] + [
        CommandCancel(job_id=job_id, reason=why[:256], status=Status.INTERRUPTED) for job_id, why in refused.items()
    ]


def set_wanted(tx: Connection, host_id: str) -> tuple[str, int]:
    """Given a host, return the epoch and version of the schedule set it should have."""
    return identity.epoch(tx), tx.execute(
        select(host_rows.c.schedule_version).where(host_rows.c.id == host_id)
    ).scalar_one()


def _not_too_often(tx: Connection, host: HostRow, verdict: Accepted, now: datetime) -> Accepted | Refused:
    """Given a hello that proves this store to be an old copy, return it, or the refusal where another just did.

    Every agent says hello again in a new epoch, and one host's word is enough for it: so only once in a while.
    """
    last = identity.latest_epoch_since(tx, now - EPOCH_EVERY)
    if last is None:
        return verdict
    wait = (last + EPOCH_EVERY - now).total_seconds()
    detail = "it was acked further than this database knows, and so soon after a new epoch that it is not believed yet"
    if not events.any_since(tx, now - EPOCH_EVERY, what="old_copy", host_id=host.id):
        events.record(tx, now=now, actor=host.name, what="old_copy", host_id=host.id, detail=detail)
    return Refused(
        code="old_copy",
        message="the server's database seems to be an old copy, and it has a new epoch since less than an hour: try "
        "again later",
        retry=True,
        retry_after=max(1, math.ceil(wait)),
    )


def _foreign(tx: Connection, host_id: str, claims: Sequence[JobClaim]) -> str | None:
    """Return the id of a claimed job that is another host's, None for none."""
    known = job_rows.find_many(tx, [claim.job_id for claim in claims])
    return next((job.id for job in known.values() if jobs.is_anothers(job, host_id)), None)


def _take_claims(tx: Connection, greeting: Greeting, claims: Sequence[JobClaim], now: datetime) -> None:
    """Note which jobs the host has, so that nothing is sent to it beside them, or twice."""
    known = job_rows.find_many(tx, [claim.job_id for claim in claims])
    for claim in claims:
        job = known.get(claim.job_id)
        if job is None and claim.schedule_id is not None and claim.scheduled_at is not None:
            adopted = slots.adopt(
                tx,
                claim.job_id,
                host_id=greeting.host.id,
                schedule_id=claim.schedule_id,
                slot=claim.scheduled_at,
                clock_offset=greeting.clock_offset,
                now=now,
                ripple=greeting.ripple,
            )
            # What does not check out is told again by its reports, and set aside there.
            job = None if isinstance(adopted, str) else adopted
        if job is None or job.host_id != greeting.host.id:
            continue
        job = jobs.settle(tx, job, lifecycle.apply_claim(job.state, now=now), now=now, ripple=greeting.ripple)
        greeting.ripple.jobs.add(job.id)
        if not job.status.terminal:
            greeting.jobs.add(job.id)


def _tell_once(tx: Connection, host_id: str, since: datetime) -> list[CommandCancel]:
    """Return what ended here since then without the host knowing, and note that it is told now.

    Once is enough: a fire that still waits is sent again after the welcome, and its answer says the same.
    """
    lately = and_(
        table.c.host_id == host_id,
        table.c.status.in_([Status.CANCELLED.value, Status.FAILED.value]),
        table.c.finished_at >= since,
        table.c.tell_host.is_(True),
    )
    untold = [job_rows.row_of(row) for row in tx.execute(select(table).where(lately).order_by(table.c.serial))]
    if untold:
        tx.execute(table.update().where(lately).values(tell_host=False))
    return [jobs.cancel_message(job) for job in untold]
