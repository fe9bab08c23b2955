"""The table of verdicts is true: each situation, brought about on each real binary, and compared with its row."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from restic_manager.domain.model import Limits, Outcome, RepoAccess, Status
from restic_manager.domain.results import LockedBy
from restic_manager.domain.retention import Retention
from restic_manager.domain.specs import (
    BackupSpec,
    CheckSpec,
    CopySpec,
    DumpSpec,
    ForgetPolicy,
    ForgetSpec,
    InitSpec,
    LsSpec,
    Part,
    PruneSpec,
    RestoreSpec,
    StatsSpec,
    TagSpec,
    VerifySpec,
)
from restic_manager.restic.failures import REMEDIES
from restic_manager.restic.run import Binary
from restic_manager.restic.situations import SITUATIONS, VERSIONS, Situation, document
from tests.restic.real_world import PASSWORD, World
from tests.support.holding_proxy import holding_proxy
from tests.support.restic_binaries import REAL_RESTICS, REST_SERVER, RealRestic, rest_server

ROOT: Final = Path(__file__).parents[2]
GONE: Final = "ffffffff"
ONE: Final = (ForgetPolicy(schedule_id="sch-1", restic_host="web1", keep=Retention(last=1)),)
Bring = Callable[[World], Awaitable[Outcome]]
BRINGS: Final[dict[str, Bring]] = {}


def brings(name: str) -> Callable[[Bring], Bring]:
    """Given a situation's name, register what brings it about."""

    def register(bring: Bring) -> Bring:
        BRINGS[name] = bring
        return bring

    return register


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One fresh repository a version, made once."""
    return {"": tmp_path_factory.mktemp("templates")}


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
@pytest.mark.parametrize("real", REAL_RESTICS)
async def test_the_row_is_true(
    real: RealRestic, situation: Situation, tmp_path: Path, templates: dict[str, Path]
) -> None:
    if real.version not in VERSIONS:
        pytest.skip(f"the table says nothing of restic {real.version}")
    if situation.name in {"disk_full", "target_full"} and os.getuid() != 0:
        pytest.skip("only root can mount a small disk")
    if not os.access(REST_SERVER, os.X_OK):
        pytest.skip("no rest-server: tests/tools/get_restic.sh has not fetched it")
    world = World(real, tmp_path, templates)
    (world.data / "file").write_bytes(os.urandom(200_000))
    seen = situation.seen[VERSIONS.index(real.version)]
    outcome = await BRINGS[situation.name](world)
    code = outcome.error.code if outcome.error is not None else None
    assert (outcome.exit_code, outcome.status, code) == (seen.exit, seen.status, seen.code), outcome
    if outcome.error is not None and seen.code != "source_missing":
        assert REMEDIES[outcome.error.code] in outcome.error.message
    assert world.locks() == [] or situation.name == "locked"


def test_every_situation_is_brought_about() -> None:
    assert list(BRINGS) == [situation.name for situation in SITUATIONS]


def test_every_code_is_one_we_tell() -> None:
    assert {seen.code for situation in SITUATIONS for seen in situation.seen} - {None} <= set(REMEDIES)


def test_the_document_is_this_table() -> None:
    """To renew it: python -m restic_manager.restic.situations docs/verdicts.md"""
    assert (ROOT / "docs" / "verdicts.md").read_text(encoding="utf-8") == document()


# -- what brings them about, in the table's order ---------------------------------------------------------------------


@brings("repo_missing")
async def _(world: World) -> Outcome:
    world.url = str(world.folder / "nowhere")
    return await world.run()


@brings("repo_exists")
async def _(world: World) -> Outcome:
    return await world.run(InitSpec())


@brings("wrong_password")
async def _(world: World) -> Outcome:
    return await world.run(repo=RepoAccess(repo_id="r1", url=world.url, password="wrong"))


@brings("locked")
async def _(world: World) -> Outcome:
    found: list[Outcome] = []
    with rest_server(world.served) as server:
        async with holding_proxy(server, "GET", "/index/") as proxy, trio.open_nursery() as nursery:
            checking = lambda: world.real.run(f"rest:{proxy.url}repo", "check", password=PASSWORD)  # noqa: E731
            nursery.start_soon(trio.to_thread.run_sync, checking)
            await proxy.held.wait()
            found.append(await world.run())
            proxy.release()
    result = found[0].result
    assert isinstance(result, LockedBy)
    (lock,) = result.locks
    assert (lock.hostname, lock.exclusive) == (os.uname().nodename, True)
    assert found[0].error is not None
    assert f"process {lock.pid} on {lock.hostname}" in found[0].error.message
    return found[0]


@brings("network_down")
async def _(world: World) -> Outcome:
    world.url = "rest:http://127.0.0.1:1/repo"
    outcome = await world.run(limits=Limits(time_limit=3))
    assert outcome.error is not None
    assert ("stopped at its time limit" in outcome.error.message) == (world.real.version != "0.14.0")
    return outcome


async def _on_a_small_disk(world: World, act: Callable[[Path], Awaitable[Outcome]]) -> Outcome:
    small = world.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(small)], check=True)  # noqa: ASYNC221
    try:
        return await act(small)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)  # noqa: ASYNC221


@brings("disk_full")
async def _(world: World) -> Outcome:
    (world.data / "file").write_bytes(os.urandom(1_000_000))

    async def act(small: Path) -> Outcome:
        shutil.copytree(world.template, small / "repo")
        world.url = str(small / "repo")
        return await world.run()

    return await _on_a_small_disk(world, act)


@brings("unreadable_file")
async def _(world: World) -> Outcome:
    return await world.run(BackupSpec(paths=(str(world.data), "/proc/self/clear_refs")))


@brings("vanished_path")
async def _(world: World) -> Outcome:
    return await world.run(BackupSpec(paths=(str(world.data), "/no/such")))


@brings("all_vanished")
async def _(world: World) -> Outcome:
    return await world.run(BackupSpec(paths=("/no/such", "/nor/this")))


async def _halted(world: World, act: Callable[[Any], None], part: str, **facts: Any) -> Outcome:
    found: list[Outcome] = []
    hold = facts.pop("hold", "request")
    with rest_server(world.served) as server:
        async with holding_proxy(server, "POST", part, hold=hold) as proxy, trio.open_nursery() as nursery:
            world.url = f"rest:{proxy.url}repo"

            async def run() -> None:
                found.append(await world.run(**facts))

            nursery.start_soon(run)
            with trio.fail_after(40):
                await proxy.held.wait()
            act(proxy)
    return found[0]


@brings("cancelled")
async def _(world: World) -> Outcome:
    return await _halted(world, lambda _: world.stop.set(), "/data/")


@brings("cancelled_late")
async def _(world: World) -> Outcome:
    outcome = await _halted(world, lambda _: world.stop.set(), "/snapshots/", hold="answer", kill_after=20.0)
    assert outcome.snapshot_id == world.snapshots()[0]
    return outcome


@brings("cancelled_early")
async def _(world: World) -> Outcome:
    world.stop.set()
    return await world.run()


def _kill(world: World) -> Callable[[Any], None]:
    def act(proxy: Any) -> None:
        os.kill(world.pids[0], signal.SIGKILL)
        proxy.release()

    return act


@brings("killed")
async def _(world: World) -> Outcome:
    return await _halted(world, _kill(world), "/data/")


@brings("killed_late")
async def _(world: World) -> Outcome:
    outcome = await _halted(world, _kill(world), "/snapshots/", hold="answer")
    assert outcome.snapshot_id == world.snapshots()[0]
    return outcome


@brings("damaged_check")
async def _(world: World) -> Outcome:
    await world.saved()
    world.damage()
    return await world.run(CheckSpec(read=Part(number=1, of=1)))


@brings("damaged_verify")
async def _(world: World) -> Outcome:
    first = await world.saved()
    world.damage()
    return await world.run(VerifySpec(snapshot=first))


@brings("damaged_restore")
async def _(world: World) -> Outcome:
    first = await world.saved()
    world.damage()
    return await world.run(RestoreSpec(snapshot=first, target=str(world.folder / "target")))


@brings("damaged_dump")
async def _(world: World) -> Outcome:
    first = await world.saved()
    world.damage()
    return await world.run(DumpSpec(snapshot=first, path=str(world.data / "file")))


@brings("damaged_prune")
async def _(world: World) -> Outcome:
    await world.saved()
    world.biggest_pack().unlink()
    return await world.run(PruneSpec())


@brings("append_only_forget")
async def _(world: World) -> Outcome:
    await world.saved()
    await world.saved()
    with rest_server(world.served, "--append-only") as url:
        world.url = f"rest:{url}repo"
        return await world.run(ForgetSpec(policies=ONE))


@brings("append_only_tag")
async def _(world: World) -> Outcome:
    first = await world.saved()
    with rest_server(world.served, "--append-only") as url:
        world.url = f"rest:{url}repo"
        return await world.run(TagSpec(snapshots=(first,), add=("x",)))


@brings("snapshot_missing")
async def _(world: World) -> Outcome:
    return await world.run(RestoreSpec(snapshot=GONE, target=str(world.folder / "target")))


@brings("stats_missing")
async def _(world: World) -> Outcome:
    return await world.run(StatsSpec(snapshots=(GONE,)))


@brings("path_missing")
async def _(world: World) -> Outcome:
    return await world.run(LsSpec(snapshot=await world.saved(), path="/no/such"))


@brings("dump_folder")
async def _(world: World) -> Outcome:
    outcome = await world.run(DumpSpec(snapshot=await world.saved(), path=str(world.data)))
    assert world.rows == []
    return outcome


@brings("dump_large")
async def _(world: World) -> Outcome:
    outcome = await world.run(DumpSpec(snapshot=await world.saved(), path=str(world.data / "file"), limit=199_999))
    assert world.rows == []
    return outcome


@brings("nothing_restored")
async def _(world: World) -> Outcome:
    first = await world.saved()
    return await world.run(RestoreSpec(snapshot=first, target=str(world.folder / "target"), paths=("/no/such",)))


@brings("target_file")
async def _(world: World) -> Outcome:
    return await world.run(RestoreSpec(snapshot=await world.saved(), target=str(world.data / "file")))


@brings("target_full")
async def _(world: World) -> Outcome:
    (world.data / "file").write_bytes(os.urandom(1_000_000))
    first = await world.saved()
    return await _on_a_small_disk(
        world, lambda small: world.run(RestoreSpec(snapshot=first, target=str(small / "target")))
    )


@brings("old_restic")
async def _(world: World) -> Outcome:
    first = await world.saved()
    outcome = await world.run(RestoreSpec(snapshot=first, target=str(world.folder / "target"), dry_run=True))
    assert outcome.status is Status.SUCCEEDED or "0.17.0" in str(outcome.error)
    return outcome


@brings("no_restic")
async def _(world: World) -> Outcome:
    world.binary = Binary(str(world.folder / "gone"), world.binary.version)
    return await world.run()


@brings("no_policy")
async def _(world: World) -> Outcome:
    empty = ForgetPolicy(schedule_id="sch-1", restic_host="web1", keep=Retention())
    return await world.run(ForgetSpec(policies=(empty,)))


@brings("newest_good")
async def _(world: World) -> Outcome:
    await world.saved()
    forged = (datetime.now(UTC) + timedelta(days=900)).strftime("%Y-%m-%d %H:%M:%S")
    world.plain("backup", "--host=web1", "--tag=rm:sch-1", f"--time={forged}", str(world.data))
    return await world.run(ForgetSpec(policies=ONE))


@brings("copy_source")
async def _(world: World) -> Outcome:
    second = world.folder / "second"
    shutil.copytree(world.template, second)
    wrong = RepoAccess(repo_id="r2", url=str(second), password="wrong")
    return await world.run(CopySpec(from_repo="r2"), source=wrong)
