"""Every kind on the real binaries, and what plain restic says afterwards."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from restic_manager.domain.model import Limits, RepoAccess, Status
from restic_manager.domain.pathtext import path_to_text
from restic_manager.domain.results import (
    BytesRow,
    ChangeRow,
    CheckStats,
    CopyStats,
    DiffStats,
    FateRow,
    ForgetStats,
    FoundRow,
    ListStats,
    LockRow,
    NodeRow,
    PruneStats,
    RepoStats,
    RestoreStats,
    SnapshotRow,
    TagStats,
    UnlockStats,
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
    InitSpec,
    LocksSpec,
    LsSpec,
    Part,
    PruneSpec,
    RestoreSpec,
    SnapshotsSpec,
    StatsSpec,
    TagSpec,
    Tuning,
    UnlockSpec,
    VerifySpec,
)
from restic_manager.restic.version import Version
from tests.restic.real_world import PASSWORD, World, code_of
from tests.support.holding_proxy import holding_proxy
from tests.support.restic_binaries import REAL_RESTICS, RealRestic, needs_rest_server, rest_server

pytestmark = pytest.mark.parametrize("real", REAL_RESTICS)
OLD = Version(0, 17)
ODD = os.fsdecode(b"caf\xe9")
NEWLINE = os.fsdecode(b"two\nlines\xff")


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One fresh repository a version, made once: restic spends two seconds on its key."""
    return {"": tmp_path_factory.mktemp("templates")}


@pytest.fixture
def world(real: RealRestic, tmp_path: Path, templates: dict[str, Path]) -> World:
    made = World(real, tmp_path, templates)
    (made.data / "one").write_text("one\n")
    (made.data / "sub").mkdir()
    (made.data / "sub" / "two").write_bytes(os.urandom(300_000))
    return made


def policy(**keep: object) -> ForgetPolicy:
    return ForgetPolicy(schedule_id="sch-1", restic_host="web1", keep=Retention(**keep))  # type: ignore[arg-type]


# -- backup -----------------------------------------------------------------------------------------------------------


async def test_a_backup_in_full(world: World) -> None:
    (world.data / "large").write_bytes(bytes(50_000))
    listed = world.folder / "listed"
    listed.mkdir()
    (listed / "file").touch()
    paths = world.folder / "paths"
    paths.write_text(f"{listed}\n/no/such *\n")
    spec = BackupSpec(
        paths=(str(world.data),),
        files_from=(str(paths),),
        exclude_larger_than=40_000,
        tuning=Tuning(
            upload_limit=100_000, compression="max", read_concurrency=4, nice=5, io_class="best-effort", io_level=7
        ),
    )
    outcome = await world.run(spec)
    assert (outcome.status, code_of(outcome)) == (Status.WARNING, "source_missing")
    assert outcome.error is not None
    assert "/no/such *" in outcome.error.message
    names = {Path(line).name for line in world.plain("ls", str(outcome.snapshot_id)).splitlines()}
    assert {"one", "file"} <= names
    assert not names & {"large", "two"}
    told = [line for line in world.of("agent") if "needs restic" in line]
    assert len(told) == (1 if world.binary.version < Version(0, 15) else 0)


async def test_a_dry_run_saves_nothing(world: World) -> None:
    outcome = await world.run(BackupSpec(paths=(str(world.data),), dry_run=True))
    assert (outcome.status, outcome.snapshot_id) == (Status.SUCCEEDED, None)
    assert outcome.stats is not None
    assert outcome.stats.files_new == 2
    assert world.snapshots() == []


async def test_unchanged_is_skipped_where_restic_can(world: World) -> None:
    # A file below quiet folders: those above what is saved count too, and a test's own are never at rest.
    spec = BackupSpec(paths=("/etc/hostname",), skip_if_unchanged=True)
    await world.run(spec)
    outcome = await world.run(spec)
    old = world.binary.version < OLD
    assert outcome.status is Status.SUCCEEDED
    assert len(world.snapshots()) == (2 if old else 1)
    assert (outcome.snapshot_id is not None) == old
    assert any("0.17.0 or newer" in line for line in world.of("agent")) == old


