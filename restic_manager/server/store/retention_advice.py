"""What a schedule's retention should be warned of: rules that can never be filled, and a forget that nobody may do.

Decides what deserves a warning, from the rows; changes nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Final

from sqlalchemy import Connection, select

from restic_manager.domain.cron import Timetable, resolve_hash
from restic_manager.domain.instants import whole_second
from restic_manager.domain.model import Kind, Timing
from restic_manager.domain.retention import never_filled
from restic_manager.server.store import assignments, repos
from restic_manager.server.store.repos import RepoRow
from restic_manager.server.store.schedules import HOST_ZONE, ScheduleRow
from restic_manager.server.store.schema import schedules

_SLOTS_LOOKED_AT: Final = 15
_REMOVING: Final = (Kind.FORGET, Kind.PRUNE, Kind.TAG)
"""Kinds that an append-only storage refuses to whoever is not its maintainer."""


def warnings(tx: Connection, schedule: ScheduleRow) -> tuple[str, ...]:
    """Given a schedule, return what its retention, or what it removes, should be warned of, each in a sentence."""
    if schedule.retention is not None:
        unfilled = never_filled(schedule.retention, usual_gap(schedule))
        return (*unfilled, *_nobody_forgets(repos.get(tx, schedule.repo_id)))
    if schedule.kind not in _REMOVING:
        return ()
    repo = repos.get(tx, schedule.repo_id)
    others = [host_id for host_id in assignments.hosts_of(tx, schedule.id) if host_id != repo.maintainer_id]
    if not repo.append_only or not others:
        return ()
    return (f"repository {repo.name} is append-only, and only its maintainer can {schedule.kind} there",)


def repo_warnings(tx: Connection, repo: RepoRow) -> tuple[str, ...]:
    """Given a repository, return what it should be warned of: that the retention of its schedules is not applied."""
    nobody = _nobody_forgets(repo)
    keeping = select(schedules.c.id).where(
        schedules.c.repo_id == repo.id, schedules.c.removed_at.is_(None), schedules.c.retention.is_not(None)
    )
    return nobody if nobody and tx.execute(keeping.limit(1)).first() is not None else ()


def usual_gap(schedule: ScheduleRow) -> timedelta | None:
    """Given a schedule, return the usual time between two of its slots; None if it has fewer than two."""
    table = Timetable(
        Timing(
            cron=resolve_hash(schedule.cron, host_id=schedule.id, schedule_id=schedule.id),
            timezone="UTC" if schedule.timezone == HOST_ZONE else schedule.timezone,
            anchor=whole_second(schedule.created_at),
        )
    )
    slots: list[datetime] = []
    slot = table.first_after(schedule.created_at)
    while slot is not None and len(slots) < _SLOTS_LOOKED_AT:
        slots.append(slot)
        slot = table.first_after(slot)
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(slots)]
    return timedelta(seconds=median(gaps)) if gaps else None


def _nobody_forgets(repo: RepoRow) -> tuple[str, ...]:
    if repo.append_only and repo.maintainer_per_job:
        said = (
            f"the login with which one may delete in repository {repo.name} comes with each job and is kept nowhere, so"
        )
        return (
            f"{said} nothing is forgotten there by itself: `restic-manager job run forget --maintainer-env-file F`",
        )
    if not repo.append_only or repo.maintainer_id is not None:
        return ()
    said = f"repository {repo.name} is append-only and has no maintainer, so nothing is ever forgotten there: name one "
    return (said + f"(`restic-manager repo maintenance {repo.name} --maintainer HOST`)",)
