"""Schedules as operators see them: words, coming slots, targets, and what they should be warned of.

Built for many schedules at once with a fixed number of questions. Decides what deserves a warning; changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, select

from restic_manager.domain.cron import describe, resolve_hash
from restic_manager.domain.instants import duration_text, whole_second
from restic_manager.domain.model import BackupSpec, Kind, Timing
from restic_manager.domain.pausing import Scope
from restic_manager.domain.retention import in_words
from restic_manager.protocol.api import NextSlot, PauseView, ScheduleView, Target
from restic_manager.server.api.coming import Runner, coming, soonest_gap
from restic_manager.server.api.pauses import of_target
from restic_manager.server.store import assignments, host_policies, pauses, retention_advice, schema
from restic_manager.server.store.assignments import Assignment
from restic_manager.server.store.membership import usable_zone
from restic_manager.server.store.references import names_of
from restic_manager.server.store.schedules import HOST_ZONE, ScheduleRow

COMING = 5
"""Slots in a view."""

_NAMED = 5
"""Hosts named in a warning."""
_ON_TIME = 60
"""Seconds within which a slot counts as on time."""


class _Host(NamedTuple):
    name: str
    joined: bool
    timezone: str | None


def views(
    tx: Connection, schedules: Sequence[ScheduleRow], *, now: datetime, online: frozenset[str]
) -> list[ScheduleView]:
    """Given schedules, return their views, in the same order. online: the ids of hosts with a session."""
    known = _hosts(tx)
    repo_names = names_of(tx, schema.repos, (schedule.repo_id for schedule in schedules))
    in_force = assignments.in_force(tx, [schedule.id for schedule in schedules])
    paused = pauses.holding(tx, now)
    told = host_policies.all_told(tx)
    return [
        _view(
            schedule,
            in_force[schedule.id],
            known,
            repo_names[schedule.repo_id],
            paused=of_target(paused, Scope.SCHEDULE, schedule.id),
            advice=(
                *retention_advice.warnings(tx, schedule),
                *host_policies.warnings(tx, schedule, [one.host_id for one in in_force[schedule.id]], told),
            ),
            now=now,
            online=online,
        )
        for schedule in schedules
    ]


def view(tx: Connection, schedule: ScheduleRow, *, now: datetime, online: frozenset[str]) -> ScheduleView:
    """Given one schedule, return its view."""
    return views(tx, [schedule], now=now, online=online)[0]


def next_slots(tx: Connection, schedule: ScheduleRow, *, now: datetime, count: int) -> tuple[NextSlot, ...]:
    """Given a schedule and a count, return its coming slots over all its hosts."""
    return _coming(schedule, assignments.in_force(tx, [schedule.id])[schedule.id], _hosts(tx), now=now, count=count)


def _hosts(tx: Connection) -> dict[str, _Host]:
    query = select(schema.hosts.c.id, schema.hosts.c.name, schema.hosts.c.joined_at, schema.hosts.c.timezone)
    query = query.where(schema.hosts.c.removed_at.is_(None))
    return {row.id: _Host(row.name, row.joined_at is not None, row.timezone) for row in tx.execute(query)}


def _view(
    schedule: ScheduleRow,
    running: Sequence[Assignment],
    known: dict[str, _Host],
    repo: str,
    *,
    paused: tuple[PauseView, ...],
    advice: tuple[str, ...],
    now: datetime,
    online: frozenset[str],
) -> ScheduleView:
    # A backup's content field by field, as it always was told; of any other kind `spec` says everything.
    spec = schedule.spec
    backup = spec if isinstance(spec, BackupSpec) else BackupSpec()
    targets = [Target(name=known[one.host_id].name, online=one.host_id in online) for one in running]
    return ScheduleView(
        id=schedule.id,
        name=schedule.name,
        enabled=schedule.enabled,
        kind=schedule.kind,
        cron=schedule.cron,
        timezone=schedule.timezone,
        splay=schedule.splay,
        overlap=schedule.overlap,
        offline=schedule.offline,
        max_lateness=schedule.max_lateness,
        repo=repo,
        hosts=tuple(sorted(known[id_].name for id_ in schedule.rule.hosts if id_ in known)),
        labels=schedule.rule.labels,
        all=schedule.rule.all,
        targets=tuple(sorted(targets, key=lambda target: target.name)),
        paths=backup.paths,
        excludes=backup.excludes,
        exclude_files=backup.exclude_files,
        exclude_if_present=backup.exclude_if_present,
        exclude_caches=backup.exclude_caches,
        one_file_system=backup.one_file_system,
        tags=backup.tags,
        revision=schedule.revision,
        created_at=schedule.created_at,
        words=_words(schedule),
        next=_coming(schedule, running, known, now=now, count=COMING),
        retry=schedule.retry,
        retry_backoff=schedule.retry_backoff,
        time_limit=schedule.time_limit,
        stall_limit=schedule.stall_limit,
        spec=spec,
        retention=schedule.retention,
        guards=schedule.guards,
        hooks=schedule.hooks,
        keeps=in_words(schedule.retention) if schedule.kind is Kind.BACKUP else None,
        pauses=paused,
        warnings=(*_warnings(schedule, running, known, now), *advice),
    )


def _words(schedule: ScheduleRow) -> str:
    words = describe(schedule.cron, schedule.timezone)
    if schedule.splay:
        words += f", each host up to {_seconds(schedule.splay)} later"
    return words


def _coming(
    schedule: ScheduleRow, running: Sequence[Assignment], known: dict[str, _Host], *, now: datetime, count: int
) -> tuple[NextSlot, ...]:
    """The slots to come. None of a disabled schedule, or where it is paused; of one without hosts those it would have,
    as far as that is one answer for all hosts.
    """
    if not schedule.enabled:
        return ()
    runners = [Runner(known[one.host_id].name, one.timing) for one in running if one.enabled]
    hashed = resolve_hash(schedule.cron, host_id="", schedule_id="") != schedule.cron
    if not running and schedule.timezone != HOST_ZONE and not hashed:
        timing = Timing(cron=schedule.cron, timezone=schedule.timezone, anchor=whole_second(schedule.created_at))
        runners = [Runner("", timing)]
    return coming(runners, after=now, count=count)


def _warnings(
    schedule: ScheduleRow, running: Sequence[Assignment], known: dict[str, _Host], now: datetime
) -> list[str]:
    hosts = sorted((known[one.host_id] for one in running), key=lambda host: host.name)
    warnings: list[str] = []
    if not hosts:
        labels = " ".join(f"{key}={value}" for key, value in schedule.rule.labels.items())
        warnings.append(f"no host has the labels {labels} now" if labels else "no host runs it now")
    off = sorted(known[one.host_id].name for one in running if one.off_reason is not None)
    if off and len(off) < len(running):
        warnings.append(f"paused on {_listed(off)}")
    absent = [host.name for host in hosts if not host.joined]
    if absent:
        warnings.append(f"{_listed(absent)} {'has' if len(absent) == 1 else 'have'} never joined")
    if schedule.timezone == HOST_ZONE:
        unsure = [host.name for host in hosts if usable_zone(host.timezone) is None]
        if unsure:
            zones = sorted({one.timing.timezone for one in running if known[one.host_id].name in set(unsure)})
            warnings.append(
                f"the time zone of {_listed(unsure)} is not known: {' and '.join(zones)} is used until the host says"
            )
    if schedule.splay and running:
        gap = soonest_gap(running[0].timing, after=now)
        if gap is not None and schedule.splay >= gap.total_seconds():
            warnings.append(
                f"the splay ({_seconds(schedule.splay)}) is not shorter than the time between two slots "
                f"({duration_text(gap)}): on some hosts a slot may come due after the next one"
            )
    if schedule.max_lateness is not None and schedule.max_lateness < _ON_TIME:
        warnings.append(
            f"with a max lateness of {_seconds(schedule.max_lateness)} a host that is busy for a moment misses its slot"
        )
    return warnings


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return f"{shown} and {len(names) - _NAMED} more" if len(names) > _NAMED else shown


def _seconds(seconds: int) -> str:
    return duration_text(timedelta(seconds=seconds))
