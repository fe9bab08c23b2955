"""Judges the calm: when nothing is wrong any more, schedules run, every slot is told of, and all comes to an end."""

from __future__ import annotations

import bisect
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import trio

from restic_manager.domain.model import slot_job_id
from tests.simulation.enumerated import SECOND, Slots, at
from tests.simulation.record import Record, read_early, read_intervals
from tests.simulation.simhost import SimHost
from tests.simulation.world import Pair, World

if TYPE_CHECKING:
    from tests.simulation.play import Result

_WRONG_CLOCK: Final = timedelta(minutes=9)
"""A clock that is off by more counts as wrong: the slots it was wrong about are not its host's own again yet."""
_NEWS: Final = timedelta(minutes=10)
"""How long the word of a slot may be under way when all are well."""
_BETWEEN: Final = timedelta(seconds=30)
"""From the end of one job to the start of the next on a host for which more is waiting."""
_OPEN_JOBS: Final = "SELECT id, status, host_id, kind FROM jobs WHERE status IN ('queued', 'running')"


def unsettled(world: World) -> list[str]:
    """Return what is still under way, in words; nothing when all is quiet."""
    services = world.server.services
    if services is None:
        return ["the server is down"]
    with closing(sqlite3.connect(world.server.path)) as db:
        db.row_factory = sqlite3.Row
        left = [
            f"job {job['id']} ({job['kind']}) of {world.name_of(job['host_id'])} is {job['status']}"
            for job in db.execute(_OPEN_JOBS)
        ]
        rows = {row["id"]: row for row in db.execute("SELECT * FROM hosts WHERE removed_at IS NULL")}
    for host in world.hosts:
        if host.host_id is None or not services.hub.online(host.host_id):
            left.append(f"{host.name} is not online")
        else:
            left += _unsettled_on(host, rows.get(host.host_id))
    return left


def _unsettled_on(host: SimHost, row: Any) -> Iterator[str]:
    if row is not None and row["schedule_version"] != row["applied_schedule_version"]:
        yield f"{host.name} has not applied its set"
    with closing(sqlite3.connect(host.journal)) as db:
        waiting = db.execute("SELECT COUNT(*) FROM outbox").fetchone()[0]
        fires = db.execute("SELECT schedule_id, role, slot, sent FROM fires").fetchall()
        running = db.execute("SELECT job_id FROM jobs WHERE state = 'running'").fetchall()
    if waiting:
        yield f"{host.name}: {waiting} reports wait in the outbox"
    for fire in fires:
        yield f"{host.name}: fire {fire} is open"
    for (job_id,) in running:
        yield f"{host.name}: job {job_id} runs"


def untold(world: World) -> list[str]:
    """Return slots of what is in force that nobody has said anything of, when everybody has long been well again.

    Judged before the operator ends the schedules: from then on the server closes what is left.
    """
    now = world.instant(trio.current_time())
    slots = Slots(world.setting.start, now)
    with closing(sqlite3.connect(world.server.path)) as db:
        db.row_factory = sqlite3.Row
        intervals = [one for one in read_intervals(db) if one.ends is None and one.enabled]
        told: dict[Pair, list[tuple[datetime, datetime]]] = defaultdict(list)
        for row in db.execute("SELECT schedule_id, host_id, first_slot, last_slot FROM fates ORDER BY first_slot"):
            told[row["schedule_id"], row["host_id"]].append((at(row["first_slot"]), at(row["last_slot"])))
        early = read_early(db)
    found: list[str] = []
    for host in world.hosts:
        if abs(host.clock.offset) > _WRONG_CLOCK:
            continue
        with closing(sqlite3.connect(host.journal)) as db:
            fires = db.execute("SELECT schedule_id, MIN(slot) FROM fires GROUP BY schedule_id").fetchall()
        waiting = {schedule_id: at(slot) for schedule_id, slot in fires}
        fuzz = timedelta(seconds=5) + host.clock.worst
        for one in intervals:
            if one.host_id != host.host_id:
                continue
            pair = one.schedule_id, one.host_id
            through = min(now - _NEWS, waiting.get(one.schedule_id, now) - SECOND)
            due = slots.of(one, one.begins + fuzz, through)
            found += [
                f"nobody tells of {world.pair(pair)} slot {slot}"
                for slot in _not_in(told[pair], due)
                # A run of a slot that was hours ahead by the server's clock is set aside, and shown as that.
                if not _forgotten(world, slot, fuzz) and slot_job_id(*pair, slot) not in early
            ]
    return found


def _forgotten(world: World, slot: datetime, fuzz: timedelta) -> bool:
    """Whether what the server itself had decided of a slot may be forgotten by a copy: no agent knows that."""
    return any(world.instant(since) - _NEWS - fuzz <= slot <= world.instant(until) for since, until in world.restores)


def _not_in(rows: list[tuple[datetime, datetime]], due: list[datetime]) -> Iterator[datetime]:
    """Given stretches in order, yield those of the slots that are in none of them."""
    firsts = [first for first, _ in rows]
    for slot in due:
        place = bisect.bisect_right(firsts, slot) - 1
        if place < 0 or rows[place][1] < slot:
            yield slot


def judge_alive(world: World, result: Result, record: Record) -> None:
    """With nothing wrong any more, schedules run: whatever has happened, nobody is left without backups."""
    begin = world.setting.start + timedelta(days=world.setting.days)  # a run that hangs may last 40 minutes
    end = begin + timedelta(minutes=110)
    slots = Slots(world.setting.start, end)
    ran = {
        (row["schedule_id"], row["host_id"])
        for row in record.fates
        if row["fate"] == "ran" and at(row["first_slot"]) >= begin
    }
    excused = {
        host.host_id
        for host in world.hosts
        if abs(host.clock.offset) > _WRONG_CLOCK or _busy_throughout(record, host.host_id, begin, end)
    }
    for one in record.intervals:
        if one.begins < begin and (one.ends is None or one.ends > end) and one.enabled and one.host_id not in excused:
            pair, due = (one.schedule_id, one.host_id), len(slots.of(one, begin, end))
            if due > 1 and pair not in ran:
                result.violations.append(
                    f"no backup in the calm: {world.pair(pair)}, {due} slots from {begin} to {end}"
                )


def _busy_throughout(record: Record, host_id: str | None, begin: datetime, end: datetime) -> bool:
    """Whether the host worked off what operators had asked of it while it was away: each of that came before."""
    busy_until = begin + _NEWS  # by then it has come back
    runs = [
        (at(job["started_at"]), at(job["finished_at"]))
        for job in record.jobs.values()
        if job["host_id"] == host_id
        and job["started_at"] is not None
        and job["finished_at"] is not None
        and job["kind"] != "snapshots"  # that only reads: a backup runs beside it
    ]
    for started, finished in sorted(runs):
        if started <= busy_until + _BETWEEN:
            busy_until = max(busy_until, finished)
    return busy_until >= end