# -- forget and prune -------------------------------------------------------------------------------------------------


async def test_forget_and_prune(world: World) -> None:
    made = []
    for number in range(4):
        (world.data / "sub" / "two").write_bytes(os.urandom(300_000))
        # Tags, paths and the name of the schedule change; its id and the host do not.
        made.append(
            await world.saved(
                BackupSpec(paths=(str(world.data), "/etc/hostname")[: 1 + number % 2], tags=(f"t{number}",))
            )
        )
    other = await world.saved(schedule_id="sch-2")
    preview = await world.run(ForgetSpec(policies=(policy(last=2),), dry_run=True))
    assert preview.result == ForgetStats(kept=2, removed=2, removed_ids=preview.result.removed_ids, dry_run=True)  # type: ignore[union-attr]
    assert len(world.snapshots()) == 5
    fates = [row for row in world.rows if isinstance(row, FateRow)]
    assert {row.snapshot.id for row in fates if row.keep} == set(made[2:])
    assert all(row.reasons == ("last snapshot",) for row in fates if row.keep)
    outcome = await world.run(ForgetSpec(policies=(policy(last=2), policy(tags=("t3",), last=1))))
    assert outcome.status is Status.SUCCEEDED, outcome
    assert isinstance(outcome.result, ForgetStats)
    assert set(outcome.result.removed_ids) == set(made[:3])
    assert set(world.snapshots()) == {made[3], other}
    nothing = await world.run(
        ForgetSpec(policies=(ForgetPolicy(schedule_id="none", restic_host="web1", keep=Retention(last=1)),))
    )
    assert (nothing.status, nothing.result) == (Status.SUCCEEDED, ForgetStats())
    would = await world.run(PruneSpec(dry_run=True))
    assert isinstance(would.result, PruneStats)
    assert (would.result.removed or 0) > 600_000
    pruned = await world.run(PruneSpec(max_unused=0, max_repack=1 << 30))
    assert isinstance(pruned.result, PruneStats)
    assert pruned.result.removed is not None
    assert pruned.result.removed == would.result.removed
    assert pruned.result.unused_after == 0
    assert (await world.run(CheckSpec(read=Part(number=1, of=1)))).status is Status.SUCCEEDED
    assert world.locks() == []


async def test_an_empty_policy_is_refused_before_restic(world: World) -> None:
    await world.saved()
    outcome = await world.run(ForgetSpec(policies=(policy(),)))
    assert code_of(outcome) == "invalid_input"
    assert outcome.error is not None
    assert "no rule" in outcome.error.message
    assert len(world.snapshots()) == 1


async def test_a_forged_time_does_not_remove_the_newest_good_snapshot(world: World) -> None:
    good = await world.saved()
    forged = (datetime.now(UTC) + timedelta(days=900)).strftime("%Y-%m-%d %H:%M:%S")
    world.plain("backup", "--host=web1", "--tag=rm:sch-1", f"--time={forged}", str(world.data))
    outcome = await world.run(ForgetSpec(policies=(policy(last=1),)))
    assert (outcome.status, code_of(outcome)) == (Status.FAILED, "retention_refused")
    assert outcome.error is not None
    assert good[:8] in outcome.error.message
    assert len(world.snapshots()) == 2


async def test_forget_by_id(world: World) -> None:
    first, second = await world.saved(), await world.saved()
    missing = await world.run(ForgetSpec(snapshots=(first, "ffffffff")))
    assert code_of(missing) == "snapshot_missing"
    assert len(world.snapshots()) == 2
    outcome = await world.run(ForgetSpec(snapshots=(first[:10],)))
    assert (outcome.status, outcome.result) == (Status.SUCCEEDED, ForgetStats(removed=1, removed_ids=(first[:10],)))
    assert world.snapshots() == [second]


# -- asking -----------------------------------------------------------------------------------------------------------


