"""What is typed for a job of each kind becomes its spec: pure, kind by kind; retention and guards likewise."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from restic_manager.cli.keep_options import KeepOptions
from restic_manager.cli.keep_request import (
    guard_words,
    guards_after,
    guards_said,
    retention_after,
    retention_said,
)
from restic_manager.cli.spec_options import SpecOptions
from restic_manager.cli.spec_request import edited, said, spec_of
from restic_manager.cli.spec_rules import NAMED, NEVER_SCHEDULED, RULES, SPECS
from restic_manager.cli.spec_words import doing, spec_lines
from restic_manager.cli.typed import byte_count, percent, rate
from restic_manager.domain.errors import InputError
from restic_manager.domain.guards import Guard, Guards
from restic_manager.domain.model import Kind
from restic_manager.domain.retention import Retention
from restic_manager.domain.specs import (
    BackupSpec,
    CheckSpec,
    CopySpec,
    DiffSpec,
    DumpSpec,
    FindSpec,
    ForgetSpec,
    InitSpec,
    LocksSpec,
    LsSpec,
    Part,
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

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
A, B = "0123abcd", "deadbeefcafe"


def made(kind: Kind, *words: str, scheduled: bool = False, **options: Any) -> Spec:
    return spec_of(kind, said(kind, SpecOptions(**options), words, scheduled=scheduled, now=NOW))


MADE: list[tuple[Kind, tuple[str, ...], dict[str, Any], Spec]] = [
    (
        Kind.BACKUP,
        ("/etc", os.fsdecode(b"/caf\xe9")),
        {
            "exclude": ["*.o"],
            "exclude_larger_than": "1.5G",
            "files_from": ["/etc/paths"],
            "skip_if_unchanged": True,
            "compression": "max",
            "read_concurrency": "4",
            "limit_upload": "512",
            "limit_download": "2M",
            "nice": "10",
            "ionice_class": "best-effort",
            "ionice_level": "7",
            "dry_run": True,
        },
        BackupSpec(
            paths=("/etc", "/caf\\xe9"),
            excludes=("*.o",),
            exclude_larger_than=3 << 29,
            files_from=("/etc/paths",),
            skip_if_unchanged=True,
            dry_run=True,
            tuning=Tuning(
                upload_limit=512,
                download_limit=2_048,
                compression="max",
                read_concurrency=4,
                nice=10,
                io_class="best-effort",
                io_level=7,
            ),
        ),
    ),
    (Kind.BACKUP, (), {"files_from": ["/list"]}, BackupSpec(files_from=("/list",))),
    (Kind.INIT, (), {}, InitSpec()),
    (Kind.FORGET, (), {}, ForgetSpec()),
    (Kind.FORGET, (), {"snapshot": [A, B], "dry_run": True}, ForgetSpec(snapshots=(A, B), dry_run=True)),
    (
        Kind.PRUNE,
        (),
        {"max_unused": "5%", "max_repack": "20G", "repack_cacheable_only": True, "repack_uncompressed": True},
        PruneSpec(max_unused=5.0, max_repack=20 << 30, repack_cacheable_only=True, repack_uncompressed=True),
    ),
    (Kind.CHECK, (), {}, CheckSpec()),
    (Kind.CHECK, (), {"read_data": True}, CheckSpec(read=Part(number=1, of=1))),
    (Kind.CHECK, (), {"read_data_subset": "1/12"}, CheckSpec(read=Part(number=1, of=12))),
    (Kind.UNLOCK, (), {"remove_all": True}, UnlockSpec(remove_all=True)),
    (Kind.STATS, (), {"mode": "restore-size", "snapshot": [A]}, StatsSpec(mode="restore-size", snapshots=(A,))),
    (
        Kind.RESTORE,
        ("/etc",),
        {"to": "/back", "include": ["*.conf"], "overwrite": "if-newer", "snapshot": [A], "verify": True},
        RestoreSpec(
            snapshot=A, target="/back", paths=("/etc",), includes=("*.conf",), overwrite="if-newer", verify=True
        ),
    ),
    (
        Kind.VERIFY,
        (),
        {"files": "5", "size": "1M", "always": ["/etc/fstab"], "seed": "7", "live": False},
        VerifySpec(files=5, size=1 << 20, always=("/etc/fstab",), seed=7, live=False),
    ),
    (Kind.LS, ("/etc",), {"recursive": True, "snapshot": [B]}, LsSpec(snapshot=B, path="/etc", recursive=True)),
    (
        Kind.FIND,
        ("*.pdf", "--evil"),
        {"since": "7d", "until": "2026-11-20", "ignore_case": True},
        FindSpec(
            patterns=("*.pdf", "--evil"),
            oldest=NOW - timedelta(days=7),
            newest=datetime(2026, 11, 20, tzinfo=UTC),
            ignore_case=True,
        ),
    ),
    (Kind.DIFF, (A, B), {"metadata": True}, DiffSpec(old=A, new=B, metadata=True)),
    (Kind.DIFF, (), {"snapshot": [A, B]}, DiffSpec(old=A, new=B)),
    (
        Kind.TAG,
        (),
        {"add": ["a"], "remove": ["b"], "snapshot": [A]},
        TagSpec(snapshots=(A,), add=("a",), remove=("b",)),
    ),
    (Kind.SNAPSHOTS, (), {}, SnapshotsSpec()),
    (Kind.LOCKS, (), {}, LocksSpec()),
    (
        Kind.DUMP,
        ("/etc/fstab",),
        {"snapshot": [A], "limit": "1M"},
        DumpSpec(snapshot=A, path="/etc/fstab", limit=1 << 20),
    ),
]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            TagSpec(add=("a", "b"), remove=("c",)),
            "adds the tag a, b and takes away the tag c: the newest snapshot in main",
        ),
        (TagSpec(snapshots=(A, B), add=("a",)), "adds the tag a: 2 snapshots in main"),
        (DiffSpec(restic_host="web1"), "compares the two newest snapshots of web1 in main"),
        (CopySpec(from_repo="r", restic_host="web1"), "copies the snapshots it does not have yet of web1 into main"),
        (BackupSpec(paths=("/a\nb",)), "saves /a\nb to main"),
    ],
)
def test_what_a_schedule_does_is_told_in_words(spec: Spec, words: str) -> None:
    assert doing(spec, "main") == words


def test_the_end_of_a_line_in_a_path_is_shown() -> None:
    assert ("Paths", "/a\\nb\n/c") in spec_lines(BackupSpec(paths=("/a\nb", "/c")))


@pytest.mark.parametrize(("kind", "words", "options", "spec"), MADE, ids=[f"{row[0]} {row[2]}" for row in MADE])
def test_what_is_typed_for_a_kind_is_its_spec(
    kind: Kind, words: tuple[str, ...], options: dict[str, Any], spec: Spec
) -> None:
    assert made(kind, *words, **options) == spec


def test_every_made_spec_travels_and_is_told_line_by_line() -> None:
    for kind, _, _, spec in MADE:
        assert msgspec.json.decode(msgspec.json.encode(spec), type=Spec) == spec
        assert doing(spec, "main"), kind
        said_fields = [name for name in spec.__struct_fields__ if name != "tuning" and getattr(spec, name)]
        assert len(spec_lines(spec)) >= len(said_fields) - 2, kind  # two that are as usual go without saying at most


def test_every_field_of_every_kind_can_be_typed_or_is_the_servers_alone() -> None:
    typed = {(kind, rule.goes.removeprefix("tuning.")) for rule in RULES for kind in rule.kinds}
    typed |= {(kind, goes) for _, _, kinds, goes in NAMED for kind in kinds}
    typed |= {(Kind.BACKUP, "paths"), (Kind.RESTORE, "paths"), (Kind.FIND, "patterns"), (Kind.LS, "path")}
    typed |= {(Kind.DUMP, "path"), (Kind.FORGET, "policies"), (Kind.CHECK, "read"), (Kind.CHECK, "rolling")}
    typed |= {(Kind.DIFF, "old"), (Kind.DIFF, "new")}
    typed |= {(kind, "snapshot") for kind, goes in typed if goes == "snapshots"}
    for kind, spec in SPECS.items():
        wanted = {name for name in spec.__struct_fields__ if name != "tuning"}
        assert wanted <= {goes for one, goes in typed if one is kind}, kind
    assert set(SPECS) == set(Kind)
    assert {kind for kind in Kind if "tuning" in SPECS[kind].__struct_fields__} == set(RULES[0].kinds)


def test_every_option_is_refused_by_name_where_it_does_not_belong() -> None:
    for rule in RULES:
        for kind in set(Kind) - set(rule.kinds):
            given: dict[str, Any] = {rule.field: ["x"]}
            with pytest.raises(InputError, match=f"{rule.option} does not belong to {kind}"):
                said(kind, SpecOptions(**given), (), scheduled=False, now=NOW)


def test_a_part_in_a_schedule_is_the_next_one_each_time() -> None:
    assert made(Kind.CHECK, scheduled=True, read_data_subset="1/28") == CheckSpec(rolling=28)
    assert edited(CheckSpec(rolling=28), {"read": None, "rolling": None}) == CheckSpec()
    for kind in NEVER_SCHEDULED:
        assert kind in {Kind.INIT, Kind.LOCKS, Kind.DUMP, Kind.PROBE}


def test_an_edit_changes_what_it_names_and_none_takes_away() -> None:
    before = BackupSpec(
        paths=("/etc",), exclude_larger_than=5, tuning=Tuning(nice=3, compression="max"), tags=("a", "b")
    )
    changes = said(
        Kind.BACKUP,
        SpecOptions(exclude_larger_than="none", nice="none", limit_upload="1M", tag=[""]),
        (),
        scheduled=True,
        now=NOW,
    )
    assert edited(before, changes) == BackupSpec(paths=("/etc",), tuning=Tuning(compression="max", upload_limit=1_024))
    changes = said(Kind.BACKUP, SpecOptions(nice="none", compression="none"), (), scheduled=True, now=NOW)
    assert edited(before, changes).tuning is None  # type: ignore[union-attr]  # a backup's
    with pytest.raises(InputError, match="say what to save"):
        edited(before, {"paths": ()})


@pytest.mark.parametrize(
    ("text", "count"),
    [("1", 1), ("1048576", 1 << 20), ("500M", 500 << 20), ("1.5GiB", 3 << 29), ("2kb", 2_048), ("3 T", 3 << 40)],
)
def test_sizes(text: str, count: int) -> None:
    assert byte_count(text, "--x") == count


@pytest.mark.parametrize("text", ["", "0", "-1", "M", "1X", "1e9", "٣", "1.5", "9" * 20])
def test_what_is_no_size_is_refused(text: str) -> None:
    if text == "1.5":
        assert byte_count(text, "--x") == 1  # bytes come whole
        return
    with pytest.raises(InputError, match="--x"):
        byte_count(text, "--x")


def test_rates_are_kib_and_shares_percent() -> None:
    assert [rate(text, "--x") for text in ("512", "2M", "1024KiB", "2048b")] == [512, 2_048, 1_024, 2]
    assert [percent(text, "--x") for text in ("5", "2.5%", "0", "100 %")] == [5.0, 2.5, 0.0, 100.0]
    for text in ("0", "10b", "fast"):
        with pytest.raises(InputError, match="--x"):
            rate(text, "--x")
    for text in ("101", "-1", "half"):
        with pytest.raises(InputError, match="--x"):
            percent(text, "--x")


def test_retention_is_merged_into_what_there_was() -> None:
    found = retention_said(KeepOptions(keep_daily="14", keep_within="1y6m", keep_hourly="none", keep_tag=["keep"]))
    assert found == {"daily": 14, "hourly": None, "within": "1y6m", "tags": ("keep",)}
    before = Retention(hourly=48, weekly=8)
    assert retention_after(before, found) == Retention(daily=14, weekly=8, within="1y6m", tags=("keep",))
    assert retention_after(None, {}) is None
    assert retention_after(before, {}) is before
    with pytest.raises(InputError, match="--keep-none"):
        retention_after(Retention(last=3), {"last": None})


def test_guards_are_merged_and_told() -> None:
    found = guards_said(KeepOptions(guard_shrink="25%", guard_least="1G", guard_off=["nothing", "nothing"]))
    guards = guards_after(None, found)
    assert guards == Guards(shrink=0.25, least=1 << 30, off=(Guard.NOTHING,))
    assert guard_words(guards) == (
        "warns when files or bytes fall by more than 25 % or there are fewer than 1.0 GiB; off: nothing"
    )
    assert guards_after(guards, guards_said(KeepOptions(guard_shrink="50", guard_least="none", guard_off=[""]))) is None
    assert guard_words(Guards(shrink=None)) == "no size is warned for"


def test_a_copy_says_from_where() -> None:
    found = said(Kind.COPY, SpecOptions(from_repo="main"), (), scheduled=False, now=NOW)
    assert spec_of(Kind.COPY, found | {"from_repo": "main"}) == CopySpec(from_repo="main")
    with pytest.raises(InputError, match="--from REPO"):
        spec_of(Kind.COPY, {})
