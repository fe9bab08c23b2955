"""Hooks round a job: programs of the host's own, found by name, run in order, each within its time.

Owns when which of them runs, what it is told (the job's facts, in an environment of its own that holds no secret) and
what its end means for the job. Whether they may run at all has been decided before. Refuses to know what carries the
job out.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio
from msgspec.structs import replace

from restic_manager.agent import executables
from restic_manager.agent.joblog import Stream
from restic_manager.domain.errors import ManagerError
from restic_manager.domain.hooks import Hooks, Phase
from restic_manager.domain.instants import slot_text
from restic_manager.domain.model import Failure, Outcome, Status, kind_of
from restic_manager.domain.pathtext import path_to_text
from restic_manager.domain.policy import place_of
from restic_manager.protocol.messages import CommandRun
from restic_manager.restic.command import Command, clean_environment
from restic_manager.restic.output import Redact
from restic_manager.restic.process import Patience, describe, run_process
from restic_manager.restic.redact import redactor
from restic_manager.runtime.redact import Redactor

logger = logging.getLogger(__name__)

OnLines = Callable[[Stream, Sequence[str]], Awaitable[None]]

CUT_OFF_WITHIN: Final = 20.0
"""Seconds for all hooks that always run, when everything around is being cancelled."""
ENDING: Final = 10.0
"""Seconds from asking a hook to end to killing it, and all it has started."""
_LONGEST_LINE: Final = 4_000
_VARIABLE: Final = "RESTIC_MANAGER_"


@dataclass(frozen=True, slots=True)
class _Trouble:
    """A hook that did not do its part, in words. stopped: because the job was to end."""

    said: str
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class _Hook:
    """One program, when it runs, and how many seconds it may take."""

    name: str
    phase: Phase
    time_limit: int


class HookRunner:
    """Runs the hooks of this host's folder."""

    def __init__(self, folder: Path, data_dir: Path, *, redactor: Redactor | None = None) -> None:
        """data_dir: told to each hook, so that it can find what it keeps there. redactor: knows the secrets that were
        looked up on this host, which no order tells of.
        """
        self._folder = folder
        self._data_dir = data_dir
        self._redactor = redactor or Redactor()

    async def around(
        self,
        order: CommandRun,
        hooks: Hooks,
        carry_out: Callable[[], Awaitable[Outcome]],
        *,
        on_lines: OnLines,
        stop: trio.Event,
    ) -> Outcome:
        """Given a job and its hooks, run it with them and return the outcome.

        What always runs does so too when this is cancelled: then as long as CUT_OFF_WITHIN allows.
        """
        running = functools.partial(self._run_all, order, hooks, on_lines=on_lines)
        outcome: Outcome | None = None
        try:
            outcome = await self._until_finally(order, hooks, carry_out, on_lines=on_lines, stop=stop)
        finally:
            if hooks.finally_:
                ended = Outcome(status=Status.INTERRUPTED) if outcome is None else outcome
                # Shielded, because what a hook undoes has to be undone; and bounded, because agents do stop.
                within = CUT_OFF_WITHIN if outcome is None else len(hooks.finally_) * (hooks.time_limit + ENDING)
                with trio.move_on_after(within, shield=True):
                    trouble = await running(Phase.FINALLY, ended)
                    outcome = None if outcome is None else _with_trouble(outcome, trouble)
        return outcome

    async def clean_up(self, order: CommandRun, hooks: Hooks) -> None:
        """Given a job that was cut off with the agent before this one, run the hooks that always run. Never raises
        for what they do: it is told in the agent's log.
        """

        async def tell(_stream: Stream, lines: Sequence[str]) -> None:
            for line in lines:
                logger.info("job %s: %s", order.job_id, line)

        trouble = await self._run_all(order, hooks, Phase.FINALLY, Outcome(status=Status.INTERRUPTED), on_lines=tell)
        if trouble is not None:
            logger.warning("job %s: %s", order.job_id, trouble.said)

    async def _until_finally(
        self,
        order: CommandRun,
        hooks: Hooks,
        carry_out: Callable[[], Awaitable[Outcome]],
        *,
        on_lines: OnLines,
        stop: trio.Event,
    ) -> Outcome:
        trouble = await self._run_all(order, hooks, Phase.BEFORE, None, on_lines=on_lines, stop=stop)
        if trouble is None:
            outcome = await carry_out()
        elif trouble.stopped:
            return Outcome(
                status=Status.CANCELLED, error=Failure(code="cancelled", message=f"{trouble.said}; nothing was started")
            )
        else:
            failure = Failure(code="hook_failed", message=f"{trouble.said}, so nothing was started")
            outcome = Outcome(status=Status.FAILED, error=failure)
        phase = {
            Status.SUCCEEDED: Phase.AFTER,
            Status.WARNING: Phase.AFTER,
            Status.FAILED: Phase.ON_FAILURE,
        }.get(outcome.status)
        if phase is not None:
            outcome = _with_trouble(
                outcome, await self._run_all(order, hooks, phase, outcome, on_lines=on_lines, stop=stop)
            )
        return outcome

    async def _run_all(
        self,
        order: CommandRun,
        hooks: Hooks,
        phase: Phase,
        outcome: Outcome | None,
        *,
        on_lines: OnLines,
        stop: trio.Event | None = None,
    ) -> _Trouble | None:
        """Run a phase's hooks in order. One that fails ends `before`; the others go on: each may undo something."""
        trouble: _Trouble | None = None
        for name in hooks.of(phase):
            hook = _Hook(name, phase, hooks.time_limit)
            facts = self._environment(order, phase, outcome)
            now = await self._run(hook, facts, self._redact(order), on_lines, trio.Event() if stop is None else stop)
            trouble = trouble or now
            if now is not None and (phase is Phase.BEFORE or now.stopped):
                break
        return trouble

    def _redact(self, order: CommandRun) -> Redact:
        orders = redactor(*(repo for repo in (order.repo, order.source) if repo is not None))
        return lambda text: self._redactor.text(orders(text))

    async def _run(
        self,
        hook: _Hook,
        environment: Mapping[str, str],
        redact: Redact,
        on_lines: OnLines,
        stop: trio.Event,
    ) -> _Trouble | None:
        said = f"hook {hook.name} ({hook.phase})"

        async def take(_stream: object, raw: list[bytes]) -> None:
            lines = [f"{said}: {redact(path_to_text(line[:_LONGEST_LINE]))}" for line in raw]
            await on_lines("agent", lines)

        async def tell(trouble: str) -> _Trouble:
            await on_lines("agent", [redact(trouble)])
            return _Trouble(redact(trouble), stopped=stop.is_set())

        bell = trio.Event()
        try:
            path = await trio.to_thread.run_sync(executables.find, self._folder, hook.name)
            command = Command((os.fsencode(path),), environment)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_ring_on, stop, bell, name="hook stop")
                nursery.start_soon(_ring_after, hook.time_limit, bell, name="hook time limit")
                end = await run_process(
                    command, on_lines=take, stop=bell, stop_signal=signal.SIGTERM, patience=Patience(stop=ENDING)
                )
                nursery.cancel_scope.cancel()
        except ManagerError as error:
            return await tell(f"{said} did not run: {error.message}")
        if end.stopped and stop.is_set():
            return await tell(f"{said} was ended with the job")
        if end.stopped:
            return await tell(f"{said} took more than {hook.time_limit} s and was ended")
        if end.code != 0:
            return await tell(f"{said} failed ({describe(end)})")
        return None

    def _environment(self, order: CommandRun, phase: Phase, outcome: Outcome | None) -> dict[str, str]:
        """Return what a hook is told. Whatever the server could have made up stands in values alone."""
        facts = {
            "JOB_ID": order.job_id,
            "KIND": kind_of(order.spec).value,
            "SCHEDULE": order.schedule_id or "",
            "SLOT": "" if order.scheduled_at is None else slot_text(order.scheduled_at),
            "HOST": order.restic_host,
            "REPO": place_of(order.repo.url, order.repo.env),
            "PHASE": phase.value,
            "STATUS": "" if outcome is None else outcome.status.value,
            "SNAPSHOT": "" if outcome is None else outcome.snapshot_id or "",
            "ERROR": "" if outcome is None or outcome.error is None else outcome.error.code,
            "DATA_DIR": str(self._data_dir),
        }
        told = {f"{_VARIABLE}{name}": "".join(c for c in value if c.isprintable()) for name, value in facts.items()}
        return clean_environment(os.environ) | told


async def _ring_on(stop: trio.Event, bell: trio.Event) -> None:
    await stop.wait()
    bell.set()


async def _ring_after(seconds: float, bell: trio.Event) -> None:
    await trio.sleep(seconds)
    bell.set()


def _with_trouble(outcome: Outcome, trouble: _Trouble | None) -> Outcome:
    """Given an outcome and what went wrong with a hook afterwards, return the outcome that tells of it."""
    if trouble is None:
        return outcome
    failure = Failure(code="hook_failed", message=f"the job itself ended well, but {trouble.said}")
    if outcome.status is Status.SUCCEEDED:
        return replace(outcome, status=Status.WARNING, error=failure)
    if outcome.error is None:
        return replace(outcome, error=failure)
    return replace(outcome, error=replace(outcome.error, message=f"{outcome.error.message}; {trouble.said}"[:8_000]))
