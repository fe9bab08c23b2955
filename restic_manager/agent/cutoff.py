"""Runs that were cut off with their agent: what is kept to look them up, and the verdict that the look-up leads to.

A backup killed between saving its snapshot and reporting it has still made a snapshot. Where this agent keeps nothing
to ask its repository with, the verdict waits for the server, which gives the access: nobody says `interrupted` of a run
that may have done its work. Decides what a found, a missing and an unreachable snapshot mean; refuses to know queues
and how a verdict is told.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol

import msgspec
import trio

from restic_manager.agent import records
from restic_manager.agent.journal import insist
from restic_manager.domain.errors import ManagerError, NotPermittedError
from restic_manager.domain.instants import duration_text
from restic_manager.domain.model import Failure, Kind, Outcome, Status, kind_of
from restic_manager.protocol.messages import CommandRun

logger = logging.getLogger(__name__)

LOOK_UP_FOR: Final = 3_600.0
"""Seconds for which an unreachable repository is asked again before the run counts as interrupted."""
_PAUSES: Final = (15.0, 30.0, 60.0, 120.0, 300.0)
_PURPOSE: Final = "running-job"


class Sealing(Protocol):
    """What seals and opens values in the journal (`restic_manager.secrets.Sealer`)."""

    def seal(self, owner_id: str, purpose: str, plaintext: bytes) -> bytes:
        """Given a secret and whose it is, return it sealed."""

    def unseal(self, owner_id: str, purpose: str, sealed: bytes) -> bytes:
        """Given a sealed value and whose it is, return the secret."""


class LooksUp(Protocol):
    """What asks a repository for a job's snapshot."""

    async def look_up(self, order: CommandRun, pid: int | None) -> str | None:
        """Given an order whose restic is gone, return the snapshot it made; raise ManagerError if it cannot be told."""


@dataclass(eq=False)
class CutOff:
    """A run the process before left behind, and the process that ran it, as far as that was noted.

    order: what to look it up with; None while the server is waited for. told: its verdict, where there is none to be
    found out. decided: set with either of them. stop: somebody wants it ended.
    """

    key: records.JobKey
    pid: int | None
    order: CommandRun | None
    told: Outcome | None = None
    decided: trio.Event = field(default_factory=trio.Event)
    stop: trio.Event = field(default_factory=trio.Event)


class Vault:
    """Keeps the orders of running jobs sealed in the journal, so that a restarted agent may open their repository."""

    def __init__(self, sealing: Sealing) -> None:
        self._sealing = sealing

    def seal_order(self, order: CommandRun) -> bytes:
        """Given an order that is about to run, return it sealed."""
        return self._sealing.seal(order.job_id, _PURPOSE, msgspec.json.encode(order))

    def open_order(self, record: records.JobRecord) -> CommandRun | None:
        """Given the record of a run that was cut off, return its order; None where it was not kept or does not open."""
        if record.sealed is None:
            return None
        job_id = record.key.job_id
        try:
            return msgspec.json.decode(self._sealing.unseal(job_id, _PURPOSE, record.sealed), type=CommandRun)
        except (ManagerError, msgspec.DecodeError) as error:
            logger.warning("job %s: what is needed to look it up does not open: %s", job_id, error)
            return None


def cut_off(why: str | None) -> Outcome:
    """Given why nothing more could be found out (None: nothing was kept to ask with), return the verdict."""
    said = "the agent stopped while this job ran"
    return Outcome(
        status=Status.INTERRUPTED,
        error=Failure(code="agent_stopped", message=f"{said}; {why or 'how far restic came is not known'}"),
    )


def _cancelled(why: str) -> Outcome:
    message = f"cancelled, after the agent had stopped while this job ran; {why}"
    return Outcome(status=Status.CANCELLED, error=Failure(code="cancelled", message=message))


