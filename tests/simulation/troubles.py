"""How each fault is done to a running world."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

import trio

from tests.simulation import judge_runs
from tests.simulation.faults import Fault
from tests.simulation.simhost import SimHost
from tests.simulation.simserver import SimServer, copy_database
from tests.simulation.world import World

_ARMED_FOR = 3_600.0
"""Seconds for which an armed fuse waits for its commit."""


async def act(world: World, fault: Fault) -> None:
    """Given the world, let this fault happen to it; counted once it has."""
    world.note(f"fault: {fault}")
    await _HOW.get(fault.kind, _operate)(world, world.hosts[fault.host], fault)


async def _operate(world: World, host: SimHost, fault: Fault) -> None:
    world.applied[fault.kind] += await world.operator.act(fault.kind, fault.args["draw"], host=host.name)


async def _cut(world: World, host: SimHost, fault: Fault) -> None:
    """Break the road at a send; where it is down for a while, nobody gets through in that time."""
    world.applied["cut"] += 1
    host.line.cut_after(fault.args["sends"], loses=fault.args["loses"])
    if fault.args["down"]:
        await trio.sleep(2)
        host.line.cut()
        host.line.up = False
        await trio.sleep(fault.args["down"])
        host.line.up = True


async def _stall(world: World, host: SimHost, fault: Fault) -> None:
    world.applied["stall"] += 1
    host.line.stalled_until = trio.current_time() + fault.args["seconds"]


async def _slow(world: World, host: SimHost, fault: Fault) -> None:
    world.applied["slow"] += 1
    dice = random.Random(fault.args["draw"])
    host.line.latency = lambda: dice.uniform(0, fault.args["most"])
    await trio.sleep(fault.args["seconds"])
    host.line.latency = None


async def _clock_step(world: World, host: SimHost, fault: Fault) -> None:
    world.applied["clock_step"] += 1
    by = timedelta(seconds=fault.args["by"])
    host.clock.step(by)
    if fault.args["mended"]:
        await trio.sleep(fault.args["mended"])
        world.note(f"{host.name}: clock mended")
        host.clock.step(-by)


async def _suspend(world: World, host: SimHost, fault: Fault) -> None:
    if host.suspended:
        return
    world.applied["suspend"] += 1
    host.suspended = True
    host.clock.freeze()
    host.line.stalled_until = trio.current_time() + fault.args["seconds"]
    await trio.sleep(fault.args["seconds"])
    host.clock.thaw()
    host.suspended = False


async def _kill_agent(world: World, host: SimHost, fault: Fault) -> None:
    await _kill(world, host, fault)


async def _kill_server(world: World, host: SimHost, fault: Fault) -> None:
    await _kill(world, world.server, fault)


async def _kill(world: World, machine: SimHost | SimServer, fault: Fault) -> None:
    """Kill a process at this instant, some turns later, or at one of its next commits; start it again after a while."""
    lock = world.held(machine.name)
    if lock.locked() or machine.fuse is None or machine.fuse.blown:
        return
    async with lock:
        fuse = machine.fuse
        if fault.args["commits"]:
            fuse.arm(fault.args["commits"], after=fault.args["after"])
            with trio.move_on_after(_ARMED_FOR):
                await machine.ended()
        else:
            for _ in range(fault.args["turns"]):
                await trio.lowlevel.checkpoint()
        world.applied[fault.kind] += 1
        machine.kill()
        await trio.sleep(fault.args["down"])
        if machine is world.server:
            world.book.violations += judge_runs.broken_acks(world)
        await machine.start()


async def _restart(world: World, host: SimHost, fault: Fault) -> None:
    """End an agent, do to its files what the fault says, start it again."""
    lock = world.held(host.name)
    if lock.locked() or host.fuse is None or host.fuse.blown or not host.journal.exists():
        return
    copied_at, copy = trio.current_time(), world.folder / f"copy-of-{host.name}-{trio.current_time():.3f}.db"
    token = None
    if fault.kind == "roll_back":
        copy_database(host.journal, copy)
        await trio.sleep(fault.args["age"])
        if lock.locked():
            return
    elif fault.kind == "lose_data":
        token = await world.operator.invite(host.name)
    async with lock:
        world.applied[fault.kind] += 1
        if fault.kind == "agent_stop":
            host.stop()
            with trio.move_on_after(120):
                await host.ended()
        host.kill()
        await host.ended()
        if fault.kind == "lose_data":
            world.losses.setdefault(host.name, []).append((0.0, trio.current_time(), fault.kind))
            host.forget()
            host.token = token
        elif fault.kind == "roll_back":
            world.losses.setdefault(host.name, []).append((copied_at, trio.current_time(), fault.kind))
            copy_database(copy, host.journal)
        await trio.sleep(min(fault.args["down"], 1_800) if token else fault.args["down"])
        await host.start()


async def _restore(world: World, host: SimHost, fault: Fault) -> None:
    """Take a copy of the server's database, and some time later go back to it."""
    server = world.server
    lock = world.held(server.name)
    copied_at, copy = trio.current_time(), world.folder / f"copy-of-server-{trio.current_time():.3f}.db"
    copy_database(server.path, copy)
    await trio.sleep(fault.args["age"])
    if lock.locked():
        return
    async with lock:
        world.applied["server_restore"] += 1
        server.kill()
        await server.ended()
        world.restores.append((copied_at, trio.current_time()))
        for each in world.hosts:  # what was promised by an ack is told again: a new epoch asks for it
            each.acked.clear()
        copy_database(copy, server.path)
        server.restores += 1
        await trio.sleep(fault.args["down"])
        await server.start()


async def _twin(world: World, host: SimHost, fault: Fault) -> None:
    """Let another machine with a copy of this one's disk run for a while beside it, and then be gone for good."""
    if not host.journal.exists() or host.token is not None:
        return
    world.applied["twin"] += 1
    seconds = fault.args["seconds"]
    loss = (trio.current_time(), trio.current_time() + seconds + 1, "twin")
    world.losses.setdefault(host.name, []).append(loss)
    twin = host.twin(world.folder / f"twin-of-{host.name}-{trio.current_time():.3f}")
    await twin.start()
    try:
        await trio.sleep(seconds)
    finally:
        twin.kill()


_HOW: Final[dict[str, Callable[[World, SimHost, Fault], Awaitable[None]]]] = {
    "cut": _cut,
    "stall": _stall,
    "slow": _slow,
    "suspend": _suspend,
    "clock_step": _clock_step,
    "agent_kill": _kill_agent,
    "server_kill": _kill_server,
    "agent_stop": _restart,
    "lose_data": _restart,
    "roll_back": _restart,
    "server_restore": _restore,
    "twin": _twin,
}
"""What is done for each kind; every other kind is something an operator does."""
