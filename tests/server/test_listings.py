"""Rows of listing jobs: taken from agents in order and within a cap, streamed as they come, gone after an hour."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from sqlalchemy import select
from starlette.types import ASGIApp
from trio.testing import MockClock

from restic_manager.domain.model import Actor, Failure, Outcome, Progress, Spec, Status, new_id
from restic_manager.domain.results import BytesRow, FateRow, ForgetStats, ListStats, NodeRow
from restic_manager.domain.retention import Retention
from restic_manager.domain.specs import DumpSpec, ForgetPolicy, ForgetSpec, LsSpec
from restic_manager.protocol.api import JobEvent, ProgressEvent, RowsEvent, RowsLine
from restic_manager.protocol.messages import CAP_ROWS, CommandRun, Error, Goodbye, JobProgress, JobRows
from restic_manager.server.api.app import build_api
from restic_manager.server.janitor import LOST_SECONDS, Janitor
from restic_manager.server.store import history, job_rows, jobs, listings, schema
from restic_manager.server.store.ripple import Ripple
from tests.server.listed import snap
from tests.server.test_api_jobs import Follower
from tests.server.world import ScriptedAgent, World, open_world
from tests.support.asgi import ask

LS = LsSpec(snapshot="abcd1234")
KINDS = {"capabilities": ("kinds",)}
_line: msgspec.json.Decoder[RowsLine] = msgspec.json.Decoder(RowsLine)


def nodes(first: int, count: int) -> tuple[NodeRow, ...]:
    return tuple(NodeRow(path=f"/etc/{number}", type="file", size=number) for number in range(first, first + count))


def listed(count: int) -> Outcome:
    return Outcome(status=Status.SUCCEEDED, exit_code=0, result=ListStats(rows=count))


async def want(world: World, host_id: str, repo_id: str, spec: Spec = LS) -> str:
    """Queue a job on this host; return its id."""
    job = await world.write(
        lambda tx: job_rows.insert(
            tx,
            job_id=new_id(),
            spec=spec,
            host_id=host_id,
            repo_id=repo_id,
            actor=Actor.OPERATOR,
            now=world.now(),
        )
    )
    world.dispatcher.apply(Ripple(jobs={job.id}, hosts={host_id}))
    return job.id


@asynccontextmanager
async def listing(tmp_path: Path) -> AsyncIterator[tuple[World, ScriptedAgent, CommandRun]]:
    """A host that has just begun to list."""
    async with open_world(tmp_path) as world:
        host_id, repo_id = await world.join("web1"), await world.repo()
        async with world.agent(host_id, **KINDS) as agent:
            await want(world, host_id, repo_id)
            order = await agent.hear(CommandRun)
            await agent.acked(await agent.start(order))
            yield world, agent, order


async def give(agent: ScriptedAgent, job_id: str, first: int, rows: tuple[Any, ...]) -> None:
    await agent.link.send(JobRows(job_id=job_id, first=first, rows=rows))


async def lines(app: ASGIApp, ref: str, flags: str = "") -> list[RowsLine]:
    answer = await ask(app, "GET", f"/v1/jobs/{ref}/rows{flags}")
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/jsonl"
    return [_line.decode(line) for line in answer.body.splitlines()]


def rows_in(events: list[RowsLine]) -> list[Any]:
    """The rows of a stream, checked to be without a gap."""
    found: list[Any] = []
    begun: int | None = None
    for event in events:
        if isinstance(event, RowsEvent):
            begun = event.first if begun is None else begun
            assert event.first == begun + len(found)
            found += event.rows
    return found


def job_in(events: list[RowsLine]) -> Any:
    """The job at the end of a stream, where it stands alone."""
    assert [isinstance(event, JobEvent) for event in events].index(True) == len(events) - 1
    last = events[-1]
    assert isinstance(last, JobEvent)
    return last.job


async def test_rows_are_kept_in_order_and_read_from_anywhere(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with listing(tmp_path) as (world, agent, order):
        await give(agent, order.job_id, 1, nodes(1, 4))
        await give(agent, order.job_id, 5, nodes(5, 2))
        await agent.acked(await agent.finish(order, listed(6)))
        app = build_api(world.services)
        for after in range(8):
            events = await lines(app, order.job_id, f"?after={after}")
            assert rows_in(events) == list(nodes(after + 1, max(0, 6 - after)))
            assert (job_in(events).status, job_in(events).rows, job_in(events).warnings) == ("succeeded", 6, ())


async def test_the_server_says_that_it_takes_rows(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id = await world.join("web1")
        async with world.link(world.credentials[host_id]) as link:
            welcome = await ScriptedAgent(world, host_id, link).greet()
            assert CAP_ROWS in welcome.capabilities


async def test_bytes_travel_and_lie_as_base64(tmp_path: Path, autojump_clock: MockClock) -> None:
    data = bytes(range(256)) * 100
    async with open_world(tmp_path) as world:
        host_id, repo_id = await world.join("web1"), await world.repo()
        async with world.agent(host_id, **KINDS) as agent:
            await want(world, host_id, repo_id, DumpSpec(snapshot="abcd1234", path="/etc/passwd"))
            order = await agent.hear(CommandRun)
            await agent.start(order)
            await give(agent, order.job_id, 1, (BytesRow(data=data), BytesRow(data=b"\0end")))
            await agent.acked(await agent.finish(order, listed(2)))
        text = await world.read(lambda tx: tx.execute(select(schema.job_rows.c.text)).scalar_one())
        assert "AAECAwQF" in text
        (first, second) = rows_in(await lines(build_api(world.services), order.job_id))
        assert (first.data, second.data) == (data, b"\0end")


async def test_a_listing_is_followed_as_it_comes(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with listing(tmp_path) as (world, agent, order):
        follower = Follower(build_api(world.services), order.job_id, "?follow=1", what="rows", decoder=_line)
        world.nursery.start_soon(follower.run)
        await give(agent, order.job_id, 1, nodes(1, 2))
        assert (await follower.next()).rows == nodes(1, 2)
        await agent.link.send(JobProgress(job_id=order.job_id, progress=Progress(percent_done=0.5)))
        progress = await follower.next()
        assert isinstance(progress, ProgressEvent)
        assert progress.progress.percent_done == 0.5
        await give(agent, order.job_id, 3, nodes(3, 1))
        assert await follower.next() == RowsEvent(job_id=order.job_id, first=3, rows=nodes(3, 1))
        await give(agent, order.job_id, 4, nodes(4, 1))
        await agent.finish(order, listed(4))
        rest = await follower.rest()
        assert (rows_in(rest), job_in(rest).status) == (list(nodes(4, 1)), "succeeded")
        assert follower.ended


async def test_who_waits_for_rows_is_told_what_their_job_waits_for(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, repo_id = await world.join("web1"), await world.repo()
        job_id = await want(world, host_id, repo_id)
        follower = Follower(build_api(world.services), job_id, "?follow=1", what="rows", decoder=_line)
        world.nursery.start_soon(follower.run)
        told = await follower.next()
        assert isinstance(told, JobEvent)
        assert (told.job.status, told.job.waits_for) == ("queued", "web1 to come online")
        await trio.sleep(60)
        assert not follower.ended
        async with world.agent(host_id, **KINDS) as agent:
            order = await agent.hear(CommandRun)
            await agent.acked(await agent.start(order))
            await give(agent, job_id, 1, nodes(1, 2))
            assert (await follower.next()).rows == nodes(1, 2), "it is told once, and not that it is about to begin"
            await agent.finish(order, listed(2))
            assert job_in(await follower.rest()).status == "succeeded"


async def test_a_slow_listener_holds_up_nobody_and_misses_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with listing(tmp_path) as (world, agent, order):
        follower = Follower(build_api(world.services), order.job_id, "?follow=1", what="rows", decoder=_line)
        follower.taking = trio.Event()
        world.nursery.start_soon(follower.run)
        for first in range(1, 20_001, 2_000):
            await give(agent, order.job_id, first, nodes(first, 2_000))
        await agent.acked(await agent.finish(order, listed(20_000)))
        follower.taking.set()
        rest = await follower.rest()
        assert rows_in(rest) == list(nodes(1, 20_000))
        assert job_in(rest).status == "succeeded"


async def test_a_server_that_stops_ends_the_stream(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with listing(tmp_path) as (world, agent, order):
        follower = Follower(build_api(world.services), order.job_id, "?follow=1", what="rows", decoder=_line)
        world.nursery.start_soon(follower.run)
        await give(agent, order.job_id, 1, nodes(1, 2))
        await follower.next()
        world.hub.end_watches()
        rest = await follower.rest()
        assert job_in(rest).status == "running"


async def test_what_is_not_the_next_row_is_dropped_and_told_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with listing(tmp_path) as (world, agent, order):
        await give(agent, order.job_id, 1, nodes(1, 2))
        await give(agent, order.job_id, 4, nodes(4, 1))
        told = await agent.hear(Error)
        assert (told.code, told.ref) == ("out_of_order", order.job_id)
        await give(agent, order.job_id, 2, nodes(2, 1))
        assert (await agent.hear(Error)).code == "out_of_order"
        await give(agent, order.job_id, 3, nodes(3, 1))
        await agent.acked(await agent.finish(order, listed(4)))
        events = await lines(build_api(world.services), order.job_id)
        assert rows_in(events) == list(nodes(1, 3))
        assert job_in(events).warnings == (
            "its listing is not whole: the first 3 of 4 rows are kept (ask for less at once)",
        )


async def test_rows_of_no_job_and_of_one_that_is_over_are_dropped(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with listing(tmp_path) as (world, agent, order):
        await give(agent, "nobody-knows", 1, nodes(1, 1))
        assert (await agent.hear(Error)).code == "unknown_job"
        await agent.finish(order, listed(0))
        await give(agent, order.job_id, 1, nodes(1, 1))
        assert (await agent.hear(Error)).code == "job_over"
        assert (await world.job(order.job_id)).rows_kept == 0
        assert await agent.hears_nothing(Goodbye)


async def test_rows_of_another_hosts_job_end_the_session(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with listing(tmp_path) as (world, _, order):
        other = await world.join("web2")
        async with world.agent(other, **KINDS) as thief:
            await give(thief, order.job_id, 1, nodes(1, 1))
            told = await thief.hear(Error)
            assert (told.code, told.ref) == ("not_yours", order.job_id)
            await thief.hear(Goodbye)
        assert (await world.job(order.job_id)).rows_kept == 0


async def test_a_job_keeps_rows_up_to_its_cap_and_says_so(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "append", functools.partial(listings.append, max_rows=5))
    async with listing(tmp_path) as (world, agent, order):
        for first in range(1, 21, 2):
            await give(agent, order.job_id, first, nodes(first, 2))
        await agent.acked(await agent.finish(order, listed(20)))
        events = await lines(build_api(world.services), order.job_id)
        assert rows_in(events) == list(nodes(1, 6)), "the message that passes the cap is kept whole"
        assert "the first 6 of 20 rows are kept" in job_in(events).warnings[0]
        assert not [message for message in agent.heard if isinstance(message, Error)], "too much is no error"


async def test_many_small_chunks_are_bounded_too(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with listing(tmp_path) as (world, _, order):

        def fill(tx: Any) -> list[str]:
            return [
                listings.append(tx, order.job_id, number, nodes(number, 1), now=world.now(), max_text=1_000)
                for number in range(1, 30)
            ]

        taken = await world.write(fill)
        kept = taken.index("full")
        assert taken == ["kept"] * kept + ["full"] * (29 - kept)
        assert kept < 1_000 / listings.CHUNK_COST


async def test_rows_go_an_hour_after_the_end(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with listing(tmp_path) as (world, agent, order):
        await give(agent, order.job_id, 1, nodes(1, 3))
        await trio.sleep(2 * 3_600)
        janitor = Janitor(world.services)
        await janitor.forget_listings()
        assert (await world.job(order.job_id)).rows_kept == 3, "it has not ended"
        await agent.acked(await agent.finish(order, listed(3)))
        await trio.sleep(3_500)
        await janitor.forget_listings()
        app = build_api(world.services)
        assert len(rows_in(await lines(app, order.job_id))) == 3
        world.nursery.start_soon(janitor.run)
        await trio.sleep(LOST_SECONDS + 100)
        events = await lines(app, order.job_id)
        assert rows_in(events) == []
        assert job_in(events).rows == 0
        assert job_in(events).warnings == ("its 3 rows are not kept any more (they are for about an hour): ask again",)


async def test_a_clock_in_the_future_keeps_no_rows_for_ever(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with listing(tmp_path) as (world, _, order):

        def end(finished_at: datetime) -> Any:
            def change(tx: Any) -> None:
                state = job_rows.get(tx, order.job_id).state
                state = msgspec.structs.replace(state, status=Status.SUCCEEDED, finished_at=finished_at)
                listings.append(tx, order.job_id, 1, nodes(1, 3), now=world.now())
                job_rows.save(tx, order.job_id, state)

            return change

        await world.write(end(world.now() + timedelta(days=900)))
        await trio.sleep(3_601)
        await Janitor(world.services).forget_listings()
        assert await world.read(lambda tx: listings.read(tx, order.job_id)) == []


async def test_rows_are_taken_away_in_bites(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with listing(tmp_path) as (world, agent, order):
        many = listings.BITE + 10
        await world.write(
            lambda tx: [
                listings.append(tx, order.job_id, number, nodes(number, 1), now=world.now())
                for number in range(1, many + 1)
            ]
        )
        await agent.acked(await agent.finish(order, listed(many)))
        later = world.now() + timedelta(hours=2)
        assert await world.write(lambda tx: listings.prune(tx, later)) == listings.BITE
        # Half of them gone: what is left cannot be mistaken for all there was.
        assert await world.read(lambda tx: listings.read(tx, order.job_id)) == []
        assert (await world.job(order.job_id)).rows_kept == 0
        assert await world.write(lambda tx: listings.prune(tx, later)) == 10
        assert await world.write(lambda tx: listings.prune(tx, later)) == 0


async def test_a_removed_host_and_a_pruned_job_take_their_rows_along(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with listing(tmp_path) as (world, agent, order):
        await give(agent, order.job_id, 1, nodes(1, 3))
        await world.settled()
        app = build_api(world.services)
        assert (await ask(app, "DELETE", "/v1/hosts/web1")).status == 200
        assert (await world.job(order.job_id)).status is Status.INTERRUPTED
        await world.write(lambda tx: history.forget_jobs(tx, [order.job_id]))
        assert await world.read(lambda tx: tx.execute(select(schema.job_rows)).all()) == []
        assert await world.read(lambda tx: job_rows.find(tx, order.job_id)) is None


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/jobs/0000aaaa/rows", 404),
        ("/v1/jobs/0000aaaa/rows?after=-1", 400),
        ("/v1/jobs/0000aaaa/rows?follow=2", 400),
        ("/v1/jobs/0000aaaa/rows?before=2", 400),
    ],
)
async def test_what_is_asked_wrongly_is_said(tmp_path: Path, autojump_clock: MockClock, path: str, status: int) -> None:
    async with open_world(tmp_path) as world:
        assert (await ask(build_api(world.services), "GET", path)).status == status


async def test_a_failed_listing_gives_what_came_until_then(tmp_path: Path, autojump_clock: MockClock) -> None:
    lost = Outcome(status=Status.FAILED, error=Failure(code="rows_lost", message="the link broke: ask again"))
    async with listing(tmp_path) as (world, agent, order):
        await give(agent, order.job_id, 1, nodes(1, 3))
        await agent.acked(await agent.finish(order, lost))
        events = await lines(build_api(world.services), order.job_id, "?follow=1")
        assert len(rows_in(events)) == 3
        assert job_in(events).error.code == "rows_lost"
        assert await world.read(lambda tx: jobs.unfinished(tx, agent.host_id)) == []


@pytest.mark.parametrize(
    ("dry_run", "told"), [(True, ("its listing is not whole: the first 2 of 5 rows",)), (False, ())]
)
async def test_a_preview_says_what_is_missing(
    tmp_path: Path, autojump_clock: MockClock, dry_run: bool, told: tuple[str, ...]
) -> None:
    async with open_world(tmp_path) as world:
        host_id, repo_id = await world.join("web1"), await world.repo()
        policy = ForgetPolicy(schedule_id="s", restic_host="web1", keep=Retention(last=3))
        async with world.agent(host_id, **KINDS) as agent:
            await want(world, host_id, repo_id, ForgetSpec(policies=(policy,), dry_run=dry_run))
            order = await agent.hear(CommandRun)
            await agent.acked(await agent.start(order))
            kept = tuple(FateRow(schedule_id="s", snapshot=snap(name), keep=True) for name in "ab")
            await give(agent, order.job_id, 1, kept)
            stats = ForgetStats(kept=3, removed=2, dry_run=dry_run)
            await agent.acked(await agent.finish(order, Outcome(status=Status.SUCCEEDED, exit_code=0, result=stats)))
        warnings = job_in(await lines(build_api(world.services), order.job_id)).warnings
        assert tuple(warning.partition(" are kept")[0] for warning in warnings) == told
