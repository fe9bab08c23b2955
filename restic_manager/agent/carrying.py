"""How orders are carried out, as the runner sees it. Decides nothing and knows no restic of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import trio

from restic_manager.agent.joblog import Stream
from restic_manager.domain.model import Outcome, Progress
from restic_manager.domain.results import Row
from restic_manager.protocol.messages import CommandRun


class Restic(Protocol):
    """How orders are carried out: by restic in the program, by a pretend one in virtual-time tests."""

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
        """Given an order, run it to its outcome; `stop` asks for the cancel ladder.

        While `on_lines` and `on_rows` wait, restic waits too.
        """

    async def end_left_over(self, job_ids: Sequence[str]) -> None:
        """Given ids of jobs that a dead agent was running, end what is left of their processes."""

    async def look_up(self, order: CommandRun, pid: int | None) -> str | None:
        """Given an order whose restic is gone, give back its lock, and return the snapshot it made, if it did.

        Raise ManagerError when that cannot be found out now.
        """
