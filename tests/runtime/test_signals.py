"""The first signal asks to finish, the second to stop at once."""

from __future__ import annotations

import signal

import pytest
import trio
import trio.testing

from restic_manager.runtime.signals import watch_signals


@pytest.mark.parametrize(("first", "second"), [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)])
async def test_first_drains_second_cancels(first: signal.Signals, second: signal.Signals) -> None:
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            stop = await nursery.start(watch_signals)
            assert not stop.drain.is_set()
            signal.raise_signal(first)
            await stop.drain.wait()
            await trio.testing.wait_all_tasks_blocked()
            assert not stop.cancel.is_set()
            signal.raise_signal(second)
            await stop.cancel.wait()
            signal.raise_signal(second)  # a third changes nothing
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()


async def test_both_events_can_be_taken_apart() -> None:
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            drain, cancel = await nursery.start(watch_signals)
            assert isinstance(drain, trio.Event)
            assert isinstance(cancel, trio.Event)
            nursery.cancel_scope.cancel()


async def test_the_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with trio.open_nursery() as nursery:
        await nursery.start(watch_signals)
        nursery.cancel_scope.cancel()
    assert signal.getsignal(signal.SIGTERM) is before
