"""`python -m tests.simulation --seeds 0:100 --hours 24 --hosts 3 [--kinds cut,kill_agent]`: live many stories."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter

from tests.simulation.story import KINDS, Fault, faults_of, play


def shrink(seed: int, faults: list[Fault], *, hours: float, hosts: int) -> list[Fault]:
    """Given a failing story, return a shorter list of faults that still fails."""
    size = len(faults) // 2
    while size:
        start = 0
        while start < len(faults):
            fewer = faults[:start] + faults[start + size :]
            if play(seed, fewer, hours=hours, hosts=hosts).violations:
                faults = fewer
            else:
                start += size
        size //= 2
    return faults


def main() -> int:
    """Run the seeds, print the sums, shrink the first that fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="0:20")
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--hosts", type=int, default=3)
    parser.add_argument("--kinds", default=",".join(KINDS))
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    first, _, last = options.seeds.partition(":")
    kinds = [kind for kind in options.kinds.split(",") if kind]
    began, slots, runs, violations, counted = time.monotonic(), 0, 0, 0, Counter[str]()
    for seed in range(int(first), int(last)):
        faults = faults_of(seed, hours=options.hours, hosts=options.hosts, kinds=kinds)
        result = play(seed, faults, hours=options.hours, hosts=options.hosts)
        slots, runs, violations = slots + result.slots, runs + result.runs, violations + len(result.violations)
        counted += result.faults
        if result.violations:
            print(f"seed {seed}: {len(result.violations)} violations, the first: {result.violations[0]}")
            short = shrink(seed, faults, hours=options.hours, hosts=options.hosts)
            again = play(seed, short, hours=options.hours, hosts=options.hosts)
            print(f"  shrunk to {len(short)} faults: {short}")
            for line in again.violations[:5]:
                print(f"  {line}")
            break
    days = (int(last) - int(first)) * options.hours / 24 * options.hosts
    print(
        f"{days:g} host days, {slots:,} slots, {runs:,} runs, {violations} violations, "
        f"{slots / max(time.monotonic() - began, 1e-9):,.0f} slots/s; faults: {dict(counted)}"
    )
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
