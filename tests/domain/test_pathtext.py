r"""File names as text: every byte string has one spelling, every spelling one byte string, the rest is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from restic_manager.domain.errors import InputError
from restic_manager.domain.pathtext import path_to_text, text_to_path


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (b"", ""),
        (b"/etc", "/etc"),
        ("/srv/é/\U0001f4be".encode(), "/srv/é/\U0001f4be"),
        (b"caf\xe9", "caf\\xe9"),
        (b"a\\b", "a\\\\b"),
        (b"a\\xe9", "a\\\\xe9"),
        (b"a\\\xe9", "a\\\\\\xe9"),
        (b"\\", "\\\\"),
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"\xc3", "\\xc3"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
        (b"\xc0\x80", "\\xc0\\x80"),
        (b"a\nb\x00", "a\nb\x00"),
    ],
)
def test_spellings(path: bytes, text: str) -> None:
    assert path_to_text(path) == text
    assert text_to_path(text) == path


@settings(deadline=None)
@given(st.binary(max_size=60))
@example(bytes(range(256)))
@example(b"\\x41\\\\\xc3\xa9\xc3")
def test_every_path_comes_back(path: bytes) -> None:
    text = path_to_text(path)
    assert text_to_path(text) == path
    assert json.loads(json.dumps(text)) == text
    text.encode("utf-8")  # never half a surrogate pair


@settings(deadline=None)
@given(st.text(st.sampled_from("\\x0ce9a3éA\ud800"), max_size=12))
def test_every_text_is_the_spelling_of_one_path_or_refused(text: str) -> None:
    found: bytes | InputError
    try:
        found = text_to_path(text)
    except InputError as error:
        found = error
    if isinstance(found, InputError):
        assert repr(text) in found.message
    else:
        assert path_to_text(found) == text


@pytest.mark.parametrize(
    "text", ["\\", "a\\b", "\\x", "\\xe", "\\xE9", "\\X41", "\\n", "\\\\\\", "\\u0041", "a\\\\\\b"]
)
def test_a_lone_backslash_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(InputError, match="write a literal backslash twice"):
        text_to_path(text)


@pytest.mark.parametrize(("text", "better"), [("\\x41", "A"), ("/caf\\xc3\\xa9", "/café"), ("\\x5c", "\\\\")])
def test_a_second_spelling_is_refused_with_the_first(text: str, better: str) -> None:
    with pytest.raises(InputError) as caught:
        text_to_path(text)
    assert repr(better) in caught.value.message


def test_a_nul_is_no_part_of_a_file_name() -> None:
    with pytest.raises(InputError, match="NUL"):
        text_to_path("/a\\x00b")


def test_half_a_surrogate_pair_is_no_file_name() -> None:
    with pytest.raises(InputError, match="surrogate"):
        text_to_path("/srv/\udce9")
