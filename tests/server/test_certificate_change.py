"""A change of the server's certificate, in virtual time: who is told what, who is named, and when the next is shown."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from restic_manager.link import LinkClosed
from restic_manager.protocol.jointoken import parse_token
from restic_manager.protocol.messages import CAP_PINS, Welcome
from restic_manager.runtime.exposure import TlsChoice
from restic_manager.server.agents import AgentsDoor
from restic_manager.server.api.app import build_api
from restic_manager.server.certificates import OwnCertificate, load_given
from restic_manager.server.services import Services
from tests.server.world import START, ScriptedAgent, World, open_world
from tests.support.asgi import Answer, ask
from tests.support.tls import write_pair

DAY = 86_400.0
KNOWS = {"capabilities": (CAP_PINS,)}


class Pinned:
    """A server with a certificate of its own. Its agents come over memory streams, without TLS: they hear the same."""

    def __init__(self, world: World, services: Services, clock: MockClock) -> None:
        door = AgentsDoor(services)
        door._gatekeeper = None
        self.world = World(services, door, world.nursery)
        self.app = build_api(services)
        self.services = services
        self._clock = clock

    async def view(self) -> dict[str, object]:
        answer = await ask(self.app, "GET", "/v1/server/certificate")
        assert answer.status == 200
        return dict(answer.json)

    async def rotate(self, **body: object) -> Answer:
        self._clock.autojump_threshold = math.inf  # files are written in a thread, which virtual time does not see
        try:
            return await ask(self.app, "POST", "/v1/server/certificate/rotate", body)
        finally:
            self._clock.autojump_threshold = 0

    async def welcome(self, host_id: str, **hello: object) -> Welcome:
        async with self.world.link(self.world.credentials[host_id]) as link:
            return await ScriptedAgent(self.world, host_id, link).greet(**hello)


@asynccontextmanager
async def pinned(tmp_path: Path, clock: MockClock) -> AsyncIterator[Pinned]:
    async with open_world(tmp_path) as world:
        config = dataclasses.replace(world.services.config, tls=TlsChoice("auto"))
        services = dataclasses.replace(world.services, config=config, tls=OwnCertificate(tmp_path, now=START))
        yield Pinned(world, services, clock)


async def test_pins_are_told_to_those_who_ask_for_them(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with pinned(tmp_path, autojump_clock) as server:
        host_id = await server.world.join("web1")
        assert (await server.welcome(host_id)).pins == ()
        shown = (await server.view())["pin"]
        assert (await server.welcome(host_id, **KNOWS)).pins == (shown,)


async def test_a_change_from_its_first_day_to_its_last(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with pinned(tmp_path, autojump_clock) as server:
        ids = {name: await server.world.join(name) for name in ("by-cas", "fresh", "knows", "late")}
        old = str((await server.view())["pin"])
        await server.welcome(ids["by-cas"])
        await server.welcome(ids["late"], pins=(old,), **KNOWS)
        async with server.world.agent(ids["knows"], pins=(old,), **KNOWS) as online:
            made = (await server.rotate(overlap=30 * DAY)).json
            new = made["next_pin"]
            with pytest.raises(LinkClosed) as closed:
                await online.hear(Welcome)  # comes no more: the session is ended, so that it says hello again
            assert closed.value.code == 1001
        # Who goes by the system's CAs is not concerned; who has not said hello yet may know the old pin alone.
        assert made["hosts_without_next"] == ["fresh", "knows", "late"]
        assert (await server.welcome(ids["knows"], pins=(old,), **KNOWS)).pins == (old, new)
        assert "knows" in (await server.view())["hosts_without_next"], "told is not stored"  # type: ignore[operator]
        await server.welcome(ids["knows"], pins=(old, new), **KNOWS)
        await server.welcome(ids["fresh"], pins=(new, old), **KNOWS)
        assert (await server.view())["hosts_without_next"] == ["late"]
        invited = (await ask(server.app, "POST", "/v1/hosts/invite", {"name": "more"})).json
        assert parse_token(invited["token"]).pins == (old, new)
        assert invited["command"].startswith("restic-manager agent --server wss://")

        await trio.sleep(29 * DAY)
        assert (await server.view())["pin"] == old
        assert (await server.rotate()).code == "conflict"
        await trio.sleep(DAY + 1)
        view = await server.view()
        assert (view["pin"], view["next_pin"], view["hosts_without_next"]) == (new, None, [])
        assert (await server.welcome(ids["knows"], pins=(old, new), **KNOWS)).pins == (new,)
        invited = (await ask(server.app, "POST", "/v1/hosts/invite", {"name": "more"})).json
        assert parse_token(invited["token"]).pins == (new,)
        assert (await server.rotate(finish=True)).code == "conflict"
        assert (await server.rotate()).json["pin"] == new


async def test_behind_a_proxy_nobody_is_told_pins(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with pinned(tmp_path, autojump_clock) as server:
        config = dataclasses.replace(server.services.config, behind_proxy=True)
        assert dataclasses.replace(server.services, config=config).pins() == ()


@pytest.mark.parametrize("body", [{"overlap": 59}, {"overlap": 400 * DAY}, {"overlap": "long"}, {"now": True}])
async def test_a_wrong_wish_changes_nothing(tmp_path: Path, autojump_clock: MockClock, body: dict[str, object]) -> None:
    async with pinned(tmp_path, autojump_clock) as server:
        assert (await server.rotate(**body)).status == 400
        assert (await server.view())["next_pin"] is None


async def test_without_one_of_its_own_there_is_nothing_to_change(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        for method, path in (("GET", "certificate"), ("POST", "certificate/rotate")):
            answer = await ask(build_api(world.services), method, f"/v1/server/{path}")
            assert (answer.status, answer.code) == (409, "conflict")
            assert "--tls auto" in answer.message
        pair = write_pair(tmp_path / "pair", begins=START, ends=START.replace(year=2027))
        given = dataclasses.replace(world.services, tls=load_given(*pair, now=START))
        assert (await ask(build_api(given), "GET", "/v1/server/certificate")).json["mode"] == "given"
        answer = await ask(build_api(given), "POST", "/v1/server/certificate/rotate", {})
        assert (answer.status, answer.code) == (409, "conflict")
        assert given.pins() == ()
