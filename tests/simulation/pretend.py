"""A pretend restic on every host, and the book of what really ran: the one thing no fault may falsify.

How a run goes is drawn from the seed, the host, the schedule and the slot, so that taking a fault away changes as
little else as possible.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

import trio

from restic_manager.agent.joblog import Stream
from restic_manager.domain.errors import UnreachableError
from restic_manager.domain.model import BackupSpec, BackupStats, Failure, Kind, Outcome, Progress, Status, kind_of
from restic_manager.domain.results import ForgetStats, ListStats, Row, SnapshotRow
from restic_manager.protocol.messages import CommandRun

HANG_AT_MOST: Final = 2_400.0
"""Seconds a hanging run takes when nobody cancels it."""
READING_AT_ONCE: Final = 4
"""What only reads may run beside a host's heavy job, so many at once."""
LISTED: Final = 10
"""A repository has its newest snapshots and no others: so long lists would take more time than they tell."""
How = Literal["succeeded", "warning", "failed", "hang"]


@dataclass
class Run:
    """One start of restic. `lines`: what it wrote, in order. `outcome`: what it told its agent, None if cut off.

    `ordered`: when the server's order for it came, None if the host began by itself. `until`: when it was over.
    """

    job_id: str
    host: str
    life: int
    at: float
    kind: Kind
    repo_id: str
    ordered: float | None = None
    until: float | None = None
    lines: list[tuple[Stream, str]] = field(default_factory=list)
    outcome: Outcome | None = None
    cut_off: bool = False


@dataclass
class Book:
    """What really happened, over all hosts."""

    runs: list[Run] = field(default_factory=list)
    by_job: dict[str, list[Run]] = field(default_factory=dict)
    snapshots: dict[str, str] = field(default_factory=dict)
    saved: dict[str, list[SnapshotRow]] = field(default_factory=dict)
    repos: set[str] = field(default_factory=set)
    violations: list[str] = field(default_factory=list)

    def open(self, run: Run) -> None:
        """A restic starts."""
        self.runs.append(run)
        self.by_job.setdefault(run.job_id, []).append(run)


