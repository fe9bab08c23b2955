"""From a job's row to the `command.run` its host is sent. The only place on a job's way where secrets are opened."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final, NamedTuple

from msgspec.structs import replace
from sqlalchemy import Connection

from restic_manager.domain import lifecycle
from restic_manager.domain.errors import ManagerError, NotFoundError, StorageError
from restic_manager.domain.lock_waits import with_lock_wait
from restic_manager.domain.meaning import other_repo
from restic_manager.domain.model import Failure, Kind, RepoAccess, Status
from restic_manager.domain.specs import needs_programs
from restic_manager.protocol.messages import CAP_HOOKS, CAP_KINDS, CommandRun
from restic_manager.restic.checks import check_source
from restic_manager.server.store import filling, hosts, job_rows, jobs, repos, schedules
from restic_manager.server.store.job_rows import JobRow
from restic_manager.server.store.queue import Order
from restic_manager.server.store.ripple import Ripple

logger = logging.getLogger(__name__)

_SECRETS: Final = "repo_secrets"
"""The code of a job whose repository the server cannot open."""
_EVERY_AGENT: Final = frozenset({Kind.BACKUP, Kind.INIT})
"""The kinds that agents have always known."""

Unseal = Callable[[str, str, bytes], bytes]
"""Given owner, purpose and a sealed value, return the secret; raise StorageError if it does not open."""


class Written(NamedTuple):
    """What hosts are told, by host; and jobs that cannot be sent, each with why."""

    messages: list[tuple[str, CommandRun]]
    unsent: list[tuple[JobRow, Failure]]


def fill_orders(tx: Connection, orders: Iterable[Order]) -> tuple[list[Order], list[tuple[JobRow, Failure]]]:
    """Given jobs to send for the first time, fill in what they leave open and store it; return them, and those that
    cannot be filled, each with why.
    """
    filled: list[Order] = []
    unfilled: list[tuple[JobRow, Failure]] = []
    for order in orders:
        job = order.job
        if job.kind not in _EVERY_AGENT and not hosts.has_capability(tx, job.host_id, CAP_KINDS):
            message = f"the agent of this host knows backup and init only, no {job.kind}: update restic-manager there"
            unfilled.append((job, Failure(code="agent_too_old", message=message)))
            continue
        needs = needs_programs(job.spec) or schedules.hooks_of(tx, job.schedule_id, job.kind) is not None
        if needs and not hosts.has_capability(tx, job.host_id, CAP_HOOKS):
            message = "the agent of this host runs no hooks and saves no command's output: update restic-manager there"
            unfilled.append((job, Failure(code="agent_too_old", message=message)))
            continue
        try:
            spec = filling.fill(tx, job, order.restic_host)
        except ManagerError as error:
            unfilled.append((job, Failure(code=error.code, message=error.message)))
            continue
        if spec != job.spec:
            job_rows.respec(tx, job.id, spec)
            order = Order(replace(job, spec=spec), order.restic_host)  # noqa: PLW2901 - the same order, in full
        filled.append(order)
    return filled, unfilled


def write_orders(tx: Connection, orders: Iterable[Order], *, unseal: Unseal, recover: bool = False) -> Written:
    """Given jobs to send, return what their hosts are told. A job that was running is asked after, never started.

    recover: that holds for all of them, whatever has been heard of them here.
    """
    opener = _Opener(tx, unseal)
    written = Written([], [])
    for order in orders:
        job = order.job
        try:
            access = opener.open(job.repo_id, host_id=job.host_id, kind=job.kind)
            other = other_repo(job.spec)
            source = None if other is None else opener.open(other)
            check_source(job.spec, access, source)
        except ManagerError as error:
            logger.error("job %s cannot be sent: %s", job.id, error.message)  # noqa: TRY400 - told, and no trace of ours
            written.unsent.append((job, Failure(code=error.code, message=error.message)))
            continue
        command = CommandRun(
            job_id=job.id,
            spec=job.spec,
            repo=access,
            restic_host=order.restic_host,
            limits=with_lock_wait(job.limits, job.kind),
            schedule_id=job.schedule_id,
            scheduled_at=job.slot,
            ordered_at=job.created_at,
            recover=recover or job.status is Status.RUNNING,
            source=source,
            hooks=schedules.hooks_of(tx, job.schedule_id, job.kind),
        )
        written.messages.append((job.host_id, command))
    return written


def end_unsent(tx: Connection, unsent: Iterable[tuple[JobRow, Failure]], *, now: datetime, ripple: Ripple) -> None:
    """Given what could not be sent, end it failed with the reason: no host could ever run it."""
    for job, why in unsent:
        step = lifecycle.apply_server_end(job.state, Status.FAILED, why, tell_host=job.slot is not None, now=now)
        jobs.settle(tx, job, step, now=now, ripple=ripple)


class _Opener:
    """Opens each repository once for many orders, as its maintainer reaches it where that is who goes there."""

    def __init__(self, tx: Connection, unseal: Unseal) -> None:
        self._tx = tx
        self._unseal = unseal
        self._opened: dict[tuple[str, bool], RepoAccess | ManagerError] = {}
        self._maintainers: dict[str, str | None] = {}

    def open(self, repo_id: str, *, host_id: str | None = None, kind: Kind | None = None) -> RepoAccess:
        """Given a repository and who is to do what there, return the access; raise ManagerError if it does not open."""
        maintaining = kind is not None and kind.exclusive and host_id == self._maintainer(repo_id)
        key = repo_id, maintaining
        if key not in self._opened:
            self._opened[key] = self._open(repo_id, maintaining=maintaining)
        access = self._opened[key]
        if isinstance(access, ManagerError):
            raise access
        return access

    def _open(self, repo_id: str, *, maintaining: bool) -> RepoAccess | ManagerError:
        said = "the server cannot open the repository's secrets: "
        try:
            return repos.access(self._tx, repo_id, self._unseal, maintaining=maintaining)
        except ManagerError as error:
            return StorageError(said + error.message, code=_SECRETS)
        except KeyError:
            return NotFoundError(f"{said}they are not there any more: the repository was removed", code=_SECRETS)

    def _maintainer(self, repo_id: str) -> str | None:
        if repo_id not in self._maintainers:
            self._maintainers[repo_id] = repos.get(self._tx, repo_id).maintainer_id
        return self._maintainers[repo_id]
