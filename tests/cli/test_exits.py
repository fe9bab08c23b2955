"""Exit codes: the table of the design, as a script meets it."""

from __future__ import annotations

import pytest

from restic_manager.cli import exits
from restic_manager.domain.cron import CronError
from restic_manager.domain.errors import (
    ConflictError,
    InputError,
    ManagerError,
    NotFoundError,
    NotPermittedError,
    RefusedError,
    StorageError,
    UnreachableError,
)
from restic_manager.domain.model import Failure, Status
from tests.cli import samples


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("x"), 2),
        (InputError("x", code="usage"), 2),
        (InputError("x", code="too_large"), 2),
        (CronError("x"), 2),
        (ConflictError("x"), 2),
        (NotFoundError("x"), 4),
        (UnreachableError("x"), 5),
        (NotPermittedError("x"), 6),
        (RefusedError("x"), 6),
        (RefusedError("x", code="revoked"), 6),
        (StorageError("x"), 1),
        (StorageError("x", code="storage_locked"), 1),
        (ManagerError("x"), 1),
        (ManagerError("x", code="from_a_later_server"), 1),
        (ManagerError("x", code="not_found"), 4),
    ],
)
def test_every_error_has_its_exit_code(error: ManagerError, code: int) -> None:
    assert exits.of_error(error) == code


def test_every_status_has_its_exit_code() -> None:
    assert {status: exits.of_status(status) for status in Status} == {
        Status.QUEUED: 0,
        Status.RUNNING: 0,
        Status.SUCCEEDED: 0,
        Status.WARNING: 3,
        Status.FAILED: 1,
        Status.CANCELLED: 1,
        Status.INTERRUPTED: 1,
    }


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [("restore_target", 2), ("restic_too_old", 2), ("snapshot_missing", 2), ("no_space", 1), ("network", 1)],
)
def test_what_only_the_host_could_find_wrong_is_wrong_input(code: str, exit_code: int) -> None:
    error = Failure(code=code, message="x")
    wish = samples.job(Status.FAILED, schedule=None, error=error)
    assert exits.of_job(wish) == exit_code
    assert exits.of_job(samples.job(Status.FAILED, schedule="nightly", error=error)) == 1
    assert exits.of_job(samples.job(Status.WARNING, schedule=None, error=error)) == 3


@pytest.mark.parametrize(
    ("codes", "worst"),
    [([], 0), ([0, 0], 0), ([0, 3], 3), ([3, 1, 0], 1), ([0, 130, 1], 130), ([0, 2, 3], 2), ([2, 1], 1)],
)
def test_the_worst_of_several_is_reported(codes: list[int], worst: int) -> None:
    assert exits.worst(codes) == worst
