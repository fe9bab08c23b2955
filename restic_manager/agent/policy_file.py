"""The host's policy as a file: read anew when it has changed, believed only if nobody else could have written it.

Owns the file's form (TOML, every key at the top level), its place, and where in it a key stands. What the policy means
is `domain.policy`; how the file is changed is `policy_edit`. A file that cannot be believed is no policy: every job is
refused then, because what it would have forbidden is not known.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import stat
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from restic_manager.domain.errors import InputError, NotPermittedError
from restic_manager.domain.policy import KIND_WORDS, SAFE_DEFAULT, Denied, Policy, matches
from restic_manager.runtime.datadir import default_data_dir

NAME: Final = "agent-policy.toml"
"""In the agent's data directory, unless `--policy` names another file."""
RESTORES: Final = "restores"
"""The agent's own folder for restores, in its data directory."""
LONGEST: Final = 1 << 20
"""Bytes that are read of a policy file."""
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_ROOT: Final = 0
_LISTS: Final = ("kinds", "sources", "restore_targets", "repositories", "hooks", "commands")
_PATHS: Final = {"sources", "restore_targets"}
KEYS: Final = tuple(Policy.__struct_fields__)


@dataclass(frozen=True)
class Loaded:
    """A policy that was read: where it stands (None: there is no file), and in which line each key."""

    policy: Policy = SAFE_DEFAULT
    path: Path | None = None
    lines: dict[str, int] = field(default_factory=dict)

    def where(self, key: str) -> str:
        """Given a key, return in words what says so: the line of the file, or the safe default."""
        if self.path is None:
            return "the safe default, no policy file"
        if key not in self.lines:
            return f"the safe default, {self.path} says nothing of {key}"
        return f"{self.path}, line {self.lines[key]}: {key}"


class PolicyBook:
    """This agent's policy, as the file says it now. `current` before each job."""

    def __init__(self, path: Path, *, named: bool, option: str = "") -> None:
        """named: somebody named this file, so that its absence is a mistake and no safe default. option: what
        `restic-manager agent policy …` has to be told to mean this file.
        """
        self.path = path
        self._named = named
        self._option = option
        self._stamp: tuple[int, ...] | None = None
        self._loaded: Loaded | None = None

    def current(self) -> Loaded:
        """Return the policy; raise NotPermittedError, naming file and remedy, if the file is not to be believed.

        Touches the disk: one `stat` while the file stays as it is.
        """
        stamp = _stamp(self.path)
        if self._loaded is None or stamp != self._stamp:
            self._loaded = None
            self._loaded = load(self.path, named=self._named)
            self._stamp = stamp
        return self._loaded

    def concurrent_jobs(self) -> int | None:
        """Return the ceiling of jobs at once, as the file was when it was read last; None: there is none."""
        return None if self._loaded is None else self._loaded.policy.concurrent_jobs

    def refusal(self, denied: Denied, loaded: Loaded) -> NotPermittedError:
        """Given what the policy denies, return the refusal: what was asked, what says so, what would allow it."""
        commands = " or ".join(
            f"`restic-manager agent policy {' '.join(map(shlex.quote, words))}{self._option}`"
            for words in denied.remedies
        )
        return NotPermittedError(
            f"this host's policy does not allow {denied.asked} ({loaded.where(denied.key)}). To allow it, its "
            f"administrator runs on the host: {commands}"
        )


def book_of(data_dir: Path, named: Path | None) -> PolicyBook:
    """Given an agent's data directory and the file that `--policy` names, if any, return the agent's policy."""
    path = named or data_dir / NAME
    option = "" if path == default_data_dir(None, {}) / NAME else f" --policy {shlex.quote(str(path))}"
    return PolicyBook(path, named=named is not None, option=option)


def load(path: Path, *, named: bool) -> Loaded:
    """Given the file's path, return the policy in it, the safe default where there is none and none was named.

    Raise NotPermittedError if it could be somebody else's, or does not say anything that can be understood.
    """
    try:
        content = _read(path)
    except FileNotFoundError:
        if named:
            raise NotPermittedError(f"there is no policy file {path}: write one, or leave --policy out") from None
        return Loaded()
    except OSError as error:
        raise NotPermittedError(f"the policy file {path} cannot be read: {error.strerror}") from None
    try:
        return parse(content, path)
    except InputError as error:
        raise NotPermittedError(error.message) from None


