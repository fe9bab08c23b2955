"""The kinds from checks to outcome with a fake restic that is a real process: order, stopping, waiting for locks."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from restic_manager.domain.model import Limits, Outcome, RepoAccess, Status
from restic_manager.domain.results import (
    BytesRow,
    FateRow,
    ForgetStats,
    ListStats,
    Lock,
    LockedBy,
    LockRow,
    NodeRow,
    Row,
    SnapshotRow,
    VerifyStats,
)
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
    LocksSpec,
    LsSpec,
    PruneSpec,
    RestoreSpec,
    SnapshotsSpec,
    Spec,
    StatsSpec,
    TagSpec,
    Tuning,
    UnlockSpec,
    VerifySpec,
)
from restic_manager.restic import proving
from restic_manager.restic import run as run_module
from restic_manager.restic.proving import Sample, batches
from restic_manager.restic.run import Binary, Task, run_task
from restic_manager.restic.version import Version
from tests.support import fake_restic

LIMIT = 20
PASSWORD = "geheim-word"
KEEP_ONE = ForgetPolicy(schedule_id="sch-1", restic_host="web1", keep=Retention(last=1))


class World:
    """A fake restic, two repositories, a folder to back up, and everything a run tells."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fake = fake_restic.install(folder / "bin")
        self.repo, self.second = folder / "repo", folder / "second"
        self.data = folder / "data"
        self.data.mkdir()
        self.cache = folder / "cache"
        self.cache.mkdir()
        self.lines: list[str] = []
        self.rows: list[Row] = []
        self.stop = trio.Event()
        self.under_way = trio.Event()
        self.version = Version(0, 18)
        for repo in (self.repo, self.second):
            fake_restic.make_repo(repo, PASSWORD)

    def steer(self, version: str = "0.18.0", **commands: Any) -> None:
        self.version = Version(*(int(part) for part in version.split(".")))
        self.fake.steer(version=version, **commands)

    async def take(self, _: str, lines: Sequence[str]) -> None:
        self.lines += lines
        if "dry run under way" in lines:
            self.under_way.set()

    async def take_rows(self, rows: Sequence[Row]) -> None:
        self.rows += rows

    async def run(self, spec: Spec, **facts: Any) -> Outcome:
        task = Task("job-1", "sch-1", spec, self.access("r1", self.repo), "web1")
        with trio.fail_after(LIMIT):
            return await run_task(
                dataclasses.replace(task, **facts),
                binary=Binary(self.fake.path, self.version),
                cache_dir=self.cache,
                on_lines=self.take,
                on_progress=lambda _: None,
                on_rows=self.take_rows,
                stop=self.stop,
            )

    def access(self, repo_id: str, repo: Path) -> RepoAccess:
        return RepoAccess(repo_id=repo_id, url=str(repo), password=PASSWORD)

    async def saved(self) -> str:
        await self.run(BackupSpec(paths=(str(self.data),)))
        return str(fake_restic.saved_snapshots(self.repo)[-1]["id"])

    def asked(self, command: str) -> list[list[str]]:
        return [record["argv"] for record in self.fake.invocations(command)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("version", ["0.14.0", "0.18.0", "0.19.1"])
async def test_every_kind_ends_well(world: World, version: str) -> None:
    world.steer(version)
    first, second = await world.saved(), await world.saved()
    specs: list[Spec] = [
        SnapshotsSpec(),
        LocksSpec(),
        DumpSpec(snapshot=first, path="/etc/one"),
        StatsSpec(),
        LsSpec(snapshot=first, path="/etc"),
        FindSpec(patterns=("one",)),
        DiffSpec(old=first, new=second),
        RestoreSpec(snapshot=first, target=str(world.folder / "t")),
        CopySpec(from_repo="r2"),
        CheckSpec(),
        PruneSpec(),
        UnlockSpec(),
        ForgetSpec(policies=(KEEP_ONE,)),
        TagSpec(snapshots=(second,), add=("x",)),
    ]
    for spec in specs:
        source = world.access("r2", world.second) if isinstance(spec, CopySpec) else None
        outcome = await world.run(spec, source=source)
        assert outcome.status is Status.SUCCEEDED, (spec, outcome)
        assert outcome.result is not None
    left = fake_restic.saved_snapshots(world.repo)
    assert [snapshot["tags"][-1] for snapshot in left] == ["x"]


async def test_a_forget_asks_before_it_removes(world: World) -> None:
    first, second = await world.saved(), await world.saved()
    spec = ForgetSpec(policies=(KEEP_ONE,))
    outcome = await world.run(spec)
    assert outcome.result == ForgetStats(kept=1, removed=1, removed_ids=(first,))
    dry, real = world.asked("forget")
    assert dry == [*real, "--dry-run"]
    assert [(row.snapshot.id, row.keep) for row in world.rows if isinstance(row, FateRow)] == [
        (second, True),
        (first, False),
    ]
    await world.run(spec)
    assert len(world.asked("forget")) == 3, "nothing to remove: it is not asked to"


async def test_a_newest_good_one_that_the_server_knows_is_not_removed(world: World) -> None:
    first, _ = await world.saved(), await world.saved()
    policy = ForgetPolicy(schedule_id="sch-1", restic_host="web1", keep=Retention(last=1), newest_good=first[:12])
    outcome = await world.run(ForgetSpec(policies=(policy,)))
    assert outcome.error is not None
    assert outcome.error.code == "retention_refused"
    assert isinstance(outcome.result, ForgetStats)
    assert (outcome.result.removed, outcome.result.kept) == (0, 2)
    assert "the newest good snapshot" in outcome.result.refused[0]
    assert len(world.asked("forget")) == 1


async def test_a_job_that_is_to_stop_begins_no_further_command(world: World) -> None:
    await world.saved()
    await world.saved()
    world.steer(forget=[{"steps": [{"stdout": "dry run under way"}, {"sleep": 30}]}])
    found: list[Outcome] = []
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            found.append(await world.run(ForgetSpec(policies=(KEEP_ONE, KEEP_ONE))))

        nursery.start_soon(run)
        with trio.fail_after(LIMIT):
            await world.under_way.wait()
        world.stop.set()
    assert found[0].status is Status.CANCELLED
    assert len(world.asked("forget")) == 1
    assert len(fake_restic.saved_snapshots(world.repo)) == 2


@pytest.mark.parametrize("version", ["0.14.0", "0.18.0"])
async def test_a_lock_of_somebody_else_is_waited_for(
    world: World, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "_LOCK_PAUSE", 0.01)
    told = "unable to create lock in backend: repository is already locked exclusively by PID 1 on other by root"
    code = 1 if version == "0.14.0" else 11
    locked = {"steps": [{"stderr": told}, {"exit": code}]}
    world.steer(version, backup=[locked, locked, {}])
    spec = BackupSpec(paths=(str(world.data),))
    outcome = await world.run(spec, limits=Limits(lock_wait=15))
    lines = world.asked("backup")
    if version == "0.14.0":
        assert outcome.status is Status.SUCCEEDED
        assert len(lines) == 3
        assert not any("--retry-lock" in word for line in lines for word in line)
        assert sum("the repository is locked" in line for line in world.lines) == 2
    else:
        # restic has waited by itself: we do not once more.
        assert outcome.error is not None
        assert outcome.error.code == "locked"
        assert len(lines) == 1
        assert lines[0][1] == "--retry-lock=15s"
    world.steer(version, backup=[locked, {}])
    at_once = await world.run(spec)
    assert at_once.error is not None
    assert at_once.error.code == "locked"


async def test_a_copy_without_its_source_is_none(world: World) -> None:
    outcome = await world.run(CopySpec(from_repo="r2"))
    assert outcome.error is not None
    assert outcome.error.code == "invalid_input"
    assert world.fake.invocations() == []


async def test_a_source_s_secrets_are_in_no_line(world: World) -> None:
    world.steer(copy={"steps": [{"stderr": "Fatal: the other password is sehr-geheim"}, {"exit": 1}]})
    source = RepoAccess(repo_id="r2", url=str(world.second), password="sehr-geheim")
    fake_restic.make_repo(world.second, "sehr-geheim")
    outcome = await world.run(CopySpec(from_repo="r2"), source=source)
    assert outcome.status is Status.FAILED
    assert "sehr-geheim" not in repr((outcome, world.lines))
    assert "the other password is ***" in repr(outcome)


async def test_a_priority_that_the_host_has_no_program_for_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    outcome = await world.run(CheckSpec(tuning=Tuning(nice=5)))
    assert outcome.status is Status.SUCCEEDED
    assert "there is no nice on this host: running without that priority" in world.lines


async def test_ls_rows(world: World) -> None:
    outcome = await world.run(LsSpec(snapshot=await world.saved(), recursive=True))
    assert outcome.result == ListStats(rows=3)
    assert [row.path for row in world.rows if isinstance(row, NodeRow)] == [
        "/etc", "/etc/one", "/etc/two",
    ]  # fmt: skip


# -- locks ------------------------------------------------------------------------------------------------------------


def locks_in(world: World) -> dict[str, Lock]:
    return {row.lock.id: row.lock for row in world.rows if isinstance(row, LockRow)}


async def test_locks_are_listed_without_waiting_for_them(world: World) -> None:
    assert (await world.run(LocksSpec())).result == ListStats(rows=0)
    old = fake_restic.leave_lock(world.repo, hostname="web2", pid=12, age=3_600)
    young = fake_restic.leave_lock(world.repo, exclusive=False)
    outcome = await world.run(LocksSpec(), limits=Limits(lock_wait=10))
    assert (outcome.status, outcome.result) == (Status.SUCCEEDED, ListStats(rows=2))
    found = locks_in(world)
    assert found.keys() == {old, young}
    assert (found[old].hostname, found[old].pid, found[old].username, found[old].exclusive) == (
        "web2",
        12,
        "root",
        True,
    )
    assert timedelta(minutes=59) < datetime.now(UTC) - found[old].time < timedelta(minutes=61)
    assert not found[young].exclusive
    assert all("--no-lock" in line for command in ("list", "cat") for line in world.asked(command))


async def test_a_lock_that_goes_away_meanwhile_is_none(world: World) -> None:
    fake_restic.leave_lock(world.repo)
    world.steer(list=[{"steps": [{"stdout": "ab" * 32}, {"run": True}]}, {}])
    outcome = await world.run(LocksSpec())
    assert (outcome.status, outcome.result) == (Status.SUCCEEDED, ListStats(rows=1))


async def test_a_lock_that_cannot_be_read_is_said(world: World) -> None:
    lock_id = fake_restic.leave_lock(world.repo)
    world.steer(cat={"steps": [{"stderr": "Fatal: ciphertext verification failed"}, {"exit": 1}]})
    outcome = await world.run(LocksSpec())
    assert outcome.error is not None
    assert outcome.error.code == "repo_damaged"
    world.steer(cat={"steps": [{"stdout": "null"}]})
    outcome = await world.run(LocksSpec())
    assert outcome.error is not None
    assert outcome.error.code == "repo_damaged"
    assert f"The lock {lock_id} cannot be read" in outcome.error.message


@pytest.mark.parametrize("version", ["0.14.0", "0.18.0"])
async def test_who_holds_the_lock_is_found_out(world: World, version: str) -> None:
    world.steer(version)
    lock_id = fake_restic.leave_lock(world.repo, hostname="web2", pid=12, age=185)
    fake_restic.leave_lock(world.repo, hostname="web3", exclusive=False)
    outcome = await world.run(BackupSpec(paths=(str(world.data),)))
    assert outcome.error is not None
    assert outcome.error.code == "locked"
    assert isinstance(outcome.result, LockedBy)
    assert [lock.id for lock in outcome.result.locks] == [lock_id], "a shared lock is not in a backup's way"
    assert "It is held by process 12 on web2 (user root, exclusive, taken 3m" in outcome.error.message
    assert outcome.error.lines
    prune = await world.run(PruneSpec())
    assert isinstance(prune.result, LockedBy)
    assert {lock.hostname for lock in prune.result.locks} == {"web2", "web3"}
    assert prune.error is not None
    assert ", and 1 more." in prune.error.message


async def test_a_holder_that_cannot_be_found_out_changes_nothing(world: World) -> None:
    fake_restic.leave_lock(world.repo)
    world.steer(list={"steps": [{"stderr": "Fatal: connection refused"}, {"exit": 1}]})
    outcome = await world.run(PruneSpec())
    assert outcome.error is not None
    assert outcome.error.code == "locked"
    assert not isinstance(outcome.result, LockedBy)
    assert any("whose lock it is could not be found out" in line for line in world.lines)


async def test_a_lock_that_is_gone_again_is_nobody_s(world: World) -> None:
    told = "unable to create lock in backend: repository is already locked by PID 1 on other by root"
    world.steer(prune={"steps": [{"stderr": told}, {"exit": 11}]})
    outcome = await world.run(PruneSpec())
    assert outcome.result == LockedBy(locks=())
    assert "no lock that stands in the way is there any more" in world.lines


async def test_what_was_removed_before_the_lock_is_what_the_result_tells(world: World) -> None:
    first, _ = await world.saved(), await world.saved()
    locked = {"steps": [{"stderr": "repository is already locked by PID 1 on other"}, {"exit": 11}]}
    world.steer(forget=[{}, {}, locked])
    outcome = await world.run(ForgetSpec(policies=(KEEP_ONE, KEEP_ONE)))
    assert outcome.error is not None
    assert outcome.error.code == "locked"
    assert isinstance(outcome.result, ForgetStats)
    assert outcome.result.removed_ids == (first,)


# -- one file ---------------------------------------------------------------------------------------------------------


def dumped(world: World) -> bytes:
    return b"".join(row.data for row in world.rows if isinstance(row, BytesRow))


async def test_a_file_comes_byte_for_byte(world: World) -> None:
    first = await world.saved()
    outcome = await world.run(DumpSpec(snapshot=first, path="//etc/./one/"))
    assert (outcome.status, outcome.result, dumped(world)) == (Status.SUCCEEDED, ListStats(rows=1), b"one")
    assert world.asked("dump") == [["dump", "--", first, "/etc/one"]]
    world.rows.clear()
    size = 1_000_003
    node = {"struct_type": "node", "type": "file", "path": "/etc/big", "size": size}
    world.steer(
        ls={"steps": [{"stdout_json": {"struct_type": "snapshot"}}, {"stdout_json": node}]},
        dump={"steps": [{"stderr": "a word about it"}, {"bytes": size}]},
    )
    outcome = await world.run(DumpSpec(snapshot=first, path="/etc/big", limit=size))
    assert outcome.status is Status.SUCCEEDED
    assert dumped(world) == (bytes(range(256)) * 4_000)[:size]
    assert outcome.result == ListStats(rows=len(world.rows))
    assert max(len(row.data) for row in world.rows if isinstance(row, BytesRow)) <= 64 << 10
    assert "a word about it" in world.lines
    assert not any("\\x" in line for line in world.lines), "its bytes are not in the log"


@pytest.mark.parametrize(
    ("path", "limit", "code", "said"),
    [
        ("/etc", 100, "not_a_file", "/etc is a folder"),
        ("/", 100, "not_a_file", "/ is a folder"),
        ("/no/such", 100, "path_missing", "/no/such"),
        ("/etc/one", 2, "file_too_large", "3 bytes, and at most 2"),
    ],
)
async def test_what_is_no_file_or_too_long_is_not_sent(
    world: World, path: str, limit: int, code: str, said: str
) -> None:
    outcome = await world.run(DumpSpec(snapshot=await world.saved(), path=path, limit=limit))
    assert outcome.error is not None
    assert outcome.error.code == code
    assert said in outcome.error.message
    assert world.asked("dump") == []
    assert world.rows == []


@pytest.mark.parametrize(("came", "kept"), [(2, 2), (5, 3)])
async def test_a_file_that_does_not_come_whole_failed(world: World, came: int, kept: int) -> None:
    world.steer(dump={"steps": [{"bytes": came}]})
    outcome = await world.run(DumpSpec(snapshot=await world.saved(), path="/etc/one"))
    assert outcome.error is not None
    assert outcome.error.code == "dump_incomplete"
    assert f"{came} bytes came of a file of 3." in outcome.error.message
    assert len(dumped(world)) == kept, "no more is sent than was looked at before"


# -- the newest -------------------------------------------------------------------------------------------------------


async def test_where_no_snapshot_is_named_the_newest_is_meant(world: World) -> None:
    first, second = await world.saved(), await world.saved()
    await world.run(BackupSpec(paths=(str(world.data),)), schedule_id="sch-2")
    specs: list[tuple[LsSpec | RestoreSpec | DiffSpec | TagSpec, str, list[str]]] = [
        (LsSpec(), "ls", [second, "/"]),
        (RestoreSpec(target=str(world.folder / "t")), "restore", [second]),
        (DiffSpec(), "diff", [first, second]),
        (TagSpec(add=("x",)), "tag", [second]),
    ]
    for spec, command, wanted in specs:
        outcome = await world.run(replace(spec, restic_host="web1", schedule_id="sch-1"))
        assert outcome.status is Status.SUCCEEDED, (spec, outcome)
        (asked,) = world.asked(command)
        assert asked[asked.index("--") + 1 :] == wanted
        looked_up = [line for line in world.asked("snapshots") if "--tag=rm:sch-1" in line and "--host=web1" in line]
        assert looked_up
    assert any(f"snapshot {first[:8]} of host web1 and schedule sch-1, made at 20" in line for line in world.lines)
    assert [row for row in world.rows if isinstance(row, SnapshotRow)] == [], "the look-up is not the listing"


async def test_there_may_be_none_that_is_the_newest(world: World) -> None:
    nothing = await world.run(LsSpec(restic_host="web1"))
    assert nothing.error is not None
    assert nothing.error.code == "snapshot_missing"
    assert "There is no snapshot of host web1 here." in nothing.error.message
    await world.saved()
    alone = await world.run(DiffSpec(schedule_id="sch-1"))
    assert alone.error is not None
    assert alone.error.code == "snapshot_missing"
    assert "only one snapshot" in alone.error.message
    assert world.asked("ls") == world.asked("diff") == []


async def test_a_seed_that_is_not_said_is_the_job_s_own(world: World) -> None:
    await world.saved()
    for number in range(2):
        outcome = await world.run(VerifySpec(schedule_id="sch-1", live=False), job_id="job-7")
        assert outcome.status is not Status.CANCELLED, number
    told = {line for line in world.lines if "seed" in line}
    assert told == {f"the sample is the one of seed {proving.seed_of('job-7')}"}
    assert proving.seed_of("job-7") != proving.seed_of("job-8")


async def test_a_rolling_check_whose_order_names_no_part_reads_no_data(world: World) -> None:
    outcome = await world.run(CheckSpec(rolling=28))
    assert outcome.status is Status.SUCCEEDED
    assert "the order does not say which part of the data is next, so none is read" in world.lines
    (asked,) = world.asked("check")
    assert not any("subset" in word for word in asked)


async def test_a_forget_of_nothing_is_no_order(world: World) -> None:
    outcome = await world.run(ForgetSpec())
    assert outcome.error is not None
    assert outcome.error.code == "invalid_input"
    assert world.fake.invocations() == []


# -- long lists -------------------------------------------------------------------------------------------------------


async def test_a_long_listing_is_never_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    count = most = 0

    async def count_rows(rows: Sequence[Row]) -> None:
        nonlocal count, most
        count, most = count + len(rows), max(most, len(rows))

    monkeypatch.setattr(world, "take_rows", count_rows)
    world.steer(ls={"steps": [{"nodes": 40_000}]})
    tracemalloc.start()
    try:
        outcome = await world.run(LsSpec(snapshot="abcdef12", recursive=True))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert outcome.result == ListStats(rows=40_000)
    assert count == 40_000
    assert most < 1_000
    assert peak < 4 << 20, "of 8 MB of listing"


async def test_a_long_listing_stops_promptly(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stop_at_once(_: Sequence[Row]) -> None:
        world.stop.set()

    monkeypatch.setattr(world, "take_rows", stop_at_once)
    world.steer(ls={"steps": [{"nodes": 10_000_000}]})
    began = trio.current_time()
    outcome = await world.run(LsSpec(snapshot="abcdef12", recursive=True))
    assert outcome.status is Status.CANCELLED
    assert trio.current_time() - began < 5
    assert isinstance(outcome.result, ListStats)
    assert 0 < outcome.result.rows < 100_000


async def test_a_long_list_of_snapshots(world: World) -> None:
    world.steer(snapshots={"steps": [{"listed": 2_000}]})
    outcome = await world.run(SnapshotsSpec())
    assert outcome.result == ListStats(rows=2_000)
    rows = [row for row in world.rows if isinstance(row, SnapshotRow)]
    assert [row.id for row in rows] == [f"{number:064x}" for number in range(2_000)]
    assert rows[-1].summary is not None


# -- the sample of a verify -------------------------------------------------------------------------------------------


def chosen(spec: VerifySpec, sizes: dict[str, int], *, backwards: bool = False) -> list[str]:
    sample = Sample(spec, "aaaaaaaa")
    for path in sorted(sizes, reverse=backwards):
        sample.take(NodeRow(path=path, type="file", size=sizes[path]))
        sample.take(NodeRow(path=path + "/", type="dir"))
    return [row.path for row in sample.chosen()]


def test_a_seed_chooses_the_same_files_whatever_the_order() -> None:
    sizes = {f"/f{number}": 10 for number in range(500)}
    spec = VerifySpec(snapshot="aaaaaaaa", files=20, seed=1)
    first = chosen(spec, sizes)
    assert len(set(first)) == 20
    assert chosen(spec, sizes, backwards=True) == first
    assert chosen(VerifySpec(snapshot="aaaaaaaa", files=20, seed=2), sizes) != first


def test_a_sample_keeps_to_its_size_and_has_what_is_always_in_it() -> None:
    sizes = {f"/f{number}": 40 for number in range(50)}
    sizes |= {"/big": 101, "/etc/passwd": 1_000, "/etc/x": 5, "/etcetera": 1}
    spec = VerifySpec(snapshot="aaaaaaaa", files=60, size=100, always=("/etc",))
    found = chosen(spec, sizes)
    assert {"/etc/passwd", "/etc/x"} <= set(found)
    assert "/big" not in found
    assert sum(sizes[path] for path in found if not path.startswith("/etc/")) <= 100


def test_what_was_to_be_proven_and_is_not_there_is_known() -> None:
    spec = VerifySpec(snapshot="aaaaaaaa", always=("/etc", "/empty", "/etc/x", "/et", "/caf\\xe9"))
    sample = Sample(spec, "aaaaaaaa")
    sample.take(NodeRow(path="/etc/x", type="file", size=1))
    sample.take(NodeRow(path="/empty", type="dir"))
    assert list(sample.missing) == ["/et"], "of a name that is not UTF-8 nothing can be said"


def test_many_files_are_several_command_lines() -> None:
    paths = [f"/{'x' * 1_000}{number}" for number in range(200)]
    groups = batches(paths)
    assert len(groups) > 1
    assert [path for group in groups for path in group] == paths
    assert all(sum(len(path) for path in group) < 128 << 10 for group in groups)
    assert batches([]) == []


async def test_a_scratch_folder_that_stays_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody's files are in it: whoever reads the log has to know."""
    first = await world.saved()

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("shutil.rmtree", refuse)
    outcome = await world.run(VerifySpec(snapshot=first))
    assert outcome.status is Status.SUCCEEDED
    (left,) = [path for path in world.cache.iterdir() if path.name.startswith(proving.SCRATCH)]
    assert f"remove {left} by hand: restored files are left in it, Permission denied" in world.lines


async def test_a_scratch_folder_goes_even_when_restic_fails(world: World) -> None:
    first = await world.saved()
    left = world.cache / f"{proving.SCRATCH}of-a-dead-agent"
    left.mkdir()
    world.steer(restore={"steps": [{"stderr": "Fatal: There were 1 errors"}, {"exit": 1}]})
    outcome = await world.run(VerifySpec(snapshot=first))
    assert outcome.status is Status.FAILED
    assert isinstance(outcome.result, VerifyStats)
    assert outcome.result.differences_count == 2
    assert [path for path in world.cache.iterdir() if path.name.startswith(proving.SCRATCH)] == []
