"""How each fault is done to a running world."""

from __future__ import annotations

import random
from datetime import timedelta

import trio

from tests.simulation.faults import Fault
from tests.simulation.processes import SimHost, SimServer, copy_database
from tests.simulation.world import World

_ARMED_FOR = 3_600.0
"""Seconds for which an armed fuse waits for its commit."""


async def act(world: World, fault: Fault) -> None:
    """Given the world, let this fault happen to it; counted once it has."""
    world.note(f"fault: {fault}")
    host = world.hosts[fault.host]
    args = fault.args
    match fault.kind:
        case "cut":
            world.applied["cut"] += 1
            host.line.cut_after(args["sends"], loses=args["loses"])
            if args["down"]:
                await trio.sleep(2)
                host.line.cut()
                host.line.up = False
                await trio.sleep(args["down"])
                host.line.up = True
        case "stall":
            world.applied["stall"] += 1
            host.line.stalled_until = trio.current_time() + args["seconds"]
        case "slow":
            world.applied["slow"] += 1
            dice = random.Random(args["draw"])
            host.line.latency = lambda: dice.uniform(0, args["most"])
            await trio.sleep(args["seconds"])
            host.line.latency = None
        case "suspend":
            await _suspend(world, host, args["seconds"])
        case "clock_step":
            world.applied["clock_step"] += 1
            by = timedelta(seconds=args["by"])
            host.clock.step(by)
            if args["mended"]:
                await trio.sleep(args["mended"])
                world.note(f"{host.name}: clock mended")
                host.clock.step(-by)
        case "agent_kill":
            await _kill(world, host, fault)
        case "server_kill":
            await _kill(world, world.server, fault)
        case "agent_stop" | "lose_data" | "roll_back":
            await _restart(world, host, fault)
        case "server_restore":
            await _restore(world, fault)
        case "twin":
            await _twin(world, host, args["seconds"])
        case "relabel":
            world.applied["relabel"] += await world.operator.relabel(host.name, args["draw"])
        case _:
            world.applied[fault.kind] += await world.operator.act(fault.kind, args["draw"])


async def _suspend(world: World, host: SimHost, seconds: float) -> None:
    if host.suspended:
        return
    world.applied["suspend"] += 1
    host.suspended = True
    host.clock.freeze()
    host.line.stalled_until = trio.current_time() + seconds
    await trio.sleep(seconds)
    host.clock.thaw()
    host.suspended = False


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


async def _restore(world: World, fault: Fault) -> None:
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
        for host in world.hosts:  # what was promised by an ack is told again: a new epoch asks for it
            host.acked.clear()
        copy_database(copy, server.path)
        await trio.sleep(fault.args["down"])
        await server.start()


async def _twin(world: World, host: SimHost, seconds: float) -> None:
    """Let another machine with a copy of this one's disk run for a while beside it, and then be gone for good."""
    if not host.journal.exists() or host.token is not None:
        return
    world.applied["twin"] += 1
    loss = (trio.current_time(), trio.current_time() + seconds + 1, "twin")
    world.losses.setdefault(host.name, []).append(loss)
    twin = host.twin(world.folder / f"twin-of-{host.name}-{trio.current_time():.3f}")
    await twin.start()
    try:
        await trio.sleep(seconds)
    finally:
        twin.kill()
