"""A process that can be killed at any moment: when its fuse blows, nothing of it reaches a stream or a file any more.

Cancelling alone would not do: `finally` blocks and shielded scopes would still write and say goodbye. The code of a
dead process runs on for a few steps, but it is deaf, mute and paralysed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import trio

if TYPE_CHECKING:
    from tests.simulation.lines import End

T = TypeVar("T")


class Fuse:
    """The life of one process, from its start to its death."""

    def __init__(self) -> None:
        self.blown = False
        self.scope = trio.CancelScope()
        self.ends: dict[End, None] = {}
        self.commits = 0
        self._left: int | None = None
        self._after = False

    def blow(self) -> None:
        """Kill it, now."""
        if not self.blown:
            self.blown = True
            for end in list(self.ends):  # the oldest first: a run repeats itself
                end.hang_up()
            self.scope.cancel()

    def arm(self, commits: int, *, after: bool) -> None:
        """Kill it at its so-many-th commit from now: right before it is durable, or right after, telling nobody."""
        self._left, self._after = commits, after

    def disarm(self) -> None:
        """Let it live."""
        self._left = None

    def commit(self, really: Callable[[], T]) -> T:
        """Given how to commit, commit, unless the process is dead or dies of this one."""
        self._check()
        last = False
        if self._left is not None:
            self._left -= 1
            last = self._left <= 0
        if last and not self._after:
            self.blow()
            self._check()
        value = really()
        self.commits += 1
        if last:
            self.blow()
            self._check()
        return value

    def _check(self) -> None:
        if self.blown:
            raise sqlite3.OperationalError("this process is dead")