async def test_snapshots_and_stats(world: World) -> None:
    first = await world.saved()
    await world.saved(schedule_id="sch-2")
    outcome = await world.run(SnapshotsSpec(restic_host="web1", schedule_id="sch-1"))
    assert (outcome.status, outcome.result) == (Status.SUCCEEDED, ListStats(rows=1))
    (row,) = world.rows
    assert isinstance(row, SnapshotRow)
    assert (row.id, row.hostname, row.paths, row.tags) == (first, "web1", (str(world.data),), ("rm:sch-1", "rmj:job-1"))
    assert abs(row.time - datetime.now(UTC)) < timedelta(minutes=2)
    assert (row.summary is None) == (world.binary.version < OLD)
    assert (await world.run(SnapshotsSpec(restic_host="nobody"))).result == ListStats(rows=0)
    stats = await world.run(StatsSpec(mode="restore-size", snapshots=(first,)))
    assert isinstance(stats.result, RepoStats)
    assert (stats.result.size, stats.result.snapshots) == (300_004, 1)
    raw = await world.run(StatsSpec())
    assert isinstance(raw.result, RepoStats)
    assert raw.result.snapshots == 2
    assert raw.result.size > 300_000
    gone = await world.run(StatsSpec(snapshots=("ffffffff",)))
    assert (gone.status, code_of(gone)) == (Status.FAILED, "snapshot_missing")


async def test_ls_find_and_diff_show_true_names(world: World) -> None:
    for name in (ODD, NEWLINE, "back\\slash", "plain\nnewline", "-dash", "st*r", "\ufffd"):
        (world.data / name).write_text(name.encode("utf-8", "replace").decode())
    first = await world.saved()
    here = str(world.data)
    outcome = await world.run(LsSpec(snapshot=first, path=here))
    assert outcome.status is Status.SUCCEEDED, outcome
    rows = [row for row in world.rows if isinstance(row, NodeRow)]
    wanted = {path_to_text(os.fsencode(entry.path)) for entry in os.scandir(here)}
    assert {row.path for row in rows} == wanted | {here}
    assert all(row.exact for row in rows)
    assert outcome.result == ListStats(rows=len(wanted) + 1)
    assert not any("\ufffd" in line for line in world.of("stdout"))
    whole = await world.run(LsSpec(snapshot=first, recursive=True))
    assert whole.status is Status.SUCCEEDED
    assert wanted | {f"{here}/sub/two"} <= {row.path for row in world.rows if isinstance(row, NodeRow)}
    found = await world.run(FindSpec(patterns=("caf*", "two*"), newest=datetime.now(UTC) + timedelta(hours=1)))
    assert found.status is Status.SUCCEEDED
    names = {row.path.removeprefix(here) for row in world.rows if isinstance(row, FoundRow)}
    assert names == {"/caf\\xe9", "/two\nlines\\xff", "/sub/two"}
    assert (await world.run(FindSpec(patterns=("-dash",)))).result == ListStats(rows=1)
    assert (
        await world.run(FindSpec(patterns=("caf*",), oldest=datetime.now(UTC) + timedelta(hours=1)))
    ).result == ListStats()
    (world.data / ODD).unlink()
    (world.data / "one").write_text("changed")
    second = await world.saved()
    diff = await world.run(DiffSpec(old=first, new=second))
    assert isinstance(diff.result, DiffStats)
    assert (diff.result.rows, diff.result.files_changed, diff.result.files_removed) == (2, 1, 1)
    changes = {
        (row.modifier, row.path.removeprefix(here), row.exact) for row in world.rows if isinstance(row, ChangeRow)
    }
    assert changes == {("-", "/caf\\xe9", True), ("M", "/one", True)}
    nowhere = await world.run(LsSpec(snapshot=first, path="/no/such"))
    assert (nowhere.status, code_of(nowhere)) == (Status.FAILED, "path_missing")
    for spec in (
        LsSpec(snapshot="ffffffff"),
        FindSpec(patterns=("x",), snapshots=("ffffffff",)),
        DiffSpec(old=first, new="ffffffff"),
    ):
        missing = await world.run(spec)
        assert (missing.status, code_of(missing)) == (Status.FAILED, "snapshot_missing"), spec


