"""Job rows as values: reading one, writing one, changing its state. Owns the one place that knows the jobs' columns.

Serials are given out here, from the highest there is, in the writer's transaction. What a change leads to is `jobs`;
what lists and pages ask is `job_lists`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Row, bindparam, func, select

from restic_manager.domain.errors import NotFoundError
from restic_manager.domain.lifecycle import JobState
from restic_manager.domain.model import Actor, BackupStats, Failure, Kind, Limits, Spec, Status, kind_of
from restic_manager.domain.results import Result
from restic_manager.domain.specs import CopySpec
from restic_manager.server.store.schema import jobs

UNFINISHED: Final = (Status.QUEUED.value, Status.RUNNING.value)
MAX_IN: Final = 500
"""Most values of one IN list: engines bound the parameters of a statement."""

_spec: Final[msgspec.json.Decoder[Spec]] = msgspec.json.Decoder(Spec)
_failure: Final = msgspec.json.Decoder(Failure)
_stats: Final = msgspec.json.Decoder(BackupStats)
_result: Final[msgspec.json.Decoder[Result]] = msgspec.json.Decoder(Result)
_limits: Final = msgspec.json.Decoder(Limits)
_NO_LIMITS: Final = Limits()
_STATE: Final = frozenset(JobState.__struct_fields__)


class JobRow(Struct, frozen=True, kw_only=True):
    """One job as the server keeps it. `state` is what changes in its life; the rest is fixed when it is made."""

    id: str
    serial: int
    kind: Kind
    spec: Spec
    host_id: str
    schedule_id: str | None
    repo_id: str
    slot: datetime | None
    revision: int | None
    trigger: str | None
    stands_for: int
    actor: Actor
    created_at: datetime
    attempt: int
    attempt_of: str | None
    waits_for_job: str | None
    not_before: datetime | None
    limits: Limits
    log_lines: int
    log_bytes: int
    log_lines_dropped: int
    caused_by: str | None = None
    rows_kept: int = 0
    state: JobState

    @property
    def status(self) -> Status:
        """Where the job stands."""
        return self.state.status


def row_of(row: Row[Any]) -> JobRow:
    """Given a row with every column of the jobs table, return its value."""
    found = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it, the underscore keeps it off column names
    return JobRow(
        id=found["id"],
        serial=found["serial"],
        kind=Kind(found["kind"]),
        spec=_spec.decode(found["spec"]),
        host_id=found["host_id"],
        schedule_id=found["schedule_id"],
        repo_id=found["repo_id"],
        slot=found["slot"],
        revision=found["revision"],
        trigger=found["trigger"],
        stands_for=found["stands_for"],
        actor=Actor(found["actor_kind"]),
        created_at=found["created_at"],
        attempt=found["attempt"],
        attempt_of=found["attempt_of"],
        waits_for_job=found["waits_for_job"],
        not_before=found["not_before"],
        limits=_NO_LIMITS if found["limits"] is None else _limits.decode(found["limits"]),
        log_lines=found["log_lines"],
        log_bytes=found["log_bytes"],
        log_lines_dropped=found["log_lines_dropped"],
        caused_by=found["caused_by"],
        rows_kept=found["rows_kept"],
        state=JobState(
            status=Status(found["status"]),
            verdict_by=found["verdict_by"],
            sent_at=found["sent_at"],
            started_at=found["started_at"],
            finished_at=found["finished_at"],
            exit_code=found["exit_code"],
            snapshot_id=found["snapshot_id"],
            error=None if found["error"] is None else _failure.decode(found["error"]),
            stats=None if found["stats"] is None else _stats.decode(found["stats"]),
            result=None if found["result"] is None else _result.decode(found["result"]),
            cancel_requested_at=found["cancel_requested_at"],
            cancel_reason=found["cancel_reason"],
            tell_host=found["tell_host"],
            told=found["told"],
        ),
    )


_BY_ID = select(jobs).where(jobs.c.id == bindparam("job_id"))
_BY_IDS = select(jobs).where(jobs.c.id.in_(bindparam("job_ids", expanding=True)))
_HIGHEST = select(func.max(jobs.c.serial))


def find(tx: Connection, job_id: str) -> JobRow | None:
    """Given an id, return the job, None if there is none."""
    row = tx.execute(_BY_ID, {"job_id": job_id}).first()
    return None if row is None else row_of(row)


def get(tx: Connection, job_id: str) -> JobRow:
    """Given an id, return the job; raise NotFoundError if there is none."""
    found = find(tx, job_id)
    if found is None:
        raise NotFoundError(f"there is no job {job_id}")
    return found


def find_many(tx: Connection, job_ids: Iterable[str]) -> dict[str, JobRow]:
    """Given ids, return the jobs there are, by id."""
    found: dict[str, JobRow] = {}
    for part in parts(sorted(set(job_ids))):
        found.update((row.id, row_of(row)) for row in tx.execute(_BY_IDS, {"job_ids": list(part)}))
    return found


def insert(
    tx: Connection,
    *,
    job_id: str,
    spec: Spec,
    host_id: str,
    repo_id: str,
    actor: Actor,
    now: datetime,
    schedule_id: str | None = None,
    slot: datetime | None = None,
    revision: int | None = None,
    trigger: str | None = None,
    stands_for: int = 1,
    attempt: int = 1,
    attempt_of: str | None = None,
    waits_for_job: str | None = None,
    not_before: datetime | None = None,
    limits: Limits = _NO_LIMITS,
    sent_at: datetime | None = None,
    caused_by: str | None = None,
) -> JobRow:
    """Given what a job is, store it as queued and return it, with the next serial."""
    row = JobRow(
        id=job_id,
        serial=(tx.execute(_HIGHEST).scalar() or 0) + 1,
        kind=kind_of(spec),
        spec=spec,
        host_id=host_id,
        schedule_id=schedule_id,
        repo_id=repo_id,
        slot=slot,
        revision=revision,
        trigger=trigger,
        stands_for=stands_for,
        actor=actor,
        created_at=now,
        attempt=attempt,
        attempt_of=attempt_of,
        waits_for_job=waits_for_job,
        not_before=not_before,
        limits=limits,
        log_lines=0,
        log_bytes=0,
        log_lines_dropped=0,
        caused_by=caused_by,
        state=JobState(sent_at=sent_at),
    )
    values = {name: getattr(row, name) for name in row.__struct_fields__ if name not in {"state", "spec", "actor"}}
    values |= {"kind": row.kind.value, "spec": _json(spec), "actor_kind": actor.value} | _state_values(row.state)
    values["limits"] = None if limits == _NO_LIMITS else _json(limits)
    values["source_repo_id"] = spec.from_repo if isinstance(spec, CopySpec) else None
    tx.execute(jobs.insert(), values)
    return row


_UPDATE = (
    jobs.update()
    .where(jobs.c.id == bindparam("job_id"))
    .values({name: bindparam(f"new_{name}") for name in sorted(_STATE)})
)


_SENT = jobs.update().where(jobs.c.id == bindparam("job_id"), jobs.c.sent_at.is_(None)).values(sent_at=bindparam("at"))


def save(tx: Connection, job_id: str, state: JobState) -> None:
    """Given a job's id and its state, store the state."""
    tx.execute(_UPDATE, {"job_id": job_id} | {f"new_{name}": value for name, value in _state_values(state).items()})


