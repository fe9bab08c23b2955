"""`python -m tests.chaos --kills N --seed S`: play as long as wanted, print figures; exit 1 if anything is wrong."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.chaos.play import play
from tests.support.restic_binaries import newest


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--kills", type=int, default=100, help="how many faults a seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, from --seed on")
    parser.add_argument("--keep", type=Path, help="leave everything here (an empty folder)")
    asked = parser.parse_args()
    wrong = 0
    for seed in range(asked.seed, asked.seed + asked.seeds):
        with tempfile.TemporaryDirectory(prefix="chaos.", ignore_cleanup_errors=True) as name:
            folder = Path(name) if asked.keep is None else asked.keep / str(seed)
            folder.mkdir(parents=True, exist_ok=True)
            played = play(folder, seed=seed, kills=asked.kills, real=newest())
        sys.stdout.write(played.told() + "\n")
        sys.stdout.flush()
        wrong += len(played.wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
