"""A long table is what rich makes of it, and is there at once."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restic_manager.cli import long_table, render
from restic_manager.cli.long_table import narrowed
from restic_manager.cli.render import Column, Screen

COLUMNS: list[Column | str] = [Column("ID", keep=True), "HOST", Column("SIZE", right=True, keep=True), "PATHS"]
words = st.text(st.sampled_from("ab/日é -"), max_size=30).map(lambda text: " ".join(text.split()))
cells = st.one_of(words, words.map(lambda text: text * 4), st.sampled_from(["failed", "", "running"]))
tables = st.lists(
    st.tuples(st.text("0123456789abcdef", min_size=8, max_size=8), cells, st.sampled_from(["1 B", "12.3 GiB"]), cells),
    min_size=1,
    max_size=6,
)


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(rows: Sequence[tuple[str, ...]], out: io.StringIO) -> str:
    Screen(as_json=False, out=out, err=io.StringIO()).table(COLUMNS, rows, empty="-")
    return out.getvalue()


@settings(max_examples=150, deadline=None)
@given(rows=tables)
def test_it_is_laid_out_as_a_short_one(rows: list[tuple[str, ...]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "LONG", 1_000)
        wanted = printed(rows, io.StringIO())
        patch.setattr(render, "LONG", 1)
        assert printed(rows, io.StringIO()) == wanted


def test_colour_is_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(render, "LONG", 1)
    shown = printed([("0" * 8, "failed", "1 B", "/etc")], Tty())
    assert "\x1b[1;31mfailed\x1b[0m" in shown
    assert shown.startswith("\x1b[1mID\x1b[0m")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in printed([("0" * 8, "failed", "1 B", "/etc")], Tty())


def test_where_nothing_can_be_narrowed_rich_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "LONG", 1)
    out = io.StringIO()
    Screen(as_json=False, out=out, err=io.StringIO()).table([Column("ID", keep=True)], [("x" * 200,)], empty="-")
    assert max(map(len, out.getvalue().splitlines())) <= 80


def test_the_widest_gives_way_first() -> None:
    assert narrowed([8, 30, 20, 40], [False, True, True, True], 80) == [8, 26, 20, 26]
    assert narrowed([8, 30, 40], [True, False, False], 75) == [5, 30, 40]
    assert narrowed([8, 8], [True, True], 80) == [8, 8]


def test_ten_thousand_rows_are_there_at_once() -> None:
    rows = [
        (f"{at:08x}", f"web{at % 200}", "1.2 GiB", f"/srv/{at}, /etc, /home, /var/lib/postgres" * 2)
        for at in range(10_000)
    ]
    began = time.process_time()
    shown = printed(rows, io.StringIO())
    took = time.process_time() - began
    assert shown.count("\n") > 20_000
    assert len(rows) >= long_table.LONG
    began = time.process_time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "LONG", 1_000)
        printed(rows[:500], io.StringIO())
    assert took < (time.process_time() - began) * 20 / 2, "not even twice as fast as rich"
