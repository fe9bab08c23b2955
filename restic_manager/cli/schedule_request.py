"""From what was typed for a schedule to the request that the server gets.

Decides what goes together and what words mean. What a schedule does is `spec_request`, what it keeps `keep_request`.
Expressions, zones and names are checked by the server alone.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import UNSET

from restic_manager.cli.hook_options import HookOptions, hooks_after
from restic_manager.cli.host import parse_labels
from restic_manager.cli.keep_options import KeepOptions
from restic_manager.cli.keep_request import guards_after, guards_said, retention_after, retention_said
from restic_manager.cli.schedule_options import WhenOptions
from restic_manager.cli.spec_request import edited
from restic_manager.cli.typed import NONE, one_of, seconds, whole_number
from restic_manager.domain.errors import InputError
from restic_manager.domain.model import BackupSpec, Kind, Offline, Overlap, kind_of
from restic_manager.domain.specs import Spec
from restic_manager.protocol.api import ScheduleEdit, ScheduleRequest, ScheduleView

SERVER_ZONE: Final = "server"
"""What `--timezone` takes for the server's own zone (no IANA zone is called so)."""


def when_said(typed: WhenOptions) -> dict[str, Any]:
    """Given the options, return the API's fields for those that were given; raise InputError if one is wrong."""
    found: dict[str, Any] = {
        "cron": _when(typed.cron, typed.every),
        "repo": typed.repo,
        "splay": _seconds(typed.splay, "--splay"),
        "overlap": None if typed.overlap is None else Overlap(one_of(typed.overlap, "--overlap", list(Overlap))),
        "retry": None if typed.retry is None else whole_number(typed.retry, "--retry", least=0, most=100),
        "retry_backoff": _seconds(typed.retry_backoff, "--retry-backoff"),
        "offline": None if typed.offline is None else Offline(one_of(typed.offline, "--offline", list(Offline))),
    }
    found = {name: value for name, value in found.items() if value is not None}
    # These have a None of their own.
    if typed.timezone is not None:
        found["timezone"] = None if typed.timezone == SERVER_ZONE else typed.timezone
    for name in ("max_lateness", "time_limit", "stall_limit"):
        text: str | None = getattr(typed, name)
        if text is not None:
            found[name] = None if text == NONE else seconds(text, f"--{name.replace('_', '-')}")
    return found | _where(typed)


def check_new(when: dict[str, Any], kind: Kind) -> None:
    """Given what was said of a new schedule, raise InputError if it is not said when, where or where to."""
    if kind is not Kind.BACKUP and when.get("offline") is Offline.RUN:
        raise InputError(f"--offline run is for backups: a {kind} waits for the server; leave it out")
    if "cron" not in when:
        raise InputError("say when: --cron '30 2 * * *' or --every 6h")
    if "hosts" not in when:
        raise InputError("say where: --host NAME, --label K=V or --all")
    if "repo" not in when:
        raise InputError("say where to: --repo NAME (`restic-manager repo list` shows them)")


def keep_said(typed: KeepOptions, kind: Kind) -> tuple[dict[str, Any], dict[str, Any]]:
    """Given the options, return the rules of retention and the guards given; raise InputError for other kinds."""
    given = [f"--{name.replace('_', '-')}" for name in typed.__dataclass_fields__ if getattr(typed, name)]
    if given and kind is not Kind.BACKUP:
        raise InputError(f"{given[0]} does not belong to {kind}: it is for schedules of backups; leave it out")
    return retention_said(typed), guards_said(typed)


def to_request(
    name: str,
    spec: Spec,
    when: dict[str, Any],
    keep: tuple[dict[str, Any], dict[str, Any]],
    *,
    hooks: HookOptions,
    enabled: bool,
) -> ScheduleRequest:
    """Given what was said of a new schedule, return the request."""
    retention, guards = keep
    return ScheduleRequest(
        name=name,
        spec=spec,
        enabled=enabled,
        retention=retention_after(None, retention),
        guards=guards_after(None, guards),
        hooks=hooks_after(None, hooks),
        **when,
    )


def to_edit(
    before: ScheduleView,
    *,
    when: dict[str, Any],
    content: dict[str, Any],
    keep: tuple[dict[str, Any], dict[str, Any]],
    keep_none: bool,
    hooks: HookOptions,
    name: str | None,
    enabled: bool | None,
) -> ScheduleEdit:
    """Given a schedule and what was said, return the request; raise InputError if what it asks for cannot be."""
    changes = dict(when)
    retention, guards = keep
    if keep_none and retention:
        raise InputError("--keep-none and a rule of retention: choose one")
    if keep_none:
        changes["retention"] = None
    elif retention:
        changes["retention"] = retention_after(before.retention, retention)
    if guards:
        changes["guards"] = guards_after(before.guards, guards)
    if hooks != HookOptions():
        changes["hooks"] = hooks_after(before.hooks, hooks)
    if content:
        changes |= _content(before.spec, content)
    if name is not None:
        changes["name"] = name
    if enabled is not None:
        changes["enabled"] = enabled
    return ScheduleEdit(**changes)


def changed(edit: ScheduleEdit) -> dict[str, Any]:
    """Given an edit, return the fields it sets."""
    return {name: value for name in edit.__struct_fields__ if (value := getattr(edit, name)) is not UNSET}


def _content(before: Spec, content: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an edit that changes what a schedule does: a backup's one by one, others' as a whole."""
    spec = edited(before, content)
    if kind_of(spec) is not Kind.BACKUP:
        return {"spec": spec}
    fields = set(ScheduleEdit.__struct_fields__) & set(BackupSpec.__struct_fields__)
    return {name: getattr(spec, name) for name in fields if name in content}


def _when(cron: str | None, every: str | None) -> str | None:
    if cron is not None and every is not None:
        raise InputError(f"--cron {cron!r} and --every {every}: choose one")
    return f"@every {every}" if every is not None else cron


def _where(typed: WhenOptions) -> dict[str, Any]:
    rules = {"--host": bool(typed.host), "--label": bool(typed.label), "--all": typed.every_host}
    given = [name for name, there in rules.items() if there]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)}: choose one of --host, --label and --all")
    if not given:
        return {}
    # All three are said, so that an edit from one rule to another leaves nothing of the old one.
    labels, _ = parse_labels(list(typed.label or ()), removing=False)
    return {"hosts": tuple(dict.fromkeys(typed.host or ())), "labels": labels, "all": typed.every_host}


def _seconds(text: str | None, option: str) -> int | None:
    return None if text is None else seconds(text, option)
