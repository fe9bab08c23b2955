"""How an operator's token is written: `rmo1-`, 256 random bits, a checksum. Decides whether a text can be one.

The checksum tells a mistyped or half copied token from one that is wrong; it protects nothing. It refuses to know who
holds tokens; the random bits are an argument.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from typing import Final

from restic_manager.domain.errors import InputError

PREFIX: Final = "rmo1-"
SECRET_BYTES: Final = 32
_TOKEN: Final = re.compile(r"rmo1-[A-Za-z0-9_-]{43}[0-9a-f]{8}", re.ASCII)
_CHECKSUM: Final = 8


def operator_token(secret: bytes) -> str:
    """Given 32 random bytes, return the token that stands for them; raise ValueError for any other number."""
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a token is made of {SECRET_BYTES} random bytes, not {len(secret)}")
    text = PREFIX + base64.urlsafe_b64encode(secret).rstrip(b"=").decode("ascii")
    return text + _checksum(text)


def check_operator_token(text: str) -> str:
    """Given what should be an operator's token, return it; raise InputError, which never shows it, if it cannot be."""
    if text.startswith("rmi1-"):
        raise InputError(
            "this is a join token, which lets a host in: operators need one of `restic-manager token create`",
            code="bad_token",
        )
    if not text.startswith(PREFIX):
        raise InputError(
            f"this is no operator's token: it begins with {PREFIX} (see `restic-manager token create`)",
            code="bad_token",
        )
    if not _TOKEN.fullmatch(text) or _checksum(text[:-_CHECKSUM]) != text[-_CHECKSUM:]:
        raise InputError(
            "the token is mistyped or not complete (its checksum does not fit): copy it again, all of it",
            code="bad_token",
        )
    return text


def token_sha256(token: str) -> str:
    """Given a token, return what is stored of it."""
    return hashlib.sha256(token.encode("utf-8", errors="surrogatepass")).hexdigest()


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode('utf-8', errors='surrogatepass')):08x}"