async def test_tags(world: World) -> None:
    first = await world.saved(BackupSpec(paths=(str(world.data),), tags=("old",)))
    assert code_of(await world.run(TagSpec(snapshots=("ffffffff",), add=("x",)))) == "snapshot_missing"
    outcome = await world.run(TagSpec(snapshots=(first,), add=("new tag",), remove=("old",)))
    assert (outcome.status, outcome.result) == (Status.SUCCEEDED, TagStats(changed=1))
    await world.run(SnapshotsSpec(schedule_id="sch-1"))
    (row,) = world.rows
    assert isinstance(row, SnapshotRow)
    assert set(row.tags) == {"rm:sch-1", "rmj:job-1", "new tag"}
    assert row.original == first
    again = await world.run(TagSpec(snapshots=(row.id,), add=("new tag",)))
    assert (again.status, again.result) == (Status.SUCCEEDED, TagStats(changed=0))


async def test_a_dump_is_the_file_byte_for_byte(world: World) -> None:
    odd = {ODD: b"odd", NEWLINE: b"", "we[ird*\\n": bytes(range(256)) * 9_000}
    for name, content in odd.items():
        (world.data / name).write_bytes(content)
    (world.data / "link").symlink_to("one")
    os.mkfifo(world.data / "fifo")
    first = await world.saved()
    for name, content in {**odd, "sub/two": (world.data / "sub" / "two").read_bytes()}.items():
        path = path_to_text(os.fsencode(world.data / name))
        outcome = await world.run(DumpSpec(snapshot=first, path=path, limit=max(len(content), 1)))
        assert (outcome.status, outcome.result) == (Status.SUCCEEDED, ListStats(rows=len(world.rows))), (name, outcome)
        assert b"".join(row.data for row in world.rows if isinstance(row, BytesRow)) == content
    for name, code in (("link", "not_a_file"), ("fifo", "not_a_file"), ("sub", "not_a_file"), ("gone", "path_missing")):
        refused = await world.run(DumpSpec(snapshot=first, path=f"{world.data}/{name}"))
        assert (refused.status, code_of(refused), world.rows) == (Status.FAILED, code, []), name
    assert code_of(await world.run(DumpSpec(snapshot="ffffffff", path="/x"))) == "snapshot_missing"
    assert world.locks() == []


async def test_the_newest_of_a_schedule(world: World) -> None:
    older, newer = await world.saved(), await world.saved()
    await world.saved(schedule_id="sch-2")
    await world.run(LsSpec(schedule_id="sch-1", restic_host="web1", path=str(world.data)))
    assert {row.path for row in world.rows if isinstance(row, NodeRow)} >= {f"{world.data}/one"}
    assert any(f"snapshot {newer[:8]} of" in line for line in world.of("agent"))
    diff = await world.run(DiffSpec(schedule_id="sch-1", metadata=True))
    assert diff.status is Status.SUCCEEDED
    assert any(f"snapshot {older[:8]} of" in line for line in world.of("agent"))
    proven = await world.run(VerifySpec(schedule_id="sch-1"))
    assert isinstance(proven.result, VerifyStats)
    assert proven.result.snapshot == newer
    assert code_of(await world.run(LsSpec(restic_host="nobody"))) == "snapshot_missing"