def mark_sent(tx: Connection, job_ids: Sequence[str], now: datetime) -> None:
    """Given ids of jobs about to be handed to their hosts, store when."""
    if job_ids:
        tx.execute(_SENT, [{"job_id": job_id, "at": now} for job_id in job_ids])


def respec(tx: Connection, job_id: str, spec: Spec) -> None:
    """Given a job about to be handed to its host, store what its order says: what it is asked in full."""
    tx.execute(jobs.update().where(jobs.c.id == job_id).values(spec=_json(spec)))


def move(tx: Connection, job_id: str, host_id: str) -> None:
    """Given a job that was never sent, give it to another host."""
    tx.execute(jobs.update().where(jobs.c.id == job_id, jobs.c.sent_at.is_(None)).values(host_id=host_id))


def parts(values: Sequence[str]) -> Iterable[Sequence[str]]:
    """Given values for an IN list, return them in pieces of a bounded size."""
    return (values[at : at + MAX_IN] for at in range(0, len(values), MAX_IN))


def _state_values(state: JobState) -> dict[str, object]:
    values: dict[str, object] = {name: getattr(state, name) for name in _STATE}
    values["status"] = state.status.value
    values["error"] = None if state.error is None else _json(state.error)
    values["stats"] = None if state.stats is None else _json(state.stats)
    values["result"] = None if state.result is None else _json(state.result)
    return values


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
