"""The dispatcher's questions: what waits on these hosts and repositories, and what is there already.

Asked for the hosts and repositories where something changed, never for the fleet. Of a host's queue only heads are
read, one for each (repository, kind, job waited for): nothing behind a head can go before it. Of a repository's queue
its front: those in turn until its room is full, or one has to be alone there. Whose host is away or busy is passed over
while reading, as it is when choosing. What may go `domain.dispatching` decides.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from datetime import datetime
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Connection

from restic_manager.domain.dispatching import (
    READERS,
    Choice,
    Load,
    Queued,
    Why,
    Working,
    choose,
)
from restic_manager.domain.model import Actor, Kind, Status
from restic_manager.server.store import job_rows, jobs, questions
from restic_manager.server.store.job_rows import JobRow

_PAGE: Final = 100
"""Jobs of a repository's queue read at once."""


class Order(Struct, frozen=True):
    """A job that is to be sent now, and the name its host has in restic."""

    job: JobRow
    restic_host: str


def take(
    tx: Connection,
    host_ids: Iterable[str],
    *,
    repo_ids: Iterable[str] = (),
    online: Container[str],
    now: datetime,
) -> list[Order]:
    """Given hosts and repositories where something changed, choose what is sent now and store that it is being sent."""
    scene = _Scene(tx, online, now)
    scene.look(set(host_ids), set(repo_ids))
    sent: list[str] = []
    while True:
        choice = scene.choose()
        if not choice.send:
            break
        job_rows.mark_sent(tx, choice.send, now)
        sent += choice.send
        again = scene.sent(choice)
        if again is None:
            break
        scene.look(*again)
    found = job_rows.find_many(tx, sent)
    names = questions.restic_hosts(tx, {job.host_id for job in found.values()})
    return [Order(found[job_id], names[found[job_id].host_id]) for job_id in sent]


def explain(tx: Connection, waiting: Iterable[JobRow], *, online: Container[str], now: datetime) -> Choice:
    """Given queued jobs, return what the dispatcher thinks of them now: why each waits. Not of those whose turn comes
    later: nothing else holds them up.
    """
    rows = [
        job
        for job in waiting
        if job.status is Status.QUEUED
        and job.state.sent_at is None
        and (job.not_before is None or job.not_before <= now)
    ]
    scene = _Scene(tx, online, now)
    scene.add(questions.queued(tx, questions.rows_of(tx, questions.BY_ID, "job_ids", [job.id for job in rows]), now))
    scene.look(set(), set())
    return scene.choose()


def repos_of_queue(tx: Connection, host_id: str) -> set[str]:
    """Given a host that went away, return repositories on which others need not wait for its queue any more."""
    return set(tx.execute(questions.REPOS_OF_QUEUE, {"host_id": host_id}).scalars())


def rehome(tx: Connection, *, online: Container[str]) -> set[str]:
    """Move inits that others wait for, that were never sent and whose host is away, to a host that is there.

    Return the hosts that got one. Only inits: what any other job does depends on the host that does it.
    """
    got: set[str] = set()
    away = [row for row in tx.execute(questions.WAITING_INITS).fetchall() if row.host_id not in online]
    urgent = questions.waited_for(tx, [row.id for row in away])
    for row in away:
        if row.id not in urgent and row.actor_kind != Actor.SERVER.value:
            continue
        there = next((host_id for host_id in jobs.hosts_of_repo(tx, row.repo_id) if host_id in online), None)
        if there is not None:
            job_rows.move(tx, row.id, there)
            got.add(there)
    return got


