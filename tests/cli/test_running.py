"""The edge of `server` and `agent`: how the end of a nursery tree becomes an exit code or a line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from restic_manager.cli import exits
from restic_manager.cli.running import run_until_stopped
from restic_manager.domain.errors import RefusedError, StorageError


def raising(error: BaseException) -> Callable[[], object]:
    def work() -> object:
        raise error

    return work


@pytest.mark.parametrize(("answer", "code"), [(None, 0), (0, 0), (1, 1), ("text", 0)])
def test_an_end_in_order(answer: object, code: int) -> None:
    assert run_until_stopped(lambda: answer) == code


def test_an_error_with_a_remedy_is_found_however_deep_it_lies() -> None:
    refused = RefusedError("this host was removed", code="revoked")
    with pytest.raises(RefusedError) as caught:
        run_until_stopped(raising(ExceptionGroup("agent", [ExceptionGroup("session", [refused])])))
    assert caught.value is refused
    assert exits.of_error(caught.value) == 6
    with pytest.raises(StorageError):
        run_until_stopped(raising(StorageError("locked")))


def test_ctrl_c_is_130_alone_or_in_a_group() -> None:
    assert run_until_stopped(raising(KeyboardInterrupt())) == 130
    assert run_until_stopped(raising(BaseExceptionGroup("server", [KeyboardInterrupt()]))) == 130


def test_an_error_stopped_by_ctrl_c_is_still_told() -> None:
    with pytest.raises(StorageError):
        run_until_stopped(raising(BaseExceptionGroup("server", [KeyboardInterrupt(), StorageError("full")])))


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    group = ExceptionGroup("server", [StorageError("full"), ValueError("a bug")])
    with pytest.raises(ExceptionGroup) as caught:
        run_until_stopped(raising(group))
    assert caught.value is group
