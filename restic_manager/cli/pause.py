"""`pause`: the whole fleet at once. Owns the command; what it says is `pausing`."""

from __future__ import annotations

from restic_manager.cli.command import Operator, new_app, operator_command
from restic_manager.cli.pause_options import ForOption, ReasonOption, UntilOption

app = new_app("Let nothing run for a while.")


@operator_command(
    app,
    "pause",
    examples="""
      restic-manager pause --reason 'the storage moves' --for 4h
    """,
)
def pause(
    operator: Operator, *, reason: ReasonOption = "", until: UntilOption = None, lasting: ForOption = None
) -> None:
    """Let no slot run anywhere for a while; they are recorded as skipped, with the reason.

    What runs or is queued already goes on. `schedule pause` and `host pause` stop less.
    """
    from restic_manager.cli.pausing import FLEET, request, told

    told(operator, FLEET, operator.client.pause_fleet(request(reason, until, lasting)))
