"""What a long listing costs the agent: rows a second, and how far its memory grows.

    python -m benchmarks.listing [FILES] [SNAPSHOTS]

A fake restic says an ls of 1,000,000 files and a list of 10,000 snapshots; they go through a whole run and are cut into
messages, as the agent does. Asserts nothing about time.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import trio

from restic_manager.agent.listings import Listing, Listings
from restic_manager.domain.model import RepoAccess, Spec
from restic_manager.domain.specs import LsSpec, SnapshotsSpec
from restic_manager.protocol.codec import encode
from restic_manager.protocol.messages import JobRows, Message
from restic_manager.restic.run import Binary, Task, run_task
from restic_manager.restic.version import Version
from tests.support import fake_restic


async def measure(what: str, spec: Spec, steps: list[dict[str, int]], folder: Path) -> None:
    """Run one listing, and print what it took."""
    fake = fake_restic.install(folder / "bin", **{what: {"steps": steps}})
    repo = RepoAccess(repo_id="r1", url=str(folder / "repo"), password="pw")  # noqa: S106 - of a fake
    messages = rows = characters = 0

    async def send(message: Message) -> None:
        nonlocal messages, rows, characters
        assert isinstance(message, JobRows)
        messages, rows, characters = messages + 1, rows + len(message.rows), characters + len(encode(message))

    async def ignore(_stream: object, _lines: Sequence[str]) -> None: ...

    stop = trio.Event()
    listings = Listings()
    listings.opened(send)
    before, cpu, wall = peak(), time.process_time(), time.perf_counter()
    outcome = await run_task(
        Task("job-1", None, spec, repo, "web1"),
        binary=Binary(fake.path, Version(0, 18)),
        cache_dir=folder / "cache",
        on_lines=ignore,
        on_progress=lambda _: None,
        on_rows=Listing(listings, "job-1", spec, stop).take,
        stop=stop,
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"{what}: {outcome.status}, {rows:,} rows in {messages:,} messages of {characters / 1e6:.1f} MB; {wall:.1f} s "
        f"({rows / wall:,.0f} rows/s), {cpu / rows * 1e6:.1f} us CPU a row; peak memory {before:.0f} -> {peak():.0f} MB"
    )


def peak() -> float:
    """Return the most memory this process has had resident so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000


def main() -> None:
    """Measure both."""
    files, snapshots = (int(word) for word in (*sys.argv[1:3], *("1000000", "10000")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trio.run(measure, "ls", LsSpec(snapshot="abcdef12", recursive=True), [{"nodes": files}], folder)
        trio.run(measure, "snapshots", SnapshotsSpec(), [{"listed": snapshots}], folder)


if __name__ == "__main__":
    main()
