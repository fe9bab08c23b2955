"""The ledger on a real server in virtual time: one fate a slot in the rows, what the server closes itself, and stories.

The stories are told by a scripted agent; each is asked for with `why` over the API, and its sentence is exact.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import trio
from sqlalchemy import select
from trio.testing import MockClock

from restic_manager.domain.model import Evidence, Fate, Outcome, Status, slot_job_id
from restic_manager.protocol.api import HistoryEntry, ScheduleEdit, WhyView
from restic_manager.protocol.messages import (
    CommandRun,
    JobStarted,
    RefusedEntry,
    ScheduleAck,
    ScheduleFire,
    ScheduleFired,
    ScheduleSet,
    SlotDecided,
)
from restic_manager.server.api.app import build_api
from restic_manager.server.store import host_changes, hosts, schedule_changes, schedules
from restic_manager.server.store.schema import fates, quarantine
from tests.server.world import DONE, ScriptedAgent, World, failed, open_world
from tests.support.asgi import ask

BEGIN = datetime(2026, 11, 20, 0, 30, tzinfo=UTC)


def clock(hour: int, minute: int = 0, *, day: int = 20) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


class Stage:
    """One host with an hourly schedule in London, which is on GMT then."""

    def __init__(self, world: World, host_id: str, schedule_id: str) -> None:
        self.world, self.host_id, self.schedule_id = world, host_id, schedule_id
        self.app = build_api(world.services)
        self.revision = 1

    async def until(self, hour: int, minute: int = 0, second: int = 0, *, day: int = 20) -> None:
        wanted = datetime(2026, 11, day, hour, minute, second, tzinfo=UTC)
        assert wanted >= self.world.now()
        await trio.sleep((wanted - self.world.now()).total_seconds())

    async def get(self, path: str) -> Any:
        answer = await ask(self.app, "GET", f"/v1/schedules/{path}")
        return answer.status, answer.json

    async def why(self, at: str = "2026-11-20 02:00", *, host: str | None = None, name: str = "nightly") -> WhyView:
        more = f"&host={host}" if host else ""
        status, answer = await self.get(f"{name}/why?at={quote(at)}{more}")
        assert status == 200, answer
        return msgspec.convert(answer, WhyView, strict=False)

    async def history(self, query: str = "", *, name: str = "nightly") -> list[HistoryEntry]:
        status, answer = await self.get(f"{name}/history{'?' if query else ''}{query}")
        assert status == 200, answer
        return msgspec.convert(answer, list[HistoryEntry], strict=False)

    async def brief(self, query: str = "") -> list[tuple[str, str, int, str | None]]:
        return [(f"{entry.slot:%H:%M}", entry.fate, entry.count, entry.reason) for entry in await self.history(query)]

    def job(self, hour: int) -> str:
        return slot_job_id(self.schedule_id, self.host_id, clock(hour))[:8] + "…"

    async def fire(self, agent: ScriptedAgent, hour: int, **more: Any) -> CommandRun:
        said: dict[str, Any] = {"trigger": "tick"} | more
        await agent.link.send(
            ScheduleFire(schedule_id=self.schedule_id, revision=self.revision, scheduled_at=clock(hour), **said)
        )
        answer = await agent.hear(ScheduleFired)
        assert answer.answer == "dispatched", answer
        return await agent.hear(CommandRun)

    async def run(self, agent: ScriptedAgent, hour: int, outcome: Outcome = DONE, **more: Any) -> None:
        order = await self.fire(agent, hour, **more)
        await agent.start(order)
        await agent.acked(await agent.finish(order, outcome))

    async def tell(self, agent: ScriptedAgent, first: int, last: int, fate: Fate, reason: str, **more: Any) -> None:
        def make(seq: int) -> SlotDecided:
            said: dict[str, Any] = {
                "schedule_id": self.schedule_id,
                "revision": self.revision,
                "first": clock(first),
                "last": clock(last),
                "count": last - first + 1,
                "fate": fate,
                "reason": reason,
            } | more
            return SlotDecided(seq=seq, **said)

        await agent.acked(await agent.report(make))

    async def edit(self, **changes: Any) -> None:
        edit = ScheduleEdit(**changes)
        changed = await self.world.write(
            lambda tx: schedule_changes.edit(
                tx, schedules.get(tx, self.schedule_id), edit, now=self.world.now(), default_zone="UTC"
            )
        )
        self.world.hub.sets_changed(changed.hosts)

    async def ack(self, agent: ScriptedAgent, **more: Any) -> ScheduleSet:
        """Take the newest set and ack it; return when that is stored."""
        newest = await agent.hear(ScheduleSet)
        with contextlib.suppress(trio.TooSlowError):
            while True:
                newest = await agent.hear(ScheduleSet, within=0.5)
        await agent.link.send(ScheduleAck(epoch=newest.epoch, version=newest.version, **more))
        await self.world.settled()
        return newest

    async def set_aside(self) -> list[str]:
        return await self.world.read(lambda tx: list(tx.execute(select(quarantine.c.reason)).scalars()))

    async def rows(self) -> list[tuple[str, str, str, int, str]]:
        query = select(fates).order_by(fates.c.last_slot)
        rows = await self.world.read(lambda tx: tx.execute(query).all())
        for earlier, later in zip(rows, rows[1:], strict=False):  # noqa: RUF007 - reads as the rule it holds
            assert earlier.last_slot < later.first_slot, "two rows share an instant"
        return [
            (f"{row.first_slot:%H:%M}", f"{row.last_slot:%H:%M}", row.fate, row._mapping["count"], row.decided_by)
            for row in rows
        ]


@asynccontextmanager
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with open_world(tmp_path, start=BEGIN) as world:
        host_id = await world.join("web1")
        await world.repo()
        schedule_id = await world.schedule("nightly", "web1", cron="0 * * * *", timezone="Europe/London")
        yield Stage(world, host_id, schedule_id)


Tale = Callable[[Stage], Any]


async def on_time(stage: Stage) -> str:
    async with stage.world.agent(stage.host_id) as agent:
        await stage.until(2)
        await stage.run(agent, 2)
    return f"02:00 GMT on web1: ran on time as job {stage.job(2)}, which succeeded"


async def caught_up_after_the_agent_was_off(stage: Stage) -> str:
    """0:30 to 6:40: slots 1:00 to 6:00, of which the last runs and stands for the others."""
    await stage.until(6, 41)
    gap = Evidence(what="not_running", since=clock(0, 42), until=clock(6, 40))
    async with stage.world.agent(stage.host_id) as agent:
        await stage.tell(agent, 1, 1, Fate.COALESCED, "a later slot took its place", into=clock(2), evidence=gap)
        await stage.run(agent, 2, trigger="catch-up", stands_for=2, evidence=gap)
    return (
        f"02:00 GMT on web1: the agent was not running 00:42–06:40; caught up at 06:41 as job {stage.job(2)}, "  # noqa: RUF001 - a range
        "which succeeded; 1 earlier slot coalesced into it"
    )


async def the_host_was_suspended(stage: Stage) -> str:
    await stage.until(3, 10)
    gap = Evidence(what="suspended", since=clock(1, 30), until=clock(3, 9))
    async with stage.world.agent(stage.host_id) as agent:
        await stage.run(agent, 2, trigger="catch-up", evidence=gap)
    return (
        f"02:00 GMT on web1: the host was suspended 01:30–03:09; caught up at 03:10 as job {stage.job(2)}, "  # noqa: RUF001 - a range
        "which succeeded"
    )


async def coalesced_into_another(stage: Stage) -> str:
    await stage.until(5, 1)
    gap = Evidence(what="not_running", since=clock(0, 45), until=clock(5))
    async with stage.world.agent(stage.host_id) as agent:
        await stage.tell(agent, 1, 4, Fate.COALESCED, "a later slot took its place", into=clock(5), evidence=gap)
        await stage.run(agent, 5, trigger="catch-up", stands_for=5, evidence=gap)
    return (
        "02:00 GMT on web1: the agent was not running 00:45–05:00; coalesced into 05:00, which ran at 05:01 as "  # noqa: RUF001 - a range
        f"job {stage.job(5)}"
    )


async def held_by_overlap_then_ran(stage: Stage) -> str:
    async with stage.world.agent(stage.host_id) as agent:
        await stage.until(1)
        order = await stage.fire(agent, 1)
        await agent.start(order)
        await stage.until(2, 40)
        await agent.acked(await agent.finish(order, DONE))
        await stage.run(agent, 2)
    return (
        f"02:00 GMT on web1: waited for job {stage.job(1)} of the slot before until 02:40; ran at 02:40 as job "
        f"{stage.job(2)}, which succeeded"
    )


async def skipped_by_overlap(stage: Stage) -> str:
    async with stage.world.agent(stage.host_id) as agent:
        await stage.until(1)
        order = await stage.fire(agent, 1)
        await agent.start(order)
        await stage.until(2)
        await stage.tell(agent, 2, 2, Fate.SKIPPED, "overlap: the run before was not finished")
        await stage.until(2, 40)
        await agent.acked(await agent.finish(order, DONE))
    return f"02:00 GMT on web1: skipped: overlap: the run before was not finished; job {stage.job(1)} ran until 02:40"


async def disabled_and_nobody_told_yet(stage: Stage) -> str:
    await stage.edit(enabled=False)
    await stage.until(2, 30)
    return "02:00 GMT on web1: skipped: disabled"


async def superseded_by_an_edit_the_host_never_saw(stage: Stage) -> str:
    """Two edits while the host is away: what the revision between them owned, nobody but the server can close."""
    await stage.edit(cron="0 2 * * *")
    await stage.until(2, 10)
    await stage.edit(cron="0 4 * * *")
    async with stage.world.agent(stage.host_id) as agent:
        await stage.ack(agent)
    return "02:00 GMT on web1: skipped: superseded by revision 3"


async def removed_from_the_targets(stage: Stage) -> str:
    await stage.world.join("other")
    await stage.until(2, 10)
    await stage.edit(hosts=("other",))
    async with stage.world.agent(stage.host_id) as agent:
        await stage.ack(agent)
    return "02:00 GMT on web1: skipped: removed"


async def left_and_came_back_between_two_acks(stage: Stage) -> str:
    await stage.world.join("other")
    await stage.until(2, 10)
    await stage.edit(hosts=("other",))
    await stage.until(2, 50)
    await stage.edit(hosts=("other", "web1"))
    async with stage.world.agent(stage.host_id) as agent:
        await stage.ack(agent)
    return "02:00 GMT on web1: skipped: removed"


async def the_host_is_away(stage: Stage) -> str:
    await stage.until(1, 10)
    async with stage.world.agent(stage.host_id):
        pass
    await stage.world.settled()
    await stage.until(2, 5)
    return "02:00 GMT on web1: what became of it is unknown: host away since 2026-11-20T01:10:00Z"


async def rejected(stage: Stage) -> str:
    async with stage.world.agent(stage.host_id) as agent:
        refusal = RefusedEntry(schedule_id=stage.schedule_id, code="bad_schedule", reason="no such zone here")
        await stage.ack(agent, refused=(refusal,))
        await stage.until(2, 5)
    return "02:00 GMT on web1: rejected: its agent cannot use the schedule: no such zone here"


async def retried_after_the_repository_was_made(stage: Stage) -> str:
    async with stage.world.agent(stage.host_id) as agent:
        await stage.until(2)
        await stage.run(agent, 2, failed("repo_missing"))
        init = await agent.hear(CommandRun)
        await agent.start(init)
        await agent.acked(await agent.finish(init, DONE))
        again = await agent.hear(CommandRun)
        await agent.start(again)
        await agent.acked(await agent.finish(again, DONE))
    return (
        f"02:00 GMT on web1: ran on time as job {stage.job(2)}, which failed (repo_missing); "
        f"attempt 2, job {again.job_id[:8]}…, succeeded"
    )


async def too_late_to_be_run(stage: Stage) -> str:
    await stage.until(6)
    gap = Evidence(what="not_running", since=clock(0, 45), until=clock(5, 59))
    async with stage.world.agent(stage.host_id) as agent:
        await stage.tell(agent, 1, 5, Fate.MISSED, "more than 30m late", evidence=gap)
    return "02:00 GMT on web1: the agent was not running 00:45–05:59; missed: more than 30m late"  # noqa: RUF001 - a range


async def the_records_were_lost(stage: Stage) -> str:
    """The agent ran 3:00 and had not told of 1:00 and 2:00 when its data directory was lost."""
    await stage.until(3)
    async with stage.world.agent(stage.host_id) as agent:
        await stage.run(agent, 3)
    async with stage.world.agent(stage.host_id, journal_id="another"):
        pass
    return "02:00 GMT on web1: missed: the agent's records were lost"


async def still_to_come(stage: Stage) -> str:
    assert (await stage.why("2026-11-20T02:00:00Z")).entry.fate == "planned"
    return "02:00 GMT on web1: still to come"


STORIES: tuple[Tale, ...] = (
    on_time,
    caught_up_after_the_agent_was_off,
    the_host_was_suspended,
    coalesced_into_another,
    held_by_overlap_then_ran,
    skipped_by_overlap,
    disabled_and_nobody_told_yet,
    superseded_by_an_edit_the_host_never_saw,
    removed_from_the_targets,
    left_and_came_back_between_two_acks,
    the_host_is_away,
    rejected,
    retried_after_the_repository_was_made,
    too_late_to_be_run,
    the_records_were_lost,
    still_to_come,
)


@pytest.mark.parametrize("tale", STORIES, ids=lambda tale: tale.__name__)
async def test_why(tale: Tale, tmp_path: Path, autojump_clock: MockClock) -> None:
    async with stage(tmp_path) as at:
        wanted = await tale(at)
        found = await at.why(host="web1")
        assert found.sentence == wanted
        assert (found.slot, found.local) == (clock(2), "2026-11-20T02:00:00+00:00")
        listed = [entry for entry in await at.history() if entry.slot <= clock(2) <= (entry.last_slot or entry.slot)]
        assert [entry.fate for entry in listed] == ([] if found.entry.fate == "planned" else [found.entry.fate])
        await at.rows()
        assert await at.set_aside() == []


async def test_pending_is_said_while_the_host_is_there(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with stage(tmp_path) as at, at.world.agent(at.host_id) as agent:
        await at.until(2, 0, 30)
        assert (await at.why()).sentence == "02:00 GMT on web1: due, and not decided yet; the host is there"
        await at.tell(agent, 1, 1, Fate.SKIPPED, "paused")
        assert await at.brief() == [("02:00", "pending", 1, None), ("01:00", "skipped", 1, "paused")]


# -- one fate a slot in the rows --------------------------------------------------------------------------------------


async def test_a_fate_told_twice_changes_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with stage(tmp_path) as at, at.world.agent(at.host_id) as agent:
        await at.until(6)
        for _ in range(2):
            await at.tell(agent, 1, 4, Fate.COALESCED, "a later slot took its place", into=clock(5))
        assert await at.rows() == [("01:00", "04:00", "coalesced", 4, "agent")]
        assert await at.set_aside() == []


async def test_a_range_is_cut_to_the_slots_without_a_fate(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with stage(tmp_path) as at, at.world.agent(at.host_id) as agent:
        await at.until(8)
        await at.tell(agent, 3, 3, Fate.SKIPPED, "overlap")
        await at.run(agent, 5)
        await at.tell(agent, 1, 7, Fate.MISSED, "more than 1h late")
        assert await at.rows() == [
            ("01:00", "02:00", "missed", 2, "agent"),
            ("03:00", "03:00", "skipped", 1, "agent"),
            ("04:00", "04:00", "missed", 1, "agent"),
            ("05:00", "05:00", "ran", 1, "agent"),
            ("06:00", "07:00", "missed", 2, "agent"),
        ]
        await at.tell(agent, 1, 7, Fate.MISSED, "more than 1h late")  # a repeat, though none of its rows is as told
        assert (await at.set_aside(), len(await at.rows())) == ([], 5)


async def test_another_fate_for_slots_that_have_one_is_set_aside(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with stage(tmp_path) as at, at.world.agent(at.host_id) as agent:
        await at.until(6)
        await at.tell(agent, 1, 4, Fate.MISSED, "late")
        await at.tell(agent, 2, 3, Fate.SKIPPED, "overlap")
        assert await at.rows() == [("01:00", "04:00", "missed", 4, "agent")]
        (reason,) = await at.set_aside()
        assert "2026-11-20T01:00:00Z is missed (late)" in reason


async def test_a_run_that_turns_up_takes_its_slot_out_of_a_range(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with stage(tmp_path) as at, at.world.agent(at.host_id) as agent:
        await at.until(6)
        await at.tell(agent, 1, 5, Fate.MISSED, "late")
        job_id = slot_job_id(at.schedule_id, at.host_id, clock(3))
        await agent.acked(
            await agent.report(
                lambda seq: JobStarted(
                    seq=seq, job_id=job_id, started_at=clock(3), schedule_id=at.schedule_id, scheduled_at=clock(3)
                )
            )
        )
        assert await at.rows() == [
            ("01:00", "02:00", "missed", 2, "agent"),
            ("03:00", "03:00", "ran", 1, "agent"),
            ("04:00", "05:00", "missed", 2, "agent"),
        ]


async def test_what_a_wrong_clock_decided_of_the_future_is_not_taken(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with stage(tmp_path) as at, at.world.agent(at.host_id) as agent:
        await at.until(3, 30)
        await at.tell(agent, 1, 9, Fate.MISSED, "late")
        await at.tell(agent, 10, 11, Fate.MISSED, "late")
        assert await at.rows() == [("01:00", "05:00", "missed", 5, "agent")], "two hours may have been waited out"
        (reason,) = await at.set_aside()
        assert "are in the future" in reason


async def test_a_slot_rejected_as_future_is_recorded_and_runs_if_it_fires_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Its clock was ahead. Set back by up to two hours it never fires again, set back by more it does."""
    async with stage(tmp_path) as at, at.world.agent(at.host_id) as agent:
        await at.until(3, 30)
        for hour in (4, 5):
            answer = await agent.fire(at.schedule_id, clock(hour))
            assert (answer.answer, answer.code) == ("rejected", "future")
            await at.tell(agent, hour, hour, Fate.REJECTED, "future")
        await at.tell(agent, 6, 6, Fate.REJECTED, "future")
        rejected = [("04:00", "04:00", "rejected", 1, "agent"), ("05:00", "05:00", "rejected", 1, "agent")]
        assert await at.rows() == rejected
        assert len(await at.set_aside()) == 1, "so far ahead it is decided anew"
        await at.until(5, 10)
        assert (await agent.fire(at.schedule_id, clock(5))).answer == "dispatched"
        assert await at.rows() == [rejected[0], ("05:00", "05:00", "ran", 1, "agent")]


