"""Fingerprints as people write them."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restic_manager.domain.errors import InputError
from restic_manager.protocol.announcing import base32, bytes_of, fingerprint_of, parse_fingerprint

KEY = bytes(range(32))
SHOWN = fingerprint_of(KEY)


def test_it_is_the_beginning_of_the_keys_hash() -> None:
    assert SHOWN.replace("-", "") == base32(hashlib.sha256(KEY).digest())[:25]
    assert [len(group) for group in SHOWN.split("-")] == [5] * 5


@pytest.mark.parametrize("text", [SHOWN, SHOWN.upper(), SHOWN.replace("-", " "), SHOWN.replace("-", ""), f" {SHOWN}\n"])
def test_however_it_is_typed(text: str) -> None:
    assert parse_fingerprint(text) == SHOWN


@pytest.mark.parametrize("text", ["", SHOWN[:-1], SHOWN[:5], SHOWN + "a", SHOWN.replace(SHOWN[0], "1"), "web1"])
def test_a_part_of_one_or_something_else_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="all of it is needed"):
        parse_fingerprint(text)


@given(st.binary(max_size=70))
def test_there_and_back(data: bytes) -> None:
    assert bytes_of(base32(data)) == data


@pytest.mark.parametrize("text", ["A" * 8, "ab", "1111", "aaaaaaab="])
def test_bytes_are_spelled_in_one_way(text: str) -> None:
    with pytest.raises(ValueError):
        bytes_of(text)
