"""The end of a pause, which the agent knows in advance: with the server there, away, and the agent itself away."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import trio
from trio.testing import MockClock

from restic_manager.agent.app import Offline
from restic_manager.domain.model import Fate, Turn, slot_job_id
from restic_manager.protocol.messages import Entry, JobFinished, ScheduleFire, ScheduleFired, SlotDecided
from restic_manager.secrets import Sealer
from tests.agent.scripted import Desk, World, at, dispatched, entry, order, world


def offline(grace: float = 60) -> Offline:
    return Offline(Sealer(os.urandom(32)), grace, timedelta(days=30))


def ran(here: World) -> list[tuple[str, float]]:
    return [(job_id, (when - at(0)).total_seconds() / 60) for job_id, when in here.restic.ran]


def job(minutes: float) -> str:
    return slot_job_id("s1", "host-1", at(minutes))


def hourly(*, revision: int = 1, since: float = 0, paused: str | None = None, turns: tuple[Turn, ...] = ()) -> Entry:
    return entry(
        cron="0 * * * *",
        revision=revision,
        since=at(since),
        enabled=paused is None,
        off_reason=paused,
        turns=turns,
        with_order=True,
    )


def on(minutes: float, revision: int) -> Turn:
    return Turn(at=at(minutes), revision=revision, enabled=True)


def told(desk: Desk) -> list[tuple[int, float, float, int, Fate, str]]:
    """Every fate the agent reported in this session: revision, from and to in minutes, count, fate, reason."""

    def minutes(slot: SlotDecided, which: str) -> float:
        return float((getattr(slot, which) - at(0)).total_seconds() / 60)

    return [
        (one.revision, minutes(one, "first"), minutes(one, "last"), one.count, one.fate, one.reason)
        for _, one in desk.heard
        if isinstance(one, SlotDecided)
    ]


async def test_with_the_server_away_it_goes_on_at_the_end_and_runs(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        here.offline = offline()
        await here.start()
        desk = await here.connected()
        await desk.apply(hourly())
        await desk.apply(hourly(revision=2, since=10, paused="paused: why", turns=(on(150, 3),)), version=2)
        here.cut(for_good=True)
        await trio.sleep(250 * 60)
        assert ran(here) == [(job(180), 181), (job(240), 241)]
        here.up = True
        desk = await here.connected()
        assert (await desk.next(JobFinished)).scheduled_at == at(180)
        assert (await desk.next(JobFinished)).scheduled_at == at(240)
        assert told(desk) == [(2, 60, 120, 2, Fate.SKIPPED, "paused: why")]
        ack = await desk.apply(hourly(revision=3, since=150), version=3)
        assert ack.refused == ()
        fire = await desk.next(ScheduleFire)
        assert (fire.scheduled_at, fire.revision, fire.stands_for) == (at(300), 3, 1)
        assert len(told(desk)) == 1, "the server's own word of the end closes nothing again"


async def test_an_agent_that_runs_nothing_by_itself_fires_under_the_announced_revision(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as here:
        await here.start()
        desk = await here.connected()
        await desk.apply(hourly(revision=2, paused="paused", turns=(on(90, 3),)))
        here.cut(for_good=True)
        await trio.sleep(250 * 60)
        here.up = True
        fire = await (await here.connected()).next(ScheduleFire)
        assert (fire.scheduled_at, fire.revision, fire.trigger, fire.stands_for) == (at(240), 3, "tick", 3)
        assert here.restic.ran == []


async def test_an_agent_that_was_off_over_the_end_knows_it_when_it_starts(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as here:
        here.offline = offline()
        await here.start()
        desk = await here.connected()
        await desk.apply(hourly(revision=2, paused="paused", turns=(on(90, 3),)))
        here.cut(for_good=True)
        here.kill()
        await trio.sleep(200 * 60)
        await here.start()
        await trio.sleep(5 * 60)
        assert [job_id for job_id, _ in ran(here)] == [job(180)]
        here.up = True
        desk = await here.connected()
        await desk.next(JobFinished)
        assert told(desk) == [
            (2, 60, 60, 1, Fate.SKIPPED, "paused"),
            (3, 120, 120, 1, Fate.COALESCED, "a later slot took its place"),
        ]


async def test_of_several_pauses_it_goes_on_after_the_last(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        here.offline = offline()
        await here.start()
        desk = await here.connected()
        more = Turn(at=at(90), revision=3, enabled=False, off_reason="paused: two")
        await desk.apply(
            hourly(revision=2, paused="paused: one", turns=(more, on(210, 4))),
            entry("s2", cron="0 * * * *", revision=2, enabled=False, off_reason="paused: one", turns=(more,)),
        )
        here.cut(for_good=True)
        await trio.sleep(250 * 60)
        assert ran(here) == [(job(240), 241)], "s2 has a pause without end besides"
        here.up = True
        desk = await here.connected()
        await desk.next(JobFinished)
        assert told(desk) == [
            (2, 60, 60, 1, Fate.SKIPPED, "paused: one"),
            (3, 120, 180, 2, Fate.SKIPPED, "paused: two"),
        ]


async def test_the_server_is_there_and_tells_of_the_end(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        await here.start()
        desk = await here.connected()
        await desk.apply(hourly(revision=2, paused="paused", turns=(on(90, 3),)))
        await trio.sleep(90 * 60 + 1)
        await desk.apply(hourly(revision=3, since=90), version=2)
        assert (await desk.next(SlotDecided)).count == 1
        fire = await desk.next(ScheduleFire)
        assert (fire.scheduled_at, fire.revision) == (at(120), 3)
        await desk.say(dispatched(fire))
        await desk.say(order(at(120)))
        await desk.next(JobFinished)
        assert told(desk) == [(2, 60, 60, 1, Fate.SKIPPED, "paused")]


async def test_resumed_early_while_the_host_was_away(tmp_path: Path, autojump_clock: MockClock) -> None:
    """The slots that were not run are made up for, and the fire goes on under the revision that came into force."""
    async with world(tmp_path) as here:
        await here.start()
        desk = await here.connected()
        await desk.apply(hourly(revision=2, paused="paused", turns=(on(200, 3),)))
        here.cut(for_good=True)
        await trio.sleep(190 * 60)
        here.up = True
        desk = await here.connected()
        await desk.apply(hourly(revision=4, since=100), version=2)
        fire = await desk.next(ScheduleFire)
        assert (fire.scheduled_at, fire.revision, fire.trigger, fire.stands_for) == (at(180), 4, "catch-up", 2)
        await desk.say(dispatched(fire))
        await desk.say(order(at(180)))
        await desk.next(JobFinished)
        assert told(desk) == [
            (2, 60, 60, 1, Fate.SKIPPED, "paused"),
            (4, 120, 120, 1, Fate.COALESCED, "a later slot took its place"),
        ]


async def test_resumed_early_and_heard_of_after_the_announced_end(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        await here.start()
        desk = await here.connected()
        await desk.apply(hourly(revision=2, paused="paused", turns=(on(150, 3),)))
        here.cut(for_good=True)
        await trio.sleep(190 * 60)
        here.up = True
        desk = await here.connected()
        first = await desk.next(ScheduleFire)
        assert (first.scheduled_at, first.revision) == (at(180), 3)
        refused = ScheduleFired(
            schedule_id="s1", revision=3, scheduled_at=at(180), answer="rejected", code="superseded"
        )
        await desk.say(refused)
        await desk.apply(hourly(revision=4, since=100), version=2)
        again = await desk.next(ScheduleFire)
        assert (again.scheduled_at, again.revision) == (at(180), 4)


async def test_prolonged_while_the_host_was_away(tmp_path: Path, autojump_clock: MockClock) -> None:
    """It went on at the end it knew; what ran, ran; then it is off again until the new end."""
    async with world(tmp_path) as here:
        here.offline = offline()
        await here.start()
        desk = await here.connected()
        await desk.apply(hourly(revision=2, paused="paused", turns=(on(90, 3),)))
        here.cut(for_good=True)
        await trio.sleep(130 * 60)
        here.up = True
        desk = await here.connected()
        await desk.apply(hourly(revision=4, since=80, paused="paused: more", turns=(on(250, 5),)), version=2)
        here.cut(for_good=True)
        await trio.sleep(180 * 60)
        assert ran(here) == [(job(120), 121), (job(300), 301)]
        here.up = True
        desk = await here.connected()
        await desk.next(JobFinished)
        while len(told(desk)) < 2:
            await desk.next(SlotDecided)
        assert told(desk) == [
            (2, 60, 60, 1, Fate.SKIPPED, "paused"),
            (4, 180, 240, 2, Fate.SKIPPED, "paused: more"),
        ]


async def test_turns_are_in_the_servers_clock_where_that_is_another(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        here.offline = offline()
        here.server_ahead = timedelta(minutes=30)
        await here.start()
        desk = await here.connected()
        await desk.apply(hourly(revision=2, paused="paused", turns=(on(140, 3),)))  # 110 here
        here.cut(for_good=True)
        await trio.sleep(125 * 60)
        assert ran(here) == [(job(120), 121)]


async def test_a_slot_at_the_very_end_is_in_the_pause_whatever_the_clocks_differ_by(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    for seconds in (-4, 0.01, 4):
        async with world(tmp_path / str(seconds)) as here:
            here.path.parent.mkdir()
            here.offline = offline()
            here.server_ahead = timedelta(seconds=seconds)
            start = here.clock.now()
            await here.start()
            desk = await here.connected()
            minutes = (start - at(0)).total_seconds() // 3600 * 60 + 60
            await desk.apply(hourly(revision=2, since=minutes - 60, paused="paused", turns=(on(minutes, 3),)))
            here.cut(for_good=True)
            await trio.sleep(130 * 60)
            assert len(here.restic.ran) == 1


async def test_turns_that_make_no_sense_are_refused_with_their_entry_alone(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as here:
        await here.start()
        desk = await here.connected()
        wrong = [(on(90, 3), on(120, 4)), (on(90, 3), Turn(at=at(80), revision=4, enabled=False))]
        entries = [
            entry(f"w{number}", enabled=False, revision=2, turns=turns) for number, turns in enumerate(wrong, start=1)
        ]
        ack = await desk.apply(*entries, entry("w3", turns=(on(90, 3),)), hourly())
        assert [(one.schedule_id, one.code) for one in ack.refused] == [
            (name, "invalid_input") for name in ("w1", "w2", "w3")
        ]
        assert (await desk.next(ScheduleFire)).schedule_id == "s1"


async def test_a_fire_from_before_the_pause_runs_when_it_has_ended(tmp_path: Path, autojump_clock: MockClock) -> None:
    """It was sent and never answered, and the server is gone: its standing order waits for the end, not longer."""
    async with world(tmp_path) as here:
        here.offline = offline(grace=300)
        await here.start()
        desk = await here.connected()
        await desk.apply(hourly())
        assert (await desk.next(ScheduleFire)).scheduled_at == at(60)
        await desk.apply(hourly(revision=2, since=60.1, paused="paused", turns=(on(90, 3),)), version=2)
        here.cut(for_good=True)
        await trio.sleep(40 * 60)
        [(job_id, when)] = ran(here)
        assert job_id == job(60)
        assert 90 < when < 92