@needs_rest_server
async def test_unlock_after_a_kill(world: World) -> None:
    assert (await world.run(UnlockSpec())).result == UnlockStats()
    assert (await world.run(LocksSpec())).result == ListStats()
    with rest_server(world.served) as server:
        async with holding_proxy(server, "POST", "/data/") as proxy:
            held = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
                [world.real.path, "backup", str(world.data)],
                env={
                    **os.environ,
                    "RESTIC_REPOSITORY": f"rest:{proxy.url}repo",
                    "RESTIC_PASSWORD": PASSWORD,
                    "RESTIC_CACHE_DIR": str(world.cache),
                },
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            with trio.fail_after(30):
                await proxy.held.wait()
            listed = await world.run(LocksSpec())
            assert (listed.status, listed.result) == (Status.SUCCEEDED, ListStats(rows=1))
            (row,) = world.rows
            assert isinstance(row, LockRow)
            assert (row.lock.hostname, row.lock.pid, row.lock.exclusive) == (os.uname().nodename, held.pid, False)
            assert abs(row.lock.time - datetime.now(UTC)) < timedelta(minutes=1)
            assert row.lock.id == world.locks()[0].name
            # Its process lives: an ordinary unlock leaves the lock alone.
            assert (await world.run(UnlockSpec())).result == UnlockStats(left=1)
            held.kill()
            held.wait()
    assert len(world.locks()) == 1
    outcome = await world.run(UnlockSpec())
    assert (outcome.status, outcome.result) == (Status.SUCCEEDED, UnlockStats(removed=1))
    assert world.locks() == []


