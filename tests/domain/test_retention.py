"""Policies: their words, and what is wrong with one before it is applied."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restic_manager.domain.errors import InputError
from restic_manager.domain.retention import (
    Retention,
    check_retention,
    in_words,
    is_empty,
    never_filled,
    refusal,
    span,
)

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Shot:
    id: str
    time: datetime


def shots(*days: float) -> list[Shot]:
    return [Shot(f"{number:064x}", NOW - DAY * ago) for number, ago in enumerate(days, start=1)]


class TestRefused:
    def test_an_empty_policy(self) -> None:
        assert is_empty(Retention())
        assert not is_empty(Retention(tags=("keep",)))
        with pytest.raises(InputError, match="no rule"):
            check_retention(Retention())

    @pytest.mark.parametrize(
        ("policy", "named"),
        [
            (Retention(within="0d"), "'0d'"),
            (Retention(within_daily="0y0m"), "within-daily"),
            (Retention(tags=("a,b",)), "a,b"),
            (Retention(tags=(" a",)), "' a'"),
        ],
    )
    def test_what_restic_reads_otherwise(self, policy: Retention, named: str) -> None:
        with pytest.raises(InputError) as caught:
            check_retention(policy)
        assert named in caught.value.message

    @pytest.mark.parametrize("text", ["", "d", "7", "7d ", "-7d", "7w", "1.5d", "1d\n2h"])
    def test_spans_that_are_none_do_not_even_travel(self, text: str) -> None:
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(msgspec.json.encode({"within": text}), type=Retention)

    def test_counts_of_nothing_do_not_even_travel(self) -> None:
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(b'{"last":0}', type=Retention)


class TestTheNewestGood:
    def test_an_ordinary_forget_may_go_on(self) -> None:
        assert refusal(shots(0, 1), shots(2, 3)[1:], newest_good=None, now=NOW) is None
        assert refusal([], [], newest_good=None, now=NOW) is None
        assert refusal(shots(1), [], newest_good="ffffffff", now=NOW) is None

    def test_all_of_them(self) -> None:
        assert refusal([], shots(1, 2), newest_good=None, now=NOW) == "it would remove all 2 snapshots and keep none"

    def test_the_newest_that_is_not_in_the_future(self) -> None:
        forged, good, old = shots(-900, 0.5, 3)
        why = refusal([forged], [good, old], newest_good=None, now=NOW)
        assert why is not None
        assert good.id[:8] in why
        assert "1 claim to be made in the future" in why
        assert refusal([forged, good], [old], newest_good=None, now=NOW) is None

    def test_the_one_that_is_known_to_be_good(self) -> None:
        newest, good = shots(0, 1)
        assert refusal([newest], [good], newest_good=None, now=NOW) is None
        assert "the newest good snapshot" in str(refusal([newest], [good], newest_good=good.id, now=NOW))
        # It may be known by the beginning of its id only (0.14 tells eight digits).
        short = Shot("abcdef12" + "0" * 56, NOW - DAY)
        assert refusal([newest], [short], newest_good="abcdef12", now=NOW) is not None

    def test_none_of_them_honest(self) -> None:
        assert "claims to be made in the future" in str(refusal(shots(-5), shots(-3), newest_good=None, now=NOW))

    @given(
        st.lists(st.integers(-400, 400), min_size=1, max_size=20, unique=True),
        st.sets(st.integers(0, 19)),
        st.booleans(),
    )
    def test_what_it_lets_pass_leaves_the_newest_honest_one(self, ago: list[int], kept: set[int], known: bool) -> None:
        every = shots(*ago)
        keep = [shot for number, shot in enumerate(every) if number in kept]
        remove = [shot for number, shot in enumerate(every) if number not in kept]
        honest = [shot for shot in every if shot.time <= NOW]
        newest = max(honest, key=lambda shot: shot.time, default=None)
        good = newest.id if known and newest is not None else None
        if refusal(keep, remove, newest_good=good, now=NOW) is None and remove:
            assert newest in keep


class TestWords:
    @pytest.mark.parametrize(
        ("policy", "words"),
        [
            (None, "keeps everything"),
            (Retention(), "keeps everything"),
            (Retention(last=1), "keeps the last snapshot"),
            (
                Retention(last=3, daily=14, monthly=1),
                (
                    "keeps the last 3 snapshots; one a day for the last 14 days with snapshots"
                    "; one a month for the last month with snapshots"
                ),
            ),
            (
                Retention(within="1y6m2h", within_weekly="1m", tags=("legal", "tax")),
                (
                    "keeps everything of the last 1 year 6 months 2 hours; one a week of the last 1 month"
                    "; everything tagged legal or tax"
                ),
            ),
        ],
    )
    def test_for_people(self, policy: Retention | None, words: str) -> None:
        assert in_words(policy) == words

    def test_spans(self) -> None:
        assert span("1y5m7d2h") == timedelta(days=365 + 150 + 7, hours=2)
        assert span("36h") == 1.5 * DAY


class TestNeverFilled:
    def test_rules_that_fit_are_silent(self) -> None:
        assert never_filled(Retention(last=5, daily=14, weekly=8, within="7d"), DAY) == ()
        assert never_filled(Retention(hourly=24), timedelta(hours=1)) == ()
        assert never_filled(Retention(hourly=24), None) == ()
        assert never_filled(Retention(hourly=1), DAY) == ()

    def test_finer_than_the_schedule(self) -> None:
        (said,) = never_filled(Retention(hourly=24, daily=7), DAY)
        assert said.startswith("keep-hourly 24: the schedule runs every day, so 24 snapshots reach back 24 days")
        assert said.endswith("instead of 24 hours")
        (said,) = never_filled(Retention(within_daily="1m"), 7 * DAY)
        assert said.startswith("keep-within-daily 1m: the schedule runs every week")

    def test_a_span_shorter_than_the_schedule(self) -> None:
        (said,) = never_filled(Retention(within="12h"), DAY)
        assert "only the newest snapshot" in said
        assert never_filled(Retention(within="12h", last=3), DAY) == ()
