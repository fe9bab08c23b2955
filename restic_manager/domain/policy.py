"""What a host lets its server do to it: the agent policy as a value, and each of its decisions. Promise 3.

Pure: paths come in as the file system has resolved them, repositories as `place_of` names them. `*` in a pattern
matches anything, `/` too; a folder covers all below it; the word `default` in a list stands for what holds without the
list. Refuses to know where the policy is written down, who asks, and how a refusal reaches anybody.
"""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from restic_manager.domain.errors import InputError
from restic_manager.domain.model import Kind, kind_of
from restic_manager.domain.pathtext import path_to_text, text_to_path
from restic_manager.domain.specs import ForgetSpec, PruneSpec, Rate, Spec, Tuning, UnlockSpec

Patterns = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=4_096)], ...], Meta(max_length=1_000)]

UNLOCK_ALL: Final = "unlock-all"
"""The kind word of removing locks that somebody may still hold: `unlock` alone removes stale ones."""
KIND_WORDS: Final = (*(kind.value for kind in Kind), UNLOCK_ALL)
"""Everything a policy's `kinds` can name."""
NOT_BY_DEFAULT: Final = frozenset({Kind.FORGET.value, Kind.PRUNE.value, Kind.TAG.value, UNLOCK_ALL})
"""What takes something away from a repository, or rewrites what is in it."""
DEFAULT: Final = "default"
"""In a list: what holds without the list."""


class Policy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the host's administrator allows. None: the safe default. Rates in KiB/s.

    The safe default: every kind but NOT_BY_DEFAULT, all sources, restores below the agent's own folder for them, the
    repositories that the host uses already, no hooks, no commands, no ceilings.
    """

    kinds: Patterns | None = None
    sources: Patterns | None = None
    restore_targets: Patterns | None = None
    repositories: Patterns | None = None
    hooks: Patterns | None = None
    commands: Patterns | None = None
    upload_limit: Rate | None = None
    download_limit: Rate | None = None
    concurrent_jobs: Annotated[int, Meta(ge=1, le=1_000)] | None = None


SAFE_DEFAULT: Final = Policy()


@dataclass(frozen=True, slots=True)
class Denied:
    """One refusal: what was asked (`restores into /etc`), the key that decides it, and the words that would allow it,
    each behind `restic-manager agent policy`.
    """

    asked: str
    key: str
    remedies: tuple[tuple[str, ...], ...]


# -- patterns ---------------------------------------------------------------------------------------------------------


def matches(pattern: str, text: str) -> bool:
    """Given a pattern in which `*` stands for anything, return whether it is this text. Takes linear time in both."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == text
    *middle, last = rest
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def covers(pattern: str, path: str) -> bool:
    """Given a pattern of paths and a plain absolute path, return whether the path is it or below it."""
    folder = pattern.rstrip("/")
    return matches(folder, path) or matches(f"{folder}/*", path)


def plain_path(text: str) -> str:
    """Given an absolute path's text, return its one spelling: no `//`, `.` or `..`, no slash at the end."""
    return path_to_text(b"/" + posixpath.normpath(text_to_path(text)).lstrip(b"/"))


# -- kinds ------------------------------------------------------------------------------------------------------------


def kind_word(spec: Spec) -> str:
    """Given a spec, return the word that a policy has for what it does."""
    if isinstance(spec, UnlockSpec) and spec.remove_all:
        return UNLOCK_ALL
    return kind_of(spec).value


def allows_kind(policy: Policy, word: str) -> bool:
    """Given a kind word, return whether the policy lets it run here."""
    if policy.kinds is None:
        return word not in NOT_BY_DEFAULT
    return any((one == DEFAULT and word not in NOT_BY_DEFAULT) or matches(one, word) for one in policy.kinds)


def allowed_kinds(policy: Policy) -> tuple[str, ...]:
    """Return every kind word that the policy lets run here."""
    return tuple(word for word in KIND_WORDS if allows_kind(policy, word))


def deny_kind(policy: Policy, spec: Spec) -> Denied | None:
    """Given a spec, return why its kind is not allowed. A dry run of forget or prune only reads, and always is."""
    if isinstance(spec, ForgetSpec | PruneSpec) and spec.dry_run:
        return None
    word = kind_word(spec)
    if allows_kind(policy, word):
        return None
    return Denied(f"jobs of kind {word}", "kinds", (("allow-kind", word),))


def check_kind_words(words: Iterable[str], where: str = "allow") -> None:
    """Given kind words as they were typed, raise InputError naming one that is none, and the nearest that is."""
    for word in words:
        if word not in KIND_WORDS:
            near = difflib.get_close_matches(word, KIND_WORDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(KIND_WORDS)}"
            raise InputError(f"{where}: {word[:80]!r} is no kind of job: {hint}")


# -- paths ------------------------------------------------------------------------------------------------------------


def deny_sources(policy: Policy, paths: Iterable[str]) -> Denied | None:
    """Given plain, resolved paths that a job reads on the host, return why one of them is not allowed."""
    if policy.sources is None or DEFAULT in policy.sources:
        return None
    return _deny_paths(policy.sources, paths, "reading {}", "sources", "allow-source")


