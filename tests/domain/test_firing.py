"""Every answer a fire can get, each for its own reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restic_manager.domain.firing import (
    Dispatched,
    Duplicate,
    FireAnswer,
    Interval,
    KnownFate,
    KnownRun,
    Rejected,
    answer_fire,
    interval_at,
    ran_under,
)
from restic_manager.domain.model import Fate, Status, Timing

ANCHOR = datetime(2026, 3, 1, tzinfo=UTC)
NOW = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
SLOT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TIMING = Timing(cron="*/5 * * * *", timezone="UTC", anchor=ANCHOR)


def at(hour: int, minute: int = 0, second: int = 0) -> datetime:
    return datetime(2026, 3, 1, hour, minute, second, tzinfo=UTC)


def interval(
    revision: int = 1, start: datetime = ANCHOR, end: datetime | None = None, *, enabled: bool = True
) -> Interval:
    return Interval(revision=revision, timing=TIMING, enabled=enabled, valid_from=start, valid_to=end)


def ask(slot: datetime = SLOT, revision: int = 1, **more: Any) -> FireAnswer:
    facts: dict[str, Any] = {
        "now": NOW,
        "schedule_known": True,
        "intervals": [interval()],
        "clock_offset": 0.0,
        "same_tzdata": True,
        "run": None,
        "fate": None,
    } | more
    return answer_fire(slot, revision, **facts)


def test_a_slot_of_the_revision_in_force_is_dispatched() -> None:
    assert ask() == Dispatched(interval())


REJECTED: dict[str, tuple[str, dict[str, Any]]] = {
    "a schedule nobody knows": ("unknown_schedule", {"schedule_known": False, "intervals": []}),
    "another host's schedule": ("not_a_target", {"intervals": []}),
    "the host had left by then": ("not_a_target", {"intervals": [interval(end=at(11))]}),
    "the host came only later": ("not_a_target", {"intervals": [interval(start=at(12, 0, 20))]}),
    "disabled at that slot, as the agent does not know yet": (
        "disabled",
        {"intervals": [interval(end=at(11, 59)), interval(2, at(11, 59), enabled=False)]},
    ),
    "disabled in its own revision": ("disabled", {"intervals": [interval(enabled=False)]}),
    "an old revision, after its end": (
        "superseded",
        {"intervals": [interval(end=at(11, 59)), interval(2, at(11, 59))]},
    ),
    "a revision from the future": ("unknown_revision", {"revision": 7}),
    "a slot that is none": ("not_a_slot", {"slot": at(12, 0, 7)}),
    "half a second": ("not_a_slot", {"slot": SLOT + timedelta(milliseconds=500)}),
    "far in the future": ("future", {"slot": at(12, 15)}),
    "a slot that was decided": ("decided", {"fate": KnownFate(Fate.SKIPPED, "disabled")}),
}


@pytest.mark.parametrize("case", REJECTED)
def test_rejections(case: str) -> None:
    code, facts = REJECTED[case]
    answer = ask(**facts)
    assert isinstance(answer, Rejected)
    assert answer.code == code
    assert len(answer.message) > 20


def test_every_reason_says_something_else() -> None:
    answers = [ask(**facts) for _, facts in REJECTED.values()]
    messages = [answer.message for answer in answers if isinstance(answer, Rejected)]
    # "not a target at that instant" is the same sentence whether it left before or came later
    assert len(set(messages)) >= len(messages) - 2


@pytest.mark.parametrize("status", list(Status))
def test_a_slot_that_has_a_job_is_a_duplicate_whatever_else_is_true_now(status: Status) -> None:
    run = KnownRun("job", status)
    for facts in ({}, {"schedule_known": False, "intervals": []}, {"intervals": [interval(end=at(3))]}):
        assert ask(run=run, **facts) == Duplicate(run)


def test_an_old_revision_before_its_end_is_still_dispatched() -> None:
    old, new = interval(end=at(12, 0, 10)), interval(2, at(12, 0, 10))
    assert ask(intervals=[old, new]) == Dispatched(old)


def test_a_slot_right_at_the_end_belongs_to_the_old_and_right_after_to_the_new() -> None:
    old, new = interval(end=SLOT), interval(2, SLOT)
    assert interval_at(SLOT, [old, new]) == old
    assert interval_at(SLOT + timedelta(seconds=1), [old, new]) == new


def test_a_run_stands_under_the_timing_that_made_it() -> None:
    daily = Timing(cron="0 12 * * *", timezone="UTC", anchor=ANCHOR)
    old, new = interval(end=at(11)), msgspec.structs.replace(interval(2, at(11)), timing=daily)
    assert ran_under(at(10, 5), [old, new]) == old
    assert ran_under(SLOT, [old, new]) == new, "a slot of both is the one's in force"
    assert ran_under(SLOT + timedelta(minutes=5), [old, new]) == old, "the host had not heard of the change"
    assert ran_under(SLOT + timedelta(seconds=7), [old, new]) == new, "none that is known here explains it"
    rare, often = msgspec.structs.replace(old, timing=daily), interval(2, at(11))
    assert ran_under(at(10, 5), [rare, often]) == often, "by a clock that was behind, and has been set since"


@pytest.mark.parametrize(("second", "dispatched"), [(55, True), (54, False)])
def test_five_seconds_in_the_slots_favour_at_the_end(second: int, dispatched: bool) -> None:
    answer = ask(intervals=[interval(end=at(11, 59, second))])
    assert isinstance(answer, Dispatched) is dispatched


@pytest.mark.parametrize(("second", "dispatched"), [(4, True), (5, False)])
def test_five_seconds_in_the_slots_favour_at_the_beginning(second: int, dispatched: bool) -> None:
    assert isinstance(ask(intervals=[interval(start=at(12, 0, second))]), Dispatched) is dispatched


@pytest.mark.parametrize(("ahead", "code"), [(0.0, "not_a_target"), (3_600.0, None)])
def test_the_hosts_offset_is_added_to_the_servers_stamps(ahead: float, code: str | None) -> None:
    """The host's clock is an hour fast: what the server ended at 11:30 had gone on until 12:30 there."""
    answer = ask(intervals=[interval(end=at(11, 30))], clock_offset=ahead)
    assert (answer.code if isinstance(answer, Rejected) else None) == code


