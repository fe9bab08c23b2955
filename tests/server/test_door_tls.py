"""The agents' door with TLS, over loopback: who is let in, who is believed, and what a storm or nonsense does to it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import trio

from restic_manager.agent.identity import Identity, IdentityFiles, establish, sha256_hex
from restic_manager.domain.errors import InputError, RefusedError, UnreachableError, UntrustedError
from restic_manager.link import Link, LinkClosed, dial
from restic_manager.protocol import codec
from restic_manager.protocol.jointoken import JoinToken, make_token, parse_token
from restic_manager.protocol.messages import CommandRun, ScheduleSet
from restic_manager.runtime.exposure import TlsChoice
from restic_manager.server.agents import AgentsDoor
from restic_manager.server.certificates import OwnCertificate
from restic_manager.server.store import host_changes, hosts
from tests.server.world import DONE, START, ScriptedAgent, World, open_world
from tests.support.tls import meddling

LIMIT = 60.0
CRUMBS = list(range(1, 3_600, 120))
"""After so many bytes a connection breaks: over the whole of a join."""


class SecureDoor:
    """A server whose agents' door speaks TLS on a free port."""

    def __init__(self, world: World, tls: OwnCertificate) -> None:
        self.world = world
        self.tls = tls
        self.services = dataclasses.replace(
            world.services, tls=tls, config=dataclasses.replace(world.services.config, tls=TlsChoice("auto"))
        )
        self.door = AgentsDoor(self.services)
        self.port = 0

    @property
    def url(self) -> str:
        return f"wss://127.0.0.1:{self.port}"

    async def open(self, nursery: trio.Nursery, port: int = 0) -> None:
        listeners = await nursery.start(self.door.serve, await trio.open_tcp_listeners(port, host="127.0.0.1"))
        self.port = listeners[0].socket.getsockname()[1]

    async def invite(self, name: str) -> JoinToken:
        pins = self.services.pins()
        made = await self.world.write(
            lambda tx: host_changes.invite(
                tx, name=name, labels={}, now=self.world.now(), default_zone="UTC", pins=pins
            )
        )
        return parse_token(made.token)

    async def join(self, token: JoinToken, folder: Path, *, port: int | None = None, longest: float = 0.05) -> Identity:
        folder.mkdir(exist_ok=True)
        url = self.url if port is None else f"wss://127.0.0.1:{port}"
        return await establish(
            IdentityFiles(folder),
            token,
            lambda asked: dial(url, path="/join", bearer=asked.text, decoder=codec.join_answer, pins=asked.pins),
            reconnect_max=longest,
        )


@asynccontextmanager
async def secure_door(tmp_path: Path) -> AsyncIterator[SecureDoor]:
    (tmp_path / "data").mkdir()
    with trio.fail_after(LIMIT):
        async with open_world(tmp_path / "data") as world, trio.open_nursery() as nursery:
            door = SecureDoor(world, OwnCertificate(tmp_path / "data", now=START))
            await door.open(nursery)
            yield door
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def session(door: SecureDoor, identity: Identity) -> AsyncIterator[ScriptedAgent]:
    async with dial(
        door.url, path="/agent", bearer=identity.credential, decoder=codec.from_server, pins=identity.pins
    ) as link:
        agent = ScriptedAgent(door.world, identity.host_id, link)
        await agent.greet()
        yield agent


async def still_good(door: SecureDoor, agent: ScriptedAgent) -> None:
    """The session is there and gets its orders."""
    made = await door.world.dispatcher.run_schedule("minutely", "web1")
    order = await agent.hear(CommandRun, within=10)
    assert order.job_id == made[0].id
    await agent.acked(await agent.finish(order, DONE))


async def join_and_plan(door: SecureDoor, folder: Path) -> Identity:
    identity = await door.join(await door.invite("web1"), folder)
    await door.world.repo()
    await door.world.schedule("minutely", "web1")
    return identity


