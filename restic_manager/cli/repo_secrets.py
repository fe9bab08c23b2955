"""`repo set-secret`: what opens a repository from now on. Owns its options; prints no secret, not even a new one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from restic_manager.cli.command import Operator, operator_command
from restic_manager.cli.secret_options import SecretOptions
from restic_manager.cli.spec_options import value
from restic_manager.domain.errors import InputError

NameArgument = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]


def add_secrets(app: typer.Typer) -> None:
    """Given the commands of `repo`, add this."""
    operator_command(
        app,
        "set-secret",
        examples="""
      restic-manager repo set-secret main --password-file new.pass
      restic-manager repo set-secret nas --user web --user-password-from \\
          agent-file:/etc/restic/nas
      restic-manager repo set-secret cloud --env-file s3.env \\
          --unset AWS_SESSION_TOKEN
    """,
    )(set_secret)


def set_secret(
    operator: Operator,
    name: NameArgument,
    *,
    secrets: SecretOptions,
    unset: Annotated[list[str] | None, value("--unset", "NAME", "Remove this variable; repeat.")] = None,
) -> None:
    """Change what opens a repository. What is not named stays; hosts that are online hear of it at once.

    The repository itself is not changed: a new password has to be one that it knows (`restic key add`, with restic, on
    a host), and a new login one that its storage knows.
    """
    from restic_manager.cli.secret_input import read_one
    from restic_manager.cli.secret_options import fields
    from restic_manager.protocol.api import SecretsRequest

    given: dict[str, Any] = fields(secrets)
    if secrets.password_file is not None:
        if secrets.password_from is not None:
            raise InputError("--password-file and --password-from: choose one")
        given["password"] = read_one(secrets.password_file, "--password-file")
    request = SecretsRequest(unset=tuple(unset or ()), **given)
    if request == SecretsRequest():
        raise InputError(
            "say what to set: --password-file F, --password-from REF, --user NAME, --user-password-file F, "
            "--user-password-from REF, --env-file F, --env-from NAME=REF or --unset NAME"
        )
    view = operator.client.set_secrets(name, request)
    if operator.as_json:
        operator.screen.data(view)
        return
    if not view.changed:
        operator.screen.say(f"repository {view.repo.name} is opened by just that already: nothing was changed")
        return
    operator.screen.say(f"repository {view.repo.name}: {', '.join(view.changed)}")
    if view.hosts:
        operator.screen.note(f"told to {', '.join(view.hosts[:6])}{' …' if len(view.hosts) > 6 else ''} as they come")