class PretendRestic:
    """restic on one host, for one life of its agent."""

    def __init__(
        self,
        book: Book,
        host: str,
        life: int,
        seed: int,
        *,
        repo_missing: bool,
        orders: Mapping[str, float],
        now: Callable[[], datetime],
        note: Callable[[str], None],
    ) -> None:
        """`orders`: when the server's order for each job came to this host. `now`: its wall clock."""
        self._book = book
        self._host = host
        self._life = life
        self._seed = seed
        self._repo_missing = repo_missing
        self._orders = orders
        self._clock = now
        self._note = note
        self.now: list[Run] = []

    async def run(
        self,
        order: CommandRun,
        *,
        on_lines: Callable[[Stream, Sequence[str]], Awaitable[None]],
        on_progress: Callable[[Progress], None],
        on_rows: Callable[[Sequence[Row]], Awaitable[None]],
        on_spawned: Callable[[int], None],
        stop: trio.Event,
    ) -> Outcome:
        run = Run(
            order.job_id,
            self._host,
            self._life,
            trio.current_time(),
            kind_of(order.spec),
            order.repo.repo_id,
            self._orders.get(order.job_id),
        )
        beside = [other for other in self.now if other.kind.reading == run.kind.reading]
        if len(beside) >= (READING_AT_ONCE if run.kind.reading else 1):
            self._book.violations.append(f"{self._host}: too many at once: {run.job_id} beside {beside[0].job_id}")
        self._book.open(run)
        self.now.append(run)
        on_spawned(1_000 + len(self._book.runs))
        what = f"slot {order.scheduled_at}" if order.scheduled_at is not None else run.kind.value
        self._note(f"restic starts {order.job_id[:8]} {what}")
        try:
            if isinstance(order.spec, BackupSpec):
                outcome = await self._back_up(order, run, on_lines, on_progress, stop)
            else:
                outcome = await self._do(order, run, on_rows)
        except trio.Cancelled:
            run.cut_off = True
            self._note(f"restic cut off {order.job_id[:8]}")
            raise
        finally:
            self.now.remove(run)
            run.until = trio.current_time()
        run.outcome = outcome
        self._note(f"restic ends {order.job_id[:8]} {outcome.status}")
        return outcome

    async def end_left_over(self, job_ids: Sequence[str]) -> None:
        """Nothing outlives its agent here: both are one process."""

    async def look_up(self, order: CommandRun, pid: int | None) -> str | None:
        await trio.sleep(1)
        if self._dice(order, "look up").random() < 0.2 and trio.current_time() % 600 < 60:
            raise UnreachableError("the repository does not answer")
        return self._book.snapshots.get(order.job_id)

    def _dice(self, order: CommandRun, what: str = "") -> random.Random:
        path = order.spec.paths[0] if isinstance(order.spec, BackupSpec) else order.spec.__class__.__name__
        # What has no slot is asked for again and again, and does not go the same way each time.
        moment = order.scheduled_at or f"{trio.current_time():.0f}"
        return random.Random(f"{self._seed}/{self._host}/{path}/{moment}/{what}")

    async def _do(self, order: CommandRun, run: Run, on_rows: Callable[[Sequence[Row]], Awaitable[None]]) -> Outcome:
        """Do what is no backup: make a repository, list it, or forget in it."""
        dice, repo_id = self._dice(order), run.repo_id
        await trio.sleep(dice.uniform(1, 20))
        if run.kind is Kind.INIT:
            return self._init(repo_id)
        if self._repo_missing and repo_id not in self._book.repos:
            return _failed("repo_missing", 10)
        if dice.random() < 0.1:
            return _failed("restic_failed", 1)
        saved = self._book.saved.setdefault(repo_id, [])
        match run.kind:
            case Kind.SNAPSHOTS:
                rows = tuple(saved)
                await on_rows(rows)
                return Outcome(status=Status.SUCCEEDED, exit_code=0, result=ListStats(rows=len(rows)))
            case Kind.FORGET:
                own = [row for row in saved if row.hostname == order.restic_host]
                gone = own[:-1]
                self._book.saved[repo_id] = [row for row in saved if row not in gone]
                told = ForgetStats(kept=len(own) - len(gone), removed=len(gone), removed_ids=tuple(r.id for r in gone))
                return Outcome(status=Status.SUCCEEDED, exit_code=0, result=told)
            case _:
                self._book.violations.append(f"{self._host}: nobody has asked for {run.kind.value}: {run.job_id}")
                return _failed("unsupported", 1)

    def _init(self, repo_id: str) -> Outcome:
        if repo_id in self._book.repos:
            return _failed("repo_exists", 1)
        self._book.repos.add(repo_id)
        return Outcome(status=Status.SUCCEEDED, exit_code=0)

    async def _back_up(
        self,
        order: CommandRun,
        run: Run,
        on_lines: Callable[[Stream, Sequence[str]], Awaitable[None]],
        on_progress: Callable[[Progress], None],
        stop: trio.Event,
    ) -> Outcome:
        dice = self._dice(order)
        if self._repo_missing and order.repo.repo_id not in self._book.repos:
            await trio.sleep(dice.uniform(0.1, 3))
            return _failed("repo_missing", 10)
        how: How = dice.choices(("succeeded", "warning", "failed", "hang"), (80, 8, 10, 2))[0]
        seconds = dice.choice((dice.uniform(0.05, 3), dice.uniform(1, 40), dice.uniform(20, 400)))
        seconds = HANG_AT_MOST if how == "hang" else seconds
        parts = dice.randint(0, 4)
        for part in range(parts + 1):
            with trio.move_on_after(seconds / (parts + 1)):
                await stop.wait()
            if stop.is_set():
                await trio.sleep(dice.uniform(0, 5))
                return Outcome(
                    status=Status.CANCELLED, exit_code=130, error=Failure(code="cancelled", message="it was asked to")
                )
            if part < parts:
                on_progress(Progress(percent_done=part / (parts + 1)))
                stream: Stream = dice.choice(("stdout", "stderr"))
                lines = [f"{stream} {len(run.lines) + number}" for number in range(1, dice.randint(1, 30))]
                run.lines += [(stream, line) for line in lines]
                if lines:
                    await on_lines(stream, lines)
        if how in {"failed", "hang"}:
            return _failed("restic_failed", 1)
        snapshot = f"{dice.getrandbits(64):016x}"
        self._book.snapshots[order.job_id] = snapshot
        row = SnapshotRow(id=snapshot, time=self._clock(), hostname=order.restic_host)
        self._book.saved[run.repo_id] = [*self._book.saved.get(run.repo_id, ()), row][-LISTED:]
        await trio.sleep(dice.uniform(0, 2))  # the snapshot is saved, nobody has been told yet
        return Outcome(
            status=Status.SUCCEEDED if how == "succeeded" else Status.WARNING,
            exit_code=0 if how == "succeeded" else 3,
            error=None if how == "succeeded" else Failure(code="incomplete", message="some files could not be read"),
            snapshot_id=snapshot,
            stats=BackupStats(files_unmodified=100, total_files_processed=100, total_bytes_processed=1_000_000),
        )


def _failed(code: str, exit_code: int) -> Outcome:
    return Outcome(
        status=Status.FAILED, exit_code=exit_code, error=Failure(code=code, message=f"pretend restic: {code}")
    )
