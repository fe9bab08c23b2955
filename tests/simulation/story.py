"""One seed's story: hosts, schedules, a list of faults at instants, and what has to hold when all has settled.

The faults are a plain list made from the seed before anything runs, so that a failing story is shrunk by leaving items
out and replayed exactly.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trio
import trio.testing
from sqlalchemy import select

from restic_manager.agent import records
from restic_manager.agent.identity import Identity
from restic_manager.domain.cron import Timetable
from restic_manager.domain.model import BackupSpec, Overlap, Status, Timing
from restic_manager.domain.pausing import Scope
from restic_manager.protocol.api import RunRequest, ScheduleEdit, ScheduleRequest
from restic_manager.server.store import (
    host_changes,
    hosts,
    pause_changes,
    pauses,
    repos,
    schedule_changes,
    schedules,
)
from restic_manager.server.store.pause_changes import FLEET, Target
from restic_manager.server.store.schema import assignments, fates, jobs, log_chunks
from tests.simulation.world import SimHost, World, open_world

START = datetime(2026, 3, 28, 18, 0, tzinfo=UTC)  # a night with a change of the clocks in Europe
CRONS = (
    "*/7 * * * *",
    "@every 3m",
    "5,35 * * * *",
    "*/20 * * * *",
    "0 * * * *",
    "@every 50m",
    "15 3 * * *",
    "30 2 * * *",
)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
KINDS = ("cut", "flaky", "partition", "kill_agent", "kill_server", "step", "edit", "toggle", "run", "cancel")
PAUSES = ("pause", "resume")
"""Besides, where a story is to have them: the seeds of stories without them stay what they were."""
SETTLE = timedelta(hours=3)
"""How long everything is up and left alone before the books are checked."""


@dataclass(frozen=True)
class Fault:
    """Something that happens at an instant (seconds from the start)."""

    at: float
    kind: str
    host: int
    amount: float


@dataclass
class Result:
    """What came of a story."""

    seed: int
    slots: int = 0
    runs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


def faults_of(seed: int, *, hours: float, hosts: int, kinds: Sequence[str] = KINDS) -> list[Fault]:
    """Given a seed, return its faults: about one an hour and host."""
    dice = random.Random(seed)
    count = int(hours * hosts) if kinds else 0
    made = [
        Fault(dice.uniform(60, hours * 3600), dice.choice(kinds), dice.randrange(hosts), dice.random())
        for _ in range(count)
    ]
    return sorted(made, key=lambda fault: fault.at)


def play(seed: int, faults: Sequence[Fault], *, hours: float, hosts: int) -> Result:
    """Given a seed and faults, live the story and check the books."""
    result = Result(seed)
    random.seed(seed)  # the product's jitter
    memory = Path("/dev/shm")  # where there is one: every commit is synced, and nothing here outlives the process
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        trio.run(_play, Path(folder), result, faults, hours, hosts, clock=trio.testing.MockClock(autojump_threshold=0))
    return result


async def _play(folder: Path, result: Result, faults: Sequence[Fault], hours: float, count: int) -> None:
    async with open_world(folder, result.seed, START) as world:
        await _furnish(world, count)
        for host in world.hosts:
            await host.start()
        began = trio.current_time()
        for fault in faults:
            await trio.sleep_until(began + fault.at)
            if await _happen(world, fault):
                result.faults[fault.kind] += 1
        await trio.sleep_until(began + hours * 3600)
        horizon = world.clock.now()
        await world.start_server()
        for host in world.hosts:
            host.cut_off_until = 0.0
            host.flaky = None
            await host.start()
        await trio.sleep(SETTLE.total_seconds())
        await _check(world, result, horizon)
        result.runs = len(world.runs)


async def _furnish(world: World, count: int) -> None:
    for number in range(count):
        await _add_host(world, number)
    assert world.server is not None
    seal = world.server.services.sealer.seal
    now = world.clock.now()
    await world.change(
        lambda tx: repos.add(tx, name="repo", url="/srv/repo", password="pw", env={}, seal=seal, now=now)
    )
    for number in range(4):
        await _add_schedule(world, number)


async def _add_host(world: World, number: int) -> None:
    name, credential, now = f"host{number}", f"rmc1-{number}", world.clock.now()
    invited = await world.change(lambda tx: host_changes.invite(tx, name=name, labels={}, now=now, default_zone="UTC"))
    digest = hashlib.sha256(credential.encode()).hexdigest()
    await world.change(lambda tx: hosts.redeem(tx, host_changes.token_sha256(invited.token), digest, now))
    identity = Identity(host_id=invited.host.id, host_name=name, credential=credential, token_sha256="t")
    world.hosts.append(SimHost(world, number, identity))


async def _add_schedule(world: World, number: int) -> None:
    request = ScheduleRequest(
        name=f"s{number}",
        cron=world.dice.choice(CRONS),
        timezone=world.dice.choice(ZONES),
        repo="repo",
        spec=BackupSpec(paths=("/etc",)),
        all=number % 2 == 0,
        hosts=() if number % 2 == 0 else (world.dice.choice(world.hosts).name,),
        overlap=world.dice.choice([Overlap.QUEUE, Overlap.SKIP]),
    )
    now = world.clock.now()
    await world.change(lambda tx: schedule_changes.add(tx, request, now=now, default_zone="UTC"))


async def _happen(world: World, fault: Fault) -> bool:
    """Let a fault happen; return whether it could."""
    host = world.hosts[fault.host]
    match fault.kind:
        case "cut":
            await host.cut()
        case "flaky":
            host.flaky = int(fault.amount * 12)
            await host.cut()
        case "partition":
            host.cut_off_until = trio.current_time() + fault.amount * 7_200
            await host.cut()
        case "kill_agent":
            host.kill()
            world.nursery.start_soon(_start_later, host, fault.amount * 3_600)
        case "kill_server":
            world.kill_server()
            world.nursery.start_soon(_serve_later, world, fault.amount * 3_600)
        case "step":
            host.clock.step(timedelta(seconds=(fault.amount - 0.5) * 600))
            host.skew = max(host.skew, abs(host.clock.now() - world.clock.now()))
        case _:
            return await _operate(world, fault)
    return True


async def _start_later(host: SimHost, seconds: float) -> None:
    await trio.sleep(seconds)
    await host.start()


async def _serve_later(world: World, seconds: float) -> None:
    await trio.sleep(seconds)
    await world.start_server()


async def _operate(world: World, fault: Fault) -> bool:
    """What operators do. Timing is only changed while every host hears it: the rest is the ledger's to close."""
    server = world.server
    if server is None or (fault.kind in {"edit", "toggle", *PAUSES} and not world.online()):
        return False
    services = server.services
    dice = random.Random(fault.amount)
    name = f"s{dice.randrange(4)}"
    now = world.clock.now()
    match fault.kind:
        case "edit" | "toggle":
            schedule = await services.store.read(lambda tx: schedules.resolve(tx, name))
            wanted = (
                ScheduleEdit(enabled=not schedule.enabled)
                if fault.kind == "toggle"
                else ScheduleEdit(cron=dice.choice(CRONS), timezone=dice.choice(ZONES))
            )
            changed = await services.store.write(
                lambda tx: schedule_changes.edit(tx, schedule, wanted, now=now, default_zone="UTC")
            )
            services.hub.sets_changed(changed.hosts)
        case "pause":
            known = await services.store.read(lambda tx: schedules.resolve(tx, name))
            host = world.hosts[fault.host].identity
            target = dice.choice(
                [FLEET, Target(Scope.HOST, host.host_id, host.host_name), Target(Scope.SCHEDULE, known.id, name)]
            )
            until = None if dice.random() < 0.15 else now + timedelta(seconds=dice.uniform(60, 7_200))
            services.hub.sets_changed(
                await services.store.write(
                    lambda tx: pause_changes.pause(tx, target, reason=str(target), until=until, now=now)
                )
            )
            services.pauses_changed.ring()
        case "resume":
            held = await services.store.read(lambda tx: pauses.holding(tx, now))
            if not held:
                return False
            one = dice.choice(held)
            paused = Target(one.scope, one.target, one.name)
            services.hub.sets_changed(await services.store.write(lambda tx: pause_changes.resume(tx, paused, now=now)))
        case "run":
            await services.dispatcher.run_schedule(name, RunRequest().host)
        case "cancel":
            query = select(jobs.c.id).where(jobs.c.status.in_(["queued", "running"])).order_by(jobs.c.serial)
            open_jobs = await services.store.read(lambda tx: list(tx.execute(query).scalars()))
            if not open_jobs:
                return False
            await services.dispatcher.cancel(dice.choice(open_jobs))
    return True


