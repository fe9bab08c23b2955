"""Changing the host's policy file by one word, as its owner's commands do: comments and layout stay as they are.

Owns the smallest edit of a TOML list, proves by reading it again that nothing else has changed, and puts the new file
in place whole. Refuses to know why a word is added.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Final

from restic_manager.agent.policy_file import LONGEST, check_folder, check_owned, line_of, parse
from restic_manager.domain.errors import InputError, NotPermittedError
from restic_manager.domain.policy import DEFAULT
from restic_manager.runtime.datadir import atomic_write

_HEAD: Final = """\
# What this host lets its restic-manager server do here. Read only on this host; the server cannot change it.
# Keys: kinds, sources, restore_targets, repositories, hooks, commands (lists; "default" in one stands for what holds
# without it), upload_limit, download_limit (KiB/s), concurrent_jobs. `restic-manager agent policy show` explains it.
"""
_BARE: Final = {"kinds", "restore_targets"}
"""Lists whose safe default is more than nothing, so that the first word stands beside it."""
_TOKEN: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*|[\[\],]|[^\S\n]+|\n|[^\s\[\],"\'#]+',
    re.DOTALL,
)


def allow(path: Path, key: str, words: tuple[str, ...]) -> tuple[str, ...]:
    """Given the policy file, a list in it and words for the list, add those it lacks and return them.

    Raise InputError if the file or a word cannot be understood, StorageError if it cannot be written, NotPermittedError
    if the file could be somebody else's. Nothing is half-written.
    """
    before = _read(path)
    known = getattr(parse(before.encode(), path).policy, key)
    if known is None and key == "sources":
        return ()  # all are allowed
    added = tuple(word for word in dict.fromkeys(words) if word not in (known or ()))
    if not added:
        return ()
    after = with_words(before, key, added)
    _prove(before, after, key, added, path)
    parse(after.encode(), path)
    atomic_write(path, after.encode())
    return added


def with_words(text: str, key: str, words: tuple[str, ...]) -> str:
    """Given a policy file's text, return it with these words at the end of the list."""
    quoted = ", ".join(map(_toml, words))
    start = line_of(key, text)
    if start is None:
        first = f"{_toml(DEFAULT)}, " if key in _BARE else ""
        gap = "" if not text or text.endswith("\n") else "\n"
        return f"{text or _HEAD}{gap}{key} = [{first}{quoted}]\n"
    offset = sum(len(line) for line in text.splitlines(keepends=True)[: start - 1])
    at = text.index("=", offset) + 1
    last: tuple[int, bool] | None = None  # where the last word or comma ends, and whether it is a comma
    depth = 0
    while match := _TOKEN.match(text, at):
        piece, at = match[0], match.end()
        if piece == "[":
            depth += 1
            last = (at, True)
        elif piece == "]":
            break
        elif piece == "," or piece[0] in "\"'":
            last = (at, piece == ",")
    if last is None or depth != 1:
        raise InputError(f"the list {key} is written in a way that this program does not change: add {quoted} by hand")
    place, ready = last
    return f"{text[:place]}{_gap(text, place) if ready else ', '}{quoted}{text[place:]}"


def _gap(text: str, place: int) -> str:
    """Return what goes between a comma (or the opening bracket) and the next word."""
    return "" if text[place - 1] == "[" else " "


def _toml(word: str) -> str:
    r"""Return a text as TOML writes it."""
    escapes = {'"': '\\"', "\\": "\\\\"}
    return '"' + "".join(escapes.get(c, c if c.isprintable() else f"\\U{ord(c):08x}") for c in word) + '"'


def _prove(before: str, after: str, key: str, added: tuple[str, ...], path: Path) -> None:
    """Raise InputError unless the new text says what the old one does, and the words added."""
    old = tomllib.loads(before)
    try:
        new = tomllib.loads(after)
    except tomllib.TOMLDecodeError:
        new = {}
    listed = old.get(key, [DEFAULT] if key in _BARE else [])
    if new != {**old, key: [*listed, *added]}:
        raise InputError(f"{path}: the list {key} is written in a way that this program does not change: edit it")


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            check_owned(path, os.fstat(file.fileno()))
            check_folder(path)
            content = file.read(LONGEST + 1)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise NotPermittedError(f"the policy file {path} cannot be read: {error.strerror}") from None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"the policy file {path} is no TOML: {error}") from None
