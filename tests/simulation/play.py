"""One run of the simulation: a fleet made from a seed, days of virtual time with faults, calm, and the verdict.

Given the same seed and the same list of faults it does the same, step by step: trio's scheduler, every draw and every
id come from the seed (across processes PYTHONHASHSEED has to be the same too).
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest import mock

import trio
import trio.testing

from restic_manager.server.store import writer
from tests.simulation import checks, judge_calm, troubles
from tests.simulation.clocks import MachineClock
from tests.simulation.faults import Fault, Setting, plan
from tests.simulation.operator import Operator
from tests.simulation.pretend import Book
from tests.simulation.simhost import SimHost
from tests.simulation.simserver import SimServer
from tests.simulation.world import World

TRACE: Final = 60
"""Lines of the trace that are kept unless all are wanted."""


@dataclass
class Result:
    """What became of one run."""

    seed: int
    hosts: int
    days: float
    slots: int = 0
    runs: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    """Runs of each kind."""
    beside: int = 0
    """The most that were on one repository at once by the server's order."""
    fates: Counter[str] = field(default_factory=Counter)
    applied: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    """Runs done again by a host put back to an old copy, or by two machines of one identity."""
    forgotten: int = 0
    """Runs whose only record was lost with their host's data directory."""
    violations: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    seconds: float = 0.0


def simulate(
    setting: Setting, faults: Sequence[Fault] | None = None, *, full_trace: bool = False, keep: Path | None = None
) -> Result:
    """Given what to play (and which faults, else those of the seed), play it and return what became of it.

    full_trace: return all that was noted, not only the end of it. keep: where all databases of the run are copied to.
    """
    chosen = list(plan(setting) if faults is None else faults)
    result = Result(setting.seed, setting.hosts, setting.days, faults=chosen)
    trace: deque[str] = deque(maxlen=None if full_trace else TRACE)
    before = time.perf_counter()
    folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=_fast_folder()))
    try:
        with _seeded(setting.seed):
            clock = trio.testing.MockClock(autojump_threshold=0)
            trio.run(_play, setting, chosen, folder, result, trace, clock=clock)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt):
            raise
        result.violations.append(f"crash: {_leaves(group)}")
    except Exception as error:  # noqa: BLE001 - a crash of the product is a finding like any other
        result.violations.append(f"crash: {error!r}")
    finally:
        if keep is not None:
            shutil.copytree(folder, keep, dirs_exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    result.trace = list(trace)
    result.seconds = time.perf_counter() - before
    return result


async def _play(setting: Setting, faults: list[Fault], folder: Path, result: Result, trace: deque[str]) -> None:
    def note(text: str) -> None:
        trace.append(f"{trio.current_time():10.3f} {text}")

    async with trio.open_nursery() as nursery:
        server = SimServer(folder / "server", MachineClock(setting.start), nursery, note)
        await server.start()
        book = Book()
        operator = Operator(server, setting, note)
        hosts = [
            SimHost(
                f"h{number}",
                folder / f"h{number}",
                MachineClock(setting.start, skew=setting.skew(number)),
                server=server,
                book=book,
                nursery=nursery,
                seed=setting.seed,
                offline=setting.offline,
                repo_missing=setting.repo_missing,
                note=note,
            )
            for number in range(setting.hosts)
        ]
        world = World(setting, folder, nursery, server, operator, hosts, book, note)
        for host in hosts:
            host.token = await operator.invite(host.name, setting.labels(host.name))
            await host.start()
        await operator.set_up()
        async with trio.open_nursery() as acting:
            for fault in faults:
                await trio.sleep_until(fault.at)
                acting.start_soon(troubles.act, world, fault, name=f"fault {fault.kind}")
            await trio.sleep_until(setting.days * 86_400)
            acting.cancel_scope.cancel()
        result.applied = world.applied
        await _calm(world)
        result.violations += judge_calm.untold(world)
        await world.operator.end_everything()
        problems = await _settle(world)
        result.violations += problems
        checks.check(world, result)
        nursery.cancel_scope.cancel()


async def _calm(world: World) -> None:
    """All faults stop; what was down comes up; schedules go on for two hours with nothing wrong."""
    world.note("calm")
    if world.server.fuse is not None:
        world.server.fuse.disarm()
    if world.server.services is None:
        await world.server.start()
    await world.operator.resume_everything()
    for host in world.hosts:
        host.line.calm()
        if host.suspended:
            host.suspended = False
            host.clock.thaw()
        if host.fuse is not None:
            host.fuse.disarm()
        if host.token is not None:  # not joined yet, and a token is good for an hour: it gets another
            host.token = await world.operator.invite(host.name)
            host.kill()
        if not host.alive or host.fuse is None or host.fuse.blown:
            await host.start()
    await trio.sleep(600)
    for host in world.hosts:
        services = world.server.services
        if world.restores and services is not None and host.host_id and not services.hub.online(host.host_id):
            # What the copy has forgotten of a host's invite is done again, as the policies say.
            world.note(f"{host.name} is invited again")
            host.token = await world.operator.invite(host.name)
            host.kill()
            await host.start()
    await trio.sleep(2 * 3_600 - 600)


async def _settle(world: World) -> list[str]:
    """Wait until nothing is left to do; return what never came to an end."""
    left: list[str] = []
    for _ in range(36):
        await trio.sleep(600)
        left = judge_calm.unsettled(world)
        if not left:
            return []
    return [f"never settled: {text}" for text in left]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Make every draw and id, and the order in which trio runs its tasks, follow from the seed."""
    dice = random.Random(f"ids/{seed}")

    def drawn_id() -> uuid.UUID:
        return uuid.UUID(int=dice.getrandbits(128), version=4)

    state = random.getstate()
    random.seed(seed)
    import trio._core._run as trio_run  # the only way to a scheduler that repeats itself; Hypothesis uses it too

    runs: Any = trio_run
    tasks = runs._r.getstate()
    runs._r.seed(seed)
    with (
        mock.patch.object(runs, "_ALLOW_DETERMINISTIC_SCHEDULING", True),  # noqa: FBT003 - the name says it
        mock.patch.object(uuid, "uuid4", drawn_id),
        mock.patch.object(writer, "MAX_BATCH_SECONDS", 1e9),
    ):
        try:
            yield
        finally:
            runs._r.setstate(tasks)
            random.setstate(state)


def _fast_folder() -> str | None:
    """Return a folder in memory where there is one: durability is the fuse's to judge, not the disk's."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() else None


def _leaves(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_leaves(inner) for inner in error.exceptions)
    return repr(error)
