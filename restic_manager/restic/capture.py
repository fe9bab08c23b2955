"""Short restic commands: run one within a time limit and keep what it said. Owns no meaning of it."""

from __future__ import annotations

import signal
from dataclasses import dataclass

import trio

from restic_manager.restic.command import Command
from restic_manager.restic.output import Stream
from restic_manager.restic.process import Exit, Patience, run_process, the_cause


@dataclass(frozen=True, slots=True)
class Captured:
    """A short command's end and all it said. timed_out: we stopped it."""

    exit: Exit
    stdout: bytes
    stderr: list[bytes]
    timed_out: bool


async def capture(command: Command, *, within: float, stop_signal: signal.Signals, most: int = 16 << 20) -> Captured:
    """Given a short command, run it for at most `within` seconds and return what it said, `most` bytes of stdout."""
    out: list[bytes] = []
    err: list[bytes] = []
    size = 0
    stop = trio.Event()

    async def keep(stream: Stream, lines: list[bytes]) -> None:
        nonlocal size
        if stream == "stderr":
            err.extend(lines[: 100 - len(err)])
            return
        for line in lines:
            size += len(line) + 1
            if size <= most:
                out.append(line)

    async def ring() -> None:
        await trio.sleep(within)
        stop.set()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ring, name="restic time limit")
            end = await run_process(
                command,
                on_lines=keep,
                stop=stop,
                stop_signal=stop_signal,
                patience=Patience(stop=5.0),
                longest_line=most,
            )
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise the_cause(group) from None
    return Captured(end, b"\n".join(out), err, stop.is_set())