async def test_what_was_told_in_time_stays(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with stage(tmp_path) as at, at.world.agent(at.host_id) as agent:
        await at.until(4, 55)
        await at.tell(agent, 5, 5, Fate.SKIPPED, "overlap")
        answer = await agent.fire(at.schedule_id, clock(5))
        assert (answer.answer, answer.code) == ("rejected", "decided")


async def test_the_agents_word_takes_the_place_of_the_servers(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A held slot fires, and a report comes, after the ack by which the server closed their interval."""
    async with stage(tmp_path) as at:
        await at.until(4, 10)
        await at.edit(cron="0 9 * * *")
        async with at.world.agent(at.host_id) as agent:
            await at.ack(agent)
            assert await at.rows() == [("01:00", "04:00", "skipped", 4, "server")]
            await at.tell(agent, 1, 2, Fate.MISSED, "late")
            await at.run(agent, 4)
            assert await at.rows() == [
                ("01:00", "02:00", "missed", 2, "agent"),
                ("03:00", "03:00", "skipped", 1, "server"),
                ("04:00", "04:00", "ran", 1, "agent"),
            ]
            assert await at.set_aside() == []


async def test_a_lost_ack_is_made_good_by_the_next_hello(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with stage(tmp_path) as at:
        async with at.world.agent(at.host_id) as agent:
            first = await at.ack(agent)
        await at.until(2, 10)
        await at.edit(cron="0 9 * * *")
        async with at.world.agent(at.host_id, applied_epoch=first.epoch, applied_version=first.version) as agent:
            second = await agent.hear(ScheduleSet)
        assert await at.rows() == []
        async with at.world.agent(at.host_id, applied_epoch=second.epoch, applied_version=second.version):
            pass
        assert await at.rows() == [("01:00", "02:00", "skipped", 2, "server")]


async def test_closing_leaves_what_has_a_fate_and_is_done_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with stage(tmp_path) as at:
        await at.until(5, 10)
        async with at.world.agent(at.host_id) as agent:
            await at.run(agent, 3)
            await at.edit(enabled=False)
            await at.ack(agent)
            await at.until(7, 10)
            await at.edit(enabled=True)
            await at.ack(agent)
        assert await at.rows() == [
            ("01:00", "02:00", "skipped", 2, "server"),
            ("03:00", "03:00", "ran", 1, "agent"),
            ("04:00", "05:00", "skipped", 2, "server"),
            ("06:00", "07:00", "skipped", 2, "server"),
        ]
        assert (await at.brief("limit=1")) == [("06:00", "skipped", 2, "disabled")]


# -- the API ----------------------------------------------------------------------------------------------------------


async def test_history_is_newest_first_over_hosts_in_windows(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with stage(tmp_path) as at:
        await at.world.join("web2")
        await at.edit(hosts=("web1", "web2"))
        async with at.world.agent(at.host_id) as agent:
            for hour in (1, 2, 3):
                await at.until(hour)
                await at.run(agent, hour)
        await at.until(3, 30)
        entries = await at.history()
        assert [(entry.host, f"{entry.slot:%H:%M}", entry.fate, entry.count) for entry in entries] == [
            ("web1", "03:00", "ran", 1),
            ("web1", "02:00", "ran", 1),
            ("web1", "01:00", "ran", 1),
            ("web2", "01:00", "unknown", 3),
        ]
        assert (entries[0].status, entries[0].attempts) == (Status.SUCCEEDED, (entries[0].job_id,))
        assert [entry.slot.hour for entry in await at.history("limit=2")] == [3, 2]
        window = "since=2026-11-20T01:30:00Z&until=2026-11-20T02:30:00Z"
        assert [(entry.host, entry.slot.hour, entry.count) for entry in await at.history(window)] == [
            ("web1", 2, 1),
            ("web2", 2, 1),
        ]
        assert {entry.host for entry in await at.history("host=web2")} == {"web2"}
        # Every page of two together is the whole.
        slots, until = [], "2026-11-20T03:30:00Z"
        while page := await at.history(f"host=web1&limit=2&until={until}"):
            slots += [entry.slot.hour for entry in page]
            until = (page[-1].slot - timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        assert slots == [3, 2, 1]


async def test_why_finds_the_slot_that_is_meant_or_says_what_is_around(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with stage(tmp_path) as at:
        await at.until(3, 30)
        for text in ("2026-11-20T02:00:40Z", "2026-11-20T03:00:00+01:00", "2026-11-20 01:59:30", "2026-11-20T02:00"):
            assert (await at.why(text)).slot == clock(2), text
        status, answer = await at.get("nightly/why?at=2026-11-20T02:20:00Z")
        assert status == 404
        assert answer["error"]["message"] == (
            "there is no slot at 2026-11-20T02:20:00Z on web1: the slots around it are 2026-11-20 02:00:00 GMT and "
            "2026-11-20 03:00:00 GMT"
        )
        for text in ("yesterday", "2026-13-01 00:00", "2026-11-20", ""):
            status, answer = await at.get(f"nightly/why?at={quote(text)}")
            assert (status, answer["error"]["code"]) == (400, "invalid_input"), text
        status, answer = await at.get("nightly/why?at=2026-11-20T02:00:00Z&host=nobody")
        assert status == 404
        await at.world.join("web2")
        await at.edit(hosts=("web1", "web2"))
        status, answer = await at.get("nightly/why?at=2026-11-20T02:00:00Z")
        assert status == 400
        assert "on 2 hosts (web1, web2): say which one with --host" in answer["error"]["message"]


async def test_what_was_removed_can_still_be_asked_about(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with stage(tmp_path) as at:
        await at.until(2, 10)
        await at.world.write(
            lambda tx: schedule_changes.remove(tx, schedules.get(tx, at.schedule_id), now=at.world.now())
        )
        await at.world.write(lambda tx: host_changes.remove(tx, hosts.get(tx, at.host_id), now=at.world.now()))
        assert [(entry.fate, entry.count) for entry in await at.history("host=web1")] == [("missed", 2)]
        assert (await at.why()).sentence == (
            "02:00 GMT on web1: missed: the host was removed before it told what became of it"
        )


async def test_status_says_what_nobody_told_of_and_what_was_missed(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with stage(tmp_path) as at:

        async def problems() -> list[str]:
            view = (await ask(at.app, "GET", "/v1/status")).json
            return [line for line in view["problems"] if "nightly" in line]

        async with at.world.agent(at.host_id) as agent:
            await at.until(2, 30)
            await at.tell(agent, 1, 2, Fate.MISSED, "more than 10m late")
            assert await problems() == ["2 slots of nightly on web1 were missed in the last 24 h: more than 10m late"]
        await at.until(3, 30)
        assert len(await problems()) == 1  # one slot unheard of for less than an interval
        await at.until(4, 30)
        assert (await problems())[0] == (
            "what became of 2 slots of nightly is unknown since 2026-11-20 03:00 UTC: web1 cannot be heard"
        )
        await at.until(3, day=21)
        assert not any("missed" in line for line in await problems())
