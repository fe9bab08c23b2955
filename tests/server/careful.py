"""A small fleet over the wire whose agents know every kind: for the tests of traffic, of orders and of what follows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import select

from restic_manager.domain.model import Failure, Kind, Outcome, Spec, Status
from restic_manager.domain.results import Lock, LockedBy, Result
from restic_manager.protocol.api import JobRequest
from restic_manager.protocol.messages import CAP_KINDS, CommandRun
from restic_manager.server.api.job_views import views
from restic_manager.server.store import schema
from restic_manager.server.store.job_rows import JobRow, row_of
from restic_manager.server.store.schema import jobs
from tests.server.world import ScriptedAgent, World, open_world

GOOD = Outcome(status=Status.SUCCEEDED, exit_code=0, snapshot_id="5" * 64)


@asynccontextmanager
async def fleet(tmp_path: Path, *names: str) -> AsyncIterator[tuple[World, dict[str, ScriptedAgent]]]:
    """Hosts that are there, called box-NAME by themselves, and the repository `repo`."""
    async with open_world(tmp_path) as world, AsyncExitStack() as stack:
        await world.repo()
        found: dict[str, ScriptedAgent] = {}
        for name in names:
            host_id = await world.join(name)
            found[name] = await stack.enter_async_context(
                world.agent(host_id, capabilities=(CAP_KINDS,), machine=f"box-{name}")
            )
        yield world, found


async def wish(world: World, spec: Spec, host: str | None = None, repo: str = "repo", **more: Any) -> str:
    """Ask for a job as an operator does; return its id."""
    return (await world.dispatcher.ask(JobRequest(spec=spec, repo=repo, host=host, **more))).id


async def ends(agent: ScriptedAgent, order: CommandRun, outcome: Outcome = GOOD) -> None:
    await agent.start(order)
    await agent.acked(await agent.finish(order, outcome))


def well(result: Result | None = None) -> Outcome:
    return Outcome(status=Status.SUCCEEDED, exit_code=0, result=result)


def locked(*locks: Lock) -> Outcome:
    error = Failure(code="locked", message="Another restic holds a lock.")
    return Outcome(status=Status.FAILED, exit_code=11, error=error, result=LockedBy(locks=locks))


async def waits_for(world: World, job_id: str) -> str | None:
    row = await world.job(job_id)
    (view,) = await world.read(lambda tx: views(tx, [row], hub=world.hub, now=world.now()))
    return view.waits_for


async def of_kind(world: World, kind: Kind) -> list[JobRow]:
    query = select(jobs).where(jobs.c.kind == kind.value).order_by(jobs.c.serial)
    return await world.read(lambda tx: [row_of(row) for row in tx.execute(query)])


async def set_repo(world: World, name: str = "repo", **values: Any) -> None:
    change = schema.repos.update().where(schema.repos.c.name == name).values(values)
    await world.write(lambda tx: tx.execute(change).rowcount)
