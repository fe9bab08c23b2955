"""Which queued jobs may be sent to their hosts now, and in a sentence's worth why the others wait.

On a repository: jobs that need it to themselves (exclusive kinds, the server's own unlock) run alone there, of the rest
at most so many at once. On a host: one heavy job at a time, and beside it a few that only read. Looking at locks and
removing stale ones takes no lock, and waits for nobody.

First come first served. Only restores go before everything else, and jobs that must be alone and that others wait for
(an init, say). A job that could run if its repository were free holds its place there: nothing that came later takes
it, so neither those that need to be alone nor the others starve. A job whose host is busy or away holds up nobody; but
one that has waited long for a busy host (`pressing`) holds its place, too: of those that need not be alone the oldest
on each repository, for if every one did, a few busy hosts would keep a repository empty. And a host passes over a job
whose repository is not free: what waits never holds up what it does not compete with.

Linear in the jobs looked at. Refuses to know rows, links and time.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import chain
from typing import Final, NamedTuple

from msgspec import Struct

from restic_manager.domain.model import Kind

READERS: Final = 4
"""So many jobs that only read run on a host at once, beside its heavy one."""
DEFAULT_ROOM: Final = 4
"""So many jobs that need not be alone are on a repository at once, where nothing else is said of it."""
RESTORES: Final = frozenset({Kind.RESTORE, Kind.DUMP})
"""Somebody is waiting for these, and perhaps a whole company: they go first."""
LOCKLESS: Final = frozenset({Kind.LOCKS, Kind.UNLOCK})
"""What takes no lock, and so needs no place on a repository."""


class Queued(NamedTuple):
    """A job that no host has been handed yet. waits_for: a job that has to end first (None when it has).

    source_id: the repository that it reads besides. alone: it needs its repository to itself, whatever its kind.
    urgent: others wait for it. pressing: it has waited so long that it keeps its place also while its host is busy.
    """

    job_id: str
    serial: int
    host_id: str
    repo_id: str
    kind: Kind
    waits_for: str | None = None
    urgent: bool = False
    source_id: str | None = None
    alone: bool = False
    pressing: bool = False

    @property
    def needs_all(self) -> bool:
        """Whether nothing else may be on its repository meanwhile."""
        return self.alone or self.kind.exclusive

    @property
    def places(self) -> tuple[str, ...]:
        """The repositories on which it needs a place."""
        if self.kind in LOCKLESS and not self.alone:
            return ()
        return (self.repo_id,) if self.source_id is None else (self.repo_id, self.source_id)


class Working(NamedTuple):
    """A job that is with its host (sent, or claimed by it) and has not ended."""

    job_id: str
    host_id: str
    repo_id: str
    kind: Kind


class Load(NamedTuple):
    """What is on a repository of one sort: so many jobs, of which one is named. alone: they are to be alone there."""

    repo_id: str
    job_id: str
    alone: bool = False
    jobs: int = 1


class Why(StrEnum):
    """What a queued job waits for."""

    HOST_OFFLINE = "host_offline"
    HOST_BUSY = "host_busy"
    HOST_READING = "host_reading"
    OTHER_JOB = "other_job"
    REPO_BUSY = "repo_busy"
    REPO_FULL = "repo_full"
    REPO_TURN = "repo_turn"


_HOSTS: Final = frozenset({Why.HOST_BUSY, Why.HOST_READING})
"""A job waits for its host, which is there."""


class Reason(NamedTuple):
    """Why a job waits, for which job, where it is one, and on which repository, where it is for that.

    jobs: so many are on the repository, where it is full.
    """

    why: Why
    job_id: str | None = None
    repo_id: str | None = None
    jobs: int = 0


class Choice(Struct, frozen=True):
    """Ids to send now, in order; and for every other job why it waits."""

    send: tuple[str, ...]
    waiting: dict[str, Reason]


class _Repo:
    """What is known of one repository while walking the queue."""

    __slots__ = ("alone", "awaited", "before", "held", "kept", "room", "shared", "shares")

    def __init__(self, room: int) -> None:
        self.room = room
        self.alone: str | None = None  # a job that is alone there
        self.shares = 0  # so many others are there
        self.shared: str | None = None  # one of them
        self.held: str | None = None  # the first queued job that needs it to itself and keeps its place
        self.kept = 0  # so many places are kept for other queued jobs
        self.before: str | None = None  # the first of these
        self.awaited = False  # whether one of these waits for its host

    def occupy(self, job_id: str, *, alone: bool, jobs: int = 1) -> None:
        if alone:
            self.alone = self.alone or job_id
        else:
            self.shared = self.shared or job_id
            self.shares += jobs

    def keep(self, job_id: str, *, alone: bool, awaited: bool) -> None:
        """Keep a place for a queued job. awaited: it is its host that it waits for, so the place is empty till then."""
        if alone:
            self.held = self.held or job_id
        elif not (awaited and self.awaited):
            self.before = self.before or job_id
            self.kept += 1
            self.awaited = self.awaited or awaited


class _Host:
    """What is known of one host while walking the queue."""

    __slots__ = ("heavy", "heavy_on", "reading", "readings")

    def __init__(self) -> None:
        self.heavy: str | None = None
        self.heavy_on: str | None = None  # on this repository
        self.readings = 0
        self.reading: str | None = None

    def occupy(self, job_id: str, kind: Kind, repo_id: str) -> None:
        if kind.heavy:
            self.heavy, self.heavy_on = self.heavy or job_id, self.heavy_on or repo_id
        elif kind.reading:
            self.reading = self.reading or job_id
            self.readings += 1


def choose(
    queued: Sequence[Queued],
    working: Iterable[Working],
    loads: Iterable[Load],
    online: Container[str],
    rooms: Mapping[str, int] | None = None,
) -> Choice:
    """Given queued jobs in order of serial, return what to send now.

    working: all that is with their hosts. loads: all that is on their repositories. rooms: how many jobs that need not
    be alone may be on a repository at once.
    """
    known = rooms or {}
    repos: dict[str, _Repo] = {}
    hosts: dict[str, _Host] = {}

    def repo_of(repo_id: str) -> _Repo:
        found = repos.get(repo_id)
        if found is None:
            found = repos[repo_id] = _Repo(known.get(repo_id, DEFAULT_ROOM))
        return found

    for load in loads:
        repo_of(load.repo_id).occupy(load.job_id, alone=load.alone, jobs=load.jobs)
    for one in working:
        hosts.setdefault(one.host_id, _Host()).occupy(one.job_id, one.kind, one.repo_id)
    send: list[str] = []
    waiting: dict[str, Reason] = {}
    for job in in_order(queued):
        host = hosts.setdefault(job.host_id, _Host())
        there = {repo_id: repo_of(repo_id) for repo_id in job.places}
        reason = _not_at_all(job, online) or _at_host(job, host) or _at_repos(job, there)
        if reason is None:
            send.append(job.job_id)
            host.occupy(job.job_id, job.kind, job.repo_id)
            for repo in there.values():
                repo.occupy(job.job_id, alone=job.needs_all)
            continue
        waiting[job.job_id] = reason
        if keeps_its_place(job, reason, host.heavy_on):
            awaited = reason.why in _HOSTS
            for repo in there.values():
                repo.keep(job.job_id, alone=job.needs_all, awaited=awaited)
    return Choice(send=tuple(send), waiting=waiting)


def in_order(queued: Sequence[Queued]) -> Iterable[Queued]:
    """Given queued jobs in order of serial, return them in the order of their turns."""
    first = [job for job in queued if job.kind in RESTORES]
    second = [job for job in queued if job.kind not in RESTORES and job.urgent and job.needs_all]
    rest = [job for job in queued if job.kind not in RESTORES and not (job.urgent and job.needs_all)]
    return chain(first, second, rest)


def keeps_its_place(job: Queued, reason: Reason, busy_on: str | None) -> bool:
    """Given a waiting job, why it waits and the repository that its host's heavy job is on, return whether its place
    on its own repository is kept for it (if it need not be alone: as the first of those that wait for a host).
    """
    match reason.why:
        case Why.REPO_BUSY | Why.REPO_FULL | Why.REPO_TURN:
            return True
        case why if why in _HOSTS:
            # Where the job before it is on the same repository, its place becomes free together with the host.
            return job.pressing and (job.needs_all or job.repo_id != busy_on)
        case _:
            return False


def _not_at_all(job: Queued, online: Container[str]) -> Reason | None:
    if job.waits_for is not None:
        return Reason(Why.OTHER_JOB, job.waits_for)
    return None if job.host_id in online else Reason(Why.HOST_OFFLINE)


def _at_host(job: Queued, host: _Host) -> Reason | None:
    if job.kind.heavy and host.heavy is not None:
        return Reason(Why.HOST_BUSY, host.heavy)
    if job.kind.reading and host.readings >= READERS:
        return Reason(Why.HOST_READING, host.reading)
    return None


def _at_repos(job: Queued, there: Mapping[str, _Repo]) -> Reason | None:
    for repo_id, repo in there.items():
        reason = _alone(repo_id, repo) if job.needs_all else _shared(repo_id, repo)
        if reason is not None:
            return reason
    return None


def _alone(repo_id: str, repo: _Repo) -> Reason | None:
    """Return why a job cannot have this repository to itself now, None if it can."""
    there = repo.alone or repo.shared
    if there is not None:
        return Reason(Why.REPO_BUSY, there, repo_id)
    before = repo.held or repo.before
    return None if before is None else Reason(Why.REPO_TURN, before, repo_id)


def _shared(repo_id: str, repo: _Repo) -> Reason | None:
    """Return why a job that need not be alone cannot have a place on this repository now, None if it can."""
    if repo.alone is not None:
        return Reason(Why.REPO_BUSY, repo.alone, repo_id)
    if repo.held is not None:
        return Reason(Why.REPO_TURN, repo.held, repo_id)
    if repo.shares >= repo.room:
        return Reason(Why.REPO_FULL, repo.shared, repo_id, repo.shares)
    return Reason(Why.REPO_TURN, repo.before, repo_id) if repo.shares + repo.kept >= repo.room else None
