"""Jobs over HTTP: lists, sentences, cancelling, and a job followed live from its first line to its end."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from starlette.types import ASGIApp, Message
from trio.testing import MockClock

from restic_manager.domain.model import Outcome, Progress, Status, attempt_job_id
from restic_manager.domain.results import ListStats, NodeRow
from restic_manager.domain.retention import Retention
from restic_manager.domain.specs import ForgetSpec, LsSpec
from restic_manager.protocol.api import Event, GapEvent, JobEvent, JobView, LogEvent, ProgressEvent, StatusView
from restic_manager.protocol.messages import (
    CommandRun,
    JobLog,
    JobProgress,
    JobRows,
    RefusedEntry,
    ScheduleAck,
    ScheduleSet,
)
from restic_manager.server.api.app import build_api
from restic_manager.server.peers import SCOPE_KEY
from restic_manager.server.store import job_rows, logs
from tests.server.world import DONE, START, World, failed, open_world, slot_after
from tests.support.asgi import ask, socket_user

_event: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


async def one_host(world: World) -> tuple[str, str]:
    host_id = await world.join("web1")
    await world.repo()
    return host_id, await world.schedule("minutely", "web1")


class Api:
    """Short ways to ask."""

    def __init__(self, world: World) -> None:
        self.app: ASGIApp = build_api(world.services)

    async def jobs(self, query: str = "") -> list[JobView]:
        return msgspec.convert((await ask(self.app, "GET", f"/v1/jobs{query}")).json, list[JobView], strict=False)

    async def job(self, ref: str) -> JobView:
        return msgspec.json.decode((await ask(self.app, "GET", f"/v1/jobs/{ref}")).body, type=JobView)

    async def status(self) -> StatusView:
        return msgspec.json.decode((await ask(self.app, "GET", "/v1/status")).body, type=StatusView)

    async def events(self, ref: str, flags: str = "") -> list[Event]:
        answer = await ask(self.app, "GET", f"/v1/jobs/{ref}/events{flags}")
        assert answer.headers["content-type"] == "application/jsonl"
        return [_event.decode(line) for line in answer.body.splitlines()]

    @asynccontextmanager
    async def following(self, ref: str, flags: str = "?follow=1") -> AsyncIterator[Follower]:
        async with trio.open_nursery() as nursery:
            follower = Follower(self.app, ref, flags)
            nursery.start_soon(follower.run)
            yield follower
            follower.hang_up.set()
            with trio.fail_after(10):
                await follower.over.wait()


class Follower:
    """A client that reads a stream as slowly as a test likes."""

    def __init__(
        self, app: ASGIApp, ref: str, flags: str, *, what: str = "events", decoder: msgspec.json.Decoder[Any] = _event
    ) -> None:
        self.app, self.ref, self.flags, self.what, self.decoder = app, ref, flags, what, decoder
        self.hang_up, self.over = trio.Event(), trio.Event()
        self.taking = trio.Event()
        self.taking.set()
        self.ended = False
        self._in, self._out = trio.open_memory_channel[Any](100_000)

    async def run(self) -> None:
        path, _, query = f"/v1/jobs/{self.ref}/{self.what}{self.flags}".partition("?")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [],
            SCOPE_KEY: socket_user(),
            "server": None,
            "client": None,
        }
        told = False

        async def receive() -> Message:
            nonlocal told
            if not told:
                told = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await self.hang_up.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            await self.taking.wait()
            for line in message.get("body", b"").splitlines():
                self._in.send_nowait(self.decoder.decode(line))
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self.ended = True
                self._in.close()

        await self.app(scope, receive, send)
        self.over.set()

    async def next(self, within: float = 10.0) -> Any:
        with trio.fail_after(within):
            return await self._out.receive()

    async def rest(self, within: float = 10.0) -> list[Any]:
        with trio.fail_after(within):
            return [event async for event in self._out]


def log(order: CommandRun, first_line: int, text: str):  # type: ignore[no-untyped-def]  # makes a maker
    return lambda seq: JobLog(seq=seq, job_id=order.job_id, at=START, stream="stdout", first_line=first_line, text=text)


def said(events: list[Event]) -> list[Any]:
    """Events as short as a test needs them."""
    short: list[Any] = []
    for event in events:
        match event:
            case JobEvent(job=job):
                short.append(str(job.status))
            case LogEvent(line=line, text=text):
                short.append((line, text))
            case GapEvent(lines=lines):
                short.append(f"{lines} missing")
            case ProgressEvent(progress=progress):
                short.append(progress.percent_done)
    return short


# -- lists and single jobs ------------------------------------------------------------------------------------------


async def test_jobs_are_listed_newest_first_and_by_what_is_asked(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        api = Api(world)
        host_id, schedule_id = await one_host(world)
        await world.join("web2")
        await world.schedule("other", "web2")
        await trio.sleep(60)
        async with world.agent(host_id) as agent:
            await agent.fire(schedule_id, slot_after(START, 60))
            order = await agent.hear(CommandRun)
            await agent.start(order)
            await agent.acked(await agent.finish(order, DONE))
        for name in ("minutely", "other"):
            await world.dispatcher.run_schedule(name, None)
        newest, middle, oldest = await api.jobs()
        assert (newest.schedule, newest.host, newest.actor_kind) == ("other", "web2", "operator")
        assert (oldest.status, oldest.slot, oldest.trigger) == (Status.SUCCEEDED, slot_after(START, 60), "tick")
        assert (oldest.snapshot_id, oldest.exit_code, oldest.repo) == ("abcd1234", 0, "repo")
        assert middle.waits_for == "web1 to come online"
        assert [job.id for job in await api.jobs("?host=web1")] == [middle.id, oldest.id]
        assert [job.id for job in await api.jobs("?schedule=other")] == [newest.id]
        assert [job.id for job in await api.jobs("?status=succeeded")] == [oldest.id]
        assert [job.id for job in await api.jobs("?limit=1")] == [newest.id]
        assert (await api.job(oldest.id[:8])).id == oldest.id


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/jobs/0000aaaa", 404, "not_found"),
        ("/v1/jobs/nonsense", 404, "not_found"),
        ("/v1/jobs?status=done", 400, "invalid_input"),
        ("/v1/jobs?limit=0", 400, "invalid_input"),
        ("/v1/jobs?limit=many", 400, "invalid_input"),
        ("/v1/jobs?order=up", 400, "invalid_input"),
        ("/v1/jobs?host=nobody", 404, "not_found"),
        ("/v1/jobs/0000aaaa/events", 404, "not_found"),
        ("/v1/jobs/0000aaaa/events?follow=2", 400, "invalid_input"),
    ],
)
async def test_what_is_asked_wrongly_is_said(
    tmp_path: Path, autojump_clock: MockClock, path: str, status: int, code: str
) -> None:
    async with open_world(tmp_path) as world:
        answer = await ask(Api(world).app, "GET", path)
        assert (answer.status, answer.code) == (status, code)
        assert answer.message


async def test_a_waiting_job_says_for_what(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        api = Api(world)
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            first = (await world.dispatcher.run_schedule("minutely", None))[0].id
            second = (await world.dispatcher.run_schedule("minutely", None))[0].id
            order = await agent.hear(CommandRun)
            assert (await api.job(first)).waits_for == "web1 to begin"
            waits_for = (await api.job(second)).waits_for
            assert waits_for is not None
            assert waits_for.startswith(f"job {first[:8]} (backup of minutely on web1)")
            await agent.acked(await agent.finish(order, failed("repo_missing")))
            init = await agent.hear(CommandRun)
            attempt = await api.job(attempt_job_id(first, 1))
            assert attempt.waits_for is not None
            assert init.job_id[:8] in attempt.waits_for
            assert "create the repository" in attempt.waits_for
            assert (await api.job(first)).next_attempt == attempt.id
        offline = await api.job(init.job_id)
        assert offline.waits_for == "web1 to come back: it was sent there and is offline"


async def test_run_now_init_and_cancel(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        app = Api(world).app
        await one_host(world)
        ran = await ask(app, "POST", "/v1/schedules/minutely/run", {"host": "web1"})
        assert ran.status == 201
        (job,) = ran.json
        assert (job["status"], job["actor_kind"], job["slot"]) == ("queued", "operator", None)
        assert (await ask(app, "POST", "/v1/schedules/minutely/run", {"host": "web9"})).status == 404
        assert (await ask(app, "POST", "/v1/schedules/nightly/run", {})).code == "not_found"
        made = await ask(app, "POST", "/v1/repos/repo/init", {"host": "web1"})
        assert (made.status, made.json["kind"], made.json["schedule"]) == (201, "init", None)
        assert (await ask(app, "POST", "/v1/repos/repo/init", {"host": "web1"})).status == 409
        ended = await ask(app, "POST", f"/v1/jobs/{job['id']}/cancel")
        assert (ended.status, ended.json["status"], ended.json["error"]["code"]) == (200, "cancelled", "cancelled")
        again = await ask(app, "POST", f"/v1/jobs/{job['id']}/cancel")
        assert (again.status, again.code) == (409, "conflict")


# -- events ---------------------------------------------------------------------------------------------------------


async def test_a_job_is_followed_from_before_it_runs_to_its_end(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        api = Api(world)
        host_id, _ = await one_host(world)
        (job,) = await world.dispatcher.run_schedule("minutely", None)
        async with api.following(job.id) as follower:
            assert said([await follower.next()]) == ["queued"]
            async with world.agent(host_id) as agent:
                order = await agent.hear(CommandRun)
                await agent.start(order)
                while said([event := await follower.next()]) == ["queued"]:
                    pass
                assert said([event]) == ["running"]
                await agent.report(log(order, 1, "one\ntwo"))
                assert said([await follower.next(), await follower.next()]) == [(1, "one"), (2, "two")]
                await agent.link.send(JobProgress(job_id=order.job_id, progress=Progress(percent_done=0.5)))
                assert said([await follower.next()]) == [0.5]
                await agent.report(log(order, 3, "three"))
                await agent.acked(await agent.finish(order, DONE))
            assert said(await follower.rest()) == [(3, "three"), "succeeded"]
            assert follower.ended


async def test_a_finished_job_is_told_at_once_and_whole(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        api = Api(world)
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            await world.dispatcher.run_schedule("minutely", None)
            order = await agent.hear(CommandRun)
            await agent.start(order)
            for line in range(1, 301):
                await agent.report(log(order, line, f"line {line}"))
            await agent.report(log(order, 311, "after a gap"))
            await agent.acked(await agent.finish(order, DONE))
        for flags in ("", "?follow=1"):
            events = said(await api.events(order.job_id, flags))
            assert events[0] == "succeeded"
            assert events[1:301] == [(line, f"line {line}") for line in range(1, 301)]
            assert events[301:] == ["10 missing", (311, "after a gap")]
        assert said(await api.events(order.job_id, "?logs=0")) == ["succeeded"]


async def test_a_running_job_is_told_as_it_is_without_follow(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        api = Api(world)
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            await world.dispatcher.run_schedule("minutely", None)
            order = await agent.hear(CommandRun)
            await agent.start(order)
            await agent.acked(await agent.report(log(order, 1, "one")))
            assert said(await api.events(order.job_id)) == ["running", (1, "one")]


async def test_attempts_are_followed_into_the_next(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        api = Api(world)
        host_id, _ = await one_host(world)
        (job,) = await world.dispatcher.run_schedule("minutely", None)
        async with (
            api.following(job.id, "?follow=1&attempts=1") as whole,
            api.following(job.id, "?follow=1") as first_only,
        ):
            async with world.agent(host_id) as agent:
                order = await agent.hear(CommandRun)
                await agent.acked(await agent.finish(order, failed("repo_missing")))
                assert said(await first_only.rest())[-1] == "failed"
                init = await agent.hear(CommandRun)
                await agent.acked(await agent.finish(init, DONE))
                attempt = await agent.hear(CommandRun)
                await agent.start(attempt)
                await agent.report(log(attempt, 1, "second try"))
                await agent.acked(await agent.finish(attempt, DONE))
            events = await whole.rest()
        jobs = [event.job for event in events if isinstance(event, JobEvent)]
        assert [jobs[0].id, jobs[-1].id] == [job.id, attempt_job_id(job.id, 1)]
        assert (jobs[-1].status, jobs[-1].attempt, jobs[-1].attempt_of) == (Status.SUCCEEDED, 2, job.id)
        assert (1, "second try") in said(events)


async def test_a_slow_follower_is_behind_and_holds_up_nobody(tmp_path: Path, autojump_clock: MockClock) -> None:
    """It takes nothing while the job writes far more than is kept; then it sees the gap, the tail and the end."""
    async with open_world(tmp_path) as world:
        api = Api(world)
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            (job,) = await world.dispatcher.run_schedule("minutely", None)
            order = await agent.hear(CommandRun)
            await agent.start(order)
            async with api.following(job.id) as slow, api.following(job.id) as quick:
                await slow.next()
                slow.taking = trio.Event()
                line = 1
                for _ in range(60):
                    await agent.report(log(order, line, "\n".join(["x" * 100] * 500)))
                    line += 500
                await agent.acked(await agent.finish(order, DONE))
                ended = await quick.rest()
                assert said(ended)[-1] == "succeeded"
                slow.taking.set()
                events = await slow.rest()
        lines = [event.line for event in events if isinstance(event, LogEvent)]
        missing = sum(event.lines for event in events if isinstance(event, GapEvent))
        assert lines == sorted(set(lines))
        assert missing > 0
        assert len(lines) + missing == line - 1
        assert said(events)[-1] == "succeeded"


async def test_a_follower_that_hangs_up_is_forgotten(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        api = Api(world)
        await one_host(world)
        (job,) = await world.dispatcher.run_schedule("minutely", None)
        async with api.following(job.id) as follower:
            await follower.next()
            assert world.hub._bells
        assert follower.over.is_set()
        assert not follower.ended
        assert world.hub._bells == {}


async def test_a_gap_that_opens_while_one_reads_is_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        api = Api(world)
        await one_host(world)
        (job,) = await world.dispatcher.run_schedule("minutely", None)

        async with api.following(job.id) as follower:
            await follower.next()
            line = 1
            for _ in range(12):
                chunk = logs.chunk_of(first_line=line, at=START, stream="stdout", text="y" * 400, dropped=0)
                await world.write(functools.partial(logs.append, job_id=job.id, chunks=[chunk], cap=2_000))
                line += 1
            world.hub.ring([job.id])
            events = [await follower.next() for _ in range(3)]
            assert said(events)[:2] == [(1, "y" * 400), (2, "y" * 400)]
            gap = events[2]
            assert isinstance(gap, GapEvent)
        row = await world.read(lambda tx: job_rows.get(tx, job.id))
        assert row.log_lines_dropped == gap.lines


async def test_a_server_that_stops_ends_the_stream_with_all_there_is(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        api = Api(world)
        await one_host(world)
        (job,) = await world.dispatcher.run_schedule("minutely", None)
        async with api.following(job.id) as follower, api.following(job.id, "?follow=1&attempts=1") as other:
            await follower.next()
            await world.settled()
            chunk = logs.chunk_of(first_line=1, at=START, stream="stdout", text="the last word", dropped=0)
            await world.write(functools.partial(logs.append, job_id=job.id, chunks=[chunk]))
            world.hub.end_watches()
            assert said(await follower.rest()) == [(1, "the last word")]
            assert said(await other.rest()) == ["queued", (1, "the last word")]
            assert follower.ended, "as a whole answer, and not broken off"
        assert said(await api.events(job.id, "?follow=1")) == ["queued", (1, "the last word")]
        assert world.hub._bells == {}


# -- status ---------------------------------------------------------------------------------------------------------


async def test_an_empty_server_has_no_problems(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        view = await Api(world).status()
        assert (view.hosts_total, view.schedules_total, view.problems, view.hosts) == (0, 0, (), ())
        assert view.server.timezone == "UTC"


async def test_a_healthy_fleet_has_no_problems_and_says_what_comes(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        await trio.sleep(60)
        async with world.agent(host_id) as agent:
            await agent.fire(schedule_id, slot_after(START, 60))
            order = await agent.hear(CommandRun)
            await agent.start(order)
            await agent.acked(await agent.finish(order, DONE))
            view = await Api(world).status()
            assert view.problems == ()
            (line,) = view.hosts
            assert (line.name, line.online, line.last_job_status) == ("web1", True, Status.SUCCEEDED)
            assert (line.last_success_at, line.next_slot) == (world.now(), slot_after(START, 120))
            assert (view.hosts_online, view.schedules_enabled, view.last_24h["succeeded"]) == (1, 1, 1)


async def test_every_trouble_has_its_sentence_worst_first(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        offline_id = await world.join("web2")
        await world.invite("web3")
        await world.schedule("nowhere", labels={"role": "db"})
        async with world.agent(offline_id):
            pass
        await trio.sleep(3 * 3_600)
        skewed = world.now() + timedelta(seconds=42)
        async with world.agent(host_id, clock=skewed, restic_problem="restic is not on PATH: install it") as agent:
            version = await agent.hear(ScheduleSet)
            await agent.link.send(
                ScheduleAck(
                    epoch=version.epoch,
                    version=version.version,
                    refused=(RefusedEntry(schedule_id=schedule_id, code="zone", reason="no such zone here"),),
                )
            )
            await world.dispatcher.run_schedule("minutely", None)
            order = await agent.hear(CommandRun)
            await agent.start(order)
            await agent.acked(await agent.finish(order, failed("wrong_password")))
            await agent.link.send_frame('{"type":"job.log","seq":3}')
            await agent.acked(3)
            problems = (await Api(world).status()).problems
        beginnings = [
            "the last run of minutely on web1 failed just now: it ended wrong_password",
            "web2 is offline, last seen 3h ago (2026-03-01 12:00 UTC)",
            "web1 cannot run restic: restic is not on PATH",
            "web1 cannot use schedule minutely: no such zone here",
            "the clock of web1 is 42s fast",
            "1 reports of web1 could not be used",
            "schedule nowhere has no hosts",
            "web3 was invited and has not joined yet",
        ]
        assert len(problems) == len(beginnings), problems
        for sentence, beginning in zip(problems, beginnings, strict=True):
            assert sentence.startswith(beginning)


async def test_an_init_whose_host_is_away_is_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            await world.dispatcher.init_repo("repo", "web1")
            order = await agent.hear(CommandRun)
        problems = (await Api(world).status()).problems
        assert any(f"job {order.job_id[:8]}" in sentence and "waits for web1" in sentence for sentence in problems)


async def test_health_metrics_and_the_server_itself(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        app = Api(world).app
        host_id, _ = await one_host(world)
        async with world.agent(host_id):
            await world.dispatcher.run_schedule("minutely", None)
            health = await ask(app, "GET", "/healthz")
            assert (health.status, health.body) == (200, b"ok\n")
            metrics = (await ask(app, "GET", "/metrics")).body.decode()
            assert "restic_manager_hosts_online 1\n" in metrics
            assert 'restic_manager_jobs{status="queued"} 1\n' in metrics
            for line in metrics.splitlines():
                assert line.startswith(("# HELP ", "# TYPE ", "restic_manager_"))
            server = (await ask(app, "GET", "/v1/server")).json
            assert server["listen"] == "127.0.0.1:8787"


# -- wishes of every kind -------------------------------------------------------------------------------------------


async def test_a_wish_becomes_a_job_whose_rows_are_read(tmp_path: Path, autojump_clock: MockClock) -> None:
    """The whole way: asked for over HTTP, carried out by a host, its listing read over HTTP."""
    async with open_world(tmp_path) as world:
        app = Api(world).app
        host_id, _ = await one_host(world)
        wish = {"repo": "repo", "spec": {"kind": "ls", "snapshot": "abcd1234", "path": "/etc"}}
        assert (await ask(app, "POST", "/v1/jobs", wish)).status == 409, "nobody is there"
        async with world.agent(host_id, capabilities=("kinds",)) as agent:
            made = await ask(app, "POST", "/v1/jobs", wish)
            assert made.status == 201, made.body
            assert (made.json["kind"], made.json["host"], made.json["actor_kind"]) == ("ls", "web1", "operator")
            order = await agent.hear(CommandRun)
            assert order.job_id == made.json["id"]
            assert order.spec == LsSpec(snapshot="abcd1234", path="/etc")
            await agent.start(order)
            rows = (NodeRow(path="/etc/hosts", type="file", size=3),)
            await agent.link.send(JobRows(job_id=order.job_id, first=1, rows=rows))
            await agent.acked(await agent.finish(order, Outcome(status=Status.SUCCEEDED, result=ListStats(rows=1))))
        answer = await ask(app, "GET", f"/v1/jobs/{order.job_id}/rows")
        first, last = [msgspec.json.decode(line) for line in answer.body.splitlines()]
        assert (first["event"], first["rows"][0]["path"]) == ("rows", "/etc/hosts")
        assert (last["event"], last["job"]["result"]) == ("job", {"kind": "list", "rows": 1})


@pytest.mark.parametrize(
    ("wish", "status"),
    [
        ({"repo": "nowhere", "spec": {"kind": "prune"}}, 404),
        ({"repo": "repo", "spec": {"kind": "fly"}}, 400),
        ({"repo": "repo", "spec": {"kind": "ls", "snapshot": "latest"}}, 400),
        ({"repo": "repo", "spec": {"kind": "prune"}, "host": "nobody"}, 404),
        ({"repo": "repo", "spec": {"kind": "prune"}, "of_host": "web1"}, 400),
        ({"repo": "repo", "spec": {"kind": "prune"}, "when": "now"}, 400),
        ({"repo": "repo"}, 400),
    ],
)
async def test_a_wish_that_cannot_be_is_refused(
    tmp_path: Path, autojump_clock: MockClock, wish: dict[str, Any], status: int
) -> None:
    async with open_world(tmp_path) as world:
        api = Api(world)
        host_id, _ = await one_host(world)
        async with world.agent(host_id, capabilities=("kinds",)):
            answer = await ask(api.app, "POST", "/v1/jobs", wish)
        assert answer.status == status, answer.body
        assert await api.jobs() == []


async def test_a_preview_is_a_forget_that_forgets_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        app = Api(world).app
        host_id, schedule_id = await one_host(world)
        answer = await ask(app, "POST", "/v1/schedules/minutely/forget-preview", {})
        assert (answer.status, answer.code) == (409, "conflict"), "it keeps everything"
        edited = await ask(app, "PATCH", "/v1/schedules/minutely", {"retention": {"last": 3}})
        assert edited.json["keeps"] == "keeps the last 3 snapshots"
        async with world.agent(host_id, capabilities=("kinds",)) as agent:
            answer = await ask(app, "POST", "/v1/schedules/minutely/forget-preview", {"host": "web1"})
            assert answer.status == 201, answer.body
            (job,) = answer.json
            order = await agent.hear(CommandRun)
            assert order.job_id == job["id"]
            assert isinstance(order.spec, ForgetSpec)
            assert order.spec.dry_run
            (policy,) = order.spec.policies
            assert (policy.schedule_id, policy.restic_host, policy.keep) == (schedule_id, "web1", Retention(last=3))
        assert (await ask(app, "POST", "/v1/schedules/minutely/forget-preview", {"host": "web9"})).status == 404