class CutOffs:
    """The runs the process before left behind, each until it has its verdict. `start` it once all are added."""

    def __init__(self, restic: LooksUp, *, finish: Callable[[records.JobKey, Outcome], Awaitable[None]]) -> None:
        """finish: commits a verdict; StorageError makes it be asked again."""
        self._restic = restic
        self._finish = finish
        self._left: dict[str, CutOff] = {}

    def add(self, record: records.JobRecord, order: CommandRun | None) -> None:
        """Given a run that was cut off, and its order if that was kept, take it."""
        self._left[record.key.job_id] = left = CutOff(record.key, record.pid, order)
        if order is not None:
            left.decided.set()

    def start(self, nursery: trio.Nursery) -> None:
        """Find out about each, in a task of the nursery."""
        for left in list(self._left.values()):
            nursery.start_soon(self._settle, left, name=f"look-up {left.key.job_id[:8]}")

    def __contains__(self, job_id: object) -> bool:
        """Return whether this job is one of them."""
        return job_id in self._left

    def asking(self) -> frozenset[str]:
        """Return the ids of those for which the server is asked for access."""
        return frozenset(left.key.job_id for left in self._waiting())

    def access(self, order: CommandRun) -> None:
        """The server has given the access to one of them, if it is: it is looked up now, and never started."""
        left = self._left.get(order.job_id)
        if left is not None and not left.decided.is_set():
            left.order = order
            left.decided.set()

    def no_access(self, job_id: str, why: str) -> None:
        """The server says that there is no access to be had for this job."""
        left = self._left.get(job_id)
        if left is not None:
            _tell(left, cut_off(f"whether it made its snapshot is not known: {why or 'the server gives no access'}"))

    def ask_nobody(self) -> None:
        """The server is one that gives no access."""
        for left in self._waiting():
            _tell(left, cut_off(None))

    def cancel(self, job_id: str) -> None:
        """Somebody wants this job ended: what is known at once, or by the question that is being asked, is its end."""
        left = self._left[job_id]
        left.stop.set()
        _tell(left, _cancelled("whether it made its snapshot was not asked"))

    def _waiting(self) -> list[CutOff]:
        return [left for left in self._left.values() if not left.decided.is_set()]

    async def _settle(self, left: CutOff) -> None:
        await left.decided.wait()
        outcome = left.told
        if outcome is None and left.order is not None:
            outcome = await look_up(self._restic, left.order, left.pid, stop=left.stop)
        verdict = outcome or cut_off(None)
        await insist(f"the verdict of job {left.key.job_id}", lambda: self._finish(left.key, verdict))
        del self._left[left.key.job_id]


def _tell(left: CutOff, outcome: Outcome) -> None:
    if not left.decided.is_set():
        left.told = outcome
        left.decided.set()


async def look_up(restic: LooksUp, order: CommandRun, pid: int | None, *, stop: trio.Event) -> Outcome:
    """Given the order of a run that was cut off, return its verdict; a repository that is away is asked again for a
    while, unless `stop` says that nobody wants to know any more.
    """
    job_id = order.job_id
    if kind_of(order.spec) is not Kind.BACKUP:
        return cut_off(None)  # no snapshot tells how far it came
    with trio.move_on_after(LOOK_UP_FOR):
        attempt = 0
        while True:
            try:
                snapshot_id = await restic.look_up(order, pid)
            except NotPermittedError as error:
                return cut_off(f"whether it made its snapshot may not be asked: {error.message}")
            except ManagerError as error:
                pause = _PAUSES[min(attempt, len(_PAUSES) - 1)]
                said = f"whether it made its snapshot is not known yet: {error.message}"
                logger.warning("job %s: %s; asking again in %g s", job_id, said, pause)
            else:
                if snapshot_id is not None:
                    logger.info("job %s was cut off after it had made snapshot %s", job_id, snapshot_id)
                    return Outcome(status=Status.SUCCEEDED, snapshot_id=snapshot_id)
                none = "it left no snapshot"
                return _cancelled(none) if stop.is_set() else cut_off(none)
            with trio.move_on_after(pause):
                await stop.wait()
                return _cancelled(f"its repository does not answer, so {said.partition(':')[0]}")
            attempt += 1
    waited = duration_text(timedelta(seconds=LOOK_UP_FOR))
    return cut_off(f"its repository did not answer for {waited}, so whether it made its snapshot is not known")
