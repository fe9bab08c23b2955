"""`restore`: which snapshot, onto which host, what is shown and asked before, and one file on standard output."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from restic_manager.domain.model import Failure, Kind, Status
from restic_manager.domain.results import BytesRow, ListStats, RestoreStats
from restic_manager.domain.specs import DumpSpec, RestoreSpec
from restic_manager.protocol import api
from tests.cli import samples
from tests.cli.conftest import Command
from tests.cli.listings import EVENTS, answers, asked_spec, ended
from tests.cli.stub_server import Asked, Stream, StubServer
from tests.cli.test_terminal import plain, terminal

S = samples.SNAPSHOT
LATEST = "/v1/snapshots?host=web1&limit=1&refresh=1"
NEAR = "/v1/snapshots?host=web1&limit=200&refresh=1"
DONE = RestoreStats(files_total=3, files_restored=3, bytes_restored=5 << 20, files_skipped=1)


@pytest.fixture
def known(server: StubServer) -> StubServer:
    server.on("GET", "/v1/snapshots/deadbeef", samples.snapshot())
    for path in (LATEST, NEAR):
        server.on("GET", path, samples.snapshots(samples.snapshot()))
    server.on("GET", "/v1/hosts/web1", samples.host())
    server.on("POST", "/v1/jobs", (201, job(Status.QUEUED)))
    return server


@pytest.fixture
def at(tmp_path: Path) -> list[str]:
    return ["--server", str(tmp_path / "server.sock")]


def job(status: Status = Status.SUCCEEDED, **changes: Any) -> api.JobView:
    return ended(status, kind=Kind.RESTORE, spec=RestoreSpec(snapshot=S, target="/back"), **changes)


def test_the_latest_of_a_host_into_a_folder(command: Command, known: StubServer) -> None:
    done = command(
        *("restore", "latest", "--host", "web1", "--path", "/etc", "--path", "/srv/-x", "--to", "/back"),
        *("--include", "*.conf", "--overwrite", "if-changed", "--delete", "--verify", "--limit-download", "2M"),
    )
    assert (done.code, done.out) == (0, "job 3f2a91c0 web1: restore queued, waits for host web1, which is offline\n")
    assert asked_spec(known) == {
        "repo": "main",
        "host": "web1",
        "spec": {
            "kind": "restore",
            "snapshot": S,
            "restic_host": None,
            "schedule_id": None,
            "target": "/back",
            "in_place": False,
            "paths": ["/etc", "/srv/-x"],
            "includes": ["*.conf"],
            "excludes": [],
            "overwrite": "if-changed",
            "delete": True,
            "dry_run": False,
            "verify": True,
            "tuning": {
                "upload_limit": None,
                "download_limit": 2_048,
                "compression": None,
                "read_concurrency": None,
                "nice": None,
                "io_class": None,
                "io_level": None,
            },
        },
    }


def test_as_it_was_at_a_time(command: Command, known: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    path = "/v1/snapshots?host=web1&repo=main&until=2026-11-20T17%3A00%3A00Z&limit=1&refresh=1"
    known.on("GET", path, samples.snapshots(samples.snapshot()))
    words = ("restore", "latest", "--host", "web1", "--repo", "main", "--to", "/back")
    assert command(*words, "--at", "2026-11-20 18:00").code == 0
    assert command(*words, "--at", "2026-11-20T17:00:00Z").code == 0
    known.on("GET", path, samples.snapshots())
    done = command(*words, "--at", "2026-11-20 18:00")
    assert done.code == 2
    assert "no snapshot of web1 in main at or before 2026-11-20 17:00:00 UTC" in done.err


def test_a_list_that_is_not_fresh_is_warned_of(command: Command, known: StubServer) -> None:
    lists = (samples.list_state(stale=True, note="no host of it is online"),)
    known.on("GET", LATEST, samples.snapshots(samples.snapshot(), lists=lists))
    done = command("restore", "latest", "--host", "web1", "--to", "/back")
    assert "warning: the list of main is of" in done.err
    assert "no host of it is online" in done.err


def test_a_host_that_is_gone_is_restored_onto_another(command: Command, known: StubServer) -> None:
    known.on("GET", "/v1/snapshots/deadbeef", samples.snapshot(host=None, restic_host="old1"))
    done = command("restore", "deadbeef", "--to", "/back")
    assert (done.code, "--on-host H" in done.err) == (2, True)
    assert not [asked for asked in known.asked if asked.method == "POST"]
    assert command("restore", "deadbeef", "--host", "old1", "--to", "/back", "--on-host", "web2").code == 0
    assert asked_spec(known)["host"] == "web2"


def test_a_host_that_was_removed_is_not_the_one_of_its_name(command: Command, known: StubServer) -> None:
    known.on("GET", "/v1/snapshots/deadbeef", samples.snapshot(host="gone1", restic_host="gone1"))
    done = command("restore", "deadbeef", "--to", "/back")
    assert (done.code, "is of gone1, which is no host of ours now" in done.err) == (2, True)
    known.on("GET", "/v1/hosts/gone1", samples.host(name="gone1", restic_host="gone1-f00d"))
    done = command("restore", "deadbeef", "--in-place", "--yes")
    assert (done.code, "--on-host H" in done.err) == (2, True)
    assert "not of the one that has its name now" in done.err
    assert not [asked for asked in known.asked if asked.method == "POST"]


def test_the_latest_is_the_newest_that_is_of_the_path(command: Command, known: StubServer) -> None:
    other, ours = samples.snapshot(paths=("/var/lib/x",)), samples.snapshot(id="5" * 64, paths=("/etc", "/srv/www"))
    oldest = samples.snapshot(id="6" * 64, paths=("/etc",))
    known.on("GET", NEAR, samples.snapshots(other, ours, oldest))
    words = ("restore", "latest", "--host", "web1", "--to", "/back")
    for path, wanted in (
        ("/etc/fstab", ours),
        ("/srv", ours),
        ("/etcetera", other),
        ("/var/lib", other),
        ("/var/lib/x/y", other),
    ):
        assert command(*words, "--path", path).code == 0
        assert asked_spec(known)["spec"]["snapshot"] == wanted.id, path
    assert command(*words, "--path", "/etc/fstab", "--path", "/srv/www/a").code == 0
    assert asked_spec(known)["spec"]["snapshot"] == ours.id


def test_lists_that_were_never_made_are_one_line(command: Command, known: StubServer) -> None:
    never = [samples.list_state(repo=name, at=None, note="no host uses it") for name in ("new", "far")]
    known.on("GET", LATEST, samples.snapshots(samples.snapshot(), lists=(samples.list_state(), *never)))
    done = command("restore", "latest", "--host", "web1", "--to", "/back")
    assert done.err == "not looked into, because never listed: new, far\n"


def test_in_place_without_a_terminal_is_what_yes_is_for(command: Command, known: StubServer) -> None:
    done = command("restore", "deadbeef", "--in-place", "--path", "/srv", "--delete", "--yes")
    assert done.code == 0
    spec = asked_spec(known)["spec"]
    assert (spec["in_place"], spec["target"], spec["delete"]) == (True, None, True)


@pytest.mark.parametrize(
    ("status", "code"), [(Status.SUCCEEDED, 0), (Status.WARNING, 3), (Status.FAILED, 1), (Status.CANCELLED, 1)]
)
def test_wait_ends_as_the_job_ended(command: Command, known: StubServer, status: Status, code: int) -> None:
    error = None if status is Status.SUCCEEDED else Failure(code="x", message="because")
    known.on("GET", EVENTS, Stream().put(api.JobEvent(job=job(status, error=error, result=DONE))).end())
    done = command("restore", "deadbeef", "--to", "/back", "--wait")
    assert done.code == code
    assert f"web1: restore {status} in 1 min: 3 files and folders, 5.0 MiB restored, 1 left as it is" in done.out


def test_json_is_the_job(command: Command, known: StubServer) -> None:
    known.on("GET", EVENTS, Stream().put(api.JobEvent(job=job(result=DONE))).end())
    done = command("restore", "deadbeef", "--to", "/back", "--wait", "--json")
    assert (done.code, done.err) == (0, "")
    found = done.json
    assert isinstance(found, dict)
    assert found["result"]["files_restored"] == 3


# -- one file on standard output --------------------------------------------------------------------------------------


def dumped(server: StubServer, *pieces: bytes, status: Status = Status.SUCCEEDED, **changes: Any) -> None:
    spec = DumpSpec(snapshot=S, path="/etc/fstab")
    result = ListStats(rows=len(pieces)) if status is Status.SUCCEEDED else None
    end = ended(status, kind=Kind.DUMP, spec=spec, result=result, **changes)
    answers(server, end, *(BytesRow(data=piece) for piece in pieces))


def test_stdout_is_the_files_bytes_and_nothing_else(known: StubServer, at: list[str]) -> None:
    dumped(known, b"\x00\xff\x1b[2J\n", b"rest")
    words = ["restore", "latest", "--host", "web1", "--path", "/etc/fstab", "--stdout", "--max-size", "1M", *at]
    done = subprocess.run(
        [sys.executable, "-m", "restic_manager", *words], capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\x00\xff\x1b[2J\nrest", b"")
    assert asked_spec(known) == {
        "repo": "main",
        "spec": {"kind": "dump", "snapshot": S, "path": "/etc/fstab", "limit": 1 << 20},
    }


def test_a_file_that_did_not_come_whole_is_exit_1(command: Command, known: StubServer) -> None:
    error = Failure(code="rows_lost", message="the link broke while rows were being sent: ask again")
    dumped(known, b"half", status=Status.FAILED, error=error)
    done = command("restore", "deadbeef", "--path", "/etc/fstab", "--stdout")
    assert (done.code, done.out) == (1, "half")
    assert "ask again" in done.err


@pytest.mark.terminal
def test_stdout_is_not_for_a_terminal(known: StubServer, at: list[str]) -> None:
    dumped(known, b"hello there\n")
    words = ("restore", "deadbeef", "--path", "/etc/fstab", "--stdout", *at)
    with terminal(*words) as screen:
        assert screen.end() == 2
        assert "may obey what is in it" in " ".join(screen.seen.split())
    assert known.asked == []
    with terminal(*words, "--yes") as screen:
        assert screen.end() == 0
        assert "hello there" in screen.seen


# -- at a terminal ----------------------------------------------------------------------------------------------------


@pytest.mark.terminal
def test_a_person_sees_what_would_happen_first(known: StubServer, at: list[str]) -> None:
    trial = RestoreStats(files_restored=7, bytes_restored=9 << 20, files_deleted=2, dry_run=True)
    answers(known, job(result=trial))
    with terminal("restore", "deadbeef", "--to", "/back", "--overwrite", "if-newer", "--path", "/etc", *at) as screen:
        screen.wait_for("restore it to /back on web1? [y/N] ")
        shown = " ".join(plain(screen.seen).split())
        for told in (
            "snapshot deadbeef of web1 in main",
            "1,234 files, 5.0 GiB",
            "what: /etc",
            "where to: web1, /back",
            "there: files that are there and older are overwritten",
            "dry run: 7 files and folders, 9.0 MiB would be restored, 2 would be deleted",
        ):
            assert told in shown
        screen.type("y\r")
        assert screen.end() == 0
    asked = [asked.body["spec"]["dry_run"] for asked in known.asked if asked[:2] == ("POST", "/v1/jobs")]
    assert asked == [True, False]


@pytest.mark.terminal
def test_no_is_no(known: StubServer, at: list[str]) -> None:
    known.on("GET", "/v1/hosts/web1", samples.host(restic_version="0.16.4"))
    with terminal("restore", "deadbeef", "--to", "/back", *at) as screen:
        screen.wait_for("[y/N] ")
        assert "dry run" not in screen.seen
        assert "has to be empty or absent" in screen.seen
        screen.type("n\r")
        assert screen.end() == 0
    assert not [asked for asked in known.asked if asked.method == "POST"]


@pytest.mark.terminal
@pytest.mark.parametrize(("typed", "posts"), [("web1", 1), ("y", 0), ("", 0), ("web2", 0)])
def test_in_place_asks_for_the_hosts_name(known: StubServer, at: list[str], typed: str, posts: int) -> None:
    known.on("GET", "/v1/hosts/web1", samples.host(online=False))
    with terminal("restore", "deadbeef", "--in-place", "--path", "/srv", "--delete", *at) as screen:
        screen.wait_for("type the host's name to go on:")
        shown = " ".join(plain(screen.seen).split())
        assert "offline: it is done when it is back" in shown
        assert "is DELETED below /srv" in shown
        screen.type(f"{typed}\r")
        assert screen.end() == 0
    assert len([asked for asked in known.asked if asked.method == "POST"]) == posts


@pytest.mark.terminal
def test_a_dry_run_that_fails_ends_it(known: StubServer, at: list[str]) -> None:
    error = Failure(code="restore_target", message="the folder /back is not empty")
    answers(known, job(Status.FAILED, error=error))
    with terminal("restore", "deadbeef", "--to", "/back", *at) as screen:
        assert screen.end() == 2
        assert "is not empty" in screen.seen
        assert "[y/N]" not in screen.seen
    assert [asked[:2] for asked in known.asked].count(("POST", "/v1/jobs")) == 1


def test_a_dry_run_is_only_that(command: Command, known: StubServer) -> None:
    result = RestoreStats(files_restored=7, bytes_restored=9 << 20, dry_run=True)
    known.on("GET", EVENTS, Stream().put(api.JobEvent(job=job(result=result))).end())
    done = command("restore", "deadbeef", "--in-place", "--dry-run", "--wait")
    assert "7 files and folders, 9.0 MiB would be restored" in done.out
    assert Asked("POST", "/v1/jobs", known.asked[2].body) == known.asked[2]
    assert asked_spec(known)["spec"]["dry_run"] is True
