"""A job's log on its way into the outbox: chunks of lines, numbered over the job, within what the outbox may hold.

While the server is away the outbox grows; beyond `OUTBOX_LIMIT` log lines are left out and counted, and the next chunk
says how many. A verdict is never left out. Knows nothing of restic and of the server's own cap on a log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal

from restic_manager.agent import records
from restic_manager.agent.journal import Journal
from restic_manager.domain.errors import StorageError
from restic_manager.protocol.messages import MAX_LOG_TEXT, JobLog
from restic_manager.runtime.clock import Clock

logger = logging.getLogger(__name__)

Stream = Literal["stdout", "stderr", "agent"]

OUTBOX_LIMIT: Final = 64 << 20
"""Characters the outbox may hold before log lines are left out."""


class LogBudget:
    """How full the outbox is, as far as logs are concerned; shared by all jobs of the process."""

    def __init__(self, limit: int = OUTBOX_LIMIT) -> None:
        self._limit = limit
        self._waiting = 0

    def set_waiting(self, characters: int) -> None:
        """The outbox holds this many characters now."""
        self._waiting = characters

    def take(self, characters: int) -> bool:
        """Given the size of a chunk, return whether it may go into the outbox, and count it."""
        if self._waiting + characters > self._limit:
            return False
        self._waiting += characters
        return True


class JobLogWriter:
    """Takes a job's lines and journals them as reports."""

    def __init__(
        self, journal: Journal, clock: Clock, budget: LogBudget, job_id: str, *, ring: Callable[[], None]
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._budget = budget
        self._job_id = job_id
        self._ring = ring
        self._next_line = 1
        self._dropped = 0
        self._failing = False

    @property
    def count(self) -> int:
        """How many lines the log has so far, those that were left out among them."""
        return self._next_line - 1

    async def lines(self, stream: Stream, lines: Sequence[str]) -> None:
        """Journal consecutive lines of one stream; returns when they are committed, so a flood waits for the disk.

        Lines that cannot be kept are counted, and the next that can says how many: a log never fails its job.
        """
        first_line, dropped = self._next_line, self._dropped
        reports: list[records.MakeReport] = []
        for chunk in _chunks(lines):
            text = "\n".join(chunk)
            if self._budget.take(len(text)):
                reports.append(self._report(stream, text, first_line, dropped))
                dropped = 0
            else:
                dropped += len(chunk)
            first_line += len(chunk)
        if reports and not await self._store(reports):
            dropped = self._dropped + len(lines)
        self._next_line, self._dropped = first_line, dropped

    async def close(self) -> None:
        """The job is over: if lines were left out at its end, say so in a last line of our own."""
        if self._dropped:
            line = (
                f"{self._dropped} lines before this one were left out: the agent's outbox was full, or its journal "
                "could not be written"
            )
            await self._store([self._report("agent", line, self._next_line, self._dropped)])
            self._next_line += 1

    async def _store(self, reports: list[records.MakeReport]) -> bool:
        try:
            await self._journal.write(lambda db: records.append_reports(db, reports))
        except StorageError as error:
            if not self._failing:  # once a spell, not once a batch
                logger.warning("job %s: log lines are left out: %s", self._job_id, error.message)
            self._failing = True
            return False
        self._failing = False
        self._ring()
        return True

    def _report(self, stream: Stream, text: str, first_line: int, dropped: int) -> records.MakeReport:
        at = self._clock.now()
        return lambda seq: JobLog(
            seq=seq, job_id=self._job_id, at=at, stream=stream, first_line=first_line, text=text, dropped=dropped
        )


def _chunks(lines: Sequence[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for line in lines:
        clean = line.replace("\0", "\\x00")[:MAX_LOG_TEXT]
        if chunk and size + len(clean) + 1 > MAX_LOG_TEXT:
            yield chunk
            chunk, size = [], 0
        chunk.append(clean)
        size += len(clean) + 1
    if chunk:
        yield chunk
