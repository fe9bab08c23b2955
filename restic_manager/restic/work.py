"""What the commands of one job need around them: where they run, for whom, and what else they may touch.

Refuses to know any kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from restic_manager.domain.model import Kind, Outcome, RepoAccess
from restic_manager.restic.answers.reader import Finding, Reader
from restic_manager.restic.command import Command, Setting
from restic_manager.restic.stage import Ran, Stage
from restic_manager.restic.verdict import judge_found


@dataclass(frozen=True, slots=True)
class Work:
    """What a kind's commands need beside its spec: where they run, for whom, and what else they may touch."""

    stage: Stage
    setting: Setting
    kind: Kind
    job_id: str
    repo: RepoAccess
    source: RepoAccess | None
    scratch: str
    now: Callable[[], datetime]

    def judged(self, ran: Ran, found: Finding) -> Outcome:
        """Given a command's end and what its answer amounts to, return the outcome."""
        return judge_found(ran.ended(self.kind, self.stage.binary.version), ran.heard, found)

    async def simple(self, command: Command, reader: Reader) -> Outcome:
        """Given one command and its reader, return the outcome of a job that is nothing more."""
        ran = await self.stage.run(command, reader)
        return self.judged(ran, reader.finding())


class Unseen(Reader):
    """Feeds another reader, whose rows nobody is to see: they were given already, or are only looked at here."""

    def __init__(self, inner: Reader) -> None:
        super().__init__()
        self._inner = inner
        self.longest_line = inner.longest_line

    def stdout(self, raw: bytes) -> bool:
        """Given a line, let the other reader take it."""
        return self._inner.stdout(raw)

    def stderr(self, text: str) -> None:
        """Given a line of stderr, let the other reader have it."""
        self._inner.stderr(text)
