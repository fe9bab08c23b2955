"""How long an operator waits for nothing: whole processes, from start to exit, as ratios to the bare interpreter.

    python benchmarks/help_time.py [RUNS]

Budget: 0.18 s for --help, 0.25 s for `status` on this class of machine. The best run is reported beside the median: the
best is what the program takes, the median what the machine was doing besides.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path


def seconds(argv: list[str], runs: int) -> tuple[float, float]:
    """Given a command, return the best and the median of its whole run times, the first run left out."""
    times = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        )
        times.append(time.perf_counter() - began)
    return min(times[1:]), statistics.median(times[1:])


def main(runs: int) -> None:
    """Measure and print."""
    beside = Path(sys.executable).with_name("restic-manager")
    program = str(beside) if beside.exists() else shutil.which("restic-manager")
    if program is None:
        raise SystemExit("restic-manager is not installed here: pip install --editable .")
    bare, _ = seconds([sys.executable, "-c", "pass"], runs)
    commands = {
        "bare interpreter": [sys.executable, "-c", "pass"],
        "import trio": [sys.executable, "-c", "import trio"],
        "--version": [program, "--version"],
        "--help": [program, "--help"],
        "schedule --help": [program, "schedule", "--help"],
        "schedule explain": [program, "schedule", "explain", "30 2 * * *"],
        "status, no server": [program, "status", "--server", "/nowhere/server.sock"],
    }
    for name, argv in commands.items():
        best, median = seconds(argv, runs)
        print(f"{name:20} best {best * 1e3:6.0f} ms  median {median * 1e3:6.0f} ms  {best / bare:5.1f} x bare")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
