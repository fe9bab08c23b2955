"""Taking secrets out of text before it is shown or stored. Pure: knows the values it was given, and what a URL is.

It refuses to guess what a secret looks like. A value is found as it is and in the spellings that programs give it: in a
URL, in JSON, in Python's and Go's quotes, in base64 at any place of a longer text (as in HTTP's Basic authorization).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, quote_plus

MASK: Final = "***"
SHORTEST: Final = 3
"""Shorter values are left alone: taking out every `a` would hide everything else, and hide nothing."""
_SHORTEST_BASE64: Final = 8
"""Of a value's base64 only this many characters or more are looked for: fewer turn up by chance."""

_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#\"<>]*@")


class Redactor:
    """The secrets of this process. Made once and handed to who writes text; values are only ever added."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Given secrets, know them."""
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.add(*secrets)

    def add(self, *secrets: str) -> None:
        """Given secrets, know them too. Of one with several lines each line is a secret."""
        parts = {part for secret in secrets for part in (secret, *secret.splitlines()) if len(part) >= SHORTEST}
        new = {spelling for part in parts - self._known for spelling in _spellings(part)}
        if not new <= self._known:
            self._known |= new
            # Longest first, so that a secret inside another leaves no rest of it.
            words = sorted(self._known, key=lambda word: (-len(word), word))
            self._pattern = re.compile("|".join(re.escape(word) for word in words))

    def text(self, text: str) -> str:
        """Given text, return it without the secrets, and without the user part of any URL."""
        if self._pattern is not None:
            text = self._pattern.sub(MASK, text)
        return cut_userinfo(text)

    def __repr__(self) -> str:
        """Say nothing of what is known: this may end up in a traceback."""
        return "Redactor()"


def cut_userinfo(text: str) -> str:
    """Given text, return it with the user and password of every URL replaced."""
    return _USERINFO.sub(rf"\1{MASK}@", text) if "@" in text else text


def _spellings(secret: str) -> set[str]:
    found = {
        secret,
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        secret.replace("\\", "\\\\"),
    }
    return found | _base64_cores(secret.encode("utf-8", "surrogateescape"))


def _base64_cores(secret: bytes) -> set[str]:
    """Return what of a secret's base64 does not depend on its neighbours, at each of the three offsets it can have."""
    cores = set()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret)
        first = -(-before * 8 // 6)
        last = (before + len(secret)) * 8 // 6
        core = encoded[first:last].decode("ascii")
        if len(core) >= _SHORTEST_BASE64:
            cores |= {core, core.translate(str.maketrans("+/", "-_"))}
    return cores
