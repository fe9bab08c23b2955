"""`schedule explain`, by the real command: right across the clock changes of every zone that CRON.md names.

The expected instants are written out by hand from the rule (a fixed time: in a gap once at its end, in a fold once,
first; a wildcard: by elapsed time), not computed.
"""

from __future__ import annotations

from typing import Any

import pytest

from restic_manager.protocol.api import Explanation
from tests.cli.conftest import Command

TABLE: list[tuple[str, str, str, list[tuple[str, str]]]] = [
    (
        "30 2 * * *",
        "Europe/Berlin",
        "2026-03-27T12:00:00Z",
        [
            ("2026-03-28T01:30:00Z", "2026-03-28T02:30:00+01:00"),
            ("2026-03-29T01:00:00Z", "2026-03-29T03:00:00+02:00"),
            ("2026-03-30T00:30:00Z", "2026-03-30T02:30:00+02:00"),
        ],
    ),
    (
        "30 2 * * *",
        "Europe/Berlin",
        "2026-10-24T12:00:00Z",
        [
            ("2026-10-25T00:30:00Z", "2026-10-25T02:30:00+02:00"),
            ("2026-10-26T01:30:00Z", "2026-10-26T02:30:00+01:00"),
        ],
    ),
    (
        "*/30 * * * *",
        "Europe/Berlin",
        "2026-10-25T00:00:00Z",
        [
            ("2026-10-25T00:30:00Z", "2026-10-25T02:30:00+02:00"),
            ("2026-10-25T01:00:00Z", "2026-10-25T02:00:00+01:00"),
            ("2026-10-25T01:30:00Z", "2026-10-25T02:30:00+01:00"),
            ("2026-10-25T02:00:00Z", "2026-10-25T03:00:00+01:00"),
        ],
    ),
    (
        "*/30 * * * *",
        "Europe/Berlin",
        "2026-03-29T00:00:00Z",
        [
            ("2026-03-29T00:30:00Z", "2026-03-29T01:30:00+01:00"),
            ("2026-03-29T01:00:00Z", "2026-03-29T03:00:00+02:00"),
            ("2026-03-29T01:30:00Z", "2026-03-29T03:30:00+02:00"),
        ],
    ),
    (
        "30 1 * * *",
        "Europe/London",
        "2026-03-28T12:00:00Z",
        [("2026-03-29T01:00:00Z", "2026-03-29T02:00:00+01:00"), ("2026-03-30T00:30:00Z", "2026-03-30T01:30:00+01:00")],
    ),
    (
        "30 1 * * *",
        "Europe/London",
        "2026-10-24T12:00:00Z",
        [("2026-10-25T00:30:00Z", "2026-10-25T01:30:00+01:00"), ("2026-10-26T01:30:00Z", "2026-10-26T01:30:00+00:00")],
    ),
    (
        "30 2 * * *",
        "America/New_York",
        "2026-03-07T12:00:00Z",
        [("2026-03-08T07:00:00Z", "2026-03-08T03:00:00-04:00"), ("2026-03-09T06:30:00Z", "2026-03-09T02:30:00-04:00")],
    ),
    (
        "30 1 * * *",
        "America/New_York",
        "2026-10-31T12:00:00Z",
        [("2026-11-01T05:30:00Z", "2026-11-01T01:30:00-04:00"), ("2026-11-02T06:30:00Z", "2026-11-02T01:30:00-05:00")],
    ),
    # The clock goes from 02:00 to 02:30 only.
    (
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T00:00:00Z",
        [("2026-10-03T15:30:00Z", "2026-10-04T02:30:00+11:00"), ("2026-10-04T15:15:00Z", "2026-10-05T02:15:00+11:00")],
    ),
    # Midnight itself is skipped: the day still has its run.
    (
        "0 0 * * *",
        "Asia/Beirut",
        "2026-03-28T12:00:00Z",
        [("2026-03-28T22:00:00Z", "2026-03-29T01:00:00+03:00"), ("2026-03-29T21:00:00Z", "2026-03-30T00:00:00+03:00")],
    ),
    (
        "@daily",
        "America/Santiago",
        "2026-09-05T12:00:00Z",
        [("2026-09-06T04:00:00Z", "2026-09-06T01:00:00-03:00"), ("2026-09-07T03:00:00Z", "2026-09-07T00:00:00-03:00")],
    ),
    # 30 December 2011 did not exist there: what was due on it runs once, at its end, with the 31st's midnight.
    (
        "0 0 * * *",
        "Pacific/Apia",
        "2011-12-29T00:00:00-10:00",
        [("2011-12-30T10:00:00Z", "2011-12-31T00:00:00+14:00"), ("2011-12-31T10:00:00Z", "2012-01-01T00:00:00+14:00")],
    ),
    (
        "50 2 * * *",
        "Pacific/Chatham",
        "2026-09-26T00:00:00Z",
        [("2026-09-26T14:00:00Z", "2026-09-27T03:45:00+13:45"), ("2026-09-27T13:05:00Z", "2026-09-28T02:50:00+13:45")],
    ),
    ("30 2 29 2 *", "UTC", "2026-01-01T00:00:00Z", [("2028-02-29T02:30:00Z", "2028-02-29T02:30:00+00:00")]),
    (
        "@every 6h",
        "Europe/Berlin",
        "2026-03-28T20:00:00Z",
        [("2026-03-29T02:00:00Z", "2026-03-29T04:00:00+02:00"), ("2026-03-29T08:00:00Z", "2026-03-29T10:00:00+02:00")],
    ),
]