class _Scene:
    """What is known while choosing: queued jobs, what their hosts do, what is on their repositories."""

    def __init__(self, tx: Connection, online: Container[str], now: datetime) -> None:
        self._tx = tx
        self._online = online
        self._now = now
        self._waiting: dict[str, Queued] = {}
        self._working: dict[str, list[Working]] = {}  # by host
        self._loads: dict[str, list[Load]] = {}  # by repository
        self._rooms: dict[str, int] = {}
        self._fronts: set[str] = set()  # repositories whose front has been read

    def add(self, queued: Iterable[Queued]) -> None:
        """Let these be chosen from, too."""
        self._waiting.update((job.job_id, job) for job in queued)

    def look(self, host_ids: set[str], repo_ids: set[str]) -> None:
        """Read the heads of these hosts, and the fronts of these repositories and of all that are concerned."""
        self._fronts -= repo_ids
        self.add(
            questions.queued(
                self._tx,
                questions.rows_of(self._tx, questions.HEADS, "host_ids", sorted(host_ids), now=self._now),
                self._now,
            )
        )
        self._look_at_hosts({job.host_id for job in self._waiting.values()})
        wanted = repo_ids | {repo_id for job in self._waiting.values() for repo_id in job.places}
        while wanted := wanted - self._fronts:
            self._look_at_repos(wanted)
            self._fronts |= wanted
            came = [job for repo_id in sorted(wanted) for job in self._front(repo_id)]
            self.add(came)
            wanted = {repo_id for job in came for repo_id in job.places}

    def choose(self) -> Choice:
        """Return what may go of what is known."""
        return choose(
            sorted(self._waiting.values(), key=lambda job: job.serial),
            [one for there in self._working.values() for one in there],
            [load for there in self._loads.values() for load in there],
            self._online,
            self._rooms,
        )

    def sent(self, choice: Choice) -> tuple[set[str], set[str]] | None:
        """Given what is sent now, keep that; return hosts and repositories to look at once more, None for none.

        Behind a head that reads there may be another. And a job that the front of its repository had counted on, whose
        host has got another in this very moment, leaves its turn to those behind it.
        """
        host_ids: set[str] = set()
        for job_id in choice.send:
            job = self._waiting.pop(job_id)
            self._working[job.host_id].append(Working(job_id, job.host_id, job.repo_id, job.kind))
            for repo_id in job.places:
                self._loads[repo_id].append(Load(repo_id, job_id, alone=job.needs_all))
            if not job.kind.heavy:
                host_ids.add(job.host_id)
        sent = set(choice.send)
        repo_ids = {
            repo_id
            for job_id, reason in choice.waiting.items()
            if reason.why in {Why.HOST_BUSY, Why.HOST_READING} and reason.job_id in sent
            for repo_id in self._waiting[job_id].places
        }
        return (host_ids, repo_ids) if host_ids or repo_ids else None

    def _look_at_hosts(self, host_ids: set[str]) -> None:
        new = sorted(host_ids - self._working.keys())
        self._working.update((host_id, []) for host_id in new)
        for job_id, host_id, repo_id, kind in questions.rows_of(self._tx, questions.WORKING, "host_ids", new):
            self._working[host_id].append(Working(job_id, host_id, repo_id, Kind(kind)))

    def _look_at_repos(self, repo_ids: set[str]) -> None:
        new = sorted(repo_ids - self._loads.keys())
        self._loads.update((repo_id, []) for repo_id in new)
        self._rooms.update((row[0], row[1]) for row in questions.rows_of(self._tx, questions.ROOMS, "repo_ids", new))
        for repo_id, job_id, kind, by_server, count in questions.rows_of(self._tx, questions.LOADS, "repo_ids", new):
            told = questions.as_queued(job_id, repo_id=repo_id, kind=Kind(kind), by_server=bool(by_server))
            if told.places:
                self._loads[repo_id].append(Load(repo_id, job_id, alone=told.needs_all, jobs=count))
        for repo_id, job_id, count in questions.rows_of(self._tx, questions.SOURCE_LOADS, "repo_ids", new):
            self._loads[repo_id].append(Load(repo_id, job_id, jobs=count))

    def _front(self, repo_id: str) -> list[Queued]:
        """Return the jobs of this repository whose turn it may be: those that go first, and the others in order."""
        found = self._ready(
            self._tx.execute(questions.GOING_FIRST, {"repo_id": repo_id, "now": self._now, "most": _PAGE})
        )
        after, ready, room = -1, 0, self._rooms.get(repo_id, 1)
        while True:
            asked = {"repo_id": repo_id, "now": self._now, "after": after, "most": _PAGE}
            page = self._tx.execute(questions.IN_TURN, asked).fetchall()
            for job in self._ready(page):
                found.append(job)
                if job.needs_all:
                    return found
                # All that wait for busy hosts keep one place between them: others may be ready behind them.
                ready += bool(job.places) and self._is_free(job)
                if ready >= room:
                    return found
            if len(page) < _PAGE:
                return found
            after = page[-1].serial

    def _ready(self, rows: Iterable[Any]) -> list[Queued]:
        """Return those that their hosts could take, or that keep their place until these can."""
        there = [job for job in questions.queued(self._tx, list(rows), self._now) if job.host_id in self._online]
        there = [job for job in there if job.waits_for is None]
        self._look_at_hosts({job.host_id for job in there})
        return [job for job in there if job.pressing or self._is_free(job)]

    def _is_free(self, job: Queued) -> bool:
        working = self._working[job.host_id]
        if job.kind.heavy:
            return not any(one.kind.heavy for one in working)
        return not job.kind.reading or sum(one.kind.reading for one in working) < READERS
