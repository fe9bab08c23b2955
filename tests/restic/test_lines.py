"""Chunks into lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from restic_manager.restic.lines import LineSplitter


@given(st.lists(st.binary(max_size=20).map(lambda data: data.replace(b"x", b"\n"))))
def test_any_cutting_into_chunks_gives_the_same_lines(chunks: list[bytes]) -> None:
    splitter = LineSplitter(1000)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)] + splitter.finish()
    whole = b"".join(chunks)
    expected = whole.split(b"\n")
    assert lines == (expected[:-1] if not expected[-1] else expected)


def test_an_endless_line_is_cut_and_says_so() -> None:
    splitter = LineSplitter(100)
    for _ in range(1000):
        assert splitter.feed(b"x" * 64) == []
    assert splitter.feed(b"yz\nnext\nlast") == [b"x" * 100 + b" ... [line cut, 63902 bytes left out]", b"next"]
    assert splitter.finish() == [b"last"]
    assert splitter.finish() == []


def test_empty_lines_stay() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"a\n\n\nb\n") == [b"a", b"", b"", b"b"]
    assert splitter.finish() == []
