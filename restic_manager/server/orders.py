"""From a job's row to the `command.run` its host is sent. The only place on a job's way where secrets are opened."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime

from sqlalchemy import Connection

from restic_manager.domain import lifecycle
from restic_manager.domain.errors import ManagerError
from restic_manager.domain.model import Failure, RepoAccess, Status
from restic_manager.protocol.messages import CommandRun
from restic_manager.server.store import jobs, repos
from restic_manager.server.store.queue import Order
from restic_manager.server.store.ripple import Ripple

logger = logging.getLogger(__name__)

Unseal = Callable[[str, str, bytes], bytes]
"""Given owner, purpose and a sealed value, return the secret; raise StorageError if it does not open."""


def write_orders(
    tx: Connection, orders: Iterable[Order], *, unseal: Unseal, now: datetime, ripple: Ripple
) -> list[tuple[str, CommandRun]]:
    """Given jobs to send, return what their hosts are told.

    A job that was running is asked after, never started. A job whose repository's secrets do not open ends failed,
    with the reason: it could never be sent.
    """
    opened: dict[str, RepoAccess | ManagerError] = {}
    messages: list[tuple[str, CommandRun]] = []
    for order in orders:
        job = order.job
        access = opened.get(job.repo_id)
        if access is None:
            access = opened[job.repo_id] = _open(tx, job.repo_id, unseal)
        if isinstance(access, ManagerError):
            logger.error("job %s cannot be sent: %s", job.id, access.message)
            error = Failure(code="repo_secrets", message=f"the server cannot open the repository's secrets: {access}")
            step = lifecycle.apply_server_end(job.state, Status.FAILED, error, tell_host=job.slot is not None, now=now)
            jobs.settle(tx, job, step, now=now, ripple=ripple)
            continue
        command = CommandRun(
            job_id=job.id,
            spec=job.spec,
            repo=access,
            restic_host=order.restic_host,
            schedule_id=job.schedule_id,
            scheduled_at=job.slot,
            ordered_at=job.created_at,
            recover=job.status is Status.RUNNING,
        )
        messages.append((job.host_id, command))
    return messages


def _open(tx: Connection, repo_id: str, unseal: Unseal) -> RepoAccess | ManagerError:
    try:
        return repos.access(tx, repo_id, unseal)
    except ManagerError as error:
        return error
