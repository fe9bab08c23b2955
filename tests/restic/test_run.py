"""A task from checks to outcome, with a fake restic that is a real process."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from restic_manager.domain.errors import InputError, StorageError
from restic_manager.domain.model import BackupSpec, InitSpec, Limits, Outcome, Progress, RepoAccess, Spec, Status
from restic_manager.restic import backing
from restic_manager.restic.after import LookupFailedError
from restic_manager.restic.run import Binary, Task, find_binary, make_asker, missing_paths, run_task
from restic_manager.restic.version import ResticUnusableError, Version
from tests.support import fake_restic

LIMIT = 20
PASSWORD = "geheim-word"


class World:
    """A fake restic, a repository, a folder to back up, and everything a run tells."""

    def __init__(self, folder: Path) -> None:
        self.fake = fake_restic.install(folder / "bin")
        self.repo = folder / "repo"
        self.data = folder / "data"
        self.data.mkdir()
        self.cache = folder / "cache"
        self.lines: list[tuple[str, str]] = []
        self.progress: list[Progress] = []
        self.pids: list[int] = []
        self.stop = trio.Event()
        self.waiting: dict[str, trio.Event] = {}
        self.version = Version(0, 18)
        fake_restic.make_repo(self.repo, PASSWORD)

    def steer(self, version: str = "0.18.0", **commands: Any) -> None:
        major, minor, patch = (int(part) for part in version.split("."))
        self.version = Version(major, minor, patch)
        self.fake.steer(version=version, **commands)

    def said(self, line: str) -> trio.Event:
        return self.waiting.setdefault(line, trio.Event())

    async def take(self, stream: str, lines: Sequence[str]) -> None:
        self.lines += [(stream, line) for line in lines]
        for line in lines:
            if line in self.waiting:
                self.waiting[line].set()

    def task(self, spec: Spec | None = None, **facts: Any) -> Task:
        repo = RepoAccess(repo_id="r1", url=str(self.repo), password=PASSWORD)
        spec = spec if spec is not None else BackupSpec(paths=(str(self.data),))
        return dataclasses.replace(Task("job-1", "sch-1", spec, repo, "web1"), **facts)

    async def run(self, spec: Spec | None = None, **facts: Any) -> Outcome:
        options = {name: facts.pop(name) for name in ("kill_after", "lookup_within", "redact") if name in facts}
        with trio.fail_after(LIMIT):
            return await run_task(
                self.task(spec, **facts),
                binary=Binary(self.fake.path, self.version),
                cache_dir=self.cache,
                on_lines=self.take,
                on_progress=self.progress.append,
                on_spawned=self.pids.append,
                stop=self.stop,
                **options,
            )

    def of(self, stream: str) -> list[str]:
        return [line for its_stream, line in self.lines if its_stream == stream]

    def commands(self) -> list[str]:
        return [" ".join(record["argv"][:2]) for record in self.fake.invocations()]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def code_of(outcome: Outcome) -> str | None:
    return outcome.error.code if outcome.error is not None else None


# -- finding restic ---------------------------------------------------------------------------------------------------


async def test_finds_a_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_restic.install(tmp_path / "bin", version="0.17.3")
    expected = Binary(fake.path, Version(0, 17, 3))
    assert await find_binary(fake.path) == expected
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    assert await find_binary(None) == expected
    assert await find_binary("restic") == expected


async def test_says_why_there_is_none_to_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restic_manager.restic.binary._VERSION_WITHIN", 0.3)
    monkeypatch.setenv("PATH", str(tmp_path))
    junk = tmp_path / "junk"
    junk.write_bytes(b"\x7fELFjunk")
    junk.chmod(0o755)
    fake = fake_restic.install(tmp_path / "bin")
    cases: list[tuple[str | None, dict[str, Any], str, str]] = [
        (None, {}, "restic_missing", "install restic"),
        (str(tmp_path / "nothing"), {}, "restic_missing", "nothing"),
        (str(tmp_path), {}, "restic_missing", str(tmp_path)),
        (str(junk), {}, "restic_broken", "Exec format error"),
        (fake.path, {"version": "0.9.6"}, "restic_too_old", "0.9.6"),
        (fake.path, {"version_text": "busybox"}, "restic_broken", "busybox"),
    ]
    for path, scenario, code, named in cases:
        fake.steer(**scenario)
        with pytest.raises(ResticUnusableError) as caught:
            await find_binary(path)
        assert (caught.value.code, named in caught.value.message) == (code, True)


@pytest.mark.parametrize(
    ("script", "named"),
    [("exit 9", "exit code 9"), ("kill -9 $$", "signal 9"), ("exec sleep 60", "0.3 s"), ("echo hm >&2; exit 1", "hm")],
)
async def test_a_binary_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, named: str
) -> None:
    monkeypatch.setattr("restic_manager.restic.binary._VERSION_WITHIN", 0.3)
    path = tmp_path / "restic"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    with pytest.raises(ResticUnusableError) as caught:
        await find_binary(str(path))
    assert caught.value.code == "restic_broken"
    assert named in caught.value.message


# -- runs that end by themselves --------------------------------------------------------------------------------------


async def test_a_backup(world: World) -> None:
    outcome = await world.run()
    saved = fake_restic.saved_snapshots(world.repo)
    assert outcome.status is Status.SUCCEEDED
    assert outcome.error is None
    assert outcome.snapshot_id == saved[0]["id"]
    assert outcome.stats is not None
    assert outcome.stats.files_new == 1
    assert saved[0]["tags"] == ["rm:sch-1", "rmj:job-1"]
    assert saved[0]["hostname"] == "web1"
    assert [progress.percent_done for progress in world.progress] == [0.5]
    assert world.lines == [("stdout", world.of("stdout")[0])]
    assert world.of("stdout")[0].startswith("snapshot ")
    invocation = world.fake.invocations("backup")[0]
    assert invocation["env"] == {"RESTIC_REPOSITORY": str(world.repo), "RESTIC_MANAGER_JOB_ID": "job-1"}
    assert world.pids == [invocation["pid"]]
    assert world.commands() == ["backup --json"]


@pytest.mark.parametrize("version", ["0.14.0", "0.18.0", "0.19.1"])
async def test_an_init_then_a_backup(world: World, version: str) -> None:
    world.steer(version)
    world.repo = world.repo.with_name("fresh")
    missing = await world.run()
    assert (missing.status, code_of(missing)) == (Status.FAILED, "repo_missing")
    assert missing.exit_code == (1 if version == "0.14.0" else 10)
    assert (await world.run(InitSpec())).status is Status.SUCCEEDED
    assert code_of(await world.run(InitSpec())) == "repo_exists"
    assert (await world.run()).status is Status.SUCCEEDED
    assert world.commands() == ["backup --json", "init --json", "init --json", "backup --json"]


async def test_a_wrong_password(world: World) -> None:
    repo = RepoAccess(repo_id="r", url=str(world.repo), password="another")
    assert code_of(await world.run(repo=repo)) == "wrong_password"


@pytest.mark.parametrize("version", ["0.14.0", "0.18.0", "0.19.1"])
async def test_a_missing_path_is_a_warning(world: World, version: str) -> None:
    world.steer(version)
    outcome = await world.run(BackupSpec(paths=(str(world.data), "/no/such")))
    assert (outcome.status, code_of(outcome)) == (Status.WARNING, "source_missing")
    assert outcome.snapshot_id is not None
    assert world.of("agent") == ["/no/such does not exist: backing up the rest"]


async def test_no_path_left_starts_nothing(world: World) -> None:
    outcome = await world.run(BackupSpec(paths=("/no/such", "/no/such", "/nor/this")))
    assert (outcome.status, code_of(outcome)) == (Status.FAILED, "source_missing")
    assert outcome.error is not None
    assert "/no/such" in outcome.error.message
    assert world.commands() == []
    assert world.pids == []


def test_missing_paths_are_those_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("/nowhere")
    odd = os.fsencode(tmp_path) + b"/caf\xe9"
    Path(os.fsdecode(odd)).touch()
    there = [f"{tmp_path}/file", f"{tmp_path}/dangling", f"{tmp_path}/caf\\xe9", "/"]
    gone = [f"{tmp_path}/gone", f"{tmp_path}/file/below"]
    assert missing_paths([*there, *gone, gone[0]]) == tuple(gone)


async def test_what_may_not_be_run_is_not_run(world: World) -> None:
    env = {"RESTIC_PASSWORD_COMMAND": "touch /tmp/x"}
    repo = RepoAccess(repo_id="r", url=str(world.repo), password=PASSWORD, env=env)
    outcome = await world.run(repo=repo)
    assert (outcome.status, code_of(outcome)) == (Status.FAILED, "invalid_input")
    assert outcome.error is not None
    assert "RESTIC_PASSWORD_COMMAND" in outcome.error.message
    assert code_of(await world.run(BackupSpec(paths=("relative",)))) == "invalid_input"
    assert world.commands() == []
    with pytest.raises(InputError):
        make_asker(world.task(repo=repo), binary=Binary("/x", Version(0, 18)), cache_dir=world.cache)


async def test_a_restic_that_is_gone(world: World) -> None:
    os.unlink(world.fake.path)  # noqa: PTH108
    outcome = await world.run()
    assert (outcome.status, code_of(outcome)) == (Status.FAILED, "restic_missing")


async def test_too_much_for_a_command_line(world: World) -> None:
    spec = BackupSpec(paths=(str(world.data),), excludes=("x" * 16_000,) * 1_000)
    assert code_of(await world.run(spec)) == "command_too_long"


async def test_lines_of_all_kinds(world: World) -> None:
    world.steer(
        backup={
            "steps": [
                {"stdout": "plain"},
                {"stderr_json": {"message_type": "error", "error": {"message": "open /x: denied"}, "item": "/x"}},
                {"hex": "636166e90a", "to": "stderr"},
                {"stdout_json": {"message_type": "status", "percent_done": 1}},
                {"snapshot": True},
                {"stdout_json": {"message_type": "summary", "snapshot_id": "abcdef12"}},
                {"stderr_json": {"message_type": "exit_error", "code": 3, "message": "Warning: x"}},
                {"exit": 3},
            ]
        }
    )
    outcome = await world.run()
    assert (outcome.status, code_of(outcome)) == (Status.WARNING, "source_unreadable")
    assert outcome.error is not None
    assert outcome.error.lines == ("error: open /x: denied", "caf\\xe9", "Warning: x")
    assert world.of("stderr") == ["error: open /x: denied", "caf\\xe9", "Warning: x"]
    assert world.of("stdout")[0] == "plain"
    assert len(world.progress) == 1


async def test_secrets_never_appear(world: World) -> None:
    world.steer(
        backup={"steps": [{"stdout": f"a {PASSWORD}"}, {"stderr": f"b {PASSWORD} second-secret"}, {"exit": 1}]},
        snapshots={"steps": [{"stderr": f"c {PASSWORD}"}, {"exit": 1}]},
    )
    outcome = await world.run(redact=lambda text: text.replace("second-secret", "###"))
    everything = repr(outcome) + repr(world.lines)
    assert PASSWORD not in everything
    assert "second-secret" not in everything
    assert outcome.error is not None
    assert outcome.error.lines == ("b *** ###",)
    assert "c ***" in outcome.error.message


# -- runs that are ended ----------------------------------------------------------------------------------------------


async def stopped_at(world: World, line: str, **facts: Any) -> Outcome:
    """Run, and ask it to stop as soon as it says the line."""
    said, found = world.said(line), []

    async def run() -> None:
        found.append(await world.run(**facts))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await said.wait()
        world.stop.set()
    return found[0]


@pytest.mark.parametrize("version", ["0.14.0", "0.18.0", "0.19.1"])
async def test_cancelled_in_the_middle(world: World, version: str) -> None:
    world.steer(version, backup={"steps": [{"lock": True}, {"stdout": "ready"}, {"sleep": 60}]})
    outcome = await stopped_at(world, "ready")
    assert (outcome.status, code_of(outcome)) == (Status.CANCELLED, "cancelled")
    assert outcome.exit_code == (1 if version == "0.18.0" else 130)
    assert outcome.snapshot_id is None
    assert list((world.repo / "locks").iterdir()) == []
    assert world.commands() == ["backup --json", "snapshots --json"]
    assert world.of("agent") == [f"asked to stop (cancelled): it ended by itself (exit code {outcome.exit_code})"]


async def test_cancelled_after_its_snapshot(world: World) -> None:
    world.steer(backup={"steps": [{"snapshot": True}, {"stdout": "ready"}, {"sleep": 60}]})
    outcome = await stopped_at(world, "ready")
    assert outcome.status is Status.CANCELLED
    assert outcome.snapshot_id == fake_restic.saved_snapshots(world.repo)[0]["id"]


async def test_cancelled_when_it_is_done_is_done(world: World) -> None:
    # The summary is out; restic only cleans up, and ends with 0 when told to.
    summary = {"message_type": "summary", "snapshot_id": "abcdef12"}
    steps = [{"stdout_json": summary}, {"stdout": "ready"}, {"stdin_end": True}, {"exit": 0}]
    world.steer(backup={"ignore": ["SIGTERM"], "steps": steps})
    outcome = await stopped_at(world, "ready")
    assert (outcome.status, outcome.snapshot_id) == (Status.SUCCEEDED, "abcdef12")


async def test_cancelled_one_that_does_not_listen(world: World) -> None:
    world.steer(backup={"ignore": ["SIGTERM"], "steps": [{"lock": True}, {"stdout": "ready"}, {"sleep": 60}]})
    outcome = await stopped_at(world, "ready", kill_after=0.3)
    assert (outcome.status, outcome.exit_code) == (Status.CANCELLED, None)
    assert world.of("agent") == [
        "asked to stop (cancelled): it had to be killed",
        "removed the lock that restic left behind",
    ]
    assert list((world.repo / "locks").iterdir()) == []
    assert world.commands() == ["backup --json", "list locks", "cat lock", "unlock", "snapshots --json"]


async def test_cancelled_before_it_began(world: World) -> None:
    world.stop.set()
    outcome = await world.run()
    assert (outcome.status, code_of(outcome)) == (Status.CANCELLED, "cancelled")
    assert world.commands() == []


async def test_cancelled_while_looking_at_a_dead_mount(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    looking, go = threading.Event(), threading.Event()

    def hang(_paths: Sequence[str]) -> tuple[str, ...]:
        looking.set()
        go.wait(LIMIT)
        return ()

    monkeypatch.setattr(backing, "missing_paths", hang)
    found = []

    async def run() -> None:
        found.append(await world.run())

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await trio.to_thread.run_sync(looking.wait)
            world.stop.set()
    finally:
        go.set()
    assert found[0].status is Status.CANCELLED
    assert world.commands() == []


async def test_asked_to_stop_only_after_its_end_is_not_cancelled(world: World) -> None:
    world.steer(backup={"steps": [{"stderr": "Fatal: boom"}, {"exit": 1}]})
    take = world.take

    async def slow(stream: str, lines: Sequence[str]) -> None:
        if stream == "stderr":
            with trio.fail_after(LIMIT):
                while world.pids and Path(f"/proc/{world.pids[0]}").exists():  # noqa: ASYNC110
                    await trio.sleep(0.005)
            world.stop.set()
        await take(stream, lines)

    world.take = slow  # type: ignore[method-assign]
    outcome = await world.run()
    assert (outcome.status, code_of(outcome)) == (Status.FAILED, "failed")


async def test_its_time_limit(world: World) -> None:
    world.steer(backup={"steps": [{"sleep": 60}]})
    outcome = await world.run(limits=Limits(time_limit=1))
    assert (outcome.status, code_of(outcome)) == (Status.FAILED, "time_limit")


async def test_its_stall_limit_counts_from_the_last_progress(world: World) -> None:
    status = {"message_type": "status", "bytes_done": 1}
    moves = [step for turn in range(4) for step in ({"stdout_json": status | {"bytes_done": turn}}, {"sleep": 0.4})]
    world.steer(backup={"steps": [*moves, *({"stdout_json": status}, {"sleep": 0.2}) * 100]})
    began = trio.current_time()
    outcome = await world.run(limits=Limits(stall_limit=1))
    assert (outcome.status, code_of(outcome)) == (Status.FAILED, "stalled")
    assert trio.current_time() - began > 2.0


async def test_killed_with_its_snapshot_saved(world: World) -> None:
    world.steer(backup={"steps": [{"lock": True}, {"snapshot": True}, {"kill": "SIGKILL"}]})
    outcome = await world.run()
    assert outcome.status is Status.SUCCEEDED
    assert outcome.exit_code is None
    assert outcome.snapshot_id == fake_restic.saved_snapshots(world.repo)[0]["id"]
    assert world.of("agent")[0] == "removed the lock that restic left behind"
    assert re.fullmatch(
        r"restic ended without a summary, but had saved snapshot \w{8} of this job", world.of("agent")[1]
    )


async def test_killed_without(world: World) -> None:
    world.steer(backup={"steps": [{"stderr": "oh no"}, {"kill": "SIGKILL"}]})
    outcome = await world.run()
    assert (outcome.status, code_of(outcome)) == (Status.FAILED, "killed")
    assert outcome.error is not None
    assert outcome.error.lines == ("oh no",)
    assert "unlock" not in world.commands()


async def test_another_jobs_snapshot_is_not_ours(world: World) -> None:
    await world.run(job_id="job-0")
    world.steer(backup={"steps": [{"kill": "SIGKILL"}]})
    assert (await world.run()).status is Status.FAILED


async def test_exit_0_without_a_word(world: World) -> None:
    world.steer(backup={"steps": []})
    outcome = await world.run()
    assert (outcome.status, outcome.exit_code, code_of(outcome)) == (Status.FAILED, 0, "no_summary")
    assert world.commands() == ["backup --json", "snapshots --json"]


@pytest.mark.parametrize(
    "snapshots",
    [
        {"steps": [{"stderr": "Fatal: dial tcp: no route"}, {"exit": 1}]},
        {"steps": [{"stderr_json": {"message_type": "exit_error", "message": "no route"}}, {"exit": 1}]},
        {"steps": [{"sleep": 60}]},
        {"steps": [{"stdout": "not json"}]},
        {"steps": [{"stdout": '{"no": "list"}'}]},
        {"steps": [{"kill": "SIGKILL"}]},
    ],
)
async def test_a_look_up_that_fails_is_told(world: World, snapshots: dict[str, Any]) -> None:
    world.steer(backup={"steps": [{"kill": "SIGKILL"}]}, snapshots=snapshots)
    outcome = await world.run(lookup_within=0.4)
    assert (outcome.status, code_of(outcome)) == (Status.FAILED, "killed")
    assert outcome.error is not None
    assert "could not be found out" in outcome.error.message
    assert any("could not be found out" in line for line in world.of("agent"))


async def test_asking_about_a_run_of_an_earlier_life(world: World) -> None:
    await world.run()
    binary = Binary(world.fake.path, world.version)
    asker = make_asker(world.task(), binary=binary, cache_dir=world.cache)
    assert await asker.find_snapshot("job-1") == fake_restic.saved_snapshots(world.repo)[0]["id"]
    assert await asker.find_snapshot("job-2") is None
    assert await asker.release_lock(world.pids[0]) is False
    world.steer(snapshots={"steps": [{"exit": 1}]})
    with pytest.raises(LookupFailedError) as caught:
        await asker.find_snapshot("job-1")
    assert caught.value.code == "lookup_failed"


async def test_a_live_lock_of_another_stays(world: World) -> None:
    world.steer(
        backup=[{"steps": [{"lock": True}, {"stdout": "ready"}, {"sleep": 60}]}, {"steps": [{"kill": "SIGKILL"}]}]
    )
    other = World.__new__(World)
    other.__dict__ = {**world.__dict__, "stop": trio.Event(), "lines": [], "waiting": {}, "pids": []}
    async with trio.open_nursery() as nursery:
        ready = other.said("ready")
        nursery.start_soon(other.run)
        await ready.wait()
        await world.run()
        assert len(list((world.repo / "locks").iterdir())) == 1
        nursery.cancel_scope.cancel()


# -- how it treats its caller -----------------------------------------------------------------------------------------


async def test_hard_cancellation_leaves_no_process(world: World) -> None:
    world.steer(backup={"ignore": ["SIGTERM"], "steps": [{"stdout": "ready"}, {"sleep": 60}]})
    ready = world.said("ready")
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.run)
            await ready.wait()
            nursery.cancel_scope.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(world.pids[0], 0)
    assert world.commands() == ["backup --json"]


async def test_an_error_of_its_caller_comes_out_as_it_is(world: World) -> None:
    async def broken(stream: str, lines: Sequence[str]) -> None:
        await trio.lowlevel.checkpoint()
        raise StorageError("the journal is full")

    world.take = broken  # type: ignore[method-assign]
    with pytest.raises(StorageError):
        await world.run()
    with pytest.raises(ProcessLookupError):
        os.kill(world.pids[0], 0)


async def test_lines_come_one_batch_at_a_time(world: World) -> None:
    world.steer(backup={"steps": [{"flood": 5_000}, {"exit": 1}]})
    inside = 0
    most = 0
    take = world.take

    async def counting(stream: str, lines: Sequence[str]) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await trio.testing.wait_all_tasks_blocked()
        await take(stream, lines)
        inside -= 1

    world.take = counting  # type: ignore[method-assign]
    await world.run()
    assert most == 1
    assert len(world.of("stdout")) == len(world.of("stderr")) == 5_000
