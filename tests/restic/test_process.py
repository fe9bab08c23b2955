"""Real processes, real signals, the real clock; moments are met by what the process says, never by waiting a while."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from restic_manager.domain.errors import StorageError
from restic_manager.restic.capture import capture
from restic_manager.restic.command import Command
from restic_manager.restic.process import Exit, Patience, SpawnError, run_process
from tests.support import fake_restic

SHORT = Patience(stop=0.5, kill=5, drain=0.6)
LONG = Patience(stop=20, kill=5, drain=10)
LIMIT = 20


class Run:
    """One run: its lines, an event for each line awaited, and its end."""

    def __init__(self, fake: fake_restic.FakeRestic | None = None) -> None:
        self.command = Command((fake.path.encode() if fake else b"/bin/true", b"backup"), dict(os.environ))
        self.stop = trio.Event()
        self.out: list[bytes] = []
        self.err: list[bytes] = []
        self.pid = 0
        self.exit: Exit | None = None
        self.waiting: dict[bytes, trio.Event] = {}

    def said(self, line: bytes) -> trio.Event:
        return self.waiting.setdefault(line, trio.Event())

    async def take(self, stream: str, lines: list[bytes]) -> None:
        (self.out if stream == "stdout" else self.err).extend(lines)
        for line in lines:
            if line in self.waiting:
                self.waiting[line].set()

    def spawned(self, pid: int) -> None:
        self.pid = pid

    async def __call__(self, patience: Patience = LONG, number: signal.Signals = signal.SIGTERM) -> Exit:
        self.exit = await run_process(
            self.command,
            on_lines=self.take,
            stop=self.stop,
            stop_signal=number,
            on_spawned=self.spawned,
            patience=patience,
        )
        return self.exit

    async def assert_gone(self) -> None:
        """It has been waited for, and nothing of its group lives (a killed grandchild dies a moment after the kill)."""
        with pytest.raises(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)  # noqa: ASYNC222  # it does not wait
        with trio.fail_after(5):
            while living_members(self.pid):  # noqa: ASYNC110  # a process's death in another's hands rings no bell
                await trio.sleep(0.005)


def living_members(group: int) -> list[str]:
    """Return the processes of a group that are no zombies (those wait for the machine's init, not for us)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, its_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its_group) == group and state != "Z":
            found.append(folder.name)
    return found


Fake = Callable[..., fake_restic.FakeRestic]


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    def make(*steps: object, version: str = "0.18.0", ignore: tuple[str, ...] = ()) -> fake_restic.FakeRestic:
        behaviour = {
            "ignore": ignore,
            "steps": [step if isinstance(step, dict) else {"stdout": step} for step in steps],
        }
        return fake_restic.install(tmp_path / "bin", version=version, backup=behaviour)

    return make


def open_files() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


async def test_lines_and_code(fake: Fake) -> None:
    run = Run(fake("one", {"stderr": "two"}, {"hex": "6c617374"}, {"exit": 7}))
    with trio.fail_after(LIMIT):
        assert await run() == Exit(run.pid, 7, None)
    assert (run.out, run.err) == ([b"one", b"last"], [b"two"])
    await run.assert_gone()


async def test_an_answer_that_is_no_text_comes_as_it_is(fake: Fake) -> None:
    run = Run(fake({"bytes": 300_001}, {"stderr": "a word"}, {"hex": "0a0a00"}))
    pieces: list[bytes] = []

    async def take(data: bytes) -> None:
        pieces.append(data)

    with trio.fail_after(LIMIT):
        end = await run_process(
            run.command, on_lines=run.take, on_bytes=take, stop=run.stop, stop_signal=signal.SIGTERM, patience=LONG
        )
    assert (end.code, end.drained) == (0, True)
    assert b"".join(pieces) == (bytes(range(256)) * 1_200)[:300_001] + b"\n\n\0"
    assert max(map(len, pieces)) <= 64 << 10
    assert (run.out, run.err) == ([], [b"a word"])


async def test_no_file_descriptor_is_left_open(fake: Fake) -> None:
    made = fake("one")
    with trio.fail_after(LIMIT):
        await Run(made)()
        gc.collect()
        before = open_files()
        for _ in range(3):
            await Run(made)()
        assert open_files() == before


async def test_the_environment_the_folder_and_the_session_are_ours_to_say() -> None:
    run = Run()
    script = b'echo "$PWD"; env; ps -o sid= -p $$'
    run.command = Command((b"/bin/sh", b"-c", script), {"A": "ü", "B": "caf\udce9", "PATH": os.environ["PATH"]})
    with trio.fail_after(LIMIT):
        await run()
    assert run.out[0] == b"/"
    assert "A=ü".encode() in run.out
    assert b"B=caf\xe9" in run.out
    assert not any(line.startswith(b"HOME=") for line in run.out)
    assert int(run.out[-1]) == run.pid


@pytest.mark.parametrize(
    ("version", "number"), [("0.14.0", signal.SIGINT), ("0.18.0", signal.SIGTERM), ("0.19.1", signal.SIGTERM)]
)
async def test_stopped_in_order(fake: Fake, version: str, number: signal.Signals) -> None:
    made = fake("ready", {"sleep": 60}, version=version)
    run = Run(made)
    ready = run.said(b"ready")
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, LONG, number)
            await ready.wait()
            run.stop.set()
    assert run.exit is not None
    assert run.exit.killed is False
    assert run.exit.code == (1 if version == "0.18.0" else 130)
    assert [record["signal"] for record in made.records("signal")] == [number.name]
    assert run.err[0].endswith(b"received, cleaning up")
    await run.assert_gone()


