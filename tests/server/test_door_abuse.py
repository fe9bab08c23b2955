"""Hostile connections over loopback: each ends by itself, with the right code, and a good session goes on."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from wsproto.frame_protocol import FrameProtocol, Opcode

from restic_manager.link import Link, dial
from restic_manager.protocol import codec
from restic_manager.protocol.messages import MAX_MESSAGE, CommandRun, ScheduleSet
from restic_manager.server import agents, sessions
from tests.server.world import DONE, ScriptedAgent, World, open_world

KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
UPGRADE = b"GET %s HTTP/1.1\r\nHost: server\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + KEY


class Door:
    """A server's agents' door on a free port, with one good host connected."""

    def __init__(self, world: World, port: int, good: ScriptedAgent) -> None:
        self.world = world
        self.port = port
        self.good = good

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    def request(self, path: bytes = b"/agent", *, credential: str | None = None) -> bytes:
        bearer = credential or self.world.credentials[self.good.host_id]
        return UPGRADE % path + b"Authorization: Bearer " + bearer.encode() + b"\r\n\r\n"

    async def still_good(self) -> None:
        """The good session is there and gets its orders."""
        made = await self.world.dispatcher.run_schedule("minutely", "web1")
        order = await self.good.hear(CommandRun, within=10)
        assert order.job_id == made[0].id
        await self.good.acked(await self.good.finish(order, DONE))


@asynccontextmanager
async def open_door(tmp_path: Path) -> AsyncIterator[Door]:
    async with open_world(tmp_path) as world:
        host_id = await world.join("web1")
        world.credentials["other"] = world.credentials[await world.join("web2")]
        await world.repo()
        await world.schedule("minutely", "web1")
        listeners = await world.nursery.start(world.door.serve, await trio.open_tcp_listeners(0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        async with dial(
            f"ws://127.0.0.1:{port}",
            path="/agent",
            bearer=world.credentials[host_id],
            decoder=codec.from_server,
        ) as link:
            good = ScriptedAgent(world, host_id, link)
            await good.greet()
            await good.hear(ScheduleSet)
            yield Door(world, port, good)


async def everything(stream: trio.SocketStream) -> bytes:
    """Read until the other end hangs up (a reset counts)."""
    data = bytearray()
    try:
        async for piece in stream:
            data += piece
    except (trio.BrokenResourceError, OSError):
        return bytes(data)
    return bytes(data)


def frame(text: str, opcode: Opcode = Opcode.TEXT) -> bytes:
    return bytes(FrameProtocol(client=True, extensions=[])._serialize_frame(opcode, text.encode()))


async def say(door: Door, *pieces: bytes, answer_within: float = 15.0) -> bytes:
    """Send, and return all that is answered until the door hangs up."""
    stream = await door.connect()
    async with stream:
        for piece in pieces:
            try:
                await stream.send_all(piece)
            except trio.BrokenResourceError:
                break
            await trio.lowlevel.checkpoint()
        with trio.fail_after(answer_within):
            return await everything(stream)


def close_code(answer: bytes) -> int | None:
    """The code of the last close frame in what a server sent."""
    at = answer.rfind(b"\x88")
    return None if at < 0 or len(answer) < at + 4 else struct.unpack("!H", answer[at + 2 : at + 4])[0]


GARBAGE: dict[str, tuple[bytes, bytes]] = {
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), b"400"),
    "plain HTTP": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
    "no HTTP": (b"\x00" * 64 + b"\r\n\r\n", b"400"),
    "a header that is no ASCII": (UPGRADE % b"/agent" + b"Sec-WebSocket-Protocol: \xff\r\n\r\n", b"400"),
    "a host that is no ASCII": (b"GET /agent HTTP/1.1\r\nHost: \xff\r\nUpgrade: websocket\r\n" + KEY + b"\r\n", b"400"),
    "no bearer": (UPGRADE % b"/agent" + b"\r\n", b"401"),
    "a wrong bearer": (UPGRADE % b"/agent" + b"Authorization: Bearer nonsense\r\n\r\n", b"401"),
    "a bearer that is no ASCII": (UPGRADE % b"/agent" + b"Authorization: Bearer \xfc\xff\r\n\r\n", b"40"),
    "another path": (UPGRADE % b"/admin" + b"Authorization: Bearer x\r\n\r\n", b"404"),
    "a wrong token": (UPGRADE % b"/join" + b"Authorization: Bearer nonsense\r\n\r\n", b"401"),
}


@pytest.mark.parametrize("kind", GARBAGE)
async def test_what_is_no_good_request_is_answered_and_over(tmp_path: Path, kind: str) -> None:
    sent, status = GARBAGE[kind]
    with trio.fail_after(40):
        async with open_door(tmp_path) as door:
            answer = await say(door, sent)
            assert answer.startswith(b"HTTP/1.1 " + status)
            if status == b"401":
                assert b'"type":"refused"' in answer
            await door.still_good()


async def test_endless_headers_are_cut_off(tmp_path: Path) -> None:
    with trio.fail_after(40):
        async with open_door(tmp_path) as door:
            await say(door, b"GET /agent HTTP/1.1\r\n", *[b"X-Filler: " + b"x" * 8_000 + b"\r\n"] * 100)
            await door.still_good()


async def test_a_reset_in_the_middle_of_anything_ends_only_itself(tmp_path: Path) -> None:
    with trio.fail_after(40):
        async with open_door(tmp_path) as door:
            request = door.request(credential=door.world.credentials["other"])
            for sent in (b"", request[:40], request, request + frame('{"type":"hel')[:9], b"GET / HTTP/1.1\r\n\r\n"):
                stream = await door.connect()
                if sent:
                    await stream.send_all(sent)
                # linger 0: closing sends a reset
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                stream.socket.close()
            await door.still_good()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (lambda: frame("not json"), 1007),
        (lambda: frame("[1]"), 1007),
        (lambda: frame('{"no":"type"}'), 1007),
        (lambda: frame("[" * 5_000), 1007),
        (lambda: frame("\0" * 10, Opcode.BINARY), 1003),
        (lambda: frame('{"type":"goodbye","reason":"' + "x" * MAX_MESSAGE + '"}'), 1009),
        (lambda: frame('{"type":"goodbye","reason":"first"}'), 1008),
        (lambda: b"\xff" * 200, 1002),
    ],
    ids=["no json", "no object", "no type", "deep", "binary", "oversized", "out of order", "no frame"],
)
async def test_a_first_message_that_is_none_closes_with_its_code(
    tmp_path: Path, sent: Callable[[], bytes], code: int
) -> None:
    with trio.fail_after(40):
        async with open_door(tmp_path) as door:
            async with await door.connect() as stream:
                await stream.send_all(door.request(credential=door.world.credentials["other"]))
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 101")
                await stream.send_all(sent())
                assert close_code(await everything(stream)) == code
            await door.still_good()


async def _one_byte_at_a_time(door: Door, stream: trio.SocketStream) -> None:
    for byte in door.request():
        await stream.send_all(bytes([byte]))
        await trio.sleep(0.2)


async def _nothing(door: Door, stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def _handshake_and_nothing(door: Door, stream: trio.SocketStream) -> None:
    await stream.send_all(door.request(credential=door.world.credentials["other"]))
    await trio.sleep_forever()


@pytest.mark.parametrize("client", [_nothing, _one_byte_at_a_time, _handshake_and_nothing])
async def test_the_silent_and_the_slow_are_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: Callable[[Door, trio.SocketStream], Awaitable[None]]
) -> None:
    monkeypatch.setattr(sessions, "HELLO_SECONDS", 1.0)
    monkeypatch.setattr(agents, "HELLO_SECONDS", 1.0)
    with trio.fail_after(40):
        async with open_door(tmp_path) as door, await door.connect() as stream, trio.open_nursery() as nursery:

            async def quietly() -> None:
                try:
                    await client(door, stream)
                except trio.BrokenResourceError:
                    return  # hung up on, as it should be

            nursery.start_soon(quietly)
            began = trio.current_time()
            await everything(stream)
            assert trio.current_time() - began < 8
            nursery.cancel_scope.cancel()
            await door.still_good()


async def test_two_hundred_at_once_and_the_good_session_goes_on(tmp_path: Path) -> None:
    """Every kind of abuse together, while the good host is ordered and reports."""
    with trio.fail_after(50):
        async with open_door(tmp_path) as door, trio.open_nursery() as nursery:
            for number in range(200):
                sent, _ = list(GARBAGE.values())[number % len(GARBAGE)]
                nursery.start_soon(say, door, sent)
            for _ in range(5):
                await door.still_good()


async def test_a_link_over_loopback_is_a_link(tmp_path: Path) -> None:
    with trio.fail_after(40):
        async with open_door(tmp_path) as door:
            assert isinstance(door.good.link, Link)
            await door.still_good()
