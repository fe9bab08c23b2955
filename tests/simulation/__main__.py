"""`python -m tests.simulation --seeds A:B --days D --hosts N`: play seeds, print figures and what went wrong."""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import logging
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.faults import RATES, STANDING, Setting
from tests.simulation.play import Result, simulate


def _quiet(log: bool) -> None:
    if log:
        logging.basicConfig(level=logging.INFO)
    else:
        logging.disable(logging.CRITICAL)


def _play(setting: Setting, full_trace: bool, watchdog: float) -> Result:
    faulthandler.dump_traceback_later(watchdog, exit=True)
    return simulate(setting, full_trace=full_trace)


def _tell(result: Result) -> None:
    print(
        f"seed {result.seed}: {result.slots} slots, {result.runs} runs, {dict(result.fates)}, "
        f"{sum(result.applied.values())} faults, {len(result.violations)} violations, {result.seconds:.1f} s",
        flush=True,
    )
    if result.violations:
        print("\n".join(f"    {line}" for line in result.violations[:20]))
        print("\n".join(f"  | {line}" for line in result.trace))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", default="0:10", help="A:B, B left out")
    parser.add_argument("--days", type=float, default=1.0)
    parser.add_argument("--hosts", type=int, default=10)
    parser.add_argument("--faults", default="all", help="kinds, with commas; all; none")
    parser.add_argument("--trace", action="store_true", help="print the whole trace of what went wrong")
    parser.add_argument("--log", action="store_true", help="let the product log")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--watchdog", type=float, default=1_800.0, help="real seconds a seed may take")
    chosen = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets is part of what a seed has to repeat.
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            os.environ | {"PYTHONHASHSEED": "0"},
        )  # noqa: S606
    kinds = frozenset(RATES) | STANDING if chosen.faults == "all" else frozenset(chosen.faults.split(",")) - {"none"}
    low, _, high = chosen.seeds.partition(":")
    settings = [Setting(seed, chosen.days, chosen.hosts, kinds) for seed in range(int(low), int(high or int(low) + 1))]
    began = time.monotonic()
    results: list[Result] = []
    with ProcessPoolExecutor(chosen.processes, initializer=_quiet, initargs=(chosen.log,)) as pool:
        for result in pool.map(_play, settings, itertools.repeat(chosen.trace), itertools.repeat(chosen.watchdog)):
            results.append(result)
            _tell(result)
    applied: Counter[str] = sum((result.applied for result in results), Counter())
    slots, seconds = sum(result.slots for result in results), time.monotonic() - began
    bad = [result.seed for result in results if result.violations]
    print(
        f"{sum(r.hosts * r.days for r in results):g} hosts × days, {slots} slots, {slots / max(seconds, 1e-9):.0f} slots/s"
    )
    print(
        f"runs done again after a roll-back: {sum(r.repeated for r in results)}, forgotten with a lost data directory: {sum(r.forgotten for r in results)}"
    )
    print("faults: " + ", ".join(f"{kind} {count}" for kind, count in sorted(applied.items())))
    print(f"violations: {sum(len(result.violations) for result in results)}" + (f" in seeds {bad}" if bad else ""))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
