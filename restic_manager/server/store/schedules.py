"""Schedule rows as values, and the questions about them. Owns reading; what an edit does is `schedule_changes`.

Refuses to know who runs what when: that is `assignments`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec
import sqlalchemy
from msgspec import Struct
from sqlalchemy import Connection

from restic_manager.domain.errors import NotFoundError
from restic_manager.domain.guards import Guards
from restic_manager.domain.hooks import Hooks
from restic_manager.domain.model import Kind, Limits, Offline, Overlap
from restic_manager.domain.retention import Retention
from restic_manager.domain.selectors import TargetRule
from restic_manager.domain.specs import (
    BackupSpec,
    CheckSpec,
    CopySpec,
    DiffSpec,
    FindSpec,
    ForgetSpec,
    LsSpec,
    PruneSpec,
    RestoreSpec,
    SnapshotsSpec,
    StatsSpec,
    TagSpec,
    UnlockSpec,
    VerifySpec,
)
from restic_manager.server.store.references import resolve_id
from restic_manager.server.store.schema import schedules

HOST_ZONE: Final = "host"
"""The time zone of a schedule that stands for each host's own."""

ScheduledSpec = (
    BackupSpec
    | ForgetSpec
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
)
"""What a schedule can run: everything but what is done once, or only looked at."""

_spec: Final[msgspec.json.Decoder[ScheduledSpec]] = msgspec.json.Decoder(ScheduledSpec)
_rule: Final = msgspec.json.Decoder(TargetRule)
_retention: Final = msgspec.json.Decoder(Retention)
_guards: Final = msgspec.json.Decoder(Guards)
_hooks: Final = msgspec.json.Decoder(Hooks)


class ScheduleRow(Struct, frozen=True, kw_only=True):
    """One schedule, its timing as the operator wrote it (may hold `H`, and the zone `host`). Durations in seconds.

    retention, guards: of backups only; None for keeping everything, and for the usual guards.
    """

    id: str
    name: str
    kind: Kind
    spec: ScheduledSpec
    repo_id: str
    rule: TargetRule
    overlap: Overlap
    offline: Offline
    max_lateness: int | None
    created_at: datetime
    removed_at: datetime | None
    revision: int
    cron: str
    timezone: str
    splay: int
    enabled: bool
    retry: int
    retry_backoff: int
    time_limit: int | None
    stall_limit: int | None
    retention: Retention | None = None
    guards: Guards | None = None
    hooks: Hooks | None = None

    @property
    def limits(self) -> Limits:
        """The bounds of each run."""
        return Limits(time_limit=self.time_limit, stall_limit=self.stall_limit)


_BY_ID = sqlalchemy.select(schedules).where(schedules.c.id == sqlalchemy.bindparam("schedule_id"))


def get(tx: Connection, schedule_id: str) -> ScheduleRow:
    """Given an id, return the schedule, removed or not; raise NotFoundError if there never was one."""
    found = find(tx, schedule_id)
    if found is None:
        raise NotFoundError(f"there is no schedule {schedule_id[:80]!r}")
    return found


def find(tx: Connection, schedule_id: str) -> ScheduleRow | None:
    """Given an id, return the schedule, removed or not; None if there never was one."""
    row = tx.execute(_BY_ID, {"schedule_id": schedule_id}).mappings().first()
    return None if row is None else row_of(row)


_HOOKS = sqlalchemy.select(schedules.c.hooks).where(
    schedules.c.id == sqlalchemy.bindparam("schedule_id"), schedules.c.kind == sqlalchemy.bindparam("kind")
)


def hooks_of(tx: Connection, schedule_id: str | None, kind: Kind) -> Hooks | None:
    """Given whose a job is and its kind, return the hooks to run round it; what follows from a schedule's own job, like
    the forget after a backup, has none.
    """
    if schedule_id is None:
        return None
    text: str | None = tx.execute(_HOOKS, {"schedule_id": schedule_id, "kind": kind.value}).scalar()
    return None if text is None else _hooks.decode(text)


def resolve(tx: Connection, reference: str) -> ScheduleRow:
    """Given a name or the beginning of an id, return the schedule; raise NotFoundError for none or several."""
    return get(tx, resolve_id(tx, schedules, reference, "schedule"))


def all_schedules(tx: Connection) -> list[ScheduleRow]:
    """Return every schedule that is not removed, by name."""
    query = sqlalchemy.select(schedules).where(schedules.c.removed_at.is_(None)).order_by(schedules.c.name)
    return [row_of(row) for row in tx.execute(query).mappings()]


def of_rules(tx: Connection) -> list[ScheduleRow]:
    """Return every schedule that is not removed whose rule selects hosts by their labels, or all of them."""
    return [row for row in all_schedules(tx) if not row.rule.hosts]


def row_of(row: Any) -> ScheduleRow:
    """Given a mapping with every column of the schedules table, return its value."""
    return ScheduleRow(
        id=row["id"],
        name=row["name"],
        kind=Kind(row["kind"]),
        spec=_spec.decode(row["spec"]),
        repo_id=row["repo_id"],
        rule=_rule.decode(row["target_rule"]),
        overlap=Overlap(row["overlap"]),
        offline=Offline(row["offline"]),
        max_lateness=row["max_lateness"],
        created_at=row["created_at"],
        removed_at=row["removed_at"],
        revision=row["revision"],
        cron=row["cron"],
        timezone=row["timezone"],
        splay=row["splay"],
        enabled=row["enabled"],
        retry=row["retry"],
        retry_backoff=row["retry_backoff"],
        time_limit=row["time_limit"],
        stall_limit=row["stall_limit"],
        retention=None if row["retention"] is None else _retention.decode(row["retention"]),
        guards=None if row["guards"] is None else _guards.decode(row["guards"]),
        hooks=None if row["hooks"] is None else _hooks.decode(row["hooks"]),
    )
