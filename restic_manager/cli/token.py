"""`token`: operators elsewhere. Owns how tokens are shown; a token itself is printed once, when it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from restic_manager.cli.command import Operator, YesOption, new_app, operator_command
from restic_manager.cli.host import parse_labels
from restic_manager.cli.spec_options import value
from restic_manager.cli.text import short, when
from restic_manager.domain.errors import InputError

if TYPE_CHECKING:
    from datetime import datetime

    from restic_manager.protocol.api import TokenView

app = new_app("Tokens for operators elsewhere: create, list, revoke. NAME is a token's name or the start of its id.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
ROLES = ("viewer", "operator", "admin")


@operator_command(
    app,
    "create",
    examples="""
      restic-manager token create ci --role viewer --expires 90d
      restic-manager token create ana --role operator --host web1 > ana.token
    """,
)
def create(
    operator: Operator,
    name: NameArgument,
    *,
    role: Annotated[
        str,
        typer.Option(
            "--role",
            metavar="ROLE",
            help="viewer reads; operator runs and schedules too; admin changes trust and secrets too.",
            show_default=False,
        ),
    ],
    host: Annotated[
        list[str] | None,
        typer.Option("--host", metavar="HOST", help="It is for this host alone; repeat for more.", show_default=False),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", metavar="K=V", help="It is for hosts with all of these labels alone; repeat.", show_default=False
        ),
    ] = None,
    expires: Annotated[
        str | None, value("--expires", "D", "Let it end by itself after this long: 12h, 90d. [default: never]")
    ] = None,
) -> None:
    """Make a token, and print it: this once. Who has it may ask the server over TCP (`server --api-listen`)."""
    from restic_manager.cli.typed import seconds
    from restic_manager.domain.roles import Role
    from restic_manager.protocol.api import TokenRequest

    if role not in ROLES:
        raise InputError(f"--role {role}: one of {', '.join(ROLES)}")
    lasting = None if expires is None else seconds(expires, "--expires")
    if lasting is not None and not 60 <= lasting <= 3_660 * 86_400:
        raise InputError(f"--expires {expires}: at least 1m, at most 3660d")
    labels, _ = parse_labels(label or [], removing=False)
    request = TokenRequest(name=name, role=Role(role), hosts=tuple(host or ()), labels=labels, seconds=lasting)
    made = operator.client.create_token(request)
    if operator.as_json:
        operator.screen.data(made)
        return
    ends = "until it is revoked" if made.expires_at is None else f"and ends {when(made.expires_at, operator.now())}"
    where = "" if not made.hosts and not made.labels else f" on {_scope(made)} alone"
    operator.screen.note(
        f"the token of {made.name}, shown this once; its role is {made.role}{where}, it is good {ends}:"
    )
    operator.screen.say(made.token or "")


@operator_command(app, "list")
def list_tokens(operator: Operator) -> None:
    """List all tokens there ever were: whose, with which role, until when, and when and from where they were used."""
    tokens = operator.client.tokens()
    if operator.as_json:
        operator.screen.data(tokens)
        return
    now = operator.now()
    operator.screen.table(
        ["ID", "NAME", "ROLE", "HOSTS", "STATE", "USED", "FROM", "BY"],
        (
            (
                short(token.id),
                token.name,
                token.role,
                _scope(token),
                _state(token, now),
                when(token.last_used_at, now),
                token.last_used_from or "",
                token.created_by,
            )
            for token in tokens
        ),
        empty="no tokens: operators use the server's socket; `restic-manager token create NAME --role ROLE` makes one",
    )


@operator_command(app, "revoke")
def revoke(operator: Operator, name: NameArgument, *, yes: YesOption = False) -> None:
    """End a token: it lets nobody in any more, at once."""
    if not operator.agrees(f"revoke the token {name}? Who uses it is refused from then on.", yes=yes):
        return
    gone = operator.client.revoke_token(name)
    if operator.as_json:
        operator.screen.data(gone)
        return
    operator.screen.say(f"the token {gone.name} is revoked")


def _scope(token: TokenView) -> str:
    if token.labels:
        return " ".join(f"{key}={value}" for key, value in sorted(token.labels.items()))
    return ", ".join(token.hosts) or "all"


def _state(token: TokenView, now: datetime) -> str:
    if token.revoked_at is not None:
        return "revoked"
    if token.expires_at is None:
        return "good"
    return f"ends {when(token.expires_at, now)}" if token.expires_at > now else "expired"
