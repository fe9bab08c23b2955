"""Instants and durations as text: one spelling each, and a clear refusal of everything else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restic_manager.domain.errors import InputError
from restic_manager.domain.instants import (
    duration_text,
    instant_text,
    parse_duration,
    parse_instant,
    slot_text,
    whole_second,
)

INSTANTS = st.datetimes(
    datetime(1, 1, 2),  # noqa: DTZ001 - Hypothesis adds the zone itself
    datetime(9999, 12, 30),  # noqa: DTZ001 - the same
    timezones=st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)


class TestInstants:
    @pytest.mark.parametrize(
        ("instant", "text"),
        [
            (datetime(2026, 3, 29, 1, 30, tzinfo=UTC), "2026-03-29T01:30:00Z"),
            (datetime(2026, 3, 29, 1, 30, 0, 500_000, tzinfo=UTC), "2026-03-29T01:30:00.500000Z"),
            (datetime(2026, 3, 29, 3, 30, tzinfo=timezone(timedelta(hours=2))), "2026-03-29T01:30:00Z"),
            (datetime(999, 1, 1, tzinfo=UTC), "0999-01-01T00:00:00Z"),
        ],
    )
    def test_text(self, instant: datetime, text: str) -> None:
        assert instant_text(instant) == text
        assert parse_instant(text) == instant

    @settings(deadline=None)
    @given(INSTANTS)
    def test_round_trip(self, instant: datetime) -> None:
        text = instant_text(instant)
        assert text.endswith("Z")
        back = parse_instant(text)
        assert back == instant
        assert back.utcoffset() == timedelta()
        assert parse_instant(instant.isoformat()) == instant

    @settings(deadline=None)
    @given(INSTANTS)
    def test_slots_are_twenty_characters(self, instant: datetime) -> None:
        slot = whole_second(instant)
        assert timedelta() <= instant - slot < timedelta(seconds=1)
        assert len(slot_text(slot)) == 20
        assert slot_text(slot) == instant_text(slot)
        assert parse_instant(slot_text(slot)) == slot

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "now",
            "1774747800",
            "2026-02-30T00:00:00Z",
            "2026-03-29T25:00:00Z",
            "2026-03-29T01:30:00ZZ",
            "2026-03-29T01:30:00Z\0",
            "2026-03-29T01:30:00\0Z",
            "2026-03-29T01:30:00+24:00",
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-14:00",
            "\uff12\uff10\uff12\uff16-03-29T01:30:00Z",
            "\ud800",
        ],
    )
    def test_refused_with_an_example(self, text: str) -> None:
        with pytest.raises(InputError, match="2026-03-29T01:30:00Z") as caught:
            parse_instant(text)
        assert repr(text) in caught.value.message

    @pytest.mark.parametrize("text", ["2026-03-29T01:30:00", "2026-03-29", "2026-03-29 01:30"])
    def test_without_an_offset_is_not_guessed(self, text: str) -> None:
        with pytest.raises(InputError, match="no UTC offset"):
            parse_instant(text)


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "seconds", "shortest"),
        [
            ("90s", 90, "1m30s"),
            ("15m", 900, "15m"),
            ("6h", 21_600, "6h"),
            ("1d", 86_400, "1d"),
            ("24h", 86_400, "1d"),
            ("1h30m", 5_400, "1h30m"),
            ("1d1h1m1s", 90_061, "1d1h1m1s"),
            ("0s", 0, "0s"),
            ("007m", 420, "7m"),
            ("999999d", 86_399_913_600, "999999d"),
        ],
    )
    def test_are_read(self, text: str, seconds: int, shortest: str) -> None:
        assert parse_duration(text) == timedelta(seconds=seconds)
        assert duration_text(timedelta(seconds=seconds)) == shortest

    @pytest.mark.parametrize(
        "text",
        ["", "5", "s", "1.5h", "-5m", "+5m", "5 m", " 5m", "5m ", "5m\n", "5M", "30m1h", "1h1h", "1w", "5min"],
    )
    def test_others_are_refused_with_an_example(self, text: str) -> None:
        with pytest.raises(InputError, match="like 90s, 15m, 6h, 1d or 1h30m") as caught:
            parse_duration(text)
        assert repr(text) in caught.value.message

    @pytest.mark.parametrize("text", ["\u0665m", "1000000d", "\0", "\ud800", "9" * 5_000 + "s"])
    def test_strange_ones_too(self, text: str) -> None:
        with pytest.raises(InputError):
            parse_duration(text)

    @settings(deadline=None)
    @given(st.integers(0, 999_999 * 86_400))
    def test_round_trip(self, seconds: int) -> None:
        duration = timedelta(seconds=seconds)
        assert parse_duration(duration_text(duration)) == duration

    @settings(deadline=None)
    @given(st.text(st.sampled_from("0123456789dhms -."), max_size=12))
    def test_what_is_read_is_said_in_no_more_words(self, text: str) -> None:
        try:
            duration = parse_duration(text)
        except InputError:
            return
        assert parse_duration(duration_text(duration)) == duration or duration > timedelta(days=999_999)
        assert len(duration_text(duration)) <= len(text) + 8

    def test_parts_of_a_second_are_dropped(self) -> None:
        assert duration_text(timedelta(seconds=1, microseconds=999_999)) == "1s"
        assert duration_text(timedelta(milliseconds=1)) == "0s"
