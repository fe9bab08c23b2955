"""What long listings cost the server: `python -m benchmarks.listings [ROWS [SNAPSHOTS]]`.

Writes a listing of ROWS files (default 1,000,000) the way an agent's messages come, reads it back the way an operator's
stream does, then takes a list of SNAPSHOTS (default 10,000) twice (all new; ten come and ten gone) and reads pages of
it. Prints seconds and what the process has grown by.
"""

from __future__ import annotations

import hashlib
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import trio
from msgspec.structs import replace
from sqlalchemy import Connection

from restic_manager.domain.lifecycle import JobState
from restic_manager.domain.model import Actor, Spec, Status, new_id
from restic_manager.domain.results import ListStats, NodeRow, SnapshotRow
from restic_manager.domain.specs import LsSpec, SnapshotsSpec
from restic_manager.protocol.codec import encode, from_agent
from restic_manager.protocol.messages import JobRows
from restic_manager.runtime.clock import SystemClock
from restic_manager.server.store import host_changes, job_rows, listings, repos, snapshots
from restic_manager.server.store.snapshots import Place, Wanted
from restic_manager.server.store.writer import Store, open_store

START = datetime(2026, 3, 1, tzinfo=UTC)
A_MESSAGE = 2_000
A_CHUNK = 1_000


def resident() -> float:
    """Return the most memory this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def measured(what: str) -> Iterator[None]:
    """Print how long the block took."""
    before = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - before:.3f} s, resident at most {resident():.0f} MB")


def frame(job_id: str, first: int, count: int) -> str:
    """Return one message of an agent's listing."""
    rows = tuple(
        NodeRow(
            path=f"/srv/data/project-{number // 1_000}/folder-{number // 100}/file-{number}.dat",
            type="file",
            size=number,
            mode=0o644,
            mtime=START + timedelta(seconds=number),
        )
        for number in range(first, first + count)
    )
    return encode(JobRows(job_id=job_id, first=first, rows=rows))


def a_snapshot(number: int) -> SnapshotRow:
    """Return one of many snapshots."""
    return SnapshotRow(
        id=hashlib.sha256(str(number).encode()).hexdigest(),
        time=START + timedelta(minutes=number),
        hostname=f"host{number % 50}",
        username="root",
        paths=("/etc", "/home", "/srv"),
        tags=(f"rm:{number % 50}", f"rmj:{number}", "nightly"),
        tree=hashlib.sha256(b"tree").hexdigest(),
    )


async def job(store: Store, host_id: str, repo_id: str, spec: Spec, sent: datetime) -> str:
    """Store a job that is with its host; return its id."""
    made = await store.write(
        lambda tx: job_rows.insert(
            tx,
            job_id=new_id(),
            spec=spec,
            host_id=host_id,
            repo_id=repo_id,
            actor=Actor.SERVER,
            now=sent,
            sent_at=sent,
        )
    )
    return made.id


async def list_files(store: Store, host_id: str, repo_id: str, count: int) -> None:
    """Write and read a listing of so many files."""
    job_id = await job(store, host_id, repo_id, LsSpec(snapshot="abcd1234", recursive=True), START)
    frames = [frame(job_id, first, A_MESSAGE) for first in range(1, count + 1, A_MESSAGE)]
    size = sum(map(len, frames)) / 2**20
    with measured(f"decoding and storing {count:,} rows ({len(frames):,} messages, {size:.0f} MiB)"):
        for each in frames:
            rows: JobRows = from_agent.decode(each)
            await store.write(lambda tx, rows=rows: listings.append(tx, job_id, rows.first, rows.rows, now=START))  # type: ignore[misc]  # a default is how a loop's value is kept
    del frames
    after = read = 0
    with measured(f"reading {count:,} rows for a stream"):
        while chunks := await store.read(lambda tx: listings.read(tx, job_id, after=after)):  # noqa: B023 - done with before the next
            read += sum(len(chunk.text) for chunk in chunks)
            after = chunks[-1].last
    assert after == count
    with measured("taking them away"):
        await store.write(lambda tx: job_rows.save(tx, job_id, ended(tx, job_id, count)))
        while await store.write(lambda tx: listings.prune(tx, START + timedelta(days=1))):
            pass


def ended(tx: Connection, job_id: str, rows: int) -> JobState:
    """Return the state of a job that has succeeded with so many rows."""
    state = job_rows.get(tx, job_id).state
    return replace(state, status=Status.SUCCEEDED, finished_at=START, result=ListStats(rows=rows))


async def list_snapshots(store: Store, host_id: str, repo_id: str, count: int) -> None:
    """Take lists of so many snapshots, and read pages."""
    everything = [a_snapshot(number) for number in range(count + 10)]
    for what, rows, sent in (
        (f"taking a list of {count:,} new snapshots", everything[:count], START + timedelta(days=1)),
        ("taking it again, 10 came and 10 gone", everything[10:], START + timedelta(days=2)),
    ):
        job_id = await job(store, host_id, repo_id, SnapshotsSpec(), sent)

        def fill(tx: Connection, rows: list[SnapshotRow] = rows, job_id: str = job_id) -> job_rows.JobRow:
            for first in range(0, len(rows), A_CHUNK):
                listings.append(tx, job_id, first + 1, rows[first : first + A_CHUNK], now=START)
            job_rows.save(tx, job_id, ended(tx, job_id, len(rows)))
            return job_rows.get(tx, job_id)

        done = await store.write(fill)
        with measured(what):
            await store.write(lambda tx, done=done, sent=sent: snapshots.take_list(tx, done, now=sent))  # type: ignore[misc]  # a default is how a loop's value is kept
    for what, wanted in (
        ("the newest 100", Wanted()),
        ("the newest 100 of a host", Wanted(restic_host="host7")),
        ("100 that hold a path", Wanted(path="/home/ann/notes.txt")),
        ("the newest of each host", Wanted(latest=True)),
    ):
        with measured(f"of {count:,}, {what}"):
            found, _ = await store.read(lambda tx, wanted=wanted: snapshots.page(tx, wanted, limit=100))  # type: ignore[misc]  # a default is how a loop's value is kept
        assert found
    after: Place | None = None
    with measured(f"all {count:,} in pages of 100"):
        pages = 0
        more = True
        while more:
            found, more = await store.read(lambda tx: snapshots.page(tx, Wanted(), limit=100, after=after))  # noqa: B023 - done with before the next
            after = Place(found[-1].time, found[-1].id, found[-1].repo_id)
            pages += 1
    assert pages == count // 100


async def main(rows: int, count: int) -> None:
    """Measure both."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_store(Path(folder) / "server.db", clock=SystemClock()) as store:
            host = await store.write(
                lambda tx: host_changes.invite(tx, name="host1", labels={}, now=START, default_zone="UTC")
            )
            repo = await store.write(
                lambda tx: repos.add(
                    tx,
                    name="r",
                    url="/r",
                    password="x",  # noqa: S106 - opens nothing
                    env={},
                    seal=lambda *_: b"",
                    now=START,
                )
            )
            print(f"resident at the start {resident():.0f} MB; msgspec {msgspec.__version__}")
            await list_files(store, host.host.id, repo.repo.id, rows)
            await list_snapshots(store, host.host.id, repo.repo.id, count)


if __name__ == "__main__":
    given = [int(word.replace(",", "")) for word in sys.argv[1:]]
    trio.run(main, given[0] if given else 1_000_000, given[1] if len(given) > 1 else 10_000)
