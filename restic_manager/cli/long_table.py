"""Tables of thousands of rows: laid out as rich does it, at a small part of its price.

rich measures and folds every cell anew. Here only what is wider than its column is folded (by rich, and each text
once), everything else is padded. Owns the same layout; refuses to know streams and what is in the cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

    from restic_manager.cli.render import Column

LONG: Final = 200
"""From so many rows on a table is long."""
_GAP: Final = 2


def table_lines(
    console: Console, columns: Sequence[Column], rows: Sequence[Sequence[str]], styles: Mapping[str, str]
) -> Iterator[str] | None:
    """Given a console, columns and harmless cells, return the table's lines; None where even rich has to give up form.

    styles: words that carry their own colour.
    """
    from rich.cells import cell_len

    natural = [max(map(cell_len, [column.title, *(row[at] for row in rows)])) for at, column in enumerate(columns)]
    # As rich counts: the gap belongs to the column before it.
    gaps = [_GAP] * (len(columns) - 1) + [0]
    whole = [width + gap for width, gap in zip(natural, gaps, strict=True)]
    whole = narrowed(whole, [not column.keep for column in columns], console.width)
    widths = [width - gap for width, gap in zip(whole, gaps, strict=True)]
    if sum(whole) > console.width or min(widths) < 1:
        return None
    return _lines(console, columns, rows, widths, styles)


def narrowed(widths: Sequence[int], may: Sequence[bool], room: int) -> list[int]:
    """Given columns' widths, take what is too much for the room from the widest of those that may be narrowed."""
    found = list(widths)
    while (excess := sum(found) - room) > 0:
        open_ = [width for width, free in zip(found, may, strict=True) if free]
        widest = max(open_, default=0)
        step = min(excess, widest - max((width for width in open_ if width < widest), default=0))
        at = [place for place, free in enumerate(may) if free and found[place] == widest]
        if not at or step <= 0 or widest <= 1:
            break
        left = excess
        for count, place in enumerate(at):
            taken = min(step, round(left / (len(at) - count)))
            found[place] -= taken
            left -= taken
    return found


def _lines(
    console: Console,
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    widths: Sequence[int],
    styles: Mapping[str, str],
) -> Iterator[str]:
    from rich.cells import cell_len
    from rich.text import Text

    folded: dict[tuple[str, int], list[str]] = {}
    painted = {word: _codes(console, style) for word, style in styles.items()}
    bold = _codes(console, "bold")

    def cell(text: str, width: int) -> list[str]:
        if cell_len(text) <= width:
            return [text]
        key = text, width
        if key not in folded:
            folded[key] = [line.plain.rstrip() for line in Text(text).wrap(console, width, overflow="fold")]
        return folded[key]

    def joined(texts: Sequence[str], codes: Sequence[tuple[str, str]]) -> str:
        parts = []
        for column, text, width, (start, end) in zip(columns, texts, widths, codes, strict=True):
            blank = " " * (width - cell_len(text))
            inked = f"{start}{text}{end}" if text else text
            parts.append(blank + inked if column.right else inked + blank)
        return (" " * _GAP).join(parts).rstrip()

    plain = ("", "")
    for texts in _across([cell(column.title, width) for column, width in zip(columns, widths, strict=True)]):
        yield joined(texts, [bold] * len(columns))
    for row in rows:
        codes = [painted.get(text, plain) for text in row]
        for texts in _across([cell(text, width) for text, width in zip(row, widths, strict=True)]):
            yield joined(texts, codes)


def _across(cells: Sequence[list[str]]) -> Iterator[Sequence[str]]:
    """Given the lines of each cell, return what stands beside each other, line by line."""
    for at in range(max(map(len, cells))):
        yield [lines[at] if at < len(lines) else "" for lines in cells]


def _codes(console: Console, style: str) -> tuple[str, str]:
    """Return what a terminal has to be told before and after a text of this style; nothing where there is no colour."""
    from rich.style import Style
    from rich.text import Text

    with console.capture() as captured:
        console.print(Text("x", style=Style.parse(style)), end="")
    start, _, end = captured.get().partition("x")
    return start, end
