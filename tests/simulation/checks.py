"""The invariants, judged from the rows, the journals and the book of what really ran. Shares no code with the product.

Slots are enumerated by brute force from the server's record of who ran what when.
"""

from __future__ import annotations

import bisect
import itertools
import re
import sqlite3
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import trio

from tests.domain.cron_oracle import slots as brute_slots

if TYPE_CHECKING:
    from tests.simulation.play import Result
    from tests.simulation.world import World

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
DAY: Final = timedelta(days=1)
SECOND: Final = timedelta(seconds=1)


def at(micros: int) -> datetime:
    """Given a stored moment, return it."""
    return EPOCH + timedelta(microseconds=micros)


@dataclass(frozen=True)
class Interval:
    """One (schedule, host, revision) of the server's record."""

    schedule_id: str
    host_id: str
    revision: int
    cron: str
    zone: str
    anchor: datetime
    begins: datetime
    ends: datetime | None
    enabled: bool


class Slots:
    """Every slot of a timing in the simulated time, found once by brute force."""

    def __init__(self, start: datetime, end: datetime) -> None:
        self._start, self._end = start - 2 * DAY, end + 2 * DAY
        self._known: dict[tuple[str, str, datetime], list[datetime]] = {}

    def of(self, one: Interval, after: datetime, through: datetime) -> list[datetime]:
        """Return the slots of this interval's timing in (after, through]."""
        key = (one.cron, one.zone, one.anchor)
        if key not in self._known:
            self._known[key] = self._enumerate(one)
        return [slot for slot in self._known[key] if after < slot <= through]

    def _enumerate(self, one: Interval) -> list[datetime]:
        every = re.fullmatch(r"@every (?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", one.cron)
        if every is None:
            return list(brute_slots(one.cron, one.zone, self._start, self._end))
        hours, minutes, seconds = (int(part or 0) for part in every.groups())
        step, slot = timedelta(hours=hours, minutes=minutes, seconds=seconds), one.anchor
        found = []
        while slot <= self._end:
            slot += step
            found.append(slot)
        return found


def unsettled(world: World) -> list[str]:
    """Return what is still under way, in words; nothing when all is quiet."""
    left: list[str] = []
    services = world.server.services
    if services is None:
        return ["the server is down"]
    with closing(sqlite3.connect(world.server.path)) as db:
        db.row_factory = sqlite3.Row
        for job in db.execute("SELECT id, status, host_id, kind FROM jobs WHERE status IN ('queued', 'running')"):
            left.append(f"job {job['id']} ({job['kind']}) of {_name(world, job['host_id'])} is {job['status']}")
        versions = {row["id"]: row for row in db.execute("SELECT * FROM hosts WHERE removed_at IS NULL")}
    for host in world.hosts:
        if host.host_id is None or not services.hub.online(host.host_id):
            left.append(f"{host.name} is not online")
            continue
        row = versions.get(host.host_id)
        if row is not None and row["schedule_version"] != row["applied_schedule_version"]:
            left.append(f"{host.name} has not applied its set")
        with closing(sqlite3.connect(host.journal)) as db:
            waiting = db.execute("SELECT COUNT(*) FROM outbox").fetchone()[0]
            fires = db.execute("SELECT schedule_id, role, slot, sent FROM fires").fetchall()
            running = db.execute("SELECT job_id FROM jobs WHERE state = 'running'").fetchall()
        if waiting:
            left.append(f"{host.name}: {waiting} reports wait in the outbox")
        left += [f"{host.name}: fire {fire} is open" for fire in fires]
        left += [f"{host.name}: job {job_id} runs" for (job_id,) in running]
    return left


