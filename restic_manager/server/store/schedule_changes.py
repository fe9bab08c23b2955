"""What an operator does to a schedule: add, edit, remove. Owns what such a change touches.

Timing (cron, zone, splay, enabled) makes a new revision for every host; targets touch only hosts that come or go;
anything else that hosts are told only gives their sets a new version; retention and guards are the server's alone.
Every change returns the ids of the hosts whose set changed. What is refused of a value is `schedule_checks`. It refuses
to know sessions and views.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, select

from restic_manager.domain.errors import InputError
from restic_manager.domain.model import Kind, Offline, Spec, kind_of, new_id
from restic_manager.domain.names import check_labels, check_name
from restic_manager.domain.selectors import TargetRule
from restic_manager.domain.specs import BackupSpec
from restic_manager.protocol.api import ScheduleEdit, ScheduleRequest
from restic_manager.server.store import assignments, events, hosts, membership, repos
from restic_manager.server.store.membership import Member
from restic_manager.server.store.references import refuse_taken_name
from restic_manager.server.store.schedule_checks import (
    check_timing,
    checked_backoff,
    checked_guards,
    checked_hooks,
    checked_lateness,
    checked_limit,
    checked_retention,
    checked_spec,
)
from restic_manager.server.store.schedules import ScheduleRow
from restic_manager.server.store.schema import host_labels
from restic_manager.server.store.schema import hosts as host_rows
from restic_manager.server.store.schema import schedules as schedule_rows

_SPEC_FIELDS: Final = tuple(name for name in BackupSpec.__struct_fields__ if name in ScheduleEdit.__struct_fields__)
"""What of a backup's spec an edit can change one by one."""


class Changed(NamedTuple):
    """A schedule as it is now, and the hosts whose set changed."""

    schedule: ScheduleRow
    hosts: list[str]


def add(tx: Connection, request: ScheduleRequest, *, now: datetime, default_zone: str) -> Changed:
    """Given a request, store the schedule and who runs it from now on.

    Raise InputError naming what cannot be right, NotFoundError for an unknown host or repository, ConflictError for a
    name in use. default_zone: the server's, which a request without a zone gets for good.
    """
    check_name(request.name, "schedule")
    refuse_taken_name(tx, schedule_rows, request.name, "schedule")
    timezone = request.timezone or default_zone
    check_timing(request.cron, timezone, request.splay)
    kind = kind_of(request.spec)
    repo_id = repos.resolve(tx, request.repo).id
    schedule = ScheduleRow(
        id=new_id(),
        name=request.name,
        kind=kind,
        spec=checked_spec(tx, request.spec, repo_id),
        repo_id=repo_id,
        rule=_rule(tx, hosts_=request.hosts, labels=request.labels, everyone=request.all),
        overlap=request.overlap,
        offline=request.offline if kind is Kind.BACKUP else Offline.WAIT,
        max_lateness=checked_lateness(request.max_lateness),
        created_at=now,
        removed_at=None,
        revision=1,
        cron=request.cron,
        timezone=timezone,
        splay=request.splay,
        enabled=request.enabled,
        retry=request.retry,
        retry_backoff=checked_backoff(request.retry_backoff),
        time_limit=checked_limit(request.time_limit, "time"),
        stall_limit=checked_limit(request.stall_limit, "stall"),
        retention=checked_retention(kind, request.retention),
        guards=checked_guards(kind, request.guards),
        hooks=checked_hooks(request.hooks),
    )
    tx.execute(schedule_rows.insert().values(_columns(schedule)))
    entered = membership.enter(tx, schedule, members_of(tx, schedule.rule), now=now, default_zone=default_zone)
    _note(tx, now, "schedule_added", f"schedule {schedule.name}: {schedule.cron} ({schedule.timezone})")
    return Changed(_as_stored(tx, schedule), entered)


