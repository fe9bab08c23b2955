"""The hub: who is there, put or close, and bells that never hold up whoever rings."""

from __future__ import annotations

from typing import cast

import trio
from trio.testing import MockClock

from restic_manager.domain.model import Progress
from restic_manager.link import Link
from restic_manager.protocol.messages import Error, Goodbye, Message
from restic_manager.server.hub import Hub, Session


class Pipe:
    """What a session needs of a link: it takes messages until it is full."""

    def __init__(self, room: int = 1_000) -> None:
        self.room = room
        self.said: list[Message] = []

    def put(self, message: Message) -> bool:
        if len(self.said) >= self.room:
            return False
        self.said.append(message)
        return True


def session(host_id: str = "h1", pipe: Pipe | None = None) -> Session:
    return Session(host_id=host_id, instance_id="i", link=cast("Link", pipe or Pipe()))


async def test_a_session_is_online_from_enter_to_leave() -> None:
    hub, one = Hub(), session()
    hub.greet(one)
    assert not hub.online("h1")
    assert hub.current("h1") is one
    assert not hub.send("h1", Error(code="x", message="not yet"))
    hub.enter(one)
    assert hub.online_hosts() == {"h1"}
    assert hub.leave(one)
    assert (hub.online("h1"), hub.current("h1"), hub.count()) == (False, None, 0)
    assert one.left.is_set()


async def test_an_older_session_that_leaves_late_takes_nobody_offline() -> None:
    hub, old, new = Hub(), session(), session()
    hub.enter(old)
    hub.enter(new)
    assert not hub.leave(old)
    assert hub.current("h1") is new


async def test_sending_to_a_full_link_says_so_and_waits_for_nobody() -> None:
    hub, pipe = Hub(), Pipe(room=2)
    hub.enter(session("h1", pipe))
    assert [hub.send("h1", Error(code="x", message="y")) for _ in range(3)] == [True, True, False]
    assert not hub.send("nobody", Error(code="x", message="y"))


async def test_closing_says_goodbye_and_cancels() -> None:
    hub, pipe = Hub(), Pipe()
    one = session("h1", pipe)
    with one.scope:
        hub.enter(one)
        hub.close("h1", "removed")
        await trio.sleep_forever()
    assert one.scope.cancelled_caught
    assert pipe.said == [Goodbye(reason="removed")]
    assert one.close_code == 1001


async def test_closing_all_but_one() -> None:
    hub = Hub()
    pipes = {name: Pipe() for name in ("h1", "h2", "h3")}
    for name, pipe in pipes.items():
        hub.enter(session(name, pipe))
    hub.close_all("new epoch", but="h2")
    assert [bool(pipe.said) for pipe in pipes.values()] == [True, False, True]


async def test_a_bell_rung_before_anyone_listens_is_not_lost_and_rings_once(autojump_clock: MockClock) -> None:
    hub = Hub()
    async with hub.watch("job") as bell:
        for _ in range(1_000):
            hub.ring(["job", "other"])
        with trio.fail_after(1):
            await bell.wait()
        with trio.move_on_after(1) as scope:
            await bell.wait()
        assert scope.cancelled_caught


async def test_followers_of_other_jobs_sleep_on(autojump_clock: MockClock) -> None:
    hub = Hub()
    async with hub.watch("a") as bell, hub.watch(None) as any_bell:
        hub.ring(["b"])
        with trio.fail_after(1):
            await any_bell.wait()
        with trio.move_on_after(1) as scope:
            await bell.wait()
        assert scope.cancelled_caught
    assert hub._bells == {}


async def test_sets_ring_only_the_hosts_that_are_there() -> None:
    hub, one = Hub(), session()
    hub.enter(one)
    hub.sets_changed(["h1", "h2"])
    with trio.fail_after(1):
        await one.sets.wait()


async def test_progress_is_the_latest_word_and_goes_with_the_job_or_the_session() -> None:
    hub, one = Hub(), session()
    hub.enter(one)
    assert not hub.note_progress(one, "job", Progress(percent_done=0.1))
    one.jobs.update({"job", "other"})
    async with hub.watch("job") as bell:
        for percent in (0.1, 0.2):
            assert hub.note_progress(one, "job", Progress(percent_done=percent))
        with trio.fail_after(1):
            await bell.wait()
    hub.note_progress(one, "other", Progress())
    assert hub.progress["job"].percent_done == 0.2
    hub.job_over("h1", "job")
    assert set(hub.progress) == {"other"}
    hub.leave(one)
    assert hub.progress == {}
