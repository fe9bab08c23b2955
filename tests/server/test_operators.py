"""The operators' door: an application behind a Unix socket, and clients that behave badly."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from starlette.responses import StreamingResponse

from restic_manager.domain.errors import StorageError
from restic_manager.server import asgi, operators
from restic_manager.server.asgi import Limits
from restic_manager.server.operators import bind_socket, serve_operators

LIMIT = 20
ABUSE = {
    "noise": bytes(range(256)) * 4,
    "TLS hello": bytes.fromhex("16030100c8010000c40303") + os.urandom(189),
    "non-ASCII Host": b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n",
    "non-ASCII subprotocol": (
        b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: \xff\r\n\r\n"
    ),
    "upgrade followed by garbage": (
        b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" + os.urandom(500)
    ),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(200),
    "h2c upgrade": (
        b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: !!!!\r\n\r\n"
    ),
    "endless header": b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000,
    "two lengths": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "bad chunk": b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello",
    "huge chunk": b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\n",
    "bad target": b"GET \xff\xfe HTTP/1.1\r\nHost: h\r\n\r\n",
    "half a request": b"GET / HT",
    "nothing": b"",
}


async def application(
    scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """Answer hello; /crash raises; /follow never ends; /flood sends for ever; POST echoes the length of its body."""
    assert scope["type"] == "http"
    if scope["path"] == "/crash":
        raise RuntimeError("a bug")
    body = b""
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/follow":
        await send({"type": "http.response.body", "body": b"{}\n", "more_body": True})
        await trio.sleep_forever()
    if scope["path"] == "/flood":
        while True:
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
    if scope["path"] == "/slow":
        await trio.sleep(0.5)
    await send({"type": "http.response.body", "body": b"hello %d" % len(body)})


class Running:
    def __init__(self, path: Path, stop: trio.Event, nursery: trio.Nursery) -> None:
        self.path = path
        self.stop = stop
        self.nursery = nursery
        self.over = trio.Event()

    async def ask(self, request: bytes) -> bytes:
        """Send one request, say nothing more, and return all that comes."""
        async with await trio.open_unix_socket(str(self.path)) as stream:
            try:
                await stream.send_all(request)
            except trio.BrokenResourceError:
                return b"<broken>"
            return await read_all(stream)

    async def works(self) -> bool:
        reply = await self.ask(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        return reply.startswith(b"HTTP/1.1 200") and b"hello 0" in reply


async def read_all(stream: trio.SocketStream) -> bytes:
    data = b""
    try:
        while piece := await stream.receive_some(65536):
            data += piece
    except trio.BrokenResourceError:
        data += b"<reset>"
    return data


@asynccontextmanager
async def door(folder: Path, limits: Limits | None = None) -> AsyncIterator[Running]:
    """Yield a running door; at the end it must still answer, unless it was stopped, and then stop in time."""
    path = folder / "server.sock"
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            running = Running(path, trio.Event(), nursery)
            listener = bind_socket(path)

            async def serve(task_status: trio.TaskStatus[None]) -> None:
                await serve_operators(application, [listener], running.stop, limits=limits, task_status=task_status)
                running.over.set()

            await nursery.start(serve)
            yield running
            if not running.stop.is_set():
                assert await running.works()
                running.stop.set()
            began = trio.current_time()
            await running.over.wait()
            assert trio.current_time() - began < operators.FINISH_SECONDS + 1


async def test_the_socket_is_this_users_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    os.umask(before)
    async with door(tmp_path) as running:
        mode = running.path.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
    assert os.umask(before) == before


async def test_a_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    await trio.aclose_forcefully(bind_socket(tmp_path / "server.sock"))
    assert (tmp_path / "server.sock").exists()
    async with door(tmp_path) as running:
        assert await running.works()


def test_a_socket_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        bind_socket(tmp_path / "nowhere" / "server.sock")
    assert str(tmp_path) in caught.value.message


@pytest.mark.parametrize("name", ABUSE)
async def test_abuse_ends_its_own_connection_only(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "LINGER_SECONDS", 0.1)
    async with door(tmp_path, Limits(idle=0.3, body=0.3)) as running:
        await running.ask(ABUSE[name])  # returns: the server has hung up
        async with await trio.open_unix_socket(str(running.path)) as stream:
            with trio.move_on_after(0.2):
                await stream.send_all(ABUSE[name])  # and hangs up at once
        assert await running.works()


async def test_a_bug_in_an_answer_is_500_and_the_door_stays_open(tmp_path: Path) -> None:
    async with door(tmp_path) as running:
        reply = await running.ask(b"GET /crash HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert reply.startswith(b"HTTP/1.1 500")
        assert b"a bug" not in reply


async def test_a_body_that_does_not_come_is_not_waited_for_long(tmp_path: Path) -> None:
    async with door(tmp_path, Limits(body=0.3)) as running:
        began = trio.current_time()
        await running.ask(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf")
        assert 0.2 < trio.current_time() - began < 3


async def test_a_body_in_pieces_arrives(tmp_path: Path) -> None:
    async with door(tmp_path) as running, await trio.open_unix_socket(str(running.path)) as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 300000\r\n\r\n")
        for _ in range(3):
            await stream.send_all(b"x" * 100_000)
        assert b"hello 300000" in await read_all(stream)


async def test_a_client_that_never_reads_is_cut_off(tmp_path: Path) -> None:
    async with door(tmp_path, Limits(send=0.3)) as running, await trio.open_unix_socket(str(running.path)) as stream:
        await stream.send_all(b"GET /flood HTTP/1.1\r\nHost: h\r\n\r\n")
        await trio.sleep(1.0)
        flood = await read_all(stream)
        assert len(flood) > 100_000  # what was in flight, and then the end


async def test_stopping_waits_for_a_request_under_way(tmp_path: Path) -> None:
    async with door(tmp_path) as running, await trio.open_unix_socket(str(running.path)) as stream:
        await stream.send_all(b"GET /slow HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        await trio.sleep(0.2)
        running.stop.set()
        assert b"hello 0" in await read_all(stream)


@pytest.mark.parametrize("path", [b"/follow", b"/flood"])
async def test_a_followed_stream_does_not_hold_up_the_stop(path: bytes, tmp_path: Path) -> None:
    async with door(tmp_path) as running, await trio.open_unix_socket(str(running.path)) as stream:
        await stream.send_all(b"GET " + path + b" HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await stream.receive_some(16)).startswith(b"HTTP/1.1 200")
        await trio.sleep(0.2)
        running.stop.set()
        await running.over.wait()


async def test_an_idle_connection_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    async with door(tmp_path) as running, await trio.open_unix_socket(str(running.path)) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert b"hello" in await stream.receive_some(4096)
        assert not running.over.is_set()
        began = trio.current_time()
        running.stop.set()
        await running.over.wait()
        assert trio.current_time() - began < 1


async def test_who_stops_following_ends_the_stream(tmp_path: Path) -> None:
    started, ended = trio.Event(), trio.Event()

    async def lines() -> AsyncIterator[bytes]:
        started.set()
        try:
            yield b"{}\n"
            await trio.sleep_forever()
        finally:
            ended.set()

    async def follow(scope: Any, receive: asgi.Receive, send: asgi.Send) -> None:
        await StreamingResponse(lines())(scope, receive, send)

    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_operators, follow, [bind_socket(tmp_path / "s")], trio.Event())
            async with await trio.open_unix_socket(str(tmp_path / "s")) as stream:
                await stream.send_all(b"GET /follow HTTP/1.1\r\nHost: h\r\n\r\n")
                await started.wait()
            await ended.wait()
            nursery.cancel_scope.cancel()


async def test_several_requests_share_a_connection(tmp_path: Path) -> None:
    post = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
    async with door(tmp_path) as running, await trio.open_unix_socket(str(running.path)) as stream:
        await stream.send_all(post * 5 + b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        reply = await read_all(stream)
    assert reply.count(b"hello 3") == 5
    assert reply.count(b"hello 0") == 1


async def test_head_has_no_body_and_100_is_sent_when_asked_for(tmp_path: Path) -> None:
    async with door(tmp_path) as running:
        reply = await running.ask(b"HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert reply.startswith(b"HTTP/1.1 200")
        assert b"hello" not in reply
        async with await trio.open_unix_socket(str(running.path)) as stream:
            await stream.send_all(
                b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
            )
            assert (await stream.receive_some(4096)).startswith(b"HTTP/1.1 100")
            await stream.send_all(b"abc")
            assert b"hello 3" in await read_all(stream)


async def test_an_answer_before_the_body_is_read_arrives(tmp_path: Path) -> None:
    async def refuse(scope: Any, receive: asgi.Receive, send: asgi.Send) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"3")]})
        await send({"type": "http.response.body", "body": b"big"})

    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_operators, refuse, [bind_socket(tmp_path / "s")], trio.Event())
            async with await trio.open_unix_socket(str(tmp_path / "s")) as stream:
                await stream.send_all(
                    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 2_000_000
                )
                reply = await read_all(stream)
            nursery.cancel_scope.cancel()
    assert reply.startswith(b"HTTP/1.1 413")
    assert reply.endswith(b"big")


async def test_cancelling_ends_even_a_client_that_never_reads(tmp_path: Path) -> None:
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_operators, application, [bind_socket(tmp_path / "s")], trio.Event())
            async with await trio.open_unix_socket(str(tmp_path / "s")) as stream:
                await stream.send_all(b"GET /flood HTTP/1.1\r\nHost: h\r\n\r\n")
                await trio.sleep(0.3)
                began = trio.current_time()
                nursery.cancel_scope.cancel()
    assert trio.current_time() - began < 2


async def test_too_many_connections_are_turned_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "MAX_CONNECTIONS", 3)
    async with door(tmp_path) as running:
        open_ones = [await trio.open_unix_socket(str(running.path)) for _ in range(3)]
        await trio.sleep(0.1)
        assert await running.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n") in {b"", b"<reset>", b"<broken>"}
        for stream in open_ones:
            await stream.aclose()
        await trio.sleep(0.1)