def edit(tx: Connection, schedule: ScheduleRow, change: ScheduleEdit, *, now: datetime, default_zone: str) -> Changed:
    """Given what to change, change it, and nothing of what stays the same. Raise as `add` does."""
    after = _edited(tx, schedule, change, default_zone)
    if after == schedule:
        return Changed(schedule, [])
    if after.name != schedule.name:
        check_name(after.name, "schedule")
        refuse_taken_name(tx, schedule_rows, after.name, "schedule")
    retimed = _timing(after) != _timing(schedule)
    if retimed:
        check_timing(after.cron, after.timezone, after.splay)
        after = msgspec.structs.replace(after, revision=schedule.revision + 1)
    tx.execute(schedule_rows.update().where(schedule_rows.c.id == after.id).values(_columns(after)))

    changed: set[str] = set()
    if after.rule != schedule.rule:
        members = {member.host_id: member for member in members_of(tx, after.rule)}
        before = set(assignments.hosts_of(tx, after.id))
        gone = sorted(before - members.keys())
        changed |= set(membership.leave(tx, after.id, gone, now=now))
    else:
        members, before = {}, set()
    stayed = (
        membership.retime(tx, after, now=now, default_zone=default_zone)
        if retimed
        else membership.touch(tx, assignments.hosts_of(tx, after.id))
        if _content(after) != _content(schedule)
        else []
    )
    changed |= set(stayed)
    come = [member for host_id, member in sorted(members.items()) if host_id not in before]
    changed |= set(membership.enter(tx, after, come, now=now, default_zone=default_zone))
    _note(tx, now, "schedule_edited", f"schedule {schedule.name}: {_difference(schedule, after)}")
    return Changed(_as_stored(tx, after), sorted(changed))


def remove(tx: Connection, schedule: ScheduleRow, *, now: datetime) -> list[str]:
    """Given a schedule, end it for every host and take its name away; its history stays."""
    changed = membership.leave(tx, schedule.id, assignments.hosts_of(tx, schedule.id), now=now)
    tx.execute(schedule_rows.update().where(schedule_rows.c.id == schedule.id).values(removed_at=now))
    _note(tx, now, "schedule_removed", f"schedule {schedule.name} was removed")
    return changed


def members_of(tx: Connection, rule: TargetRule) -> list[Member]:
    """Given a rule, return the hosts it selects now, those that were removed left out, by id."""
    query = select(host_rows.c.id, host_rows.c.timezone).where(host_rows.c.removed_at.is_(None))
    for key, value in rule.labels.items():
        query = query.where(
            host_rows.c.id.in_(
                select(host_labels.c.host_id).where(host_labels.c.key == key, host_labels.c.value == value)
            )
        )
    found = tx.execute(query.order_by(host_rows.c.id)).all()
    named = set(rule.hosts)
    return [Member(row.id, membership.usable_zone(row.timezone)) for row in found if not named or row.id in named]


def _rule(tx: Connection, *, hosts_: Sequence[str], labels: dict[str, str], everyone: bool) -> TargetRule:
    """What the operator named, by ids. Exactly one of the three is given."""
    if bool(hosts_) + bool(labels) + everyone != 1:
        raise InputError("say where it runs by exactly one of: hosts, labels, all")
    check_labels(labels)
    ids = dict.fromkeys(_host_ids(tx, hosts_))
    return TargetRule(hosts=tuple(ids), labels=dict(sorted(labels.items())), all=everyone)


def _host_ids(tx: Connection, references: Sequence[str]) -> list[str]:
    """Ids of many hosts: names, which most are, by one question for all of them."""
    if not references:
        return []
    query = select(host_rows.c.name, host_rows.c.id).where(host_rows.c.removed_at.is_(None))
    by_name = {row.name: row.id for row in tx.execute(query)}
    return [by_name.get(reference) or hosts.resolve(tx, reference).id for reference in references]