def parse(content: bytes, path: Path) -> Loaded:
    """Given a policy file's content, return the policy; raise InputError naming file, line and key."""
    try:
        text = content.decode("utf-8")
        found = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"the policy file {path} is no TOML: {error}") from None
    lines = {key: number for key in KEYS if (number := line_of(key, text)) is not None}

    def wrong(key: str, why: str) -> InputError:
        line = f", line {lines[key]}" if key in lines else ""
        return InputError(f"the policy file {path}{line}: {key} {why}")

    for key, value in found.items():
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1)
            raise wrong(key, f"is no key of a policy: {f'did you mean {near[0]}?' if near else ', '.join(KEYS)}")
        if key in _LISTS:
            _check_list(key, value, wrong)
        elif not isinstance(value, int) or isinstance(value, bool):
            raise wrong(key, f"has to be a whole number, not {value!r}")
    try:
        policy = msgspec.convert(found, Policy)
    except msgspec.ValidationError as error:
        key = next((key for key in KEYS if f"$.{key}" in str(error)), "")
        raise wrong(key, str(error)) from None
    return Loaded(policy, path, lines)


def _check_list(key: str, value: Any, wrong: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise wrong(key, f'has to be a list of texts, like ["default"], not {value!r}')
    for one in value:
        if one == "default":
            continue
        if key == "kinds" and not any(matches(one, word) for word in KIND_WORDS):
            near = difflib.get_close_matches(one, KIND_WORDS, n=1)
            raise wrong(key, f"{one!r} is no kind: {f'did you mean {near[0]}?' if near else ', '.join(KIND_WORDS)}")
        if key in _PATHS:
            check_path_pattern(one, lambda why: wrong(key, why))


def check_path_pattern(pattern: str, wrong: Any) -> None:
    """Given a pattern of paths, raise what `wrong` makes of the reason if it can never fit a plain absolute path."""
    if not pattern.startswith(("/", "*")):
        raise wrong(f"{pattern!r} is not absolute: begin it with / or *")
    if any(part in {".", ".."} for part in pattern.split("/")) or "//" in pattern:
        raise wrong(f"{pattern!r} has //, . or .. in it: no path is compared in such a spelling")


def line_of(key: str, text: str) -> int | None:
    """Given a key and the file's text, return in which line it is set; None if it is not."""
    match = re.search(rf"^[ \t]*(?:{key}|\"{key}\"|'{key}')[ \t]*=", text, re.MULTILINE)
    return None if match is None else text.count("\n", 0, match.start()) + 1


def _read(path: Path) -> bytes:
    """Return the file's content, after the proof that it is the host's owner's; raise OSError, NotPermittedError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        check_owned(path, os.fstat(file.fileno()))
        # Whoever may write the folder can put another file in this one's place.
        check_folder(path)
        content = file.read(LONGEST + 1)
    if len(content) > LONGEST:
        raise NotPermittedError(f"the policy file {path} has more than {LONGEST:,} bytes: shorten it")
    return content


def check_owned(path: Path, found: os.stat_result) -> None:
    """Given the open policy file, raise NotPermittedError unless it is root's or the agent's, and nobody else writes
    it.
    """
    if not stat.S_ISREG(found.st_mode):
        raise NotPermittedError(f"the policy file {path} is not a regular file: put one there")
    if found.st_uid not in {_ROOT, os.geteuid()}:
        raise NotPermittedError(
            f"the policy file {path} belongs to user {found.st_uid}, who is neither root nor the agent's user: read "
            f"it, and run chown {os.geteuid()} {path} on the host if it says what it should"
        )
    if found.st_mode & _OTHERS_WRITE:
        raise NotPermittedError(
            f"the policy file {path} is writable by others than its owner: read it, and run chmod go-w {path} on the "
            "host if it says what it should"
        )


def check_folder(path: Path) -> None:
    """Given the policy file's path, raise NotPermittedError if others may put another file in its place."""
    folder = path.parent
    found = folder.stat()
    sticky = bool(found.st_mode & stat.S_ISVTX)
    if (found.st_mode & _OTHERS_WRITE and not sticky) or found.st_uid not in {_ROOT, os.geteuid()}:
        raise NotPermittedError(
            f"the folder {folder} of the policy file can be changed by others than root and the agent's user: run "
            f"chown {os.geteuid()} {folder} and chmod go-w {folder} on the host"
        )


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found, folder = path.stat(), path.parent.stat()
    except OSError:
        return None
    return (
        found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode, found.st_uid,
        folder.st_mode, folder.st_uid,
    )  # fmt: skip
