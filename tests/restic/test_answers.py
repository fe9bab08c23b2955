"""The readers on what the real binaries answered, on the three releases, and on lines that nobody answers."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from restic_manager.domain.results import (
    ChangeRow,
    CheckStats,
    CopyStats,
    DiffStats,
    FateRow,
    ForgetStats,
    FoundRow,
    ListStats,
    NodeRow,
    PruneStats,
    RepoStats,
    RestoreStats,
    Result,
    Row,
    SnapshotRow,
    TagStats,
)
from restic_manager.domain.specs import CheckSpec, Part, StatsSpec
from restic_manager.restic.answers import listing
from restic_manager.restic.answers.listing import (
    DiffReader,
    FindReader,
    LsReader,
    NamedReader,
    NamesReader,
    as_go_shows,
)
from restic_manager.restic.answers.reader import Finding, Reader
from restic_manager.restic.answers.restoring import CopyReader, RestoreReader
from restic_manager.restic.answers.snapshots import ForgetReader, SnapshotsReader, snapshot_row
from restic_manager.restic.answers.upkeep import CheckReader, PackFilesReader, PruneReader, StatsReader, TagReader
from restic_manager.restic.version import Feature, Version
from tests.restic.captured import VERSIONS, Said, said

HERE = "/srv/data"
TWO = 256_000
SIZE = 4 + 1 + 2 + TWO


def read(reader: Reader, told: Said) -> tuple[Finding, list[Row]]:
    """Feed a reader as the stage does, and return what it found and its rows."""
    rows: list[Row] = []
    for line in told.stdout:
        reader.stdout(line)
        rows += reader.rows()
    heard, _ = told.heard()
    for text in heard.take("stderr", told.stderr)[0]:
        reader.stderr(text)
    return reader.finding(), rows


def result(reader: Reader, told: Said) -> Any:
    found, _ = read(reader, told)
    assert found.code is None, found
    return found.result


@pytest.mark.parametrize("version", VERSIONS)
class TestReal:
    def test_snapshots(self, version: str) -> None:
        found, rows = read(SnapshotsReader(), said(version, "snapshots"))
        assert found == Finding(ListStats(rows=2))
        first, last = rows
        assert isinstance(first, SnapshotRow)
        assert isinstance(last, SnapshotRow)
        assert (first.hostname, first.paths, first.tags, first.parent) == ("web1", (HERE,), ("rm:s1",), None)
        assert last.parent == first.id
        assert last.time > first.time
        if Version(*map(int, version.split("."))) >= Version(0, 17):
            assert first.summary is not None
            assert (first.summary.files, first.summary.size, first.summary.files_new) == (4, SIZE, 4)
            assert str(first.program).startswith("restic 0.1")

    def test_listings_with_their_true_names(self, version: str) -> None:
        for kind, reader in (("ls", LsReader(HERE)), ("find", FindReader()), ("diff", DiffReader())):
            assert isinstance(reader, NamedReader)
            _, rows = read(reader, said(version, kind))
            assert len(reader.held) == 1
            names = NamesReader(reader.held)
            _, more = read(names, said(version, f"{kind}_text"))
            assert names.left() == []
            (exact,) = more
            assert isinstance(exact, NodeRow | FoundRow | ChangeRow)
            assert (exact.path, exact.exact) == (f"{HERE}/caf\\xe9", True)
            assert all("\ufffd" not in str(getattr(row, "path", "")) for row in rows)

    def test_ls(self, version: str) -> None:
        found, rows = read(LsReader(HERE), said(version, "ls"))
        assert found == Finding(ListStats(rows=5))
        nodes = {row.path: (row.type, row.size) for row in rows if isinstance(row, NodeRow)}
        assert nodes == {
            HERE: ("dir", 0),
            f"{HERE}/one": ("file", 4),
            f"{HERE}/sub": ("dir", 0),
            f"{HERE}/two\nlines": ("file", 2),
        }

    def test_find(self, version: str) -> None:
        found, rows = read(FindReader(), said(version, "find"))
        assert found == Finding(ListStats(rows=5))
        assert len({row.snapshot for row in rows if isinstance(row, FoundRow)}) == 2
        assert read(FindReader(), said(version, "find_missing"))[0].code == "snapshot_missing"

    def test_diff(self, version: str) -> None:
        found, rows = read(DiffReader(), said(version, "diff"))
        assert [(row.modifier, row.path) for row in rows if isinstance(row, ChangeRow)] == [("M", f"{HERE}/one")]
        assert isinstance(found.result, DiffStats)
        assert (found.result.rows, found.result.files_changed, found.result.files_removed) == (2, 1, 1)
        assert found.result.bytes_added > 0

    def test_stats(self, version: str) -> None:
        raw = result(StatsReader(StatsSpec()), said(version, "stats_raw"))
        assert isinstance(raw, RepoStats)
        assert (raw.snapshots, raw.files) == (2, None)
        assert raw.size > 0
        assert (raw.ratio is None) == (version == "0.14.0")
        size = result(StatsReader(StatsSpec(mode="restore-size")), said(version, "stats_size"))
        assert (size.size, size.snapshots, size.blobs) == (SIZE, 1, None)
        assert size.files >= 6
        assert read(StatsReader(StatsSpec()), said(version, "stats_missing"))[0].code == "snapshot_missing"

    def test_restore(self, version: str) -> None:
        told = result(RestoreReader(verify=True), said(version, "restore"))
        assert isinstance(told, RestoreStats)
        if version == "0.14.0":
            assert told == RestoreStats(verified=4)
        else:
            assert (told.bytes_restored, told.errors) == (SIZE, 0)
            assert told.verified == told.files_restored
        nothing, _ = read(RestoreReader(), said(version, "restore_nothing"))
        assert nothing.code == (None if version == "0.14.0" else "nothing_restored")

    def test_forget(self, version: str) -> None:
        found, rows = read(ForgetReader("s1", dry_run=True), said(version, "forget_dry"))
        assert isinstance(found.result, ForgetStats)
        assert (found.result.kept, found.result.removed, found.result.dry_run) == (1, 1, True)
        kept, gone = rows
        assert isinstance(kept, FateRow)
        assert isinstance(gone, FateRow)
        assert (kept.keep, kept.reasons) == (True, ("last snapshot", "daily snapshot"))
        assert (gone.keep, gone.reasons, gone.schedule_id) == (False, (), "s1")
        assert found.result.removed_ids == (gone.snapshot.id,)
        assert result(ForgetReader(), said(version, "forget")).removed == 1
        assert result(ForgetReader(), said(version, "forget_none")) == ForgetStats()

    def test_tag(self, version: str) -> None:
        assert result(TagReader(), said(version, "tag")) == TagStats(changed=1)
        assert read(TagReader(), said(version, "tag_missing"))[0].code == "snapshot_missing"

    def test_copy(self, version: str) -> None:
        told = result(CopyReader(), said(version, "copy"))
        assert isinstance(told, CopyStats)
        assert (told.copied, len(told.copied_ids)) == (2, 2)
        again = result(CopyReader(), said(version, "copy_again"))
        assert (again.copied, again.skipped) == (0, 2 if version == "0.14.0" else None)

    def test_prune(self, version: str) -> None:
        would = result(PruneReader(dry_run=True), said(version, "prune_dry"))
        done = result(PruneReader(), said(version, "prune"))
        assert isinstance(done, PruneStats)
        assert done.removed is not None
        assert done.removed > 0
        assert (would.removed, would.remaining, would.dry_run) == (done.removed, done.remaining, True)
        assert done.unused_after == 0
        assert read(PruneReader(), said(version, "prune_gone"))[0].code == "no_summary"

    def test_check(self, version: str) -> None:
        spec = CheckSpec(read=Part(number=1, of=1))
        assert result(CheckReader(spec), said(version, "check")) == CheckStats(part=1, of=1)
        for situation in ("check_damaged", "check_gone"):
            found, _ = read(CheckReader(spec), said(version, situation))
            assert found.code == "repo_damaged"
            assert isinstance(found.result, CheckStats)
            assert (found.result.errors, len(found.result.damaged_packs), found.result.files_known) == (1, 1, False)
        files = PackFilesReader()
        read(files, said(version, "find_pack"))
        assert files.read
        assert len(files.snapshots) == 1
        assert f"{HERE}/sub/two" in {file.path for file in files.files}
        assert files.count == len(files.files)
        # A lock clash is an error in its summary; its exit code is read first, and its words name no pack.
        clash = CheckReader(spec)
        clash.stderr("unable to create lock in backend: repository is already locked by PID 1")
        assert clash.packs == []


def test_go_shows_each_byte() -> None:
    assert as_go_shows(b"a\xe9\xff\xe2\x82b\xf0\x9f\x98") == "a\ufffd\ufffd\ufffd\ufffdb\ufffd\ufffd\ufffd"
    assert as_go_shows("häß\ufffd".encode()) == "häß\ufffd"


def test_a_name_that_does_not_come_out_the_same_is_not_exact() -> None:
    reader = LsReader("/")
    reader.stdout(b'{"struct_type":"snapshot","paths":["/a\\nb"]}')
    reader.stdout('{"struct_type":"node","type":"file","path":"/a\ufffd"}'.encode())
    reader.stdout('{"struct_type":"node","type":"file","path":"/b\ufffd"}'.encode())
    names = NamesReader(reader.held)
    for line in (b"snapshot x of [/a", b"b]:", b"/other"):
        names.stdout(line)
    (wrong,), (left,) = names.rows(), names.left()
    assert wrong == NodeRow(path="/a\ufffd", type="file", exact=False)
    assert left == NodeRow(path="/b\ufffd", type="file", exact=False)


LINES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"[null]", b"[[]]", b"{}", b"null", b'[{"keep":1,"remove":{},"reasons":[3]}]', b'[{"matches":[3]}]',
            b'{"message_type":"summary","num_errors":"x","broken_packs":3}', b'{"struct_type":"node","path":3}',
            b'{"struct_type":"snapshot","paths":7}', b'{"message_type":"statistics","added":3}', b"[3]", b'["x"]',
            b'{"total_size":-1,"compression_ratio":"x"}', b'[{"id":"abcdef1234","time":"9999-99-99T99:99:99Z"}]',
            b"to repack: 1 blobs / 1.2.3 KiB", b'{"message_type":"summary","changed_snapshots":1e400}',
            b'[{"id":"abcdef1234","time":"2026-01-01T00:00:00.1Z","paths":[1,null],"tags":[{}],"summary":[]}]',
            b'[{"snapshot":"abcdef1234","matches":[{}]}]', b'{"message_type":"change"}',
        ]
    ),
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(LINES, max_size=4), st.lists(st.text(max_size=30), max_size=3))
def test_no_line_raises_and_every_result_can_travel(out: list[bytes], err: list[str]) -> None:
    readers: list[Reader] = [
        SnapshotsReader(), ForgetReader(), PruneReader(), CheckReader(CheckSpec()), PackFilesReader(), TagReader(),
        StatsReader(StatsSpec()), RestoreReader(), CopyReader(), LsReader("/"), FindReader(), DiffReader(),
    ]  # fmt: skip
    for reader in readers:
        for line in out:
            reader.stdout(line)
        for text in err:
            reader.stderr(text)
        for row in reader.rows():
            msgspec.json.decode(msgspec.json.encode(row), type=Row)
        found = reader.finding().result
        if found is not None:
            assert msgspec.json.decode(msgspec.json.encode(found), type=Result) == found


def test_features_are_those_the_readers_need() -> None:
    assert not Version(0, 14).has(Feature.JSON_CHECK)
    assert Version(0, 18).has(Feature.JSON_CHECK)


def test_a_snapshot_of_very_many_paths_is_a_row_that_fits() -> None:
    told = {
        "id": "ab" * 32,
        "time": "2026-03-01T12:00:00Z",
        "paths": [f"/srv/{number:05d}" for number in range(20_000)],
    }
    row = snapshot_row(told | {"tags": ["x" * 16_000] * 20})
    assert row is not None
    assert len(msgspec.json.encode(row)) < 256 << 10
    assert row.paths[0] == "/srv/00000"
    assert row.paths[-1] == f"… and {20_000 - len(row.paths) + 1} more"
    assert row.tags[-1] == "… and 14 more"
    few = snapshot_row(told | {"paths": ["/etc"] * 1_000})
    assert few is not None
    assert len(few.paths) == 1_000


def test_names_that_json_does_not_show_wait_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "HELD_AT_MOST", 2)
    reader = LsReader("/")
    reader.stdout(b'{"struct_type":"snapshot","paths":["/a"]}')
    for number in range(4):
        reader.stdout(json.dumps({"struct_type": "node", "type": "file", "path": f"/a\ufffd{number}"}).encode())
    assert [held.shown for held in reader.held] == ["/a\ufffd0", "/a\ufffd1"]
    assert [(row.path, row.exact) for row in reader.rows() if isinstance(row, NodeRow)] == [
        ("/a\ufffd2", False),
        ("/a\ufffd3", False),
    ]
    assert reader.finding().result == ListStats(rows=4)
