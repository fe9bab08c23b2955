"""The whole room on the real binaries: every version that `tests/tools/get_restic.sh` could fetch.

Moments inside a backup are met with a proxy that holds one request, so nothing here waits a while and hopes.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from restic_manager.domain.model import BackupSpec, InitSpec, Limits, Outcome, Progress, RepoAccess, Spec, Status
from restic_manager.restic.run import Binary, Task, find_binary, make_asker, run_task
from restic_manager.restic.version import Version
from tests.support.holding_proxy import holding_proxy
from tests.support.quick_key import make_quick
from tests.support.restic_binaries import REAL_RESTICS, RealRestic, needs_rest_server, rest_server

PASSWORD = "right-horse"
LIMIT = 50

pytestmark = pytest.mark.parametrize("real", REAL_RESTICS)


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One fresh repository a version, made once: restic spends two seconds on its key."""
    return {"": tmp_path_factory.mktemp("templates")}


class World:
    """One version of restic, a repository of its own, something to back up, and what a run tells."""

    def __init__(self, real: RealRestic, folder: Path, templates: dict[str, Path]) -> None:
        self.real = real
        major, minor, patch = (int(part) for part in real.version.split("."))
        self.binary = Binary(str(real.path), Version(major, minor, patch))
        self.cache = folder / "cache"
        self.data = folder / "data"
        self.data.mkdir()
        (self.data / "file").write_bytes(os.urandom(100_000))
        self.served = folder / "served"
        self.repo = self.served / "repo"
        if real.version not in templates:
            made = templates[""] / real.version
            real.run(str(made), "init", password=PASSWORD)
            make_quick(made, PASSWORD)
            templates[real.version] = made
        shutil.copytree(templates[real.version], self.repo)
        self.url = str(self.repo)
        self.lines: list[tuple[str, str]] = []
        self.progress: list[Progress] = []
        self.pids: list[int] = []
        self.stop = trio.Event()

    async def take(self, stream: str, lines: Sequence[str]) -> None:
        self.lines += [(stream, line) for line in lines]

    def task(self, spec: Spec | None = None, **facts: Any) -> Task:
        repo = RepoAccess(repo_id="r1", url=self.url, password=PASSWORD)
        spec = spec if spec is not None else BackupSpec(paths=(str(self.data),))
        return dataclasses.replace(Task("job-1", "sch-1", spec, repo, "web1"), **facts)

    async def run(self, spec: Spec | None = None, *, kill_after: float = 30.0, **facts: Any) -> Outcome:
        with trio.fail_after(LIMIT):
            return await run_task(
                self.task(spec, **facts),
                binary=self.binary,
                cache_dir=self.cache,
                on_lines=self.take,
                on_progress=self.progress.append,
                on_spawned=self.pids.append,
                stop=self.stop,
                kill_after=kill_after,
            )

    async def plain(self, *words: str) -> str:
        """Ask the repository ourselves, past every proxy."""
        return await trio.to_thread.run_sync(lambda: self.real.run(str(self.repo), *words, password=PASSWORD))

    def locks(self) -> list[Path]:
        return list((self.repo / "locks").iterdir())

    def of(self, stream: str) -> list[str]:
        return [line for its_stream, line in self.lines if its_stream == stream]


@pytest.fixture
def world(real: RealRestic, tmp_path: Path, templates: dict[str, Path]) -> World:
    return World(real, tmp_path, templates)


@pytest.fixture
def server(world: World) -> Iterator[str]:
    with rest_server(world.served) as url:
        yield url


def code_of(outcome: Outcome) -> str | None:
    return outcome.error.code if outcome.error is not None else None


async def test_found_and_its_first_repository(world: World, tmp_path: Path) -> None:
    assert await find_binary(world.binary.path) == world.binary
    world.url = str(tmp_path / "fresh")
    assert code_of(await world.run()) == "repo_missing"
    assert await world.run(InitSpec()) == Outcome(status=Status.SUCCEEDED, exit_code=0)
    assert code_of(await world.run(InitSpec())) == "repo_exists"
    assert await make_asker(world.task(), binary=world.binary, cache_dir=world.cache).find_snapshot("job-1") is None


