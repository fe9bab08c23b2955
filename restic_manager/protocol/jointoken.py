"""The join token and the certificate's pin: text that people paste. Pure; decides what is one and what is mistyped.

A token is `rmi1-SECRET-CHECK`, or `rmi1-SECRET-PIN-CHECK` (two pins while a server changes its certificate). SECRET and
PIN are 256 bits each in base32 (RFC 4648) without padding, 52 small letters and digits; CHECK is the first 6 of the
base32 of the SHA-256 of all before it, so that a slip of the finger is told before anybody is dialled. A pin is the
SHA-256 of the whole certificate (DER). Of the token only the secret is secret.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from restic_manager.domain.errors import InputError

PREFIX: Final = "rmi1"
MAX_PINS: Final = 2
"""The pin in force and the next one."""
_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz234567")
_BYTES: Final = 32
_LONG: Final = 52
_CHECK: Final = 6
_AGAIN: Final = "copy the whole line that `restic-manager host invite` printed, or invite the host again"


@dataclass(frozen=True)
class JoinToken:
    """A token in its one spelling (`text`, which is the bearer of a join) and the pins in it. Has no readable repr."""

    text: str
    pins: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Tell nothing: this may end up in a traceback."""
        return "JoinToken()"


def make_token(secret: bytes, pins: Sequence[str] = ()) -> JoinToken:
    """Given 32 random bytes and the pins of the server's certificate, return the token; raise ValueError for others."""
    if len(secret) != _BYTES or len(pins) > MAX_PINS or not all(is_pin(pin) for pin in pins):
        raise ValueError("a token is made of 32 bytes and at most 2 pins")
    body = "-".join((PREFIX, _base32(secret), *pins))
    return JoinToken(f"{body}-{_check(body)}", tuple(pins))


def parse_token(text: str) -> JoinToken:
    """Given a token as it was pasted (capitals and space round it do not matter), return it.

    Raise InputError, which never shows it, for what is none: cut off, mistyped, something else.
    """
    token = text.strip().lower()
    prefix, *parts = token.split("-")
    if prefix != PREFIX:
        raise InputError(f"this is no join token, which begins with {PREFIX}-: {_AGAIN}")
    if not set("".join(parts)) <= _LETTERS:
        raise InputError(f"the join token holds characters that no token has: {_AGAIN}")
    long, check = parts[:-1], "".join(parts[-1:])
    if not 1 <= len(long) <= 1 + MAX_PINS or len(check) != _CHECK or any(len(part) != _LONG for part in long):
        raise InputError(f"the join token is not whole ({len(token)} characters): {_AGAIN}")
    if check != _check(token.rpartition("-")[0]):
        raise InputError(f"the join token is mistyped, its last {_CHECK} characters do not fit the rest: {_AGAIN}")
    return JoinToken(token, tuple(long[1:]))


def pin_of(certificate: bytes) -> str:
    """Given a certificate as DER, return its pin: 52 characters."""
    return _base32(hashlib.sha256(certificate).digest())


def is_pin(text: str) -> bool:
    """Given text, return whether it is spelled as a pin is."""
    return len(text) == _LONG and set(text) <= _LETTERS


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode("ascii").rstrip("=").lower()


def _check(body: str) -> str:
    return _base32(hashlib.sha256(body.encode("ascii")).digest())[:_CHECK]