def test_a_host_that_lies_about_its_clock_does_not_stay_a_target_for_ever() -> None:
    gone = [interval(start=ANCHOR - timedelta(days=9), end=ANCHOR - timedelta(days=2))]
    answer = ask(intervals=gone, clock_offset=86_400.0 * 365)
    assert isinstance(answer, Rejected)
    assert answer.code == "not_a_target"


def test_a_host_that_left_and_came_back_with_the_same_revision_has_both_times() -> None:
    gone_at_noon = [interval(end=at(11)), interval(start=at(13))]
    assert isinstance(ask(intervals=gone_at_noon), Rejected)
    assert ask(at(10, 55), intervals=gone_at_noon) == Dispatched(gone_at_noon[0])
    assert ask(at(13, 5), intervals=gone_at_noon, now=at(13, 6)) == Dispatched(gone_at_noon[1])


@pytest.mark.parametrize(
    ("minutes", "same_tzdata", "dispatched"),
    [(180, False, True), (180, True, False), (181, False, False), (60, False, True), (-120, False, True)],
)
def test_peers_with_other_zone_tables_may_be_three_hours_apart(
    minutes: int, same_tzdata: bool, dispatched: bool
) -> None:
    daily = Interval(
        revision=1,
        timing=Timing(cron="30 2 * * *", timezone="Europe/Berlin", anchor=ANCHOR),
        enabled=True,
        valid_from=ANCHOR - timedelta(days=9),
    )
    slot = datetime(2026, 3, 1, 1, 30, tzinfo=UTC) + timedelta(minutes=minutes)
    answer = ask(slot, intervals=[daily], same_tzdata=same_tzdata)
    assert isinstance(answer, Dispatched) is dispatched
    if isinstance(answer, Dispatched):
        assert answer.odd is not None


def test_a_zone_the_server_does_not_know_any_more_is_an_answer_and_not_a_crash() -> None:
    gone = Interval(
        revision=1, timing=Timing(cron="@daily", timezone="Mars/Base", anchor=ANCHOR), enabled=True, valid_from=ANCHOR
    )
    answer = ask(intervals=[gone])
    assert isinstance(answer, Rejected)
    assert answer.code == "not_a_slot"


@given(
    ends=st.lists(st.integers(1, 500), min_size=0, max_size=5, unique=True),
    slot=st.integers(-20, 520),
    revision=st.integers(1, 7),
    offset=st.integers(-300, 300),
    enabled=st.booleans(),
)
def test_what_is_dispatched_lies_in_its_own_revision_and_is_enabled(
    ends: list[int], slot: int, revision: int, offset: int, enabled: bool
) -> None:
    """Against the definition, minute by minute: (valid_from, valid_to], moved by the offset, 5 s in its favour."""
    bounds = [0, *sorted(ends)]
    timing = Timing(cron="@every 60s", timezone="UTC", anchor=ANCHOR)
    intervals = [
        Interval(
            revision=number + 1,
            timing=timing,
            enabled=enabled,
            valid_from=ANCHOR + timedelta(minutes=start),
            valid_to=ANCHOR + timedelta(minutes=bounds[number + 1]) if number + 1 < len(bounds) else None,
        )
        for number, start in enumerate(bounds)
    ]
    when = ANCHOR + timedelta(minutes=slot)
    answer = ask(when, revision, intervals=intervals, clock_offset=float(offset), now=ANCHOR + timedelta(minutes=500))
    own = [one for one in intervals if one.revision == revision]
    shift, favour = timedelta(seconds=offset), timedelta(seconds=5)
    inside = bool(own) and own[0].valid_from + shift - favour < when
    if inside and own[0].valid_to is not None:
        inside = when <= own[0].valid_to + shift + favour
    expected = inside and enabled and slot >= 0 and slot <= 510 and (slot > 0)
    assert isinstance(answer, Dispatched) == expected