def explained(command: Command, expression: str, zone: str, after: str, count: int) -> dict[str, Any]:
    ended = command(
        "schedule", "explain", expression, "--timezone", zone, "--after", after, "--count", str(count), "--json"
    )
    assert ended.code == 0, ended.err
    found = ended.json
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("expression", "zone", "after", "slots"), TABLE, ids=[f"{row[0]} {row[1]} {row[2]}" for row in TABLE]
)
def test_slots_are_right_across_clock_changes(
    command: Command, expression: str, zone: str, after: str, slots: list[tuple[str, str]]
) -> None:
    found = explained(command, expression, zone, after, len(slots))
    assert [(slot["utc"], slot["local"]) for slot in found["next"]] == slots
    assert set(Explanation.__struct_fields__) == set(found)
    assert (found["cron"], found["timezone"]) == (expression, zone)


@pytest.mark.parametrize(
    ("expression", "after", "told"),
    [
        (
            "30 2 * * *",
            "2026-03-27T12:00:00Z",
            "Sun 2026-03-29 the clock goes from 02:00 to 03:00: what is due in between runs once, at 03:00",
        ),
        (
            "30 2 * * *",
            "2026-10-24T12:00:00Z",
            "the clock goes from 03:00 back to 02:00: what is due in between runs in the first pass only",
        ),
        ("*/20 * * * *", "2026-10-25T00:00:00Z", "what is due in between runs in both passes"),
        ("*/20 * * * *", "2026-03-29T00:00:00Z", "no time passes, so nothing is left out"),
        ("*/20 2 * * *", "2026-03-28T12:00:00Z", "what is due in between runs once, at 03:00"),
        ("@hourly", "2026-10-25T00:00:00Z", "by elapsed time"),
        ("30 2 * * *", "2026-06-01T00:00:00Z", "at fixed times"),
        ("H 3 * * *", "2026-06-01T00:00:00Z", "each H is a value of the host's own"),
        ("@every 6h", "2026-06-01T00:00:00Z", "a schedule counts from the instant it was added"),
    ],
)
def test_notes_tell_which_rule_and_what_the_change_does(
    command: Command, expression: str, after: str, told: str
) -> None:
    found = explained(command, expression, "Europe/Berlin", after, 6)
    assert any(told in note for note in found["notes"]), found["notes"]


def test_a_change_that_touches_no_time_of_it_is_not_mentioned(command: Command) -> None:
    found = explained(command, "0 12 * * *", "Europe/Berlin", "2026-03-27T00:00:00Z", 5)
    assert len(found["notes"]) == 1


def test_a_zone_without_changes_has_no_rule_for_them(command: Command) -> None:
    assert explained(command, "0 12 * * *", "UTC", "2026-03-27T00:00:00Z", 5)["notes"] == []


def test_a_skipped_day_is_told_with_its_dates(command: Command) -> None:
    found = explained(command, "0 12 * * *", "Pacific/Apia", "2011-12-28T00:00:00Z", 5)
    assert any("from 00:00 to Sat 2011-12-31 00:00" in note for note in found["notes"]), found["notes"]


def test_the_end_of_time_is_said(command: Command) -> None:
    found = explained(command, "@yearly", "UTC", "9998-06-01T00:00:00Z", 5)
    assert len(found["next"]) == 1
    assert "there are no more" in found["notes"]


def test_for_a_person(command: Command) -> None:
    ended = command(
        "schedule", "explain", "30 2 * * *", "--timezone", "Europe/Berlin", "--after", "2026-03-28T12:00:00Z"
    )
    assert ended.out.splitlines()[0] == "at 02:30 every day, Europe/Berlin"
    assert "Sun 2026-03-29 03:00:00 +02:00" in ended.out
    assert max(map(len, ended.out.splitlines()[:7])) <= 80


def test_it_needs_no_server_and_no_zone(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTIC_MANAGER_SERVER", "nonsense")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    ended = command("schedule", "explain", "@daily", "--json")
    assert ended.code == 0
    found = ended.json
    assert isinstance(found, dict)
    assert found["timezone"] == "Europe/Berlin"
    assert len(found["next"]) == 5
