"""How an agent bears many schedules: `python -m benchmarks.many_schedules [COUNT]`.

Applies a set of COUNT (default 100,000) schedules to an empty journal, then loads that journal anew as a restart does.
Prints seconds, the longest time the event loop was held, and what the process has grown by.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import trio

from restic_manager.agent.journal import open_journal
from restic_manager.agent.slots import Slots
from restic_manager.domain.model import Timing
from restic_manager.protocol.codec import encode_entry
from restic_manager.protocol.messages import Entry

START = datetime(2026, 3, 1, tzinfo=UTC)


def entry(number: int) -> Entry:
    """Return one of many schedules: every minute of the day in turn."""
    return Entry(
        schedule_id=f"00000000-0000-4000-8000-{number:012d}",
        name=f"schedule-{number}",
        revision=1,
        timing=Timing(cron=f"{number % 60} {number // 60 % 24} * * *", timezone="Europe/Berlin", anchor=START),
        enabled=True,
        effective_from=START,
    )


@asynccontextmanager
async def measured(what: str) -> AsyncIterator[None]:
    """Print how long the block took and how long the loop was held at most meanwhile."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await trio.sleep(0.001)
            longest = max(longest, time.perf_counter() - before)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        before = time.perf_counter()
        yield
        took = time.perf_counter() - before
        nursery.cancel_scope.cancel()
    print(f"{what}: {took:.2f} s, loop held at most {longest * 1000:.0f} ms, resident {resident():.0f} MB")


def resident() -> float:
    """Return the process's resident memory in MB (10^6 bytes)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


async def main(count: int) -> None:
    """Apply, load, look."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "agent.db"
        raw = [encode_entry(entry(number)) for number in range(count)]
        print(f"{count:,} schedules; resident before {resident():.0f} MB, the encoded set included")
        async with open_journal(path) as journal:
            slots = Slots(journal, host_id="h", ring=lambda: None)
            async with measured("apply"):
                await slots.apply(epoch="e", version=1, raw_entries=raw, ended=(), now=START)
            async with measured("first look"):
                await slots.look(START)
        raw.clear()
        del slots
        async with open_journal(path) as journal:
            slots = Slots(journal, host_id="h", ring=lambda: None)
            async with measured("load after a restart"):
                await slots.load(START)
            async with measured("first look after it"):
                await slots.look(START)
            async with measured("a look when nothing is due"):
                await slots.look(START)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
