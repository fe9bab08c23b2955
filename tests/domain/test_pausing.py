"""Pauses over each other: enabled exactly where none holds, and the oldest tells why not."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from restic_manager.domain.pausing import Pause, Pauses, Scope, Standing, reason_text

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

targets = st.sampled_from(
    [(Scope.FLEET, None), (Scope.HOST, "h1"), (Scope.HOST, "h2"), (Scope.SCHEDULE, "s1"), (Scope.SCHEDULE, "h1")]
)


@given(
    pauses=st.lists(
        st.tuples(targets, st.integers(0, 9), st.one_of(st.none(), st.integers(10, 14))),
        max_size=6,
        unique_by=(lambda pause: pause[0], lambda pause: pause[1]),
    ),
    enabled=st.booleans(),
    schedule_id=st.sampled_from(["s1", "s2"]),
    host_id=st.sampled_from(["h1", "h2", "h3"]),
)
def test_what_holds_now_and_after_each_end(
    pauses: list[tuple[tuple[Scope, str | None], int, int | None]], enabled: bool, schedule_id: str, host_id: str
) -> None:
    def at(second: int) -> datetime:
        return NOW + timedelta(seconds=second)

    held = [
        Pause(
            scope=scope,
            target=target,
            reason=f"at {age}",
            since=at(age),
            until=None if end is None else at(end),
        )
        for (scope, target), age, end in pauses
    ]
    mine = [
        (age, end)
        for (scope, target), age, end in pauses
        if scope is Scope.FLEET or target == {Scope.HOST: host_id, Scope.SCHEDULE: schedule_id}[scope]
    ]
    found = Pauses(held).outlook(schedule_id, host_id, enabled=enabled)
    told = found.now
    for second in range(9, 16):
        told = next((standing for instant, standing in found.turns if instant == at(second)), told)
        left = [age for age, end in mine if end is None or end > second]
        if not enabled:
            assert told == Standing(enabled=False, off_reason=None)
        elif left:
            assert told == Standing(enabled=False, off_reason=f"paused: at {min(left)}")
        else:
            assert told == Standing(enabled=True, off_reason=None)
    standings = [found.now, *(standing for _, standing in found.turns)]
    assert all(before != after for before, after in itertools.pairwise(standings)), "no turn that changes nothing"
    assert [instant for instant, _ in found.turns] == sorted({instant for instant, _ in found.turns})


def test_a_pause_without_a_reason_is_told_as_one() -> None:
    assert reason_text("") == "paused"
