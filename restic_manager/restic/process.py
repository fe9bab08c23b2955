"""One restic process, from spawn to reaped. Owns its pipes, the ladder that stops it, and that nothing outlives it.

It closes stdin and signals the leader first (restic gives its lock back; killing ssh or rclone under it would keep it
from that), waits, then kills the whole group. Whatever happens, leaving `run_process` means that the group is dead and
the child reaped, within a bounded time. Refuses to know what the lines mean and why it is to stop.
"""

from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

import trio

from restic_manager.domain.errors import ManagerError
from restic_manager.restic.command import Command
from restic_manager.restic.lines import MAX_RAW_LINE, LineSplitter
from restic_manager.restic.output import Stream

_CHUNK = 64 << 10
_LATE_READS = 32
_BUSY_TRIES = 5

OnRawLines = Callable[[Stream, list[bytes]], Awaitable[None]]
"""Takes a batch of lines. While it waits, the pipe fills and restic waits too."""
OnRawBytes = Callable[[bytes], Awaitable[None]]
"""Takes the next bytes, at most 64 KiB of them. While it waits, restic waits too."""


class SpawnError(ManagerError):
    """The process could not be started. Codes are those of `restic.failures`; the message names the cause."""

    default_code = "restic_missing"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each step may take, in seconds."""

    stop: float = 30.0
    """From the signal to killing the group: restic uses it to finish its writes and remove its lock."""
    kill: float = 10.0
    """From killing to giving up on a process that hangs in the kernel."""
    drain: float = 2.0
    """From the leader's end to closing pipes that something else still holds."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: by a code, by a signal, or (both None) not at all, though killed.

    stopped: it ended after we had asked it to. killed: we had to kill it. drained: both pipes were read to their end.
    """

    pid: int
    code: int | None
    signal: int | None
    stopped: bool = False
    killed: bool = False
    drained: bool = True


def describe(end: Exit) -> str:
    """Given how a process ended, return it in words."""
    if end.signal is not None:
        return f"signal {end.signal}"
    return f"exit code {end.code}" if end.code is not None else "it hangs in the kernel"


async def run_process(
    command: Command,
    *,
    on_lines: OnRawLines,
    on_bytes: OnRawBytes | None = None,
    stop: trio.Event,
    stop_signal: signal.Signals,
    on_spawned: Callable[[int], None] | None = None,
    patience: Patience | None = None,
    longest_line: int = MAX_RAW_LINE,
) -> Exit:
    """Given a command, run it to its end and return how it ended; raise SpawnError if it could not start.

    `stop` starts the ladder. Being cancelled kills the group at once. An error of `on_lines` does too, and comes out as
    it is. `on_bytes` is for an answer that is no text: it gets stdout as it comes, and `on_lines` then stderr only.
    """
    process = await _spawn(command)
    running = _Running(process, on_lines, on_bytes, patience or Patience(), longest_line)
    try:
        if on_spawned is not None:
            on_spawned(process.pid)
        return await running.to_its_end(stop, stop_signal)
    except BaseExceptionGroup as group:
        raise the_cause(group) from None
    finally:
        await running.clean_up()


class _Running:
    """The state of one spawned process."""

    def __init__(
        self,
        process: trio.Process,
        on_lines: OnRawLines,
        on_bytes: OnRawBytes | None,
        patience: Patience,
        longest_line: int,
    ) -> None:
        self._process = process
        self._on_lines = on_lines
        self._on_bytes = on_bytes
        self._patience = patience
        self._longest_line = longest_line
        self._stopped = False
        self._killed = False
        self._swept = False
        self._read_until = math.inf
        self._reads: set[trio.CancelScope] = set()
        self._late_reads = _LATE_READS
        self._open_pipes = 2
        self._drained = trio.Event()

    async def to_its_end(self, stop: trio.Event, stop_signal: signal.Signals) -> Exit:
        async with trio.open_nursery() as readers:
            readers.start_soon(self._read, "stdout", self._process.stdout, name="restic stdout")
            readers.start_soon(self._read, "stderr", self._process.stderr, name="restic stderr")
            with trio.CancelScope() as waiting:
                async with trio.open_nursery() as ladder:
                    ladder.start_soon(self._climb, stop, stop_signal, waiting, name="restic stop ladder")
                    await self._process.wait()
                    ladder.cancel_scope.cancel()
            await self._drain()
        return self._exit()

    async def _climb(self, stop: trio.Event, stop_signal: signal.Signals, waiting: trio.CancelScope) -> None:
        """Stop the process step by step; the process's end cancels this wherever it is."""
        await stop.wait()
        self._stopped = True
        if self._process.stdin is not None:
            await self._process.stdin.aclose()
        self._process.send_signal(stop_signal)
        await trio.sleep(self._patience.stop)
        self._killed = True
        self._kill_group()
        await trio.sleep(self._patience.kill)
        waiting.cancel()

    async def _read(self, name: Stream, stream: trio.abc.ReceiveStream | None) -> None:
        pipe = cast("trio.lowlevel.FdStream", stream)
        if name == "stdout" and self._on_bytes is not None:
            while chunk := await self._receive(pipe):
                await self._on_bytes(chunk)
            return
        splitter = LineSplitter(self._longest_line)
        while chunk := await self._receive(pipe):
            if lines := splitter.feed(chunk):
                await self._on_lines(name, lines)
        if lines := splitter.finish():
            await self._on_lines(name, lines)

    async def _receive(self, pipe: trio.lowlevel.FdStream) -> bytes:
        """Return the next bytes, or none at the end of the pipe or of our patience. Never cuts `on_lines` short."""
        with trio.CancelScope(deadline=self._read_until) as scope:
            self._reads.add(scope)
            try:
                chunk = bytes(await pipe.receive_some(_CHUNK))
            finally:
                self._reads.discard(scope)
            return chunk or self._at_its_end()
        return self._receive_late(pipe)

    def _receive_late(self, pipe: trio.lowlevel.FdStream) -> bytes:
        """Return what is in the pipe already: a consumer slower than our patience still gets restic's last words."""
        if self._late_reads == 0:
            return b""
        self._late_reads -= 1
        try:
            return os.read(pipe.fileno(), _CHUNK) or self._at_its_end()
        except BlockingIOError:
            return b""

    def _at_its_end(self) -> bytes:
        self._open_pipes -= 1
        if self._open_pipes == 0:
            self._drained.set()
        return b""

    async def _drain(self) -> None:
        """After the leader's end: the pipes end with it, unless something it started holds them."""
        with trio.move_on_after(self._patience.drain / 2):
            await self._drained.wait()
        self._kill_group()
        self._swept = True
        self._read_until = trio.current_time() + self._patience.drain / 2
        for scope in self._reads:
            scope.deadline = self._read_until

    def _exit(self) -> Exit:
        status = self._process.returncode
        return Exit(
            self._process.pid,
            code=status if status is not None and status >= 0 else None,
            signal=-status if status is not None and status < 0 else None,
            stopped=self._stopped,
            killed=self._killed,
            drained=self._drained.is_set(),
        )

    def _kill_group(self) -> None:
        try:
            # The group's id is the leader's pid (start_new_session); it cannot be reused while the group has a member.
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # all of it is gone
        except PermissionError:
            # Only a setuid helper is left in the group: not ours to kill, and it sees its pipes close.
            pass

    async def clean_up(self) -> None:
        """Leave nothing behind, cancelled or not, in a bounded time."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self._patience.kill):
            if not self._swept:
                self._kill_group()
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                if pipe is not None:
                    await pipe.aclose()
            await self._process.wait()


async def _spawn(command: Command) -> trio.Process:
    # Paths and secrets are UTF-8 whatever the agent's own locale is; bytes keep Python from encoding them by it.
    env = {name.encode(): value.encode("utf-8", "surrogateescape") for name, value in command.env.items()}
    start = partial(
        trio.lowlevel.open_process,
        list(command.argv),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=cast("Mapping[str, str]", env),
        cwd="/",  # the agent's own folder may be gone, and every path we hand over is absolute
    )
    for _ in range(_BUSY_TRIES):
        try:
            return await start()
        except OSError as error:
            # Someone is just writing the binary (an update): the one error that passes by itself in a moment.
            if error.errno != errno.ETXTBSY:
                raise _spawn_error(command, error) from None
            await trio.sleep(0.05)
    raise SpawnError(f"{_name(command)} is being written to: something is updating it", code="restic_broken")


def _spawn_error(command: Command, error: OSError) -> SpawnError:
    """Given why the kernel refused, return it as our own error."""
    codes = {
        errno.ENOENT: "restic_missing",
        errno.ENOTDIR: "restic_missing",
        errno.E2BIG: "command_too_long",
        errno.EAGAIN: "no_resources",
        errno.ENOMEM: "no_resources",
        errno.EMFILE: "no_resources",
        errno.ENFILE: "no_resources",
    }
    code = codes.get(error.errno or 0, "restic_broken")
    reason = os.strerror(error.errno) if error.errno else str(error)
    return SpawnError(f"{_name(command)} could not be started: {reason}", code=code)


def _name(command: Command) -> str:
    return os.fsdecode(command.argv[0])


def the_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Given what a nursery raised, return the one error in it, so that callers need no groups; else the group."""
    _, errors = group.split(trio.Cancelled)
    found: BaseException = errors if errors is not None else group
    while isinstance(found, BaseExceptionGroup) and len(found.exceptions) == 1:
        found = found.exceptions[0]
    return found
