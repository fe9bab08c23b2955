"""Exit codes: what a script learns from a command without reading a word.

Decides the one mapping from an error's code, or a job's status, to an exit code. It refuses to know how anything is
said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from restic_manager.domain.errors import ManagerError
from restic_manager.domain.model import Status

if TYPE_CHECKING:
    from restic_manager.protocol.api import JobView

DONE: Final = 0
FAILED: Final = 1
"""It failed, was cancelled or was interrupted; also what we could not do or find out."""
USAGE: Final = 2
"""Wrong usage or input: the same command again will be refused again."""
WARNING: Final = 3
NOT_FOUND: Final = 4
UNREACHABLE: Final = 5
NOT_PERMITTED: Final = 6
INTERRUPTED: Final = 130
"""Ctrl-C here. What was started on the hosts goes on."""

USAGE_CODE: Final = "usage"
"""The error code of a command line that is wrong before anything was tried."""

BY_CODE: Final[dict[str, int]] = {
    USAGE_CODE: USAGE,
    "invalid_input": USAGE,
    "bad_schedule": USAGE,
    "bad_policy": USAGE,
    "bad_token": NOT_PERMITTED,
    # A name in use, a job already over: well formed, but to be changed before it can work.
    "conflict": USAGE,
    "not_found": NOT_FOUND,
    "server_unreachable": UNREACHABLE,
    "server_untrusted": UNREACHABLE,
    "not_permitted": NOT_PERMITTED,
    "refused": NOT_PERMITTED,
    "interrupted": INTERRUPTED,
}
"""The exit code of each error code. One that is not here counts as its class's own (`revoked`: `refused`), else 1."""

_BY_STATUS: Final[dict[Status, int]] = {
    Status.SUCCEEDED: DONE,
    Status.WARNING: WARNING,
    Status.FAILED: FAILED,
    Status.CANCELLED: FAILED,
    Status.INTERRUPTED: FAILED,
}
_WORST_FIRST: Final = (INTERRUPTED, FAILED, USAGE, UNREACHABLE, WARNING, DONE)
_WISHES: Final = frozenset(
    {"restore_target", "nothing_restored", "snapshot_missing", "path_missing", "not_a_file", "file_too_large"}
    | {"invalid_input", "restic_too_old", "no_retention"}
)
"""The codes of failures that only the host could find in what was asked for. Nothing was changed, nor ever will be."""


def of_error(error: ManagerError) -> int:
    """Given an error, return the exit code it stands for."""
    return BY_CODE.get(error.code, BY_CODE.get(error.default_code, FAILED))


def of_status(status: Status) -> int:
    """Given how a job ended, return the exit code; a job that has not ended yet was at least taken (0)."""
    return _BY_STATUS.get(status, DONE)


def of_job(job: JobView) -> int:
    """Given a job, return the exit code; a wish of an operator's that cannot be done as it is counts as wrong input."""
    wrong = job.status is Status.FAILED and job.error is not None and job.error.code in _WISHES
    return USAGE if wrong and job.schedule is None else of_status(job.status)


def worst(codes: list[int]) -> int:
    """Given the exit codes of several jobs, return the one to report: a failure before a warning before success."""
    return min(codes, key=_WORST_FIRST.index, default=DONE)
