"""From what was typed for a schedule to the request that the server gets.

Decides what goes together and what words mean. Paths are those of other machines: they are taken as bytes, must be
absolute, and are not looked for here. Expressions, zones and names are checked by the server alone.
"""

from __future__ import annotations

import os
from typing import Any, Final

from msgspec import UNSET, Struct

from restic_manager.cli.host import parse_labels
from restic_manager.cli.job import whole_number
from restic_manager.domain.errors import InputError
from restic_manager.domain.instants import parse_duration
from restic_manager.domain.model import BackupSpec, Offline, Overlap
from restic_manager.domain.pathtext import path_to_text
from restic_manager.protocol.api import ScheduleEdit, ScheduleRequest

SERVER_ZONE: Final = "server"
"""What `--timezone` takes for the server's own zone (no IANA zone is called so)."""

NONE: Final = "none"
"""What `--max-lateness`, `--time-limit` and `--stall-limit` take for no bound."""


class Typed(Struct, frozen=True, kw_only=True):
    """The options of a schedule as they were typed; None (or an empty list) where one was not given."""

    cron: str | None = None
    every: str | None = None
    repo: str | None = None
    hosts: list[str] | None = None
    labels: list[str] | None = None
    every_host: bool = False
    timezone: str | None = None
    splay: str | None = None
    overlap: str | None = None
    offline: str | None = None
    max_lateness: str | None = None
    retry: str | None = None
    retry_backoff: str | None = None
    time_limit: str | None = None
    stall_limit: str | None = None
    paths: list[str] | None = None
    excludes: list[str] | None = None
    exclude_files: list[str] | None = None
    exclude_if_present: list[str] | None = None
    exclude_caches: bool | None = None
    one_file_system: bool | None = None
    tags: list[str] | None = None


def to_request(name: str, typed: Typed, *, enabled: bool) -> ScheduleRequest:
    """Given what was typed for a new schedule, return the request; raise InputError, naming the option, if wrong."""
    found = _changes(typed)
    if "cron" not in found:
        raise InputError("say when: --cron '30 2 * * *' or --every 6h")
    if "hosts" not in found:
        raise InputError("say where: --host NAME, --label K=V or --all")
    if "repo" not in found:
        raise InputError("say where to: --repo NAME (`restic-manager repo list` shows them)")
    if not found.get("paths"):
        raise InputError("say what to save: one or more paths of the hosts, like /etc /home")
    spec = BackupSpec(**{key: found.pop(key) for key in BackupSpec.__struct_fields__ if key in found})
    return ScheduleRequest(name=name, spec=spec, enabled=enabled, **found)


def to_edit(typed: Typed, *, name: str | None, enabled: bool | None) -> ScheduleEdit:
    """Given what was typed for a change, return the request; raise InputError, naming the option, if it is wrong."""
    found = _changes(typed)
    if "paths" in found and not found["paths"]:
        raise InputError("--path '' would leave nothing to save: give the paths that shall be saved")
    if name is not None:
        found["name"] = name
    if enabled is not None:
        found["enabled"] = enabled
    if not found:
        raise InputError("say what to change: an option like --cron, --path or --name")
    return ScheduleEdit(**found)


def changed(edit: ScheduleEdit) -> dict[str, Any]:
    """Given an edit, return the fields it sets."""
    return {name: value for name in edit.__struct_fields__ if (value := getattr(edit, name)) is not UNSET}


def _changes(typed: Typed) -> dict[str, Any]:
    """Return the API's fields for the options that were given."""
    found: dict[str, Any] = {
        "cron": _when(typed.cron, typed.every),
        "repo": typed.repo,
        "splay": _seconds(typed.splay, "--splay"),
        "overlap": _choice(Overlap, typed.overlap, "--overlap"),
        "retry": None if typed.retry is None else whole_number(typed.retry, "--retry", least=0, most=100),
        "retry_backoff": _seconds(typed.retry_backoff, "--retry-backoff"),
        "offline": _choice(Offline, typed.offline, "--offline"),
        "paths": _each(typed.paths, lambda path: host_path(path, "the path")),
        "excludes": _each(typed.excludes, _text),
        "exclude_files": _each(typed.exclude_files, lambda path: host_path(path, "--exclude-file")),
        "exclude_if_present": _each(typed.exclude_if_present, _text),
        "exclude_caches": typed.exclude_caches,
        "one_file_system": typed.one_file_system,
        "tags": _each(typed.tags, str),
    }
    found = {name: value for name, value in found.items() if value is not None}
    # These have a None of their own.
    if typed.timezone is not None:
        found["timezone"] = None if typed.timezone == SERVER_ZONE else typed.timezone
    for name in ("max_lateness", "time_limit", "stall_limit"):
        text: str | None = getattr(typed, name)
        if text is not None:
            found[name] = None if text == NONE else _seconds(text, f"--{name.replace('_', '-')}")
    return found | _where(typed)


def _when(cron: str | None, every: str | None) -> str | None:
    if cron is not None and every is not None:
        raise InputError(f"--cron {cron!r} and --every {every}: choose one")
    return f"@every {every}" if every is not None else cron


def _where(typed: Typed) -> dict[str, Any]:
    rules = {"--host": bool(typed.hosts), "--label": bool(typed.labels), "--all": typed.every_host}
    given = [name for name, there in rules.items() if there]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)}: choose one of --host, --label and --all")
    if not given:
        return {}
    # All three are said, so that an edit from one rule to another leaves nothing of the old one.
    labels, _ = parse_labels(typed.labels or [], removing=False)
    return {"hosts": tuple(dict.fromkeys(typed.hosts or ())), "labels": labels, "all": typed.every_host}


def host_path(path: str, what: str) -> str:
    """Given a path of a host as it was typed, return its text; raise InputError if it is not absolute."""
    if not path.startswith("/"):
        raise InputError(
            f"{what} {path!r} is relative, but it is one of the hosts', not of this folder: write it from / on"
        )
    return _text(path)


def _text(typed: str) -> str:
    return path_to_text(os.fsencode(typed))


def _each(values: list[str] | None, make: Any) -> tuple[str, ...] | None:
    """Return what a repeated option gives, None if it was not given; a single empty value stands for none at all."""
    if not values:
        return None
    return () if values == [""] else tuple(make(value) for value in values)


def _seconds(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    try:
        return int(parse_duration(text).total_seconds())
    except InputError as error:
        raise InputError(f"{option}: {error.message}") from None


def _choice(kind: type[Overlap | Offline], text: str | None, option: str) -> Overlap | Offline | None:
    if text is None:
        return None
    try:
        return kind(text)
    except ValueError:
        raise InputError(f"{option} {text!r}: write {' or '.join(kind)}") from None
