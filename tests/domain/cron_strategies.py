"""Expressions, zones and instants for the property tests of schedules."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.domain.cron_oracle import BOUNDS, utc

SETTINGS = settings(deadline=None, derandomize=True, max_examples=200, suppress_health_check=[HealthCheck.too_slow])

# Zone, and the instant of each change of its clock that the tests look at.
CHANGES: dict[str, tuple[datetime, ...]] = {
    "Europe/London": (utc(2026, 3, 29, 1), utc(2026, 10, 25, 1)),
    "Europe/Berlin": (utc(2026, 3, 29, 1), utc(2026, 10, 25, 1)),
    "America/New_York": (utc(2026, 3, 8, 7), utc(2026, 11, 1, 6)),
    "Australia/Lord_Howe": (utc(2026, 4, 4, 15), utc(2026, 10, 3, 15, 30)),
    "Asia/Beirut": (utc(2026, 3, 28, 22), utc(2026, 10, 24, 21)),
    "America/Santiago": (utc(2026, 4, 5, 3), utc(2026, 9, 6, 4)),
    "Pacific/Apia": (utc(2011, 9, 24, 14), utc(2011, 12, 30, 10)),
    "Pacific/Chatham": (utc(2026, 4, 4, 14), utc(2026, 9, 26, 14)),
    "UTC": (utc(2026, 3, 29, 1),),
}
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]


@st.composite
def _item(draw: st.DrawFn, index: int) -> str:
    low, high = BOUNDS[index]
    size = (60, 24, 31, 12, 7)[index]
    kind = draw(st.sampled_from(["one", "one", "range", "stepped range", "star step", "one step"]))
    first, last = sorted((draw(st.integers(low, high)), draw(st.integers(low, high))))
    step = draw(st.integers(1, size))
    if kind == "one" or (first == last and kind != "star step" and not (kind == "one step" and index != 4)):
        text = str(first)
        if index == 3 and draw(st.booleans()):
            text = MONTHS[first - 1]
        if index == 4 and first < 7 and draw(st.booleans()):
            text = WEEKDAYS[first].upper()
        return text
    if kind == "star step":
        return f"*/{step}"
    if kind == "one step" and index != 4:
        return f"{min(first, size - 1)}/{step}"
    return f"{first}-{last}" + ("" if kind == "range" else f"/{step}")


@st.composite
def _field(draw: st.DrawFn, index: int, *, free: bool) -> str:
    if draw(st.booleans()) if free else draw(st.integers(0, 3)) == 0:
        return "*"
    return ",".join(draw(st.lists(_item(index), min_size=1, max_size=3)))


@st.composite
def expressions(draw: st.DrawFn) -> str:
    """Any five fields without H whose day exists in each month (so that none is an impossible date)."""
    fields = [draw(_field(index, free=index >= 2)) for index in range(5)]
    if fields[3] != "*" and fields[2] != "*":
        fields[2] += ",1"
    return " ".join(fields)


@st.composite
def around_changes(draw: st.DrawFn) -> tuple[str, datetime, datetime]:
    """A zone and an interval of two and a half days around one of its changes."""
    zone = draw(st.sampled_from(sorted(CHANGES)))
    change = draw(st.sampled_from(CHANGES[zone]))
    return zone, change - timedelta(hours=30), change + timedelta(hours=30)


@st.composite
def night_expressions(draw: st.DrawFn) -> str:
    """Schedules in the hours when clocks are changed, each day or nearly so."""
    minute = draw(st.sampled_from(["0", "30", "45", "15,45", "0,30", "*/15", "*/20", "7-59/10", "*", "59", "1-58"]))
    hour = draw(
        st.sampled_from(["0", "1", "2", "3", "23", "0-3", "1,2,3", "*/2", "*", "0-23", "2-4/2", "22,23", "*/6"])
    )
    day = draw(st.sampled_from(["*"] * 4 + ["28-30", "*/2", "1,4,5,6,25,29,30", "31,30"]))
    weekday = draw(st.sampled_from(["*"] * 4 + ["0", "sat,sun", "*/6", "7"]))
    return f"{minute} {hour} {day} * {weekday}"
