"""Join tokens: one spelling, and no slip of the finger goes unseen."""

from __future__ import annotations

import hashlib
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from restic_manager.domain.errors import InputError
from restic_manager.protocol.jointoken import JoinToken, is_pin, make_token, parse_token, pin_of

secrets = st.binary(min_size=32, max_size=32)
pins = st.lists(st.binary(max_size=100).map(pin_of), max_size=2)
TOKEN = make_token(b"s" * 32, [pin_of(b"certificate")])


@given(secrets, pins)
def test_a_token_is_read_as_it_was_made(secret: bytes, some: list[str]) -> None:
    token = make_token(secret, some)
    assert parse_token(token.text) == token == JoinToken(token.text, tuple(some))
    assert parse_token(f"  {token.text.upper()}\n") == token
    assert len(token.text) == 64 + 53 * len(some)


@given(secrets, pins, st.data())
def test_one_wrong_character_is_seen(secret: bytes, some: list[str], data: st.DataObject) -> None:
    text = make_token(secret, some).text
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(string.ascii_lowercase + string.digits + "-_ "))
    assume(other != text[at])
    with pytest.raises(InputError) as caught:
        parse_token(text[:at] + other + text[at + 1 :])
    assert "host invite" in caught.value.message


@given(secrets, pins, st.data())
def test_characters_that_changed_places_or_are_missing_are_seen(
    secret: bytes, some: list[str], data: st.DataObject
) -> None:
    text = make_token(secret, some).text
    at = data.draw(st.integers(0, len(text) - 2))
    assume(text[at] != text[at + 1])
    for wrong in (text[:at] + text[at + 1] + text[at] + text[at + 2 :], text[:at] + text[at + 1 :], text[: at + 1]):
        with pytest.raises(InputError):
            parse_token(wrong)


@given(st.text(max_size=200))
def test_anything_is_a_token_or_an_input_error(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_token(text)
    assert len(text.strip()) < 12 or text.strip() not in caught.value.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no join token"),
        ("rmc1-abc", "begins with rmi1-"),
        ("rmi1", "not whole"),
        ("rmi1-", "not whole"),
        (TOKEN.text[:-1], "not whole"),
        (TOKEN.text[:60], "not whole"),
        (TOKEN.text + "a", "not whole"),
        ("rmi1-" + "a" * 52 + "-aaaaaa", "mistyped"),
        (TOKEN.text.replace("-", "_", 2), "begins with"),
        (TOKEN.text[:20] + "1" + TOKEN.text[21:], "characters that no token has"),
    ],
)
def test_what_is_wrong_is_told_in_words_that_help(text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_token(text)
    assert says in caught.value.message
    assert caught.value.code == "invalid_input"


def test_a_pin_is_the_certificates_sha256_in_base32() -> None:
    pin = pin_of(b"certificate")
    assert is_pin(pin)
    assert not is_pin(pin.upper())
    assert not is_pin(pin[:-1])
    # By hand, so that the form cannot drift: five bits a character, the most significant first.
    number = int.from_bytes(hashlib.sha256(b"certificate").digest(), "big") << 4
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    assert pin == "".join(letters[number >> 5 * (51 - at) & 31] for at in range(52))


def test_a_token_is_pinned_to_its_form_and_shows_nothing() -> None:
    assert make_token(bytes(32)).text == "rmi1-" + "a" * 52 + "-" + make_token(bytes(32)).text[-6:]
    assert repr(TOKEN) == "JoinToken()"
    with pytest.raises(ValueError, match="32 bytes"):
        make_token(b"short")
