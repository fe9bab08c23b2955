"""How schedules, their slots and changes of them are worded and laid out for a person."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from restic_manager.cli.hook_options import hook_words
from restic_manager.cli.keep_request import guard_words
from restic_manager.cli.pausing import pause_words
from restic_manager.cli.render import Column, Screen
from restic_manager.cli.spec_words import doing, spec_lines
from restic_manager.cli.text import amount, listing, moment, safe, seconds_text, size, when
from restic_manager.domain.guards import Guards
from restic_manager.domain.model import Kind
from restic_manager.domain.retention import in_words
from restic_manager.domain.specs import Tuning
from restic_manager.protocol.api import NextSlot, ScheduleView

_LABELS = {
    "name": "name",
    "cron": "when",
    "timezone": "zone",
    "splay": "splay",
    "overlap": "overlap",
    "offline": "offline",
    "max_lateness": "max lateness",
    "retry": "retries",
    "retry_backoff": "retry backoff",
    "time_limit": "time limit",
    "stall_limit": "stall limit",
    "repo": "repository",
    "enabled": "enabled",
    "paths": "paths",
    "excludes": "excludes",
    "exclude_files": "exclude files",
    "exclude_if_present": "exclude if present",
    "exclude_caches": "exclude caches",
    "one_file_system": "one file system",
    "tags": "tags",
    "files_from": "paths from",
    "exclude_larger_than": "excludes over",
    "skip_if_unchanged": "skip if unchanged",
    "stdin_command": "output of",
    "stdin_name": "saved as",
}

_COUNTED: Final[dict[str, Callable[[int], str]]] = {"retry": str, "exclude_larger_than": size}
"""The numbers that are not seconds."""


def announce(screen: Screen, view: ScheduleView, now: datetime) -> None:
    """Given a schedule just made or changed, say what will happen: in words, its next slots, and who is there."""
    screen.say(f"{view.name}: {view.words}" + ("" if view.enabled else " (disabled)"))
    screen.say(safe(f"{doing(view.spec, view.repo)}, on {rule_words(view)}"))
    if view.kind is Kind.BACKUP:
        screen.say(view.keeps or in_words(view.retention))
    if not view.enabled:
        screen.say(f"nothing runs until `restic-manager schedule enable {view.name}`")
    elif view.next:
        screen.say("next:")
        slots(screen, view.next[:5], view.timezone, now)
    for pause in view.pauses:
        screen.note(f"warning: paused: {pause_words(pause, now)}")
    for line in presence(view):
        screen.say(line)
    for warning in view.warnings:
        screen.note(f"warning: {warning}")


def presence(view: ScheduleView) -> list[str]:
    """Given a schedule, return whether the hosts it needs are there."""
    if not view.targets:
        return ["no host is a target now: nothing runs until one joins or gets the label"]
    away = [target.name for target in view.targets if not target.online]
    here = len(view.targets) - len(away)
    if not away:
        who = f"{view.targets[0].name} is" if here == 1 else f"all {here:,} hosts are"
        return [f"{who} online"]
    rest = "runs by itself" if view.offline == "run" else "runs when it is back"
    if here == 0 and len(away) == 1:
        return [f"{away[0]} is offline; once it knows the schedule it {rest}"]
    return [f"{here:,} of {amount(len(view.targets), 'host')} online; offline: {listing(away)}"]


def rule_words(view: ScheduleView) -> str:
    """Given a schedule, return its rule of targets in words."""
    if view.all:
        return "every host"
    if view.labels:
        return "hosts with " + " and ".join(f"{key}={value}" for key, value in sorted(view.labels.items()))
    return listing(list(view.hosts))


def slots(screen: Screen, coming: Sequence[NextSlot], timezone: str, now: datetime | None) -> None:
    """Given slots, print them: local time with its UTC offset, UTC, how far from now (where it is given).

    Where hosts differ, each slot has its host; where there is a splay, the time at which it runs.
    """
    hosts = any(slot.host for slot in coming)
    splayed = any(slot.runs_at and slot.runs_at != slot.utc for slot in coming)
    columns: list[Column | str] = [Column("  " + ("LOCAL" if timezone == "host" else timezone), keep=True)]
    columns += [Column("UTC", keep=True)] if timezone != "UTC" else []
    columns += [Column("", keep=True)] if now is not None else []
    columns += [Column("RUNS UTC", keep=True)] if splayed else []
    columns += ["HOST"] if hosts else []
    rows = []
    for slot in coming:
        row = [f"  {local_words(slot.local)}"]
        if timezone != "UTC":
            row.append(f"{slot.utc:%m-%d %H:%M:%S}")
        if now is not None:
            row.append(when(slot.utc, now))
        if splayed:
            row.append(f"{slot.runs_at:%H:%M:%S}" if slot.runs_at else "")
        if hosts:
            row.append(slot.host or "")
        rows.append(row)
    screen.table(columns, rows, empty="no slots are left")


def local_words(local: str) -> str:
    """Given a slot's local time (RFC 3339), return it with the day of the week."""
    try:
        at = datetime.fromisoformat(local)
    except ValueError:
        return local
    # The offset as RFC 3339 writes it, with its colon.
    return local if at.tzinfo is None else f"{at:%a %Y-%m-%d %H:%M:%S} {at.isoformat()[-6:]}"


