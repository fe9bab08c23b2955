"""Which wishes need which restic: ONE table, and what an older one does instead or why it refuses.

Pure. A refusal names the version needed. Refuses to know the flags (that is `restic.command` and `restic.commands`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from restic_manager.domain.specs import BackupSpec, CheckSpec, RestoreSpec, Spec, UnlockSpec
from restic_manager.restic.version import Feature, ResticUnusableError, Version


@dataclass(frozen=True, slots=True)
class Gate:
    """One wish: in which words, since which release, who wants it, and what older releases do instead (None: refused).

    told: whether the run's log says it (what only changes how we ask goes without saying).
    """

    what: str
    feature: Feature
    wanted: Callable[[Spec], bool]
    instead: str | None = None
    told: bool = True


GATES: Final[tuple[Gate, ...]] = (
    Gate(
        "a restore's dry run",
        Feature.RESTORE_CHOICES,
        lambda spec: isinstance(spec, RestoreSpec) and spec.dry_run,
    ),
    Gate(
        "a restore that deletes what the snapshot does not have",
        Feature.RESTORE_CHOICES,
        lambda spec: isinstance(spec, RestoreSpec) and spec.delete,
    ),
    Gate(
        "a restore that leaves some of the files that are there (overwrite if-changed, if-newer, never)",
        Feature.RESTORE_CHOICES,
        lambda spec: isinstance(spec, RestoreSpec) and spec.overwrite not in {None, "always"},
    ),
    Gate(
        "skipping the snapshot when nothing has changed",
        Feature.SKIP_IF_UNCHANGED,
        lambda spec: isinstance(spec, BackupSpec) and spec.skip_if_unchanged,
        "a snapshot is made all the same",
    ),
    Gate(
        "saving what a command writes",
        Feature.STDIN_COMMAND,
        lambda spec: isinstance(spec, BackupSpec) and spec.stdin_command is not None,
    ),
    Gate(
        "reading several files at once",
        Feature.READ_CONCURRENCY,
        lambda spec: (
            isinstance(spec, BackupSpec) and spec.tuning is not None and spec.tuning.read_concurrency is not None
        ),
        "two files are read at once",
    ),
    Gate(
        "a restore's progress and numbers",
        Feature.JSON_RESTORE,
        lambda spec: isinstance(spec, RestoreSpec),
        "it says nothing until it ends, and then only whether it went well",
    ),
    Gate(
        "waiting for a lock in restic itself",
        Feature.RETRY_LOCK,
        lambda spec: not isinstance(spec, UnlockSpec),
        "we try again ourselves until the time is over",
        told=False,
    ),
    Gate(
        "a check's findings as data",
        Feature.JSON_CHECK,
        lambda spec: isinstance(spec, CheckSpec),
        "they are read from its text",
        told=False,
    ),
)
"""Everything a spec can wish that not every release from the floor on has."""


def pass_gates(spec: Spec, version: Version) -> tuple[str, ...]:
    """Given a spec and this host's release, return what goes differently for it, each in a sentence.

    Raise ResticUnusableError (restic_too_old), naming the version needed, if it cannot be done at all.
    """
    different = []
    for gate in GATES:
        if version.has(gate.feature) or not gate.wanted(spec):
            continue
        needs = f"{gate.what} needs restic {gate.feature.since} or newer, this host has {version}"
        if gate.instead is None:
            raise ResticUnusableError(f"{needs}", code="restic_too_old")
        if gate.told:
            different.append(f"{needs}: {gate.instead}")
    return tuple(different)
