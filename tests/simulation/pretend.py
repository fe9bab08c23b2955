"""A pretend restic on every host, and the book of what really ran: the one thing no fault may falsify.

How a run goes is drawn from the seed, the host, the schedule and the slot, so that taking a fault away changes as
little else as possible.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import trio

from restic_manager.agent.joblog import Stream
from restic_manager.domain.errors import UnreachableError
from restic_manager.domain.model import BackupSpec, BackupStats, Failure, Outcome, Progress, Status
from restic_manager.domain.results import Row
from restic_manager.protocol.messages import CommandRun

HANG_AT_MOST: Final = 2_400.0
"""Seconds a hanging run takes when nobody cancels it."""
How = Literal["succeeded", "warning", "failed", "hang"]


@dataclass
class Run:
    """One start of restic. `lines`: what it wrote, in order. `outcome`: what it told its agent, None if cut off."""

    job_id: str
    host: str
    life: int
    at: float
    lines: list[tuple[Stream, str]] = field(default_factory=list)
    outcome: Outcome | None = None
    cut_off: bool = False


@dataclass
class Book:
    """What really happened, over all hosts."""

    runs: list[Run] = field(default_factory=list)
    by_job: dict[str, list[Run]] = field(default_factory=dict)
    snapshots: dict[str, str] = field(default_factory=dict)
    repos: set[str] = field(default_factory=set)
    violations: list[str] = field(default_factory=list)

    def open(self, run: Run) -> None:
        """A restic starts."""
        self.runs.append(run)
        self.by_job.setdefault(run.job_id, []).append(run)


class PretendRestic:
    """restic on one host, for one life of its agent."""

    def __init__(
        self, book: Book, host: str, life: int, seed: int, *, repo_missing: bool, note: Callable[[str], None]
    ) -> None:
        self._book = book
        self._host = host
        self._life = life
        self._seed = seed
        self._repo_missing = repo_missing
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
        run = Run(order.job_id, self._host, self._life, trio.current_time())
        if self.now:
            self._book.violations.append(f"{self._host}: two restics at once: {run.job_id} and {self.now[0].job_id}")
        self._book.open(run)
        self.now.append(run)
        on_spawned(1_000 + len(self._book.runs))
        self._note(f"restic starts {order.job_id[:8]} slot {order.scheduled_at}")
        try:
            outcome = await self._go(order, run, on_lines, on_progress, stop)
        except trio.Cancelled:
            run.cut_off = True
            self._note(f"restic cut off {order.job_id[:8]}")
            raise
        finally:
            self.now.remove(run)
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
        return random.Random(f"{self._seed}/{self._host}/{path}/{order.scheduled_at}/{what}")

    async def _go(
        self,
        order: CommandRun,
        run: Run,
        on_lines: Callable[[Stream, Sequence[str]], Awaitable[None]],
        on_progress: Callable[[Progress], None],
        stop: trio.Event,
    ) -> Outcome:
        dice = self._dice(order)
        if not isinstance(order.spec, BackupSpec):
            await trio.sleep(dice.uniform(1, 20))
            if order.repo.repo_id in self._book.repos:
                return _failed("repo_exists", 1)
            self._book.repos.add(order.repo.repo_id)
            return Outcome(status=Status.SUCCEEDED, exit_code=0)
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
