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
from tests.simulation.processes import SimHost, SimServer


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
