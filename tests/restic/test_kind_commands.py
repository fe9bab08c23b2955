"""The kinds' command lines, asserted whole; what is refused of a spec; which wish needs which restic."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from restic_manager.domain.errors import InputError
from restic_manager.domain.model import RepoAccess, kind_of
from restic_manager.domain.pathtext import path_to_text
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
from restic_manager.restic.checks import check_source, check_spec, check_wish
from restic_manager.restic.command import Command, Setting, backup_command, init_command
from restic_manager.restic.commands import keeping, reading, restoring
from restic_manager.restic.commands.shared import literal, priority_words
from restic_manager.restic.gates import pass_gates
from restic_manager.restic.version import ResticUnusableError, Version
from tests.protocol.samples import SPECS

SETTING = Setting("/usr/bin/restic", {"RESTIC_PASSWORD": "geheim", "RESTIC_REST_USERNAME": "u"})
ID, OTHER = "a" * 64, "bbbbbbbb"
TUNING = Tuning(upload_limit=10, download_limit=20, compression="off")
TUNED = ["--limit-upload=10", "--limit-download=20", "--compression=off"]
OLD, NEW = Version(0, 14), Version(0, 19, 1)
AT = datetime(2026, 11, 23, 1, 30, tzinfo=timezone(timedelta(hours=2)))


def words(command: Command) -> list[str]:
    assert command.argv[0] == b"/usr/bin/restic"
    return [word.decode("utf-8", "surrogateescape") for word in command.argv[1:]]


def policy(**keep: Any) -> ForgetPolicy:
    return ForgetPolicy(schedule_id="s1", restic_host="web1", keep=Retention(**keep))


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        (
            keeping.forget_command(SETTING, policy(last=3, within_daily="1m", tags=("a", "-b")), dry_run=True),
            [
                "forget",
                "--json",
                "--host=web1",
                "--tag=rm:s1",
                "--group-by=",
                "--keep-last=3",
                "--keep-within-daily=1m",
                "--keep-tag=a",
                "--keep-tag=-b",
                "--dry-run",
            ],
        ),
        (
            keeping.forget_snapshots_command(SETTING, (ID, OTHER), dry_run=False),
            ["forget", "--json", "--", ID, OTHER],
        ),
        (keeping.prune_command(SETTING, PruneSpec()), ["prune"]),
        (
            keeping.prune_command(
                SETTING,
                PruneSpec(
                    max_unused=2.5,
                    max_repack=0,
                    repack_cacheable_only=True,
                    repack_uncompressed=True,
                    dry_run=True,
                    tuning=TUNING,
                ),
            ),
            [
                "prune",
                *TUNED,
                "--max-unused=2.5%",
                "--max-repack-size=0",
                "--repack-cacheable-only",
                "--repack-uncompressed",
                "--dry-run",
            ],
        ),
        (keeping.check_command(SETTING, CheckSpec()), ["check", "--json"]),
        (
            keeping.check_command(SETTING, CheckSpec(read=Part(number=3, of=12))),
            ["check", "--json", "--read-data-subset=3/12"],
        ),
        (keeping.pack_files_command(SETTING, [ID]), ["find", "--json", "--no-lock", "--pack", "--", ID]),
        (keeping.unlock_spec_command(SETTING, UnlockSpec()), ["unlock"]),
        (keeping.unlock_spec_command(SETTING, UnlockSpec(remove_all=True)), ["unlock", "--remove-all"]),
        (
            keeping.stats_command(SETTING, StatsSpec(mode="restore-size", restic_host="web1", schedule_id="s1")),
            ["stats", "--json", "--mode=restore-size", "--host=web1", "--tag=rm:s1", "--"],
        ),
        (
            keeping.tag_command(SETTING, TagSpec(snapshots=(ID,), add=("--x",), remove=("y",))),
            ["tag", "--json", "--add=--x", "--remove=y", "--", ID],
        ),
        (reading.snapshots_command(SETTING, SnapshotsSpec(restic_host="web1")), ["snapshots", "--json", "--host=web1"]),
        (reading.dump_command(SETTING, ID, "/caf\\xe9"), ["dump", "--", ID, "/caf\udce9"]),
        (reading.ls_command(SETTING, LsSpec(snapshot=ID)), ["ls", "--json", "--", ID, "/"]),
        (
            reading.ls_command(SETTING, LsSpec(snapshot=ID, path="/caf\\xe9", recursive=True), text=True),
            ["ls", "--recursive", "--", ID, "/caf\udce9"],
        ),
        (
            reading.find_command(
                SETTING,
                FindSpec(
                    patterns=("-x", "*.conf"), snapshots=(ID,), schedule_id="s1", ignore_case=True, oldest=AT, newest=AT
                ),
            ),
            [
                "find",
                "--json",
                "--tag=rm:s1",
                f"--snapshot={ID}",
                "--ignore-case",
                "--oldest=2026-11-22 23:30:00 +0000",
                "--newest=2026-11-22 23:30:00 +0000",
                "--",
                "-x",
                "*.conf",
            ],
        ),
        (
            reading.diff_command(SETTING, DiffSpec(old=ID, new=OTHER, metadata=True)),
            ["diff", "--json", "--metadata", "--", ID, OTHER],
        ),
        (
            restoring.restore_command(
                SETTING,
                RestoreSpec(
                    snapshot=ID,
                    target="/-t",
                    paths=("/a*b", "/x\\\\y"),
                    includes=("-i*",),
                    overwrite="never",
                    delete=True,
                    verify=True,
                ),
            ),
            [
                "restore",
                "--json",
                "--target=/-t",
                "--include=/a\\*b",
                "--include=/x\\\\y",
                "--include=-i*",
                "--overwrite=never",
                "--delete",
                "--verify",
                "--",
                ID,
            ],
        ),
        (
            restoring.restore_command(SETTING, RestoreSpec(snapshot=ID, in_place=True, excludes=("-e",), dry_run=True)),
            ["restore", "--json", "--target=/", "--exclude=-e", "--dry-run", "--", ID],
        ),
        (
            restoring.sample_command(SETTING, ID, "/scratch", ["/a?"], None),
            ["restore", "--json", "--target=/scratch", "--verify", "--include=/a\\?", "--", ID],
        ),
        (
            restoring.copy_command(SETTING, CopySpec(from_repo="r", restic_host="web1", tuning=TUNING)),
            ["copy", *TUNED, "--host=web1", "--"],
        ),
        (init_command(SETTING, chunker=True), ["init", "--json", "--copy-chunker-params"]),
    ],
)
def test_the_whole_line(command: Command, wanted: list[str]) -> None:
    assert words(command) == wanted


def test_a_backup_s_further_flags_are_those_the_release_has() -> None:
    spec = BackupSpec(
        files_from=("/lists/-a",),
        exclude_larger_than=1_000,
        skip_if_unchanged=True,
        dry_run=True,
        tuning=Tuning(read_concurrency=4, compression="max", nice=5),
    )

    def said(version: Version) -> list[str]:
        command = backup_command(SETTING, spec, job_id="j", schedule_id=None, restic_host="h", version=version)
        return words(command)[4:]

    rest = ["--files-from-verbatim=/lists/-a", "--exclude-larger-than=1000"]
    assert said(NEW) == [*rest, "--skip-if-unchanged", "--dry-run", "--read-concurrency=4", "--compression=max", "--"]
    assert said(OLD) == [*rest, "--dry-run", "--compression=max", "--"]


def test_words_before_and_flags_for_all() -> None:
    before, missing = priority_words(Tuning(nice=5, io_class="best-effort", io_level=7), lambda name: f"/bin/{name}")
    assert (before, missing) == (("/bin/nice", "-n5", "/bin/ionice", "-c2", "-n7"), ())
    assert priority_words(Tuning(io_class="idle"), lambda name: f"/bin/{name}")[0] == ("/bin/ionice", "-c3")
    assert priority_words(Tuning(nice=5, io_class="idle"), lambda _: None) == ((), ("nice", "ionice"))
    assert priority_words(None, lambda _: None) == ((), ())
    setting = Setting("/r", {}, before=before, flags=("--retry-lock=300s",))
    assert keeping.prune_command(setting, PruneSpec(dry_run=True)).argv == (
        b"/bin/nice", b"-n5", b"/bin/ionice", b"-c2", b"-n7", b"/r", b"prune", b"--retry-lock=300s", b"--dry-run",
    )  # fmt: skip


def test_a_source_is_in_the_environment_and_each_login_goes_to_its_own_server() -> None:
    repo = RepoAccess(repo_id="r1", url="rest:http://one/", password="geheim", env={"B2_ACCOUNT_ID": "x"})
    source = RepoAccess(
        repo_id="r2",
        url="rest:http://two/",
        password="auch",
        env={"RESTIC_REST_USERNAME": "us@er", "RESTIC_REST_PASSWORD": "pw", "AWS_REGION": "y"},
    )
    env = restoring.with_source(SETTING, repo, source).env
    assert env == {
        "RESTIC_PASSWORD": "geheim",
        "RESTIC_REPOSITORY": "rest:http://one/",
        "RESTIC_FROM_REPOSITORY": "rest:http://us%40er:pw@two/",
        "RESTIC_FROM_PASSWORD": "auch",
        "AWS_REGION": "y",
    }


def every_command(spec: Spec) -> list[Command]:
    match spec:
        case ForgetSpec():
            made = [keeping.forget_command(SETTING, one, dry_run=spec.dry_run) for one in spec.policies]
            return [*made, keeping.forget_snapshots_command(SETTING, spec.snapshots, dry_run=False)]
        case RestoreSpec():
            return [restoring.restore_command(SETTING, spec)]
        case FindSpec():
            return [reading.find_command(SETTING, spec)]
        case TagSpec():
            return [keeping.tag_command(SETTING, spec)]
        case LsSpec():
            return [reading.ls_command(SETTING, spec)]
        case DumpSpec():
            return [reading.dump_command(SETTING, spec.snapshot, spec.path)]
    raise AssertionError(spec)


NASTY = st.one_of(
    st.sampled_from(
        ["--password-command=sh", "-o", "--", "-", "--repo=/evil", "-p/etc/shadow", "@file", "$(sh)", "a b"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20),
)


@given(NASTY)
def test_nothing_that_looks_like_an_option_becomes_one(text: str) -> None:
    path = "/" + path_to_text(text.encode())
    pattern = path_to_text(text.encode())
    specs: list[Spec] = [
        RestoreSpec(snapshot=ID, target=path, paths=(path,), includes=(pattern,)),
        FindSpec(patterns=(pattern,)),
        LsSpec(snapshot=ID, path=path),
        DumpSpec(snapshot=ID, path=path),
        TagSpec(snapshots=(ID,), add=(text,)),
        ForgetSpec(policies=(policy(last=1, tags=(text,)),)),
    ]
    own = ("--json", "--target=", "--include=", "--add=", "--host=", "--tag=", "--group-by=", "--keep-")
    for spec in specs:
        for command in every_command(spec):
            argv = words(command)
            flags = argv[: argv.index("--")] if "--" in argv else argv
            assert all(word.startswith(own) for word in flags[1:]), argv


def test_a_literal_matches_itself_only() -> None:
    assert literal("/a*[b]?\\\\c") == b"/a\\*\\[b\\]\\?\\\\c"


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_samples_are_fine(spec: Spec) -> None:
    check_spec(spec)


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        (BackupSpec(), "at least one path"),
        (BackupSpec(files_from=("list",)), "'list'"),
        (BackupSpec(paths=("/" + "x" * 4_095,)), "4096 bytes"),
        (BackupSpec(paths=("/a",), tuning=Tuning(io_level=3)), "best-effort"),
        (PruneSpec(tuning=Tuning(read_concurrency=2)), "read_concurrency"),
        (ForgetSpec(), "would remove nothing"),
        (ForgetSpec(policies=(policy(last=1),), snapshots=(ID,)), "one of the two"),
        (ForgetSpec(policies=(policy(),)), "no rule"),
        (ForgetSpec(policies=(policy(last=1, tags=("rm:s2",)),)), "rm:s2"),
        (ForgetSpec(policies=(ForgetPolicy(schedule_id="a,b", restic_host="h", keep=Retention(last=1)),)), "'a,b'"),
        (ForgetSpec(policies=(ForgetPolicy(schedule_id="a", restic_host="h\n", keep=Retention(last=1)),)), "control"),
        (ForgetSpec(snapshots=("latest",)), "'latest'"),
        (ForgetSpec(snapshots=(ID + "\n",)), "no snapshot id"),
        (CheckSpec(read=Part(number=13, of=12)), "no part 13 of 12"),
        (StatsSpec(snapshots=(ID,), restic_host="h"), "leaves the filter out"),
        (CopySpec(from_repo="r", snapshots=(ID,), schedule_id="s"), "leaves the filter out"),
        (RestoreSpec(snapshot=ID), "one of the two"),
        (RestoreSpec(snapshot=ID, target="/t", in_place=True), "one of the two"),
        (RestoreSpec(snapshot="--target", target="/t"), "--target"),
        (RestoreSpec(snapshot=ID, target="t"), "not absolute"),
        (RestoreSpec(snapshot=ID, target="//./"), "root folder"),
        (RestoreSpec(snapshot=ID, in_place=True, delete=True), "empty the host"),
        (RestoreSpec(snapshot=ID, in_place=True, delete=True, includes=("*",)), "empty the host"),
        (RestoreSpec(snapshot=ID, target="/t", dry_run=True, verify=True), "dry run"),
        (RestoreSpec(snapshot=ID, target="/t", paths=("/a",), excludes=("b",)), "include and exclude"),
        (VerifySpec(), "which snapshot is not said"),
        (RestoreSpec(target="/t"), "which snapshot is not said"),
        (LsSpec(), "which snapshot is not said"),
        (DiffSpec(), "which snapshot is not said"),
        (TagSpec(add=("a",)), "which snapshot is not said"),
        (VerifySpec(snapshot=ID, restic_host="h"), "leaves the filter out"),
        (TagSpec(snapshots=(ID,), schedule_id="s", add=("a",)), "leaves the filter out"),
        (LsSpec(restic_host="h\n"), "control"),
        (DiffSpec(old=ID), "both snapshots, or none"),
        (DiffSpec(new=ID), "both snapshots, or none"),
        (VerifySpec(snapshot=ID, always=("a",)), "'a'"),
        (LsSpec(snapshot=ID, path="a"), "'a'"),
        (FindSpec(patterns=("a",), oldest=AT, newest=AT - timedelta(1)), "exchange"),
        (DiffSpec(old=ID, new="x"), "'x'"),
        (DumpSpec(snapshot="latest", path="/a"), "'latest'"),
        (DumpSpec(snapshot=ID, path="a"), "'a'"),
        (TagSpec(snapshots=(ID,)), "no tag"),
        (TagSpec(snapshots=(ID,), add=("a",), remove=("a",)), "'a'"),
        (TagSpec(snapshots=(ID,), remove=("rm:s1",)), "rm:s1"),
    ],
)
def test_specs_that_restic_would_refuse_or_misread(spec: Spec, named: str) -> None:
    with pytest.raises(InputError) as caught:
        check_spec(spec)
    assert named in caught.value.message


OPEN: list[Spec] = [
    ForgetSpec(),
    RestoreSpec(target="/t"),
    VerifySpec(),
    LsSpec(),
    DiffSpec(),
    TagSpec(add=("a",)),
]


@pytest.mark.parametrize("spec", [*SPECS.values(), *OPEN, CheckSpec(rolling=28)], ids=kind_of)
def test_a_wish_may_leave_open_what_the_server_fills_in(spec: Spec) -> None:
    if isinstance(spec, CheckSpec) and spec.rolling is not None:
        spec = replace(spec, read=None)  # which the server says, in the order
    check_wish(spec)


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        (BackupSpec(), "at least one path"),
        (CheckSpec(rolling=28, read=Part(number=1, of=28)), "one of the two"),
        (ForgetSpec(policies=(policy(last=1),), snapshots=(ID,)), "one of the two"),
        (DiffSpec(new=ID), "both snapshots, or none"),
        (LsSpec(snapshot=ID, restic_host="h"), "leaves the filter out"),
        (TagSpec(), "no tag"),
    ],
)
def test_a_wish_that_can_never_be_an_order(spec: Spec, named: str) -> None:
    with pytest.raises(InputError) as caught:
        check_wish(spec)
    assert named in caught.value.message


def test_an_order_whose_part_has_been_filled_in_is_fine() -> None:
    check_spec(CheckSpec(rolling=28, read=Part(number=3, of=28)))


def test_the_second_repository_belongs_to_the_spec() -> None:
    repo = RepoAccess(repo_id="r1", url="/one", password="x", env={"AWS_REGION": "a", "RESTIC_REST_USERNAME": "u"})
    source = RepoAccess(repo_id="r2", url="/two", password="x", env={"AWS_REGION": "b", "RESTIC_REST_USERNAME": "v"})
    same = RepoAccess(repo_id="r2", url="/two", password="x", env={"AWS_REGION": "a"})
    check_source(CopySpec(from_repo="r2"), repo, same)
    check_source(InitSpec(chunker_from="r2"), repo, same)
    check_source(BackupSpec(paths=("/a",)), repo, None)
    for spec, given_source, named in (
        (CopySpec(from_repo="r2"), None, "'r2'"),
        (CopySpec(from_repo="r3"), same, "'r3'"),
        (BackupSpec(paths=("/a",)), same, "other repository"),
        (CopySpec(from_repo="r2"), source, "AWS_REGION"),
        (CopySpec(from_repo="r1"), repo, "onto itself"),
        (CopySpec(from_repo="r2"), RepoAccess(repo_id="r2", url="x:", password="x"), "x:"),
    ):
        with pytest.raises(InputError) as caught:
            check_source(spec, repo, given_source)
        assert named in caught.value.message


# -- gates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        RestoreSpec(snapshot=ID, target="/t", dry_run=True),
        RestoreSpec(snapshot=ID, target="/t", delete=True),
        RestoreSpec(snapshot=ID, target="/t", overwrite="if-newer"),
    ],
)
def test_what_an_old_restic_cannot_do_names_the_one_that_can(spec: RestoreSpec) -> None:
    assert pass_gates(spec, NEW) == ()
    with pytest.raises(ResticUnusableError) as caught:
        pass_gates(spec, OLD)
    assert caught.value.code == "restic_too_old"
    assert "restic 0.17.0 or newer, this host has 0.14.0" in caught.value.message


def test_what_goes_differently_is_told() -> None:
    spec = BackupSpec(paths=("/a",), skip_if_unchanged=True, tuning=Tuning(read_concurrency=4))
    assert pass_gates(spec, NEW) == ()
    assert [text.rpartition(": ")[2] for text in pass_gates(spec, OLD)] == [
        "a snapshot is made all the same",
        "two files are read at once",
    ]
    assert pass_gates(BackupSpec(paths=("/a",)), OLD) == ()
    assert pass_gates(RestoreSpec(snapshot=ID, target="/t", overwrite="always"), OLD) != ()
    assert pass_gates(CheckSpec(), OLD) == ()


def test_times_are_said_in_utc() -> None:
    command = reading.find_command(SETTING, FindSpec(patterns=("x",), oldest=datetime(2026, 1, 2, tzinfo=UTC)))
    assert "--oldest=2026-01-02 00:00:00 +0000" in words(command)


def test_no_command_line_leaves_the_snapshot_open() -> None:
    for spec in (RestoreSpec(restic_host="h", target="/t"), LsSpec(restic_host="h")):
        with pytest.raises(ValueError, match="newest"):
            every_command(spec)
