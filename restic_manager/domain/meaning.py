"""What a spec means where it leaves something unsaid: whose snapshots, and whose retention.

Pure. A wish may leave open what the order that carries it says in full. Refuses to know who fills that in, and when.
"""

from __future__ import annotations

from msgspec.structs import replace

from restic_manager.domain.errors import InputError
from restic_manager.domain.model import Kind, Spec
from restic_manager.domain.specs import (
    CopySpec,
    DiffSpec,
    DumpSpec,
    ForgetSpec,
    InitSpec,
    LocksSpec,
    LsSpec,
    ProbeSpec,
    RestoreSpec,
    TagSpec,
    UnlockSpec,
    VerifySpec,
)

UNSCHEDULED = {
    Kind.INIT: "a repository is created once: create it with `restic-manager repo init`",
    Kind.LOCKS: "locks are looked at when somebody asks: `restic-manager repo locks`",
    Kind.PROBE: "whether hosts could delete is tried when somebody asks: `restic-manager repo probe`",
    Kind.DUMP: "one file is read when somebody wants it: `restic-manager restore --stdout`",
}
"""The kinds that no schedule has, and what to do instead."""


def asks_schedules(spec: Spec) -> bool:
    """Given a spec, return whether it is a forget that means what the schedules of its host say."""
    return isinstance(spec, ForgetSpec) and not spec.policies and not spec.snapshots


def aimed(spec: Spec, restic_host: str) -> Spec:
    """Given a spec and what its host is called in restic, return it with that host where it names nobody's snapshots.

    So the newest snapshot of a schedule that says nothing is the newest of the host that runs it.
    """
    if not isinstance(spec, VerifySpec | RestoreSpec | LsSpec | DiffSpec | TagSpec):
        return spec
    match spec:
        case DiffSpec():
            unsaid = spec.old is None and spec.new is None
        case TagSpec():
            unsaid = not spec.snapshots
        case _:
            unsaid = spec.snapshot is None
    if unsaid and spec.restic_host is None and spec.schedule_id is None:
        return replace(spec, restic_host=restic_host)
    return spec


def check_scheduled(spec: Spec, kind: Kind) -> None:
    """Given a spec for a schedule, raise InputError if no schedule can have it."""
    if isinstance(spec, InitSpec | LocksSpec | DumpSpec | ProbeSpec):
        raise InputError(f"{kind} cannot be scheduled: {UNSCHEDULED[kind]}")
    if isinstance(spec, UnlockSpec) and spec.remove_all:
        raise InputError("removing all locks, living ones too, is for a person to say: `restic-manager repo unlock`")
    if isinstance(spec, ForgetSpec) and spec.snapshots:
        raise InputError("a schedule cannot remove certain snapshots again and again: `restic-manager snapshot forget`")
    if isinstance(spec, RestoreSpec) and spec.target is not None and spec.overwrite is None:
        raise InputError(
            f"a schedule that restores to {spec.target} finds there what it has restored before: say what happens to"
            " that (--overwrite always, if-changed, if-newer or never)"
        )


def other_repo(spec: Spec) -> str | None:
    """Given a spec, return the second repository that it needs, None for none."""
    match spec:
        case CopySpec(from_repo=repo_id):
            return repo_id
        case InitSpec(chunker_from=chunker):
            return chunker
        case _:
            return None
