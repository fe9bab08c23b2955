"""From a job's row to the `command.run` its host is sent. The only place on a job's way where secrets are opened."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Final, NamedTuple

from msgspec.structs import replace
from sqlalchemy import Connection

from restic_manager.domain import lifecycle
from restic_manager.domain.errors import ConflictError, ManagerError, NotFoundError, StorageError
from restic_manager.domain.lock_waits import with_lock_wait
from restic_manager.domain.meaning import other_repo
from restic_manager.domain.model import Failure, Kind, RepoAccess, Status
from restic_manager.domain.specs import needs_programs
from restic_manager.protocol.messages import CAP_HOOKS, CAP_KINDS, CAP_PROBE, CAP_REFERENCES, CommandRun
from restic_manager.restic.checks import check_source
from restic_manager.server.per_job import PerJob
from restic_manager.server.store import filling, hosts, job_rows, jobs, repos, schedules
from restic_manager.server.store.job_rows import JobRow
from restic_manager.server.store.queue import Order
from restic_manager.server.store.repos import RepoRow
from restic_manager.server.store.ripple import Ripple

logger = logging.getLogger(__name__)

_SECRETS: Final = "repo_secrets"
"""The code of a job whose repository the server cannot open."""
LOGIN_FORGOTTEN: Final = "login_forgotten"
"""The code of a job whose login was kept in memory only, and is not there any more."""
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
        if job.kind is Kind.PROBE and not hosts.has_capability(tx, job.host_id, CAP_PROBE):
            message = "the agent of this host does not know how to try that: update restic-manager there"
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


def write_orders(
    tx: Connection, orders: Iterable[Order], *, unseal: Unseal, per_job: PerJob, recover: bool = False
) -> Written:
    """Given jobs to send, return what their hosts are told. A job that was running is asked after, never started.

    per_job: the logins that came with jobs. recover: that holds for all of them, whatever has been heard of them here.
    """
    opener = _Opener(tx, unseal, per_job)
    written = Written([], [])
    for order in orders:
        job = order.job
        try:
            access = opener.open(job)
            other = other_repo(job.spec)
            source = None if other is None else opener.plainly(other)
            check_source(job.spec, access, source)
            _refuse_references(tx, job, access, source)
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


def _refuse_references(tx: Connection, job: JobRow, access: RepoAccess, source: RepoAccess | None) -> None:
    """Raise ConflictError where secrets are referred to and the host's agent cannot look them up."""
    if not access.referenced and (source is None or not source.referenced):
        return
    if not hosts.has_capability(tx, job.host_id, CAP_REFERENCES):
        raise ConflictError(
            "the secrets of this repository are looked up on the host, and the agent there is too old for that: update "
            "restic-manager there",
            code="agent_too_old",
        )


class _Opener:
    """Opens each repository once for many orders, as its maintainer reaches it where that is who goes there."""

    def __init__(self, tx: Connection, unseal: Unseal, per_job: PerJob) -> None:
        self._tx = tx
        self._unseal = unseal
        self._per_job = per_job
        self._opened: dict[tuple[str, bool], RepoAccess | ManagerError] = {}
        self._repos: dict[str, RepoRow] = {}

    def open(self, job: JobRow) -> RepoAccess:
        """Given a job, return the access to its repository; raise ManagerError if it does not open."""
        repo = self._repo(job.repo_id)
        if not repos.is_maintaining(repo, job.host_id, job.kind):
            return self.plainly(job.repo_id)
        login = self._per_job.find(job.id)
        if login is not None:
            return _opened(self._open(job.repo_id, maintaining=True, login=login))
        if repo.maintainer_per_job:
            raise ConflictError(
                f"the login by which the maintainer of {repo.name} may delete comes with each job and is kept in "
                "memory only, and that of this job is not there: no operator asked for it, or the server has been "
                "started again since. Ask for it again with --maintainer-env-file",
                code=LOGIN_FORGOTTEN,
            )
        return self._cached(job.repo_id, maintaining=True)

    def plainly(self, repo_id: str) -> RepoAccess:
        """Given a repository, return the access that any host gets; raise ManagerError if it does not open."""
        return self._cached(repo_id, maintaining=False)

    def _cached(self, repo_id: str, *, maintaining: bool) -> RepoAccess:
        key = repo_id, maintaining
        if key not in self._opened:
            self._opened[key] = self._open(repo_id, maintaining=maintaining)
        return _opened(self._opened[key])

    def _open(
        self, repo_id: str, *, maintaining: bool, login: Mapping[str, str] | None = None
    ) -> RepoAccess | ManagerError:
        said = "the server cannot open the repository's secrets: "
        try:
            return repos.access(self._tx, repo_id, self._unseal, maintaining=maintaining, per_job=login)
        except ManagerError as error:
            return StorageError(said + error.message, code=_SECRETS)
        except KeyError:
            return NotFoundError(f"{said}they are not there any more: the repository was removed", code=_SECRETS)

    def _repo(self, repo_id: str) -> RepoRow:
        if repo_id not in self._repos:
            self._repos[repo_id] = repos.get(self._tx, repo_id)
        return self._repos[repo_id]


def _opened(access: RepoAccess | ManagerError) -> RepoAccess:
    if isinstance(access, ManagerError):
        raise access
    return access