# -- restore ----------------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {
        os.fsdecode(os.path.relpath(path, folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


async def test_restore_elsewhere(world: World) -> None:
    for name in (ODD, "st*r", "star", "[a]", "a", "back\\slash"):
        (world.data / name).write_text(name.encode("utf-8", "replace").decode())
    first = await world.saved()
    target = world.folder / "target"
    outcome = await world.run(RestoreSpec(snapshot=first, target=str(target), verify=True))
    assert outcome.status is Status.SUCCEEDED, outcome
    assert contents(target / str(world.data)[1:]) == contents(world.data)
    assert isinstance(outcome.result, RestoreStats)
    assert outcome.result.verified is not None
    if world.binary.version >= OLD:
        assert outcome.result.bytes_restored == sum(len(data) for data in contents(world.data).values())
    full = await world.run(RestoreSpec(snapshot=first, target=str(target)))
    assert (full.status, code_of(full)) == (Status.FAILED, "restore_target")
    assert full.error is not None
    assert "not empty" in full.error.message
    onto = await world.run(RestoreSpec(snapshot=first, target=str(world.data / "one")))
    assert code_of(onto) == "restore_target"
    exact = world.folder / "exact"
    paths = tuple(f"{world.data}/{name}" for name in ("st*r", "[a]", "caf\\xe9", "back\\\\slash", "sub"))
    chosen = await world.run(RestoreSpec(snapshot=first, target=str(exact), paths=paths))
    assert chosen.status is Status.SUCCEEDED
    assert set(contents(exact / str(world.data)[1:])) == {"st*r", "[a]", ODD, "back\\slash", "sub/two"}
    empty = await world.run(RestoreSpec(snapshot=first, target=str(world.folder / "none"), paths=("/no/such",)))
    assert (empty.status, code_of(empty)) == (Status.FAILED, "nothing_restored")
    missing = await world.run(RestoreSpec(snapshot="ffffffff", target=str(world.folder / "none")))
    assert (missing.status, code_of(missing)) == (Status.FAILED, "snapshot_missing")


async def test_restore_in_place(world: World) -> None:
    first = await world.saved()
    (world.data / "one").write_text("spoilt")
    (world.data / "extra").touch()
    spec = RestoreSpec(snapshot=first, in_place=True, paths=(str(world.data),))
    outcome = await world.run(spec)
    assert outcome.status is Status.SUCCEEDED, outcome
    assert (world.data / "one").read_text() == "one\n"
    assert (world.data / "extra").exists()
    # 0.14 says nothing of it: what is there already must not pass for what was restored.
    nothing = await world.run(RestoreSpec(snapshot=first, in_place=True, paths=(f"{world.data}/no", f"{world.data}x")))
    assert (nothing.status, code_of(nothing)) == (Status.FAILED, "nothing_restored")
    over = RestoreSpec(snapshot=first, target=str(world.data), paths=("/not/there",), overwrite="always")
    assert code_of(await world.run(over)) == "nothing_restored"
    one_of_two = RestoreSpec(snapshot=first, in_place=True, paths=("/not/there", f"{world.data}/one"))
    assert (await world.run(one_of_two)).status is Status.SUCCEEDED
    (world.data / "one").write_text("newer!")
    choices = RestoreSpec(
        snapshot=first, in_place=True, paths=(str(world.data),), overwrite="if-newer", delete=True, dry_run=True
    )
    dry = await world.run(choices)
    if world.binary.version < OLD:
        assert (dry.status, code_of(dry)) == (Status.FAILED, "restic_too_old")
        assert dry.error is not None
        assert "0.17.0" in dry.error.message
        return
    assert (dry.status, (world.data / "extra").exists()) == (Status.SUCCEEDED, True)
    never = await world.run(
        RestoreSpec(snapshot=first, in_place=True, paths=(str(world.data),), overwrite="never", delete=True)
    )
    assert isinstance(never.result, RestoreStats)
    assert never.result.files_deleted == 1
    assert (world.data / "one").read_text() == "newer!"
    assert not (world.data / "extra").exists()


# -- verify and damage ------------------------------------------------------------------------------------------------


async def test_verify(world: World) -> None:
    for number in range(30):
        (world.data / f"file{number}").write_text(str(number))
    (world.data / ODD).touch()
    await world.saved()
    (world.data / "file7").write_text("changed since")
    (world.data / "file8").unlink()
    spec = VerifySpec(schedule_id="sch-1", files=1_000, always=(f"{world.data}/sub",), seed=7)
    outcome = await world.run(spec)
    assert outcome.status is Status.SUCCEEDED, outcome
    result = outcome.result
    assert isinstance(result, VerifyStats)
    # Not the one whose name only the text shows.
    assert (result.files, result.live, result.changed, result.differences) == (32, 30, 2, ())
    assert result.size > 300_000
    assert list(world.cache.glob("verify-*")) == []
    lacks = await world.run(
        VerifySpec(schedule_id="sch-1", files=3, always=(f"{world.data}/sub", "/not/saved"), seed=7)
    )
    assert (lacks.status, code_of(lacks)) == (Status.WARNING, "path_missing")
    assert lacks.error is not None
    assert "not in the snapshot: /not/saved." in lacks.error.message
    rot = world.data / "file9"
    was = rot.stat()
    rot.write_text("X")
    os.utime(rot, ns=(was.st_atime_ns, was.st_mtime_ns))
    differs = await world.run(spec)
    assert (differs.status, code_of(differs)) == (Status.WARNING, "live_differs")
    assert isinstance(differs.result, VerifyStats)
    assert [one.path for one in differs.result.differences] == [str(rot)]
    none = await world.run(VerifySpec(schedule_id="nothing"))
    assert (none.status, code_of(none)) == (Status.FAILED, "snapshot_missing")


async def test_a_damaged_pack_is_told_file_by_file(world: World) -> None:
    first = await world.saved()
    pack = world.damage()
    two = f"{world.data}/sub/two"
    checked = await world.run(CheckSpec(read=Part(number=1, of=1)))
    assert (checked.status, code_of(checked)) == (Status.FAILED, "repo_damaged")
    result = checked.result
    assert isinstance(result, CheckStats)
    assert result.damaged_packs == (pack,)
    assert result.damaged_snapshots == (first,)
    assert two in {one.path for one in result.damaged_files}
    assert result.files_known
    assert checked.error is not None
    assert "1 damaged pack, needed by 2 files in 1 snapshot" in checked.error.message
    verified = await world.run(VerifySpec(snapshot=first, live=False))
    assert verified.status is Status.FAILED
    assert code_of(verified) == "repo_damaged"
    assert isinstance(verified.result, VerifyStats)
    assert [one.path for one in verified.result.differences] == [two]
    restored = await world.run(RestoreSpec(snapshot=first, target=str(world.folder / "t")))
    assert (restored.status, code_of(restored)) == (Status.FAILED, "repo_damaged")
    assert (world.folder / "t" / str(world.data)[1:] / "one").read_text() == "one\n"
    world.biggest_pack().unlink()
    gone = await world.run(CheckSpec())
    assert (gone.status, code_of(gone)) == (Status.FAILED, "repo_damaged")
    assert isinstance(gone.result, CheckStats)
    assert gone.result.damaged_packs == (pack,)
    assert two in {one.path for one in gone.result.damaged_files}
    pruned = await world.run(PruneSpec())
    assert (pruned.status, code_of(pruned)) == (Status.FAILED, "repo_damaged")


# -- copy -------------------------------------------------------------------------------------------------------------


async def test_init_with_chunker_and_copy(world: World) -> None:
    first = await world.saved()
    await world.saved(schedule_id="sch-2")
    source = RepoAccess(repo_id="r1", url=world.url, password=PASSWORD)
    second = RepoAccess(repo_id="r2", url=str(world.folder / "second"), password="other")
    made = await world.run(InitSpec(chunker_from="r1"), repo=second, source=source)
    assert made.status is Status.SUCCEEDED, made
    outcome = await world.run(CopySpec(from_repo="r1", schedule_id="sch-1"), repo=second, source=source)
    assert outcome.status is Status.SUCCEEDED, outcome
    assert isinstance(outcome.result, CopyStats)
    assert outcome.result.copied == 1
    again = await world.run(CopySpec(from_repo="r1", schedule_id="sch-1"), repo=second, source=source)
    assert isinstance(again.result, CopyStats)
    assert again.result.copied == 0
    await world.run(SnapshotsSpec(), repo=second)
    (row,) = world.rows
    assert isinstance(row, SnapshotRow)
    assert row.original == first
    # The chunker's polynomial is the same: the same content is the same blobs.
    polynomials = {
        world.real.run(repo.url, "cat", "config", password=repo.known_password())
        .split('"chunker_polynomial"')[1]
        .split('"')[1]
        for repo in (source, second)
    }
    assert len(polynomials) == 1
    wrong = RepoAccess(repo_id="r1", url=world.url, password="wrong")
    refused = await world.run(CopySpec(from_repo="r1"), repo=second, source=wrong)
    assert (refused.status, code_of(refused)) == (Status.FAILED, "source_repo_failed")
    gone = RepoAccess(repo_id="r1", url=str(world.folder / "nowhere"), password="x")
    missing = await world.run(CopySpec(from_repo="r1"), repo=second, source=gone)
    assert (missing.status, code_of(missing)) == (Status.FAILED, "source_repo_failed")
    nowhere = RepoAccess(repo_id="r2", url=str(world.folder / "nowhere"), password="x")
    target = await world.run(CopySpec(from_repo="r1"), repo=nowhere, source=source)
    assert (target.status, code_of(target)) == (Status.FAILED, "repo_missing")


# -- append-only ------------------------------------------------------------------------------------------------------


@needs_rest_server
async def test_append_only(world: World) -> None:
    first = await world.saved()
    (world.data / "sub" / "two").write_bytes(os.urandom(300_000))
    second = await world.saved()
    with rest_server(world.served, "--append-only") as url:
        world.url = f"rest:{url}repo"
        assert (await world.run()).status is Status.SUCCEEDED
        assert (await world.run(CheckSpec())).status is Status.SUCCEEDED
        assert (await world.run(UnlockSpec())).status is Status.SUCCEEDED
        for spec in (ForgetSpec(policies=(policy(last=1),)), ForgetSpec(snapshots=(first,))):
            refused = await world.run(spec)
            assert (refused.status, code_of(refused)) == (Status.FAILED, "access_denied"), refused
            assert isinstance(refused.result, ForgetStats)
            assert refused.result.removed == 0
        assert {first, second} <= set(world.snapshots())
        tagged = await world.run(TagSpec(snapshots=(second,), add=("x",)))
        assert (tagged.status, code_of(tagged)) == (Status.FAILED, "access_denied")
        world.plain("forget", first)
        pruned = await world.run(PruneSpec(max_unused=0), limits=Limits(time_limit=40))
        assert (pruned.status, code_of(pruned)) == (Status.FAILED, "access_denied"), pruned
    assert world.locks() == []