class Said(logging.Handler):
    """Waits for a line of the log."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part
        self._line = ""
        self._there = trio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if self._part in line and not self._line:
            self._line = line
            self._there.set()

    async def wait(self) -> str:
        await self._there.wait()
        return self._line


@contextmanager
def logged(part: str) -> Iterator[Said]:
    """Yield who waits for the first line with this in it, from now on."""
    said, logger = Said(part), logging.getLogger("restic_manager")
    logger.addHandler(said)
    try:
        yield said
    finally:
        logger.removeHandler(said)


async def closing_code(link: Link) -> int | None:
    try:
        while True:
            await link.receive()
    except LinkClosed as closed:
        return closed.code


# -- joining ----------------------------------------------------------------------------------------------------------


async def test_a_host_joins_by_the_pin_and_has_a_session(tmp_path: Path) -> None:
    async with secure_door(tmp_path) as door:
        token = await door.invite("web1")
        assert token.pins == door.tls.pins_at(START)
        identity = await join_and_plan(door, tmp_path / "web1")
        assert identity.pins == token.pins
        assert IdentityFiles(tmp_path / "web1").load() == identity
        async with session(door, identity) as agent:
            await agent.hear(ScheduleSet)
            await still_good(door, agent)


async def test_a_man_in_the_middle_hears_nothing_and_when_he_is_gone_the_join_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with secure_door(tmp_path) as door:
        token = await door.invite("web1")
        joined: list[Identity] = []
        through = trio.Event()

        async def join(port: int) -> None:
            joined.append(await door.join(token, tmp_path / "web1", port=port, longest=0.2))
            through.set()

        async with trio.open_nursery() as nursery:
            async with meddling() as meddler:
                nursery.start_soon(join, meddler.port)
                while meddler.met < 3:
                    await meddler.calls.wait()
                    meddler.calls = trio.Event()
                assert meddler.heard == b"", "not one byte after the handshake"
                assert joined == []
            # The same address, and now it is the server that answers there.
            await door.open(nursery, meddler.port)
            await through.wait()
            nursery.cancel_scope.cancel()
        (error, *_) = [record for record in caplog.records if record.levelno == logging.ERROR]
        said = error.getMessage()
        assert meddler.certificate.pins_at(START)[0] in said
        assert token.pins[0] in said
        assert "host invite" in said
        assert "server cert show" in said
        assert token.text not in caplog.text


async def test_without_a_pin_a_certificate_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    async with secure_door(tmp_path), meddling() as meddler:
        with pytest.raises(UntrustedError) as caught:
            async with dial(
                f"wss://127.0.0.1:{meddler.port}", path="/agent", bearer="rmc1-x", decoder=codec.from_server
            ):
                pass
        assert meddler.heard == b""
        assert "CAs do not vouch for" in caught.value.message
        assert caught.value.pin is None


async def test_a_pin_is_never_used_without_tls(tmp_path: Path) -> None:
    async with secure_door(tmp_path) as door:
        with pytest.raises(InputError, match="did you mean 'wss"):
            async with dial(
                f"ws://127.0.0.1:{door.port}",
                path="/join",
                bearer="x",
                decoder=codec.join_answer,
                pins=door.services.pins(),
            ):
                pass


async def test_used_expired_and_unknown_tokens_are_told_so(tmp_path: Path) -> None:
    async with secure_door(tmp_path) as door:
        used = await door.invite("web1")
        await door.join(used, tmp_path / "web1")
        made = await door.world.write(
            lambda tx: host_changes.invite(
                tx,
                name="web2",
                labels={},
                now=door.world.now() - timedelta(hours=2),
                default_zone="UTC",
                pins=door.services.pins(),
            )
        )
        for token, code, says in (
            (used, "used", "used already"),
            (parse_token(made.token), "expired", "good for an hour"),
            (make_token(b"?" * 32, door.services.pins()), "invalid", "has not given out"),
        ):
            with pytest.raises(RefusedError) as caught:
                await door.join(token, tmp_path / "another")
            assert (caught.value.code, caught.value.retry) == (code, False)
            assert says in caught.value.message
            assert "host invite" in caught.value.message


class _Breaking:
    """A proxy that breaks its first connections, each after so many bytes in one direction."""

    def __init__(self, target: int, breaks: list[tuple[str, int]]) -> None:
        self._target = target
        self._breaks = breaks
        self.made = 0

    async def carry(self, client: trio.SocketStream) -> None:
        which, after = self._breaks[self.made] if self.made < len(self._breaks) else ("", 0)
        self.made += 1
        async with client, await trio.open_tcp_stream("127.0.0.1", self._target) as server, trio.open_nursery() as both:
            both.start_soon(self._one_way, client, server, after if which == "agent" else None, both)
            both.start_soon(self._one_way, server, client, after if which == "server" else None, both)

    async def _one_way(
        self, source: trio.SocketStream, drain: trio.SocketStream, left: int | None, both: trio.Nursery
    ) -> None:
        try:
            while data := await source.receive_some(65_536):
                if left is not None:
                    data, left = data[:left], left - len(data)
                await drain.send_all(data)
                if left is not None and left <= 0:
                    break
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # one end is gone: so is the other
        both.cancel_scope.cancel()


@pytest.mark.parametrize("whose", ["agent", "server"])
async def test_a_join_that_breaks_anywhere_can_be_repeated(tmp_path: Path, whose: str) -> None:
    async with secure_door(tmp_path) as door, trio.open_nursery() as nursery:
        proxy = _Breaking(door.port, [(whose, after) for after in CRUMBS])
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, proxy.carry, listeners)
        token = await door.invite("web1")
        port = listeners[0].socket.getsockname()[1]
        identity = await door.join(token, tmp_path / "web1", port=port, longest=0.01)
        assert proxy.made > 5, "it was broken, and tried again"
        row = await door.world.read(lambda tx: hosts.get(tx, identity.host_id))
        assert row.credential_sha256 == sha256_hex(identity.credential)
        async with session(door, identity):
            pass
        nursery.cancel_scope.cancel()


async def test_a_server_that_dies_while_joining_is_joined_when_it_is_back(tmp_path: Path) -> None:
    async with secure_door(tmp_path) as door:
        token = await door.invite("web1")
        files = IdentityFiles(tmp_path / "web1")
        (tmp_path / "web1").mkdir()
        made = files.candidate_for(sha256_hex(token.text))  # … and the agent was killed here
        again = OwnCertificate(tmp_path / "data", now=START)  # … and the server started anew
        assert again.pins_at(START) == token.pins
        identity = await door.join(token, tmp_path / "web1")
        assert identity.credential == made
        assert await door.join(token, tmp_path / "web1") == identity


# -- storms and nonsense -----------------------------------------------------------------------------------------------


async def test_200_at_once_are_all_served_in_time(tmp_path: Path) -> None:
    async with secure_door(tmp_path) as door:
        identity = await join_and_plan(door, tmp_path / "web1")
        tokens = [await door.invite(f"new{number}") for number in range(200)]
        inside = 0
        everybody = trio.Event()

        async def knock(token: JoinToken) -> None:
            nonlocal inside
            async with dial(door.url, path="/join", bearer=token.text, decoder=codec.join_answer, pins=token.pins):
                inside += 1
                if inside == 200:
                    everybody.set()
                await everybody.wait()

        async with session(door, identity) as agent:
            async with trio.open_nursery() as nursery:
                for token in tokens:
                    nursery.start_soon(knock, token)
            assert inside == 200
            await still_good(door, agent)


async def test_who_stalls_in_the_handshake_holds_up_nobody(tmp_path: Path) -> None:
    async with secure_door(tmp_path) as door:
        identity = await join_and_plan(door, tmp_path / "web1")
        async with trio.open_nursery() as nursery:

            async def stall(first: bytes) -> None:
                async with await trio.open_tcp_stream("127.0.0.1", door.port) as stream:
                    await stream.send_all(first)
                    await trio.sleep_forever()

            for _ in range(100):
                nursery.start_soon(stall, b"")
                nursery.start_soon(stall, b"\x16\x03\x01\x02\x00\x01")
            began = trio.current_time()
            async with session(door, identity) as agent:
                assert trio.current_time() - began < 5
                await still_good(door, agent)
            nursery.cancel_scope.cancel()


async def raw(port: int, data: bytes) -> bytes:
    """Send bytes without TLS; return all that is answered until it is hung up."""
    answer = b""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        try:
            await stream.send_all(data)
            await stream.send_eof()
            while piece := await stream.receive_some(65_536):
                answer += bytes(piece)
        except trio.BrokenResourceError:
            pass  # a reset is an answer too
    return answer


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"GET /agent HTTP/1.1\r\nHost: x\r\n\r\n", "it spoke HTTP without TLS: its URL has to begin with wss://"),
        (b"\x00\x01\x02\x03" * 4_000, "is no TLS"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "is no TLS"),
        (b"\x16\x03\x01\x00\x05hello", "handshake"),
        (b"\x16\x03", "hung up during the TLS handshake"),
        (b"", "hung up during the TLS handshake"),
    ],
)
async def test_what_is_no_tls_gets_a_line_in_the_log_and_is_hung_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, data: bytes, says: str
) -> None:
    caplog.set_level(logging.INFO)
    async with secure_door(tmp_path) as door:
        identity = await join_and_plan(door, tmp_path / "web1")
        async with session(door, identity) as agent:
            with logged("agents' door: 127.") as said:
                await raw(door.port, data)
                assert says in await said.wait()
            assert "Traceback" not in caplog.text
            await still_good(door, agent)


async def test_an_agent_without_tls_is_told_to_use_it(tmp_path: Path) -> None:
    async with secure_door(tmp_path) as door:
        with pytest.raises(RefusedError) as caught:
            async with dial(f"ws://127.0.0.1:{door.port}", path="/agent", bearer="rmc1-x", decoder=codec.from_server):
                pass
        assert caught.value.code == "tls_needed"
        assert "wss://" in caught.value.message


async def test_an_agent_with_tls_at_a_door_without_is_told_so_on_both_sides(tmp_path: Path) -> None:
    async with secure_door(tmp_path) as door, trio.open_nursery() as nursery:
        listeners = await nursery.start(door.world.door.serve, await trio.open_tcp_listeners(0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        pins = door.services.pins()
        with logged("speaks TLS, and this port does not") as said:
            with pytest.raises(UnreachableError, match="no TLS"):
                async with dial(
                    f"wss://127.0.0.1:{port}", path="/agent", bearer="x", decoder=codec.from_server, pins=pins
                ):
                    pass
            assert "ws://" in await said.wait()
        nursery.cancel_scope.cancel()


async def test_a_link_over_tls_ends_with_its_close_code(tmp_path: Path) -> None:
    """Both ends hear the other's last words, and nobody waits for a goodbye of TLS itself."""
    async with secure_door(tmp_path) as door:
        identity = await join_and_plan(door, tmp_path / "web1")
        began = trio.current_time()
        async with session(door, identity) as agent:
            door.services.hub.close(identity.host_id, "enough")
            assert await closing_code(agent.link) == 1001
        assert trio.current_time() - began < 5
