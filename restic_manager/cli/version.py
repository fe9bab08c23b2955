"""`version`: what is installed here. Asks nobody."""

from __future__ import annotations

from restic_manager import __version__
from restic_manager.cli.command import Operator, new_app, operator_command

app = new_app("Print the version.")


@operator_command(app, "version", local=True)
def version(operator: Operator) -> None:
    """Print the version of this program (a server's is in `status --json`)."""
    if operator.as_json:
        operator.screen.data({"version": __version__})
    else:
        operator.screen.say(f"restic-manager {__version__}")
