"""A job's log on its way into the outbox: chunks of lines, numbered over the job, within what the outbox may hold.

While the server is away the outbox grows; beyond `OUTBOX_LIMIT` log lines are left out of the middle and counted, and
the next chunk says how many. A verdict is never left out. Knows nothing of restic and of the server's own cap on a log.
"""

from __future__ import annotations

import itertools
import logging
import operator
from collections import deque
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
TAIL_LINES: Final = 200
"""Last lines of a job that wait in memory when nothing more may go into the outbox."""
TAIL_LINE: Final = 1_000
"""Characters kept of each of them."""


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
    """Takes a job's lines and journals them as reports.

    What cannot be kept is left out of the middle: the last TAIL_LINES lines wait in memory, because a log's end says
    why a job failed, and go out as soon as there is room, at the latest when the job is over.
    """

    def __init__(
        self, journal: Journal, clock: Clock, budget: LogBudget, job_id: str, *, ring: Callable[[], None]
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._budget = budget
        self._job_id = job_id
        self._ring = ring
        self._numbered = 0  # lines that are stored or left out: the next one stored has a higher number
        self._dropped = 0  # lines left out since the last one stored
        self._tail: deque[tuple[Stream, str]] = deque()
        self._failing = False

    @property
    def count(self) -> int:
        """How many lines the log has so far, those that were left out among them."""
        return self._numbered + len(self._tail)

    async def lines(self, stream: Stream, lines: Sequence[str]) -> None:
        """Journal consecutive lines of one stream; returns when they are committed, so a flood waits for the disk.

        Lines that cannot be kept are counted, and the next that can says how many: a log never fails its job.
        """
        await self._flush_tail()
        left = list(lines)
        if not self._tail:
            left = await self._store(stream, left)
        self._keep_tail(stream, left)

    async def close(self) -> None:
        """The job is over: what waits goes out, whatever the budget says, and how much was left out with it."""
        await self._flush_tail(whatever=True)

    async def _flush_tail(self, *, whatever: bool = False) -> None:
        while self._tail:
            stream, together = next(itertools.groupby(self._tail, key=operator.itemgetter(0)))
            group = [line for _, line in together]
            left = await self._store(stream, group, whatever=whatever)
            for _ in range(len(group) - len(left)):
                self._tail.popleft()
            if left:
                return

    def _keep_tail(self, stream: Stream, lines: list[str]) -> None:
        self._tail.extend((stream, line[:TAIL_LINE]) for line in lines)
        while len(self._tail) > TAIL_LINES:
            self._tail.popleft()
            self._numbered += 1
            self._dropped += 1

    async def _store(self, stream: Stream, lines: list[str], *, whatever: bool = False) -> list[str]:
        """Given lines, store as many from the front as may be; return the rest."""
        reports: list[records.MakeReport] = []
        numbered, dropped, stored = self._numbered, self._dropped, 0
        for chunk in _chunks(lines):
            text = "\n".join(chunk)
            if not self._budget.take(len(text)) and not whatever:
                break
            reports.append(self._report(stream, text, numbered + 1, dropped))
            numbered, dropped, stored = numbered + len(chunk), 0, stored + len(chunk)
        if not reports or not await self._append(reports):
            return lines
        self._numbered, self._dropped = numbered, dropped
        return lines[stored:]

    async def _append(self, reports: list[records.MakeReport]) -> bool:
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