async def test_a_backup_with_everything(world: World) -> None:
    for name in ("keep", "drop.tmp", "-dash", "caf\udce9"):
        (world.data / name).write_text(name.encode("utf-8", "replace").decode())
    (world.data / "skipped").mkdir()
    (world.data / "skipped" / ".nobackup").touch()
    (world.data / "skipped" / "inside").touch()
    patterns = world.data.parent / "excludes"
    patterns.write_text("*.listed\n")
    (world.data / "x.listed").touch()
    spec = BackupSpec(
        paths=(str(world.data), f"{world.data}/caf\\xe9"),
        excludes=("*.tmp", "-dash"),
        exclude_files=(str(patterns),),
        exclude_if_present=(".nobackup",),
        exclude_caches=True,
        one_file_system=True,
        tags=("daily", "with space"),
    )
    outcome = await world.run(spec)
    assert outcome.status is Status.SUCCEEDED, outcome
    assert outcome.snapshot_id is not None
    assert outcome.stats is not None
    listed = (await world.plain("ls", outcome.snapshot_id)).splitlines()
    names = {line.rsplit("/", 1)[-1] for line in listed}
    assert {"file", "keep", "caf\udce9"} <= names
    assert not names & {"drop.tmp", "-dash", "x.listed", "inside"}
    assert '"tags":["rm:sch-1","rmj:job-1","daily","with space"]' in await world.plain("snapshots", "--json")
    assert '"hostname":"web1"' in await world.plain("snapshots", "--json")
    assert world.locks() == []


async def test_unreadable_and_missing_are_warnings(world: World) -> None:
    # Root may read everything, so a file is taken that nobody can: the kernel refuses to read this one.
    unreadable = await world.run(BackupSpec(paths=(str(world.data), "/proc/self/clear_refs")))
    assert (unreadable.status, unreadable.exit_code, code_of(unreadable)) == (Status.WARNING, 3, "source_unreadable")
    assert unreadable.error is not None
    assert "clear_refs" in unreadable.error.lines[0]
    missing = await world.run(BackupSpec(paths=(str(world.data), "/no/such")))
    assert (missing.status, code_of(missing)) == (Status.WARNING, "source_missing")
    assert missing.exit_code == (3 if world.binary.version >= Version(0, 19) else 0)
    assert missing.snapshot_id is not None
    gone = await world.run(BackupSpec(paths=("/no/such",)))
    assert (gone.status, code_of(gone), gone.exit_code) == (Status.FAILED, "source_missing", None)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
async def test_a_file_that_the_agents_user_may_not_read(world: World, tmp_path: Path) -> None:
    (world.data / "secret").touch(mode=0o000)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(0o755)
    wrapper = tmp_path / "as-nobody"
    copied = tmp_path / "restic"
    shutil.copy(world.real.path, copied)
    wrapper.write_text(f'#!/bin/sh\nexec setpriv --reuid=65534 --regid=65534 --clear-groups {copied} "$@"\n')
    for path in (wrapper, copied):
        path.chmod(0o755)
    world.cache.mkdir()
    for path in (world.cache, world.repo, *world.repo.rglob("*")):
        os.chown(path, 65534, 65534)
    world.binary = Binary(str(wrapper), world.binary.version)
    outcome = await world.run()
    assert (outcome.status, outcome.exit_code, code_of(outcome)) == (Status.WARNING, 3, "source_unreadable")
    assert outcome.error is not None
    assert "permission denied" in outcome.error.lines[0].lower()


async def test_a_wrong_password(world: World) -> None:
    repo = RepoAccess(repo_id="r", url=world.url, password="wrong-horse")
    outcome = await world.run(repo=repo)
    assert (outcome.status, code_of(outcome)) == (Status.FAILED, "wrong_password")
    assert "wrong-horse" not in repr(world.lines)


@needs_rest_server
async def test_over_the_network_up_and_down(world: World, server: str) -> None:
    world.url = f"rest:{server}repo"
    assert (await world.run()).status is Status.SUCCEEDED
    world.url = f"rest:{server}elsewhere"
    assert code_of(await world.run()) == "repo_missing"
    # Nobody listens on port 1. From 0.17 on restic tries for a quarter of an hour: our time limit ends it.
    world.url = "rest:http://127.0.0.1:1/repo"
    down = await world.run(limits=Limits(time_limit=2))
    assert down.status is Status.FAILED
    assert code_of(down) == "network"
    assert down.error is not None
    assert "connection refused" in down.error.lines[0]


