"""The program: which nouns there are, and how a run ends.

Owns the entry point, the loading of a noun's file only when that noun is used (`--help` and every command stay fast),
and the one place where an error becomes a line and an exit code. It refuses to know what the nouns do.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any, Final

import typer

from restic_manager import __version__
from restic_manager.cli import exits
from restic_manager.cli.command import PlainGroup
from restic_manager.cli.render import Screen
from restic_manager.domain.errors import InputError, ManagerError, StorageError

NAME: Final = "restic-manager"

NOUNS: Final[dict[str, str]] = {
    "status": "The fleet at a glance: who is there, what ran, what is wrong.",
    "host": "Machines: invite, approve, list, label, revoke, remove.",
    "repo": "Repositories: add, list, look after, measure, copy.",
    "schedule": "When, where and what: add, edit, run now, explain.",
    "job": "Runs: list, run, show, follow the log, cancel.",
    "snapshot": "What there is to restore: list, look into, compare, find.",
    "restore": "Bring files back, onto any host.",
    "pause": "Let no slot of the fleet run for a while.",
    "resume": "End the fleet's pause.",
    "login": "Ask a server elsewhere, with a token.",
    "context": "Servers logged in to: list, use, remove.",
    "token": "Operators elsewhere: create, list, revoke tokens.",
    "audit": "What operators did and were refused: list, verify.",
    "server": "Run the control plane; copy what it knows, put a copy in place.",
    "agent": "Run on a host: keep its schedules, run its backups.",
    "version": "Print the version.",
}
"""Each noun, which is also the file it lives in, and what it is about."""


class Program(PlainGroup):
    """The top of the command line. A noun's file is read when the noun is used."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the nouns, in the order of the help."""
        del ctx
        return list(NOUNS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Given a noun, return its commands; None if there is no such noun."""
        del ctx
        if cmd_name in NOUNS and cmd_name not in self.commands:
            app: typer.Typer = import_module(f"restic_manager.cli.{cmd_name}").app
            command = typer.main.get_command(app)
            command.name = cmd_name
            self.commands[cmd_name] = command
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Given the words typed, return the noun's commands; fail with the nearest noun if there is no such one."""
        if args[0] not in NOUNS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], NOUNS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(NOUNS)}"
            ctx.fail(f"no such command: {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the nouns without reading their files."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(NOUNS.items()))


app = typer.Typer(
    cls=Program,
    help="Schedules, runs and accounts for restic backups across a fleet, from one terminal.",
    epilog="\b\nA first backup:\n"
    "  restic-manager server                      on the control machine\n"
    "  restic-manager host invite web1            prints the line to paste on web1\n"
    "  restic-manager repo add main /srv/restic --generate-password\n"
    "  restic-manager schedule add nightly --all --cron '30 2 * * *' --repo main /etc\n"
    "  restic-manager status                      is everything all right?\n"
    "\nEvery command has --help, and those that read have --json. Exit codes: 0 done, 1 failed, 2 wrong usage,"
    " 3 done with warnings, 4 not found, 5 server unreachable, 6 not permitted, 130 interrupted.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=True,
)


@app.callback(invoke_without_command=True)
def program(
    context: typer.Context, *, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """Carries no option but `--version`: every other one stands behind the verb it belongs to."""
    if version:
        sys.stdout.write(f"{NAME} {__version__}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")
        raise typer.Exit(exits.USAGE)


def run(arguments: Sequence[str] | None = None) -> None:
    """Given a command line (the process's own by default), run it and end the process with its exit code."""
    sys.exit(main(sys.argv[1:] if arguments is None else list(arguments)))


def main(arguments: list[str]) -> int:
    """Given a command line without the program's name, run it and return the exit code; never raise."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A name that this terminal's encoding cannot show is shown as escapes; it does not end the command.
            stream.reconfigure(errors="backslashreplace")
    as_json = _wants_json(arguments)
    try:
        code = _run_command(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        Screen(as_json=as_json).error(ManagerError("interrupted", code="interrupted"))
        return exits.INTERRUPTED
    except ManagerError as error:
        Screen(as_json=as_json).error(error)
        return exits.of_error(error)
    except OSError as error:
        # Our own streams, or a file that an option named.
        Screen(as_json=as_json).error(StorageError(str(error)))
        return exits.FAILED
    return code


def _run_command(arguments: list[str]) -> int:
    try:
        code = typer.main.get_command(app)(arguments, prog_name=NAME, standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except typer.TyperException as error:
        raise _usage_error(error) from None
    return code if isinstance(code, int) else exits.DONE


def _usage_error(error: typer.TyperException) -> InputError:
    """Given click's complaint about a command line, return it as one line that names the command."""
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else NAME
    message = error.format_message().strip().rstrip(".")
    if message == "Missing command" and context is not None:
        message = f"say what to do: {', '.join(context.command.list_commands(context))}"
    elif message.startswith("No such option") and _only_holds_commands(context):
        message = (
            f"{message.split('(')[0].strip()} here: options stand behind the command, as in `{NAME} status --json`"
        )
    elif message[:1].isupper():
        message = message[0].lower() + message[1:]
    return InputError(f"{where}: {' '.join(message.split())} (see {where} --help)", code=exits.USAGE_CODE)


def _only_holds_commands(context: Any) -> bool:
    """Whether the command is a noun (or the program) that does nothing by itself, so that no option belongs to it."""
    if context is None:
        return False
    command = context.command
    return isinstance(command, Program) or (hasattr(command, "commands") and not command.invoke_without_command)


def _wants_json(arguments: list[str]) -> bool:
    """Whether errors are to be JSON: asked of the bare words, for the command line may be too wrong to be parsed."""
    words = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in words
