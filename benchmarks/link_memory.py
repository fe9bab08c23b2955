"""What one connected idle agent costs the server in memory and in tasks, as the link alone; and how they all connect.

    python benchmarks/link_memory.py [LINKS] [--tls] [--at-once]

Two processes: this one serves, a child dials LINKS links over loopback, with --tls by the server's own certificate and
its pin, one after the other or (--at-once) all together, as after the server's restart. Each link has its heartbeat
running.
"""

from __future__ import annotations

import functools
import gc
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import trio

from restic_manager.link import Admission, Knock, Link, LinkClosed, answer, dial
from restic_manager.protocol import codec
from restic_manager.runtime.clock import SystemClock
from restic_manager.runtime.tls import Gatekeeper
from restic_manager.server.certificates import OwnCertificate


def resident() -> int:
    """Return this process's resident memory in KiB."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - measured, so as plain as can be
        return int(file.read().split()[1]) * resource.getpagesize() // 1024


def dial_many(port: int, count: int, pins: tuple[str, ...], *, at_once: bool) -> None:
    """Dial `count` links and hold them until killed."""
    url = f"{'wss' if pins else 'ws'}://127.0.0.1:{port}"
    waits: list[float] = []

    async def one(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        began = trio.current_time()
        async with dial(url, path="/agent", bearer="t", decoder=codec.from_server, pins=pins) as link:
            waits.append(trio.current_time() - began)
            if len(waits) == count:
                print(f"the slowest was connected after {max(waits):.2f} s", flush=True)
            task_status.started()
            await hold(link)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                if at_once:
                    nursery.start_soon(one)
                else:
                    await nursery.start(one)

    trio.run(main)


async def hold(link: Link) -> None:
    """Receive until the link is over."""
    try:
        while True:
            await link.receive()
    except LinkClosed:
        return


async def main(count: int, *, tls: bool, at_once: bool) -> None:
    """Serve, measure, print."""
    connected = 0
    all_here = trio.Event()
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as folder:
        certificate = OwnCertificate(Path(folder), now=datetime.now(UTC))
    gatekeeper = Gatekeeper(lambda: certificate.context(datetime.now(UTC))) if tls else None
    pins = certificate.pins_at(datetime.now(UTC)) if tls else ()

    async def admit(knock: Knock) -> Admission[Knock]:
        return knock, codec.from_agent

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal connected
        secured = stream if gatekeeper is None else await gatekeeper.secure(stream)
        async with answer(secured, admit=admit, remote="agent") as answered:
            assert answered is not None
            answered[1].start_heartbeat(15, clock)
            connected += 1
            if connected == count:
                all_here.set()
            await hold(answered[1])

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=count)
        await nursery.start(trio.serve_listeners, handle, listeners)
        gc.collect()
        before, tasks = resident(), trio.lowlevel.current_statistics().tasks_living
        began, used = trio.current_time(), time.process_time()
        port = listeners[0].socket.getsockname()[1]
        words = ["--dial", str(port), str(count), "at-once" if at_once else "in-turn", *pins]
        child = subprocess.Popen([sys.executable, __file__, *words])  # noqa: ASYNC220 - once
        await all_here.wait()
        took, cpu = trio.current_time() - began, (time.process_time() - used) / count
        await trio.sleep(1)
        gc.collect()
        each = (resident() - before) / count
        living = (trio.lowlevel.current_statistics().tasks_living - tasks) / count
        print(f"{count} links: {each:.1f} KiB each, {living:.1f} tasks each")
        how = "all at once" if at_once else "one after the other"
        print(f"connecting: {cpu * 1e3:.2f} ms of server CPU each, {count / took:.0f}/s {how}")
        child.kill()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if sys.argv[1:2] == ["--dial"]:
        dial_many(int(sys.argv[2]), int(sys.argv[3]), tuple(sys.argv[5:]), at_once=sys.argv[4] == "at-once")
    else:
        links = [int(word) for word in sys.argv[1:] if word.isdigit()]
        run = functools.partial(main, links[0] if links else 1000)
        trio.run(functools.partial(run, tls="--tls" in sys.argv, at_once="--at-once" in sys.argv))