# -- the books --------------------------------------------------------------------------------------------------------


async def _check(world: World, result: Result, horizon: datetime) -> None:
    assert world.server is not None
    store = world.server.services.store
    intervals = await store.read(lambda tx: tx.execute(select(assignments).order_by(assignments.c.id)).all())
    recorded = await store.read(lambda tx: tx.execute(select(fates).order_by(fates.c.id)).all())
    made = await store.read(lambda tx: tx.execute(select(jobs).order_by(jobs.c.serial)).all())
    chunks = await store.read(lambda tx: tx.execute(select(log_chunks).order_by(log_chunks.c.first_line)).all())
    complain = result.violations.append
    settled = horizon + SETTLE - timedelta(hours=1)  # schedules go on: what began lately may still run
    for job in made:
        if not Status(job.status).terminal and job.created_at < settled:
            complain(f"job {job.id} of {job.schedule_id} is {job.status} for ever (slot {job.slot})")
    for job_id, times in Counter(run.job_id for run in world.runs).items():
        if times > 1:
            complain(f"job {job_id} ran {times} times")
    known = {job.id for job in made}
    for run in world.runs:
        if run.job_id not in known:
            complain(f"run {run.job_id} on {run.host} at {run.at} is of no job the server knows")
    _check_logs(world, result, {job.id: job for job in made}, chunks)
    skews = {host.identity.host_id: host.skew for host in world.hosts}
    _check_fates(result, intervals, recorded, horizon, skews)
    for host in world.hosts:
        assert host.journal is not None
        if await host.journal.read(records.outbox_size) > 10_000:
            complain(f"{host.name}: the outbox does not empty")


