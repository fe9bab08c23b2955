"""Hooks as a schedule names them: programs of the host's own, run round a job. Never shell text, never arguments.

Pure. What a host lets be run is `domain.policy`; refuses to know where the programs are.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, Struct, field

from restic_manager.domain.errors import InputError

PROGRAM_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
ProgramName = Annotated[str, Meta(max_length=64, pattern=PROGRAM_NAME)]
"""A program in a folder of the host's: plain, so that it can be neither a path nor an option."""
ProgramNames = Annotated[tuple[ProgramName, ...], Meta(max_length=20)]
HOOK_TIME: Final = 600
"""Seconds one hook may take unless the schedule says otherwise."""


class Phase(StrEnum):
    """When a hook runs."""

    BEFORE = "before"
    AFTER = "after"
    ON_FAILURE = "on-failure"
    FINALLY = "finally"


class Hooks(Struct, frozen=True, kw_only=True):
    """Which programs run round a job, each in order. time_limit: seconds that one of them may take.

    before: the first that fails ends the job. after: when it succeeded, with warnings or without. on_failure: when it
    failed. finally: always, also when it was cancelled or cut off.
    """

    before: ProgramNames = ()
    after: ProgramNames = ()
    on_failure: ProgramNames = ()
    finally_: ProgramNames = field(name="finally", default=())
    time_limit: Annotated[int, Meta(ge=1, le=86_400)] = HOOK_TIME

    def of(self, phase: Phase) -> tuple[str, ...]:
        """Given a phase, return its hooks in order."""
        match phase:
            case Phase.BEFORE:
                return self.before
            case Phase.AFTER:
                return self.after
            case Phase.ON_FAILURE:
                return self.on_failure
            case Phase.FINALLY:
                return self.finally_

    @property
    def names(self) -> tuple[str, ...]:
        """Every program named, once."""
        return tuple(dict.fromkeys(name for phase in Phase for name in self.of(phase)))


def check_program_name(name: str) -> None:
    """Given a program's name as it was typed, raise InputError if it is none."""
    if re.fullmatch(PROGRAM_NAME, name) is None or name.endswith("\n"):
        raise InputError(
            f"{name[:80]!r} is no program's name: letters, digits, dots, dashes and underscores, at most 64, beginning "
            "with a letter or digit. The program itself is put on each host by its administrator"
        )
