"""Hostile and broken peers on real loopback sockets: each ends its own connection only, with the right code.

A bystander session runs through every case and must be able to speak afterwards.
"""

from __future__ import annotations

import base64
import errno
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from wsproto.frame_protocol import FrameProtocol, Opcode

from restic_manager.domain.errors import InputError, RefusedError, UnreachableError
from restic_manager.link import Admission, Knock, LinkClosed, answer, channel, dial
from restic_manager.link import wire as wire_module
from restic_manager.protocol import codec
from restic_manager.protocol.codec import WireError
from restic_manager.protocol.messages import MAX_MESSAGE, Ack, Goodbye, Refused

LIMIT = 20
HANDSHAKE = 1.0
GOOD = "right-token"


@dataclass
class Door:
    """A minimal agents' door: echoes how many messages came; knows one token."""

    port: int = 0
    ends: list[LinkClosed] = field(default_factory=list)
    crashes: list[BaseException] = field(default_factory=list)
    busy: int = 0
    left: trio.Event = field(default_factory=trio.Event)

    async def admit(self, knock: Knock) -> Admission[Knock]:
        if knock.bearer == "makes-the-store-fail":
            raise OSError(errno.ENOSPC, "no space")
        if knock.bearer != GOOD:
            return Refused(code="unknown", message="this token is not known here")
        return knock, codec.from_agent

    async def handle(self, stream: trio.SocketStream) -> None:
        self.busy += 1
        try:
            async with answer(stream, admit=self.admit, remote="peer", handshake_timeout=HANDSHAKE) as answered:
                if answered is not None:
                    _, link = answered
                    count = 0
                    while True:
                        incoming = await link.receive()
                        count += 1
                        if not (isinstance(incoming.message, WireError) and incoming.message.fatal):
                            link.put(Ack(through=count))
        except LinkClosed as end:
            self.ends.append(end)
        except Exception as error:  # noqa: BLE001 - the door's own barrier
            self.crashes.append(error)
        finally:
            self.busy -= 1
            self.left.set()


@asynccontextmanager
async def door() -> AsyncIterator[Door]:
    """Yield an open door with a bystander inside, who must still be served at the end."""
    one = Door()
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            one.port = listeners[0].socket.getsockname()[1]
            await nursery.start(trio.serve_listeners, one.handle, listeners)
            async with dial(
                f"ws://127.0.0.1:{one.port}", path="/agent", bearer=GOOD, decoder=codec.from_server
            ) as bystander:
                bystander.put(Goodbye(reason="1"))
                assert (await bystander.receive()).message == Ack(through=1)
                yield one
                bystander.put(Goodbye(reason="2"))
                assert (await bystander.receive()).message == Ack(through=2)
            nursery.cancel_scope.cancel()


async def connect(port: int) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", port)


def request(
    *, path: str = "/agent", token: str | None = GOOD, headers: bytes = b"", host: bytes = b"h", method: bytes = b"GET"
) -> bytes:
    bearer = b"Authorization: Bearer " + token.encode() + b"\r\n" if token is not None else b""
    return (
        method + b" " + path.encode() + b" HTTP/1.1\r\nHost: " + host + b"\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
        + base64.b64encode(os.urandom(16))
        + b"\r\n"
        + bearer
        + headers
        + b"\r\n"
    )


async def read_all(stream: trio.SocketStream) -> bytes:
    """Read until the other side hangs up; a reset counts, too."""
    data = b""
    try:
        while piece := await stream.receive_some(65536):
            data += piece
    except trio.BrokenResourceError:
        data += b"<reset>"
    return data


async def until_idle(one: Door) -> None:
    """Wait until only the bystander's connection is being handled."""
    with trio.fail_after(LIMIT):
        while one.busy > 1:
            await one.left.wait()
            one.left = trio.Event()


