"""Any schedule in any test zone against brute force, croniter and cronsim; the four questions against each other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

from croniter import croniter
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from restic_manager.domain.cron import Timetable
from restic_manager.domain.model import Timing
from tests.domain.cron_oracle import Matcher, slots, utc
from tests.domain.cron_strategies import CHANGES, SETTINGS, around_changes, expressions, night_expressions

MICROSECOND = timedelta(microseconds=1)
ZONES = st.sampled_from(sorted(CHANGES))
INSTANTS = st.datetimes(datetime(1800, 1, 1), datetime(2400, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def table(expression: str, zone: str) -> Timetable:
    return Timetable(Timing(cron=expression, timezone=zone, anchor=utc(2026, 1, 1)))


def forward(times: Timetable, start: datetime, end: datetime) -> list[datetime]:
    """Slots in [start, end), by first_after."""
    found: list[datetime] = []
    slot = times.first_after(start - MICROSECOND)
    while slot is not None and slot < end:
        found.append(slot)
        slot = times.first_after(slot)
    return found


def backward(times: Timetable, start: datetime, end: datetime) -> list[datetime]:
    """Slots in [start, end), by last_through, in order."""
    found: list[datetime] = []
    slot = times.last_through(end - MICROSECOND)
    while slot is not None and slot >= start:
        found.append(slot)
        slot = times.last_through(slot - MICROSECOND)
    return found[::-1]


@given(night_expressions() | expressions(), around_changes(), st.data())
@settings(SETTINGS, max_examples=300)
def test_brute_force_around_changes(
    expression: str, where: tuple[str, datetime, datetime], data: st.DataObject
) -> None:
    zone, start, end = where
    times = table(expression, zone)
    wanted = list(slots(expression, zone, start, end))
    assert forward(times, start, end) == wanted
    assert backward(times, start, end) == wanted
    assert times.count(start - MICROSECOND, end - MICROSECOND) == len(wanted)
    # Asked from anywhere, above all from within a second pass and beside a gap, not only from slot to slot.
    change = start + (end - start) / 2
    near = [change + timedelta(minutes=minutes) for minutes in range(-135, 136, 15)]
    drawn = data.draw(st.lists(st.integers(0, (end - start) // timedelta(seconds=1)), min_size=4, max_size=4))
    for instant in [*near, *(start + timedelta(seconds=seconds) for seconds in drawn)]:
        later = next((slot for slot in wanted if slot > instant), None)
        earlier = next((slot for slot in reversed(wanted) if slot <= instant), None)
        if later is not None:
            assert times.first_after(instant) == later
        if earlier is not None:
            assert times.last_through(instant) == earlier
        assert times.holds(instant) == (instant == earlier)
        assert times.count(instant, end - MICROSECOND) == sum(slot > instant for slot in wanted)
        assert times.count(start - MICROSECOND, instant) == sum(slot <= instant for slot in wanted)
        assert times.count(change, instant) == sum(change < slot <= instant for slot in wanted)


@given(expressions(), ZONES, INSTANTS)
@SETTINGS
def test_the_four_questions_agree_anywhere(expression: str, zone: str, start: datetime) -> None:
    times = table(expression, zone)
    found: list[datetime] = []
    instant: datetime | None = start
    for _ in range(8):
        assert instant is not None
        instant = times.first_after(instant)
        assert instant is not None
        found.append(instant)
    assert all(before < after for before, after in pairwise([start, *found]))
    assert all(map(times.holds, found))
    assert not any(times.holds(slot + MICROSECOND) for slot in found)
    assert backward(times, start + MICROSECOND, found[-1] + MICROSECOND) == found
    for number, slot in enumerate(found, 1):
        assert times.last_through(slot) == slot
        assert times.first_after(slot - MICROSECOND) == slot
        assert times.count(start, slot) == number
        assert times.count(slot, found[-1]) == len(found) - number
    before = times.last_through(start)
    assert before is not None
    assert before <= start
    assert times.first_after(before) == found[0]
    assert times.count(before, start) == 0


@given(night_expressions() | expressions(), ZONES, INSTANTS, INSTANTS, INSTANTS)
@SETTINGS
def test_counts_add_up_over_centuries(
    expression: str, zone: str, one: datetime, two: datetime, three: datetime
) -> None:
    times = table(expression, zone)
    low, middle, high = sorted((one, two, three))
    assert times.count(low, middle) + times.count(middle, high) == times.count(low, high)
    assert times.count(high, low) == 0


@given(expressions(), st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]), INSTANTS)
@SETTINGS
def test_every_slot_shows_a_matching_wall_unless_a_gap_ends_there(expression: str, zone: str, start: datetime) -> None:
    times, tz = table(expression, zone), ZoneInfo(zone)
    slot = times.first_after(start)
    assert slot is not None
    wall = slot.astimezone(tz)
    if not Matcher(expression)(wall.replace(tzinfo=None)):
        gained = wall.utcoffset() or timedelta()
        lost = (slot - timedelta(seconds=1)).astimezone(tz).utcoffset() or timedelta()
        assert gained > lost


@given(expressions(), st.datetimes(datetime(1990, 1, 1), datetime(2080, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
@SETTINGS
def test_croniter_in_utc_in_both_directions(expression: str, start: datetime) -> None:
    # croniter takes any star in a day field for one at its start, where crontab(5) takes the first character only.
    assume(not any("*" in field[1:] for field in expression.split()[2:]))
    times = table(expression, "UTC")
    naive = start.replace(tzinfo=None)
    ahead = croniter(expression, naive, ret_type=datetime, implement_cron_bug=True)
    behind = croniter(expression, naive, ret_type=datetime, implement_cron_bug=True)
    later, earlier = start, start - MICROSECOND
    for _ in range(5):
        found = times.first_after(later)
        assert found == ahead.get_next().replace(tzinfo=UTC)
        assert found is not None
        later = found
        found = times.last_through(earlier)
        assert found == behind.get_prev().replace(tzinfo=UTC)
        assert found is not None
        earlier = found - MICROSECOND


@given(expressions(), st.datetimes(datetime(1990, 1, 1), datetime(2080, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
@SETTINGS
def test_cronsim_in_utc(expression: str, start: datetime) -> None:
    times = table(expression, "UTC")
    for theirs, _ in zip(CronSim(expression, start), range(20), strict=False):
        ours = times.first_after(start)
        assert ours == theirs
        assert ours is not None
        start = ours


@given(night_expressions(), around_changes())
@SETTINGS
def test_cronsim_in_zones_but_for_what_it_leaves_out(expression: str, where: tuple[str, datetime, datetime]) -> None:
    zone, start, end = where
    fixed = Matcher(expression).fixed
    # cronsim 2.8 has no answer to a day that does not exist. For intervals it loses slots after a gap at midnight, and
    # where a fold is no whole hour or does not start at one.
    assume(zone != "Pacific/Apia" if fixed else zone in {"Europe/London", "Europe/Berlin", "America/New_York", "UTC"})
    theirs: list[datetime] = []
    for slot in CronSim(expression, start.astimezone(ZoneInfo(zone))):
        instant = slot.astimezone(UTC)
        if instant >= end:
            break
        theirs.append(instant)
    ours = forward(table(expression, zone), start + MICROSECOND, end)
    if fixed:
        assert sorted(set(theirs)) == ours
    else:
        # Debian cron skips what falls into a gap, we make up for it where the hours are restricted.
        assert set(theirs) <= set(ours)
        made_up = set(ours) - set(theirs)
        assert len(made_up) <= 1
        assert made_up <= set(CHANGES[zone])


@given(night_expressions(), around_changes())
@settings(SETTINGS, max_examples=80)
def test_croniter_of_elapsed_time_in_zones(expression: str, where: tuple[str, datetime, datetime]) -> None:
    zone, start, end = where
    # croniter 7.0 loses slots where a fold is no whole hour or does not start at one.
    assume(zone not in {"Australia/Lord_Howe", "Pacific/Chatham"} and not Matcher(expression).fixed)
    theirs: list[datetime] = []
    local = start.astimezone(ZoneInfo(zone))
    for slot in croniter(expression, local, ret_type=datetime, implement_cron_bug=True):
        instant = slot.astimezone(UTC)
        if instant >= end:
            break
        theirs.append(instant)
    assert forward(table(expression, zone), start + MICROSECOND, end) == theirs


@given(
    st.integers(1, 10 * 366 * 86_400),
    st.datetimes(timezones=st.just(UTC)),
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=14)), timezone(-timedelta(hours=12))])),
)
@SETTINGS
def test_every_is_plain_arithmetic(step: int, anchor: datetime, instant: datetime) -> None:
    times = Timetable(Timing(cron=f"@every {step}s", timezone="UTC", anchor=anchor))
    # In integers of microseconds from the anchor, so that nothing overflows here either.
    base = anchor.replace(microsecond=0)
    passed = (instant - base) // MICROSECOND
    steps = max(0, passed // (step * 1_000_000))

    def nth(number: int) -> datetime | None:
        try:
            return base + timedelta(seconds=number * step)
        except OverflowError:
            return None

    assert times.first_after(instant) == nth(steps + 1)
    assert times.last_through(instant) == (nth(steps) if steps else None)
    assert times.holds(instant) == (steps > 0 and passed % (step * 1_000_000) == 0)
    assert times.count(base, instant) == steps
