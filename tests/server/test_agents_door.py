"""The agents' door in virtual time: hello, welcome, one process an identity, and what a peer may not say."""

from __future__ import annotations

from pathlib import Path

import trio
import trio.testing

from restic_manager.domain.model import Status
from restic_manager.protocol.messages import CommandRun, ScheduleSet
from tests.server.world import DONE, START, open_world, slot_after


async def test_a_tick_becomes_a_job_and_comes_back_as_an_order(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_world(tmp_path) as world:
        host_id = await world.join("web1")
        await world.repo()
        schedule_id = await world.schedule("daily", "web1")
        async with world.agent(host_id) as agent:
            schedule_set = await agent.hear(ScheduleSet)
            assert schedule_set.version >= 1
            await trio.sleep(60)
            answer = await agent.fire(schedule_id, slot_after(START, 60))
            assert answer.answer == "dispatched"
            order = await agent.hear(CommandRun)
            assert order.job_id == answer.job_id
            assert order.repo.password == "secret"
            await agent.start(order)
            assert (await agent.acked(await agent.finish(order, DONE))) is None
            job = await world.job(order.job_id)
            assert job.status is Status.SUCCEEDED
