"""Who begins and stops running what: the changes of the `assignments` table, as intervals (valid_from, valid_to].

A host that enters gets a row; one that leaves has its row ended; new timing ends every row and begins new ones; a host
whose own zone changed, or that a pause stops or lets go, or that comes again, gets a new revision alone; whoever stays
keeps the row untouched. To a (schedule, host), a revision is one interval. Each change bumps the version of exactly the
hosts it touched. Time never goes back within one history: a change made while the clock is behind the last one takes
effect where that one did. What a row becomes by itself (`turns`) becomes rows at its own instant, before any change of
it. It refuses to know rules and labels (who is to enter is an argument), and which pauses hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

import sqlalchemy
from sqlalchemy import Connection, and_, case, func, literal, select

from restic_manager.domain.cron import check_timezone, resolve_hash, splay_offset
from restic_manager.domain.errors import InputError
from restic_manager.domain.instants import whole_second
from restic_manager.domain.pausing import Pauses
from restic_manager.server.store import pauses, turns
from restic_manager.server.store.references import chunks
from restic_manager.server.store.schedules import HOST_ZONE, ScheduleRow
from restic_manager.server.store.schema import Moment, assignments, hosts, schedules

_IDS_AT_ONCE: Final = 500
_TIMING: Final = ("schedule_id", "host_id", "cron", "timezone", "splay", "anchor")
"""What a row has in common with the one it turns into."""


class Member(NamedTuple):
    """A host that is to enter, and its own zone as far as it is known to be one."""

    host_id: str
    timezone: str | None


def enter(
    tx: Connection, schedule: ScheduleRow, members: Sequence[Member], *, now: datetime, default_zone: str
) -> list[str]:
    """Given hosts that do not run the schedule now, begin a row for each; return their ids.

    One that had it before gets a new revision: the one of before may have meant something else to it.
    """
    last_ends: dict[str, datetime] = {}
    for part in chunks([member.host_id for member in members]):
        query = (
            select(assignments.c.host_id, func.max(assignments.c.valid_to).label("ended"))
            .where(assignments.c.schedule_id == schedule.id, assignments.c.host_id.in_(part))
            .group_by(assignments.c.host_id)
        )
        last_ends.update((row.host_id, row.ended) for row in tx.execute(query))
    paused = pauses.composed(tx, now)
    rows = [
        _resolved(
            schedule,
            member.host_id,
            paused,
            revision=schedule.revision + (member.host_id in last_ends),
            zone=member.timezone or default_zone,
            begins=max(now, last_ends.get(member.host_id, now)),
        )
        for member in members
    ]
    _begin(tx, rows)
    return touch(tx, [member.host_id for member in members])


def leave(tx: Connection, schedule_id: str, host_ids: Sequence[str], *, now: datetime) -> list[str]:
    """Given hosts that run the schedule now, end their rows; return their ids."""
    for part in chunks(host_ids):
        take_turns(tx, and_(_open_rows(schedule_id), assignments.c.host_id.in_(part)), now=now)
        _end(tx, and_(_open_rows(schedule_id), assignments.c.host_id.in_(part)), now)
    return touch(tx, host_ids)


def leave_all(tx: Connection, host_id: str, *, now: datetime) -> None:
    """Given a host that is removed, end every row it has in force."""
    take_turns(tx, assignments.c.host_id == host_id, now=now)
    _end(tx, and_(assignments.c.host_id == host_id, assignments.c.valid_to.is_(None)), now)
    touch(tx, [host_id])


def retime(tx: Connection, schedule: ScheduleRow, *, now: datetime, default_zone: str) -> list[str]:
    """Given a schedule with new timing and a new revision, end every row in force and begin one of the new revision.

    Return the ids of its hosts.
    """
    take_turns(tx, assignments.c.schedule_id == schedule.id, now=now)
    query = (
        select(assignments.c.host_id, assignments.c.valid_from, assignments.c.timezone, hosts.c.timezone.label("own"))
        .join(hosts, hosts.c.id == assignments.c.host_id)
        .where(_open_rows(schedule.id))
    )
    found = tx.execute(query).all()
    _end(tx, _open_rows(schedule.id), now)
    paused = pauses.composed(tx, now)
    rows = [
        _resolved(
            schedule,
            row.host_id,
            paused,
            revision=schedule.revision,
            zone=usable_zone(row.own) or default_zone,
            begins=max(now, row.valid_from),
        )
        for row in found
    ]
    _begin(tx, rows)
    return touch(tx, [row.host_id for row in found])


def rezone(tx: Connection, host_id: str, zone: str, *, now: datetime) -> bool:
    """Given a host and the zone it now says is its own, give its rows of schedules in the zone `host` that zone.

    Each of these schedules gets a new revision, for this host alone. Return whether there were any. A zone that is
    none changes nothing.
    """
    if usable_zone(zone) is None:
        return False
    stale = and_(
        assignments.c.host_id == host_id,
        assignments.c.valid_to.is_(None),
        assignments.c.timezone != zone,
        assignments.c.schedule_id == schedules.c.id,
        schedules.c.timezone == HOST_ZONE,
    )
    turned = take_turns(tx, assignments.c.host_id == host_id, now=now)
    found = tx.execute(select(assignments, schedules.c.revision.label("highest")).where(stale)).mappings().all()
    rows: list[dict[str, Any]] = []
    for row in found:
        _end(tx, assignments.c.id == row["id"], now)
        kept = {name: row[name] for name in ("schedule_id", "host_id", "cron", "splay", "anchor")}
        course = turns.columns(turns.outlook_of(row), row["highest"] + 1)
        rows.append({**kept, **course, "timezone": zone, "valid_from": max(now, row["valid_from"])})
    _begin(tx, rows)
    if rows:
        touch(tx, [host_id])
    return bool(rows or turned)


def switch(
    tx: Connection,
    paused: Pauses,
    *,
    host_id: str | None = None,
    schedule_id: str | None = None,
    begun_by: datetime | None = None,
    now: datetime,
) -> list[str]:
    """Given the pauses that hold from now on, let what runs against them stop, and what they let go run.

    Of this host or schedule where one is given, else of the fleet; of what had begun by an instant where one is given.
    What is to be when they have ended is written down, too. Each schedule that is touched gets new revisions, for
    exactly the hosts for which something changes. Return the ids of these hosts.
    """
    concerned = [
        column == value
        for column, value in ((assignments.c.host_id, host_id), (assignments.c.schedule_id, schedule_id))
        if value is not None
    ]
    turned = take_turns(tx, *concerned, now=now)
    query = (
        select(assignments, schedules.c.enabled.label("own"), schedules.c.revision.label("highest"))
        .join(schedules, schedules.c.id == assignments.c.schedule_id)
        .where(assignments.c.valid_to.is_(None), *concerned)
    )
    if begun_by is not None:
        query = query.where(assignments.c.valid_from <= begun_by)
    stale: list[int] = []
    rows: list[dict[str, Any]] = []
    for row in tx.execute(query).mappings():
        outlook = paused.outlook(row["schedule_id"], row["host_id"], enabled=row["own"])
        if outlook != turns.outlook_of(row):
            stale.append(row["id"])
            kept = {name: row[name] for name in _TIMING}
            course = turns.columns(outlook, row["highest"] + 1)
            rows.append({**kept, **course, "valid_from": max(now, row["valid_from"])})
    for start in range(0, len(stale), _IDS_AT_ONCE):
        _end(tx, assignments.c.id.in_(stale[start : start + _IDS_AT_ONCE]), now)
    _begin(tx, rows)
    return sorted({*turned, *touch(tx, [row["host_id"] for row in rows])})


def take_turns(tx: Connection, *which: sqlalchemy.ColumnElement[bool], now: datetime) -> list[str]:
    """Make rows of the turns whose instant has come, each at its own; return the ids of the hosts whose set changed.

    which: of these rows; none for all.
    """
    query = (
        select(assignments, hosts.c.schedule_version)
        .join(hosts, hosts.c.id == assignments.c.host_id)
        .where(assignments.c.valid_to.is_(None), assignments.c.turn_at <= now, *which)
    )
    over: dict[datetime, list[int]] = {}
    rows: list[dict[str, Any]] = []
    for row in tx.execute(query).mappings():
        over.setdefault(row["turn_at"], []).append(row["id"])
        coming = turns.read(row["turns"])
        passed = [turn for turn in coming if turn.at <= now]
        begins = row["valid_from"]
        for number, turn in enumerate(passed, start=1):
            begins, last = max(begins, turn.at), number == len(passed)
            rows.append(
                {
                    **{name: row[name] for name in _TIMING},
                    **turns.columns_of(coming[number:] if last else ()),
                    "revision": turn.revision,
                    "enabled": turn.enabled,
                    "off_reason": turn.off_reason,
                    "valid_from": begins,
                    "valid_to": None if last else max(begins, passed[number].at),
                    "ended_version": None if last else row["schedule_version"] + 1,
                }
            )
    for instant, ids in over.items():
        for start in range(0, len(ids), _IDS_AT_ONCE):
            _end(tx, assignments.c.id.in_(ids[start : start + _IDS_AT_ONCE]), instant)
    if rows:
        tx.execute(assignments.insert(), rows)
    return touch(tx, [row["host_id"] for row in rows])


def begin_anew(tx: Connection, host_id: str, *, now: datetime) -> None:
    """Given a host that joins for the first time: it has had no agent, so nothing of its past holds any slot."""
    mine = assignments.c.host_id == host_id
    take_turns(tx, mine, now=now)
    tx.execute(assignments.delete().where(mine, assignments.c.valid_to.is_not(None)))
    tx.execute(assignments.update().where(mine).values(valid_from=now))
    touch(tx, [host_id])


def touch(tx: Connection, host_ids: Iterable[str]) -> list[str]:
    """Given hosts whose schedule set has changed in any way, give each set a new version; return their ids."""
    touched = sorted(set(host_ids))
    for part in chunks(touched):
        tx.execute(hosts.update().where(hosts.c.id.in_(part)).values(schedule_version=hosts.c.schedule_version + 1))
    return touched


@lru_cache(maxsize=1024)  # whole fleets share few zones, and looking for the near names of a wrong one is slow
def usable_zone(name: str | None) -> str | None:
    """Given the zone a host told (None before its first hello), return it if our tables know it, else None."""
    if name is None:
        return None
    try:
        check_timezone(name)
    except InputError:
        return None
    return name


def _open_rows(schedule_id: str) -> sqlalchemy.ColumnElement[bool]:
    return and_(assignments.c.schedule_id == schedule_id, assignments.c.valid_to.is_(None))


def _end(tx: Connection, which: sqlalchemy.ColumnElement[bool], now: datetime) -> None:
    """End rows in force, at `now` or (when the clock has gone back) where they begin, which leaves them no slot."""
    next_version = select(hosts.c.schedule_version + 1).where(hosts.c.id == assignments.c.host_id).scalar_subquery()
    instant = literal(now, Moment())
    ends = case((assignments.c.valid_from > instant, assignments.c.valid_from), else_=instant)
    tx.execute(assignments.update().where(which).values(valid_to=ends, ended_version=next_version))


def _begin(tx: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows, and note which revisions they have used up."""
    highest: dict[str, int] = {}
    for row in rows:
        highest[row["schedule_id"]] = max(highest.get(row["schedule_id"], 0), turns.last_revision(row))
    for schedule_id, revision in highest.items():
        used = and_(schedules.c.id == schedule_id, schedules.c.revision < revision)
        tx.execute(schedules.update().where(used).values(revision=revision))
    if rows:
        tx.execute(assignments.insert(), rows)


def _resolved(
    schedule: ScheduleRow, host_id: str, paused: Pauses, *, revision: int, zone: str, begins: datetime
) -> dict[str, Any]:
    """The row of one host: `H`, splay, zone and the pauses that hold become this host's own."""
    return {
        **turns.columns(paused.outlook(schedule.id, host_id, enabled=schedule.enabled), revision),
        "schedule_id": schedule.id,
        "host_id": host_id,
        "cron": resolve_hash(schedule.cron, host_id=host_id, schedule_id=schedule.id),
        "timezone": zone if schedule.timezone == HOST_ZONE else schedule.timezone,
        "splay": splay_offset(schedule.splay, host_id=host_id, schedule_id=schedule.id),
        "anchor": whole_second(schedule.created_at),
        "valid_from": begins,
    }
