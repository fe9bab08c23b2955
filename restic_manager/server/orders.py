"""From a job's row to the `command.run` its host is sent. The only place on a job's way where secrets are opened."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from restic_manager.domain import lifecycle
from restic_manager.domain.errors import ManagerError, NotFoundError
from restic_manager.domain.model import Failure, RepoAccess, Status
from restic_manager.protocol.messages import CommandRun
from restic_manager.server.store import jobs, repos
from restic_manager.server.store.job_rows import JobRow
from restic_manager.server.store.queue import Order
from restic_manager.server.store.ripple import Ripple

logger = logging.getLogger(__name__)

Unseal = Callable[[str, str, bytes], bytes]
"""Given owner, purpose and a sealed value, return the secret; raise StorageError if it does not open."""


class Written(NamedTuple):
    """What hosts are told, by host; and jobs that cannot be sent because their repository cannot be opened."""

    messages: list[tuple[str, CommandRun]]
    shut: list[tuple[JobRow, ManagerError]]


def write_orders(tx: Connection, orders: Iterable[Order], *, unseal: Unseal, recover: bool = False) -> Written:
    """Given jobs to send, return what their hosts are told. A job that was running is asked after, never started.

    recover: that holds for all of them, whatever has been heard of them here.
    """
    opened: dict[str, RepoAccess | ManagerError] = {}
    written = Written([], [])
    for order in orders:
        job = order.job
        access = opened.get(job.repo_id)
        if access is None:
            access = opened[job.repo_id] = _open(tx, job.repo_id, unseal)
        if isinstance(access, ManagerError):
            logger.error("job %s cannot be sent: %s", job.id, access.message)
            written.shut.append((job, access))
            continue
        command = CommandRun(
            job_id=job.id,
            spec=job.spec,
            repo=access,
            restic_host=order.restic_host,
            limits=job.limits,
            schedule_id=job.schedule_id,
            scheduled_at=job.slot,
            ordered_at=job.created_at,
            recover=recover or job.status is Status.RUNNING,
        )
        written.messages.append((job.host_id, command))
    return written


def end_shut(tx: Connection, written: Written, *, now: datetime, ripple: Ripple) -> None:
    """Given what could not be sent, end it failed with the reason: no host could ever run it."""
    for job, why in written.shut:
        error = Failure(code="repo_secrets", message=f"the server cannot open the repository's secrets: {why.message}")
        step = lifecycle.apply_server_end(job.state, Status.FAILED, error, tell_host=job.slot is not None, now=now)
        jobs.settle(tx, job, step, now=now, ripple=ripple)


def _open(tx: Connection, repo_id: str, unseal: Unseal) -> RepoAccess | ManagerError:
    try:
        return repos.access(tx, repo_id, unseal)
    except ManagerError as error:
        return error
    except KeyError:
        return NotFoundError("they are not there any more: the repository was removed")
