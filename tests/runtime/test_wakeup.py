"""The alarm, on the machine's own clock and in virtual time."""

from datetime import UTC, datetime, timedelta

import trio
import trio.testing

from restic_manager.runtime.clock import DrivenClock, SystemClock
from restic_manager.runtime.wakeup import LONGEST_SLEEP, WallTimer, open_alarm

START = datetime(2026, 3, 29, tzinfo=UTC)


async def test_wakes_at_the_instant_not_before(autojump_clock: trio.testing.MockClock) -> None:
    clock = DrivenClock(START, trio.current_time)
    async with open_alarm(clock) as alarm:
        await alarm.wait(START + timedelta(seconds=7))
        assert clock.now() == START + timedelta(seconds=7)


async def test_never_sleeps_longer_than_the_cap(autojump_clock: trio.testing.MockClock) -> None:
    clock = DrivenClock(START, trio.current_time)
    async with open_alarm(clock) as alarm:
        await alarm.wait(START + timedelta(days=2))
        assert clock.now() == START + timedelta(seconds=LONGEST_SLEEP)
        await alarm.wait(None)
        assert clock.now() == START + timedelta(seconds=2 * LONGEST_SLEEP)


async def test_a_ring_before_the_wait_is_not_lost(autojump_clock: trio.testing.MockClock) -> None:
    clock = DrivenClock(START, trio.current_time)
    async with open_alarm(clock) as alarm:
        alarm.ring()
        alarm.ring()
        await alarm.wait(None)
        assert clock.now() == START


async def test_an_instant_that_is_past_returns_at_once() -> None:
    clock = SystemClock()
    with trio.fail_after(5):
        async with open_alarm(clock) as alarm:
            await alarm.wait(clock.now() - timedelta(hours=1))


async def test_the_kernel_timer_wakes_on_the_wall_clock() -> None:
    clock = SystemClock()
    with trio.fail_after(10):
        async with open_alarm(clock) as alarm:
            due = clock.now() + timedelta(milliseconds=120)
            while clock.now() < due:  # any wake is legal; what counts is that one comes at the instant
                await alarm.wait(due)
            assert clock.now() - due < timedelta(seconds=LONGEST_SLEEP / 2)


async def test_the_timer_alone_goes_off_at_its_instant() -> None:
    timer = WallTimer()
    try:
        with trio.fail_after(10):
            due = SystemClock().now() + timedelta(milliseconds=50)
            timer.set(due)
            await timer.wait()
            assert SystemClock().now() >= due
    finally:
        timer.close()
