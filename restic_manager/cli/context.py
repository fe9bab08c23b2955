"""`context`: which of the servers this user has logged in to is asked. Owns the words, not the file they are in."""

from __future__ import annotations

from typing import Annotated

import typer

from restic_manager.cli.command import Operator, new_app, operator_command

app = new_app("Servers logged in to: list, use one by default, remove.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
LOCAL = "none"


@operator_command(app, "list", local=True)
def list_contexts(operator: Operator) -> None:
    """List the servers this user has logged in to; no token is shown."""
    from restic_manager.client import contexts as kept

    found = kept.load(kept.default_folder())
    rows = [
        {"name": name, "server": one.server, "current": name == found.current}
        for name, one in sorted(found.contexts.items())
    ]
    if operator.as_json:
        operator.screen.data(rows)
        return
    operator.screen.table(
        ["NAME", "SERVER", "CURRENT"],
        ((str(row["name"]), str(row["server"]), "yes" if row["current"] else "") for row in rows),
        empty="no contexts: commands ask the server of this machine; `restic-manager login URL` makes one",
    )


@operator_command(
    app,
    "use",
    local=True,
    examples="""
      restic-manager context use backup.example:8788
      restic-manager context use none          the server of this machine again
    """,
)
def use(operator: Operator, name: NameArgument) -> None:
    """Ask this server where a command does not say another; `none` is the server of this machine."""
    from msgspec.structs import replace

    from restic_manager.client import contexts as kept

    folder = kept.default_folder()
    found = kept.load(folder)
    current = None if name == LOCAL else name
    server = None if current is None else found.get(current).server
    kept.save(folder, replace(found, current=current))
    if operator.as_json:
        operator.screen.data({"current": current, "server": server})
        return
    operator.screen.say(f"commands ask {server or 'the server of this machine'} from now on")


@operator_command(app, "remove", local=True)
def remove(operator: Operator, name: NameArgument) -> None:
    """Forget a server and the token for it, here. The token stays good: `token revoke` ends it."""
    from msgspec.structs import replace

    from restic_manager.client import contexts as kept

    folder = kept.default_folder()
    found = kept.load(folder)
    gone = found.get(name)
    rest = {other: one for other, one in found.contexts.items() if other != name}
    kept.save(folder, replace(found, current=None if found.current == name else found.current, contexts=rest))
    if operator.as_json:
        operator.screen.data({"name": name, "server": gone.server})
        return
    operator.screen.say(f"{name} is forgotten here; its token stays good until it is revoked or expires")
