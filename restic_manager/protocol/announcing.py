"""A machine's key as people compare it, and what the key signs. Pure; refuses to know how a signature is made.

The fingerprint is the first 125 bits of the SHA-256 of the public key, in base32: five groups of five letters and
digits, short enough to be read out, and too long for anybody to make another key that has it.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from restic_manager.domain.errors import InputError
from restic_manager.protocol.messages import Announce

_PURPOSE: Final = "restic-manager announce 1"
_GROUPS: Final = 5
_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz234567")


def base32(data: bytes) -> str:
    """Given bytes, return them in base32 (RFC 4648), without padding, in small letters."""
    return base64.b32encode(data).decode("ascii").rstrip("=").lower()


def bytes_of(text: str) -> bytes:
    """Given what `base32` returned, return the bytes; raise ValueError for anything else."""
    data = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    if base32(data) != text:
        raise ValueError("not base32 as it is written here")
    return data


def fingerprint_of(public_key: bytes) -> str:
    """Given a public key, return its fingerprint, like `abcde-fghij-klmno-pqrst-uvwxy`."""
    return _grouped(base32(hashlib.sha256(public_key).digest()))


def parse_fingerprint(text: str) -> str:
    """Given a fingerprint as somebody typed it (hyphens, spaces and capitals do not matter), return its one spelling.

    Raise InputError for a part of one: a part is easily made to fit another key.
    """
    letters = "".join(text.lower().replace("-", " ").split())
    if len(letters) != _GROUPS**2 or not set(letters) <= _LETTERS:
        raise InputError(
            f"{text[:80]!r} is no fingerprint: it has {_GROUPS} groups of {_GROUPS} letters and digits, and all of it "
            "is needed (`restic-manager host pending` lists them)"
        )
    return _grouped(letters)


def signed_bytes(announce: Announce, nonce: str) -> bytes:
    """Given an announcement (whose signature does not matter) and the server's nonce, return what the key signs.

    Every field in turn, with a NUL between them, which none of them can hold.
    """
    fields = (
        _PURPOSE,
        nonce,
        announce.pin or "",
        announce.public_key,
        announce.credential_sha256,
        announce.name,
        announce.os,
        announce.agent_version,
        str(announce.protocol),
    )
    return "\0".join(fields).encode("utf-8")


def _grouped(letters: str) -> str:
    return "-".join(letters[start : start + _GROUPS] for start in range(0, _GROUPS**2, _GROUPS))
