"""A proxy before a rest-server that holds one kind of request, so that a test meets restic at an exact moment.

async with holding_proxy(url, "POST", "/data/") as proxy:     # the request never arrives
    … start restic on proxy.url …; await proxy.held.wait()
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

import trio


@dataclass
class HoldingProxy:
    """Where to connect to, and the bell for the first request held. `release` lets everything through again."""

    url: str
    held: trio.Event = field(default_factory=trio.Event)
    released: trio.Event = field(default_factory=trio.Event)

    def release(self) -> None:
        """Let held requests, or answers, and all that follow pass."""
        self.released.set()


@asynccontextmanager
async def holding_proxy(
    upstream: str, method: str, part: str, *, hold: Literal["request", "answer"] = "request"
) -> AsyncIterator[HoldingProxy]:
    """Given a server's URL, serve in front of it; hold each request of that method whose path has `part` in it.

    hold="answer": the server gets the request and does it; only its answer does not come through.
    """
    target = urlsplit(upstream)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        proxy = HoldingProxy(f"http://127.0.0.1:{port}/")

        async def serve(client: trio.SocketStream) -> None:
            server = await trio.open_tcp_stream(target.hostname or "", target.port or 0)
            silent = False

            async def to_server(connection: trio.Nursery) -> None:
                nonlocal silent
                async for chunk in client:
                    first = bytes(chunk).split(b"\r\n", 1)[0].decode("latin-1").split(" ")
                    if len(first) == 3 and first[0] == method and part in first[1] and not proxy.released.is_set():
                        silent = hold == "answer"
                        if not silent:
                            proxy.held.set()
                            await proxy.released.wait()
                    await server.send_all(chunk)
                connection.cancel_scope.cancel()

            async def to_client(connection: trio.Nursery) -> None:
                async for chunk in server:
                    if silent and not proxy.released.is_set():
                        proxy.held.set()
                        await proxy.released.wait()
                    await client.send_all(chunk)
                connection.cancel_scope.cancel()

            try:
                async with client, server, trio.open_nursery() as connection:
                    connection.start_soon(to_server, connection)
                    connection.start_soon(to_client, connection)
            except* (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # a killed restic leaves its connections broken

        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield proxy
        nursery.cancel_scope.cancel()
