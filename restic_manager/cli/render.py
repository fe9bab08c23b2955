"""The one renderer: what a command knows becomes a table, a page, JSON or an error.

Owns the two streams (results on standard output; progress, hints, questions and errors on standard error), colour and
width. All text that comes from elsewhere is made harmless here. It refuses to know nouns and servers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TextIO

from restic_manager.cli.long_table import LONG, table_lines
from restic_manager.cli.text import safe, safe_line
from restic_manager.domain.errors import ManagerError

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod, RenderableType

WIDTH: Final = 80
"""Columns of everything that is not printed on a terminal, so that it is the same everywhere."""

STYLES: Final[Mapping[str, str]] = {
    "succeeded": "green",
    "online": "green",
    "enabled": "green",
    "warning": "yellow",
    "running": "cyan",
    "queued": "cyan",
    "invited": "cyan",
    "failed": "bold red",
    "offline": "red",
    "cancelled": "magenta",
    "interrupted": "magenta",
    "disabled": "dim",
}
"""Words that carry their own colour wherever they stand in a table."""


class Column(NamedTuple):
    """One column of a table. `keep`: its cells are never wrapped (numbers, states, times)."""

    title: str
    right: bool = False
    keep: bool = False


class Screen:
    """Where one command's words go."""

    def __init__(self, *, as_json: bool, out: TextIO | None = None, err: TextIO | None = None) -> None:
        """Given whether `--json` was asked for, write to these streams (standard output and error by default)."""
        self.as_json = as_json
        self._out = out or sys.stdout
        self._err = err or sys.stderr

    # -- results ------------------------------------------------------------------------------------------------------

    def data(self, value: object) -> None:
        """Given a value of the API (or a list of them), print it as JSON; on a terminal, indented."""
        import msgspec

        encoded = msgspec.json.encode(value)
        if self._out.isatty():
            encoded = msgspec.json.format(encoded, indent=2)
        self._out.write(encoded.decode("utf-8") + "\n")

    def event(self, value: object) -> None:
        """Given one value of a stream, print it at once as one line of JSON."""
        import msgspec

        self._out.write(msgspec.json.encode(value).decode("utf-8") + "\n")
        self._out.flush()

    def array(self) -> JsonArray:
        """Return a JSON array that is printed value by value, as they come."""
        return JsonArray(self._out)

    def row(self, text: str) -> None:
        """Given one row of a long listing, print it on one line, however long: harmless, and not cut."""
        self._out.write(safe(text) + "\n")

    def raw(self, data: bytes) -> None:
        """Given bytes of a file, print them as they are."""
        self._out.flush()
        self._out.buffer.write(data)

    def say(self, text: str) -> None:
        """Given a sentence, print it as a result (nothing with `--json`, whose output is data alone)."""
        if not self.as_json:
            self._out.write("".join(safe_line(line) + "\n" for line in text.split("\n")))

    def line(self, text: str) -> None:
        """Given one line of a log, print it at once: harmless on a terminal, to the byte elsewhere."""
        self._out.write((safe_line(text) if self._out.isatty() else text) + "\n")
        self._out.flush()

    def table(self, columns: Sequence[Column | str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
        """Given columns and rows, print a table that fits; `empty` is said instead when there are no rows."""
        made = [Column(column) if isinstance(column, str) else column for column in columns]
        cells = [[safe(cell) for cell in row] for row in rows]
        if not cells:
            self.note(empty)
            return
        if len(cells) >= LONG:
            lines = table_lines(self.console(self._out), made, cells, STYLES)
            if lines is not None:
                self._out.writelines(f"{line}\n" for line in lines)
                return
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column in made:
            justify: JustifyMethod = "right" if column.right else "left"
            table.add_column(column.title, justify=justify, overflow="fold", no_wrap=column.keep)
        for row in cells:
            table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
        self._print(table)

    def fields(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Given labels and values, print them as a page, leaving out what has no value."""
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True, style="bold")
        grid.add_column(overflow="fold")
        for label, value in pairs:
            if value:
                lines = [Text(safe_line(line), style=STYLES.get(line, "")) for line in value.split("\n")]
                grid.add_row(Text(label), Text("\n").join(lines))
        self._print(grid)

    # -- beside the results -------------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Given a sentence for the person at the terminal, print it on standard error.

        Nothing with `--json`: a program finds there an error or nothing.
        """
        if self.as_json:
            return
        self._out.flush()
        self._err.write("".join(safe_line(line) + "\n" for line in text.split("\n")))
        self._err.flush()

    def error(self, error: ManagerError) -> None:
        """Given an error, say it on standard error in one line, with `--json` as `{"error": …}`."""
        self._out.flush()
        if self.as_json:
            import msgspec

            from restic_manager.protocol.api import ErrorAnswer, ErrorBody

            # Through the escapes of argv, a message may hold what UTF-8 cannot carry.
            message = error.message.encode("utf-8", "backslashreplace").decode("utf-8")
            answer = ErrorAnswer(error=ErrorBody(code=error.code, message=message))
            self._err.write(msgspec.json.encode(answer).decode("utf-8") + "\n")
        else:
            start, end = ("\x1b[1;31m", "\x1b[0m") if self.colour(self._err) else ("", "")
            self._err.write(f"{start}error:{end} {safe(error.message)}\n")
        self._err.flush()

    @property
    def may_ask(self) -> bool:
        """Whether a question would reach a person: both ends are a terminal and `--json` was not asked for."""
        return not self.as_json and sys.stdin.isatty() and self._err.isatty()

    def confirm(self, question: str) -> bool:
        """Given a question, return whether the person said yes; anything but `y` or `yes` is no."""
        return self._ask(f"{question} [y/N] ").strip().lower() in {"y", "yes"}

    def _ask(self, prompt: str) -> str:
        self._out.flush()
        self._err.write(safe(prompt))
        self._err.flush()
        return sys.stdin.readline()

    def typed(self, question: str) -> str:
        """Given a question, return what the person typed, without blanks around it."""
        return self._ask(f"{question} ").strip()

    @property
    def shows(self) -> bool:
        """Whether results go to a terminal."""
        return self._out.isatty()

    @property
    def draws(self) -> bool:
        """Whether something that moves (a progress bar) may be drawn on standard error."""
        return not self.as_json and self._err.isatty() and os.environ.get("TERM") != "dumb"

    def console(self, stream: TextIO | None = None) -> Console:
        """Given a stream (standard error by default), return rich's console for it, under our rules of colour."""
        from rich.console import Console

        stream = stream or self._err
        tty = stream.isatty()
        return Console(
            file=stream,
            force_terminal=tty,
            color_system="auto" if self.colour(stream) else None,
            no_color=not self.colour(stream),
            width=None if tty else WIDTH,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=False,
        )

    @staticmethod
    def colour(stream: TextIO) -> bool:
        """Given a stream, return whether it takes colour: a terminal, not a dumb one, and no NO_COLOR."""
        return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def _print(self, renderable: RenderableType) -> None:
        self._out.flush()
        console = self.console(self._out)
        if self._out.isatty():
            console.print(renderable)
            return
        with console.capture() as captured:
            console.print(renderable)
        # rich fills every line up to its width: nothing but noise in a file.
        self._out.write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))


class JsonArray:
    """A JSON array in the making. What was begun is always closed, so that it can be read."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._begun = False

    def add(self, value: object) -> None:
        """Given the next value, print it."""
        import msgspec

        self._out.write(("," if self._begun else "[") + "\n" + msgspec.json.encode(value).decode("utf-8"))
        self._begun = True

    def close(self, *, well: bool = True) -> None:
        """End the array; one that never began is printed empty, or if it did not go `well`, not at all."""
        if self._begun or well:
            self._out.write("\n]\n" if self._begun else "[]\n")