def reset(stream: trio.SocketStream) -> None:
    """Hang up with a TCP reset."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + os.urandom(189)

NOT_A_REQUEST = {
    "plain HTTP GET": b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "TLS hello": TLS_HELLO,
    "noise": bytes(range(256)) * 8,
    "a zero byte": b"\0\r\n\r\n",
    "POST": request(method=b"POST"),
    "no key": request().replace(b"Sec-WebSocket-Key", b"X-Nothing"),
    "no upgrade": request().replace(b"Upgrade: websocket\r\n", b""),
    "another version": request().replace(b"Version: 13", b"Version: x3"),
    "no host": request().replace(b"Host: h\r\n", b""),
    "HTTP/0.9": b"GET /agent\r\n\r\n",
    "non-ASCII Host": request(host=b"h\xff\xfe"),
    "Host that is no name": request(host=b"xn--" + b"9" * 50),
    "non-ASCII subprotocol": request(headers=b"Sec-WebSocket-Protocol: \xff\r\n"),
    "non-ASCII extension": request(headers=b"Sec-WebSocket-Extensions: \xff\r\n"),
    "non-ASCII Connection": request().replace(b"Connection: Upgrade", b"Connection: Upgr\xffade"),
    "endless header": request()[:-2] + b"X: " + b"x" * 300_000,
    "many headers": request()[:-2] + b"".join(b"X-%d: y\r\n" % n for n in range(20_000)) + b"\r\n",
    "bad header": request()[:-2] + b"no colon here\r\n\r\n",
    "two lengths": request(headers=b"Content-Length: 1\r\nContent-Length: 2\r\n"),
}


@pytest.mark.parametrize("name", NOT_A_REQUEST)
async def test_what_is_no_websocket_request_gets_400(name: str) -> None:
    async with door() as one:
        began = trio.current_time()
        stream = await connect(one.port)
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(send_quietly, stream, NOT_A_REQUEST[name])
            reply = await read_all(stream)
        await until_idle(one)
        assert trio.current_time() - began < HANDSHAKE + wire_module.LINGER_SECONDS + 1
        assert one.crashes == []
    assert reply.startswith(b"HTTP/1.1 426 " if name == "another version" else b"HTTP/1.1 400 "), reply[:80]


async def send_quietly(stream: trio.SocketStream, data: bytes) -> None:
    """Send what the other side may refuse to read."""
    try:
        await stream.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return


@pytest.mark.parametrize("name", NOT_A_REQUEST)
async def test_what_is_no_request_followed_by_a_reset_harms_nobody(name: str) -> None:
    async with door() as one:
        stream = await connect(one.port)
        with trio.move_on_after(0.5):
            await send_quietly(stream, NOT_A_REQUEST[name])
        reset(stream)
        await until_idle(one)
        assert one.crashes == []


@pytest.mark.parametrize("sent", [b"", b"GET /agent HTT", request()[:-2]])
async def test_silence_gets_408_after_the_handshake_limit(sent: bytes) -> None:
    async with door() as one:
        stream = await connect(one.port)
        async with stream:
            await stream.send_all(sent) if sent else None
            began = trio.current_time()
            reply = await read_all(stream)
        assert HANDSHAKE * 0.9 <= trio.current_time() - began < HANDSHAKE + 1
    assert reply.startswith(b"HTTP/1.1 408 ")


async def test_slowloris_gets_408_after_the_handshake_limit() -> None:
    async with door() as one:
        stream = await connect(one.port)
        async with stream, trio.open_nursery() as nursery:

            async def drip() -> None:
                for byte in request():
                    await send_quietly(stream, bytes([byte]))
                    await trio.sleep(0.1)

            nursery.start_soon(drip)
            began = trio.current_time()
            reply = await read_all(stream)
            assert trio.current_time() - began < HANDSHAKE + 1
            nursery.cancel_scope.cancel()
    assert reply.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("when", ["at once", "half a request", "whole request"])
async def test_a_reset_in_the_handshake_harms_nobody(when: str) -> None:
    async with door() as one:
        for _ in range(20):
            stream = await connect(one.port)
            if when != "at once":
                await stream.send_all(request()[:40] if when == "half a request" else request())
            reset(stream)
        await until_idle(one)
        assert one.crashes == []


@pytest.mark.parametrize(
    ("path", "token", "status", "code"),
    [
        ("/agent", "wrong", 401, b'"unknown"'),
        ("/agent", None, 401, b'"unknown"'),
        ("/join", "wrong", 401, b'"unknown"'),
        ("/", GOOD, 404, b'"not_found"'),
        ("/agent/", GOOD, 404, b'"not_found"'),
    ],
)
async def test_who_may_not_come_in_is_told_before_the_upgrade(
    path: str, token: str | None, status: int, code: bytes
) -> None:
    async with door() as one:
        stream = await connect(one.port)
        async with stream:
            await stream.send_all(request(path=path, token=token))
            reply = await read_all(stream)
        await until_idle(one)
        assert one.crashes == []
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"content-type: application/json" in head.lower()
    assert code in body
    assert b"<reset>" not in reply


async def test_a_store_that_fails_while_admitting_answers_503_and_reaches_the_barrier() -> None:
    async with door() as one:
        with pytest.raises(RefusedError) as caught:
            async with dial(
                f"ws://127.0.0.1:{one.port}", path="/agent", bearer="makes-the-store-fail", decoder=codec.from_server
            ):
                pytest.fail("was let in")
        await until_idle(one)
        assert len(one.crashes) == 1
    assert (caught.value.code, caught.value.retry) == ("unavailable", True)


def frame(payload: bytes, opcode: int = 0x1, *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """Build one WebSocket frame by hand, right or wrong."""
    head = bytes([(0x80 if fin else 0) | rsv | opcode])
    flag = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([flag | len(payload)])
    elif len(payload) < 65536:
        head += bytes([flag | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([flag | 127]) + struct.pack("!Q", len(payload))
    if not masked:
        return head + payload
    return head + bytes(4) + payload  # a mask of zeros leaves the payload as it is


async def upgraded(port: int) -> trio.SocketStream:
    stream = await connect(port)
    await stream.send_all(request())
    reply = b""
    while b"\r\n\r\n" not in reply:
        reply += await stream.receive_some(65536)
    assert reply.startswith(b"HTTP/1.1 101 ")
    return stream


def close_code(data: bytes) -> int | None:
    """Return the code of the first close frame in what the server sent; None without one."""
    proto = FrameProtocol(client=True, extensions=[])
    proto.receive_bytes(data.replace(b"<reset>", b""))
    for received in proto.received_frames():
        if received.opcode is Opcode.CLOSE:
            assert isinstance(received.payload, tuple)
            return int(received.payload[0])
    return None


HOSTILE_FRAMES: dict[str, tuple[int, Callable[[], bytes]]] = {
    "binary": (1003, lambda: frame(b'{"type":"goodbye","reason":""}', 0x2)),
    "invalid UTF-8": (1007, lambda: frame(b'{"type":"\xff\xfe"}')),
    "not JSON": (1007, lambda: frame(b"hello")),
    "empty": (1007, lambda: frame(b"")),
    "an array": (1007, lambda: frame(b"[]")),
    "deep nesting": (1007, lambda: frame(b"[" * 100_000)),
    "oversized": (1009, lambda: frame(b'"' + b"x" * (MAX_MESSAGE + 10) + b'"')),
    "oversized in pieces": (
        1009,
        lambda: frame(b'"' + b"x" * 600_000, fin=False) + frame(b"x" * 600_000, 0x0),
    ),
    "far oversized": (1009, lambda: frame(b"x" * (8 << 20))),
    "reserved bit": (1002, lambda: frame(b"{}", rsv=0x40)),
    "unknown opcode": (1002, lambda: frame(b"{}", 0x5)),
    "not masked": (1002, lambda: frame(b"{}", masked=False)),
    "continuation of nothing": (1002, lambda: frame(b"{}", 0x0)),
    "text inside text": (1002, lambda: frame(b"{", fin=False) + frame(b"}")),
    "long ping": (1002, lambda: frame(b"x" * 126, 0x9)),
    "split ping": (1002, lambda: frame(b"x", 0x9, fin=False)),
    "close with one byte": (1002, lambda: frame(b"x", 0x8)),
    "close with a forbidden code": (1002, lambda: frame(struct.pack("!H", 1005), 0x8)),
    "close that is not UTF-8": (1007, lambda: frame(struct.pack("!H", 1000) + b"\xff", 0x8)),
}


@pytest.mark.parametrize("name", HOSTILE_FRAMES)
async def test_a_hostile_frame_ends_its_link_with_the_right_code(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "CLOSE_SECONDS", 0.2)  # this peer never answers a close
    code, build = HOSTILE_FRAMES[name]
    async with door() as one:
        stream = await upgraded(one.port)
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(send_quietly, stream, build())
            reply = await read_all(stream)
        await until_idle(one)
        assert one.crashes == []
        assert [end.code for end in one.ends] == [code]
    assert close_code(reply) == code
    assert b"<reset>" not in reply


@pytest.mark.parametrize("name", HOSTILE_FRAMES)
async def test_a_hostile_frame_followed_by_a_reset_harms_nobody(name: str) -> None:
    async with door() as one:
        stream = await upgraded(one.port)
        with trio.move_on_after(0.5):
            await send_quietly(stream, HOSTILE_FRAMES[name][1]())
        reset(stream)
        await until_idle(one)
        assert one.crashes == []


async def test_messages_that_are_only_wrong_keep_the_session() -> None:
    async with door() as one:
        async with dial(f"ws://127.0.0.1:{one.port}", path="/agent", bearer=GOOD, decoder=codec.from_server) as link:
            for text in ('{"type":"nope"}', '{"type":"hello"}', '{"type":"job.log","seq":0}', '{"type":"goodbye"}'):
                await link.send_frame(text)
            got = [(await link.receive()).message for _ in range(4)]
        await until_idle(one)
        assert [end.code for end in one.ends] == [1000]
    assert got == [Ack(through=number) for number in (1, 2, 3, 4)]


async def test_a_ping_is_answered() -> None:
    async with door() as one:
        stream = await upgraded(one.port)
        async with stream:
            await stream.send_all(frame(b"there?", 0x9))
            assert await stream.receive_some(65536) == b"\x8a\x06there?"


async def test_a_flood_that_never_reads_ends_only_itself() -> None:
    async with door() as one:
        stream = await upgraded(one.port)
        flood = frame(b'{"type":"nope"}') * 10_000
        with trio.move_on_after(LIMIT / 2):
            while one.busy > 1:
                await send_quietly(stream, flood)
        assert [end.code for end in one.ends] == [1013]
        await stream.aclose()
        await until_idle(one)


# -- the dialler's side ------------------------------------------------------------------------------------------------

BAD_SERVERS = {
    "hangs up": b"",
    "noise": bytes(range(256)),
    "another HTTP server": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "a proxy's error": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>",
    "401 without our body": b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}",
    "401 with a broken body": b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\n\r\n\xff\xfe[",
    "a wrong accept key": (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: bm90IHJpZ2h0\r\n\r\n"
    ),
    "another 1xx": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "an endless answer": b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 2_000_000,
}


@pytest.mark.parametrize("name", BAD_SERVERS)
async def test_what_is_no_server_of_ours_is_unreachable(name: str) -> None:
    async def behave(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(65536)
            await send_quietly(stream, BAD_SERVERS[name])
            if name != "hangs up":
                await read_all(stream)

    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listeners[0].socket.getsockname()[1]
            await nursery.start(trio.serve_listeners, behave, listeners)
            with pytest.raises(UnreachableError) as caught:
                async with dial(
                    f"ws://127.0.0.1:{port}",
                    path="/agent",
                    bearer="t",
                    decoder=codec.from_server,
                    handshake_timeout=HANDSHAKE,
                ):
                    pytest.fail("took it for a server")
            nursery.cancel_scope.cancel()
    assert f"127.0.0.1:{port}" in caught.value.message


async def test_a_server_that_says_nothing_is_unreachable_after_the_limit() -> None:
    with trio.fail_after(LIMIT):
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        async with listeners[0]:
            began = trio.current_time()
            with pytest.raises(UnreachableError) as caught:
                async with dial(
                    f"ws://127.0.0.1:{port}",
                    path="/agent",
                    bearer="t",
                    decoder=codec.from_server,
                    handshake_timeout=0.5,
                ):
                    pytest.fail("took it for a server")
            assert 0.4 < trio.current_time() - began < 2.5
    assert "did not answer within 0.5 s" in caught.value.message


async def test_nobody_listening_is_unreachable_and_says_where() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with trio.fail_after(LIMIT), pytest.raises(UnreachableError) as caught:
            async with dial(f"ws://127.0.0.1:{port}", path="/agent", bearer="t", decoder=codec.from_server):
                pytest.fail("connected to nothing")
    assert f"cannot reach 127.0.0.1:{port}" in caught.value.message
    assert "refused" in caught.value.message


async def test_wss_to_a_door_without_tls_is_unreachable_and_both_survive() -> None:
    async with door() as one:
        with pytest.raises(UnreachableError) as caught:
            async with dial(f"wss://127.0.0.1:{one.port}", path="/agent", bearer=GOOD, decoder=codec.from_server):
                pytest.fail("spoke TLS")
    assert "cannot reach" in caught.value.message


@pytest.mark.parametrize("token", ["", "two words", "ümlaut", "line\nbreak"])
async def test_a_token_that_cannot_be_sent_is_an_input_error(token: str) -> None:
    with pytest.raises(InputError):
        async with dial("ws://127.0.0.1:1", path="/agent", bearer=token, decoder=codec.from_server):
            pytest.fail("sent it")
