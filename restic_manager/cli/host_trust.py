"""`host rotate|revoke|pending|approve|reject`: who may be a host, and by which credential. Owns how that is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from restic_manager.cli.command import Operator, YesOption, operator_command
from restic_manager.cli.render import Column
from restic_manager.cli.text import safe_line, short, when
from restic_manager.domain.errors import InputError

if TYPE_CHECKING:
    from restic_manager.protocol.api import PendingView

NameArgument = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
FingerprintArgument = Annotated[str, typer.Argument(metavar="FINGERPRINT", show_default=False)]


def add_trust(app: typer.Typer) -> None:
    """Given the commands of `host`, add these to them."""
    operator_command(app, "rotate")(rotate)
    operator_command(app, "revoke")(revoke)
    operator_command(app, "pending")(pending)
    operator_command(
        app,
        "approve",
        examples="""
          restic-manager host approve kzdvv-j2umn-duyau-f35o3-6k6kw
          restic-manager host approve kzdvv-j2umn-duyau-f35o3-6k6kw --name web2
        """,
    )(approve)
    operator_command(app, "reject")(reject)


def rotate(operator: Operator, name: NameArgument) -> None:
    """Have a host replace its credential, over its session; nothing that runs there notices.

    The old one holds until the new one was used. A host that is away is told when it comes.
    """
    host = operator.client.rotate_host(name)
    if operator.as_json:
        operator.screen.data(host)
        return
    told = "is told now" if host.online else "is told when it is online"
    operator.screen.say(f"{host.name} {told} to replace its credential; `host show {host.name}` tells when it has")


def revoke(operator: Operator, name: NameArgument, *, yes: YesOption = False) -> None:
    """Refuse a host from now on: its session is cut and its credential ends. Its schedules and history stay.

    `host invite` lets it join again. A repository's password that it knows is still good: change that in the
    repository, too, if the machine was stolen.
    """
    if not operator.agrees(f"revoke host {name}? Its agent is refused until it joins again.", yes=yes):
        return
    host = operator.client.revoke_host(name)
    if operator.as_json:
        operator.screen.data(host)
        return
    operator.screen.say(f"host {host.name} is revoked; `restic-manager host invite {host.name}` lets it join again")
    operator.screen.note(
        "note: what it knows of repositories is still good there, and its agent may go on with its schedules for a"
        " while: if the machine was stolen, change passwords and keys in the repositories, too"
    )


def pending(operator: Operator) -> None:
    """List the machines that have announced themselves and wait for approval.

    What a machine says of itself is not checked. Compare the fingerprint with the one that its agent prints.
    """
    waiting = operator.client.pending()
    if operator.as_json:
        operator.screen.data(waiting)
        return
    now = operator.now()
    operator.screen.table(
        [Column("FINGERPRINT", keep=True), "NAME", "FROM", "SEEN", "STATE"],
        (
            (
                machine.fingerprint,
                machine.name,
                machine.address,
                when(machine.last_at, now),
                _state(machine),
            )
            for machine in waiting
        ),
        empty="no machine waits: `restic-manager agent --server URL` without a token announces one",
    )
    for machine in waiting:
        if machine.name_taken:
            operator.screen.note(
                f"note: there is a host {safe_line(machine.name)} already; {machine.fingerprint} does not become that"
                " one: give it another name with --name"
            )


def approve(
    operator: Operator,
    fingerprint: FingerprintArgument,
    *,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="What the host is to be called. [default: as it calls itself]",
            show_default=False,
        ),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="K=V", help="A label for the host; repeat for more.")
    ] = None,
) -> None:
    """Make a host of a machine that waits: its whole fingerprint, as its agent prints it. A prefix will not do."""
    from restic_manager.domain.names import parse_labels
    from restic_manager.protocol.api import ApproveRequest

    if name is not None and not name.strip():
        raise InputError("--name is empty")
    host = operator.client.approve(fingerprint, ApproveRequest(name=name, labels=parse_labels(label or [])))
    if operator.as_json:
        operator.screen.data(host)
        return
    operator.screen.say(f"{host.name} is a host now (id {short(host.id)}); its agent joins when it asks next")


def reject(operator: Operator, fingerprint: FingerprintArgument) -> None:
    """Say no to a machine that waits: its agent is told so, and ends. For an hour the same key is refused."""
    machine = operator.client.reject(fingerprint)
    if operator.as_json:
        operator.screen.data(machine)
        return
    operator.screen.say(f"{machine.fingerprint} ({safe_line(machine.name)}, from {machine.address}) is rejected")


def _state(machine: PendingView) -> str:
    if machine.rejected_at is not None:
        return "rejected"
    if machine.name_taken:
        return "name taken"
    return "waits" if machine.name_wanted_by == 1 else "name wanted twice"
