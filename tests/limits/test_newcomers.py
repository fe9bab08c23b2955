"""Who stands at the agents' door: every bound at its edge and past it, and that good hosts get in beside a crowd."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from trio.testing import MockClock

from restic_manager.domain.errors import RefusedError
from restic_manager.domain.pace import Pace
from restic_manager.protocol.messages import Refused
from restic_manager.runtime import seldom
from restic_manager.runtime.seldom import Seldom
from restic_manager.server import newcomers
from restic_manager.server.newcomers import Newcomer, Newcomers
from tests.server.world import ScriptedAgent, open_world


def let_in(door: Newcomers, network: str, now: float = 0.0) -> Newcomer:
    newcomer = door.enter(network, now)
    assert isinstance(newcomer, Newcomer), newcomer
    return newcomer


class TestHowMany:
    def test_overall(self) -> None:
        door = Newcomers()
        here = [let_in(door, f"network {number % 50}") for number in range(newcomers.MAX_UNGREETED)]
        assert "have said no hello yet" in str(door.enter("another", 0.0))
        door.leave(here.pop(), 0.0)
        let_in(door, "another")

    def test_of_one_network(self) -> None:
        door = Newcomers()
        here = [let_in(door, "one") for _ in range(newcomers.MAX_UNGREETED_OF_NETWORK)]
        assert "of its network have said no hello yet" in str(door.enter("one", 0.0))
        let_in(door, "another")
        newcomer = here.pop()
        assert door.speaks_for(newcomer, "good", 0.0) is None
        door.leave(newcomer, 0.0)
        let_in(door, "one")

    def test_behind_a_proxy_addresses_tell_nothing(self) -> None:
        door = Newcomers(by_network=False)
        for _ in range(newcomers.MAX_UNGREETED):
            let_in(door, "the proxy")
        assert isinstance(door.enter("the proxy", 0.0), str)

    def test_with_one_credential(self) -> None:
        door = Newcomers()
        here = [let_in(door, "one") for _ in range(newcomers.MAX_UNGREETED_OF_BEARER + 1)]
        said = [door.speaks_for(newcomer, "stolen", 0.0) for newcomer in here]
        assert said[:-1] == [None] * newcomers.MAX_UNGREETED_OF_BEARER
        assert "with this credential are open" in str(said[-1])
        assert door.speaks_for(let_in(door, "one"), "another", 0.0) is None
        for newcomer in here:
            door.leave(newcomer, 0.0)
        assert door.speaks_for(let_in(door, "one"), "stolen", 0.0) is None


class TestHowOften:
    def test_what_came_to_nothing(self) -> None:
        door = Newcomers()
        for _ in range(int(newcomers.FRUITLESS_AT_ONCE)):
            door.leave(let_in(door, "one"), 0.0)
        let_in(door, "another")
        waiting = let_in(door, "one")  # the bucket is empty, and owes nothing
        door.leave(waiting, 0.0)
        assert door.enter("one", 0.0) == "too many connections of its network came to nothing"
        let_in(door, "one", 1.1 / newcomers.FRUITLESS_A_SECOND)

    def test_who_shows_a_good_credential_costs_its_network_nothing(self) -> None:
        door = Newcomers()
        for number in range(3 * int(newcomers.FRUITLESS_AT_ONCE)):
            newcomer = let_in(door, "one")
            assert door.speaks_for(newcomer, f"host {number}", 0.0) is None
            door.leave(newcomer, 0.0)

    def test_dials_with_one_credential(self) -> None:
        door = Newcomers()

        def dial(now: float) -> str | None:
            newcomer = let_in(door, "one", now)
            said = door.speaks_for(newcomer, "stolen", now)
            door.leave(newcomer, now)
            return said

        said = [dial(0.0) for _ in range(int(newcomers.DIALS_AT_ONCE) + 1)]
        assert said == [None] * int(newcomers.DIALS_AT_ONCE) + ["it comes too often with this credential"]
        assert dial(1.0 / newcomers.DIALS_A_SECOND) is None

    def test_what_is_remembered_is_bounded(self) -> None:
        door = Newcomers()
        for number in range(newcomers.REMEMBERED + 500):
            door.leave(let_in(door, f"network {number}"), 0.0)
        assert len(door._networks) <= newcomers.REMEMBERED + 1
        for number in range(newcomers.REMEMBERED):
            door.leave(let_in(door, f"later {number}", 1e6), 1e6)
        assert len(door._networks) <= newcomers.REMEMBERED + 1


class Crowd(RuleBasedStateMachine):
    """Whoever comes and goes: the counts are those of who is there, and nothing stays behind."""

    def __init__(self) -> None:
        super().__init__()
        self.door = Newcomers()
        self.here: list[Newcomer] = []
        self.now = 0.0

    @rule(network=st.sampled_from("abc"), bearer=st.sampled_from(["", "x", "y"]))
    def comes(self, network: str, bearer: str) -> None:
        newcomer = self.door.enter(network, self.now)
        if isinstance(newcomer, Newcomer):
            if bearer:
                self.door.speaks_for(newcomer, bearer, self.now)
            self.here.append(newcomer)

    @rule(data=st.data())
    def goes(self, data: st.DataObject) -> None:
        if self.here:
            self.door.leave(self.here.pop(data.draw(st.integers(0, len(self.here) - 1))), self.now)

    @rule(seconds=st.floats(0, 1e5))
    def waits(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def counts(self) -> None:
        assert self.door.here == len(self.here)
        for table, field in ((self.door._networks, "network"), (self.door._bearers, "bearer")):
            told = {key: known.here for key, known in table.items() if known.here}
            real: dict[str, int] = {}
            for newcomer in self.here:
                key = getattr(newcomer, field)
                if key is not None:
                    real[key] = real.get(key, 0) + 1
            assert told == real


TestCrowd = Crowd.TestCase
TestCrowd.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


class TestPace:
    def test_at_its_edge(self) -> None:
        pace = Pace(2.0, 10.0)
        assert pace.allows(0.0, 10)
        assert not pace.allows(0.0, 0.001)
        assert not pace.allows(0.4, 1)
        assert pace.allows(0.5, 1)

    def test_debt_is_waited_for(self) -> None:
        pace = Pace(2.0, 10.0)
        assert pace.take(0.0, 10) == 0.0
        assert pace.take(0.0, 4) == 2.0
        assert pace.take(2.0, 0) == 0.0

    def test_it_never_holds_more_than_fits_and_a_clock_set_back_gives_nothing(self) -> None:
        pace = Pace(2.0, 10.0)
        pace.take(1e9, 10)
        assert not pace.allows(0.0, 1)
        assert pace.full(1e9 + 5)
        assert pace.take(2e9, 10) == 0.0
        assert pace.take(2e9, 2) == 1.0


def test_lines_of_strangers_are_written_so_often(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    told = Seldom(logging.getLogger("restic_manager.test"), lambda: now)
    with caplog.at_level(logging.INFO, "restic_manager.test"):
        for number in range(int(seldom.LINES_AT_ONCE) + 7):
            told.say(logging.INFO, "line %d", number)
        assert len(caplog.messages) == seldom.LINES_AT_ONCE
        now = 1 / seldom.LINES_A_SECOND
        told.say(logging.INFO, "line %d", 99)
    assert caplog.messages[-1] == "line 99 (7 more like it were not written down)"


async def test_a_stolen_credential_does_not_fill_the_door(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Half-open connections with one host's credential: the next is told to come later, and all others come in."""
    async with open_world(tmp_path) as world, trio.open_nursery() as nursery:
        stolen = await world.join("stolen")
        good = await world.join("good")
        inside: list[None] = []

        async def say_nothing() -> None:
            async with world.link(world.credentials[stolen]):
                inside.append(None)
                await trio.sleep_forever()

        for _ in range(newcomers.MAX_UNGREETED_OF_BEARER):
            nursery.start_soon(say_nothing)
        await world.settled()
        assert len(inside) == newcomers.MAX_UNGREETED_OF_BEARER
        with pytest.raises(RefusedError) as caught:
            async with world.link(world.credentials[stolen]):
                pass
        assert (caught.value.code, caught.value.retry, caught.value.retry_after) == ("busy", True, 5)
        async with world.agent(good):
            assert world.hub.online(good)
        await trio.sleep(20)  # who said nothing was hung up on
        async with world.agent(stolen):
            assert world.hub.online(stolen)
        nursery.cancel_scope.cancel()


async def test_who_dials_without_end_is_heard_once_a_second(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id = await world.join("web1")
        heard = 0
        codes = set()
        began = trio.current_time()
        for _ in range(int(newcomers.DIALS_AT_ONCE) + 30):
            try:
                async with world.link(world.credentials[host_id]) as link:
                    agent = ScriptedAgent(world, host_id, link)
                    await link.send(agent.hello(protocol=2))
                    await agent.hear(Refused)
                    heard += 1
            except RefusedError as refused:
                codes.add(refused.code)
        assert codes == {"busy"}
        assert heard <= newcomers.DIALS_AT_ONCE + newcomers.DIALS_A_SECOND * (trio.current_time() - began) + 1
        await trio.sleep(5)
        async with world.agent(host_id):
            assert world.hub.online(host_id)
