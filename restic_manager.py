#!/usr/bin/env python3
"""Run restic-manager from a checkout, without installing it: `./restic_manager.py --help`."""

from restic_manager.cli.main import run

if __name__ == "__main__":
    run()
