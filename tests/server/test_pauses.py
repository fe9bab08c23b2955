"""Pauses: real agents in virtual time against a real server, and what became of every slot; and the operators' door."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import trio
from sqlalchemy import select
from trio.testing import MockClock

from restic_manager.agent.app import Offline, live
from restic_manager.agent.carrying import ResticFacts
from restic_manager.agent.identity import Identity
from restic_manager.agent.journal import open_journal
from restic_manager.domain.errors import UnreachableError
from restic_manager.domain.firing import Interval, interval_at
from restic_manager.domain.pausing import Scope
from restic_manager.link import Link
from restic_manager.protocol import codec
from restic_manager.protocol.messages import CommandRun, ScheduleSet
from restic_manager.runtime.clock import DrivenClock
from restic_manager.secrets import Sealer
from restic_manager.server.api.app import build_api
from restic_manager.server.janitor import Janitor
from restic_manager.server.store import assignments, events, hosts, pause_changes, pauses, schedules
from restic_manager.server.store.fates import Pair
from restic_manager.server.store.intervals import of_pair
from restic_manager.server.store.schema import assignments as assignment_rows
from restic_manager.server.store.schema import fates
from tests.agent.scripted import PretendRestic
from tests.server.world import START, World, open_world, slot_after
from tests.support.asgi import ask

MINUTE = 60


class Host:
    """One host with a real agent, which may be cut off from the server."""

    def __init__(self, world: World, host_id: str, path: Path, offline: Offline | None) -> None:
        assert isinstance(world.services.clock, DrivenClock)
        self.world = world
        self.host_id = host_id
        self.path = path
        self.up = True
        self.links = trio.CancelScope()
        self.restic = PretendRestic(seconds=1, clock=world.services.clock)
        self.offline = offline

    @asynccontextmanager
    async def dial(self, credential: str) -> AsyncIterator[Link]:
        if not self.up:
            raise UnreachableError("cut off")
        async with self.world.link(credential) as link:
            self.link = link
            yield link

    async def run(self) -> None:
        identity = Identity(
            host_id=self.host_id, host_name="web1", credential=self.world.credentials[self.host_id], token_sha256="t"
        )
        async with open_journal(self.path, threads=False) as journal:
            await live(
                identity,
                journal,
                self.restic.clock or DrivenClock(START, trio.current_time),
                dial_agent=self.dial,
                restic=self.restic,
                restic_facts=self.facts,
                offline=self.offline,
                drain=trio.Event(),
                reconnect_max=20,
                catch_up_delay=0,
            )

    async def facts(self) -> ResticFacts:
        return ResticFacts("0.18.0", None)

    async def cut(self) -> None:
        self.up = False
        await self.link.close()


@asynccontextmanager
async def fleet(
    tmp_path: Path, *names: str, offline: Offline | None = None
) -> AsyncIterator[tuple[World, dict[str, Host]]]:
    """A server with its janitor, hosts with real agents, and the schedule `often`, every ten minutes on all."""
    async with open_world(tmp_path) as world:
        await world.repo()
        found: dict[str, Host] = {}
        for name in names:
            found[name] = Host(world, await world.join(name), tmp_path / f"{name}.db", offline)
        await world.schedule("often", *names, cron="@every 10m")
        world.nursery.start_soon(Janitor(world.services).run)
        for host in found.values():
            world.nursery.start_soon(host.run)
        yield world, found


async def intervals_of(world: World, host_id: str) -> tuple[Interval, ...]:
    schedule = await world.read(lambda tx: schedules.resolve(tx, "often"))
    return (await world.read(lambda tx: of_pair(tx, Pair(schedule.id, host_id)))).intervals


async def until(world: World, minutes: float) -> None:
    await trio.sleep((slot_after(START, 0) + timedelta(minutes=minutes) - world.now()).total_seconds())


async def ledger(world: World, host: Host) -> list[tuple[int, int, int, str, str | None]]:
    """What became of every slot: from and to in minutes, count, fate, reason."""

    def minutes(at: datetime) -> int:
        return int((at - START).total_seconds()) // MINUTE

    rows = await world.read(
        lambda tx: tx.execute(
            select(fates).where(fates.c.host_id == host.host_id).order_by(fates.c.first_slot)
        ).fetchall()
    )
    found = [
        (minutes(row.first_slot), minutes(row.last_slot), row._mapping["count"], row.fate, row.reason) for row in rows
    ]
    covered = [slot for first, last, count, _, _ in found for slot in range(first, last + 1, 10)]
    assert sum(count for _, _, count, _, _ in found) == len(covered)
    assert covered == list(range(10, 10 * len(covered) + 1, 10)), "one fate a slot, none left out"
    return found


async def test_slots_before_in_and_after_a_pause(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "web1") as (world, at):
        app = build_api(world.services)
        await until(world, 25)
        held = await ask(app, "POST", "/v1/schedules/often/pause", {"reason": "storage moves", "seconds": 30 * MINUTE})
        assert held.status == 201
        assert [(pause["scope"], pause["reason"]) for pause in held.json] == [("schedule", "storage moves")]
        await until(world, 71)
        assert await ledger(world, at["web1"]) == [
            (10, 10, 1, "ran", None),
            (20, 20, 1, "ran", None),
            (30, 50, 3, "skipped", "paused: storage moves"),
            (60, 60, 1, "ran", None),
            (70, 70, 1, "ran", None),
        ]
        ran = [(when - START).total_seconds() for _, when in at["web1"].restic.ran]
        assert all(second % 600 < 1 for second in ran), "none of them late: nobody polled for the end of the pause"
        told = await world.read(lambda tx: events.latest(tx, limit=9))
        found = [(event.what, event.actor) for event in told if event.what in {"paused", "resumed"}]
        assert found == [("resumed", "server"), ("paused", "operator")]


async def test_an_end_counts_from_its_instant_for_a_host_that_was_away(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with fleet(tmp_path, "web1") as (world, at):
        app = build_api(world.services)
        await until(world, 25)
        await ask(app, "POST", "/v1/hosts/web1/pause", {"seconds": 30 * MINUTE})
        await until(world, 27)
        await at["web1"].cut()
        await until(world, 95)
        assert await world.read(lambda tx: pauses.holding(tx, world.now())) == []
        assert len(at["web1"].restic.ran) == 2, "it knows of the end, and without standing orders every slot waits"
        at["web1"].up = True
        await until(world, 101)
        assert await ledger(world, at["web1"]) == [
            (10, 10, 1, "ran", None),
            (20, 20, 1, "ran", None),
            (30, 50, 3, "skipped", "paused"),
            (60, 60, 1, "coalesced", "a later slot took its place"),
            (70, 70, 1, "coalesced", "a later slot took its place"),
            (80, 80, 1, "coalesced", "a later slot took its place"),
            (90, 90, 1, "ran", None),
            (100, 100, 1, "ran", None),
        ]


async def test_an_end_needs_nobody(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Cut off over the ends of two pauses, the host goes on when the last has come, and both sides say the same."""
    offline = Offline(Sealer(os.urandom(32)), 60, timedelta(days=30))
    async with fleet(tmp_path, "web1", offline=offline) as (world, at):
        app = build_api(world.services)
        await until(world, 5)
        await ask(app, "POST", "/v1/pause", {"reason": "fleet", "seconds": 30 * MINUTE})
        await ask(app, "POST", "/v1/hosts/web1/pause", {"reason": "host", "seconds": 50 * MINUTE})
        await until(world, 7)
        await at["web1"].cut()
        await until(world, 75)
        ran = [(when - START) // timedelta(minutes=1) for _, when in at["web1"].restic.ran]
        assert ran == [61, 71], "after its grace, by the order it keeps"
        shown = (await ask(app, "GET", "/v1/schedules/often/history?host=web1")).json
        assert [(entry["fate"], entry["count"], entry["reason"]) for entry in reversed(shown)][:2] == [
            ("skipped", 3, "paused: fleet"),
            ("skipped", 2, "paused: host"),
        ], "known before the host tells"
        at["web1"].up = True
        await until(world, 81)
        assert await ledger(world, at["web1"]) == [
            (10, 30, 3, "skipped", "paused: fleet"),
            (40, 50, 2, "skipped", "paused: host"),
            (60, 60, 1, "ran", None),
            (70, 70, 1, "ran", None),
            (80, 80, 1, "ran", None),
        ]
        assert len(at["web1"].restic.ran) == 3
        intervals = await intervals_of(world, at["web1"].host_id)
        rows = await world.read(lambda tx: tx.execute(select(fates)).fetchall())
        there = [interval_at(row.last_slot, intervals) for row in rows]
        assert [row.revision for row in rows] == [one.revision for one in there if one is not None]


async def test_a_pause_that_the_host_hears_of_after_its_slots_came(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Cut off, it holds the slots of the pause for its own; the server judges them by what held at their instant."""
    async with fleet(tmp_path, "web1") as (world, at):
        app = build_api(world.services)
        await until(world, 15)
        await at["web1"].cut()
        await until(world, 25)
        await ask(app, "POST", "/v1/pause", {"reason": "power works"})
        await until(world, 45)
        await ask(app, "POST", "/v1/resume")
        await until(world, 46)
        at["web1"].up = True
        await until(world, 61)
        found = await ledger(world, at["web1"])
        assert found[0] == (10, 10, 1, "ran", None)
        assert found[-2:] == [(50, 50, 1, "ran", None), (60, 60, 1, "ran", None)]
        fates_of = {slot: fate for first, last, _, fate, _ in found for slot in range(first, last + 1, 10)}
        assert fates_of[30] != "ran"
        assert fates_of[40] != "ran"


async def test_pauses_lie_over_each_other(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "web1", "web2") as (world, at):
        app = build_api(world.services)
        for minute, path, body in [
            (15, "/v1/hosts/web1/pause", {"reason": "host"}),
            (25, "/v1/pause", {"reason": "fleet"}),
            (35, "/v1/hosts/web1/resume", None),
            (45, "/v1/schedules/often/pause", {"reason": "schedule"}),
            (55, "/v1/resume", None),
            (65, "/v1/schedules/often/resume", None),
        ]:
            await until(world, minute)
            assert (await ask(app, "POST", path, body)).status in {200, 201}
        await until(world, 71)
        assert await ledger(world, at["web1"]) == [
            (10, 10, 1, "ran", None),
            (20, 30, 2, "skipped", "paused: host"),
            (40, 50, 2, "skipped", "paused: fleet"),
            (60, 60, 1, "skipped", "paused: schedule"),
            (70, 70, 1, "ran", None),
        ]
        assert await ledger(world, at["web2"]) == [
            (10, 10, 1, "ran", None),
            (20, 20, 1, "ran", None),
            (30, 50, 3, "skipped", "paused: fleet"),
            (60, 60, 1, "skipped", "paused: schedule"),
            (70, 70, 1, "ran", None),
        ]


async def test_a_host_that_comes_to_a_paused_schedule_is_paused_there(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with fleet(tmp_path, "web1") as (world, at):
        app = build_api(world.services)
        await ask(app, "POST", "/v1/pause", {"reason": "fleet"})
        joined = await world.join("web2")
        assert (await ask(app, "PATCH", "/v1/schedules/often", {"hosts": ["web1", "web2"]})).status == 200
        schedule = await world.read(lambda tx: schedules.resolve(tx, "often"))
        (mine,) = await world.read(lambda tx: assignments.of(tx, schedule.id, joined))
        assert (mine.enabled, mine.off_reason) == (False, "paused: fleet")
        assert (await ask(app, "PATCH", "/v1/schedules/often", {"enabled": False})).status == 200
        assert (await ask(app, "POST", "/v1/resume")).json == []
        await until(world, 15)
        assert at["web1"].restic.ran == [], "it is disabled besides"


async def test_queued_jobs_run_and_so_does_what_is_asked_for(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id = await world.join("web1")
        await world.repo()
        schedule_id = await world.schedule("often", "web1", cron="@every 10m")
        app = build_api(world.services)
        await trio.sleep(600)
        async with world.agent(host_id) as agent:
            (first,) = await world.dispatcher.run_schedule("often", None)
            await agent.hear(CommandRun)
            fired = await agent.fire(schedule_id, slot_after(START, 600))
            await ask(app, "POST", "/v1/schedules/often/pause", {"reason": "why not"})
            await ask(app, "POST", "/v1/jobs/" + first.id + "/cancel")
            ran = await ask(app, "POST", "/v1/schedules/often/run", {})
            (warning,) = ran.json[0]["warnings"]
            assert "schedule often is paused since" in warning
            assert "why not" in warning
            assert (await ask(app, "GET", f"/v1/jobs/{fired.job_id}")).json["status"] == "queued"
            late = await agent.fire(schedule_id, slot_after(START, 1200), revision=1)
            assert late.answer == "rejected"


async def test_everybody_is_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "web1", "web2") as (world, _):
        app = build_api(world.services)
        await ask(app, "POST", "/v1/hosts/web1/pause", {"reason": "disks"})
        assert [p["host"] for p in (await ask(app, "GET", "/v1/hosts/web1")).json["pauses"]] == ["web1"]
        assert (await ask(app, "GET", "/v1/hosts/web2")).json["pauses"] == []
        schedule = (await ask(app, "GET", "/v1/schedules/often")).json
        assert (schedule["pauses"], schedule["warnings"]) == ([], ["paused on web1"])
        assert {slot["host"] for slot in schedule["next"]} <= {None, "web2"}
        await trio.sleep(1)
        await ask(app, "POST", "/v1/schedules/often/pause", {"until": "2026-03-02T00:00:00Z"})
        schedule = (await ask(app, "GET", "/v1/schedules/often")).json
        assert ([p["scope"] for p in schedule["pauses"]], schedule["next"]) == (["schedule"], [])
        status = (await ask(app, "GET", "/v1/status")).json
        assert [p["scope"] for p in status["pauses"]] == ["host", "schedule"]
        said = "\n".join(status["problems"])
        assert "host web1 is paused since 2026-03-01 12:00 UTC, until it is resumed: disks" in said
        assert "schedule often is paused since 2026-03-01 12:00 UTC, until 2026-03-02 00:00 UTC" in said
        assert [line["next_slot"] for line in status["hosts"]] == [None, None]
        assert (await ask(app, "GET", "/v1/pauses")).json == status["pauses"]


async def test_pausing_again_changes_the_reason_and_the_end_alone(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "web1") as (world, _):
        app = build_api(world.services)
        await ask(app, "POST", "/v1/pause", {"reason": "one", "seconds": 60})
        await trio.sleep(30)
        (pause,) = (await ask(app, "POST", "/v1/pause", {"reason": "two"})).json
        assert (pause["reason"], pause["since"], pause["until"]) == ("two", "2026-03-01T12:00:00Z", None)
        await trio.sleep(600)
        assert len((await ask(app, "GET", "/v1/pauses")).json) == 1, "the first end does not count any more"


@pytest.mark.parametrize(
    ("path", "body", "refusal"),
    [
        ("/v1/pause", {"until": "2026-03-01T11:59:59Z"}, (400, "which is past")),
        ("/v1/pause", {"seconds": 0}, (400, "0s would be none")),
        ("/v1/pause", {"seconds": 5, "until": "2026-03-02T00:00:00Z"}, (400, "not both")),
        ("/v1/pause", {"reason": "x" * 201}, (400, "reason")),
        ("/v1/pause", {"reason": "two\nlines"}, (400, "one line")),
        ("/v1/pause", {"raeson": "x"}, (400, "raeson")),
        ("/v1/hosts/web9/pause", {}, (404, "web9")),
        ("/v1/schedules/web1/pause", {}, (404, "web1")),
        ("/v1/resume", None, (409, "the fleet is not paused")),
        ("/v1/hosts/web1/resume", None, (409, "host web1 is not paused")),
        ("/v1/schedules/often/resume", None, (409, "schedule often is not paused")),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(
    tmp_path: Path, autojump_clock: MockClock, path: str, body: object, refusal: tuple[int, str]
) -> None:
    status, told = refusal
    async with fleet(tmp_path, "web1") as (world, at):
        version = (await world.read(lambda tx: hosts.get(tx, at["web1"].host_id))).schedule_version
        refused = await ask(build_api(world.services), "POST", path, body)
        assert refused.status == status
        assert told in refused.json["error"]["message"]
        assert await world.read(lambda tx: pauses.holding(tx, world.now())) == []
        assert (await world.read(lambda tx: hosts.get(tx, at["web1"].host_id))).schedule_version == version


async def test_ends_that_came_while_the_server_was_down_are_made_up_for_in_their_order(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        host_id = await world.join("web1")
        await world.repo()
        schedule_id = await world.schedule("often", "web1", cron="@every 10m")
        target = pause_changes.Target(Scope.HOST, host_id, "web1")
        for minutes, what, reason in ((30, pause_changes.FLEET, "fleet"), (50, target, "host")):
            until_ = START + timedelta(minutes=minutes)
            await world.write(
                lambda tx, what=what, reason=reason, until_=until_: pause_changes.pause(  # type: ignore[misc]  # bound by their defaults
                    tx, what, reason=reason, until=until_, now=world.now()
                )
            )
    async with open_world(tmp_path, start=START + timedelta(hours=5)) as world:
        world.nursery.start_soon(Janitor(world.services).run)
        await world.settled()
        found = await world.read(lambda tx: assignments.of(tx, schedule_id, host_id))
        told = [
            (one.enabled, one.off_reason, one.valid_to and (one.valid_to - START) // timedelta(minutes=1))
            for one in found
        ]
        assert told[-3:] == [
            (False, "paused: fleet", 30),
            (False, "paused: host", 50),
            (True, None, None),
        ]


async def test_a_fire_of_the_time_after_the_end_is_answered_before_anybody_noted_the_end(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:  # without a janitor
        host_id = await world.join("web1")
        await world.repo()
        schedule_id = await world.schedule("often", "web1", cron="@every 10m")
        app = build_api(world.services)
        await ask(app, "POST", "/v1/pause", {"reason": "why", "seconds": 25 * MINUTE})
        async with world.agent(host_id) as agent:
            (told,) = [codec.decode_entry(raw) for raw in (await agent.hear(ScheduleSet)).entries]
            assert (told.enabled, told.off_reason) == (False, "paused: why")
            (turn,) = told.turns
            assert (turn.at, turn.enabled) == (START + timedelta(minutes=25), True)
            await trio.sleep(31 * MINUTE)
            inside = await agent.fire(schedule_id, START + timedelta(minutes=20), revision=turn.revision)
            assert (inside.answer, inside.code) == ("rejected", "disabled")
            after = await agent.fire(schedule_id, START + timedelta(minutes=30), revision=turn.revision)
            assert after.answer == "dispatched"


async def test_an_edit_before_anybody_noted_the_end_leaves_it_where_it_was(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        host_id = await world.join("web1")
        await world.repo()
        await world.schedule("often", "web1", cron="@every 10m")
        app = build_api(world.services)
        await ask(app, "POST", "/v1/pause", {"seconds": 25 * MINUTE})
        await trio.sleep(31 * MINUTE)
        await ask(app, "PATCH", "/v1/schedules/often", {"cron": "@every 20m"})
        await world.write(lambda tx: pause_changes.end_due(tx, now=world.now()))
        found = [one for one in await intervals_of(world, host_id) if one.valid_from != one.valid_to]
        assert [(one.enabled, one.valid_to and (one.valid_to - START) // timedelta(minutes=1)) for one in found] == [
            (False, 25),
            (True, 31),
            (True, None),
        ]
        assert await world.read(lambda tx: pauses.holding(tx, world.now())) == []


@pytest.mark.parametrize("down_until", [10, 60])
async def test_a_pause_that_an_earlier_program_made_is_announced_or_ended_at_the_start(
    tmp_path: Path, autojump_clock: MockClock, down_until: int
) -> None:
    async with open_world(tmp_path) as world:
        host_id = await world.join("web1")
        await world.repo()
        await world.schedule("often", "web1", cron="@every 10m")
        await ask(build_api(world.services), "POST", "/v1/pause", {"seconds": 25 * MINUTE})
        forget = assignment_rows.update().values(turns=None, turn_at=None)
        await world.write(lambda tx: tx.execute(forget))
    async with open_world(tmp_path, start=START + timedelta(minutes=down_until)) as world:
        assert len([one for one in await intervals_of(world, host_id) if one.enabled]) == 1, "before the pause alone"
        world.nursery.start_soon(Janitor(world.services).run)
        await world.settled()
        last = (await intervals_of(world, host_id))[-1]
        assert (last.enabled, last.valid_from) == (True, START + timedelta(minutes=25))
