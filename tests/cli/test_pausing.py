"""Pausing and resuming from the terminal: what is asked, what is said, what is refused before anything is asked."""

from __future__ import annotations

from datetime import timedelta

import pytest

from restic_manager.domain.model import Status
from tests.cli import samples
from tests.cli.conftest import Command
from tests.cli.stub_server import StubServer

PLACES = [
    (["pause"], "/v1/pause"),
    (["host", "pause", "web1"], "/v1/hosts/web1/pause"),
    (["schedule", "pause", "nightly"], "/v1/schedules/nightly/pause"),
]


@pytest.mark.parametrize(("words", "path"), PLACES)
def test_a_pause_says_what_it_is_why_and_until_when(
    command: Command, server: StubServer, words: list[str], path: str
) -> None:
    until = samples.NOW + timedelta(days=3, minutes=30)
    server.on("POST", path, (201, [samples.pause(until=until)]))
    ended = command(*words, "--reason", "storage moves", "--for", "3d")
    assert ended.code == 0, ended.err
    assert server.asked[0].body == {"reason": "storage moves", "until": None, "seconds": 3 * 86_400}
    assert "is paused: the fleet (storage moves), since" in ended.out
    assert f"until {until:%Y-%m-%d %H:%M:%S} UTC" in ended.out


@pytest.mark.parametrize(("words", "path"), PLACES)
def test_an_end_at_an_instant_and_json(command: Command, server: StubServer, words: list[str], path: str) -> None:
    server.on("POST", path, (201, [samples.pause()]))
    ended = command(*words, "--until", "2027-01-01T01:00:00+01:00", "--json")
    assert server.asked[0].body == {"reason": "", "until": "2027-01-01T00:00:00Z", "seconds": None}
    assert isinstance(ended.json, list)
    assert ended.json[0]["reason"] == "storage moves"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--until", "2027-01-01T00:00:00Z", "--for", "3h"], "choose one"),
        (["--until", "tomorrow"], "--until: 'tomorrow' is not an instant"),
        (["--for", "a while"], "--for: 'a while' is not a duration"),
        (["--reason", "x" * 201], "at most 200"),
    ],
)
def test_what_makes_no_sense_is_not_asked(command: Command, server: StubServer, options: list[str], told: str) -> None:
    ended = command("pause", *options)
    assert (ended.code, server.asked) == (2, [])
    assert told in ended.err


def test_resume_says_what_still_holds(command: Command, server: StubServer) -> None:
    server.on("POST", "/v1/schedules/nightly/resume", [])
    assert command("schedule", "resume", "nightly").out == "nightly is not paused: the next slots run\n"
    server.on("POST", "/v1/hosts/web1/resume", [samples.pause()])
    assert "web1 is paused: the fleet" in command("host", "resume", "web1").out
    server.on("POST", "/v1/resume", (409, {"error": {"code": "conflict", "message": "the fleet is not paused"}}))
    assert command("resume").code == 2


def test_lists_and_pages_tell_of_pauses(command: Command, server: StubServer) -> None:
    paused = samples.pause(scope="schedule", schedule="nightly")
    server.on("GET", "/v1/schedules", [samples.schedule(pauses=(paused,), next=())])
    assert "paused" in command("schedule", "list").out
    server.on("GET", "/v1/schedules/nightly", samples.schedule(pauses=(paused,), next=(), retry=3))
    page = " ".join(command("schedule", "show", "nightly").out.split())
    assert "schedule nightly (storage moves), since" in page
    assert "Retries 3, the first after" in page
    assert "Time limit none" in page
    server.on("GET", "/v1/hosts/web1", samples.host(pauses=(samples.pause(scope="host", host="web1"),)))
    page = " ".join(command("host", "show", "web1").out.split())
    assert "State online, paused" in page
    assert "host web1 (storage moves)" in page


def test_run_tells_of_what_it_runs_in_spite_of(command: Command, server: StubServer) -> None:
    jobs = [samples.job(Status.QUEUED, warnings=("the fleet is paused since noon; it runs all the same",))] * 2
    server.on("POST", "/v1/schedules/nightly/run", (201, jobs))
    ended = command("schedule", "run", "nightly")
    assert ended.code == 0
    assert ended.err.count("warning: the fleet is paused") == 1


def test_an_edit_of_retries_and_limits_is_shown(command: Command, server: StubServer) -> None:
    before = samples.schedule()
    server.on("GET", "/v1/schedules/nightly", before)
    server.on("PATCH", f"/v1/schedules/{before.id}", samples.schedule(retry=2))
    ended = command(
        *("schedule", "edit", "nightly", "--retry", "2", "--time-limit", "6h", "--stall-limit", "none", "--yes")
    )
    assert ended.code == 0, ended.err
    assert server.asked[-1].body == {"retry": 2, "time_limit": 21_600, "stall_limit": None}
    for line in ("retries: 0 → 2", "time limit: none → ", "stall limit: ", " → none"):
        assert line in ended.err
    assert command("schedule", "edit", "nightly", "--retry", "many").code == 2
