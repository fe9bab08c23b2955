"""The slots of named schedules in named zones, worked out by hand: each kind of clock change, and both ends of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from restic_manager.domain.cron import CronError, Timetable
from restic_manager.domain.errors import InputError
from restic_manager.domain.model import Timing
from tests.domain.cron_oracle import utc

ANCHOR = utc(2026, 1, 1)


def table(cron: str, zone: str = "UTC", anchor: datetime = ANCHOR) -> Timetable:
    return Timetable(Timing(cron=cron, timezone=zone, anchor=anchor))


def local(text: str) -> datetime:
    return datetime.fromisoformat(text)


# Each row: zone, expression, from, all slots up to the last one shown (local time with offset).
FIXED = [
    # Spring: 02:00 becomes 03:00. Autumn: 03:00 becomes 02:00.
    ("Europe/Berlin", "30 2 * * *", "2026-03-28 12:00+01:00", "29 03:00+02:00", "30 02:30+02:00"),
    ("Europe/Berlin", "30 2 * * *", "2026-10-24 12:00+02:00", "25 02:30+02:00", "26 02:30+01:00"),
    ("Europe/Berlin", "0 3 * * *", "2026-03-28 12:00+01:00", "29 03:00+02:00", "30 03:00+02:00"),
    ("Europe/Berlin", "0 2,3 * * *", "2026-03-28 12:00+01:00", "29 03:00+02:00", "30 02:00+02:00"),
    ("Europe/Berlin", "15,45 2 * * *", "2026-03-28 12:00+01:00", "29 03:00+02:00", "30 02:15+02:00"),
    ("Europe/Berlin", "59 1 * * *", "2026-03-28 12:00+01:00", "29 01:59+01:00", "30 01:59+02:00"),
    ("Europe/Berlin", "0 3 * * *", "2026-10-24 12:00+02:00", "25 03:00+01:00", "26 03:00+01:00"),
    ("Europe/Berlin", "0,30 2 * * *", "2026-10-24 12:00+02:00", "25 02:00+02:00", "25 02:30+02:00", "26 02:00+01:00"),
    ("Europe/Berlin", "30 2 29 3 *", "2026-01-01 00:00+01:00", "2026-03-29 03:00+02:00", "2027-03-29 02:30+02:00"),
    ("Europe/Berlin", "30 2 * * sun", "2026-03-28 12:00+01:00", "29 03:00+02:00"),
    ("Europe/London", "30 1 * * *", "2026-03-28 12:00+00:00", "29 02:00+01:00", "30 01:30+01:00"),
    ("Europe/London", "30 1 * * *", "2026-10-24 12:00+01:00", "25 01:30+01:00", "26 01:30+00:00"),
    ("America/New_York", "30 2 * * *", "2026-03-07 12:00-05:00", "08 03:00-04:00", "09 02:30-04:00"),
    ("America/New_York", "30 1 * * *", "2026-10-31 12:00-04:00", "11-01 01:30-04:00", "11-02 01:30-05:00"),
    # Half an hour: 02:00 becomes 02:30, and 02:00 becomes 01:30.
    ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03 12:00+10:30", "04 02:30+11:00", "05 02:15+11:00"),
    ("Australia/Lord_Howe", "30 2 * * *", "2026-10-03 12:00+10:30", "04 02:30+11:00", "05 02:30+11:00"),
    ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04 12:00+11:00", "05 01:45+11:00", "06 01:45+10:30"),
    ("Australia/Lord_Howe", "15,45 1 * * *", "2026-04-05 00:00+11:00", "05 01:15+11:00", "05 01:45+11:00"),
    ("Australia/Lord_Howe", "0 2 * * *", "2026-04-04 12:00+11:00", "05 02:00+10:30", "06 02:00+10:30"),
    # Midnight does not exist, and 23:00 comes twice.
    ("Asia/Beirut", "0 0 * * *", "2026-03-28 12:00+02:00", "29 01:00+03:00", "30 00:00+03:00"),
    ("Asia/Beirut", "@daily", "2026-03-28 12:00+02:00", "29 01:00+03:00", "30 00:00+03:00"),
    ("Asia/Beirut", "0 0 29 3 *", "2026-03-28 12:00+02:00", "29 01:00+03:00", "2027-03-29 00:00+03:00"),
    ("Asia/Beirut", "0 0 * * sun", "2026-03-28 12:00+02:00", "29 01:00+03:00", "04-05 00:00+03:00"),
    ("Asia/Beirut", "30 23 * * *", "2026-10-24 12:00+03:00", "24 23:30+03:00", "25 23:30+02:00"),
    ("America/Santiago", "15 0 * * *", "2026-09-05 12:00-04:00", "06 01:00-03:00", "07 00:15-03:00"),
    ("America/Santiago", "@weekly", "2026-09-05 12:00-04:00", "06 01:00-03:00", "13 00:00-03:00"),
    ("America/Santiago", "30 23 * * *", "2026-04-04 12:00-03:00", "04 23:30-03:00", "05 23:30-04:00"),
    # 30 December 2011 was left out.
    ("Pacific/Apia", "0 12 * * *", "2011-12-29 00:00-10:00", "29 12:00-10:00", "31 00:00+14:00", "31 12:00+14:00"),
    ("Pacific/Apia", "0 0 * * *", "2011-12-29 00:00-10:00", "31 00:00+14:00", "2012-01-01 00:00+14:00"),
    ("Pacific/Apia", "0 2,4,6 30 12 *", "2011-12-01 00:00-10:00", "31 00:00+14:00", "2012-12-30 02:00+14:00"),
    ("Pacific/Apia", "0 5 * * fri", "2011-12-29 00:00-10:00", "31 00:00+14:00", "2012-01-06 05:00+14:00"),
    # 02:45 becomes 03:45, and 03:45 becomes 02:45.
    ("Pacific/Chatham", "0 3 * * *", "2026-09-26 12:00+12:45", "27 03:45+13:45", "28 03:00+13:45"),
    ("Pacific/Chatham", "0 3 * * *", "2026-04-04 12:00+13:45", "05 03:00+13:45", "06 03:00+12:45"),
    ("UTC", "30 2 * * *", "2026-03-28 12:00+00:00", "29 02:30+00:00", "30 02:30+00:00"),
]
ELAPSED = [
    ("Europe/Berlin", "*/30 * * * *", "2026-03-29 01:00+01:00", "29 01:30+01:00", "29 03:00+02:00", "29 03:30+02:00"),
    ("Europe/Berlin", "30 * * * *", "2026-03-29 01:00+01:00", "29 01:30+01:00", "29 03:30+02:00"),
    (
        "Europe/Berlin",
        "*/30 * * * *",
        "2026-10-25 02:00+02:00",
        "25 02:30+02:00",
        "25 02:00+01:00",
        "25 02:30+01:00",
        "25 03:00+01:00",
    ),
    ("Europe/Berlin", "@hourly", "2026-10-25 01:00+02:00", "25 02:00+02:00", "25 02:00+01:00", "25 03:00+01:00"),
    # The hours are restricted: what falls into the gap is made up for once, at its end.
    ("Europe/Berlin", "*/15 2 * * *", "2026-03-28 12:00+01:00", "29 03:00+02:00", "30 02:00+02:00"),
    ("Europe/Berlin", "0 */2 * * *", "2026-03-29 00:00+01:00", "29 03:00+02:00", "29 04:00+02:00"),
    ("Europe/Berlin", "*/30 1-3 * * *", "2026-03-29 01:00+01:00", "29 01:30+01:00", "29 03:00+02:00", "29 03:30+02:00"),
    ("Europe/Berlin", "0 */2 * * *", "2026-10-25 00:00+02:00", "25 02:00+02:00", "25 02:00+01:00", "25 04:00+01:00"),
    ("Europe/Berlin", "0 */3 * * *", "2026-03-29 00:00+01:00", "29 03:00+02:00", "29 06:00+02:00"),
    ("Asia/Beirut", "0 */6 * * *", "2026-03-28 12:00+02:00", "28 18:00+02:00", "29 01:00+03:00", "29 06:00+03:00"),
    ("Asia/Beirut", "0 */12 * * *", "2026-10-24 12:00+03:00", "25 00:00+02:00", "25 12:00+02:00"),
    ("Australia/Lord_Howe", "*/20 * * * *", "2026-10-04 01:30+10:30", "04 01:40+10:30", "04 02:40+11:00"),
    ("Australia/Lord_Howe", "*/20 * * * *", "2026-04-05 01:30+11:00", "05 01:40+11:00", "05 01:40+10:30"),
    ("Australia/Lord_Howe", "15 */2 * * *", "2026-10-04 00:15+10:30", "04 02:30+11:00", "04 04:15+11:00"),
    ("America/Santiago", "*/30 * * * *", "2026-09-05 23:00-04:00", "05 23:30-04:00", "06 01:00-03:00"),
    (
        "America/Santiago",
        "0 * 5 4 *",
        "2026-04-04 22:00-03:00",
        "05 00:00-04:00",
        "05 01:00-04:00",
    ),
    ("America/Santiago", "0 * 4 4 *", "2026-04-04 22:00-03:00", "04 23:00-03:00", "04 23:00-04:00"),
    ("Pacific/Apia", "0 * * * *", "2011-12-29 22:00-10:00", "29 23:00-10:00", "31 00:00+14:00", "31 01:00+14:00"),
    ("Pacific/Apia", "0 */6 30 * *", "2011-12-29 00:00-10:00", "31 00:00+14:00", "2012-01-30 00:00+14:00"),
    ("Pacific/Chatham", "*/30 * * * *", "2026-09-27 02:00+12:45", "27 02:30+12:45", "27 04:00+13:45"),
]


def _slots(start: datetime, texts: tuple[str, ...]) -> list[datetime]:
    """Fill in the year and month that a short text leaves out."""
    prefix = start.strftime("%Y-%m-")
    return [local(("" if len(text) > 20 else prefix[:5] if text[2] == "-" else prefix) + text) for text in texts]


@pytest.mark.parametrize("row", FIXED + ELAPSED, ids=lambda row: f"{row[0]} {row[1]} {row[2][:10]}")
def test_slots_around_changes(row: tuple[str, ...]) -> None:
    zone, expression, begin, *texts = row
    start = local(begin)
    wanted = _slots(start, tuple(texts))
    for text, slot in zip(texts, wanted, strict=True):
        assert slot.utcoffset() == slot.astimezone(ZoneInfo(zone)).utcoffset(), f"the row is wrong: {text}"
    times = table(expression, zone)
    found: list[datetime] = []
    instant: datetime | None = start
    for _ in wanted:
        assert instant is not None
        instant = times.first_after(instant)
        assert instant is not None
        found.append(instant)
    assert [slot.astimezone(UTC).isoformat() for slot in wanted] == [slot.isoformat() for slot in found]
    assert all(map(times.holds, wanted))
    back: list[datetime] = []
    instant = wanted[-1]
    for _ in wanted:
        instant = times.last_through(instant)
        assert instant is not None
        back.append(instant)
        instant -= timedelta(microseconds=1)
    assert back == found[::-1]
    assert times.last_through(start) != found[0]
    assert times.count(start, found[-1]) == len(wanted)


def test_two_thirty_in_berlin_in_utc() -> None:
    times = table("30 2 * * *", "Europe/Berlin")
    assert times.first_after(utc(2026, 3, 28, 1, 30)) == utc(2026, 3, 29, 1)
    assert times.first_after(utc(2026, 3, 29, 1)) == utc(2026, 3, 30, 0, 30)
    assert times.first_after(utc(2026, 10, 24, 0, 30)) == utc(2026, 10, 25, 0, 30)
    assert times.first_after(utc(2026, 10, 25, 0, 30)) == utc(2026, 10, 26, 1, 30)
    assert not times.holds(utc(2026, 10, 25, 1, 30))
    assert times.count(utc(2026, 1, 1), utc(2027, 1, 1)) == 365


def test_asked_within_the_second_pass() -> None:
    times = table("30 2,3 * * *", "Europe/Berlin")
    for instant in (utc(2026, 10, 25, 1, 0), utc(2026, 10, 25, 1, 10), utc(2026, 10, 25, 1, 45)):
        assert times.first_after(instant) == utc(2026, 10, 25, 2, 30)
        assert times.last_through(instant) == utc(2026, 10, 25, 0, 30)
    # The first wall time after the fold is not one of it.
    assert table("0 3 * * *", "Europe/Berlin").first_after(utc(2026, 10, 25, 1, 10)) == utc(2026, 10, 25, 2)


def test_results_are_whole_seconds_in_utc() -> None:
    slot = table("30 2 * * *", "Europe/Berlin").first_after(datetime(2026, 1, 1, 0, 0, 0, 5, tzinfo=UTC))
    assert slot is not None
    assert (slot.tzinfo, slot.microsecond) == (UTC, 0)


@pytest.mark.parametrize(
    ("expression", "after", "slots"),
    [
        # Either day field is enough, unless one starts with a star.
        ("0 0 13 * fri", utc(2026, 2, 1), [utc(2026, 2, 6), utc(2026, 2, 13), utc(2026, 2, 20)]),
        ("0 0 1 * 1-5/2", utc(2026, 8, 1), [utc(2026, 8, 3), utc(2026, 8, 5), utc(2026, 8, 7)]),
        ("0 0 */10 * mon", utc(2026, 1, 1), [utc(2026, 5, 11), utc(2026, 6, 1), utc(2026, 8, 31)]),
        ("0 0 13 * */5", utc(2026, 1, 1), [utc(2026, 2, 13), utc(2026, 3, 13), utc(2026, 9, 13)]),
        ("0 0 1-31 * mon", utc(2026, 1, 1), [utc(2026, 1, 2), utc(2026, 1, 3)]),
        ("0 0 1 * 7", utc(2026, 1, 2), [utc(2026, 1, 4), utc(2026, 1, 11)]),
        ("0 0 31 * *", utc(2026, 1, 1), [utc(2026, 1, 31), utc(2026, 3, 31), utc(2026, 5, 31)]),
        ("0 0 29 2 *", utc(2096, 2, 29), [utc(2104, 2, 29), utc(2108, 2, 29)]),
        # A 29 February that is a Sunday: 40 years without one.
        ("0 0 29 2 */7", utc(2026, 1, 1), [utc(2032, 2, 29), utc(2060, 2, 29), utc(2088, 2, 29), utc(2128, 2, 29)]),
        ("59/15 23 31 12 *", utc(2026, 1, 1), [utc(2026, 12, 31, 23, 59), utc(2027, 12, 31, 23, 59)]),
        ("@yearly", utc(2026, 1, 1), [utc(2027, 1, 1), utc(2028, 1, 1)]),
        ("@annually", utc(2026, 1, 1), [utc(2027, 1, 1)]),
        ("@monthly", utc(2026, 1, 1), [utc(2026, 2, 1), utc(2026, 3, 1)]),
        ("@weekly", utc(2026, 1, 1), [utc(2026, 1, 4), utc(2026, 1, 11)]),
        ("@midnight", utc(2026, 1, 1), [utc(2026, 1, 2)]),
        ("@hourly", utc(2026, 1, 1), [utc(2026, 1, 1, 1)]),
    ],
)
def test_days(expression: str, after: datetime, slots: list[datetime]) -> None:
    times = table(expression)
    instant = after
    for slot in slots:
        found = times.first_after(instant)
        assert found == slot
        assert times.last_through(slot) == slot
        assert times.last_through(slot - timedelta(seconds=1)) != slot
        assert times.count(instant, slot) == 1
        instant = slot


def test_every_counts_from_its_anchor_and_no_clock_change_moves_it() -> None:
    times = table("@every 6h", "Europe/Berlin", anchor=datetime(2026, 3, 28, 22, 0, 7, 999_999, tzinfo=UTC))
    first = utc(2026, 3, 29, 4, 0, 7)
    assert times.first_after(utc(2020, 1, 1)) == first
    assert times.first_after(first) == utc(2026, 3, 29, 10, 0, 7)
    assert times.first_after(first - timedelta(microseconds=1)) == first
    assert times.last_through(first) == first
    assert times.last_through(first - timedelta(microseconds=1)) is None
    assert not times.holds(utc(2026, 3, 28, 22, 0, 7)), "the anchor itself is no slot"
    assert times.holds(first)
    assert not times.holds(first + timedelta(microseconds=1))
    assert times.count(utc(1, 1, 1), first) == 1
    assert times.count(first, first + timedelta(days=1)) == 4
    assert times.count(utc(1, 1, 1), utc(9999, 12, 31)) == (
        utc(9999, 12, 31) - utc(2026, 3, 28, 22, 0, 7)
    ) // timedelta(hours=6)


def test_every_second_and_every_ten_years() -> None:
    start = utc(2026, 1, 1)
    assert table("@every 1s").first_after(start) == start + timedelta(seconds=1)
    assert table("@every 1s").count(start, utc(2036, 1, 1)) == (utc(2036, 1, 1) - start) // timedelta(seconds=1)
    assert table("@every 3660d").first_after(start) == start + timedelta(days=3660)
    assert table("@every 3660d", anchor=utc(9999, 1, 1)).first_after(start) is None
    assert table("@every 3660d", anchor=utc(9999, 1, 1)).last_through(utc(9999, 12, 31)) is None


def test_splay_is_no_part_of_the_slot() -> None:
    plain = Timing(cron="30 2 * * *", timezone="UTC", anchor=ANCHOR)
    late = Timing(cron="30 2 * * *", timezone="UTC", anchor=ANCHOR, splay=1234)
    assert Timetable(plain).first_after(ANCHOR) == Timetable(late).first_after(ANCHOR) == utc(2026, 1, 1, 2, 30)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Pacific/Apia", "America/Juneau", "Asia/Manila", "UTC"])
@pytest.mark.parametrize("expression", ["30 2 * * *", "*/15 * * * *", "0 */6 * * *", "0 0 29 2 */7", "@every 1d"])
def test_both_ends_of_time(zone: str, expression: str) -> None:
    times = table(expression, zone)
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    # Instants that are no datetime in UTC: a day before the first, a day after the last.
    early = datetime.min.replace(tzinfo=timezone(timedelta(hours=23)))
    late = datetime.max.replace(tzinfo=timezone(-timedelta(hours=23)))
    for begin in (first, early):
        slot = times.first_after(begin)
        assert slot is not None
        assert times.holds(slot)
        assert times.last_through(slot) == slot
        assert times.count(begin, slot) == 1
        assert times.count(begin, begin) == 0
    for end in (last, late):
        assert times.first_after(end) is None
        slot = times.last_through(end)
        assert slot is not None
        assert times.holds(slot)
        assert times.first_after(slot) is None
        assert times.count(slot, end) == 0
        assert times.count(slot - timedelta(microseconds=1), end) == 1
        assert not times.holds(end)
    assert times.last_through(early) is None
    assert times.count(last, first) == 0


def test_a_whole_calendar_is_counted() -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert table("0 0 * * *").count(first, last) == last.toordinal() - 1
    assert table("* * * * *", "Etc/GMT-3").count(utc(2026, 1, 1), utc(2036, 1, 1)) == 3652 * 1440


@pytest.mark.parametrize("expression", ["30 2 * * *", "*/15 * * * *"])
def test_local_mean_time_with_seconds(expression: str) -> None:
    times = table(expression, "Europe/Berlin")
    slot = times.first_after(utc(1890, 6, 1))
    assert slot is not None
    wall = slot.astimezone(ZoneInfo("Europe/Berlin"))
    assert wall.utcoffset() == timedelta(minutes=53, seconds=28)
    assert (wall.second, wall.minute % 15) == (0, 0)
    assert times.holds(slot)
    assert times.last_through(slot) == slot


def test_a_day_that_came_twice() -> None:
    # Alaska crossed the date line: 18 October 1867 came twice (local mean time, hence the seconds).
    times = table("0 12 * * *", "America/Juneau")
    begin, end = utc(1867, 10, 15), utc(1867, 10, 22)
    found = []
    instant = times.first_after(begin)
    while instant is not None and instant <= end:
        found.append(instant)
        instant = times.first_after(instant)
    walls = [slot.astimezone(ZoneInfo("America/Juneau")).replace(tzinfo=None) for slot in found]
    assert len(walls) == len({wall.date() for wall in walls}) == times.count(begin, end)
    assert table("0 */12 * * *", "America/Juneau").count(begin, end) == 14


def test_instants_of_any_zone_and_microsecond() -> None:
    times = table("30 2 * * *", "Europe/Berlin")
    slot = utc(2026, 10, 25, 0, 30)
    berlin = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    assert times.holds(berlin)
    assert not times.holds(berlin.replace(fold=1))
    assert not times.holds(berlin.replace(microsecond=1))
    odd = timezone(timedelta(hours=5, microseconds=250))
    assert times.holds(slot.astimezone(odd))
    assert not times.holds(slot.astimezone(odd).replace(microsecond=0))
    assert times.last_through(berlin.replace(microsecond=1)) == slot
    assert times.first_after(berlin.replace(microsecond=1)) == utc(2026, 10, 26, 1, 30)
    assert times.last_through(slot - timedelta(microseconds=1)) == utc(2026, 10, 24, 0, 30)


def test_an_instant_within_a_gap_is_the_one_python_says() -> None:
    times = table("0 4 * * *", "Europe/Berlin")
    inside = datetime(2026, 3, 29, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    assert times.first_after(inside) == utc(2026, 3, 29, 2)


def test_a_naive_instant_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="aware"):
        table("30 2 * * *").first_after(datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="aware"):
        table("30 2 * * *").holds(datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize("expression", ["30 2 * *", "H 2 * * *", "@reboot", "0 0 30 2 *", "R 2 * * *"])
def test_a_timetable_trusts_no_expression(expression: str) -> None:
    with pytest.raises(CronError) as caught:
        table(expression)
    assert caught.value.text == expression


def test_an_h_left_over_is_named_with_its_place() -> None:
    with pytest.raises(CronError) as caught:
        table("30 H(1-5) * * *")
    assert caught.value.position == 3
    assert "resolve" in caught.value.message


@pytest.mark.parametrize("zone", ["", "host", "../etc/passwd", "Europe/Nowhere", "Europe"])
def test_a_timetable_trusts_no_zone(zone: str) -> None:
    for expression in ("30 2 * * *", "@every 6h"):
        with pytest.raises(InputError):
            table(expression, zone)
