"""Everything there is in one run, and what the faults have done to it so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import trio

from tests.simulation.faults import Setting
from tests.simulation.operator import Operator
from tests.simulation.pretend import Book
from tests.simulation.simhost import SimHost
from tests.simulation.simserver import SimServer

Pair = tuple[str, str]
"""A schedule's id and a host's."""


@dataclass
class World:
    """One run. `losses`: for each host, when it lost its memory, or a part of it: (from, to, how) in virtual seconds.

    `restores`: the same for the server.
    """

    setting: Setting
    folder: Path
    nursery: trio.Nursery
    server: SimServer
    operator: Operator
    hosts: list[SimHost]
    book: Book
    note: Callable[[str], None]
    applied: Counter[str] = field(default_factory=Counter)
    losses: dict[str, list[tuple[float, float, str]]] = field(default_factory=dict)
    restores: list[tuple[float, float]] = field(default_factory=list)
    hands: dict[str, trio.Lock] = field(default_factory=dict)

    def instant(self, seconds: float) -> datetime:
        """Return what a clock that is right shows at this virtual second."""
        return self.setting.start + timedelta(seconds=seconds)

    def held(self, what: str) -> trio.Lock:
        """Return the lock of a machine: one fault at a time starts and ends its process."""
        return self.hands.setdefault(what, trio.Lock())

    def name_of(self, host_id: str) -> str:
        """Return the name of the host with this id (the id itself when it is nobody's any more)."""
        return next((host.name for host in self.hosts if host.host_id == host_id), host_id)

    def pair(self, pair: Pair) -> str:
        """Return a schedule on a host, in words."""
        return f"{pair[0][:8]} on {self.name_of(pair[1])}"