def untold(world: World) -> list[str]:
    """Return slots of what is in force that nobody has said anything of, when everybody has long been well again.

    Judged before the operator ends the schedules: from then on the server closes what is left.
    """
    now = world.instant(trio.current_time())
    slots = Slots(world.setting.start, now)
    with closing(sqlite3.connect(world.server.path)) as db:
        db.row_factory = sqlite3.Row
        intervals = [one for one in _intervals(db) if one.ends is None and one.enabled]
        told = defaultdict(list)
        for row in db.execute("SELECT schedule_id, host_id, first_slot, last_slot FROM fates ORDER BY first_slot"):
            told[row["schedule_id"], row["host_id"]].append((at(row["first_slot"]), at(row["last_slot"])))
    found: list[str] = []
    for host in world.hosts:
        if abs(host.clock.offset) > timedelta(minutes=9):
            continue  # the slots its clock was wrong about are not its own again yet
        with closing(sqlite3.connect(host.journal)) as db:
            fires = db.execute("SELECT schedule_id, MIN(slot) FROM fires GROUP BY schedule_id").fetchall()
        waiting = {schedule_id: at(slot) for schedule_id, slot in fires}
        fuzz = timedelta(seconds=5) + host.clock.worst
        for one in intervals:
            if one.host_id != host.host_id:
                continue
            through = min(now - timedelta(minutes=10), waiting.get(one.schedule_id, now) - SECOND)
            rows = told[one.schedule_id, one.host_id]
            firsts = [first for first, _ in rows]
            for slot in slots.of(one, one.begins + fuzz, through):
                if any(
                    world.instant(since - 600) - fuzz <= slot <= world.instant(until) for since, until in world.restores
                ):
                    continue  # what the server itself had decided of it is forgotten, and no agent knows it
                place = bisect.bisect_right(firsts, slot) - 1
                if place < 0 or rows[place][1] < slot:
                    found.append(f"nobody tells of {_pair(world, (one.schedule_id, one.host_id))} slot {slot}")
    return found


def check(world: World, result: Result) -> None:
    """Judge the whole run; violations go into the result."""
    with closing(sqlite3.connect(world.server.path)) as db:
        db.row_factory = sqlite3.Row
        intervals = _intervals(db)
        fates = db.execute("SELECT * FROM fates").fetchall()
        jobs = {row["id"]: row for row in db.execute("SELECT * FROM jobs")}
        chunks = defaultdict(list)
        for row in db.execute("SELECT * FROM log_chunks ORDER BY job_id, first_line"):
            chunks[row["job_id"]].append(row)
        quarantine = db.execute("SELECT frame, reason FROM quarantine").fetchall()
        set_aside = " ".join(row["frame"] for row in quarantine)
        early = " ".join(row["frame"] for row in quarantine if "in the future" in row["reason"])
        acked = {
            (row["host_id"], row["journal_id"]): row["acked_through"] for row in db.execute("SELECT * FROM journals")
        }
    result.violations += world.book.violations
    _check_fates(world, result, intervals, fates)
    _check_runs(world, result, jobs, set_aside, early)
    _check_alive(world, result, intervals, fates)
    _check_logs(world, result, jobs, chunks)
    _check_acks(world, result, acked)
    _check_verdicts(world, result, jobs, set_aside)


def _intervals(db: sqlite3.Connection) -> list[Interval]:
    return [
        Interval(
            row["schedule_id"],
            row["host_id"],
            row["revision"],
            row["cron"],
            row["timezone"],
            at(row["anchor"]),
            at(row["valid_from"]),
            None if row["valid_to"] is None else at(row["valid_to"]),
            bool(row["enabled"]),
        )
        for row in db.execute("SELECT * FROM assignments ORDER BY id")
    ]


