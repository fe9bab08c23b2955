"""Zones: which names are taken, and that each change of a clock is found, and no other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest

from restic_manager.domain.errors import InputError
from restic_manager.domain.seconds import END, to_instant, to_second
from restic_manager.domain.zones import WallClock, check_timezone, wall_clock
from tests.domain.cron_strategies import CHANGES


@pytest.mark.parametrize(
    "name",
    [
        "UTC",
        "Etc/UTC",
        "Etc/GMT+5",
        "Europe/Berlin",
        "America/Argentina/Buenos_Aires",
        "EST5EDT",
        "America/Port-au-Prince",
    ],
)
def test_is_a_zone(name: str) -> None:
    check_timezone(name)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("", "such as Europe/Berlin"),
        ("host", ""),
        ("../x", "such as"),
        ("../../etc/passwd", "such as"),
        ("/etc/localtime", ""),
        ("/usr/share/zoneinfo/UTC", ""),
        ("Europe/../Europe/Berlin", ""),
        ("./UTC", ""),
        ("Europe/Berlin/", "did you mean Europe/Berlin "),
        ("Europe//Berlin", "Europe/Berlin"),
        ("Europe", ""),
        ("localtime", ""),
        ("posixrules", ""),
        ("Factory", ""),
        ("right/Europe/Berlin", ""),
        ("posix/Europe/Berlin", ""),
        ("zone.tab", ""),
        ("leapseconds", ""),
        ("UTC\0", ""),
        ("UTC\n", "did you mean UTC?"),
        ("\u0415urope/Berlin", "Europe/Berlin"),
        ("\udc80", ""),
        ("x" * 10_000, ""),
        ("CEST", ""),
        ("UTC+2", ""),
        ("Berlin", "did you mean Europe/Berlin?"),
        ("europe/berlin", "did you mean Europe/Berlin?"),
        ("Europe/Berln", "did you mean Europe/Berlin"),
        ("new york", "did you mean America/New_York?"),
    ],
)
def test_is_no_zone(name: str, hint: str) -> None:
    for check in (check_timezone, wall_clock):
        with pytest.raises(InputError) as caught:
            check(name)
        assert hint in caught.value.message
        assert caught.value.message.isascii()
        assert caught.value.message.isprintable()
        assert len(caught.value.message) < 400


@pytest.mark.parametrize("zone", sorted(CHANGES))
def test_the_changes_of_the_test_zones_are_found(zone: str) -> None:
    clock = wall_clock(zone)
    if zone == "UTC":
        assert not list(clock.changes(0, END))
        return
    for change in CHANGES[zone]:
        at = to_second(change)
        (found,) = clock.changes(at - 86_400, at + 86_400)
        assert found.at == at
        assert list(clock.changes(at - 1, at)) == list(clock.changes_back(at - 1, at)) == [found]
        assert not list(clock.changes(at, at + 86_400))
        assert not list(clock.changes_back(at, at + 86_400))
        assert (clock.offset(at - 1), clock.offset(at)) == (found.before, found.after)


def test_every_change_is_found_and_no_other() -> None:
    # Each zone at each hour would take minutes: a part of them, every 13 h, sees all but what lasted less than that.
    start, end = to_second(datetime(2005, 1, 1, tzinfo=UTC)), to_second(datetime(2028, 1, 1, tzinfo=UTC))
    for name in sorted(available_timezones())[::7]:
        tz = ZoneInfo(name)
        clock = WallClock(tz)
        changes = list(clock.changes(start, end))
        assert list(clock.changes_back(start, end)) == changes[::-1]
        for change, following in pairwise(changes):
            assert following.before == change.after
        for change in changes:
            for second, offset in ((change.at - 1, change.before), (change.at, change.after)):
                instant = to_instant(second)
                assert instant is not None
                assert instant.astimezone(tz).utcoffset() == timedelta(seconds=offset)
        steps = {change.at: change.after for change in changes}
        offset = clock.offset(start)
        for at in sorted({*steps, *range(start, end, 13 * 3600)}):
            offset = steps.get(at, offset)
            instant = to_instant(at)
            assert instant is not None
            assert instant.astimezone(tz).utcoffset() == timedelta(seconds=offset), (name, instant)


@pytest.mark.parametrize("name", ["Pacific/Apia", "America/Juneau", "Asia/Manila", "UTC"])
def test_beyond_both_ends_the_offset_stays(name: str) -> None:
    clock = wall_clock(name)
    assert clock.offset(-5) == clock.offset(0) == clock.offset(30 * 86_400)
    assert clock.offset(END + 5) == clock.offset(END)
