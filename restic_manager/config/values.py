"""What a text in the configuration stands for: one function a sort of value. Each raises InputError for what is none.

Refuses to know where a text was found; who calls says so in front of the error.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from restic_manager.domain.errors import InputError
from restic_manager.domain.instants import parse_duration
from restic_manager.domain.policy import check_kind_words
from restic_manager.domain.zones import check_timezone
from restic_manager.protocol.address import parse_server_url
from restic_manager.protocol.jointoken import is_pin
from restic_manager.runtime.logs import check_level

DEFAULT_LISTEN: Final = "127.0.0.1:8787"


def address(text: str) -> tuple[str, int]:
    """Given HOST:PORT, return both."""
    host, separator, port_text = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not separator or not host or (":" in host) != text.startswith("["):
        raise InputError(f"{text!r} is no address: write HOST:PORT, like {DEFAULT_LISTEN} or [::1]:8787")
    if not port_text.isascii() or not port_text.isdigit() or int(port_text) > 65_535:
        raise InputError(f"{text!r} has no port between 0 and 65535")
    return host, int(port_text)


def server_url(text: str) -> str:
    """Given what agents dial, return it."""
    parse_server_url(text)
    return text


def timezone(text: str) -> str:
    """Given an IANA zone, return it."""
    check_timezone(text)
    return text


def level(text: str) -> str:
    """Given the name of a log level, return it."""
    check_level(text)
    return text


def pin(text: str) -> str:
    """Given a certificate's pin as it was copied, return it in its one spelling."""
    known_by = text.strip().lower()
    if not is_pin(known_by):
        raise InputError(
            f"{text[:80]!r} is no pin, which has 52 letters and digits: `restic-manager server cert show` shows it"
        )
    return known_by


def yes_or_no(text: str) -> bool:
    """Given yes or no, return which."""
    if text not in {"yes", "no"}:
        raise InputError(f"{text!r} is neither yes nor no")
    return text == "yes"


def file_path(text: str) -> Path:
    """Given a file, return its absolute path; a link in it stays one."""
    not_empty(text)
    return Path(os.path.abspath(Path(text).expanduser()))  # noqa: PTH100 - resolve() would follow a swapped link


def kind_words(text: str) -> tuple[str, ...]:
    """Given what `--allow` says, return its kind words."""
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    check_kind_words(words, "--allow")
    return words


def not_empty(text: str) -> str:
    """Given any text but an empty one, return it."""
    if not text.strip() or "\0" in text:
        raise InputError("is empty")
    return text


def seconds_between(least: float, most: float) -> Callable[[str], float]:
    """Given bounds in seconds, return what reads a duration (`90s`, `1h`) between them, in seconds."""

    def parse(text: str) -> float:
        seconds = parse_duration(text).total_seconds()
        if not least <= seconds <= most:
            raise InputError(f"{text!r} has to be between {least:g} and {most:g} seconds")
        return seconds

    return parse