@needs_rest_server
async def test_a_login_in_the_url(world: World) -> None:
    # {SHA} of "horse"
    (world.served / ".htpasswd").write_text("us@er:{SHA}CRtQNYhcABcP7J7PJCJJM+PeP8w=\n")
    with rest_server(world.served, login=True) as url:
        host = url.removeprefix("http://")
        world.url = f"rest:http://us%40er:wrong-login@{host}repo"
        refused = await world.run()
        assert code_of(refused) == "access_denied"
        world.url = f"rest:http://us%40er:horse@{host}repo"
        assert (await world.run()).status is Status.SUCCEEDED
        env = {"RESTIC_REST_USERNAME": "us@er", "RESTIC_REST_PASSWORD": "horse"}
        repo = RepoAccess(repo_id="r1", url=f"rest:{url}repo", password=PASSWORD, env=env)
        assert (await world.run(repo=repo)).status is Status.SUCCEEDED
        assert "wrong-login" not in repr((refused, world.lines))


@needs_rest_server
async def test_locked(world: World, server: str) -> None:
    async with holding_proxy(server, "GET", "/index/") as proxy, trio.open_nursery() as nursery:
        checking = lambda: world.real.run(f"rest:{proxy.url}repo", "check", password=PASSWORD)  # noqa: E731
        nursery.start_soon(trio.to_thread.run_sync, checking)
        await proxy.held.wait()
        assert len(world.locks()) == 1
        outcome = await world.run()
        assert (outcome.status, code_of(outcome)) == (Status.FAILED, "locked")
        assert outcome.error is not None
        assert "locked exclusively by PID" in outcome.error.lines[0]
        assert len(world.locks()) == 1
        proxy.release()


async def halted(world: World, server: str, act: Any, method: str, part: str, **facts: Any) -> Outcome:
    """Run a backup until that request is held, then act on it; return the outcome."""
    found: list[Outcome] = []
    hold = facts.pop("hold", "request")
    async with holding_proxy(server, method, part, hold=hold) as proxy, trio.open_nursery() as nursery:
        world.url = f"rest:{proxy.url}repo"

        async def run() -> None:
            found.append(await world.run(**facts))

        nursery.start_soon(run)
        with trio.fail_after(LIMIT):
            await proxy.held.wait()
        assert len(world.locks()) == 1
        act(proxy)
    return found[0]


@needs_rest_server
async def test_cancelled_in_the_middle_leaves_no_lock(world: World, server: str) -> None:
    outcome = await halted(world, server, lambda _: world.stop.set(), "POST", "/data/")
    assert (outcome.status, code_of(outcome)) == (Status.CANCELLED, "cancelled")
    assert outcome.exit_code == (1 if world.real.version == "0.18.0" else 130)
    assert outcome.snapshot_id is None
    assert world.locks() == []


@needs_rest_server
async def test_cancelled_after_its_snapshot_was_saved(world: World, server: str) -> None:
    """restic does not know it, for the answer never came; the repository does."""
    outcome = await halted(
        world, server, lambda _: world.stop.set(), "POST", "/snapshots/", hold="answer", kill_after=5.0
    )
    assert outcome.status is Status.CANCELLED
    assert outcome.snapshot_id is not None
    assert outcome.snapshot_id in await world.plain("snapshots", "--json")
    assert world.locks() == []


@needs_rest_server
async def test_killed_after_its_snapshot_was_saved(world: World, server: str) -> None:
    def kill(proxy: Any) -> None:
        os.kill(world.pids[0], signal.SIGKILL)
        proxy.release()

    outcome = await halted(world, server, kill, "POST", "/snapshots/", hold="answer")
    assert outcome.status is Status.SUCCEEDED, outcome
    assert outcome.exit_code is None
    assert outcome.snapshot_id is not None
    assert outcome.snapshot_id in await world.plain("snapshots", "--json")
    assert world.of("agent")[0] == "removed the lock that restic left behind"
    assert world.locks() == []
