"""`python -m tests.simulation --seeds A:B --days D --hosts N`: play seeds, print figures and what went wrong."""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import sys
from collections import Counter

from tests.simulation.faults import RATES, STANDING, Setting
from tests.simulation.play import Result, simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", default="0:10", help="A:B, B left out")
    parser.add_argument("--days", type=float, default=1.0)
    parser.add_argument("--hosts", type=int, default=10)
    parser.add_argument("--faults", default="all", help="kinds, with commas; all; none")
    parser.add_argument("--trace", action="store_true", help="print the whole trace of what went wrong")
    parser.add_argument("--log", action="store_true", help="let the product log")
    parser.add_argument("--watchdog", type=float, default=1_800.0, help="real seconds a seed may take")
    chosen = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets is part of what a seed has to repeat.
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]], os.environ | {"PYTHONHASHSEED": "0"})  # noqa: S606
    if chosen.log:
        logging.basicConfig(level=logging.INFO)
    else:
        logging.disable(logging.CRITICAL)
    kinds = frozenset(RATES) | STANDING if chosen.faults == "all" else frozenset(chosen.faults.split(",")) - {"none"}
    low, high = (int(part) for part in chosen.seeds.split(":"))
    results: list[Result] = []
    for seed in range(low, high):
        faulthandler.dump_traceback_later(chosen.watchdog, exit=True)
        result = simulate(Setting(seed, chosen.days, chosen.hosts, kinds), full_trace=chosen.trace)
        results.append(result)
        print(f"seed {seed}: {result.slots} slots, {result.runs} runs, {dict(result.fates)}, {sum(result.applied.values())} faults, {len(result.violations)} violations, {result.seconds:.1f} s", flush=True)
        if result.violations:
            print("\n".join(f"    {line}" for line in result.violations[:20]))
            print("\n".join(f"  | {line}" for line in result.trace))
    applied: Counter[str] = sum((result.applied for result in results), Counter())
    slots, seconds = sum(result.slots for result in results), sum(result.seconds for result in results)
    bad = [result.seed for result in results if result.violations]
    print(f"{sum(r.hosts * r.days for r in results):g} hosts × days, {slots} slots, {slots / max(seconds, 1e-9):.0f} slots/s")
    print("faults: " + ", ".join(f"{kind} {count}" for kind, count in sorted(applied.items())))
    print(f"violations: {sum(len(result.violations) for result in results)}" + (f" in seeds {bad}" if bad else ""))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
