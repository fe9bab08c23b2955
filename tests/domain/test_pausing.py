"""Pauses over each other: enabled exactly where none holds, and the oldest tells why not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from restic_manager.domain.pausing import Pause, Pauses, Scope, Standing, reason_text

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

targets = st.sampled_from(
    [(Scope.FLEET, None), (Scope.HOST, "h1"), (Scope.HOST, "h2"), (Scope.SCHEDULE, "s1"), (Scope.SCHEDULE, "h1")]
)


@given(
    pauses=st.lists(st.tuples(targets, st.integers(0, 9)), max_size=6, unique_by=lambda pause: pause[1]),
    enabled=st.booleans(),
    schedule_id=st.sampled_from(["s1", "s2"]),
    host_id=st.sampled_from(["h1", "h2", "h3"]),
)
def test_standing(
    pauses: list[tuple[tuple[Scope, str | None], int]], enabled: bool, schedule_id: str, host_id: str
) -> None:
    held = [
        Pause(scope=scope, target=target, reason=f"at {age}", since=NOW + timedelta(seconds=age))
        for (scope, target), age in pauses
    ]
    mine = [
        age
        for (scope, target), age in pauses
        if scope is Scope.FLEET or target == {Scope.HOST: host_id, Scope.SCHEDULE: schedule_id}[scope]
    ]
    found = Pauses(held).standing(schedule_id, host_id, enabled=enabled)
    if not enabled:
        assert found == Standing(enabled=False, off_reason=None)
    elif mine:
        assert found == Standing(enabled=False, off_reason=f"paused: at {min(mine)}")
    else:
        assert found == Standing(enabled=True, off_reason=None)


def test_a_pause_without_a_reason_is_told_as_one() -> None:
    assert reason_text("") == "paused"
