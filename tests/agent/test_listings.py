"""The rows of listing jobs: over the live link, in order, in bounded messages, and lost only with a word about it.

And what runs beside what: reading jobs beside the heavy one.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from restic_manager.agent.listings import Listing, Listings
from restic_manager.agent.runner import READING_AT_ONCE
from restic_manager.domain.model import Failure, Outcome, Spec, Status
from restic_manager.domain.results import ForgetStats, ListStats, NodeRow, Row
from restic_manager.domain.specs import ForgetSpec, LsSpec, PruneSpec, SnapshotsSpec, UnlockSpec
from restic_manager.link import LinkClosed
from restic_manager.protocol.codec import encode
from restic_manager.protocol.messages import (
    CAP_KINDS,
    MAX_ROWS,
    MAX_ROWS_TEXT,
    CommandCancel,
    JobFinished,
    JobRows,
    JobStarted,
    Message,
)
from tests.agent.scripted import Desk, World, order, world

LS = LsSpec(snapshot="abcdef12")
LOST = "rows_lost"


def nodes(first: int, last: int, *, long: int = 0) -> tuple[NodeRow, ...]:
    return tuple(NodeRow(path=f"/{'x' * long}{number}", type="file") for number in range(first, last))


def paths(messages: Sequence[Message]) -> list[str]:
    rows = [row for message in messages if isinstance(message, JobRows) for row in message.rows]
    return [row.path for row in rows if isinstance(row, NodeRow)]


async def asked(here: World, spec: Spec = LS, job_id: str = "j1") -> Desk:
    await here.start()
    desk = await here.connected()
    await desk.say(order(None, None, job_id=job_id, spec=spec))
    return desk


async def test_rows_come_in_order_before_the_verdict(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        batches = (nodes(0, 3), nodes(3, 4), nodes(4, 3_000, long=300))
        here.restic.batches = batches
        desk = await asked(here)
        finished = await desk.next(JobFinished)
        assert desk.hello.machine == os.uname().nodename
        assert CAP_KINDS in desk.hello.capabilities
        assert finished.outcome.result == ListStats(rows=3_000)
        heard = [message for _, message in desk.heard]
        assert heard[-1] is finished
        assert paths(heard) == [row.path for batch in batches for row in batch]
        parts = [message for message in heard if isinstance(message, JobRows)]
        ends = list(itertools.accumulate((len(part.rows) for part in parts), initial=1))
        assert [part.first for part in parts] == ends[:-1]
        assert len(parts) > 5
        assert all(len(encode(part)) < MAX_ROWS_TEXT + 200 for part in parts)
        assert all(part.job_id == "j1" for part in parts)


async def test_a_server_that_takes_no_rows_is_sent_none(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        here.capabilities = ()
        here.restic.batches = (nodes(0, 3),)
        desk = await asked(here)
        finished = await desk.next(JobFinished)
        assert (finished.outcome.status, finished.outcome.result) == (Status.SUCCEEDED, ListStats(rows=3))
        assert desk.count(JobRows) == 0


async def test_a_listing_whose_link_broke_is_stopped_and_failed(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        here.restic.seconds = 120
        here.restic.batches = [nodes(number, number + 1) for number in range(100)]
        desk = await asked(here)
        await desk.next(JobRows)
        here.cut()
        desk = await here.connected()
        finished = await desk.next(JobFinished)
        assert finished.outcome.status is Status.FAILED
        assert finished.outcome.error is not None
        assert finished.outcome.error.code == LOST
        assert desk.count(JobRows) == 0, "the rows of one listing go over one link"
        assert (finished.finished_at - here.restic.ran[0][1]).total_seconds() < 400, "it was stopped"


async def test_what_rows_are_only_told_beside_goes_on_without(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        here.restic.seconds = 120
        here.restic.batches = [nodes(number, number + 1) for number in range(3)]
        desk = await asked(here, ForgetSpec(snapshots=("abcdef12",)))
        await desk.next(JobRows)
        here.cut()
        desk = await here.connected()
        assert (await desk.next(JobFinished)).outcome.status is Status.SUCCEEDED
        assert desk.count(JobRows) == 0


async def test_a_listing_that_begins_without_a_link_is_lost(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        here.restic.batches = ((), nodes(0, 1))
        desk = await asked(here)
        await desk.next(JobStarted)
        here.cut(for_good=True)
        await trio.sleep(60)
        here.up = True
        finished = await (await here.connected()).next(JobFinished)
        assert finished.outcome.error is not None
        assert finished.outcome.error.code == LOST


# -- one listing by itself --------------------------------------------------------------------------------------------


async def test_a_job_that_is_to_stop_waits_for_no_room(autojump_clock: MockClock) -> None:
    async def send(_message: Message) -> None:
        await trio.sleep_forever()

    listings, stop = Listings(), trio.Event()
    listings.opened(send)
    listing = Listing(listings, "j1", LS, stop)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listing.take, nodes(0, 5))
            await trio.testing.wait_all_tasks_blocked()
            stop.set()
        await listing.take(nodes(5, 6))
    assert listing.judged(Outcome(status=Status.SUCCEEDED)).status is Status.FAILED


@pytest.mark.parametrize(
    ("spec", "lost"),
    [
        (LS, True),
        (SnapshotsSpec(), True),
        (ForgetSpec(dry_run=True), True),
        (ForgetSpec(), False),
        (PruneSpec(), False),
    ],
)
async def test_only_a_job_that_was_for_its_rows_fails_without_them(spec: Spec, lost: bool) -> None:
    async def send(_message: Message) -> None:
        raise LinkClosed(None, "the connection broke")

    listings, stop = Listings(), trio.Event()
    listings.opened(send)
    listing = Listing(listings, "j1", spec, stop)
    await listing.take(nodes(0, 1))
    assert (listing.lost, stop.is_set()) == (lost, lost)
    done = Outcome(status=Status.SUCCEEDED, result=ForgetStats(removed=3))
    judged = listing.judged(done)
    assert judged.result == done.result
    assert (judged.error is not None and judged.error.code == LOST) == lost
    failed = Outcome(status=Status.FAILED, error=Failure(code="network", message="down"))
    assert listing.judged(failed) is failed


async def test_no_message_has_too_many_rows() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    listings = Listings()
    listings.opened(send)
    rows: tuple[Row, ...] = (NodeRow(path="/", type=""),) * (MAX_ROWS + 1)
    await Listing(listings, "j1", LS, trio.Event()).take(rows)
    assert sum(len(message.rows) for message in sent if isinstance(message, JobRows)) == MAX_ROWS + 1
    assert all(isinstance(message, JobRows) and len(message.rows) <= MAX_ROWS for message in sent)
    assert all(len(encode(message)) < MAX_ROWS_TEXT + 200 for message in sent)


# -- side by side -----------------------------------------------------------------------------------------------------


async def test_reading_jobs_run_beside_the_heavy_one(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        here.restic.seconds = 100
        await here.start()
        desk = await here.connected()
        await desk.say(order(None, None, job_id="heavy-1"))
        await desk.say(order(None, None, job_id="heavy-2"))
        for number in range(READING_AT_ONCE + 2):
            await desk.say(order(None, None, job_id=f"ls-{number}", spec=LS))
        await desk.say(order(None, None, job_id="unlock", spec=UnlockSpec()))
        for _ in range(READING_AT_ONCE + 5):
            await desk.next(JobFinished)
        began = {job_id: (when - here.restic.ran[0][1]).total_seconds() for job_id, when in here.restic.ran}
        at_once = ["heavy-1", *(f"ls-{number}" for number in range(READING_AT_ONCE)), "unlock"]
        assert {job_id for job_id, when in began.items() if when < 1} == set(at_once)
        later = {f"ls-{READING_AT_ONCE}", f"ls-{READING_AT_ONCE + 1}", "heavy-2"}
        assert {job_id for job_id, when in began.items() if 99 < when < 102} == later
        assert here.restic.most_at_once == READING_AT_ONCE + 2


async def test_a_waiting_reading_job_can_be_cancelled(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        here.restic.seconds = 100
        await here.start()
        desk = await here.connected()
        for number in range(READING_AT_ONCE + 1):
            await desk.say(order(None, None, job_id=f"ls-{number}", spec=LS))
        await desk.say(CommandCancel(job_id=f"ls-{READING_AT_ONCE}"))
        finished = await desk.next(JobFinished)
        assert (finished.job_id, finished.outcome.status) == (f"ls-{READING_AT_ONCE}", Status.CANCELLED)
        await desk.say(CommandCancel(job_id="ls-0"))
        finished = await desk.next(JobFinished)
        assert (finished.job_id, finished.outcome.status) == ("ls-0", Status.CANCELLED)


async def test_a_job_stopped_with_its_agent_keeps_what_it_found(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        here.restic.seconds = 1_000
        desk = await asked(here, PruneSpec())
        await desk.next(JobStarted)
        here.drain.set()
        outcome = (await desk.next(JobFinished)).outcome
        assert outcome.status is Status.INTERRUPTED
        assert outcome.error is not None
        assert outcome.error.code == "agent_stopped"
        assert outcome.result == ListStats(rows=7)
