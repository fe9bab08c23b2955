"""Words for times, sizes and counts; and text from elsewhere that a terminal must not obey."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restic_manager.cli import text
from tests.cli.samples import NOW


@pytest.mark.parametrize(
    ("away", "words"),
    [
        (timedelta(), "now"),
        (timedelta(seconds=0.9), "now"),
        (timedelta(seconds=-59), "59 s ago"),
        (timedelta(seconds=59.7), "in 1 min"),
        (timedelta(minutes=-59, seconds=-59), "59 min ago"),
        (timedelta(hours=1), "in 1 h"),
        (timedelta(hours=5, minutes=10), "in 5 h 10 min"),
        (timedelta(hours=6, minutes=10), "in 6 h"),
        (timedelta(days=-1, hours=-3), "1 d 3 h ago"),
        (timedelta(days=-10, hours=-3), "10 d ago"),
    ],
)
def test_when(away: timedelta, words: str) -> None:
    assert text.when(NOW + away, NOW) == words


def test_what_never_was_is_never() -> None:
    assert text.when(None, NOW) == text.moment(None, NOW) == "never"
    assert text.took(NOW, NOW + timedelta(seconds=0.74)) == "0.7 s"
    assert text.took(NOW, NOW + timedelta(seconds=10.2)) == "10 s"
    assert text.took(None, NOW) == text.took(NOW, None) == ""


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (1_023, "1023 B"),
        (1_024, "1.0 KiB"),
        (1_048_575, "1.0 MiB"),
        (5 << 30, "5.0 GiB"),
        (2**80, "1048576.0 EiB"),
    ],
)
def test_size(count: int, words: str) -> None:
    assert text.size(count) == words


def test_amounts_and_listings() -> None:
    assert text.amount(1, "host") == "1 host"
    assert text.amount(1_200, "host") == "1,200 hosts"
    assert text.listing(["a", "b"], most=2) == "a, b"
    assert text.listing([str(n) for n in range(1_000)], most=3) == "0, 1 and 998 more"


@pytest.mark.parametrize(
    ("nasty", "shown"),
    [
        ("\x1b[2J\x1b]0;owned\x07", "\\x1b[2J\\x1b]0;owned\\x07"),
        ("a\rb", "a\\rb"),
        ("two\nlines", "two\\nlines"),
        ("\x9b31m", "\\x9b31m"),
        ("gnp.\u202eexe", "gnp.\\u202eexe"),
        ("line\u2028separator", "line\\u2028separator"),
        (os.fsdecode(b"caf\xe9"), "caf\\xe9"),
        ("äöü 🙂 日本", "äöü 🙂 日本"),
    ],
)
def test_nothing_a_terminal_obeys_gets_through(nasty: str, shown: str) -> None:
    assert text.safe(nasty) == shown


@given(st.text())
def test_safe_text_is_always_printable_and_utf8(anything: str) -> None:
    made = text.safe(anything)
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in made)
    made.encode("utf-8")
    assert "\n" not in text.safe_line(anything)


def test_a_line_of_a_log_keeps_its_tabs() -> None:
    assert text.safe_line("a\tb\x1b") == "a\tb\\x1b"
