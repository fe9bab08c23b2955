"""`login`: keep a server's address and a token for it. Owns where the token is read from, not where it is kept."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from restic_manager.cli.command import TOKEN_VARIABLE, Operator, check_pin, new_app, operator_command
from restic_manager.cli.spec_options import value
from restic_manager.domain.errors import InputError, NotPermittedError

if TYPE_CHECKING:
    from restic_manager.client import ServerAddress
    from restic_manager.client.contexts import Contexts

app = new_app("Keep a server's address and a token for it.")


@operator_command(
    app,
    "login",
    local=True,
    examples="""
      restic-manager login https://backup.example:8788
      restic-manager login https://192.0.2.7:8788 --pin PIN
      restic-manager login http://127.0.0.1:8788 --token-file ci.token
    """,
)
def login(
    operator: Operator,
    url: Annotated[str, typer.Argument(metavar="URL", help="http:// or https://, of its --api-listen.")],
    *,
    name: Annotated[str | None, value("--name", "NAME", "What to call it. [default: HOST:PORT]")] = None,
    token_file: Annotated[
        str | None, value("--token-file", "F", "Read the token from this file; - is standard input.")
    ] = None,
    pin: Annotated[
        str | None, value("--pin", "PIN", "What `server cert show` shows there. Without it the system's CAs decide.")
    ] = None,
) -> None:
    """Ask a server elsewhere from now on, with a token of `token create`, which is kept for this user alone.

    Without --token-file the token is RESTIC_MANAGER_OPERATOR_TOKEN if that is set, else asked for on a terminal, else
    read from standard input. It is tried before it is kept.
    """
    from dataclasses import replace

    from msgspec.structs import replace as changed

    from restic_manager.client import Client, ServerAddress
    from restic_manager.client import contexts as kept
    from restic_manager.domain.tokens import check_operator_token

    address = ServerAddress.parse(url, origin="URL")
    if address.path is not None:
        raise InputError(f"{url!r} is a socket, which needs no token: ask it with --server or --data-dir")
    called = kept.check_context_name(name or f"{address.host}:{address.port}".replace("[", "").replace("]", ""))
    if pin is not None and not address.secure:
        raise InputError(f"--pin: {url} is not encrypted, and shows no certificate: a pin is for https://")
    folder = kept.default_folder()
    before = kept.load(folder)
    pins = _pins(operator, address, pin, before)
    token = check_operator_token(_token(operator, token_file))
    who = Client(replace(address, token=token, pins=pins)).whoami()
    # The next certificate's pin is kept as well, while the server changes to it.
    context = kept.Context(server=str(address), token=token, pins=who.pins if pins else ())
    kept.save(folder, changed(before, current=called, contexts={**before.contexts, called: context}))
    if operator.as_json:
        operator.screen.data({"context": called, "server": str(address), "name": who.name, "role": who.role})
        return
    operator.screen.say(f"{who.name} (role {who.role}) at {address}; commands ask it from now on (context {called})")
    operator.screen.note("`restic-manager context use none` goes back to the server of this machine")


def _pins(operator: Operator, address: ServerAddress, given: str | None, before: Contexts) -> tuple[str, ...]:
    """Return the pins by which the server is known; none where the system's CAs vouch for it. A person may be asked."""
    if given is not None:
        return (check_pin(given, "--pin"),)
    if not address.secure:
        return ()
    kept = before.at(str(address))
    if kept is not None and kept.pins:
        return kept.pins
    if not operator.screen.may_ask:
        return ()
    from restic_manager.client.exchange import LOOK_SECONDS, is_vouched_for, shown_pin

    if is_vouched_for(address, timeout=LOOK_SECONDS):
        return ()
    shown = shown_pin(address, timeout=LOOK_SECONDS)
    operator.screen.note(
        f"the certificate of {address} has the pin\n  {shown}\nand the system's CAs do not vouch for it. Compare with "
        "`restic-manager server cert show` on the server: whoever shows another one is not it"
    )
    if not operator.screen.confirm("Is it the same?"):
        raise NotPermittedError(f"{address} was not trusted: nothing was said to it, and nothing was kept")
    return (shown,)


def _token(operator: Operator, file: str | None) -> str:
    from restic_manager.cli.secret_input import STDIN, read_secret

    if file is not None:
        return read_secret(file, "--token-file").strip()
    if os.environ.get(TOKEN_VARIABLE):
        operator.screen.note(f"taking the token from {TOKEN_VARIABLE}")
        return os.environ[TOKEN_VARIABLE].strip()
    if operator.screen.may_ask:
        import getpass

        return getpass.getpass("operator's token: ", stream=sys.stderr).strip()
    return read_secret(STDIN, "standard input").strip()