def _check_fates(world: World, result: Result, intervals: list[Interval], fates: list[Any]) -> None:
    """One fate a slot."""
    end = world.setting.start + timedelta(days=world.setting.days + 1)
    slots = Slots(world.setting.start, end)
    by_pair: dict[tuple[str, str], list[Interval]] = defaultdict(list)
    for one in intervals:
        by_pair[one.schedule_id, one.host_id].append(one)
    # A row stands for every slot of the record from its first to its last, and no two of a pair share an instant.
    stretches: dict[tuple[str, str], list[tuple[datetime, datetime, str]]] = defaultdict(list)
    clocks = {host.host_id: host.clock for host in world.hosts}

    def fuzz_of(host_id: str) -> timedelta:
        """Near the ends of an interval a clock that is off may rightly take a slot for the neighbour's."""
        clock = clocks.get(host_id)
        return timedelta(seconds=5) + (clock.worst if clock is not None else timedelta())

    for row in fates:
        pair = row["schedule_id"], row["host_id"]
        result.fates[row["fate"]] += row["count"]
        first, last = at(row["first_slot"]), at(row["last_slot"])
        told = f"{row['fate']} ({row['reason']}) rev {row['revision']} by {row['decided_by']}"
        said = f"{_pair(world, pair)} {first}..{last} {told}"
        timing = next((one for one in by_pair[pair] if one.revision == row["revision"]), None)
        if timing is None:
            stretches[pair].append((first, last, told))
            if not world.restores:  # a copy has forgotten what it was changed to
                result.violations.append(f"fate of an unknown revision: {said}")
            continue
        covered = slots.of(timing, first - SECOND, last)
        owned = [one for one in by_pair[pair] if one.revision == row["revision"]]
        fuzz = fuzz_of(pair[1])
        # What is counted are the slots the server's record has in that time; only where it has none, the agent's own.
        least, most = (
            sum(
                len(slots.of(one, max(one.begins + by, first - SECOND), min((one.ends or end) - by, last)))
                for one in by_pair[pair]
            )
            for by in (fuzz, -fuzz)
        )
        if row["fate"] == "ran":
            least = most = 1
        if not (least <= row["count"] <= most or (least == 0 and row["count"] == len(covered))):
            result.violations.append(f"fate counts {row['count']}, {least} to {most} slots are in it: {said}")
        if first <= min(one.begins for one in owned) - fuzz:
            result.violations.append(f"a fate from before its revision: {said}")
        ends = [one.ends for one in owned]
        # An agent that was away goes by the revision it knows; the server knows better.
        if row["decided_by"] == "server" and None not in ends and last > max(one for one in ends if one) + fuzz:
            result.violations.append(f"the server's word of slots after their revision: {said}")
        # What a copy of the server has forgotten, the hosts went by: nothing in it explains such a run.
        forgotten = any(world.instant(since) <= first <= world.instant(until) + DAY for since, until in world.restores)
        if row["fate"] == "ran" and not covered and not forgotten:
            result.violations.append(f"a run of what is no slot: {said}")
        stretches[pair].append((first, last, told))
    for pair, owned in by_pair.items():
        fuzz = fuzz_of(pair[1])
        sure: set[datetime] = set()
        for one in owned:
            sure.update(slots.of(one, one.begins + fuzz, (one.ends or end) - fuzz))
        result.slots += len(sure)
        rows = sorted(stretches[pair])
        for before, after in itertools.pairwise(rows):
            if after[0] <= before[1]:
                result.violations.append(f"two fates of an instant: {_pair(world, pair)} {before} and {after}")
        firsts = [first for first, _, _ in rows]
        for slot in sorted(sure):
            place = bisect.bisect_right(firsts, slot) - 1
            if place < 0 or rows[place][1] < slot:
                result.violations.append(f"no fate: {_pair(world, pair)} slot {slot}")


def _check_alive(world: World, result: Result, intervals: list[Interval], fates: list[Any]) -> None:
    """With nothing wrong any more, schedules run: whatever has happened, nobody is left without backups."""
    begin = world.setting.start + timedelta(days=world.setting.days)  # a run that hangs may last 40 minutes
    end = begin + timedelta(minutes=110)
    slots = Slots(world.setting.start, end)
    ran = {
        (row["schedule_id"], row["host_id"]) for row in fates if row["fate"] == "ran" and at(row["first_slot"]) >= begin
    }
    wrong = {host.host_id for host in world.hosts if abs(host.clock.offset) > timedelta(minutes=9)}
    for one in intervals:
        if one.begins < begin and (one.ends is None or one.ends > end) and one.enabled and one.host_id not in wrong:
            due = len(slots.of(one, begin, end))
            if due > 1 and (one.schedule_id, one.host_id) not in ran:
                pair = _pair(world, (one.schedule_id, one.host_id))
                result.violations.append(f"no backup in the calm: {pair}, {due} slots from {begin} to {end}")


