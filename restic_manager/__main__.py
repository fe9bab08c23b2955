"""`python -m restic_manager` is the same program as the console script."""

from restic_manager.cli.main import run

if __name__ == "__main__":
    run()
