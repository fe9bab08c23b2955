"""How orders are carried out, as the runner sees it. Decides nothing and knows no restic of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from restic_manager.agent.joblog import Stream
from restic_manager.domain.model import Outcome, Progress
from restic_manager.domain.results import Row
from restic_manager.protocol.messages import CommandRun


@dataclass(frozen=True, slots=True)
class Permit:
    """What the host's policy adds to an order: ceilings in KiB/s, and the program whose output a backup saves."""

    upload_limit: int | None = None
    download_limit: int | None = None
    program: Path | None = None


FREE = Permit()
"""No ceilings, no program."""


@dataclass(frozen=True)
class ResticFacts:
    """What is known of this host's restic, for the hello: its version, or what is wrong; and which kinds of job the
    host's policy lets it do (None: that is not known).
    """

    version: str | None
    problem: str | None
    kinds: tuple[str, ...] | None = None


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


class Carries(Protocol):
    """What carries out an order that the policy has let through."""

    async def run(
        self,
        order: CommandRun,
        *,
        permit: Permit,
        on_lines: Callable[[Stream, Sequence[str]], Awaitable[None]],
        on_progress: Callable[[Progress], None],
        on_rows: Callable[[Sequence[Row]], Awaitable[None]],
        on_spawned: Callable[[int], None],
        stop: trio.Event,
    ) -> Outcome:
        """Given an order and its permit, run it to its outcome."""

    async def facts(self) -> ResticFacts:
        """Return what to say of restic in a hello."""

    async def restores_over_links(self) -> bool:
        """Return whether this host's restic, when it restores, puts what it restores in a link's place, and never
        writes through it. Also True where there is no restic that could.
        """

    async def end_left_over(self, job_ids: Sequence[str]) -> None:
        """As `Restic.end_left_over`."""

    async def look_up(self, order: CommandRun, pid: int | None) -> str | None:
        """As `Restic.look_up`."""
