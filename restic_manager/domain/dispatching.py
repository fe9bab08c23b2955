"""Which queued jobs may be sent to their hosts now, and in a sentence's worth why the others wait.

One heavy job a host at a time, in order of creation. Exclusive kinds run alone on their repository. A waiting job never
holds up what it does not compete with: a host passes over jobs whose repository is not free. Of exclusive jobs, an
urgent one (others wait for it, or the server wants it) goes before everything queued on the repository; any other takes
its turn by serial. So neither kind starves: before an exclusive job only finitely many go, and a shared job is
passed by urgent ones only, each of which is paid for by a job that has just ended there.

Linear in the jobs looked at. Refuses to know rows, links and time.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

from restic_manager.domain.model import Kind


class Queued(NamedTuple):
    """A job that no host has been handed yet. waits_for: a job that has to end first (None when it has)."""

    job_id: str
    serial: int
    host_id: str
    repo_id: str
    kind: Kind
    waits_for: str | None = None
    urgent: bool = False


class Active(NamedTuple):
    """A job that is with its host (sent, or claimed by it) and has not ended."""

    job_id: str
    host_id: str
    repo_id: str
    kind: Kind


class Why(StrEnum):
    """What a queued job waits for."""

    HOST_OFFLINE = "host_offline"
    HOST_BUSY = "host_busy"
    OTHER_JOB = "other_job"
    REPO_BUSY = "repo_busy"
    REPO_TURN = "repo_turn"


class Reason(NamedTuple):
    """Why a job waits, and for which job, where it is one."""

    why: Why
    job_id: str | None = None


class Choice(Struct, frozen=True):
    """Ids to send now, in order; and for every other job why it waits."""

    send: tuple[str, ...]
    waiting: dict[str, Reason]


class _Repo:
    """What is known of one repository while walking the queue."""

    __slots__ = ("ahead", "exclusive", "older", "shared", "urgent")

    def __init__(self) -> None:
        self.exclusive: str | None = None  # an active exclusive job
        self.shared: str | None = None  # an active job of any other kind
        self.urgent: str | None = None  # the first queued urgent exclusive job whose host is there
        self.ahead: str | None = None  # a queued exclusive job earlier in the queue whose host is there
        self.older: str | None = None  # a queued shared job earlier in the queue that could go


def choose(queued: Sequence[Queued], active: Iterable[Active], online: Container[str]) -> Choice:
    """Given queued jobs in order of serial and what is active on their hosts and repositories, return what to send."""
    repos: dict[str, _Repo] = {}
    busy: dict[str, str] = {}
    for running in active:
        _occupy(repos.setdefault(running.repo_id, _Repo()), busy, running)
    for job in queued:
        repo = repos.setdefault(job.repo_id, _Repo())
        if (
            job.urgent
            and job.kind.exclusive
            and job.waits_for is None
            and job.host_id in online
            and repo.urgent is None
        ):
            repo.urgent = job.job_id
    send: list[str] = []
    waiting: dict[str, Reason] = {}
    for job in queued:
        repo = repos[job.repo_id]
        reason = _reason(job, repo, busy, online)
        if reason is None:
            send.append(job.job_id)
            _occupy(repo, busy, Active(job.job_id, job.host_id, job.repo_id, job.kind))
            continue
        waiting[job.job_id] = reason
        if reason.why in {Why.HOST_BUSY, Why.REPO_BUSY, Why.REPO_TURN}:
            # It will go as soon as it may: whatever comes behind it on the repository has to respect that.
            if job.kind.exclusive:
                repo.ahead = repo.ahead or job.job_id
            else:
                repo.older = repo.older or job.job_id
    return Choice(send=tuple(send), waiting=waiting)


def _occupy(repo: _Repo, busy: dict[str, str], job: Active) -> None:
    if job.kind.heavy:
        busy.setdefault(job.host_id, job.job_id)
    if job.kind.exclusive:
        repo.exclusive = repo.exclusive or job.job_id
    else:
        repo.shared = repo.shared or job.job_id


def _reason(job: Queued, repo: _Repo, busy: dict[str, str], online: Container[str]) -> Reason | None:
    """Return why the job cannot go now, None if it can. The most telling reason first."""
    if job.waits_for is not None:
        return Reason(Why.OTHER_JOB, job.waits_for)
    if job.host_id not in online:
        return Reason(Why.HOST_OFFLINE)
    turn = _turn(job, repo)
    if turn is not None:
        return turn
    if job.kind.heavy and job.host_id in busy:
        return Reason(Why.HOST_BUSY, busy[job.host_id])
    return None


def _turn(job: Queued, repo: _Repo) -> Reason | None:
    """Return why the repository is not this job's now, None if it is."""
    if repo.exclusive is not None:
        return Reason(Why.REPO_BUSY, repo.exclusive)
    if job.kind.exclusive and repo.shared is not None:
        return Reason(Why.REPO_BUSY, repo.shared)
    if repo.urgent is not None and repo.urgent != job.job_id:
        return Reason(Why.REPO_TURN, repo.urgent)
    if job.urgent:
        return None
    before = repo.ahead or (repo.older if job.kind.exclusive else None)
    return None if before is None else Reason(Why.REPO_TURN, before)
