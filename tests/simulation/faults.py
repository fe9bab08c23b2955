"""What goes wrong and when: a list made from the seed before anything runs, so that leaving items out is shrinking."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import trio

if TYPE_CHECKING:
    from tests.simulation.play import World

STARTS: Final = (
    datetime(2026, 3, 28, 12, tzinfo=UTC),  # Europe
    datetime(2026, 10, 24, 12, tzinfo=UTC),
    datetime(2026, 3, 7, 20, tzinfo=UTC),  # New York
    datetime(2026, 4, 4, 6, tzinfo=UTC),  # Lord Howe, half an hour
    datetime(2026, 9, 5, 12, tzinfo=UTC),  # Santiago, at midnight
    datetime(2026, 6, 15, 12, tzinfo=UTC),  # nowhere
)
ZONES: Final = (
    "UTC",
    "Europe/London",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Santiago",
)


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong (or that an operator does), at a second of virtual time."""

    at: float
    kind: str
    host: int = 0
    args: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.at:.1f} {self.kind} h{self.host} {self.args}"


@dataclass(frozen=True)
class Setting:
    """What is played."""

    seed: int
    days: float = 1.0
    hosts: int = 2
    kinds: frozenset[str] = frozenset()
    offline: bool = True

    def dice(self, what: str) -> random.Random:
        """Return the draws of one purpose: none disturbs another."""
        return random.Random(f"{self.seed}/{what}")

    @property
    def start(self) -> datetime:
        """The instant at which it begins."""
        return self.dice("start").choice(STARTS) if "dst" in self.kinds else STARTS[-1]

    @property
    def repo_missing(self) -> bool:
        """Whether repositories have yet to be made."""
        return self.dice("repo").random() < 0.5

    def skew(self, number: int) -> timedelta:
        """How far a host's clock is ahead from the beginning."""
        if "skew" not in self.kinds:
            return timedelta()
        dice = self.dice(f"skew/{number}")
        return timedelta(seconds=dice.choice((0.0, dice.uniform(-4, 4), dice.uniform(-90, 90), dice.uniform(-400, 400))))

    def labels(self, host: str) -> dict[str, str]:
        """Labels of a host at its first invite."""
        dice = self.dice(f"labels/{host}")
        return {"tier": dice.choice(("gold", "iron"))}


def plan(setting: Setting) -> list[Fault]:
    """Given what is to be played, return its faults in order."""
    found: list[Fault] = []
    for kind in sorted(setting.kinds & MAKERS.keys()):
        found += MAKERS[kind](setting)
    return sorted(found, key=lambda fault: (fault.at, fault.kind, fault.host))


async def acting(world: World, fault: Fault) -> None:
    """Given the world, let this fault happen."""
    await trio.lowlevel.checkpoint()
    world.applied[fault.kind] += 1


MAKERS: Final[dict[str, Any]] = {}
