"""Where one job's restic commands run, one after the other: its log, its progress, its rows, its reasons to stop.

Owns what all kinds share around a process; refuses to know what a kind runs and what its end means.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal, TypeVar

import trio

from restic_manager.domain.model import Kind, Limits, Progress
from restic_manager.domain.results import Row
from restic_manager.restic.after import Asker, LookupFailedError
from restic_manager.restic.answers.reader import RawReader, Reader
from restic_manager.restic.binary import Binary
from restic_manager.restic.command import Command
from restic_manager.restic.output import Heard, Redact, Stream
from restic_manager.restic.process import Exit, Patience, describe, run_process
from restic_manager.restic.verdict import Ended, Stop
from restic_manager.restic.version import Feature, Version, stop_signal
from restic_manager.restic.watch import Halt

LogLines = Callable[[Literal["stdout", "stderr", "agent"], Sequence[str]], Awaitable[None]]
"""Takes log lines in order, one batch at a time. While it waits, restic waits (its pipe fills up)."""
OnRows = Callable[[Sequence[Row]], Awaitable[None]]
"""Takes rows of a listing in order, one batch at a time. While it waits, restic waits."""

T = TypeVar("T")

_path_threads = trio.CapacityLimiter(8)
"""Looking at files can hang for ever on a dead mount; so it has threads of its own, never those of the journal."""
_FORBIDDEN: Final = re.compile(r"^Remove\(<.* returned error, retrying after .*\b403\b")


class HaltedError(Exception):
    """The job was to stop before this command was begun, and it was not."""


@dataclass(frozen=True, slots=True)
class Ran:
    """One command's end: how, and what was heard of it."""

    end: Exit
    heard: Heard
    stopped: Stop | None

    def ended(self, kind: Kind, version: Version) -> Ended:
        """Given whose run it was, return its end for the judgement."""
        return Ended(kind, version, self.end.code, self.end.signal, self.stopped)


@dataclass(slots=True)
class Stage:
    """One job's. `halt` is its one bell: after it has rung, no further command is begun."""

    kind: Kind
    binary: Binary
    asker: Asker
    limits: Limits
    redact: Redact
    on_lines: LogLines
    on_progress: Callable[[Progress], None]
    on_rows: OnRows | None
    on_spawned: Callable[[int], None] | None
    kill_after: float
    halt: Halt = field(init=False)
    _one_at_a_time: trio.Lock = field(init=False, default_factory=trio.Lock)

    def __post_init__(self) -> None:
        # Only these say all the time how far they are.
        moving = self.kind is Kind.BACKUP or (
            self.kind is Kind.RESTORE and self.binary.version.has(Feature.JSON_RESTORE)
        )
        self.halt = Halt(self.limits, watch_stall=moving)

    async def run(self, command: Command, reader: Reader | None = None, heard: Heard | None = None) -> Ran:
        """Given a command, run it to its end, its lines through the reader.

        Raise SpawnError if it does not start, HaltedError if the job is to stop and it was not begun.
        """
        if self.halt.reason is not None:
            raise HaltedError
        reader = reader if reader is not None else Reader()
        heard = heard if heard is not None else Heard(self.redact)

        async def take(stream: Stream, raw: list[bytes]) -> None:
            await self._take(stream, raw, reader, heard)

        end = await run_process(
            command,
            on_lines=take,
            on_bytes=partial(self._take_piece, reader) if isinstance(reader, RawReader) else None,
            stop=self.halt.event,
            stop_signal=stop_signal(self.binary.version),
            on_spawned=self.on_spawned,
            patience=Patience(stop=self.kill_after),
            longest_line=reader.longest_line,
        )
        # A bell that rang only after the end changed nothing about it.
        ran = Ran(end, heard, self.halt.reason if end.stopped else None)
        await self._tell(ran)
        return ran

    async def _take(self, stream: Stream, raw: list[bytes], reader: Reader, heard: Heard) -> None:
        if stream == "stdout":
            raw = [line for line in raw if not reader.stdout(line)]
        log, progress = heard.take(stream, raw)
        if progress is not None:
            self.halt.progressed(progress)
            self.on_progress(progress)
        if stream == "stderr":
            for text in log:
                reader.stderr(text)
                if not self.binary.version.has(Feature.SIGTERM_CANCELS) and _FORBIDDEN.search(text):
                    self.halt.ring(Stop.REFUSED)
        if log:
            await self._pass_on(stream, log)
        rows = reader.rows()
        if rows:
            await self.give(rows)

    async def _take_piece(self, reader: RawReader, data: bytes) -> None:
        reader.piece(data)
        await self.give(reader.rows())

    async def look(self, question: Callable[[], T]) -> T:
        """Given a question to the host's files, return its answer; raise HaltedError if the job is to stop before it.

        Files can be on a dead mount, where nothing ever answers: then the thread is left to itself.
        """
        with self.halt.cutting_short():
            answer = await trio.to_thread.run_sync(question, abandon_on_cancel=True, limiter=_path_threads)
            if self.halt.reason is None:
                return answer
        raise HaltedError

    async def give(self, rows: Sequence[Row]) -> None:
        """Hand rows on, if anybody wants them."""
        if self.on_rows is not None and rows:
            await self.on_rows(rows)

    async def say(self, *lines: str) -> None:
        """Write lines of our own into the job's log."""
        if lines:
            await self._pass_on("agent", [self.redact(line) for line in lines])

    async def _pass_on(self, stream: Literal["stdout", "stderr", "agent"], lines: list[str]) -> None:
        async with self._one_at_a_time:
            await self.on_lines(stream, lines)

    async def _tell(self, ran: Ran) -> None:
        """Say what the end was like, and give back the lock of a restic that was killed."""
        end = ran.end
        if ran.stopped is not None:
            by = "it had to be killed" if end.killed else f"it ended by itself ({describe(end)})"
            await self.say(f"asked to stop ({ran.stopped.value}): {by}")
        if not end.drained:
            await self.say("something that restic started still holds its output open: the rest of it is not shown")
        if end.signal is not None:
            await self._release_lock(end.pid)

    async def _release_lock(self, pid: int) -> None:
        try:
            if await self.asker.release_lock(pid):
                await self.say("removed the lock that restic left behind")
        except LookupFailedError as error:
            await self.say(f"restic may have left its lock behind; this could not be found out: {error.message}")
