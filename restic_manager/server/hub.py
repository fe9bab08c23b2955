"""Who is connected now, and the doorbells between a change and whoever waits for it. All in memory: rows are the truth.

Sending is put or close: a stuck agent loses its link and never holds up anyone. Owns the live sessions, the latest
progress of running jobs and the bells of those who follow a job. It refuses to know what any message means.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import trio

from restic_manager.domain.model import Progress
from restic_manager.link import Link
from restic_manager.protocol.messages import CommandRun, Goodbye, Message, Refused
from restic_manager.runtime.bell import Bell


class Session:
    """One live connection of one host. `scope` cancels it; `left` is set when it can do nothing more."""

    def __init__(self, *, host_id: str, instance_id: str, link: Link) -> None:
        self.host_id = host_id
        self.instance_id = instance_id
        self.link = link
        self.scope = trio.CancelScope()
        self.left = trio.Event()
        self.sets = Bell()
        self.jobs: set[str] = set()
        """Ids of unfinished jobs that are this host's, as far as this session has come across them."""
        self.misunderstood = 0
        """Messages of this session that were no messages of ours."""
        self.close_code: int | None = None
        """How its link is closed once it has left, where the session ended it."""

    def end(self, reason: str, refused: Refused | None = None) -> None:
        """End the session soon, telling the agent why; refused: and that it is not to come again as it is."""
        self.link.put(Goodbye(reason=reason[:256]) if refused is None else refused)
        self.close_code = 1001 if refused is None else 1008
        self.scope.cancel()


class Hub:
    """All live sessions, by host."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._greeting: dict[str, Session] = {}
        self._bells: dict[str, set[Bell]] = {}
        self._any_bells: set[Bell] = set()
        self.progress: dict[str, Progress] = {}
        """The latest word of each running job whose host is online."""
        self.misunderstood = 0
        """Messages from agents, since the start, that were no messages of ours."""
        self.stopping = False
        """Whether the server stops: who follows a job looks once more, and is done."""

    # -- who is there --------------------------------------------------------------------------------------------------

    def online(self, host_id: str) -> bool:
        """Given a host, return whether it has a live session now."""
        return host_id in self._sessions

    def online_hosts(self) -> frozenset[str]:
        """Return the ids of all hosts with a live session."""
        return frozenset(self._sessions)

    def count(self) -> int:
        """Return how many hosts have a live session."""
        return len(self._sessions)

    def current(self, host_id: str) -> Session | None:
        """Given a host, return its session: the live one, else the one being greeted, None for none."""
        return self._sessions.get(host_id) or self._greeting.get(host_id)

    def sessions(self) -> list[Session]:
        """Return every session, those being greeted too."""
        return list(dict.fromkeys([*self._sessions.values(), *self._greeting.values()]))

    def greet(self, session: Session) -> None:
        """Note that this session is being greeted: nothing is sent to it yet, and no other may begin beside it."""
        self._greeting[session.host_id] = session

    def enter(self, session: Session) -> None:
        """The greeting is over: from here on the host is online."""
        if self._greeting.get(session.host_id) is session:
            del self._greeting[session.host_id]
        self._sessions[session.host_id] = session

    def leave(self, session: Session) -> bool:
        """The session is over; return whether the host was online by it and is not any more."""
        if self._greeting.get(session.host_id) is session:
            del self._greeting[session.host_id]
        session.left.set()
        if self._sessions.get(session.host_id) is not session:
            return False
        del self._sessions[session.host_id]
        for job_id in session.jobs:
            self.progress.pop(job_id, None)
        return True

    # -- speaking to them ----------------------------------------------------------------------------------------------

    def send(self, host_id: str, message: Message) -> bool:
        """Given a host and a message, queue it without waiting; False when the host has no live session."""
        session = self._sessions.get(host_id)
        if session is None or not session.link.put(message):
            return False
        if isinstance(message, CommandRun):
            session.jobs.add(message.job_id)
        return True

    def sets_changed(self, host_ids: Iterable[str]) -> None:
        """Given hosts whose schedule set changed, let the session of each look again and send it."""
        for host_id in host_ids:
            session = self._sessions.get(host_id)
            if session is not None:
                session.sets.ring()

    def close(self, host_id: str, reason: str, *, refused: Refused | None = None) -> None:
        """Given a host, end its session, whether live or being greeted; refused: with what it is told for that."""
        for session in (self._sessions.get(host_id), self._greeting.get(host_id)):
            if session is not None:
                session.end(reason, refused)

    def close_all(self, reason: str, *, but: str | None = None) -> None:
        """End every session but that of one host."""
        for session in self.sessions():
            if session.host_id != but:
                session.end(reason)

    # -- following jobs ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def watch(self, job_id: str | None) -> AsyncIterator[Bell]:
        """Given a job (None: any job), yield the bell that rings whenever there is something new about it."""
        bell = Bell()
        bells = self._any_bells if job_id is None else self._bells.setdefault(job_id, set())
        bells.add(bell)
        try:
            yield bell
        finally:
            bells.discard(bell)
            if job_id is not None and not bells and self._bells.get(job_id) is bells:
                del self._bells[job_id]

    def ring(self, job_ids: Iterable[str]) -> None:
        """Given jobs about which there is something new, ring for those who follow them."""
        rung = False
        for job_id in job_ids:
            rung = True
            for bell in self._bells.get(job_id, ()):
                bell.ring()
        if rung:
            for bell in self._any_bells:
                bell.ring()

    def end_watches(self) -> None:
        """The server stops, and no agent has anything more to say: ring for all who follow anything, a last time."""
        self.stopping = True
        for bells in (self._any_bells, *self._bells.values()):
            for bell in bells:
                bell.ring()

    def note_progress(self, session: Session, job_id: str, progress: Progress) -> bool:
        """Given the latest progress a session tells, keep it; False when the job is not known to be this host's."""
        if job_id not in session.jobs:
            return False
        self.progress[job_id] = progress
        for bell in self._bells.get(job_id, ()):
            bell.ring()
        return True

    def job_over(self, host_id: str, job_id: str) -> None:
        """Given a job that ended, forget its progress."""
        self.progress.pop(job_id, None)
        session = self._sessions.get(host_id)
        if session is not None:
            session.jobs.discard(job_id)
