"""Words that several kinds' command lines share. Pure; what it is given has passed `restic.checks`."""

from __future__ import annotations

import re
from collections.abc import Callable

from restic_manager.domain.pathtext import text_to_path
from restic_manager.domain.specs import Tuning
from restic_manager.restic.command import SCHEDULE_TAG, tuning_words

__all__ = ["Word", "chosen", "filter_words", "literal", "priority_words", "tuning_words"]

Word = str | bytes

_GLOB = re.compile(rb"[\\*?\[\]]")


def priority_words(tuning: Tuning | None, find: Callable[[str], str | None]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Given the wish for a priority and how to find a program, return the words before restic, and what is missing."""
    words: list[str] = []
    missing: list[str] = []
    if tuning is None:
        return (), ()
    if tuning.nice is not None:
        nice = find("nice")
        words += [nice, f"-n{tuning.nice}"] if nice else []
        missing += [] if nice else ["nice"]
    if tuning.io_class is not None:
        ionice = find("ionice")
        level = [f"-n{tuning.io_level}"] if tuning.io_level is not None else []
        words += [ionice, "-c3" if tuning.io_class == "idle" else "-c2", *level] if ionice else []
        missing += [] if ionice else ["ionice"]
    return tuple(words), tuple(missing)


def filter_words(restic_host: str | None, schedule_id: str | None) -> list[Word]:
    """Given whose snapshots are meant, return the flags that choose them."""
    words: list[Word] = []
    if restic_host is not None:
        words.append(f"--host={restic_host}")
    if schedule_id is not None:
        words.append(f"--tag={SCHEDULE_TAG}{schedule_id}")
    return words


def chosen(snapshot: str | None) -> str:
    """Given the snapshot of a spec whose snapshots have been named (`restic.newest`), return it."""
    if snapshot is None:
        raise ValueError("no command line says `the newest snapshot`: it is looked up before")
    return snapshot


def literal(path: str) -> bytes:
    """Given a path's text, return the pattern that matches this path and no other (and what is below it)."""
    return _GLOB.sub(lambda match: b"\\" + match[0], text_to_path(path))
