"""What goes wrong and when: a list made from the seed before anything runs, so that leaving items out is shrinking."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

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
        return timedelta(
            seconds=dice.choice((0.0, dice.uniform(-4, 4), dice.uniform(-90, 90), dice.uniform(-400, 400)))
        )

    def labels(self, host: str) -> dict[str, str]:
        """Labels of a host at its first invite."""
        dice = self.dice(f"labels/{host}")
        return {"tier": dice.choice(("gold", "iron"))}


def plan(setting: Setting) -> list[Fault]:
    """Given what is to be played, return its faults in order. Each seed has its own mixture: some kinds not at all."""
    found: list[Fault] = []
    for kind in sorted(setting.kinds & RATES.keys()):
        rate, of_hosts = RATES[kind]
        often = setting.dice(f"mixture/{kind}").choice((0.0, 1.0, 3.0, 8.0)) if len(setting.kinds) > 3 else 6.0
        for number in range(setting.hosts if of_hosts else 1):
            dice = setting.dice(f"fault/{kind}/{number}")
            count = _whole(dice, rate * often * setting.days)
            found += [
                Fault(_moment(dice, setting.days), kind, number, _ARGS.get(kind, _draw)(dice)) for _ in range(count)
            ]
    return sorted(found, key=lambda fault: (fault.at, fault.kind, fault.host))


def one_of_each(setting: Setting) -> list[Fault]:
    """Given what is to be played, return one fault of every kind there is, in order, whatever its kinds are."""
    found: list[Fault] = []
    for kind, (_, of_hosts) in sorted(RATES.items()):
        dice = setting.dice(f"one/{kind}")
        number = dice.randrange(setting.hosts) if of_hosts else 0
        found.append(Fault(_moment(dice, setting.days), kind, number, _ARGS.get(kind, _draw)(dice)))
    return sorted(found, key=lambda fault: (fault.at, fault.kind, fault.host))


def _whole(dice: random.Random, wanted: float) -> int:
    return int(wanted) + (dice.random() < wanted % 1)


def _moment(dice: random.Random, days: float) -> float:
    """Mostly when something is about to happen: slots are whole minutes."""
    seconds = dice.uniform(300, days * 86_400)
    return seconds if dice.random() < 0.3 else seconds // 60 * 60 + dice.choice((0.0, 0.0, dice.uniform(-1, 30)))


def _away(dice: random.Random) -> float:
    return dice.choice((0.1, dice.uniform(1, 20), dice.uniform(30, 400), dice.uniform(300, 9_000)))


def _kill(dice: random.Random) -> dict[str, Any]:
    return {
        "commits": dice.choice((0, dice.randint(1, 12))),
        "after": dice.random() < 0.5,
        "turns": dice.randint(0, 60),
        "down": _away(dice),
    }


def _clock_step(dice: random.Random) -> dict[str, Any]:
    by = dice.choice((dice.uniform(1, 90), dice.uniform(60, 7_000), dice.uniform(7_200, 30_000)))
    return {"by": by * dice.choice((1, -1)), "mended": dice.choice((0.0, dice.uniform(30, 20_000)))}


def _old_copy(dice: random.Random) -> dict[str, Any]:
    return {"age": dice.choice((dice.uniform(1, 300), dice.uniform(60, 10_000))), "down": _away(dice)}


def _draw(dice: random.Random) -> dict[str, Any]:
    return {"draw": dice.getrandbits(32)}


_ARGS: Final[dict[str, Callable[[random.Random], dict[str, Any]]]] = {
    "cut": lambda dice: {
        "sends": dice.randint(1, 14),
        "loses": dice.random() < 0.6,
        "down": dice.choice((0.0, _away(dice))),
    },
    "stall": lambda dice: {"seconds": dice.choice((dice.uniform(1, 30), dice.uniform(60, 600)))},
    "slow": lambda dice: {
        "most": dice.uniform(0.1, 8),
        "seconds": dice.uniform(60, 3_600),
        "draw": dice.getrandbits(32),
    },
    "agent_kill": _kill,
    "server_kill": _kill,
    "agent_stop": lambda dice: {"down": _away(dice)},
    "suspend": lambda dice: {"seconds": dice.choice((dice.uniform(10, 300), dice.uniform(300, 20_000)))},
    "clock_step": _clock_step,
    "lose_data": lambda dice: {"down": _away(dice)},
    "roll_back": _old_copy,
    "server_restore": _old_copy,
    "twin": lambda dice: {"seconds": dice.uniform(60, 7_200)},
}
"""How the details of a fault are drawn. What an operator does has one number, of which the operator draws the rest."""

RATES: Final[dict[str, tuple[float, bool]]] = {
    "cut": (6.0, True),
    "stall": (2.0, True),
    "slow": (1.0, True),
    "agent_kill": (4.0, True),
    "agent_stop": (1.0, True),
    "server_kill": (5.0, False),
    "suspend": (1.0, True),
    "clock_step": (0.5, True),
    "edit_timing": (4.0, False),
    "edit_content": (2.0, False),
    "toggle": (4.0, False),
    "remove": (2.0, False),
    "add": (3.0, False),
    "retarget": (3.0, False),
    "relabel": (1.0, True),
    "run": (4.0, False),
    "cancel": (6.0, False),
    "pause": (4.0, False),
    "resume": (3.0, False),
    "lose_data": (0.3, True),
    "roll_back": (0.3, True),
    "server_restore": (0.5, False),
    "twin": (0.2, True),
}
"""How often a day, and whether that is for each host."""
STANDING: Final = frozenset({"skew", "dst"})
"""Kinds that are no moments: clocks wrong from the beginning, and dates at which zones change theirs."""
ALL: Final = frozenset(RATES) | STANDING
