"""The command reference of docs/cli.md, written from the commands: `python -m tests.cli.reference` renews it.

Owns the part between the two marks; the words around it are written by hand.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from restic_manager.cli.main import NAME, app

DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"
BEGIN = "<!-- commands: written by `python -m tests.cli.reference` -->\n"
END = "<!-- end of commands -->\n"
SHARED = ("--server", "--data-dir", "--json")


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command of the program with its words, in the order of the help."""
    root: Any = typer.main.get_command(app)
    context = typer.Context(root, info_name=NAME)
    for noun in root.list_commands(context):
        yield from _under(noun, root.get_command(context, noun))


def _under(words: str, found: Any) -> Iterator[tuple[str, Any]]:
    if not hasattr(found, "commands"):
        yield words, found
        return
    if found.invoke_without_command:
        yield words, found
    for verb, command in found.commands.items():
        yield from _under(f"{words} {verb}", command)


def reference() -> str:
    """Return the reference of every command in Markdown."""
    return "\n".join(_section(words, command) for words, command in commands())


def _section(words: str, command: Any) -> str:
    positional = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option"]
    own = [option for option in options if option.opts[0] not in SHARED or words in {"server", "agent"}]
    usage = " ".join([NAME, words, *(_argument(param) for param in positional)])
    lines = [f"### {words}", "", f"    {usage}", "", _paragraphs(command.help), ""]
    rows = [(f"`{_argument(param)}`", param.help or "") for param in positional if param.help]
    rows += [(_option(option), option.help) for option in own]
    if rows:
        lines += ["| | |", "|---|---|", *(f"| {name} | {_cell(text)} |" for name, text in rows), ""]
    if own != options:
        shared = [f"`{option.opts[0]}`" for option in options if option not in own]
        lines += [f"And {', '.join(shared)}.", ""]
    if command.epilog:
        lines += [*_examples(command.epilog), ""]
    return "\n".join(lines)


def _argument(param: Any) -> str:
    shown = param.metavar + ("..." if param.nargs == -1 else "")
    return shown if param.required else f"[{shown}]"


def _option(option: Any) -> str:
    names = [*sorted(option.opts, key=len, reverse=True), *option.secondary_opts]
    value = "" if option.is_flag else f" {option.metavar}"
    default = ""
    if not option.is_flag and option.default is not None:
        default = f" (default {option.default})"
    return ", ".join(f"`{name}{value}`" for name in names).replace("|", "\\|") + default


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", inspect.cleandoc(text)))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _examples(epilog: str) -> list[str]:
    lines = epilog.splitlines()
    return [f"  {line}".rstrip() for line in lines if line not in {"\b", "Examples:"}]


def renewed(document: str) -> str:
    """Given the whole document, return it with the reference as it is now."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{reference()}\n{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(renewed(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
