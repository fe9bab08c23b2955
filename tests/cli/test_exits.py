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
from restic_manager.domain.model import Status


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


@pytest.mark.parametrize(("codes", "worst"), [([], 0), ([0, 0], 0), ([0, 3], 3), ([3, 1, 0], 1), ([0, 130, 1], 130)])
def test_the_worst_of_several_is_reported(codes: list[int], worst: int) -> None:
    assert exits.worst(codes) == worst
