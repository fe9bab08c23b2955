"""H and splay: the same for ever, independent by field, and spread evenly over a fleet."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restic_manager.domain.cron import CronError, check_expression, resolve_hash, splay_offset
from restic_manager.domain.cron_text import parse
from tests.domain.cron_strategies import SETTINGS, expressions

HOST = "0f3b6c0e-7d0c-4f7c-9a51-0d8b4a2f6e11"
SCHEDULE = "b8c1f8de-25a4-4a43-8f3c-6a5f0f6b2f70"

# Golden: to change one of these moves the schedules of every fleet.
GOLDEN = [
    ("H H * * *", "57 2 * * *"),
    ("H * * * *", "57 * * * *"),
    ("H/15 * * * *", "12-59/15 * * * *"),
    ("H(0-29)/10 H(1-5) * * *", "7-29/10 1 * * *"),
    ("H H H * *", "57 2 17 * *"),
    ("0 4 * * H", "0 4 * * 2"),
    ("0 4 1 H *", "0 4 1 10 *"),
]


@pytest.mark.parametrize(("text", "resolved"), GOLDEN)
def test_golden_values(text: str, resolved: str) -> None:
    assert resolve_hash(text, host_id=HOST, schedule_id=SCHEDULE) == resolved


def test_golden_splay() -> None:
    found = [splay_offset(size, host_id=HOST, schedule_id=SCHEDULE) for size in (0, 1, 60, 3600, 86_400)]
    assert found == [0, 0, 1, 2701, 74701]


def _digest(purpose: str) -> int:
    parts = (purpose.encode(), HOST.encode(), SCHEDULE.encode())
    framed = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return int.from_bytes(hashlib.blake2b(framed, digest_size=16).digest(), "big")


def test_both_are_the_documented_digest() -> None:
    assert splay_offset(3600, host_id=HOST, schedule_id=SCHEDULE) == _digest("splay") % 3600
    minute, hour, day, *_ = resolve_hash("H H H * *", host_id=HOST, schedule_id=SCHEDULE).split()
    assert int(minute) == _digest("cron minute") % 60
    assert int(hour) == _digest("cron hour") % 24
    assert int(day) == 1 + _digest("cron day of month") % 28


def test_where_one_name_ends_and_the_next_begins_matters() -> None:
    assert splay_offset(10**9, host_id="ab", schedule_id="c") != splay_offset(10**9, host_id="a", schedule_id="bc")


def _resolved(text: str, hosts: int) -> list[str]:
    return [resolve_hash(text, host_id=f"host-{number}", schedule_id=SCHEDULE) for number in range(hosts)]


def test_a_fleet_spreads_over_all_pairs_of_minute_and_hour() -> None:
    hosts = 14_400
    pairs = Counter(tuple(text.split()[:2]) for text in _resolved("H H * * *", hosts))
    # Uniform: 10 a pair, Poisson. croniter's own H reaches 240 pairs, with a peak of 7 times the mean.
    assert len(pairs) >= 1430
    assert max(pairs.values()) <= 30
    chi_square = sum((pairs[pair] - 10) ** 2 / 10 for pair in pairs) + 10 * (1440 - len(pairs))
    assert 1439 - 5 * 54 < chi_square < 1439 + 5 * 54


def test_fields_are_independent_of_each_other() -> None:
    rows = [tuple(map(int, text.split()[:2])) for text in _resolved("H H * * *", 4000)]
    mean_minute = sum(minute for minute, _ in rows) / len(rows)
    mean_hour = sum(hour for _, hour in rows) / len(rows)
    covariance = sum((minute - mean_minute) * (hour - mean_hour) for minute, hour in rows) / len(rows)
    assert abs(covariance / (17.3 * 6.92)) < 0.06


def test_schedules_of_one_host_are_independent_of_each_other() -> None:
    found = {resolve_hash("H H * * *", host_id=HOST, schedule_id=f"schedule-{number}") for number in range(500)}
    assert len(found) > 380


def test_a_plain_day_of_month_is_one_that_each_month_has() -> None:
    days = Counter(int(text.split()[2]) for text in _resolved("H H H * *", 2000))
    assert set(days) == set(range(1, 29))


def test_a_splay_spreads_evenly() -> None:
    offsets = [splay_offset(3600, host_id=f"host-{number}", schedule_id=SCHEDULE) for number in range(6000)]
    assert all(0 <= offset < 3600 for offset in offsets)
    sixths = Counter(offset // 600 for offset in offsets)
    assert all(850 < sixths[sixth] < 1150 for sixth in range(6))


@given(expressions())
@SETTINGS
def test_without_h_nothing_is_changed(expression: str) -> None:
    assert resolve_hash(expression, host_id=HOST, schedule_id=SCHEDULE) == expression


@pytest.mark.parametrize("text", ["@daily", "@every 6h", "@EVERY 6h", " 0  0 * * * "])
def test_other_forms_are_left_as_they_are(text: str) -> None:
    assert resolve_hash(text, host_id=HOST, schedule_id=SCHEDULE) == text


def test_a_wrong_text_is_refused() -> None:
    with pytest.raises(CronError):
        resolve_hash("H H * *", host_id=HOST, schedule_id=SCHEDULE)


_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))


@st.composite
def _hashed(draw: st.DrawFn) -> str:
    words = []
    for low, high in _BOUNDS:
        first = draw(st.integers(low, high - 1))
        last = draw(st.integers(first + 1, high))
        step = draw(st.integers(1, high))
        words.append(
            draw(st.sampled_from(["*", "H", "h", f"H/{step}", f"H({first}-{last})", f"H({first}-{last})/{step}"]))
        )
    return " ".join(words)


@given(_hashed(), st.text(max_size=12), st.text(max_size=12))
@SETTINGS
def test_what_h_becomes_is_a_schedule_within_what_was_written(text: str, host: str, schedule: str) -> None:
    try:
        check_expression(text)
    except CronError as error:
        assert "H(1-28)" in error.message  # noqa: PT017 (the one refusal these texts can earn)
        return
    resolved = resolve_hash(text, host_id=host, schedule_id=schedule)
    assert resolved == resolve_hash(text, host_id=host, schedule_id=schedule)
    check_expression(resolved)
    before, after = parse(text), parse(resolved)
    assert not isinstance(before, int)
    assert not isinstance(after, int)
    for written, became in zip(before, after, strict=True):
        assert became.hashed is None
        if written.hashed and written.hashed.step:
            # From its start on through the end of what was written, nothing left out.
            assert became.values == set(range(min(became.values), written.hashed.high + 1, written.hashed.step))
            assert min(became.values) <= written.hashed.last_start
        assert became.values <= written.values
        assert became.star == (written.text == "*")
