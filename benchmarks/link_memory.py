"""What one connected idle agent costs the server in memory and in tasks, as the link alone.

    python benchmarks/link_memory.py [LINKS]

Two processes: this one serves, a child dials LINKS links over loopback. Each link has its heartbeat running.
"""

from __future__ import annotations

import gc
import resource
import subprocess
import sys
import time

import trio

from restic_manager.link import Admission, Knock, Link, LinkClosed, answer, dial
from restic_manager.protocol import codec
from restic_manager.runtime.clock import SystemClock


def resident() -> int:
    """Return this process's resident memory in KiB."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - measured, so as plain as can be
        return int(file.read().split()[1]) * resource.getpagesize() // 1024


def dial_many(port: int, count: int) -> None:
    """Dial `count` links and hold them until killed."""

    async def one(task_status: trio.TaskStatus[None]) -> None:
        async with dial(f"ws://127.0.0.1:{port}", path="/agent", bearer="t", decoder=codec.from_server) as link:
            task_status.started()
            await hold(link)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                await nursery.start(one)

    trio.run(main)


async def hold(link: Link) -> None:
    """Receive until the link is over."""
    try:
        while True:
            await link.receive()
    except LinkClosed:
        return


async def main(count: int) -> None:
    """Serve, measure, print."""
    connected = 0
    all_here = trio.Event()
    clock = SystemClock()

    async def admit(knock: Knock) -> Admission[Knock]:
        return knock, codec.from_agent

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal connected
        async with answer(stream, admit=admit, remote="agent") as answered:
            assert answered is not None
            answered[1].start_heartbeat(15, clock)
            connected += 1
            if connected == count:
                all_here.set()
            await hold(answered[1])

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, handle, listeners)
        gc.collect()
        before, tasks = resident(), trio.lowlevel.current_statistics().tasks_living
        began, used = trio.current_time(), time.process_time()
        port = listeners[0].socket.getsockname()[1]
        child = subprocess.Popen([sys.executable, __file__, "--dial", str(port), str(count)])  # noqa: ASYNC220 - once
        await all_here.wait()
        took, cpu = trio.current_time() - began, (time.process_time() - used) / count
        await trio.sleep(1)
        gc.collect()
        each = (resident() - before) / count
        living = (trio.lowlevel.current_statistics().tasks_living - tasks) / count
        print(f"{count} links: {each:.1f} KiB each, {living:.1f} tasks each")
        print(f"connecting: {cpu * 1e3:.2f} ms of server CPU each, {count / took:.0f}/s one after the other")
        child.kill()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if sys.argv[1:2] == ["--dial"]:
        dial_many(int(sys.argv[2]), int(sys.argv[3]))
    else:
        trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
