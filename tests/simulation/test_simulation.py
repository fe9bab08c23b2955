"""A little of the simulation at every test run: it finds nothing, it repeats itself, and it finds what is planted.

`python -m tests.simulation` plays as much as wanted. The plays run in processes of their own, two or so at a time; each
test waits for its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from tests.simulation.faults import ALL, RATES, Fault, Setting, one_of_each, plan
from tests.simulation.shrink import kinds, shrink
from tests.simulation.workers import Order, Played, open_workers, play

pytestmark = pytest.mark.timeout(240)

Plays = dict[tuple[str, object], "Future[Played]"]


def _kills(kind: str, *, commits: int, after: bool, down: float) -> tuple[Fault, ...]:
    """Return kills every two minutes, half a second before a whole one."""
    args = {"commits": commits, "after": after, "turns": 0, "down": down}
    return tuple(Fault(at - 0.5, kind, 0, args) for at in range(300, 1_700, 120))


@dataclass(frozen=True)
class _Planted:
    """A seed that finds a mistake, and what it says."""

    order: Order
    says: tuple[str, ...]


def _one_host(seed: int, days: float, *faults: str) -> Setting:
    return Setting(seed, days, hosts=1, kinds=frozenset(faults))


PLANTED: Final = {
    "watermark order": _Planted(
        Order(_one_host(2, 0.02), _kills("agent_kill", commits=1, after=True, down=90.0)), ("nobody tells of",)
    ),
    "ack before commit": _Planted(
        Order(_one_host(1, 0.02), _kills("server_kill", commits=3, after=False, down=20.0)), ("acked through",)
    ),
    "job adoption": _Planted(Order(_one_host(0, 0.05, "cut")), ("the server knows none", "is not on the server")),
    "baseline per host": _Planted(Order(_one_host(3, 0.02)), ("a fate from before its revision",)),
    "silent coalescing": _Planted(Order(_one_host(2, 0.05, "edit_timing", "toggle")), ("nobody tells of", "no fate")),
    "dropped reports": _Planted(Order(_one_host(3, 0.02)), ("never ended",)),
    "nobody alone": _Planted(Order(Setting(3, 0.02, hosts=3)), ("not alone on its repository",)),
}
CLEAN: Final = {seed: Setting(seed, 0.08, hosts=2, kinds=ALL) for seed in (14, 15, 19)}
REPLAYED: Final = Order(Setting(19, 0.05, hosts=2, kinds=ALL), full_trace=True)


@pytest.fixture(scope="module")
def plays() -> Iterator[Plays]:
    """Have everything played, as many at a time as there are cores."""
    orders: dict[tuple[str, object], Order] = {}
    for seed, setting in CLEAN.items():
        orders["clean", seed] = Order(setting, tuple(one_of_each(setting)))
    for name, planted in PLANTED.items():
        orders["planted", name] = replace(planted.order, mistake=name)
        orders["right", name] = planted.order
    orders["replay", 0] = orders["replay", 1] = REPLAYED
    with open_workers() as workers:
        yield {key: workers.submit(play, order) for key, order in orders.items()}
        workers.shutdown(wait=False, cancel_futures=True)


@pytest.mark.parametrize("seed", CLEAN)
def test_whatever_goes_wrong_nothing_is_lost_doubled_or_unexplained(plays: Plays, seed: int) -> None:
    result = plays["clean", seed].result().result
    assert result.violations == []
    assert {fault.kind for fault in result.faults} == RATES.keys()
    assert result.slots > 0
    assert len(+result.applied) >= 15


def test_a_seed_repeats_itself_in_this_process_and_in_another(plays: Plays) -> None:
    first, second = (plays["replay", number].result().result for number in (0, 1))
    with open_workers(1) as another:
        more = [another.submit(play, REPLAYED).result().result for _ in range(2)]
    for result in (second, *more):
        assert result.trace == first.trace
        assert (result.slots, result.runs, result.fates) == (first.slots, first.runs, first.fates)
    assert len(first.trace) > 100


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_found(plays: Plays, mistake: str) -> None:
    found = plays["planted", mistake].result().result.violations
    assert any(says in line for line in found for says in PLANTED[mistake].says), found
    assert plays["right", mistake].result().result.violations == []


def test_a_failing_seed_is_shrunk_and_its_databases_are_kept(tmp_path: Path) -> None:
    order = Order(_one_host(3, 0.05, "cut"), mistake="baseline per host", shrink=60.0, keep=tmp_path)
    with open_workers(1) as workers:
        played = workers.submit(play, order).result()
    assert played.result.faults
    assert played.short is not None
    assert played.short.faults == []  # it takes no fault at all
    assert kinds(played.short.violations) & kinds(played.result.violations)
    assert (tmp_path / "seed-3" / "server" / "server.db").exists()
    assert (tmp_path / "seed-3" / "h0" / "agent.db").exists()


def test_shrinking_leaves_what_is_needed_and_nothing_else() -> None:
    faults = plan(Setting(1, 2.0, 2, ALL))
    needed = [faults[3], faults[len(faults) // 2], faults[-1]]
    played = 0

    def fails(tried: list[Fault]) -> bool:
        nonlocal played
        played += 1
        return all(fault in tried for fault in needed)

    assert shrink(faults, fails, goes_on=lambda: True) == needed
    assert played < len(faults)


def test_shrinking_ends_when_its_time_is_over() -> None:
    faults = plan(Setting(1, 2.0, 2, ALL))
    left = iter([True, True, False])
    assert len(shrink(faults, lambda _tried: True, goes_on=lambda: next(left))) == 0
    assert len(shrink(faults, lambda tried: faults[0] in tried, goes_on=iter([True, False]).__next__)) == len(faults)


def test_violations_are_told_apart_by_what_they_say_not_by_names() -> None:
    assert kinds(["no fate: 3f2a0000 on h0 slot 2026"]) == kinds(["no fate: 9c1b1111 on h3 slot 2027"])
    assert kinds(["no fate: 3f2a0000 on h0 slot 2026"]) != kinds(["job 3f2a never ended: queued"])
