"""From what was typed for a job of one kind to its spec.

Decides what goes together; which option belongs to which kind is `spec_rules`. An option of another kind is refused by
name. Refuses to know servers: names of hosts, schedules and repositories stay for whoever can ask (`spec_names`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from msgspec.structs import replace

from restic_manager.cli.spec_options import SpecOptions
from restic_manager.cli.spec_rules import MANY, NAMED, NEVER_SCHEDULED, RULES, SPECS, snapshot_id
from restic_manager.cli.typed import NONE, as_text, each, host_path, since_when
from restic_manager.domain.errors import InputError
from restic_manager.domain.model import Kind, kind_of
from restic_manager.domain.specs import (
    BackupSpec,
    FindSpec,
    Part,
    RestoreSpec,
    Spec,
    TagSpec,
    Tuning,
)

_MISSING: Final[dict[Kind, tuple[tuple[str, str], ...]]] = {
    Kind.COPY: (("from_repo", "say where from: --from REPO"),),
    Kind.FIND: (("patterns", "say what to find: a name or a glob, like 'report*.pdf'"),),
    Kind.DUMP: (("snapshot", "say which snapshot: --snapshot ID"), ("path", "say which file: its path")),
}

_TWO_WAYS: Final = "--snapshot, or --of-host and --of-schedule: choose one way to say which"


def kind_named(text: str, *, scheduled: bool) -> Kind:
    """Given a kind as it was typed, return it; raise InputError if there is none, or none that a schedule may have."""
    allowed = [kind.value for kind in Kind if not (scheduled and kind in NEVER_SCHEDULED)]
    if scheduled and text in {kind.value for kind in NEVER_SCHEDULED}:
        raise InputError(f"--kind {text}: no schedule does this; `job run {text}` does it once")
    if text not in allowed:
        where = "--kind " if scheduled else "the kind "
        raise InputError(f"{where}{text!r} is none: there are {', '.join(allowed)}")
    return Kind(text)


def said(kind: Kind, typed: SpecOptions, words: Sequence[str], *, scheduled: bool, now: datetime) -> dict[str, Any]:
    """Given a kind, its options and its words (paths, patterns, ids), return the spec's fields that were given.

    Raise InputError, naming it, for an option or a word that does not belong to the kind, or says nothing usable. What
    the server has to be asked for is left out (`NAMED`), but refused where it does not belong.
    """
    found: dict[str, Any] = {}
    for rule in RULES:
        given = getattr(typed, rule.field)
        if given is None:
            continue
        _belongs(rule.option, rule.kinds, kind)
        if rule.once and given and scheduled:
            raise InputError(f"{rule.option} is for one run: `job run {kind} {rule.option}`; a schedule does the work")
        if rule.clears and given == NONE:
            made = None
        else:
            made = since_when(given, now, rule.option) if rule.make is None else rule.make(given, rule.option)
        if rule.goes.startswith("tuning."):
            found.setdefault("tuning", {})[rule.goes.removeprefix("tuning.")] = made
        else:
            found[rule.goes] = made
    for field, option, kinds, _ in NAMED:
        if getattr(typed, field) is not None:
            _belongs(option, kinds, kind)
    found |= _positional(kind, words)
    if "snapshots" in found and kind not in MANY:
        found |= _few(kind, found.pop("snapshots"))
    if any(found.get(name) for name in ("snapshots", "snapshot", "old")) and (typed.of_host or typed.of_schedule):
        raise InputError(_TWO_WAYS)
    return found | _reading(found, scheduled=scheduled)


def spec_of(kind: Kind, found: dict[str, Any]) -> Spec:
    """Given a kind and the fields that were given, return the spec; raise InputError if something needed is missing."""
    for field, remedy in _MISSING.get(kind, ()):
        if not found.get(field):
            raise InputError(remedy)
    tuning = Tuning(**found.get("tuning", {}))
    spec: Spec = SPECS[kind](**{**found, **({"tuning": _or_none(tuning)} if "tuning" in found else {})})
    check_whole(spec)
    return spec


def edited(spec: Spec, found: dict[str, Any]) -> Spec:
    """Given a spec and the fields that were given, return it with these; raise InputError if that cannot be."""
    changes = dict(found)
    if "tuning" in changes:
        changes["tuning"] = _or_none(replace(getattr(spec, "tuning", None) or Tuning(), **changes["tuning"]))
    new: Spec = replace(spec, **changes)
    check_whole(new)
    return new


def check_whole(spec: Spec) -> None:
    """Given a whole spec, raise InputError if its parts contradict each other, or leave out what nobody can guess."""
    tuning: Tuning | None = getattr(spec, "tuning", None)
    if tuning is not None and tuning.io_level is not None and tuning.io_class != "best-effort":
        raise InputError(f"--ionice-level {tuning.io_level} is one within --ionice-class best-effort: say that, too")
    ids = getattr(spec, "snapshots", ()) or getattr(spec, "snapshot", None) or getattr(spec, "old", None)
    if ids and (getattr(spec, "restic_host", None) or getattr(spec, "schedule_id", None)):
        raise InputError(_TWO_WAYS)
    match spec:
        case BackupSpec() if spec.stdin_command is not None and (spec.paths or spec.files_from):
            raise InputError("--stdin-from-command and paths: a backup saves one of the two; add a schedule for each")
        case BackupSpec() if not spec.paths and not spec.files_from and spec.stdin_command is None:
            raise InputError("say what to save: one or more paths of the hosts, like /etc /home")
        case RestoreSpec():
            check_restore(spec)
        case TagSpec() if not spec.add and not spec.remove:
            raise InputError("say which tags: --add T, --remove T")
        case TagSpec() if both := sorted(set(spec.add) & set(spec.remove)):
            raise InputError(f"--add {both[0]} and --remove {both[0]}: choose one")
        case FindSpec() if spec.oldest is not None and spec.newest is not None and spec.oldest > spec.newest:
            raise InputError("--since is after --until: exchange them")


def check_restore(spec: RestoreSpec) -> None:
    """Given a restore, raise InputError, naming the options, if they contradict each other."""
    if spec.target is not None and spec.in_place:
        raise InputError(f"--to {spec.target} and --in-place: choose one")
    if spec.target is None and not spec.in_place:
        raise InputError("say where to: --to DIR (a folder of the host), or --in-place over what is there")
    if spec.target is not None and not spec.target.strip("/."):
        raise InputError(f"--to {spec.target} is the whole host: if that is meant, say --in-place")
    if spec.excludes and (spec.paths or spec.includes):
        given = "--path" if spec.paths else "--include"
        raise InputError(f"{given} and --exclude: restic takes one of the two in one restore; leave one out")
    if spec.dry_run and spec.verify:
        raise InputError("--dry-run and --verify: a dry run writes nothing that could be read again; leave one out")
    if spec.delete and spec.in_place and not spec.paths:
        raise InputError("--delete --in-place without --path would empty the host: say which folders, --path P")
    if spec.delete and spec.overwrite == "never":
        raise InputError("--delete and --overwrite never: the one removes what is there, the other keeps it")


def _belongs(option: str, kinds: tuple[Kind, ...], kind: Kind) -> None:
    if kind not in kinds:
        raise InputError(f"{option} does not belong to {kind}: it is for {', '.join(kinds)}; leave it out")


def _positional(kind: Kind, words: Sequence[str]) -> dict[str, Any]:
    """Return what the words behind the kind stand for."""
    if not words:
        return {}
    match kind:
        case Kind.BACKUP | Kind.RESTORE:
            # One empty word stands for none, as with a repeated option.
            return {"paths": each(words, lambda path: host_path(path, "the path"))}
        case Kind.FIND:
            return {"patterns": each(words, as_text)}
        case Kind.DIFF:
            return _few(kind, tuple(snapshot_id(word, "the word") for word in words))
        case Kind.LS | Kind.DUMP if len(words) == 1:
            return {"path": host_path(words[0], "the path")}
        case Kind.LS | Kind.DUMP:
            raise InputError(f"{kind} takes one path, not {len(words)}: {words[1]!r} is too many")
    raise InputError(f"{kind} takes no path: leave {words[0]!r} out")


def _few(kind: Kind, snapshots: tuple[str, ...]) -> dict[str, Any]:
    """Return which snapshots are meant, for the kinds that take one, or two."""
    if kind is Kind.DIFF:
        if len(snapshots) not in {0, 2}:
            raise InputError(f"diff compares two snapshots, not {len(snapshots)}: say the older and the newer one")
        return dict(zip(("old", "new"), snapshots or (None, None), strict=True))
    if len(snapshots) > 1:
        raise InputError(f"--snapshot is given {len(snapshots)} times, but {kind} is about one: choose one")
    return {"snapshot": snapshots[0] if snapshots else None}


def _reading(found: dict[str, Any], *, scheduled: bool) -> dict[str, Any]:
    """Return which part of the data a check reads, taking what was typed for that out of what was found."""
    if "read_all" not in found and "subset" not in found:
        return {}
    everything, subset = found.pop("read_all", None), found.pop("subset", None)
    if everything and subset is not None:
        raise InputError("--read-data and --read-data-subset: choose one")
    if everything:
        return {"read": Part(number=1, of=1), "rolling": None}
    if subset is None:
        return {"read": None, "rolling": None}
    number, of = subset
    if not scheduled:
        return {"read": Part(number=number, of=of), "rolling": None}
    if number != 1:
        raise InputError(
            f"--read-data-subset {number}/{of}: a schedule reads the next part each time; write 1/{of} for that"
        )
    return {"read": None, "rolling": of}


def _or_none(tuning: Tuning) -> Tuning | None:
    return None if tuning == Tuning() else tuning


def same_kind(spec: Spec, text: str | None) -> Kind:
    """Given a schedule's spec and `--kind` as it was typed, return the kind; raise InputError if they differ."""
    kind = kind_of(spec)
    if text is not None and kind_named(text, scheduled=True) is not kind:
        raise InputError(f"--kind {text}: this schedule's kind is {kind}, and stays so; add another schedule")
    return kind
