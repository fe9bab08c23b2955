"""The renderer on streams that are no terminal; what it draws on one is in test_terminal."""

from __future__ import annotations

import io

import msgspec
import pytest

from restic_manager.cli.render import Column, Screen
from restic_manager.domain.errors import InputError
from tests.cli import samples


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def made(*, as_json: bool = False, tty: bool = False) -> tuple[Screen, io.StringIO, io.StringIO]:
    out, err = (Tty(), Tty()) if tty else (io.StringIO(), io.StringIO())
    return Screen(as_json=as_json, out=out, err=err), out, err


def test_a_table_is_80_wide_at_most_and_folds_what_does_not_fit() -> None:
    screen, out, _ = made()
    screen.table(["NAME", Column("SIZE", right=True, keep=True)], [("x" * 200, "12.3 GiB"), ("y", "1 B")], empty="-")
    lines = out.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert out.getvalue().count("x") == 200
    assert lines[1].rstrip().endswith("12.3 GiB")


def test_markup_and_emoji_codes_of_rich_are_plain_text() -> None:
    screen, out, err = made()
    screen.table(["NAME"], [("[red]a[/red] :smile: [/]",)], empty="-")
    screen.fields([("Name", "[bold]b :fire:")])
    screen.note("[red]c")
    assert "[red]a[/red] :smile: [/]" in out.getvalue()
    assert "[bold]b :fire:" in out.getvalue()
    assert err.getvalue() == "[red]c\n"


def test_a_page_leaves_out_what_has_no_value_and_keeps_lines() -> None:
    screen, out, _ = made()
    screen.fields([("Name", "web1"), ("None", ""), ("Paths", "/etc\n/home")])
    assert [line.rstrip() for line in out.getvalue().splitlines()] == ["Name   web1", "Paths  /etc", "       /home"]


def test_colour_is_for_terminals_without_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def shown(*, tty: bool) -> str:
        screen, out, err = made(tty=tty)
        screen.table(["STATE"], [("failed",)], empty="-")
        screen.error(InputError("wrong"))
        return out.getvalue() + err.getvalue()

    assert "\x1b[" in shown(tty=True)
    assert "\x1b" not in shown(tty=False)
    # FORCE_COLOR is rich's own idea: a pipe stays a pipe.
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b" not in shown(tty=False)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in shown(tty=True)
    # By the convention, an empty NO_COLOR says nothing.
    monkeypatch.setenv("NO_COLOR", "")
    assert "\x1b[" in shown(tty=True)
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in shown(tty=True)


def test_json_is_one_line_in_a_pipe_and_indented_on_a_terminal() -> None:
    for tty in (False, True):
        screen, out, _ = made(as_json=True, tty=tty)
        screen.data([samples.host()])
        assert msgspec.json.decode(out.getvalue(), type=list[type(samples.host())]) == [samples.host()]  # type: ignore[misc]  # the type is a value here
        assert (out.getvalue().count("\n") > 1) is tty


def test_with_json_only_data_and_errors_are_printed() -> None:
    screen, out, err = made(as_json=True)
    screen.say("words")
    screen.note("more words")
    assert out.getvalue() + err.getvalue() == ""
    screen.error(InputError("caf\udce9", code="usage"))
    assert msgspec.json.decode(err.getvalue()) == {"error": {"code": "usage", "message": "caf\\udce9"}}


def test_a_log_line_is_harmless_on_a_terminal_and_whole_in_a_pipe() -> None:
    for tty, shown in ((True, "a\tb\\x1b[2J\n"), (False, "a\tb\x1b[2J\n")):
        screen, out, _ = made(tty=tty)
        screen.line("a\tb\x1b[2J")
        assert out.getvalue() == shown


def test_an_error_is_one_line() -> None:
    screen, _, err = made()
    screen.error(InputError("two\nlines\x1b"))
    assert err.getvalue() == "error: two\\nlines\\x1b\n"


def test_nothing_is_drawn_or_asked_for_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdin", Tty("y\n"))
    assert made(tty=True)[0].may_ask
    assert made(tty=True)[0].draws
    assert not made(tty=True, as_json=True)[0].may_ask
    assert not made(tty=True, as_json=True)[0].draws
    assert not made()[0].may_ask
    assert not made()[0].draws


@pytest.mark.parametrize(
    ("typed", "agreed"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False), ("sure\n", False)]
)
def test_only_a_plain_yes_is_one(monkeypatch: pytest.MonkeyPatch, typed: str, agreed: bool) -> None:
    monkeypatch.setattr("sys.stdin", Tty(typed))
    screen, out, err = made(tty=True)
    assert screen.confirm("remove \x1bweb1?") is agreed
    assert err.getvalue() == "remove \\x1bweb1? [y/N] "
    assert out.getvalue() == ""