def _check_runs(world: World, result: Result, jobs: dict[str, Any], set_aside: str, early: str) -> None:
    """No run twice, none without a slot or a request (or set aside, and shown); every job has ended.

    Where a host's memory was lost, the only witness of what it had not told yet is gone: that is all it may cost. Where
    it was put back to an old copy, what it did since may be done once more, and by two machines of one identity too.
    """
    result.runs = len(world.book.runs)
    for job_id, runs in world.book.by_job.items():
        lost = world.losses.get(runs[0].host, [])
        if len({run.host for run in runs}) > 1 and world.restores:
            continue  # an init that the server, put back to an old copy, gave to another host than before
        if len(runs) > 1:
            again = len(runs) - 1 <= sum(any(since <= run.at <= until for run in runs) for since, until, _ in lost)
            result.repeated += again
            if not again:
                where = ", ".join(f"{run.host} life {run.life} at {run.at:.0f}" for run in runs)
                result.violations.append(f"job {job_id} ran {len(runs)} times: {where}")
        if job_id not in jobs and not (job_id in set_aside and (world.restores or lost or job_id in early)):
            if any(since <= runs[0].at <= until for since, until, _ in lost):
                result.forgotten += 1
            else:
                result.violations.append(
                    f"job {job_id} ran on {runs[0].host} at {runs[0].at:.0f}: the server knows none"
                )
    for job_id, row in jobs.items():
        if row["status"] in {"queued", "running"}:
            result.violations.append(f"job {job_id} never ended: {row['status']}")
        if row["status"] in {"succeeded", "warning"} and job_id not in world.book.by_job:
            result.violations.append(f"job {job_id} {row['status']}, and nothing ran")


def _check_logs(world: World, result: Result, jobs: dict[str, Any], chunks: dict[str, list[Any]]) -> None:
    """Logs in order, without gaps but declared ones, equal to what was written."""
    for job_id, row in jobs.items():
        runs = world.book.by_job.get(job_id, [])
        if len(runs) > 1:
            continue  # two machines of one identity wrote it: judged in _check_runs
        written = runs[-1].lines if runs else []
        expected = 1
        for chunk in chunks.get(job_id, ()):
            first = chunk["first_line"]
            if first != expected + chunk["dropped_before"]:
                result.violations.append(f"log of {job_id}: line {first} where {expected} was expected")
            lines = chunk["text"].split("\n")
            if chunk["stream"] != "agent":
                there = [(chunk["stream"], line) for line in lines]
                if written[first - 1 : first - 1 + len(lines)] != there:
                    result.violations.append(f"log of {job_id}: lines {first}.. are not what was written")
            expected = first + len(lines)
        ended = runs and runs[-1].outcome is not None and row["verdict_by"] == "agent"
        if ended and runs[-1].outcome is not None and runs[-1].outcome.status.value == row["status"]:
            if expected - 1 < len(written):
                result.violations.append(f"log of {job_id}: {len(written)} lines written, {expected - 1} stored")


def _check_acks(world: World, result: Result, acked: dict[tuple[str, str], int]) -> None:
    """Acked means stored."""
    for host in world.hosts:
        for journal_id, through in host.acked.items():
            stored = acked.get((host.host_id or "", journal_id), 0)
            if stored < through:
                result.violations.append(f"{host.name}: acked through {through}, stored through {stored}")


def _check_verdicts(world: World, result: Result, jobs: dict[str, Any], set_aside: str) -> None:
    """The agent's verdict is the server's."""
    for host in world.hosts:
        if not host.journal.exists():
            continue
        with closing(sqlite3.connect(host.journal)) as db:
            found = db.execute("SELECT job_id, json_extract(outcome, '$.status') FROM jobs").fetchall()
        for job_id, status in found:
            row = jobs.get(job_id)
            if row is None and job_id in set_aside:
                continue
            if row is None:
                result.violations.append(f"{host.name}: its job {job_id} ({status}) is not on the server")
            elif row["status"] != status and not _put_back(world, host.name, job_id):
                result.violations.append(f"{host.name}: job {job_id} is {status} there, {row['status']} on the server")


def _put_back(world: World, host: str, job_id: str) -> bool:
    """Whether the host was put back to a copy in which this run had not ended: what it says of it now is an echo."""
    runs = world.book.by_job.get(job_id, [])
    if len({run.host for run in runs}) > 1:
        return bool(world.restores)
    return any(
        since <= run.at + 3_600 and run.at <= until for run in runs for since, until, _ in world.losses.get(host, [])
    )


def _name(world: World, host_id: str) -> str:
    return next((host.name for host in world.hosts if host.host_id == host_id), host_id)


def _pair(world: World, pair: tuple[str, str]) -> str:
    return f"{pair[0][:8]} on {_name(world, pair[1])}"