def deny_targets(policy: Policy, paths: Iterable[str], *, own: str) -> Denied | None:
    """Given plain, resolved paths that a restore writes, and the agent's own folder for them, return why one is not
    allowed.
    """
    targets = policy.restore_targets if policy.restore_targets is not None else (DEFAULT,)
    patterns = tuple(own if one == DEFAULT else one for one in targets)
    return _deny_paths(patterns, paths, "restores into {}", "restore_targets", "allow-restore")


def _deny_paths(patterns: Collection[str], paths: Iterable[str], what: str, key: str, verb: str) -> Denied | None:
    outside = [path for path in dict.fromkeys(paths) if not any(covers(pattern, path) for pattern in patterns)]
    if not outside:
        return None
    further = f" (and {len(outside) - 1} more)" if len(outside) > 1 else ""
    return Denied(what.format(outside[0][:1_000]) + further, key, tuple((verb, path) for path in outside[:3]))


# -- repositories -----------------------------------------------------------------------------------------------------

_LEADS_ELSEWHERE: Final = (
    "AZURE_ACCOUNT_NAME", "AZURE_ENDPOINT_SUFFIX", "HTTP_PROXY", "HTTPS_PROXY", "OS_AUTH_URL", "OS_STORAGE_URL",
    "RESTIC_AWS_ASSUME_ROLE_STS_ENDPOINT", "ST_AUTH", "http_proxy", "https_proxy",
)  # fmt: skip
"""Variables of a repository that decide, beside its URL, which server is asked."""
_WEB_LOGIN: Final = re.compile(r"(?P<before>^[a-z0-9+]+:(?:[a-z0-9+]+:)?//)[^/?#]*@", re.DOTALL)
_WITHOUT_LOGIN: Final = r"\g<before>"
_LEAD: Final = re.compile(f" (?=(?:{'|'.join(_LEADS_ELSEWHERE)})=)")
_UP: Final = re.compile(r"(?:^|[/:\\])(?:\.|%2e){2}(?:$|[/\\?#])", re.IGNORECASE)


def place_of(url: str, env: Mapping[str, str]) -> str:
    """Given a repository's URL and variables, return the place it is: without login, and with the variables that lead
    elsewhere (` NAME=value`), because a URL alone does not always say which server is meant.
    """
    if not url.startswith("sftp:"):  # there the user is part of the place, and no password can stand beside it
        url = _WEB_LOGIN.sub(_WITHOUT_LOGIN, url)
    url = url.removeprefix("local:") if url.startswith("local:/") else url
    url = "/" + posixpath.normpath(url).lstrip("/") if url.startswith("/") else url.rstrip("/")
    leads = [name for name in _LEADS_ELSEWHERE if env.get(name)]
    return " ".join((url, *(f"{name}={_WEB_LOGIN.sub(_WITHOUT_LOGIN, env[name])}" for name in leads)))


def deny_repository(policy: Policy, place: str, *, known: Collection[str]) -> Denied | None:
    """Given a repository's place and those that the host uses already, return why it is not allowed."""
    if place in known or any(_is_place(one, place) for one in policy.repositories or ()):
        return None
    return Denied(f"the repository {place[:1_000]}", "repositories", (("allow-repository", place),))


def _is_place(pattern: str, place: str) -> bool:
    """Return whether a pattern is of this place. What leads elsewhere has to be in the pattern, each by itself: a `*`
    of the URL never reaches over to it; and a way up (`..`) is never below what a pattern names.
    """
    if pattern in {"*", place}:
        return True
    (url, *leads), (wanted_url, *wanted) = _LEAD.split(place), _LEAD.split(pattern)
    if _UP.search(url) is not None or not covers(wanted_url, url):
        return False
    return len(leads) == len(wanted) and all(map(matches, sorted(wanted), sorted(leads)))


# -- programs ---------------------------------------------------------------------------------------------------------


def deny_hook(policy: Policy, name: str) -> Denied | None:
    """Given a hook's name, return why it is not allowed."""
    return _deny_program(policy.hooks, name, "the hook", "hooks", "allow-hook")


def deny_command(policy: Policy, name: str) -> Denied | None:
    """Given a command's name, return why it is not allowed."""
    return _deny_program(policy.commands, name, "the command", "commands", "allow-command")


def _deny_program(patterns: Patterns | None, name: str, what: str, key: str, verb: str) -> Denied | None:
    if any(one != DEFAULT and matches(one, name) for one in patterns or ()):
        return None
    return Denied(f"{what} {name[:100]!r}", key, ((verb, name),))


# -- ceilings ---------------------------------------------------------------------------------------------------------


def lowered(policy: Policy, spec: Spec) -> Spec:
    """Given a spec, return it with no rate above the policy's ceilings; one that names none is left to them."""
    tuning: Tuning | None = getattr(spec, "tuning", None)
    if tuning is None:
        return spec
    upload = _lower(tuning.upload_limit, policy.upload_limit)
    download = _lower(tuning.download_limit, policy.download_limit)
    return msgspec.structs.replace(
        spec, tuning=msgspec.structs.replace(tuning, upload_limit=upload, download_limit=download)
    )


def _lower(wanted: int | None, ceiling: int | None) -> int | None:
    return wanted if wanted is None or ceiling is None else min(wanted, ceiling)
