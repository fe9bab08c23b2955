"""`python -m tests.simulation --seeds A:B --days D --hosts N`: play seeds, print figures and what went wrong."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

from tests.simulation import faults
from tests.simulation.faults import Setting
from tests.simulation.play import Result
from tests.simulation.workers import Order, Played, open_workers, play


def _tell(played: Played) -> None:
    result, short = played.result, played.short
    print(
        f"seed {result.seed}: {result.slots} slots, {result.runs} runs, {dict(result.kinds)}, "
        f"{result.beside} at once, {dict(result.fates)}, "
        f"{sum(result.applied.values())} faults, {len(result.violations)} violations, {result.seconds:.1f} s",
        flush=True,
    )
    for line in result.violations[:20]:
        print(f"    {line}")
    if short is not None:
        print(f"  shrunk to {len(short.faults)} of {len(result.faults)} faults:")
        for fault in short.faults:
            print(f"    {fault}")
        print("  with which:")
        for line in short.violations[:20]:
            print(f"    {line}")
    if result.violations:
        for line in (short or result).trace:
            print(f"  | {line}")


def _sum_up(results: list[Result], seconds: float) -> None:
    applied: Counter[str] = sum((result.applied for result in results), Counter())
    slots = sum(result.slots for result in results)
    days = sum(result.hosts * result.days for result in results)
    repeated, forgotten = (sum(getattr(result, what) for result in results) for what in ("repeated", "forgotten"))
    bad = [result.seed for result in results if result.violations]
    print(f"{days:g} hosts x days, {slots} slots, {slots / max(seconds, 1e-9):.0f} slots/s")
    print(f"runs done again after a roll-back: {repeated}, forgotten with a lost data directory: {forgotten}")
    print("faults: " + ", ".join(f"{kind} {count}" for kind, count in sorted(applied.items())))
    print(f"violations: {sum(len(result.violations) for result in results)}" + (f" in seeds {bad}" if bad else ""))


def _kinds(text: str) -> frozenset[str]:
    if text == "all":
        return faults.ALL
    kinds = frozenset(text.split(",")) - {"none", ""}
    if kinds - faults.ALL:
        raise argparse.ArgumentTypeError(f"no such kind: {', '.join(sorted(kinds - faults.ALL))}")
    return kinds


def _seeds(text: str) -> range:
    low, _, high = text.partition(":")
    return range(int(low), int(high or int(low) + 1))


def main() -> int:
    """Play what the arguments say; return 1 when an invariant was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=_seeds, default=range(10), help="A:B, B left out; or one")
    parser.add_argument("--days", type=float, default=1.0)
    parser.add_argument("--hosts", type=int, default=10)
    parser.add_argument("--faults", type=_kinds, default=faults.ALL, help="kinds, with commas; all; none")
    parser.add_argument("--trace", action="store_true", help="print the whole trace of what went wrong")
    parser.add_argument("--log", action="store_true", help="let the product log")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="copy every run's databases to DIR/seed-N")
    parser.add_argument("--processes", type=int, default=None, help="how many at a time (one for each core)")
    parser.add_argument("--shrink", type=float, default=120.0, help="real seconds for shrinking what fails (0: none)")
    parser.add_argument("--watchdog", type=float, default=1_800.0, help="real seconds a seed may take")
    chosen = parser.parse_args()
    orders = [
        Order(
            Setting(seed, chosen.days, chosen.hosts, chosen.faults),
            full_trace=chosen.trace,
            watchdog=chosen.watchdog,
            shrink=chosen.shrink,
            keep=chosen.keep,
        )
        for seed in chosen.seeds
    ]
    began = time.monotonic()
    results: list[Result] = []
    with open_workers(chosen.processes, log=chosen.log) as workers:
        for played in workers.map(play, orders):
            results.append(played.result)
            _tell(played)
    _sum_up(results, time.monotonic() - began)
    return 1 if any(result.violations for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
