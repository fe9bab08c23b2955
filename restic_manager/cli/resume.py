"""`resume`: the whole fleet at once. Owns the command; what it says is `pausing`."""

from __future__ import annotations

from restic_manager.cli.command import Operator, new_app, operator_command

app = new_app("End the fleet's pause.")


@operator_command(
    app,
    "resume",
    examples="""
      restic-manager resume
    """,
)
def resume(operator: Operator) -> None:
    """End the fleet's pause: the next slots run, where no host or schedule is paused by itself."""
    from restic_manager.cli.pausing import FLEET, told

    told(operator, FLEET, operator.client.resume_fleet())
