"""What every operator's command has in common: the options that say which server and which form, and how one is made.

Owns the way from a plain function (`def show(operator, ref)`) to a command with `--server`, `--data-dir` and `--json`
behind its verb. It refuses to know nouns.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec

import typer
from typer.core import TyperCommand, TyperGroup

from restic_manager.cli.render import Screen
from restic_manager.domain.errors import InputError

if TYPE_CHECKING:
    from restic_manager.client import Client, ServerAddress

P = ParamSpec("P")

SERVER_VARIABLE = "RESTIC_MANAGER_SERVER"
PIN_VARIABLE = "RESTIC_MANAGER_SERVER_PIN"
TOKEN_VARIABLE = "RESTIC_MANAGER_OPERATOR_TOKEN"  # noqa: S105 - the variable's name

ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL|PATH",
        help="Ask the server at this http(s):// URL or Unix socket. Else RESTIC_MANAGER_SERVER, the context in use, the"
        " config file, the data directory's own socket.",
        show_default=False,
    ),
]
DataDirOption = Annotated[
    str | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="The server's data directory, where its socket is. Else RESTIC_MANAGER_DATA_DIR, else"
        " /var/lib/restic-manager for root and the user's state folder for others.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data as JSON; errors too, on standard error.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait for the end, showing progress.")]


class Operator:
    """One run of one operator's command: which server it asks, and how it answers."""

    def __init__(self, *, server: str | None, data_dir: str | None, as_json: bool) -> None:
        self._server = server
        self._data_dir = data_dir
        self.screen = Screen(as_json=as_json)

    @cached_property
    def client(self) -> Client:
        """The server's client; raise InputError if what says where it is says nothing usable."""
        from restic_manager.client import Client

        return Client(self._address())

    @property
    def as_json(self) -> bool:
        """Whether the output is for a program."""
        return self.screen.as_json

    def now(self) -> datetime:
        """Return the current instant in UTC, for words like `5 min ago`."""
        return datetime.now(UTC)

    def agrees(self, question: str, *, yes: bool) -> bool:
        """Given a question, return whether to go on.

        It is asked only of a person (a terminal at both ends, no `--json`, no `--yes`): a script has said what it wants
        by running the command.
        """
        if yes or not self.screen.may_ask:
            return True
        if self.screen.confirm(question):
            return True
        self.screen.note("nothing was changed")
        return False

    def _address(self) -> ServerAddress:
        from restic_manager.client import ServerAddress
        from restic_manager.runtime.datadir import ENVIRONMENT as DATA_DIR_VARIABLE
        from restic_manager.runtime.datadir import default_data_dir, socket_path

        if self._server and self._data_dir:
            raise InputError(f"--server {self._server} and --data-dir {self._data_dir}: choose one to say where to ask")
        if self._server:
            return with_trust(ServerAddress.parse(self._server, origin="--server"))
        named = os.environ.get(SERVER_VARIABLE)
        if named and not self._data_dir:
            return with_trust(ServerAddress.parse(named, origin=SERVER_VARIABLE))
        directory = self._data_dir or os.environ.get(DATA_DIR_VARIABLE)
        if not directory:
            from restic_manager.client import contexts

            known = contexts.load(contexts.default_folder())
            if known.current is not None:
                origin = f"the context {known.current}"
                return with_trust(ServerAddress.parse(known.get(known.current).server, origin=origin))
        if not directory and os.environ.get("RESTIC_MANAGER_CONFIG"):
            # Imported only for those who have a config file: it costs every other command 15 ms.
            from restic_manager.config import load_client

            said = load_client(os.environ)
            if "server" in said:
                return with_trust(ServerAddress.parse(said["server"][0], origin=said["server"][1]))
            directory = said.get("data_dir", ("", ""))[0]
        folder = default_data_dir(directory, {})
        return ServerAddress(path=socket_path(folder), origin=f"the data directory {folder}")


def with_trust(address: ServerAddress) -> ServerAddress:
    """Given where to ask, return it with a token and pins: the environment's, else what `login` has kept.

    Raise InputError for a text that is no token, or no pin. A socket needs neither.
    """
    if address.path is not None:
        return address
    from dataclasses import replace

    from restic_manager.client import contexts
    from restic_manager.domain.tokens import check_operator_token

    token, pin = os.environ.get(TOKEN_VARIABLE, "").strip(), os.environ.get(PIN_VARIABLE, "").strip()
    if token:
        try:
            check_operator_token(token)
        except InputError as error:
            raise InputError(f"{TOKEN_VARIABLE}: {error.message}", code=error.code) from None
    pins: tuple[str, ...] = (check_pin(pin, PIN_VARIABLE),) if pin else ()
    kept = None if token and pin else contexts.load(contexts.default_folder()).at(str(address))
    if kept is not None:
        token, pins = token or kept.token, pins or kept.pins
    return replace(address, token=token or None, pins=pins)


