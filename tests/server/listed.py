"""Short ways to make jobs that are over, and lists of snapshots, for the tests of what is done with them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection, create_engine

from restic_manager.domain.model import Actor, Failure, Spec, Status, new_id
from restic_manager.domain.results import ListStats, Result, SnapshotRow
from restic_manager.domain.specs import SnapshotsSpec
from restic_manager.server.store import job_rows, listings, snapshots
from restic_manager.server.store.job_rows import JobRow
from restic_manager.server.store.schema import metadata
from tests.server.rows import START, add_repo, add_schedule, at, join


def database() -> Connection:
    """A database in memory."""
    engine = create_engine("sqlite://")
    connection = engine.connect()
    connection.exec_driver_sql("PRAGMA foreign_keys=ON")
    metadata.create_all(connection)
    return connection


def fleet() -> Connection:
    """Two hosts, the repository `main` and the schedule `nightly` on both."""
    tx = database()
    join(tx, "web1")
    join(tx, "db1")
    add_repo(tx)
    add_schedule(tx)
    return tx


def snapshot_id(name: object) -> str:
    """A whole id, the same for the same name."""
    return hashlib.sha256(str(name).encode()).hexdigest()


def snap(name: object, seconds: float = 0, **fields: Any) -> SnapshotRow:
    """A snapshot of web1, so many seconds after the start."""
    given: dict[str, Any] = {"hostname": "web1", "username": "root", "paths": ("/etc",)}
    return SnapshotRow(id=snapshot_id(name), time=at(seconds), **{**given, **fields})


def ended(
    tx: Connection,
    spec: Spec,
    *,
    host_id: str,
    repo_id: str,
    sent: datetime = START,
    finished: datetime | None = None,
    status: Status = Status.SUCCEEDED,
    result: Result | None = None,
    actor: Actor = Actor.SERVER,
    error: Failure | None = None,
    schedule_id: str | None = None,
) -> JobRow:
    """Store a job that is over, as its host told it."""
    job = job_rows.insert(
        tx,
        job_id=new_id(),
        spec=spec,
        host_id=host_id,
        repo_id=repo_id,
        actor=actor,
        now=sent,
        sent_at=sent,
        schedule_id=schedule_id,
    )
    state = replace(
        job.state,
        status=status,
        verdict_by="agent",
        started_at=sent,
        finished_at=finished or sent,
        result=result,
        error=error,
    )
    job_rows.save(tx, job.id, state)
    return job_rows.get(tx, job.id)


def take(
    tx: Connection,
    rows: Sequence[SnapshotRow],
    *,
    host_id: str,
    repo_id: str,
    sent: datetime = START,
    said: int | None = None,
    spec: SnapshotsSpec | None = None,
) -> JobRow:
    """List a repository: what a `snapshots` job leaves that gave these rows (and says that it gave `said`)."""
    stats = ListStats(rows=len(rows) if said is None else said)
    job = ended(tx, spec or SnapshotsSpec(), host_id=host_id, repo_id=repo_id, sent=sent, result=stats)
    for first in range(0, len(rows), 10_000):
        assert listings.append(tx, job.id, first + 1, rows[first : first + 10_000], now=sent) == "kept"
    snapshots.take_list(tx, job, now=sent)
    return job
