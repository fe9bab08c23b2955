"""What schedule arithmetic costs. Run: `python -m benchmarks.cron`. Prints microseconds; asserts nothing about time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from restic_manager.domain import cron, zones
from restic_manager.domain.cron import Timetable
from restic_manager.domain.model import Timing

START = datetime(2026, 3, 28, 12, 34, 56, tzinfo=UTC)


def timing(expression: str, timezone: str = "Europe/Berlin") -> Timing:
    return Timing(cron=expression, timezone=timezone, anchor=START)


def best(work: Callable[[], object], *, rounds: int = 5, times: int = 1000) -> float:
    """Return the best mean of a few rounds, in microseconds."""
    results: list[float] = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(times):
            work()
        results.append((time.perf_counter() - begin) / times * 1e6)
    return min(results)


def show(what: str, microseconds: float) -> None:
    print(f"{what:<58} {microseconds:>10.1f} us")


def main() -> None:
    cron.check_expression("30 2 * * *")
    for expression in ("30 2 * * *", "*/15 2-5 1,15 jan-jun mon-fri", "@every 6h"):
        value = timing(expression)
        show(f"construct {expression}", best(partial(Timetable, value)))

    def fresh() -> None:
        cron._walls.cache_clear()  # noqa: SLF001
        Timetable(timing("7 3 * * 1-5")).first_after(START)

    show("construct and first_after, fields not seen before", best(fresh))
    zone_times: list[float] = []
    for name in ("Europe/London", "America/New_York", "Asia/Tokyo"):
        clock = zones.wall_clock(name)
        begin = time.perf_counter()
        clock.offset(63_900_000_000)
        zone_times.append((time.perf_counter() - begin) * 1e6)
    show("first look at one year of one zone (then kept)", max(zone_times))

    for expression in ("30 2 * * *", "*/15 * * * *", "0 3 1 */3 *", "0 0 29 2 */7", "@every 6h"):
        table = Timetable(timing(expression))
        show(f"first_after {expression}", best(partial(table.first_after, START)))
        show(f"last_through {expression}", best(partial(table.last_through, START)))

    for expression in ("* * * * *", "0-59 0-23 * * *", "30 2 * * 1-5"):
        table = Timetable(timing(expression))
        for years in (1, 10, 50):
            zones.wall_clock.cache_clear()
            cold = Timetable(timing(expression))
            through = START + timedelta(days=365 * years)
            begin = time.perf_counter()
            cold.count(START, through)
            show(f"count {years} y of {expression}, zone not seen before", (time.perf_counter() - begin) * 1e6)
            table.count(START, through)
            show(f"count {years} y of {expression}", best(partial(table.count, START, through), times=20))

    begin = time.perf_counter()
    tables = [Timetable(timing(f"{n % 60} {n // 60 % 24} * * *", "Europe/Paris")) for n in range(100_000)]
    for table in tables:
        table.first_after(START)
    show("100,000 schedules: construct and first_after, all", (time.perf_counter() - begin) * 1e6)


if __name__ == "__main__":
    main()
