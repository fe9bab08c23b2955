"""`server cert`: what hosts see of the server. Owns how a certificate is shown; the server decides when it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from restic_manager.cli.command import Operator, new_app, operator_command
from restic_manager.cli.text import moment
from restic_manager.domain.errors import InputError

if TYPE_CHECKING:
    from restic_manager.protocol.api import CertificateView

app = new_app("The certificate by which hosts know the server: show it, change it.")

_DEFAULT = "30d"


@operator_command(app, "show")
def show(operator: Operator) -> None:
    """Show the certificate, its pin, and the one that follows it."""
    view = operator.client.certificate()
    if operator.as_json:
        operator.screen.data(view)
        return
    _page(operator, view)


@operator_command(
    app,
    "rotate",
    examples="""
      restic-manager server cert rotate            both pins hold for 30 days
      restic-manager server cert rotate --overlap 7d
      restic-manager server cert rotate --finish   the next one from now on
    """,
)
def rotate(
    operator: Operator,
    *,
    overlap: Annotated[
        str | None,
        typer.Option(
            "--overlap",
            metavar="D",
            help=f"How long the old one is still shown, so that every host can learn the next. [default: {_DEFAULT}]",
            show_default=False,
        ),
    ] = None,
    finish: Annotated[bool, typer.Option("--finish", help="End that time now.")] = False,
) -> None:
    """Make the server's next certificate, with a key of its own.

    Hosts that are connected, or connect before the overlap ends, learn its pin over their session. Those that did not
    come have to be invited again; they are named here and by `server cert show`.
    """
    from restic_manager.domain.instants import parse_duration
    from restic_manager.protocol.api import RotateRequest

    if finish and overlap is not None:
        raise InputError("--finish and --overlap: say only one of them")
    seconds = parse_duration(overlap or _DEFAULT).total_seconds()
    left_behind = operator.client.certificate().hosts_without_next if finish else ()
    view = operator.client.rotate_certificate(RotateRequest(overlap=seconds, finish=finish))
    if operator.as_json:
        operator.screen.data(view)
    else:
        _page(operator, view)
    if left_behind:
        operator.screen.note(
            f"have to be invited again (`restic-manager host invite NAME`), they do not know this pin: "
            f"{', '.join(left_behind)}"
        )


def _page(operator: Operator, view: CertificateView) -> None:
    now = operator.now()
    fields = [
        ("pin", view.pin if view.mode == "auto" else f"{view.pin} (hosts go by their system's CAs)"),
        ("subject", view.subject),
        ("valid", f"{view.not_before:%Y-%m-%d} to {view.not_after:%Y-%m-%d}"),
    ]
    if view.next_pin is not None:
        fields.append(("next pin", view.next_pin))
        fields.append(("shown from", moment(view.next_shown_from, now)))
        waiting = ", ".join(view.hosts_without_next) or "no host: all know the next pin"
        fields.append(("waits for", waiting))
    operator.screen.fields(fields)