def _edited(tx: Connection, schedule: ScheduleRow, change: ScheduleEdit, default_zone: str) -> ScheduleRow:
    """The schedule with what the edit names. What is UNSET stays as it is."""
    plain = ("name", "cron", "splay", "overlap", "offline", "enabled", "retry")
    fields: dict[str, Any] = {name: getattr(change, name) for name in plain if getattr(change, name) is not UNSET}
    if not isinstance(change.timezone, UnsetType):
        fields["timezone"] = change.timezone or default_zone
    if not isinstance(change.max_lateness, UnsetType):
        fields["max_lateness"] = checked_lateness(change.max_lateness)
    if not isinstance(change.retry_backoff, UnsetType):
        fields["retry_backoff"] = checked_backoff(change.retry_backoff)
    if not isinstance(change.time_limit, UnsetType):
        fields["time_limit"] = checked_limit(change.time_limit, "time")
    if not isinstance(change.stall_limit, UnsetType):
        fields["stall_limit"] = checked_limit(change.stall_limit, "stall")
    if not isinstance(change.repo, UnsetType):
        fields["repo_id"] = repos.resolve(tx, change.repo).id
    if any(not isinstance(part, UnsetType) for part in (change.hosts, change.labels, change.all)):
        fields["rule"] = _rule(
            tx,
            hosts_=() if isinstance(change.hosts, UnsetType) else change.hosts,
            labels={} if isinstance(change.labels, UnsetType) else change.labels,
            everyone=change.all is True,
        )
    if schedule.kind is not Kind.BACKUP and change.offline is Offline.RUN:
        raise InputError(f"only a backup runs while the server is away: a {schedule.kind} waits for it (offline wait)")
    if not isinstance(change.retention, UnsetType):
        fields["retention"] = checked_retention(schedule.kind, change.retention)
    fields |= _edited_rest(schedule, change)
    spec = _edited_spec(schedule, change)
    if spec is not schedule.spec or "repo_id" in fields:
        fields["spec"] = checked_spec(tx, spec, fields.get("repo_id", schedule.repo_id))
    return msgspec.structs.replace(schedule, **fields)


def _edited_rest(schedule: ScheduleRow, change: ScheduleEdit) -> dict[str, Any]:
    """The guards and hooks that the edit names."""
    fields: dict[str, Any] = {}
    if not isinstance(change.guards, UnsetType):
        fields["guards"] = checked_guards(schedule.kind, change.guards)
    if not isinstance(change.hooks, UnsetType):
        fields["hooks"] = checked_hooks(change.hooks)
    return fields


def _edited_spec(schedule: ScheduleRow, change: ScheduleEdit) -> Spec:
    """The spec with what the edit says of it; the very same where it says nothing."""
    content = {name: getattr(change, name) for name in _SPEC_FIELDS if getattr(change, name) is not UNSET}
    if not isinstance(change.spec, UnsetType):
        if content:
            raise InputError(f"the whole spec or single fields of it ({', '.join(content)}): give one of the two")
        kind = kind_of(change.spec)
        if kind is not schedule.kind:
            raise InputError(
                f"schedule {schedule.name} is a {schedule.kind} and stays one: add another schedule for a {kind}"
            )
        return change.spec
    if not content:
        return schedule.spec
    if not isinstance(schedule.spec, BackupSpec):
        raise InputError(
            f"{', '.join(content)} can be changed one by one for backups only: give the whole spec of this "
            f"{schedule.kind}"
        )
    return msgspec.structs.replace(schedule.spec, **content)


def _as_stored(tx: Connection, schedule: ScheduleRow) -> ScheduleRow:
    """With the highest revision as it is now: whoever comes may have used up more."""
    highest = tx.execute(select(schedule_rows.c.revision).where(schedule_rows.c.id == schedule.id)).scalar_one()
    return msgspec.structs.replace(schedule, revision=highest)


def _timing(schedule: ScheduleRow) -> tuple[object, ...]:
    """What a revision stands for."""
    return schedule.cron, schedule.timezone, schedule.splay, schedule.enabled


def _content(schedule: ScheduleRow) -> tuple[object, ...]:
    """What else of it the hosts are told."""
    return (
        schedule.name,
        schedule.spec,
        schedule.repo_id,
        schedule.overlap,
        schedule.offline,
        schedule.max_lateness,
        schedule.limits,
        schedule.hooks,
    )


def _columns(schedule: ScheduleRow) -> dict[str, Any]:
    columns = {name: getattr(schedule, name) for name in ScheduleRow.__struct_fields__}
    columns["target_rule"] = msgspec.json.encode(columns.pop("rule")).decode()
    for name in ("spec", "retention", "guards", "hooks"):
        columns[name] = None if columns[name] is None else msgspec.json.encode(columns[name]).decode()
    return columns


def _difference(before: ScheduleRow, after: ScheduleRow) -> str:
    """Which fields changed, for the record. Not their values: paths may be many."""
    names = (name for name in ScheduleRow.__struct_fields__ if name != "revision")
    return "changed " + ", ".join(name for name in names if getattr(before, name) != getattr(after, name))


def _note(tx: Connection, now: datetime, what: str, detail: str) -> None:
    events.record(tx, now=now, actor="operator", what=what, detail=detail)