async def test_sigterm_kills_an_old_one(fake: Fake) -> None:
    run = Run(fake("ready", {"sleep": 60}, version="0.14.0"))
    ready = run.said(b"ready")
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await ready.wait()
            run.stop.set()
    assert run.exit == Exit(run.pid, None, signal.SIGTERM, stopped=True)


async def test_its_stdin_ends_first(fake: Fake) -> None:
    run = Run(fake("ready", {"stdin_end": True}, {"exit": 5}, ignore=("SIGTERM",)))
    ready = run.said(b"ready")
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await ready.wait()
            run.stop.set()
    assert run.exit == Exit(run.pid, 5, None, stopped=True)


async def test_one_that_ignores_signals_is_killed_after_the_patience(fake: Fake) -> None:
    made = fake("ready", {"sleep": 60}, ignore=("SIGTERM", "SIGINT"))
    run = Run(made)
    ready = run.said(b"ready")
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, SHORT)
            await ready.wait()
            asked = trio.current_time()
            run.stop.set()
    assert run.exit == Exit(run.pid, None, signal.SIGKILL, stopped=True, killed=True)
    assert 0.5 <= trio.current_time() - asked < 5
    assert made.records("signal")[0]["ignored"] is True
    await run.assert_gone()


async def test_stopped_before_it_began(fake: Fake) -> None:
    run = Run(fake({"sleep": 60}))
    run.stop.set()
    with trio.fail_after(LIMIT):
        end = await run(SHORT)
    assert end.code is None or end.code != 0
    await run.assert_gone()


async def test_stopped_while_it_floods(fake: Fake) -> None:
    run = Run(fake("ready", {"flood": 50_000_000}))
    ready = run.said(b"ready")
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await ready.wait()
            run.stop.set()
    assert run.exit is not None
    assert run.exit.code == 1
    assert run.exit.drained
    await run.assert_gone()


async def test_both_pipes_flooded(fake: Fake) -> None:
    run = Run(fake({"flood": 200_000}))
    with trio.fail_after(LIMIT):
        assert (await run()).code == 0
    block = [b"flood line %06d" % number for number in range(1000)]
    assert run.out == block * 200
    assert run.err == block * 200


async def test_a_huge_line_is_cut(fake: Fake) -> None:
    run = Run(fake({"long_line": 8_000_000}, {"long_line": 8_000_000, "to": "stderr"}, "after"))
    with trio.fail_after(LIMIT):
        await run()
    assert run.out[0] == run.err[0] == b"x" * 262_144 + b" ... [line cut, 7737856 bytes left out]"
    assert run.out[1:] == [b"after"]


async def test_a_grandchild_of_the_group_dies_with_it(fake: Fake) -> None:
    run = Run(fake({"grandchild": 60}, "done"))
    with trio.fail_after(LIMIT):
        began = trio.current_time()
        end = await run(SHORT)
        assert trio.current_time() - began < 5
    assert end.code == 0
    assert end.drained
    assert run.out[-1] == b"done"
    await run.assert_gone()


async def test_a_grandchild_with_a_session_of_its_own_does_not_hold_us(fake: Fake) -> None:
    run = Run(fake({"grandchild": 60, "session": True}, "done"))
    with trio.fail_after(LIMIT):
        end = await run(SHORT)
    assert end.code == 0
    assert not end.drained
    assert run.out[-1] == b"done"
    os.kill(int(run.out[0].split()[1]), signal.SIGKILL)


async def test_hard_cancellation_leaves_no_process(fake: Fake) -> None:
    run = Run(fake("ready", {"grandchild": 60}, "both", {"sleep": 60}, ignore=("SIGTERM", "SIGINT")))
    both = run.said(b"both")
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await both.wait()
            asked = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - asked < 2
    assert run.exit is None
    await run.assert_gone()


