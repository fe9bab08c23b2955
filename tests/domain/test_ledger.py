"""The ledger as it is read: every slot up to now in exactly one entry, recorded or not, and stretches that are cut."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restic_manager.domain.cron import Timetable
from restic_manager.domain.firing import Interval
from restic_manager.domain.ledger import Chain, Entry, EntryFate, Fated, Presence, read
from restic_manager.domain.model import Fate, Status, Timing
from restic_manager.domain.spans import Span, Stretch, remainder

START = datetime(2026, 3, 1, 0, 0, tzinfo=UTC)
HERE = Presence(online=True)
AWAY = Presence(online=False, away_since=datetime(2026, 3, 1, 3, 10, tzinfo=UTC))


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def interval(begin: float = -0.5, end: float | None = None, *, revision: int = 1, **changes: Any) -> Interval:
    timing = Timing(
        cron=changes.pop("cron", "0 * * * *"),
        timezone=changes.pop("timezone", "UTC"),
        anchor=START,
        splay=changes.pop("splay", 0),
    )
    return Interval(
        revision=revision,
        timing=timing,
        enabled=changes.pop("enabled", True),
        valid_from=at(begin),
        valid_to=None if end is None else at(end),
    )


def fated(first: float, last: float | None = None, fate: Fate = Fate.RAN, **more: Any) -> Fated:
    last = first if last is None else last
    return Fated(
        first=at(first), last=at(last), count=int(last - first) + 1, fate=fate, **{"revision": 1, "job_id": None} | more
    )


def listed(
    intervals: Sequence[Interval],
    rows: Sequence[Fated] = (),
    *,
    now: float,
    presence: Presence = HERE,
    since: float = -1_000,
    until: float = 1_000,
) -> list[Entry]:
    return read(
        intervals,
        rows,
        {},
        since=at(since),
        until=at(until),
        now=at(now),
        presence=presence,
        decided_through=max((row.last for row in rows), default=None),
    )


def brief(entries: Sequence[Entry]) -> list[tuple[str, float, float, int]]:
    def hours(instant: datetime) -> float:
        return (instant - START) / timedelta(hours=1)

    return [(str(entry.fate), hours(entry.first), hours(entry.last), entry.count) for entry in entries]


TABLE: dict[str, tuple[dict[str, Any], list[tuple[str, float, float, int]]]] = {
    "nothing is due yet": ({"intervals": [interval(0)], "now": 0.5}, []),
    "due and the host is there": ({"intervals": [interval(0)], "now": 1}, [("pending", 1, 1, 1)]),
    "due for long and the host is there": ({"intervals": [interval(0)], "now": 3.5}, [("pending", 1, 3, 3)]),
    "past due and the host is away": (
        {"intervals": [interval(0)], "now": 3.5, "presence": AWAY},
        [("unknown", 1, 3, 3)],
    ),
    "due within the last minute, the host away": (
        {"intervals": [interval(0)], "now": 3 + 50 / 3600, "presence": AWAY},
        [("unknown", 1, 2, 2), ("pending", 3, 3, 1)],
    ),
    "exactly 60 s is not past due": (
        {"intervals": [interval(2.5)], "now": 3 + 1 / 60 - 1e-9, "presence": AWAY},
        [("pending", 3, 3, 1)],
    ),
    "the splay makes it due later": ({"intervals": [interval(0, splay=1_800)], "now": 1.4}, []),
    "the splay makes it past due later": (
        {"intervals": [interval(0, splay=1_800)], "now": 1.51, "presence": AWAY},
        [("pending", 1, 1, 1)],
    ),
    "a host whose clock is an hour ahead has more due": (
        {"intervals": [interval(0)], "now": 1, "presence": Presence(online=True, clock_offset=3_600)},
        [("pending", 2, 2, 1)],
    ),
    "disabled, not closed yet": (
        {"intervals": [interval(0, 2.5, enabled=False), interval(2.5, revision=2)], "now": 3.1, "presence": AWAY},
        [("skipped", 1, 2, 2), ("unknown", 3, 3, 1)],
    ),
    "recorded fates are taken as they are, the rest stands between": (
        {
            "intervals": [interval()],
            "rows": [fated(0), fated(2, 4, Fate.COALESCED), fated(5)],
            "now": 7.5,
            "presence": AWAY,
        },
        [("ran", 0, 0, 1), ("unknown", 1, 1, 1), ("coalesced", 2, 4, 3), ("ran", 5, 5, 1), ("unknown", 6, 7, 2)],
    ),
    "a row stands for slots of every revision in its time": (
        {
            "intervals": [interval(-0.5, 1.5), interval(1.5, cron="*/30 * * * *", revision=2)],
            "rows": [fated(0, 3, Fate.COALESCED)],
            "now": 3.6,
        },
        [("coalesced", 0, 3, 4), ("pending", 3.5, 3.5, 1)],
    ),
    "a slot the host never told of is given up after a week, if it told of later ones": (
        {"intervals": [interval()], "rows": [fated(1, 179, Fate.MISSED)], "now": 179.5},
        [("missed", 0, 0, 1), ("missed", 1, 179, 179)],
    ),
    "before that it is pending": (
        {"intervals": [interval()], "rows": [fated(1, 160, Fate.MISSED)], "now": 160.5},
        [("pending", 0, 0, 1), ("missed", 1, 160, 160)],
    ),
    "a removed host will not tell": (
        {"intervals": [interval(0, 2.5)], "now": 9, "presence": Presence(online=False, removed=True)},
        [("missed", 1, 2, 2)],
    ),
    "an agent that cannot use the schedule": (
        {"intervals": [interval(0)], "now": 2.5, "presence": Presence(online=True, refused="no such zone")},
        [("rejected", 1, 2, 2)],
    ),
    "a window": ({"intervals": [interval(0)], "now": 9, "since": 2, "until": 4}, [("pending", 2, 4, 3)]),
    "two memberships with a gap between": (
        {"intervals": [interval(0, 1.5), interval(3.5)], "now": 4.5},
        [("pending", 1, 1, 1), ("pending", 4, 4, 1)],
    ),
    "a zone no table here knows has no slots to list": (
        {"intervals": [interval(0, timezone="Mars/Base")], "now": 9},
        [],
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_what_is_listed(name: str) -> None:
    given, wanted = TABLE[name]
    assert brief(listed(**given)) == wanted


def test_an_unknown_slot_says_since_when_the_host_is_away() -> None:
    (entry,) = listed([interval(3.5)], now=4.5, presence=AWAY)
    assert entry.reason == "host away since 2026-03-01T03:10:00Z"
    (never,) = listed([interval(3.5)], now=4.5, presence=Presence(online=False))
    assert never.reason == "host away: it has never been connected"


def test_a_run_has_its_attempts_in_its_entry() -> None:
    chains = {"job": Chain(("job", "retry"), Status.SUCCEEDED)}
    (entry,) = read(
        [interval()],
        [fated(0, job_id="job")],
        chains,
        since=at(-1),
        until=at(0),
        now=at(0.5),
        presence=HERE,
        decided_through=at(0),
    )
    assert (entry.job_id, entry.attempts, entry.status) == ("job", ("job", "retry"), Status.SUCCEEDED)


def test_a_year_of_minutes_is_one_entry_and_quick() -> None:
    year = 24 * 365
    (entry,) = listed([interval(0, cron="* * * * *")], now=year, until=year)
    assert entry.count == year * 60


CRONS = ("*/20 * * * *", "0 * * * *", "@every 17m", "15,45 */2 * * *", "30 2 * * *")


@st.composite
def ledgers(draw: st.DrawFn) -> tuple[list[Interval], list[Fated], float, Presence]:
    """Intervals one after the other, some with gaps between; fates of random stretches, recorded one after another."""
    intervals: list[Interval] = []
    hours = draw(st.floats(-3, 3))
    for revision in range(1, draw(st.integers(1, 5)) + 1):
        length = draw(st.floats(0, 20))
        last = draw(st.booleans()) and revision > 1
        intervals.append(
            interval(
                hours,
                None if last else hours + length,
                revision=revision,
                cron=draw(st.sampled_from(CRONS)),
                timezone=draw(st.sampled_from(["UTC", "Europe/London"])),
                enabled=draw(st.integers(0, 3)) > 0,
                splay=draw(st.sampled_from([0, 0, 600])),
            )
        )
        if last:
            break
        hours += length + draw(st.sampled_from([0, 0, 2.5]))
    rows: list[Fated] = []
    for _ in range(draw(st.integers(0, 8))):
        own = draw(st.sampled_from(intervals))
        table = Timetable(own.timing)
        first = table.first_after(at(draw(st.floats(-3, 70))))
        assert first is not None
        last_slot = table.last_through(first + timedelta(hours=draw(st.sampled_from([0, 0, 3, 9]))))
        assert last_slot is not None
        told = Span(first, last_slot, table.count(first - timedelta(seconds=1), last_slot))
        taken = [Stretch(row.first, row.last) for row in rows]
        rows += [
            Fated(first=piece.first, last=piece.last, count=piece.count, revision=own.revision, fate=Fate.MISSED)
            for piece in remainder(told, own.revision, intervals, taken)
        ]
        rows.sort(key=lambda row: row.first)
    presence = draw(st.sampled_from([HERE, AWAY]))
    return intervals, rows, draw(st.floats(0, 80)), presence


@given(ledgers())
def test_every_slot_up_to_now_is_in_exactly_one_entry(
    case: tuple[list[Interval], list[Fated], float, Presence],
) -> None:
    intervals, rows, now, presence = case
    entries = listed(intervals, rows, now=now, presence=presence)
    assert entries == sorted(entries, key=lambda entry: entry.first)
    seen: dict[int, int] = {}
    for one in intervals:
        table = Timetable(one.timing)
        slot = table.first_after(one.valid_from)
        while slot is not None and (one.valid_to is None or slot <= one.valid_to) and slot <= at(90):
            holders = [number for number, entry in enumerate(entries) if entry.first <= slot <= entry.last]
            recorded = any(row.first <= slot <= row.last for row in rows)
            due = slot + timedelta(seconds=one.timing.splay) <= at(now)
            assert len(holders) == (1 if due or recorded else 0), slot
            for number in holders:
                seen[number] = seen.get(number, 0) + 1
            slot = table.first_after(slot)
    for number, entry in enumerate(entries):
        # What stands for slots of the host's own intervals says exactly how many of them it stands for.
        if seen.get(number, 0) > 1 or entry.fate in {EntryFate.PENDING, EntryFate.UNKNOWN, EntryFate.SKIPPED}:
            assert entry.count == seen[number], entry


@given(ledgers())
def test_no_two_recorded_fates_share_an_instant(case: tuple[list[Interval], list[Fated], float, Presence]) -> None:
    _, rows, _, _ = case
    for earlier, later in pairwise(rows):
        assert earlier.first <= earlier.last < later.first


def test_what_is_left_of_a_stretch_is_counted_anew() -> None:
    owned = [interval()]
    told = Span(at(0), at(9), 10)
    taken = [Stretch(at(0), at(0)), Stretch(at(3), at(4)), Stretch(at(8.5), at(20))]
    assert remainder(told, 1, owned, taken) == [Span(at(1), at(2), 2), Span(at(5), at(8), 4)]
    assert remainder(told, 1, owned, [Stretch(at(-1), at(9))]) == []
    assert remainder(told, 1, owned, [Stretch(at(-3), at(-1))]) == [told]


def test_a_stretch_of_a_revision_nobody_knows_is_cut_by_those_that_are_known() -> None:
    assert remainder(Span(at(0), at(3), 4), 99, [interval()], [Stretch(at(1), at(1))]) == [
        Span(at(0), at(0), 1),
        Span(at(2), at(3), 2),
    ]