def check_pin(text: str, origin: str) -> str:
    """Given what stands for a certificate's pin, and where, return it; raise InputError."""
    from restic_manager.protocol.jointoken import is_pin

    pin = text.strip().lower()
    if not is_pin(pin):
        raise InputError(
            f"{text[:80]!r} ({origin}) is no pin, which has 52 letters and digits: copy it from what `restic-manager "
            "server cert show` shows on the server"
        )
    return pin


class OptionSet:
    """Options that several commands share, as one frozen, keyword-only dataclass: a field an option.

    A command that has a parameter of such a class has its options, and gets them as one value, as they were typed; what
    was not given is None, also of a list.
    """


class PlainCommand(TyperCommand):
    """A command whose values reach it as they were typed.

    typer 0.29 sends every value (even none at all) through pydantic, which takes 80 ms to import. Ours are text, lists
    of text and flags, and are checked by our own rules, with our own words, where they are used.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, `--help` among them."""
        return take_as_typed(super().get_params(ctx))


class PlainGroup(TyperGroup):
    """A group of commands whose own options are taken as they were typed."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, `--help` among them."""
        return take_as_typed(super().get_params(ctx))


def take_as_typed(params: list[Any]) -> list[Any]:
    """Given parameters, return them with their conversion taken out. (An older typer has none and minds nothing.)"""
    for param in params:
        param.get_runtime_param = _AsTyped
    return params


class _AsTyped:
    """Stands in for typer's conversion: none."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Given a value, return it; nothing given for a list is an empty one."""
        del ctx
        if value is None and (param.multiple or param.nargs == -1):
            return ()
        return value


def new_app(help_text: str) -> typer.Typer:
    """Given what a noun is about, return its empty group of commands."""
    return typer.Typer(
        cls=PlainGroup, help=help_text, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False
    )


def operator_command(
    app: typer.Typer, name: str, *, examples: str = "", local: bool = False
) -> Callable[[Callable[Concatenate[Operator, P], int | None]], Callable[Concatenate[Operator, P], int | None]]:
    """Given a group and a verb, return a decorator that makes a function one of its commands.

    The function's first parameter is the Operator; what it returns is the exit code (None for 0). `examples` are shown
    at the end of its help, line by line. A `local` command asks no server.
    """

    def decorate(
        work: Callable[Concatenate[Operator, P], int | None],
    ) -> Callable[Concatenate[Operator, P], int | None]:
        call: Callable[..., int | None] = work
        signature = inspect.signature(work, eval_str=True)
        sets: dict[str, type[OptionSet]] = {}
        own: list[inspect.Parameter] = []
        for param in list(signature.parameters.values())[1:]:
            if isinstance(param.annotation, type) and issubclass(param.annotation, OptionSet):
                sets[param.name] = param.annotation
                own += inspect.signature(param.annotation, eval_str=True).parameters.values()
            else:
                own.append(param)
        where = [] if local else [_option("server", ServerOption, None), _option("data_dir", DataDirOption, None)]
        shared = [*where, _option("json", JsonOption, default=False)]

        def command(**given: Any) -> int | None:
            # A local command may have a `--data-dir` of its own.
            server, data_dir = (None, None) if local else (given.pop("server"), given.pop("data_dir"))
            operator = Operator(server=server, data_dir=data_dir, as_json=given.pop("json"))
            for place, made in sets.items():
                names = inspect.signature(made).parameters
                given[place] = made(**{option: _given(given.pop(option)) for option in names})
            try:
                code = call(operator, **given)
                sys.stdout.flush()
            except BrokenPipeError:
                # Whoever read our output (`| head`) has seen enough. What Python flushes at exit must not fail again.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return None
            return code

        command.__doc__ = work.__doc__
        command.__name__ = work.__name__
        # What typer reads instead of the text of the function.
        command.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]  # ours to set
        command.__annotations__ = {param.name: param.annotation for param in (*own, *shared)}
        app.command(name, cls=PlainCommand, epilog=examples_text(examples))(command)
        return work

    return decorate


def examples_text(examples: str) -> str | None:
    r"""Given example lines, return them as an epilog that click does not wrap (its `\b` mark); None for none."""
    lines = [f"  {line}" for line in inspect.cleandoc(examples).splitlines()]
    return "\n".join(["\b", "Examples:", *lines]) if examples else None


def _given(value: Any) -> Any:
    return None if value in ((), []) else value


def _option(name: str, annotation: object, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
