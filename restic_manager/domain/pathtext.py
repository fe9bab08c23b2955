r"""File names as text. Owns the one spelling of paths on the wire, in rows and in `--json`.

A path is bytes; most are UTF-8. In text each undecodable byte is written `\xHH` and a literal backslash is doubled, so
every path has one spelling and comes back exactly. Bytes exist only at spawn.
"""

from __future__ import annotations

import re

from restic_manager.domain.errors import InputError

_ESCAPE = re.compile(rb"\\(?:\\|x([0-9a-f]{2}))?")


def path_to_text(path: bytes) -> str:
    r"""Given a path's bytes, return its text (`caf\xe9` for Latin-1, `a\\b` for a backslash)."""
    return path.replace(b"\\", b"\\\\").decode("utf-8", errors="backslashreplace")


def text_to_path(text: str) -> bytes:
    """Given a path's text, return its bytes; raise InputError on an escape that `path_to_text` never writes."""

    def unescape(match: re.Match[bytes]) -> bytes:
        if match[0] == b"\\\\":
            return b"\\"
        if match[1] is None:
            raise InputError(f"the path {text!r} has a lone backslash: write a literal backslash twice")
        return bytes.fromhex(match[1].decode("ascii"))

    try:
        raw = text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"the path {text!r} holds half of a surrogate pair, which no file name can be") from None
    path = _ESCAPE.sub(unescape, raw)
    spelling = path_to_text(path)
    if spelling != text:
        if b"\0" in path:
            raise InputError(f"the path {text!r} has a NUL in it, which no file name can hold")
        raise InputError(f"the path {text!r} has an escape it does not need: write it {spelling!r}")
    return path