async def test_hard_cancellation_while_it_is_being_stopped(fake: Fake) -> None:
    made = fake("ready", {"sleep": 60}, ignore=("SIGTERM", "SIGINT"))
    run = Run(made)
    ready = run.said(b"ready")
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await ready.wait()
            run.stop.set()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    await run.assert_gone()


async def test_hard_cancellation_before_it_began(fake: Fake) -> None:
    made = fake("ready", {"sleep": 60})
    run = Run(made)
    with trio.CancelScope() as scope:
        scope.cancel()
        await run()
    assert run.pid == 0
    assert made.invocations() == []


async def test_a_slow_reader_makes_it_wait_and_loses_nothing(fake: Fake, tmp_path: Path) -> None:
    run = Run(fake({"flood": 20_000}, {"touch": str(tmp_path / "written")}))
    go, first = trio.Event(), trio.Event()
    take = run.take

    async def slow(stream: str, lines: list[bytes]) -> None:
        first.set()
        await go.wait()
        await take(stream, lines)

    run.take = slow  # type: ignore[method-assign]
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, SHORT)
            await first.wait()
            # 340 kB do not fit into the pipe: it cannot have written them all.
            assert not (tmp_path / "written").exists()
            go.set()
    assert len(run.out) == len(run.err) == 20_000


async def test_the_last_words_reach_a_reader_slower_than_our_patience(fake: Fake) -> None:
    run = Run(fake("first", {"hex": "0a" * 70_000}, "last"))
    take = run.take

    async def slow(stream: str, lines: list[bytes]) -> None:
        # Longer than the process lives and than the patience after its end: that is what is tested.
        await trio.sleep(0.7)
        await take(stream, lines)

    run.take = slow  # type: ignore[method-assign]
    with trio.fail_after(LIMIT):
        end = await run(SHORT)
    assert run.out[-1] == b"last"
    assert end.drained


async def test_an_error_of_the_reader_comes_out_as_it_is(fake: Fake) -> None:
    run = Run(fake("ready", {"sleep": 60}, ignore=("SIGTERM",)))

    async def broken(stream: str, lines: list[bytes]) -> None:
        await trio.lowlevel.checkpoint()
        raise StorageError("the journal is full")

    run.take = broken  # type: ignore[method-assign]
    with trio.fail_after(LIMIT), pytest.raises(StorageError):
        await run()
    await run.assert_gone()


async def test_an_error_when_told_of_the_spawn_kills_it_too(fake: Fake) -> None:
    run = Run(fake("ready", {"sleep": 60}, ignore=("SIGTERM",)))

    def broken(pid: int) -> None:
        run.pid = pid
        raise StorageError("the journal is full")

    run.spawned = broken  # type: ignore[method-assign]
    with trio.fail_after(LIMIT), pytest.raises(StorageError):
        await run()
    await run.assert_gone()


async def test_what_cannot_be_started(tmp_path: Path) -> None:
    plain, junk = tmp_path / "plain", tmp_path / "junk"
    plain.write_text("x")
    junk.write_bytes(b"\x7fELFjunk")
    junk.chmod(0o755)
    cases: list[tuple[bytes, str, bytes]] = [
        (b"/no/such/restic", "restic_missing", b"x"),
        (os.fsencode(plain), "restic_broken", b"x"),
        (os.fsencode(junk), "restic_broken", b"x"),
        (b"/bin/true", "command_too_long", b"x" * 3_000_000),
    ]
    for path, code, word in cases:
        run = Run()
        run.command = Command((path, word), {})
        with pytest.raises(SpawnError) as caught:
            await run()
        assert caught.value.code == code
        assert os.fsdecode(path) in caught.value.message


async def test_capture_keeps_what_a_short_command_says(fake: Fake) -> None:
    made = fake("one", {"stderr": "two"}, {"long_line": 1_000_000}, {"exit": 3})
    with trio.fail_after(LIMIT):
        answer = await capture(Run(made).command, within=10, stop_signal=signal.SIGTERM)
    assert answer.exit.code == 3
    assert answer.stdout == b"one\n" + b"x" * 1_000_000
    assert answer.stderr == [b"two"]
    assert not answer.timed_out


async def test_capture_is_bounded_in_time_and_size(fake: Fake) -> None:
    with trio.fail_after(LIMIT):
        slow = await capture(Run(fake("x", {"sleep": 60})).command, within=0.3, stop_signal=signal.SIGTERM)
        loud = await capture(Run(fake({"flood": 500_000})).command, within=10, stop_signal=signal.SIGTERM, most=1000)
    assert slow.timed_out
    assert len(loud.stdout) <= 1000
    assert len(loud.stderr) == 100
