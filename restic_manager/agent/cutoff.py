"""Runs that were cut off with their agent: what is kept to look them up, and the verdict that the look-up leads to.

A backup killed between saving its snapshot and reporting it has still made a snapshot. Decides what a found, a missing
and an unreachable snapshot mean; refuses to know queues and reports.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

import msgspec
import trio

from restic_manager.agent import records
from restic_manager.domain.errors import ManagerError
from restic_manager.domain.instants import duration_text
from restic_manager.domain.model import Failure, Outcome, Status
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


@dataclass(frozen=True)
class CutOff:
    """A run the process before left behind: its order, and the process that ran it, as far as that was noted."""

    key: records.JobKey
    order: CommandRun
    pid: int | None


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


async def look_up(restic: LooksUp, left: CutOff) -> Outcome:
    """Given a run that was cut off, return its verdict; a repository that is away is asked again for a while."""
    job_id = left.key.job_id
    with trio.move_on_after(LOOK_UP_FOR):
        attempt = 0
        while True:
            try:
                snapshot_id = await restic.look_up(left.order, left.pid)
            except ManagerError as error:
                pause = _PAUSES[min(attempt, len(_PAUSES) - 1)]
                said = f"whether it made its snapshot is not known yet: {error.message}"
                logger.warning("job %s: %s; asking again in %g s", job_id, said, pause)
            else:
                if snapshot_id is None:
                    return cut_off("it left no snapshot")
                logger.info("job %s was cut off after it had made snapshot %s", job_id, snapshot_id)
                return Outcome(status=Status.SUCCEEDED, snapshot_id=snapshot_id)
            await trio.sleep(pause)
            attempt += 1
    waited = duration_text(timedelta(seconds=LOOK_UP_FOR))
    return cut_off(f"its repository did not answer for {waited}, so whether it made its snapshot is not known")