def _check_logs(world: World, result: Result, made: dict[str, Any], chunks: Sequence[Any]) -> None:
    said: dict[str, list[str]] = {}
    for chunk in chunks:
        said.setdefault(chunk.job_id, []).extend(chunk.text.split("\n"))
    for run in world.runs:
        heard = said.get(run.job_id, [])
        if run.ended and heard != run.lines:
            result.violations.append(f"log of {run.job_id}: {heard} instead of {run.lines}")
        if heard != run.lines[: len(heard)]:
            result.violations.append(f"log of {run.job_id} is out of order: {heard}")


def _slots(row: Any, after: datetime, through: datetime) -> Iterator[datetime]:
    timing = Timing(cron=row.cron, timezone=row.timezone, anchor=row.anchor)
    table = Timetable(timing)
    slot = table.first_after(after)
    while slot is not None and slot <= through:
        yield slot
        slot = table.first_after(slot)


def _check_fates(
    result: Result,
    intervals: Sequence[Any],
    recorded: Sequence[Any],
    horizon: datetime,
    skews: dict[str, timedelta],
) -> None:
    told: dict[tuple[str, str], Counter[datetime]] = {}
    by_revision = {(row.schedule_id, row.host_id, row.revision): row for row in intervals}
    words: dict[tuple[str, str, datetime], list[str]] = {}
    for fate in recorded:
        key = (fate.schedule_id, fate.host_id)
        interval = by_revision[(*key, fate.revision)]
        slots = list(_slots(interval, fate.first_slot - timedelta(seconds=1), fate.last_slot))
        if fate.reason is not None and fate.reason.startswith("already past"):
            slots = [slot for slot in slots if not told.get(key, Counter())[slot]]
        if len(slots) != fate.count:
            result.violations.append(f"{fate} counts {len(slots)} slots")
        for slot in slots:
            told.setdefault(key, Counter())[slot] += 1
            words.setdefault((*key, slot), []).append(f"{fate.fate} ({fate.reason}) rev {fate.revision}")
    for key, counter in told.items():
        for slot, times in counter.items():
            if times > 1:
                result.violations.append(f"slot {slot} of {key} has {times} fates: {words[(*key, slot)]}")
    for row in intervals:
        if not row.enabled:
            continue
        key = (row.schedule_id, row.host_id)
        # Where a host's clock is off, the server's stamps and its slots are compared after translation: near the ends
        # of an interval the slot may rightly have been taken for the neighbour's.
        skew = skews[row.host_id]
        through = min(horizon, row.valid_to or horizon) - skew
        for slot in _slots(row, row.valid_from + skew, through):
            result.slots += 1
            if not told.get(key, Counter())[slot]:
                result.violations.append(f"slot {slot} of {key}, revision {row.revision}, is unexplained")
