"""Where a path of an order really leads on this host: symbolic links on the way are followed before it is judged.

Owns the reading of links, of lists of paths, and of what a restore could be led astray by. Blocks like the file systems
do. Decides nothing: what comes out is compared by `domain.policy`.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from restic_manager.domain.errors import NotPermittedError
from restic_manager.domain.pathtext import path_to_text, text_to_path

LONGEST_LIST: Final = 64 << 20
"""Bytes of one file with paths. A longer one cannot be judged, so it is refused."""


def leads_to(text: str) -> Iterator[str]:
    """Given an absolute path's text, yield every plain path that is meant by it: restic and the kernel do not read
    `..` behind a link alike. The last part is not followed: restic takes a link for a link.
    """
    path = text_to_path(text)
    plain = b"/" + posixpath.normpath(path).lstrip(b"/")
    yield _parent_followed(plain)
    if b".." in path.split(b"/"):
        yield _parent_followed(path.rstrip(b"/"))
        yield path_to_text(os.path.realpath(path))


def followed(text: str) -> str:
    """Given an absolute path's text, return where it leads, its last part followed too; what is missing stays."""
    return path_to_text(os.path.realpath(text_to_path(text)))


def _parent_followed(path: bytes) -> str:
    parent, name = os.path.split(path)
    if not name or name in {b".", b".."}:
        return path_to_text(os.path.realpath(path))
    return path_to_text(os.path.join(os.path.realpath(parent), name))  # noqa: PTH118 - bytes


def listed(texts: Iterable[str]) -> Iterator[str]:
    """Given files with one path a line, yield the paths as text. Raise NotPermittedError if one cannot be read whole.

    A relative one is what restic makes of it: one in the folder that this process works in.
    """
    for text in texts:
        place = Path(os.fsdecode(text_to_path(text)))
        try:
            if not place.is_file():
                raise NotPermittedError(f"{text} is no file whose paths could be compared with the sources allowed")
            with place.open("rb") as file:
                content = file.read(LONGEST_LIST + 1)
        except OSError as error:
            raise NotPermittedError(
                f"{text} cannot be read ({error.strerror}), so its paths cannot be compared with the sources allowed"
            ) from None
        if len(content) > LONGEST_LIST:
            raise NotPermittedError(f"{text} has more than {LONGEST_LIST:,} bytes: its paths are too many to compare")
        for line in content.split(b"\n"):
            # restic drops one carriage return at a line's end; a path may have it all the same.
            for said in dict.fromkeys((line, line.removesuffix(b"\r"))):
                if said:
                    yield path_to_text(os.path.abspath(said))  # noqa: PTH100 - bytes, and links stay


def links_below(roots: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Given folders, yield each symbolic link below them and where it leads. What cannot be read has none for restic
    either. Files that are not links, and what is not there, yield nothing.
    """
    waiting = [text_to_path(root) for root in roots]
    while waiting:
        folder = waiting.pop()
        try:
            entries = os.scandir(folder)
        except OSError:
            continue
        with entries:
            for entry in entries:
                if entry.is_symlink():
                    yield path_to_text(entry.path), path_to_text(os.path.realpath(entry.path))
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)


def first(pairs: Iterable[tuple[str, str]], outside: Callable[[str], bool]) -> tuple[str, str] | None:
    """Given links and where they lead, return the first that leads outside, None if none does."""
    return next((pair for pair in pairs if outside(pair[1])), None)
