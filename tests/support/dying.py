"""Run the program, and kill the process dead at one exact point of it:

python -m tests.support.dying MODULE:NAME:before|after:N -- agent --server …

NAME (a function, or Class.method) is looked up in that module, so that where it is used is where it is caught. The N-th
call of it is the last thing that happens: SIGKILL, before it began or after it returned; nothing is cleaned up.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import signal
import sys
from collections.abc import Callable
from typing import Any


def arm(point: str) -> None:
    """Given a point, have this process die there."""
    module, name, moment, count = point.split(":")
    holder: Any = importlib.import_module(module)
    *path, last = name.split(".")
    for part in path:
        holder = getattr(holder, part)
    setattr(holder, last, dying(getattr(holder, last), moment == "before", int(count)))


def dying(call: Callable[..., Any], before: bool, count: int) -> Callable[..., Any]:
    """Given a function, return one that kills the process at its `count`-th call."""
    left = count

    def reached(*, at_start: bool) -> None:
        nonlocal left
        if at_start:
            left -= 1
        if left == 0 and at_start is before:
            os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(call)
    def plain(*args: Any, **named: Any) -> Any:
        reached(at_start=True)
        answer = call(*args, **named)
        reached(at_start=False)
        return answer

    @functools.wraps(call)
    async def waiting(*args: Any, **named: Any) -> Any:
        reached(at_start=True)
        answer = await call(*args, **named)
        reached(at_start=False)
        return answer

    return waiting if inspect.iscoroutinefunction(call) else plain


if __name__ == "__main__":
    arm(sys.argv[1])
    from restic_manager.cli.main import run

    run(sys.argv[3:])
