"""Jobs of every kind by hand, schedules of every kind, retention previewed, and looking after repositories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from restic_manager.cli.result_words import result_lines, result_words
from restic_manager.domain.guards import Guards
from restic_manager.domain.model import BackupSpec, Failure, Kind, Status
from restic_manager.domain.results import (
    CheckStats,
    CopyStats,
    DamagedFile,
    Difference,
    DiffStats,
    FateRow,
    ForgetStats,
    ListStats,
    Lock,
    LockedBy,
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
    CheckSpec,
    CopySpec,
    ForgetSpec,
    LocksSpec,
    LsSpec,
    PruneSpec,
    StatsSpec,
    Tuning,
    UnlockSpec,
)
from restic_manager.protocol import api
from tests.cli import samples
from tests.cli.conftest import Command
from tests.cli.listings import EVENTS, JOB, answers, asked_spec, ended, listing
from tests.cli.stub_server import Stream, StubServer
from tests.cli.test_terminal import terminal

S, OLDER = samples.SNAPSHOT, samples.OLDER


def follow(server: StubServer, job: api.JobView) -> None:
    server.on("POST", "/v1/jobs", (201, ended(Status.QUEUED, kind=job.kind, spec=job.spec)))
    server.on("GET", EVENTS, lambda _: Stream().put(api.JobEvent(job=job)).end())


# -- job run ----------------------------------------------------------------------------------------------------------


def test_job_run_sends_what_was_typed(command: Command, server: StubServer) -> None:
    server.on("POST", "/v1/jobs", (201, ended(Status.QUEUED, kind=Kind.COPY, warnings=("the fleet is paused",))))
    done = command(
        *("job", "run", "copy", "--host", "nas1", "--repo", "far", "--from", "main", "--of-host", "web1"),
        *("--of-schedule", "nightly", "--limit-upload", "2M", "--time-limit", "6h", "--lock-wait", "5m"),
    )
    assert done.code == 0
    assert done.err == "warning: the fleet is paused\n"
    asked = asked_spec(server)
    assert asked["spec"]["from_repo"] == "main"
    assert asked["spec"]["tuning"]["upload_limit"] == 2_048
    del asked["spec"]
    assert asked == {
        "repo": "far",
        "host": "nas1",
        "of_host": "web1",
        "of_schedule": "nightly",
        "time_limit": 21_600,
        "lock_wait": 300,
    }


def test_job_run_wait_tells_what_was_found(command: Command, server: StubServer) -> None:
    damaged = CheckStats(
        errors=2,
        damaged_packs=("ab" * 32,),
        damaged_snapshots=(S,),
        damaged_files=(DamagedFile(snapshot=S, path="/etc/x\x1b"),),
        damaged_files_count=1,
        part=3,
        of=12,
    )
    error = Failure(code="repo_damaged", message="The repository cannot be read as it is.")
    follow(server, ended(Status.FAILED, kind=Kind.CHECK, spec=CheckSpec(), result=damaged, error=error))
    done = command("job", "run", "check", "--repo", "main", "--read-data-subset", "3/12", "--wait")
    assert done.code == 1
    assert done.out.splitlines() == [
        (
            "web1: check failed in 1 min: 2 errors, part 3 of 12 of the data read; "
            "1 damaged pack, in 1 snapshot and 1 file"
        ),
        "  The repository cannot be read as it is.",
        "  | pack abababab",
        "  | deadbeef /etc/x\\x1b",
        "  | snapshots: deadbeef",
        "  the whole log: restic-manager job logs 3f2a91c0",
    ]
    assert asked_spec(server)["spec"]["read"] == {"number": 3, "of": 12}


def test_job_run_of_a_listing_kind_shows_its_rows(command: Command, server: StubServer) -> None:
    row = NodeRow(path="/etc", type="file", size=1)
    listing(server, Kind.LS, LsSpec(), row)
    done = command("job", "run", "ls", "--repo", "main", "--host", "web1", "--wait")
    assert done.out.splitlines()[0].endswith("/etc")
    assert done.out.splitlines()[1] == "web1: ls succeeded in 1 min: 1 row"
    server.on("GET", f"/v1/jobs/{samples.JOB_ID}", ended(kind=Kind.LS))
    assert command("job", "rows", samples.JOB_ID, "--json").json == [msgspec.to_builtins(row)]
    follow(server, ended(kind=Kind.LS, result=ListStats(rows=1)))
    found = command("job", "run", "ls", "--repo", "main", "--wait", "--json").json
    assert isinstance(found, dict)
    assert found["kind"] == "ls"


def test_a_listing_that_failed_counts_no_rows(command: Command, server: StubServer) -> None:
    error = Failure(code="path_missing", message="The snapshot does not have this path.")
    answers(server, ended(Status.FAILED, kind=Kind.LS, error=error, result=ListStats()))
    done = command("job", "run", "ls", "/nope", "--repo", "main", "--wait")
    assert done.code == 2
    assert done.out.splitlines()[:2] == ["web1: ls failed in 1 min", "  The snapshot does not have this path."]


def test_job_show_tells_what_it_does_what_came_of_it_and_why(command: Command, server: StubServer) -> None:
    job = ended(
        kind=Kind.PRUNE,
        spec=PruneSpec(max_unused=5.0, tuning=Tuning(upload_limit=512)),
        result=PruneStats(removed=5 << 30, repacked=1 << 30, remaining=50 << 30),
        caused_by="c" * 36,
        rows=3,
    )
    server.on("GET", "/v1/jobs/x", job)
    out = command("job", "show", "x").out
    for told in (
        "5.0 GiB removed, 1.0 GiB rewritten, 50.0 GiB remain",
        "at most 5 %",
        "at most 512.0 KiB/s",
        "c" * 36,
        "3 rows: restic-manager job rows 3f2a91c0",
    ):
        assert told in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.terminal
@pytest.mark.parametrize(
    ("words", "question"),
    [
        (("job", "run", "forget", "--repo", "main", "--snapshot", S), "removes 1 snapshot from main: go on? [y/N]"),
        (("job", "run", "unlock", "--repo", "main", "--remove-all"), "remove live locks from main"),
        (("job", "run", "restore", "--repo", "main", "--in-place", "--host", "w"), "over what is there: go on? [y/N]"),
        (("repo", "unlock", "main", "--remove-all"), "remove all locks from main, live ones too?"),
        (("snapshot", "forget", "deadbeef"), "remove 1 snapshot from main? [y/N]"),
    ],
)
def test_what_takes_away_is_asked_for(
    server: StubServer, tmp_path: Path, words: tuple[str, ...], question: str
) -> None:
    server.on("GET", "/v1/snapshots/deadbeef", samples.snapshot())
    with terminal(*words, "--server", str(tmp_path / "server.sock")) as screen:
        screen.wait_for(question)
        screen.type("n\r")
        assert screen.end() == 0
        assert "nothing was changed" in screen.seen
    assert not [asked for asked in server.asked if asked.method == "POST"]


# -- schedules --------------------------------------------------------------------------------------------------------

ADD = ("schedule", "add", "s", "--all", "--cron", "@daily", "--repo", "main")


def test_a_schedule_of_another_kind(command: Command, server: StubServer) -> None:
    view = samples.schedule(kind=Kind.CHECK, spec=CheckSpec(rolling=28), paths=(), excludes=(), tags=())
    server.on("POST", "/v1/schedules", (201, view))
    done = command(*ADD, "--kind", "check", "--read-data-subset", "1/28", "--nice", "10")
    spec = server.asked[0].body["spec"]
    assert (spec["kind"], spec["rolling"], spec["read"], spec["tuning"]["nice"]) == ("check", 28, None, 10)
    assert "checks main, and reads the next of 28 parts of its data each time, on web1" in done.out
    assert "keeps" not in done.out


def test_names_in_a_schedule_are_asked_for(command: Command, server: StubServer) -> None:
    server.on("GET", "/v1/hosts/web1", samples.host(restic_host="web1-a1b2c3"))
    server.on("GET", "/v1/schedules/nightly", samples.schedule())
    server.on("GET", "/v1/repos/main", samples.repo())
    view = samples.schedule(kind=Kind.COPY, spec=CopySpec(from_repo="x"))
    server.on("POST", "/v1/schedules", (201, view))
    done = command(*ADD, "--kind", "copy", "--from", "main", "--of-host", "web1", "--of-schedule", "nightly")
    assert done.code == 0, done.err
    spec = server.asked[-1].body["spec"]
    assert (spec["from_repo"], spec["restic_host"], spec["schedule_id"]) == (
        samples.repo().id,
        "web1-a1b2c3",
        samples.schedule().id,
    )


def test_retention_and_guards_are_sent_and_told(command: Command, server: StubServer) -> None:
    keep = Retention(daily=14, within="30d", tags=("keep",))
    view = samples.schedule(retention=keep, keeps="keeps one a day", warnings=("keep-hourly 48: never filled",))
    server.on("POST", "/v1/schedules", (201, view))
    done = command(
        *(*ADD, "/etc", "--keep-daily", "14", "--keep-within", "30d", "--keep-tag", "keep"),
        *("--guard-shrink", "25", "--guard-least", "1G", "--guard-off", "nothing"),
    )
    body = server.asked[0].body
    assert {name: value for name, value in body["retention"].items() if value} == {
        "daily": 14,
        "within": "30d",
        "tags": ["keep"],
    }
    assert body["guards"] == {"shrink": 0.25, "least": 1 << 30, "off": ["nothing"]}
    assert "keeps one a day" in done.out
    assert "warning: keep-hourly 48: never filled" in done.err


def test_schedule_show_tells_what_is_kept_and_warned_for(command: Command, server: StubServer) -> None:
    spec = BackupSpec(paths=("/etc",), exclude_larger_than=1 << 30, tuning=Tuning(compression="max", nice=5))
    view = samples.schedule(spec=spec, retention=Retention(last=3), guards=Guards(shrink=None))
    server.on("GET", "/v1/schedules/nightly", view)
    out = command("schedule", "show", "nightly").out
    for told in ("keeps the last 3 snapshots", "no size is warned for", "Excludes over", "1.0 GiB", "max"):
        assert told in out
    assert max(map(len, out.splitlines())) <= 80


def test_an_edit_of_retention_changes_the_rules_it_names(command: Command, server: StubServer) -> None:
    server.on("GET", "/v1/schedules/nightly", samples.schedule(retention=Retention(daily=14, hourly=48)))
    server.on("PATCH", f"/v1/schedules/{samples.schedule().id}", samples.schedule())
    done = command(
        *("schedule", "edit", "nightly", "--keep-daily", "30", "--keep-hourly", "none", "--guard-least", "5M"),
        *("--exclude-larger-than", "1G", "--nice", "3", "--files-from", "/etc/list"),
    )
    assert done.code == 0, done.err
    body = server.asked[1].body
    assert {name: value for name, value in body["retention"].items() if value} == {"daily": 30}
    assert body["guards"] == {"shrink": 0.5, "least": 5 << 20, "off": []}
    assert (body["exclude_larger_than"], body["tuning"]["nice"], body["files_from"]) == (1 << 30, 3, ["/etc/list"])
    assert set(body) == {"retention", "guards", "exclude_larger_than", "tuning", "files_from"}
    assert done.err.splitlines() == [
        "paths from: none → /etc/list",
        "excludes over: none → 1.0 GiB",
        "nice: as usual → 3",
        (
            "retention: keeps one an hour for the last 48 hours with snapshots; one a day for the last 14 days with "
            "snapshots → keeps one a day for the last 30 days with snapshots"
        ),
        (
            "guards: warns when files or bytes fall by more than 50 % → warns when files or bytes fall by more than "
            "50 % or there are fewer than 5.0 MiB"
        ),
    ]


def test_keep_none_takes_retention_away(command: Command, server: StubServer) -> None:
    server.on("GET", "/v1/schedules/nightly", samples.schedule(retention=Retention(daily=14)))
    server.on("PATCH", f"/v1/schedules/{samples.schedule().id}", samples.schedule())
    assert command("schedule", "edit", "nightly", "--keep-none").code == 0
    assert server.asked[1].body == {"retention": None}
    for words in (("--keep-none", "--keep-last", "3"), ("--keep-daily", "none"), ("--kind", "prune")):
        assert command("schedule", "edit", "nightly", *words).code == 2, words


def test_an_edit_of_another_kind_sends_its_whole_content(command: Command, server: StubServer) -> None:
    view = samples.schedule(kind=Kind.CHECK, spec=CheckSpec(rolling=28))
    server.on("GET", "/v1/schedules/tidy", view)
    server.on("PATCH", f"/v1/schedules/{view.id}", view)
    done = command("schedule", "edit", "tidy", "--read-data-subset", "1/12")
    assert server.asked[1].body["spec"]["rolling"] == 12
    assert done.err.splitlines()[0] == ("reads data: the next of 28 parts each time → the next of 12 parts each time")
    done = command("schedule", "edit", "tidy", "--exclude", "x")
    assert (done.code, "--exclude does not belong to check" in done.err) == (2, True)
    done = command("schedule", "edit", "tidy", "--keep-last", "3")
    assert (done.code, "--keep-last does not belong to check" in done.err) == (2, True)


@pytest.mark.parametrize(("path", "told"), [("", "say what to save"), ("etc", "'etc' is relative")])
def test_an_edit_to_paths_that_cannot_be_changes_nothing(
    command: Command, server: StubServer, path: str, told: str
) -> None:
    server.on("GET", "/v1/schedules/nightly", samples.schedule())
    done = command("schedule", "edit", "nightly", "--path", path)
    assert (done.code, told in done.err) == (2, True)
    assert [asked.method for asked in server.asked] == ["GET"]


def fate(days: int, *, keep: bool, reasons: tuple[str, ...] = ()) -> FateRow:
    snapshot = SnapshotRow(id=f"{days:08x}", time=samples.ago(days=days), hostname="web1", paths=("/etc",))
    return FateRow(schedule_id="s", snapshot=snapshot, keep=keep, reasons=reasons)


def test_forget_preview_shows_what_goes_and_why_the_rest_stays(command: Command, server: StubServer) -> None:
    result = ForgetStats(kept=1, removed=2, dry_run=True)
    job = ended(kind=Kind.FORGET, spec=ForgetSpec(dry_run=True), result=result)
    fates = [fate(1, keep=True, reasons=("last snapshot", "daily snapshot")), fate(9, keep=False), fate(8, keep=False)]
    answers(server, job, *fates)
    server.on("POST", "/v1/schedules/nightly/forget-preview", (201, [ended(Status.QUEUED, kind=Kind.FORGET)]))
    done = command("schedule", "forget-preview", "nightly", "--host", "web1")
    assert (done.code, done.err) == (0, "web1: 2 snapshots would go, 1 stays\n")
    assert server.asked[0].body == {"host": "web1"}
    lines = done.out.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["goes", "00000008"],
        ["goes", "00000009"],
        ["stays", "00000001"],
    ]
    assert "last snapshot, daily snapshot" in lines[3]
    assert max(map(len, lines)) <= 80
    done = command("schedule", "forget-preview", "nightly", "--json")
    assert done.json == msgspec.json.decode(msgspec.json.encode(fates))


def test_a_preview_that_fails_on_a_host_is_exit_1(command: Command, server: StubServer) -> None:
    error = Failure(code="locked", message="Another restic holds a lock on the repository.")
    who = Lock(id="ab" * 32, hostname="nas1", pid=77, time=samples.ago(days=5), username="root")
    answers(server, ended(Status.FAILED, kind=Kind.FORGET, error=error, result=LockedBy(locks=(who,))))
    server.on("POST", "/v1/schedules/nightly/forget-preview", (201, [ended(Status.QUEUED, kind=Kind.FORGET)]))
    done = command("schedule", "forget-preview", "nightly")
    assert done.code == 1
    assert "lock abababab of nas1, pid 77, root, since" in done.err
    assert done.out == "", "what failed says nothing of snapshots"


def test_a_preview_that_nobody_waits_for_is_cancelled(
    command: Command, server: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    server.on("POST", "/v1/schedules/nightly/forget-preview", (201, [ended(Status.QUEUED, kind=Kind.FORGET)] * 2))
    taken = (200, ended(Status.CANCELLED, kind=Kind.FORGET))
    over = (409, {"error": {"code": "conflict", "message": "it is over"}})
    server.on("POST", f"/v1/jobs/{JOB}/cancel", over, taken)
    monkeypatch.setattr("restic_manager.cli.listing.collected", interrupted)
    assert command("schedule", "forget-preview", "nightly").code == 130
    assert [asked.path for asked in server.asked[1:]] == [f"/v1/jobs/{JOB}/cancel"] * 2


# -- repositories -----------------------------------------------------------------------------------------------------


def test_repo_add_says_how_it_is_used_and_offers_to_look_after_it(command: Command, server: StubServer) -> None:
    note = "the login in the URL was moved to the secrets"
    server.on("POST", "/v1/repos", (201, samples.repo(append_only=True, generated_password="p", note=note)))
    done = command(
        *("repo", "add", "main", "/srv", "--generate-password", "--append-only", "--max-parallel", "8"),
        *("--chunker-from", "old"),
    )
    body = server.asked[0].body
    assert (body["append_only"], body["max_parallel"], body["chunker_from"]) == (True, 8, "old")
    assert done.out == "p\n"
    assert f"note: {note}" in done.err
    assert "--maintainer HOST --maintainer-url URL" in done.err
    assert "--prune 'H H * * 0' --check 'H H * * *' --check-subset 1/28 \\\n      --verify 'H H * * 0'" in done.err
    assert max(map(len, done.err.splitlines())) <= 80


def test_a_proof_is_offered_when_there_is_something_to_prove(command: Command, server: StubServer) -> None:
    server.on("POST", "/v1/repos", (201, samples.repo(hosts=())))
    done = command("repo", "add", "main", "/srv", "--generate-password")
    offered = done.err[done.err.index("  restic-manager repo maintenance") :].splitlines()
    assert "--verify" not in " ".join(offered[:2])
    assert offered[2] == "and once hosts back up to it, prove a restore weekly: --verify 'H H * * 0'"


def test_repo_edit(command: Command, server: StubServer) -> None:
    server.on("PATCH", "/v1/repos/main", samples.repo(append_only=True, warnings=("it has no maintainer",)))
    done = command("repo", "edit", "main", "--append-only", "--max-parallel", "2")
    assert server.asked[0].body == {"append_only": True, "max_parallel": 2}
    assert done.out == "repository main: append-only, at most 4 jobs at once\n"
    assert done.err == "warning: it has no maintainer\n"
    command("repo", "edit", "main", "--no-append-only")
    assert server.asked[1].body == {"append_only": False}


def test_maintenance_sends_what_was_named_and_shows_it(command: Command, server: StubServer, tmp_path: Path) -> None:
    env = tmp_path / "env"
    env.write_text("RESTIC_REST_PASSWORD=hunter2\n")
    view = samples.maintenance(warnings=("it was never checked",))
    server.on("POST", "/v1/repos/main/maintenance", view)
    server.on("GET", "/v1/repos/main/maintenance", view)
    done = command(
        *("repo", "maintenance", "main", "--maintainer", "nas1", "--maintainer-url", "none"),
        *("--maintainer-env-file", str(env), "--prune", "@weekly", "--check", "H H * * *", "--check-subset", "1/28"),
        *("--forget", "none", "--stats", "@daily", "--verify", "none"),
    )
    assert server.asked[0].body == {
        "maintainer": "nas1",
        "maintainer_url": None,
        "maintainer_env": {"RESTIC_REST_PASSWORD": "hunter2"},
        "prune": "@weekly",
        "check": "H H * * *",
        "check_parts": 28,
        "forget": None,
        "stats": "@daily",
        "verify": None,
    }
    assert "hunter2" not in done.out + done.err
    assert "web1 looks after it" in done.out
    assert "main-prune" in done.out
    assert "warning: it was never checked" in done.err
    shown = command("repo", "maintenance", "main")
    assert shown.out == done.out
    assert max(map(len, shown.out.splitlines())) <= 80
    assert command("repo", "maintenance", "main", "--check-subset", "none").code == 0
    assert server.asked[-1].body == {"check_parts": None}
    found = command("repo", "maintenance", "main", "--json").json
    assert found == msgspec.json.decode(msgspec.json.encode(view))


def test_repo_show_tells_all_of_it(command: Command, server: StubServer) -> None:
    view = samples.repo(
        append_only=True,
        maintainer="nas1",
        snapshots=500,
        listed_at=samples.ago(days=5),
        list_stale=True,
        size=9 << 30,
        measured_at=samples.ago(days=1),
        checked_at=samples.ago(days=3),
        check_status=Status.SUCCEEDED,
        part_read=3,
        parts=12,
        locks_removed=2,
        warnings=("x",),
    )
    server.on("GET", "/v1/repos/main", view)
    out = command("repo", "show", "main").out
    for told in (
        *("its hosts cannot delete there", "500, listed 5 d ago, changed since", "9.0 GiB, measured 1 d ago"),
        *("succeeded 3 d ago, part 3 of 12 of the data read last", "2 removed so far", "nas1"),
    ):
        assert told in " ".join(out.split())


def test_locks_are_a_table(command: Command, server: StubServer) -> None:
    long = "a-host-name-of-the-greatest-length-that-is-allowed-anywhere.63ch"
    who = Lock(id="ab" * 32, hostname=long, pid=77, time=samples.ago(days=5), username="root", exclusive=True)
    listing(server, Kind.LOCKS, LocksSpec(), LockRow(lock=who))
    done = command("repo", "locks", "main")
    assert done.code == 0
    for told in ("abababab", "77", "root", "5 d ago", "exclusive"):
        assert told in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    found = command("repo", "locks", "main", "--json").json
    assert isinstance(found, list)
    assert found[0]["pid"] == 77
    listing(server, Kind.LOCKS, LocksSpec())
    assert command("repo", "locks", "main").err == "there is no lock on main\n"


def test_unlock_says_what_it_removed(command: Command, server: StubServer) -> None:
    follow(server, ended(kind=Kind.UNLOCK, spec=UnlockSpec(), result=UnlockStats(removed=1, left=2)))
    done = command("repo", "unlock", "main")
    assert (done.code, done.out) == (0, "web1: unlock succeeded in 1 min: 1 lock removed, 2 left\n")
    assert asked_spec(server)["spec"]["remove_all"] is False
    assert command("repo", "unlock", "main", "--remove-all", "--yes").code == 0
    assert asked_spec(server)["spec"]["remove_all"] is True


def test_stats_show_growth(command: Command, server: StubServer) -> None:
    server.on("GET", "/v1/repos/main/sizes", samples.sizes()[::-1])
    done = command("repo", "stats", "main")
    lines = done.out.splitlines()
    assert "10.0 GiB" in lines[1]
    assert "+2.0 GiB" in lines[2]
    assert "-1.0 GiB" in lines[3]
    assert max(map(len, lines)) <= 80
    found = command("repo", "stats", "main", "--json").json
    assert found == msgspec.json.decode(msgspec.json.encode(samples.sizes()))
    assert {asked.method for asked in server.asked} == {"GET"}
    server.on("GET", "/v1/repos/main/sizes", [])
    assert "repo stats main --wait" in command("repo", "stats", "main").err


def test_stats_measures_now_where_that_is_asked(command: Command, server: StubServer) -> None:
    server.on("GET", "/v1/repos/main/sizes", samples.sizes())
    result = RepoStats(mode="raw-data", size=11 << 30, snapshots=12, blobs=1_000, uncompressed=29 << 30)
    follow(server, ended(kind=Kind.STATS, spec=StatsSpec(), result=result))
    done = command("repo", "stats", "main", "--wait")
    assert "11.0 GiB of 29.0 GiB uncompressed, 12 snapshots, 1,000 blobs" in done.err
    assert asked_spec(server)["spec"]["mode"] == "raw-data"
    assert "job 3f2a91c0 web1: stats queued" in command("repo", "stats", "main", "--refresh").err


def test_copy_is_a_job_on_the_second_repository(command: Command, server: StubServer) -> None:
    follow(server, ended(kind=Kind.COPY, spec=CopySpec(from_repo="main"), result=CopyStats(copied=3, skipped=7)))
    done = command("repo", "copy", "main", "far", "--host", "nas1", "--snapshot", OLDER, "--snapshot", S, "--wait")
    assert done.out == "web1: copy succeeded in 1 min: 3 snapshots copied, 7 there already\n"
    asked = asked_spec(server)
    assert (asked["repo"], asked["host"]) == ("far", "nas1")
    assert (asked["spec"]["from_repo"], asked["spec"]["snapshots"]) == ("main", [OLDER, S])


# -- proof of restore -------------------------------------------------------------------------------------------------


def test_status_and_host_show_tell_when_a_restore_was_last_proven(command: Command, server: StubServer) -> None:
    view = samples.status_view()
    proven = msgspec.structs.replace(view.hosts[0], proven_at=samples.ago(days=5))
    server.on("GET", "/v1/status", samples.status_view(hosts=(proven, view.hosts[1])))
    out = command("status").out
    assert "PROVEN" in out
    assert "5 d ago" in out
    assert max(map(len, out.splitlines())) <= 80
    server.on("GET", "/v1/hosts/x", samples.host(proven_at=samples.ago(days=5), proven_job_id=samples.JOB_ID))
    assert "5 d ago), by job 3f2a91c0" in " ".join(command("host", "show", "x").out.split())
    server.on("GET", "/v1/hosts/x", samples.host())
    assert "no backup of it was restored and compared yet" in command("host", "show", "x").out


WORDS: list[tuple[Any, str]] = [
    (ForgetStats(kept=3, removed=1), "1 snapshot removed, 3 kept"),
    (ForgetStats(removed=1), "1 snapshot removed"),
    (ForgetStats(removed=1, dry_run=True), "1 snapshot would go"),
    (PruneStats(removed=1 << 20, unused_after=1 << 10, remaining=1 << 30, dry_run=True), "1.0 MiB would be removed"),
    (PruneStats(), "restic did not say how much"),
    (CheckStats(part=1, of=1), "no errors, all data read"),
    (CheckStats(suggest_repair_index=True, suggest_prune=True), "no errors; `repair index` is advised; a prune"),
    (UnlockStats(), "0 locks removed"),
    (
        RepoStats(mode="restore-size", size=1 << 30, files=5, snapshots=2),
        "1.0 GiB (restore-size), 2 snapshots, 5 files",
    ),
    (RestoreStats(), "restored"),
    (
        RestoreStats(files_restored=2, errors=1, verified=2),
        "2 files and folders restored, 1 error, 2 read again and right",
    ),
    (
        VerifyStats(snapshot=S, files=20, size=5 << 20, live=18, changed=2),
        "20 files, 5.0 MiB of deadbeef restored and right, 18 with the host's own (2 changed since)",
    ),
    (CopyStats(copied=1), "1 snapshot copied"),
    (DiffStats(files_added=1, files_removed=2, files_changed=3), "1 file new, 2 gone, 3 changed; 0 B added"),
    (TagStats(changed=2), "2 snapshots changed"),
    (ListStats(rows=1_000_000), "1,000,000 rows"),
    (LockedBy(), "0 locks in the way"),
]


@pytest.mark.parametrize(("result", "told"), WORDS, ids=[str(row[1]) for row in WORDS])
def test_every_result_is_a_sentence(result: Any, told: str) -> None:
    assert result_words(result).startswith(told)


def test_what_a_verify_found_is_named() -> None:
    differs = tuple(Difference(path=f"/etc/{n}", against="live", what="other content") for n in range(25))
    result = VerifyStats(snapshot=S, files=30, differences=differs, differences_count=40)
    assert result_words(result).endswith("restored, 40 differences")
    lines = result_lines(result)
    assert lines[0] == "/etc/0: other content (live)"
    assert lines[-1] == "and 20 differences more"
    assert result_lines(ForgetStats(refused=("it would remove all",))) == ["it would remove all"]
