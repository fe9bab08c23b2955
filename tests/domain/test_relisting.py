"""When a list is made anew: after quiet, not never, not too often, and ever more rarely where it fails."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from restic_manager.domain.relisting import BETWEEN, LONGEST, PATIENCE, QUIET, SLOW, Standing, due_at, pause_after

T = datetime(2026, 3, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T + timedelta(seconds=seconds)


def standing(**fields: Any) -> Standing:
    return Standing(repo_id="r", **{"listed_at": at(0), "changed_at": None, **fields})


def test_a_fresh_list_is_made_anew_at_the_slow_interval() -> None:
    assert due_at(standing(), stale_since=at(9)) == at(0) + SLOW
    assert due_at(standing(changed_at=at(-1)), stale_since=at(9)) == at(0) + SLOW


def test_a_change_is_followed_by_quiet_and_a_list() -> None:
    assert due_at(standing(changed_at=at(100)), stale_since=at(100)) == at(100) + QUIET


def test_changes_without_end_do_not_put_it_off_for_ever() -> None:
    changed = [due_at(standing(changed_at=at(100 + later)), stale_since=at(100)) for later in range(0, 600, 10)]
    assert max(when for when in changed if when) == at(100) + PATIENCE


def test_it_is_not_made_more_often_than_once_a_minute() -> None:
    assert due_at(standing(listed_at=at(90), changed_at=at(91), asked_at=at(90)), stale_since=at(91)) == at(150)


def test_what_fails_is_tried_ever_more_rarely() -> None:
    failing = [
        due_at(standing(changed_at=at(1), asked_at=at(50), failures=failures), stale_since=at(1))
        for failures in (1, 2, 3, 50)
    ]
    assert failing == [at(50 + 120), at(50 + 240), at(50 + 480), at(50) + LONGEST]


def test_nothing_is_asked_while_a_list_is_made_or_where_nothing_is() -> None:
    assert due_at(standing(changed_at=at(1), under_way=True), stale_since=at(1)) is None
    assert due_at(standing(listed_at=None, used=False), stale_since=at(1)) is None
    assert due_at(standing(listed_at=None), stale_since=at(1)) == at(1)


@given(
    st.one_of(st.none(), st.integers(-(10**6), 10**6)),
    st.one_of(st.none(), st.integers(-(10**6), 10**6)),
    st.one_of(st.none(), st.integers(-(10**6), 10**6)),
    st.integers(0, 100),
    st.integers(-(10**6), 10**6),
)
def test_the_bounds_hold_whatever_happened(
    listed: int | None, changed: int | None, asked: int | None, failures: int, seen: int
) -> None:
    instants = {
        name: None if seconds is None else at(seconds)
        for name, seconds in (("listed_at", listed), ("changed_at", changed), ("asked_at", asked))
    }
    one = standing(failures=failures, **instants)
    when = due_at(one, stale_since=at(seen))
    assert when is not None
    if asked is not None:
        assert when >= at(asked) + BETWEEN
    if one.stale:
        assert when <= max(at(seen) + PATIENCE, at(asked or 0) + pause_after(failures) if asked is not None else T)
    else:
        assert listed is not None
        assert when >= at(listed) + SLOW
