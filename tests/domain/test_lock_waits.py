"""How long a lock is waited for, kind by kind."""

from __future__ import annotations

import pytest

from restic_manager.domain.lock_waits import with_lock_wait
from restic_manager.domain.model import Kind, Limits


@pytest.mark.parametrize(
    ("wait", "kinds"),
    [
        (300, {Kind.BACKUP, Kind.RESTORE, Kind.VERIFY, Kind.COPY}),
        (60, {Kind.FORGET, Kind.PRUNE, Kind.CHECK, Kind.TAG, Kind.PROBE}),
        (30, {Kind.SNAPSHOTS, Kind.LS, Kind.FIND, Kind.DIFF, Kind.STATS, Kind.DUMP}),
        (None, {Kind.INIT, Kind.UNLOCK, Kind.LOCKS}),
    ],
)
def test_each_kind_waits_as_long_as_it_holds_up_others_little(wait: int | None, kinds: set[Kind]) -> None:
    assert {with_lock_wait(Limits(time_limit=3_600), kind).lock_wait for kind in kinds} == {wait}


def test_every_kind_was_thought_of() -> None:
    waits = {kind: with_lock_wait(Limits(), kind).lock_wait for kind in Kind}
    assert sorted(waits.values(), key=lambda wait: wait or 0) == [None] * 3 + [30] * 6 + [60] * 5 + [300] * 4


@pytest.mark.parametrize("said", [0, 7, 86_400])
def test_what_was_said_holds(said: int) -> None:
    limits = Limits(lock_wait=said, time_limit=10)
    assert with_lock_wait(limits, Kind.BACKUP) == limits


@pytest.mark.parametrize(
    "limits", [Limits(time_limit=100), Limits(stall_limit=100), Limits(time_limit=100, stall_limit=900)]
)
def test_a_wait_leaves_time_for_the_work(limits: Limits) -> None:
    assert with_lock_wait(limits, Kind.BACKUP).lock_wait == 50
    assert with_lock_wait(limits, Kind.PRUNE).lock_wait == 50
    assert with_lock_wait(limits, Kind.LS).lock_wait == 30
