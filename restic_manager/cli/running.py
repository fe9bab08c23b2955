"""What `server` and `agent` have in common at the edge: how an end becomes an exit code.

Inside, errors travel in exception groups; this is the one place that takes them apart to say them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from restic_manager.cli import exits
from restic_manager.domain.errors import ManagerError

if TYPE_CHECKING:
    from restic_manager.runtime.redact import Redactor

LogLevelOption = Annotated[
    str | None,
    typer.Option(
        "--log-level", metavar="LEVEL", help="debug, info, warning or error. [default: info]", show_default=False
    ),
]


def start_log(level: str, *secrets: str | None) -> Redactor:
    """Given the log level, and secrets that must never be in a line, log to standard error from now on.

    Return what takes secrets out of every line, so that it can be told of more.
    """
    from restic_manager.runtime.logs import set_up_logging
    from restic_manager.runtime.redact import Redactor

    redactor = Redactor(secret for secret in secrets if secret)
    set_up_logging(level, redactor)
    return redactor


def run_until_stopped(work: Callable[[], object]) -> int:
    """Given a mode's whole life, live it, and return its exit code; raise ManagerError for an error that has a remedy.

    Any other error is a fault of ours: it is raised as it came, with its traceback.
    """
    try:
        code = work()
    except BaseExceptionGroup as group:
        known, rest = group.split(ManagerError)
        stopped, faults = (None, None) if rest is None else rest.split(KeyboardInterrupt)
        if faults is not None:
            raise
        if known is not None:
            raise next(_leaves(known)) from None
        if stopped is None:
            raise
        return exits.INTERRUPTED
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    return code if isinstance(code, int) else exits.DONE


def _leaves(group: BaseExceptionGroup[ManagerError]) -> Iterator[ManagerError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
