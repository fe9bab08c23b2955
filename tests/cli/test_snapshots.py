"""`snapshot`: which are listed and how fresh that is; looking into them row by row; changing them."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from restic_manager.domain.model import Failure, Kind, Status
from restic_manager.domain.results import (
    ChangeRow,
    DiffStats,
    ForgetStats,
    FoundRow,
    ListStats,
    NodeRow,
    TagStats,
)
from restic_manager.domain.specs import DiffSpec, FindSpec, ForgetSpec, LsSpec, TagSpec
from restic_manager.protocol import api
from tests.cli import samples
from tests.cli.conftest import Command
from tests.cli.listings import EVENTS, JOB, ROWS, answers, asked_spec, ended, listing, rows
from tests.cli.stub_server import Asked, Stream, StubServer

S, OLDER = samples.SNAPSHOT, samples.OLDER
AT = datetime(2026, 3, 28, 1, 30, tzinfo=UTC)
LS = LsSpec(snapshot=S)


@pytest.fixture
def known(server: StubServer) -> StubServer:
    server.on("GET", "/v1/snapshots/deadbeef", samples.snapshot())
    server.on("GET", "/v1/snapshots/0123abcd", samples.snapshot(id=OLDER))
    return server


def node(path: str, **changes: object) -> NodeRow:
    return msgspec.structs.replace(NodeRow(path=path, type="file", size=1_500, mode=0o644, mtime=AT), **changes)


# -- list and show ----------------------------------------------------------------------------------------------------


def test_list_asks_for_what_was_typed(command: Command, server: StubServer) -> None:
    path = (
        "/v1/snapshots?host=web1&repo=main&schedule=n&path=%2Fetc&tag=t&since=2026-03-01T00%3A00%3A00Z"
        "&until=2026-03-02T00%3A00%3A00Z&limit=7&latest=1"
    )
    server.on("GET", path, samples.snapshots(samples.snapshot()))
    ended = command(
        *("snapshot", "list", "--host", "web1", "--repo", "main", "--schedule", "n", "--path", "/etc", "--tag", "t"),
        *("--since", "2026-03-01", "--until", "2026-03-02", "--limit", "7", "--latest"),
    )
    assert ended.code == 0
    assert "deadbeef" in ended.out
    assert "5.0 GiB" in ended.out
    assert ended.err == "listed 5 d ago\n"


def test_list_json_is_the_array_of_snapshots_and_nothing_else(command: Command, server: StubServer) -> None:
    view = samples.snapshots(samples.snapshot(), samples.snapshot(id=OLDER, size=None, files=None, schedule=None))
    server.on("GET", "/v1/snapshots?limit=50", view)
    ended = command("snapshot", "list", "--json")
    assert ended.err == ""
    assert ended.json == msgspec.json.decode(msgspec.json.encode(view.snapshots))
    out = command("snapshot", "list").out
    assert max(map(len, out.splitlines())) <= 80


def test_a_table_of_long_names_fits(command: Command, server: StubServer) -> None:
    long = "a-host-name-of-the-greatest-length-that-is-allowed-anywhere.63ch"
    one = samples.snapshot(host=long, repo=long, schedule=long, paths=(f"/{long}/\x1b[2J\n" * 4,))
    server.on("GET", "/v1/snapshots?limit=50", samples.snapshots(one))
    out = command("snapshot", "list").out
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out


def test_a_stale_list_is_told_with_the_reason_and_the_remedy(command: Command, server: StubServer) -> None:
    lists = (
        samples.list_state(stale=True),
        samples.list_state(repo="far", at=None, note="no host of it is online"),
        samples.list_state(repo="near", at=None, note="no host of it is online"),
        samples.list_state(repo="new", at=None, stale=True, job_id=JOB),
    )
    server.on("GET", "/v1/snapshots?limit=50", samples.snapshots(lists=lists))
    assert command("snapshot", "list").err.splitlines() == [
        "no such snapshots",
        "main: listed 5 d ago, and changed since: --refresh lists it anew",
        "far, near: never listed yet: no host of it is online",
        "new: never listed yet (job 3f2a91c0 lists it now)",
    ]


def test_refresh_waits_for_the_list_to_be_made_anew(command: Command, server: StubServer) -> None:
    stale = (samples.list_state(stale=True, job_id=JOB),)
    server.on("GET", "/v1/snapshots?limit=50&refresh=1", samples.snapshots(lists=stale))
    server.on("GET", "/v1/snapshots?limit=50", samples.snapshots(samples.snapshot()))
    server.on("GET", f"/v1/jobs/{JOB}", samples.job(Status.RUNNING))
    server.on("GET", EVENTS, Stream().put(api.JobEvent(job=samples.job())).end())
    done = command("snapshot", "list", "--refresh")
    assert "deadbeef" in done.out
    assert "listing main anew" in done.err
    assert [asked.path for asked in server.asked][-1] == "/v1/snapshots?limit=50"


def test_refresh_gives_up_after_its_time(command: Command, server: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restic_manager.cli.snapshot_pick.PATIENCE", 0.2)
    stale = (samples.list_state(stale=True, job_id=JOB),)
    view = samples.snapshots(samples.snapshot(), lists=stale)
    server.on("GET", "/v1/snapshots?limit=50&refresh=1", view)
    server.on("GET", "/v1/snapshots?limit=50", view)
    server.on("GET", f"/v1/jobs/{JOB}", samples.job(Status.RUNNING))
    stream = Stream().put(api.JobEvent(job=samples.job(Status.RUNNING)))
    server.on("GET", EVENTS, stream)
    done = command("snapshot", "list", "--refresh")
    stream.end()
    assert done.code == 0
    assert "(job 3f2a91c0 lists it now)" in done.err


def test_show(command: Command, known: StubServer) -> None:
    out = command("snapshot", "show", "deadbeef").out
    for told in (S[:40], "web1", "nightly", JOB, "/etc", "1,234", "5.0 GiB", "restic 0.18.0"):
        assert told in out.replace("\n", "").replace("            ", "")
    assert command("snapshot", "show", "deadbeef", "--json").json == msgspec.json.decode(
        msgspec.json.encode(samples.snapshot())
    )
    known.on("GET", "/v1/snapshots?host=web1&limit=1&refresh=1", samples.snapshots(samples.snapshot()))
    assert S[:8] in command("snapshot", "show", "latest", "--host", "web1").out


def test_a_long_list_is_asked_for_page_by_page(
    command: Command, server: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restic_manager.cli.snapshot_pick.PAGE", 2)
    views = [samples.snapshot(id=f"{number:064x}") for number in range(5)]
    pages = [samples.snapshots(*views[:2]), samples.snapshots(*views[2:4]), samples.snapshots(views[4])]
    more = [msgspec.structs.replace(page, more=True, next=f"p{at}") for at, page in enumerate(pages)]
    server.on("GET", "/v1/snapshots?limit=2", more[0])
    server.on("GET", "/v1/snapshots?limit=2&after=p0", more[1])
    server.on("GET", "/v1/snapshots?limit=1&after=p1", more[2])
    done = command("snapshot", "list", "--limit", "5", "--json")
    assert done.json == msgspec.json.decode(msgspec.json.encode(views))
    assert "only the newest 5 are shown" in command("snapshot", "list", "--limit", "5").err
    server.on("GET", "/v1/snapshots?limit=2&after=p0", pages[1])
    assert len(msgspec.json.decode(command("snapshot", "list", "--json").out)) == 4


def test_a_snapshot_of_another_host_or_repository_is_refused(command: Command, known: StubServer) -> None:
    known.on("GET", "/v1/snapshots/deadbeef?repo=main", samples.snapshot())
    done = command("snapshot", "show", "deadbeef", "--host", "db1")
    assert (done.code, "is of web1, not of db1" in done.err) == (2, True)
    assert command("snapshot", "show", "deadbeef", "--repo", "other").code == 4
    assert command("snapshot", "show", "deadbeef", "--repo", "main").code == 0
    known.on("GET", "/v1/hosts/a1b2", samples.host())
    assert command("snapshot", "show", "deadbeef", "--host", "a1b2").code == 0


# -- looking into one -------------------------------------------------------------------------------------------------


def test_ls_prints_a_row_a_line_as_they_are(command: Command, known: StubServer) -> None:
    found = (
        node("/etc", type="dir", mode=(1 << 31) | 0o755),
        node("/etc/caf\\xe9"),
        node("/etc/su\n\x1b[2J", mode=(1 << 23) | 0o755, size=0, mtime=None),
        node("/etc/\ufffd", type="symlink", mode=0o777, exact=False),
    )
    listing(known, Kind.LS, LS, *found)
    done = command("snapshot", "ls", "deadbeef", "/etc", "--recursive")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "drwxr-xr-x          - 2026-03-28 01:30 /etc/",
        "-rw-r--r--    1.5 KiB 2026-03-28 01:30 /etc/caf\\xe9",
        "-rwsr-xr-x        0 B -                /etc/su\\n\\x1b[2J",
        "lrwxrwxrwx          - 2026-03-28 01:30 /etc/\ufffd (not its exact name)",
    ]
    assert asked_spec(known) == {
        "repo": "main",
        "spec": {
            "kind": "ls",
            "snapshot": S,
            "restic_host": None,
            "schedule_id": None,
            "path": "/etc",
            "recursive": True,
        },
    }


def test_ls_json_is_one_array_of_rows(command: Command, known: StubServer) -> None:
    found = [node(f"/etc/{number}") for number in range(5)]
    known.on("POST", "/v1/jobs", (201, ended(Status.QUEUED, kind=Kind.LS, spec=LS)))
    stream = Stream().put(rows(1, *found[:2]), rows(3, *found[2:]))
    known.on("GET", ROWS, stream.put(api.JobEvent(job=ended(kind=Kind.LS, result=ListStats(rows=5)))).end())
    done = command("snapshot", "ls", "deadbeef", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json == msgspec.json.decode(msgspec.json.encode(found))
    listing(known, Kind.LS, LS)
    assert command("snapshot", "ls", "deadbeef", "--json").out == "[]\n"
    assert command("snapshot", "ls", "deadbeef").err == "/ is empty\n"


def test_a_failed_listing_is_its_verdict_and_exit_2(command: Command, known: StubServer) -> None:
    error = Failure(code="path_missing", message="The snapshot does not have this path.", lines=("Fatal: no",))
    answers(known, ended(Status.FAILED, kind=Kind.LS, error=error))
    done = command("snapshot", "ls", "deadbeef", "/nope")
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[:2] == [
        "error: web1: ls failed: The snapshot does not have this path.",
        "  | Fatal: no",
    ]
    done = command("snapshot", "ls", "deadbeef", "/nope", "--json")
    assert (done.code, done.out) == (2, "")
    assert msgspec.json.decode(done.err)["error"]["code"] == "path_missing"


def test_a_listing_that_broke_off_is_an_array_that_can_be_read_and_exit_1(command: Command, known: StubServer) -> None:
    error = Failure(code="rows_lost", message="the link broke while rows were being sent: ask again")
    answers(known, ended(Status.FAILED, kind=Kind.LS, error=error), node("/a"))
    done = command("snapshot", "ls", "deadbeef", "--json")
    assert done.code == 1
    assert len(msgspec.json.decode(done.out)) == 1
    assert msgspec.json.decode(done.err)["error"]["code"] == "rows_lost"


@pytest.mark.parametrize("gap", [True, False])
def test_rows_that_are_missing_are_told(command: Command, known: StubServer, gap: bool) -> None:
    known.on("POST", "/v1/jobs", (201, ended(Status.QUEUED, kind=Kind.LS, spec=LS)))
    last = api.JobEvent(job=ended(kind=Kind.LS, result=ListStats(rows=9)))
    stream = Stream().put(rows(1, node("/a")), *([rows(5, node("/b"))] if gap else []), last).end()
    known.on("GET", ROWS, stream)
    done = command("snapshot", "ls", "deadbeef")
    assert done.code == 1
    assert ("3 rows of the listing were not kept" if gap else "1 of 9 rows came") in done.err


def test_a_server_that_comes_back_is_asked_for_the_rest_alone(command: Command, known: StubServer) -> None:
    known.on("POST", "/v1/jobs", (201, ended(Status.QUEUED, kind=Kind.LS, spec=LS)))
    known.on("GET", ROWS, Stream().put(rows(1, node("/a"), node("/b"))).cut())
    last = api.JobEvent(job=ended(kind=Kind.LS, result=ListStats(rows=3)))
    known.on("GET", ROWS.replace("after=0", "after=2"), Stream().put(rows(2, node("/b"), node("/c")), last).end())
    done = command("snapshot", "ls", "deadbeef")
    assert done.code == 0
    assert [line[-2:] for line in done.out.splitlines()] == ["/a", "/b", "/c"]
    assert done.err.splitlines() == ["the server went away; waiting for it to come back", "the server is back"]


def test_what_a_listing_waits_for_is_said_once(command: Command, known: StubServer) -> None:
    queued = ended(Status.QUEUED, kind=Kind.LS, spec=LS)
    known.on("POST", "/v1/jobs", (201, queued))
    last = api.JobEvent(job=ended(kind=Kind.LS, result=ListStats()))
    known.on("GET", ROWS, Stream().put(api.JobEvent(job=queued), api.JobEvent(job=queued), last).end())
    done = command("snapshot", "ls", "deadbeef")
    assert done.err.count("waits for host web1, which is offline") == 1


def test_find_in_the_only_repository_there_is(command: Command, known: StubServer) -> None:
    known.on("GET", "/v1/repos", [samples.repo()])
    found = FoundRow(snapshot=S, path="/home/report.pdf", type="file", size=3 << 20, mtime=AT)
    listing(known, Kind.FIND, FindSpec(patterns=("*",)), found)
    done = command("snapshot", "find", "report*", "/x/--y", "--host", "web1", "-i", "--since", "2026-03-01")
    assert done.out == "deadbeef    3.0 MiB 2026-03-28 01:30 /home/report.pdf\n"
    asked = asked_spec(known)
    assert (asked["repo"], asked["of_host"]) == ("main", "web1")
    assert asked["spec"]["patterns"] == ["report*", "/x/--y"]
    assert (asked["spec"]["ignore_case"], asked["spec"]["oldest"]) == (True, "2026-03-01T00:00:00Z")
    known.on("GET", "/v1/repos", [samples.repo(), samples.repo(name="far")])
    done = command("snapshot", "find", "x")
    assert (done.code, "--repo main or --repo far" in done.err) == (2, True)
    known.on("GET", "/v1/repos", [])
    assert command("snapshot", "find", "x", "--host", "web1").code == 4


def test_diff_shows_each_change_and_names_both(command: Command, known: StubServer) -> None:
    job = ended(kind=Kind.DIFF, spec=DiffSpec(old=OLDER, new=S), result=DiffStats(rows=2, files_added=1))
    answers(known, job, ChangeRow(path="/etc/new", modifier="+"), ChangeRow(path="/etc/x", modifier="MU"))
    done = command("snapshot", "diff", "0123abcd", "deadbeef", "--metadata")
    assert done.out == "+   /etc/new\nMU  /etc/x\n"
    assert done.err == "1 file new, 0 gone, 0 changed; 0 B added, 0 B removed\n"
    asked = asked_spec(known)["spec"]
    assert (asked["old"], asked["new"], asked["metadata"]) == (OLDER, S, True)
    done = command("snapshot", "diff", "deadbeef", "deadbeef")
    assert (done.code, "the same snapshot" in done.err) == (2, True)


def test_snapshots_of_two_repositories_are_not_compared(command: Command, known: StubServer) -> None:
    known.on("GET", "/v1/snapshots/0123abcd", samples.snapshot(id=OLDER, repo="far"))
    done = command("snapshot", "diff", "0123abcd", "deadbeef")
    assert (done.code, "are in far and main" in done.err) == (2, True)
    assert not [asked for asked in known.asked if asked.method == "POST"]


# -- changing them ----------------------------------------------------------------------------------------------------


def test_tag(command: Command, known: StubServer) -> None:
    answers(known, ended(kind=Kind.TAG, spec=TagSpec(add=("a",)), result=TagStats(changed=2)))
    done = command("snapshot", "tag", "0123abcd", "deadbeef", "deadbeef", "--add", "keep", "--remove", "old")
    assert (done.code, done.out) == (0, "web1: tag succeeded in 1 min: 2 snapshots changed\n")
    spec = asked_spec(known)["spec"]
    assert (spec["snapshots"], spec["add"], spec["remove"]) == ([OLDER, S], ["keep"], ["old"])


def test_forget_names_what_goes_and_says_what_went(command: Command, known: StubServer) -> None:
    job = ended(kind=Kind.FORGET, spec=ForgetSpec(snapshots=(S,)), result=ForgetStats(removed=1, kept=9))
    answers(known, job)
    done = command("snapshot", "forget", "deadbeef")
    assert done.out == "web1: forget succeeded in 1 min: 1 snapshot removed, 9 kept\n"
    assert done.err.startswith("deadbeef of web1, ")
    assert asked_spec(known)["spec"]["snapshots"] == [S]


def test_a_dry_run_of_forget_removes_nothing(command: Command, known: StubServer) -> None:
    result = ForgetStats(removed=1, kept=9, dry_run=True)
    answers(known, ended(kind=Kind.FORGET, spec=ForgetSpec(snapshots=(S,)), result=result))
    done = command("snapshot", "forget", "deadbeef", "--dry-run", "--json")
    assert msgspec.json.decode(done.out)["result"]["dry_run"] is True
    assert asked_spec(known)["spec"]["dry_run"] is True


def test_a_snapshot_that_is_not_there_is_exit_4_and_nothing_is_asked(command: Command, known: StubServer) -> None:
    for words in (("ls", "aaaa"), ("forget", "deadbeef", "aaaa"), ("tag", "aaaa", "--add", "x")):
        done = command("snapshot", *words)
        assert (done.code, done.err.count("\n")) == (2, 1), words
    assert {asked.method for asked in known.asked} == {"GET"}


def test_who_stops_reading_ends_the_job(command: Command, known: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    listing(known, Kind.LS, LS, node("/a"))
    known.on("POST", f"/v1/jobs/{JOB}/cancel", ended(Status.CANCELLED))

    def interrupted(row: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("restic_manager.cli.listing.row_line", interrupted)
    assert command("snapshot", "ls", "deadbeef").code == 130
    assert Asked("POST", f"/v1/jobs/{JOB}/cancel", None) in known.asked
