"""`python -m tests.hostile --messages N --seed S`: attack, print figures; exit 1 if anything is wrong."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.hostile.play import play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile")
    parser.add_argument("--messages", type=int, default=1_000_000, help="how many a seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, from --seed on")
    parser.add_argument("--keep", type=Path, help="leave everything here (an empty folder)")
    asked = parser.parse_args()
    wrong = 0
    for seed in range(asked.seed, asked.seed + asked.seeds):
        with tempfile.TemporaryDirectory(prefix="hostile.", ignore_cleanup_errors=True) as name:
            folder = Path(name) if asked.keep is None else asked.keep / str(seed)
            folder.mkdir(parents=True, exist_ok=True)
            played = play(folder, messages=asked.messages, seed=seed)
        sys.stdout.write(f"seed {seed}: {played.told()}\n")
        sys.stdout.flush()
        wrong += len(played.wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
