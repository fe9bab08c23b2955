"""Backups that ended well and are worth a warning."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from restic_manager.domain.guards import Counted, Guard, Guards, Made, judge

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
USUAL = [Counted(files=1_000, size=10_000_000)] * 5


def tripped(made: Made, before: list[Counted] | None = None, guards: Guards | None = None) -> list[Guard]:
    return [one.guard for one in judge(made, USUAL if before is None else before, guards or Guards(), now=NOW)]


def counted(files: int, size: int) -> Made:
    return Made(counted=Counted(files=files, size=size))


def test_a_usual_backup_trips_nothing() -> None:
    assert tripped(counted(1_000, 10_000_000)) == []
    assert tripped(counted(501, 5_000_001)) == []
    assert tripped(Made(counted=None)) == []


@pytest.mark.parametrize(
    ("made", "guards"),
    [
        (counted(499, 9_000_000), [Guard.FEWER_FILES]),
        (counted(999, 4_999_999), [Guard.SMALLER]),
        (counted(1, 1), [Guard.FEWER_FILES, Guard.SMALLER]),
        (counted(0, 0), [Guard.NOTHING]),
        (Made(counted=Counted(files=1_000, size=10_000_000), missing=("/srv/a",)), [Guard.SOURCE_MISSING]),
        (Made(counted=Counted(files=1_000, size=10_000_000), read_errors=2), [Guard.SOURCE_UNREADABLE]),
        (
            Made(counted=Counted(files=1_000, size=10_000_000), snapshot_time=NOW + timedelta(minutes=11)),
            [Guard.FUTURE_TIME],
        ),
        (Made(counted=Counted(files=1_000, size=10_000_000), snapshot_time=NOW + timedelta(minutes=9)), []),
    ],
)
def test_each_guard(made: Made, guards: list[Guard]) -> None:
    assert tripped(made) == guards
    assert tripped(made, guards=Guards(off=tuple(guards))) == []


def test_a_share_needs_a_history_and_files_enough() -> None:
    assert tripped(counted(1, 1), USUAL[:2]) == []
    assert tripped(counted(1, 100), [Counted(files=9, size=110)] * 5) == []
    assert tripped(counted(1, 1), guards=Guards(shrink=None)) == []
    assert tripped(counted(899, 9_999_999), guards=Guards(shrink=0.1)) == [Guard.FEWER_FILES]


def test_only_the_recent_ones_count_and_an_outlier_does_not() -> None:
    once = [Counted(files=100_000, size=10**12)] * 50
    assert tripped(counted(1_000, 10_000_000), [*once, *USUAL, *USUAL[:2]]) == []
    assert tripped(counted(1_000, 10_000_000), [*USUAL, Counted(files=90_000, size=10**11)]) == []


def test_a_minimum_needs_no_history() -> None:
    assert tripped(counted(5, 999), [], Guards(least=1_000)) == [Guard.TOO_SMALL]
    assert tripped(counted(5, 1_000), [], Guards(least=1_000)) == []


def test_they_say_why() -> None:
    made = Made(
        counted=Counted(files=250, size=9_000_000),
        missing=("/a", "/b", "/c", "/d"),
        read_errors=1,
        snapshot_time=NOW + timedelta(days=900),
    )
    assert [one.why for one in judge(made, USUAL, Guards(), now=NOW)] == [
        "not there: /a, /b, /c and 1 more",
        "one file or folder could not be read",
        "250 files instead of about 1000: 75 % fewer than usual",
        "the snapshot's time 2029-05-11 12:00:00 lies 900 days in the future: its host's clock is wrong",
    ]