def table(screen: Screen, views: Iterable[ScheduleView], now: datetime) -> None:
    """Given schedules, print them in a table."""
    screen.table(
        ["NAME", "KIND", "WHEN", "ZONE", "WHERE", "REPO", Column("NEXT", keep=True)],
        (
            (
                view.name,
                view.kind,
                view.cron,
                view.timezone,
                rule_words(view),
                view.repo,
                _next(view, now),
            )
            for view in views
        ),
        empty="no schedules yet: `restic-manager schedule add NAME …` makes one",
    )


def _next(view: ScheduleView, now: datetime) -> str:
    if not view.enabled:
        return "disabled"
    return "paused" if view.pauses else when(view.next[0].utc if view.next else None, now, never="-")


def page(screen: Screen, view: ScheduleView, now: datetime) -> None:
    """Given a schedule, print all there is to know of it."""
    screen.fields(
        [
            ("Name", view.name),
            ("Id", view.id),
            ("State", "enabled" if view.enabled else "disabled"),
            ("Paused", "\n".join(pause_words(pause, now) for pause in view.pauses)),
            ("When", view.words),
            ("Cron", view.cron),
            ("Time zone", view.timezone),
            ("Splay", seconds_text(view.splay) if view.splay else ""),
            ("Where", rule_words(view)),
            ("Hosts", "\n".join(presence(view))),
            ("Repository", view.repo),
            ("Kind", view.kind),
            *spec_lines(view.spec),
            ("Retention", (view.keeps or in_words(view.retention)) if view.kind is Kind.BACKUP else ""),
            ("Guards", guard_words(view.guards) if view.kind is Kind.BACKUP else ""),
            ("Hooks", "" if view.hooks is None else hook_words(view.hooks)),
            ("Overlap", view.overlap),
            ("Offline", view.offline),
            ("Max lateness", "none" if view.max_lateness is None else seconds_text(view.max_lateness)),
            ("Retries", f"{view.retry}, the first after {seconds_text(view.retry_backoff)}" if view.retry else "none"),
            ("Time limit", "none" if view.time_limit is None else seconds_text(view.time_limit)),
            ("Stall limit", "none" if view.stall_limit is None else seconds_text(view.stall_limit)),
            ("Revision", str(view.revision)),
            ("Added", moment(view.created_at, now)),
            ("Warnings", "\n".join(view.warnings)),
        ]
    )
    if view.next:
        screen.say("")
        slots(screen, view.next[:5], view.timezone, now)


def differences(view: ScheduleView, new: dict[str, Any]) -> list[str]:
    """Given a schedule and the fields that an edit sets, return a line for each that changes (`when: old → new`)."""
    lines = []
    if "hosts" in new:
        old_rule = (set(view.hosts), dict(view.labels), view.all)
        if old_rule != (set(new["hosts"]), dict(new["labels"]), new["all"]):
            asked = _Rule(new["hosts"], new["labels"], every=new["all"])
            lines.append(f"where: {rule_words(view)} → {asked}")
    for name, label in _LABELS.items():
        if name not in new:
            continue
        old = getattr(view, name) if hasattr(view, name) else getattr(view.spec, name)
        if old != new[name]:
            lines.append(f"{label}: {_value(name, old)} → {_value(name, new[name])}")
    return lines + _content_differences(view, new)


def _content_differences(view: ScheduleView, new: dict[str, Any]) -> list[str]:
    """Return a line for each change of what a schedule does, keeps and warns for."""
    lines = []
    old_spec, new_spec = dict[str, str](), dict[str, str]()
    if "spec" in new:
        old_spec, new_spec = dict(spec_lines(view.spec)), dict(spec_lines(new["spec"]))
    if "tuning" in new:
        old_spec |= dict(spec_lines(getattr(view.spec, "tuning", None) or Tuning()))
        new_spec |= dict(spec_lines(new["tuning"] or Tuning()))
    for label in {**old_spec, **new_spec}:
        old, now = (found.get(label, "as usual").replace("\n", ", ") for found in (old_spec, new_spec))
        if old != now:
            lines.append(f"{label.lower()}: {old} → {now}")
    if "retention" in new and new["retention"] != view.retention:
        lines.append(f"retention: {in_words(view.retention)} → {in_words(new['retention'])}")
    if "guards" in new and (new["guards"] or Guards()) != (view.guards or Guards()):
        lines.append(f"guards: {guard_words(view.guards)} → {guard_words(new['guards'])}")
    if "hooks" in new and new["hooks"] != view.hooks:
        old_hooks, new_hooks = (hook_words(found).replace("\n", "; ") for found in (view.hooks, new["hooks"]))
        lines.append(f"hooks: {old_hooks} → {new_hooks}")
    return lines


class _Rule:
    """A rule of targets that is asked for."""

    def __init__(self, hosts: tuple[str, ...], labels: dict[str, str], *, every: bool) -> None:
        self._words = "every host" if every else listing(list(hosts))
        if labels:
            self._words = "hosts with " + " and ".join(f"{key}={value}" for key, value in sorted(labels.items()))

    def __str__(self) -> str:
        return self._words


def _value(name: str, value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return _COUNTED.get(name, seconds_text)(value)
        case None:
            return "the server's" if name == "timezone" else "none"
        case tuple():
            return ", ".join(map(str, value)) or "none"
        case _:
            return str(value)
