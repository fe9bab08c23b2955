"""What may be called what, and what a reference means. Owns the rules of names and labels; knows no rows.

A name is what people type; an id is what never changes. A reference is a name, or enough of an id to be the only one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from restic_manager.domain.errors import InputError

MAX_NAME: Final = 63
MAX_LABELS: Final = 64
MAX_LABEL_VALUE: Final = 256
MIN_PREFIX: Final = 4
"""The fewest characters of an id that count as a reference."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_ID_START = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){0,3}[0-9a-f]{0,12}", re.ASCII)
_ID_PREFIX = re.compile(r"[0-9a-f][0-9a-f-]{3,35}", re.ASCII)
_LABEL_VALUE = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*")


def check_name(name: str, what: str) -> str:
    """Given a name and what is to be called so (`host`), return it; raise InputError naming it and the rule.

    A name that reads as the first 8 or more digits of an id is refused: it could mean two things. Shorter ones
    (`cafe`, `beef`) are fine, because a name always goes before an id.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name[:80]!r} is not a {what} name: use 1 to {MAX_NAME} of A-Z a-z 0-9 . _ -, beginning with a letter or "
            "a digit"
        )
    if _ID_START.fullmatch(name):
        raise InputError(f"the {what} name {name!r} reads like an id: add a letter beyond f, or a word")
    return name


def check_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Given labels, return them; raise InputError naming the first that cannot be one."""
    if len(labels) > MAX_LABELS:
        raise InputError(f"{len(labels)} labels are too many: a host has at most {MAX_LABELS}")
    for key, value in labels.items():
        check_label_key(key)
        if len(value) > MAX_LABEL_VALUE or value != value.strip() or not _LABEL_VALUE.fullmatch(value):
            raise InputError(
                f"{value[:80]!r} cannot be the value of the label {key}: use at most {MAX_LABEL_VALUE} characters, "
                "without control characters and without spaces around them"
            )
    return dict(labels)


def check_label_key(key: str) -> str:
    """Given a label's name, return it; raise InputError naming it and the rule."""
    if not _NAME.fullmatch(key):
        raise InputError(
            f"{key[:80]!r} is not a label name: use 1 to {MAX_NAME} of A-Z a-z 0-9 . _ -, beginning with a letter or a "
            "digit"
        )
    return key


def parse_label(text: str) -> tuple[str, str]:
    """Given `K=V`, return both; raise InputError if it is not written so."""
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"{text[:80]!r} is not a label: write it as NAME=VALUE, such as site=berlin")
    ((key, value),) = check_labels({key: value}).items()
    return key, value


def parse_labels(texts: Iterable[str]) -> dict[str, str]:
    """Given several `K=V`, return them as labels; raise InputError on one that is none, or is given twice."""
    labels: dict[str, str] = {}
    for text in texts:
        key, value = parse_label(text)
        if labels.setdefault(key, value) != value:
            raise InputError(f"the label {key} is given twice, with {labels[key]!r} and {value!r}: decide on one")
    return labels


def id_prefix(reference: str) -> str | None:
    """Given a reference, return the id prefix it can be (lower case), None when it can only be a name."""
    lowered = reference.lower()
    return lowered if _ID_PREFIX.fullmatch(lowered) else None
