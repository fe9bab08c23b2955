"""Which lock in a job's way may be removed, and who does it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from restic_manager.domain.results import Lock
from restic_manager.domain.stale_locks import FRUITLESS_FOR, STALE_AFTER, Join, Leave, Remove, Scene, decide

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
YOUNG, OLD = timedelta(minutes=5), timedelta(hours=2)


def lock(hostname: str, age: timedelta = YOUNG, pid: int = 7) -> Lock:
    return Lock(id="a" * 64, hostname=hostname, pid=pid, time=NOW - age)


def scene(**more: Any) -> Scene:
    return Scene(**{"machines": {"box1": "h1", "box2": "h2"}, "failed_host": "h1", **more})


CASES: dict[str, tuple[list[Lock], Scene, Remove | Join | Leave | str]] = {
    "a host of ours that is there looks itself": ([lock("box2")], scene(), "h2"),
    "however young the lock is": ([lock("box2", timedelta())], scene(ours="job"), "h2"),
    "the job's own host too": ([lock("box1", OLD)], scene(), "h1"),
    "the first of ours among several": ([lock("stranger"), lock("box2"), lock("box1")], scene(), "h2"),
    "a stranger's young lock is left": ([lock("stranger")], scene(), Leave("5m ago")),
    "a stranger's old lock is removed where it was met": ([lock("stranger", OLD)], scene(), "h1"),
    "the oldest of several counts": ([lock("a"), lock("b", OLD)], scene(), "h1"),
    "not while a job of ours is there": ([lock("stranger", OLD)], scene(ours="job-9"), Leave("job-9")),
    "one is under way already": ([lock("box2")], scene(under_way="u1"), Join("u1")),
    "not again for the same run": ([lock("box2")], scene(tried=True, under_way="u1"), Leave("already, for this run")),
    "not so soon after one that removed nothing": (
        [lock("box2")],
        scene(fruitless_at=NOW - FRUITLESS_FOR + timedelta(seconds=1)),
        Leave("there was none"),
    ),
    "but then": ([lock("box2")], scene(fruitless_at=NOW - FRUITLESS_FOR), "h2"),
    "nobody knows whose it is": ([], scene(), Leave("could not be found out")),
    "exactly as old as restic says": ([lock("stranger", STALE_AFTER)], scene(), "h1"),
    "a clock that is ahead makes no lock old": ([lock("stranger", timedelta(hours=-1))], scene(), Leave("0s ago")),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_done_about_a_lock(name: str) -> None:
    locks, known, wanted = CASES[name]
    found = decide(locks, known, now=NOW)
    match wanted:
        case str():
            assert isinstance(found, Remove)
            assert found.host_id == wanted
            assert found.why
        case Leave(why=why):
            assert isinstance(found, Leave)
            assert why in found.why
        case _:
            assert found == wanted
