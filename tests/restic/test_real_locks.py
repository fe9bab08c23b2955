"""Every kind waits for another restic's lock until that one ends: restic itself from 0.16 on, we before. Real binaries.

0.14's `ls` takes no lock, and so needs to wait for none.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from restic_manager.domain.model import Limits, Outcome, RepoAccess, Status
from restic_manager.domain.retention import Retention
from restic_manager.domain.specs import (
    BackupSpec,
    CheckSpec,
    CopySpec,
    DiffSpec,
    DumpSpec,
    FindSpec,
    ForgetPolicy,
    ForgetSpec,
    LsSpec,
    PruneSpec,
    RestoreSpec,
    SnapshotsSpec,
    Spec,
    StatsSpec,
    TagSpec,
    VerifySpec,
)
from restic_manager.restic.version import Feature
from tests.restic.real_world import PASSWORD, World, code_of
from tests.support.holding_proxy import HoldingProxy, holding_proxy
from tests.support.restic_binaries import REAL_RESTICS, RealRestic, needs_rest_server, rest_server

pytestmark = [pytest.mark.parametrize("real", REAL_RESTICS), needs_rest_server]
PATIENT = Limits(lock_wait=40)
HELD_FOR = 1.5
"""Seconds that the other one goes on: long enough for any restic to have come upon its lock."""


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {"": tmp_path_factory.mktemp("templates")}


@pytest.fixture
def world(real: RealRestic, tmp_path: Path, templates: dict[str, Path]) -> World:
    made = World(real, tmp_path, templates)
    (made.data / "one").write_text("one\n")
    return made


def everything(world: World, first: str, second: str) -> dict[str, Spec]:
    """One spec of each kind that takes a lock, those that share the repository first."""
    one = str(world.data / "one")
    keep = ForgetPolicy(schedule_id="sch-1", restic_host="web1", keep=Retention(last=1))
    return {
        "backup": BackupSpec(paths=(str(world.data),)),
        "restore": RestoreSpec(snapshot=first, target=str(world.folder / "restored")),
        "verify": VerifySpec(snapshot=first),
        "copy": CopySpec(from_repo="r2"),
        "snapshots": SnapshotsSpec(),
        "ls": LsSpec(snapshot=first, path=str(world.data)),
        "find": FindSpec(patterns=("one",)),
        "diff": DiffSpec(old=first, new=second),
        "stats": StatsSpec(),
        "dump": DumpSpec(snapshot=first, path=one),
        "tag": TagSpec(snapshots=(second,), add=("new",)),
        "check": CheckSpec(),
        "forget": ForgetSpec(policies=(keep,)),
        "prune": PruneSpec(),
    }


@asynccontextmanager
async def held(world: World, *words: str, at: str) -> AsyncIterator[tuple[HoldingProxy, subprocess.Popen[bytes]]]:
    """A restic that is not ours, which has its lock and goes on only when the proxy lets it."""
    env = {**os.environ, "RESTIC_PASSWORD": PASSWORD, "RESTIC_CACHE_DIR": str(world.folder / "other-cache")}
    with rest_server(world.served) as server:
        async with holding_proxy(server, "GET", at) as proxy:
            argv = [str(world.real.path), f"--repo=rest:{proxy.url}repo", *words]
            other = subprocess.Popen(  # noqa: ASYNC220 - it starts at once, and is waited for in a thread
                argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                with trio.fail_after(30):
                    await proxy.held.wait()
                assert len(world.locks()) == 1
                yield proxy, other
                proxy.release()
                await trio.to_thread.run_sync(other.wait, 30)
            finally:
                other.kill()
                other.wait()


async def test_a_job_goes_on_when_the_other_has_ended(world: World) -> None:
    await world.saved()
    found: list[Outcome] = []

    async def run() -> None:
        found.append(await world.run(limits=PATIENT))

    async with held(world, "check", at="/index/") as (proxy, other), trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.sleep(HELD_FOR)
        assert found == []
        proxy.release()
    assert (found[0].status, other.returncode) == (Status.SUCCEEDED, 0), found
    assert len(world.snapshots()) == 2


async def test_without_a_wait_it_is_told_at_once(world: World) -> None:
    await world.saved()
    async with held(world, "check", at="/index/"):
        with trio.fail_after(20):
            assert code_of(await world.run(limits=Limits(lock_wait=0))) == "locked"
            assert code_of(await world.run(limits=Limits(lock_wait=2))) == "locked"


async def test_every_kind_waits(world: World) -> None:
    """The lock of a real `check` stands in a copy of its repository for each kind, for so long, and is gone then."""
    first, second = await world.saved(), await world.saved()
    specs = everything(world, first, second)
    source = world.folder / "source"
    shutil.copytree(world.repo, source)
    found: dict[str, tuple[Outcome, bool, bool]] = {}
    limiter = trio.CapacityLimiter(5)

    async def wait_and_run(name: str) -> None:
        async with limiter, trio.open_nursery() as nursery:
            folder = world.folder / name
            folder.mkdir()
            own = World(world.real, folder, {world.real.version: world.repo})
            (lock,) = own.locks()

            async def go() -> None:
                await trio.sleep(HELD_FOR)
                lock.unlink()

            nursery.start_soon(go)
            other = RepoAccess(repo_id="r2", url=str(source), password=PASSWORD) if name == "copy" else None
            outcome = await own.run(specs[name], limits=PATIENT, source=other)
            tried_again = any("the repository is locked: trying again" in line for line in own.of("agent"))
            found[name] = outcome, lock.exists(), tried_again

    async with held(world, "check", at="/index/"), trio.open_nursery() as nursery:
        for name in specs:
            nursery.start_soon(wait_and_run, name)
    by_restic = world.binary.version.has(Feature.RETRY_LOCK)
    for name in specs:
        outcome, early, tried_again = found[name]
        if name == "ls" and not by_restic:
            assert (outcome.status, early) == (Status.SUCCEEDED, True)
            continue
        assert outcome.status is Status.SUCCEEDED, (name, outcome)
        assert not early, f"{name} did not wait for the lock"
        assert tried_again is not by_restic, name
