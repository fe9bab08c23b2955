"""The commands: which request each becomes, what it prints for a person, and that `--json` is the server's own data."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from restic_manager.cli.typed import since_when
from restic_manager.domain.model import Failure, Status
from restic_manager.protocol import api
from tests.cli import samples
from tests.cli.conftest import Command
from tests.cli.stub_server import Asked, StubServer

READING: list[tuple[list[str], str, str, Any]] = [
    (["status"], "GET", "/v1/status", samples.status_view()),
    (["host", "list"], "GET", "/v1/hosts", [samples.host(), samples.host(name="db1", online=False)]),
    (["host", "show", "web1"], "GET", "/v1/hosts/web1", samples.host()),
    (["host", "label", "web1", "a=b", "c-"], "POST", "/v1/hosts/web1/labels", samples.host(labels={"a": "b"})),
    (["host", "rename", "web1", "web2"], "POST", "/v1/hosts/web1/rename", samples.host(name="web2")),
    (["host", "remove", "web1"], "DELETE", "/v1/hosts/web1", samples.host()),
    (["host", "remove", "web1", "--purge"], "DELETE", "/v1/hosts/web1?purge=1", samples.host()),
    (["host", "rotate", "web1"], "POST", "/v1/hosts/web1/rotate", samples.host()),
    (["host", "revoke", "web1"], "POST", "/v1/hosts/web1/revoke", samples.host()),
    (["host", "pending"], "GET", "/v1/pending", [samples.pending()]),
    (["host", "approve", samples.FINGERPRINT], "POST", f"/v1/pending/{samples.FINGERPRINT}/approve", samples.host()),
    (["host", "reject", samples.FINGERPRINT], "POST", f"/v1/pending/{samples.FINGERPRINT}/reject", samples.pending()),
    (["repo", "list"], "GET", "/v1/repos", [samples.repo()]),
    (["repo", "show", "main"], "GET", "/v1/repos/main", samples.repo()),
    (["repo", "init", "main", "--host", "web1"], "POST", "/v1/repos/main/init", samples.job(Status.QUEUED)),
    (["repo", "remove", "main"], "DELETE", "/v1/repos/main", samples.repo()),
    (["schedule", "list"], "GET", "/v1/schedules", [samples.schedule()]),
    (["schedule", "show", "nightly"], "GET", "/v1/schedules/nightly", samples.schedule()),
    (["schedule", "enable", "nightly"], "PATCH", "/v1/schedules/nightly", samples.schedule()),
    (["schedule", "disable", "nightly"], "PATCH", "/v1/schedules/nightly", samples.schedule(enabled=False)),
    (["schedule", "remove", "nightly"], "DELETE", "/v1/schedules/nightly", samples.schedule()),
    (["schedule", "run", "nightly"], "POST", "/v1/schedules/nightly/run", [samples.job(Status.QUEUED)]),
    (["schedule", "next", "nightly"], "GET", "/v1/schedules/nightly/next?count=5", list(samples.slots())),
    (["schedule", "history", "nightly"], "GET", "/v1/schedules/nightly/history?limit=50", samples.history()),
    (
        ["schedule", "why", "nightly", "--at", "2026-03-28 02:30"],
        "GET",
        "/v1/schedules/nightly/why?at=2026-03-28+02%3A30",
        samples.why(),
    ),
    (["server", "cert", "show"], "GET", "/v1/server/certificate", samples.certificate()),
    (["server", "cert", "rotate"], "POST", "/v1/server/certificate/rotate", samples.certificate()),
    (["job", "list"], "GET", "/v1/jobs?limit=50", [samples.job(), samples.job(Status.RUNNING)]),
    (["job", "show", "3f2a"], "GET", "/v1/jobs/3f2a", samples.job()),
    (["job", "cancel", "3f2a"], "POST", "/v1/jobs/3f2a/cancel", samples.job(Status.CANCELLED)),
]


@pytest.mark.parametrize("row", READING, ids=[" ".join(row[0]) for row in READING])
def test_json_is_the_servers_own_answer_and_nothing_else(command: Command, server: StubServer, row: Any) -> None:
    words, method, path, answer = row
    server.on(method, path, answer)
    ended = command(*words, "--json")
    assert (ended.code, ended.err) == (0, "")
    assert ended.json == msgspec.json.decode(msgspec.json.encode(answer))
    assert [asked[:2] for asked in server.asked] == [(method, path)]


@pytest.mark.parametrize("row", READING, ids=[" ".join(row[0]) for row in READING])
def test_for_a_person_it_fits_80_columns_without_colour_in_a_pipe(
    command: Command, server: StubServer, row: Any
) -> None:
    words, method, path, answer = row
    server.on("GET", "/v1/schedules/nightly", samples.schedule())
    server.on(method, path, answer)
    ended = command(*words)
    assert ended.code == 0
    assert ended.out
    assert "\x1b" not in ended.out + ended.err
    assert max(len(line) for line in ended.out.splitlines()) <= 80


@pytest.mark.parametrize(
    ("since", "wanted"),
    [
        ("7d", timedelta(days=-7)),
        ("1h30m", timedelta(hours=-1.5)),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC) - samples.NOW),
        ("2026-03-01T01:00:00+01:00", datetime(2026, 3, 1, tzinfo=UTC) - samples.NOW),
    ],
)
def test_since_is_a_duration_ago_a_date_or_an_instant(since: str, wanted: timedelta) -> None:
    assert since_when(since, samples.NOW) == samples.NOW + wanted


@pytest.mark.parametrize("since", ["", "yesterday", "7", "2026-13-01", "999999d", "2026-03-01T01:00:00"])
def test_a_since_that_is_none_is_refused_with_what_it_may_be(command: Command, since: str) -> None:
    ended = command("schedule", "history", "nightly", "--since", since)
    assert ended.code == 2
    assert "7d, 12h" in ended.err


def test_history_asks_for_the_host_and_the_time_given(command: Command, server: StubServer) -> None:
    path = "/v1/schedules/nightly/history?host=web1&since=2026-03-01T00%3A00%3A00Z&limit=3"
    server.on("GET", path, samples.history()[:3])
    ended = command("schedule", "history", "nightly", "--host", "web1", "--since", "2026-03-01", "--limit", "3")
    assert ended.code == 0
    assert "3f2a91c0 +1" in ended.out
    assert "coalesced \u00d71,440" in ended.out
    assert "only the newest 3" in ended.err


def test_why_says_the_servers_sentence_and_ends_with_4_where_there_is_no_slot(
    command: Command, server: StubServer
) -> None:
    server.on("GET", "/v1/schedules/nightly/why?at=x&host=web1", samples.why())
    assert command("schedule", "why", "nightly", "--at", "x", "--host", "web1").out == samples.why().sentence + "\n"
    missing = api.ErrorAnswer(error=api.ErrorBody(code="not_found", message="there is no slot at x on web1"))
    server.on("GET", "/v1/schedules/nightly/why?at=x", (404, missing))
    ended = command("schedule", "why", "nightly", "--at", "x")
    assert ended.code == 4
    assert "there is no slot at x" in ended.err


def test_tables_fit_whatever_the_names_are(command: Command, server: StubServer) -> None:
    long = "a-host-name-of-the-greatest-length-that-is-allowed-anywhere.63ch"
    label = {"datacenter": "frankfurt-west-2", "role": "database-primary", "owner": "team-storage"}
    server.on("GET", "/v1/hosts", [samples.host(name=long, labels=label)])
    server.on("GET", "/v1/jobs?limit=50", [samples.job(host=long, schedule=long, status=Status.INTERRUPTED)])
    server.on(
        "GET", "/v1/repos", [samples.repo(name=long, url="s3:https://" + "x" * 300, schedules=(long,), hosts=(long,))]
    )
    server.on("GET", "/v1/schedules", [samples.schedule(name=long, hosts=(long,), repo=long)])
    for words in (("host", "list"), ("job", "list"), ("repo", "list"), ("schedule", "list")):
        out = command(*words).out
        assert max(len(line) for line in out.splitlines()) <= 80, words
        # Folded, never cut: every character is there.
        assert out.count("6") >= 1, words
        assert "…" not in out, words


def test_empty_lists_say_how_to_begin_and_are_empty_arrays(command: Command, server: StubServer) -> None:
    for noun, path in (
        ("host", "/v1/hosts"),
        ("repo", "/v1/repos"),
        ("schedule", "/v1/schedules"),
        ("job", "/v1/jobs?limit=50"),
    ):
        server.on("GET", path, [])
        ended = command(noun, "list")
        assert ended.out == ""
        assert "no " in ended.err
        assert command(noun, "list", "--json").out == "[]\n"


def test_an_invite_prints_the_line_to_paste_alone_on_standard_output(command: Command, server: StubServer) -> None:
    line = "restic-manager agent --server ws://127.0.0.1:8787 --token rm_abc"
    view = api.InviteView(name="web1", token="rm_abc", expires_at=samples.NOW, command=line, rejoin=True, note="odd")
    server.on("POST", "/v1/hosts/invite", (201, view))
    ended = command("host", "invite", "web1", "--label", "role=web", "--label", "site=a=b")
    assert ended.out == line + "\n"
    assert "rejoin" in ended.err
    assert "odd" in ended.err
    assert "there is no repository yet" in ended.err
    server.on("POST", "/v1/hosts/invite", (201, msgspec.structs.replace(view, repositories=("main", "nas"))))
    told = command("host", "invite", "web1").err
    assert "its agent will use main, nas; any other repository has to" in told
    assert "agent policy allow-repository URL" in told
    server.asked.pop()
    assert server.asked == [
        Asked(
            "POST",
            "/v1/hosts/invite",
            {"name": "web1", "labels": {"role": "web", "site": "a=b"}, "repos": [], "allow": []},
        )
    ]
    found = msgspec.json.decode(command("host", "invite", "web1", "--json").out)
    assert {"name", "token", "expires_at", "command"} <= set(found)


def test_a_certificate_tells_who_does_not_know_the_next(command: Command, server: StubServer) -> None:
    server.on("GET", "/v1/server/certificate", samples.certificate())
    shown = command("server", "cert", "show").out
    for said in ("a" * 52, "b" * 52, "web1, web2", "in 29 d"):
        assert said in shown
    server.on("POST", "/v1/server/certificate/rotate", samples.certificate(next_pin=None, hosts_without_next=()))
    ended = command("server", "cert", "rotate", "--finish")
    assert "b" * 52 not in ended.out
    assert "have to be invited again" in ended.err
    assert "web1, web2" in ended.err
    assert server.asked[-1].body == {"overlap": 30 * 86_400, "finish": True}
    assert command("server", "cert", "rotate", "--finish", "--overlap", "1d").code == 2
    command("server", "cert", "rotate", "--overlap", "7d")
    assert server.asked[-1].body == {"overlap": 7 * 86_400, "finish": False}
    both = command("server", "--tls", "off", "cert", "show")
    assert both.code == 2


def test_labels_are_set_and_taken_away(command: Command, server: StubServer) -> None:
    server.on("POST", "/v1/hosts/web1/labels", samples.host(labels={"a": "", "b": "x"}))
    ended = command("host", "label", "web1", "a=", "b=x", "c-", "d-e-")
    assert server.asked[0].body == {"set": {"a": "", "b": "x"}, "remove": ["c", "d-e"]}
    assert ended.out == "web1: a=, b=x\n"


def test_job_list_asks_for_what_was_typed(command: Command, server: StubServer) -> None:
    server.on("GET", "/v1/jobs?host=web1&schedule=nightly&status=failed&limit=1000", [])
    ended = command("job", "list", "--host", "web1", "--schedule", "nightly", "--status", "failed", "--limit", "1000")
    assert ended.code == 0
    assert len(server.asked) == 1


def test_a_full_page_of_jobs_says_that_there_may_be_more(command: Command, server: StubServer) -> None:
    server.on("GET", "/v1/jobs?limit=2", [samples.job(), samples.job()])
    assert "--limit N for more" in command("job", "list", "--limit", "2").err


def test_a_failed_job_shows_why(command: Command, server: StubServer) -> None:
    error = Failure(code="wrong_password", message="the password is wrong", lines=("Fatal: wrong\x1b[31m password",))
    server.on("GET", "/v1/jobs/3f", samples.job(Status.FAILED, error=error, exit_code=12, attempt=2, attempt_of="x"))
    out = command("job", "show", "3f").out
    for told in ("the password is wrong", "| Fatal: wrong\\x1b[31m password", "Exit code", "12", "2, of x"):
        assert told in out


def test_status_puts_what_is_wrong_first(command: Command, server: StubServer) -> None:
    server.on("GET", "/v1/status", samples.status_view())
    lines = command("status").out.splitlines()
    assert lines[0] == "1 problem:"
    assert "is offline for 3 d" in lines[1] + lines[2]
    assert "1 of 2 hosts online" in "\n".join(lines)
    server.on("GET", "/v1/status", samples.status_view(problems=()))
    assert command("status").out.startswith("nothing is known to be wrong\n")


def test_status_waits_for_a_server_that_is_coming(command: Command, server: StubServer) -> None:
    unreachable = (503, {"error": {"code": "server_unreachable", "message": "starting"}})
    server.on("GET", "/v1/status", unreachable, unreachable, samples.status_view())
    assert command("status", "--wait", "20").code == 0
    assert len(server.asked) == 3


def test_status_waits_no_longer_than_it_was_told(command: Command) -> None:
    ended = command("status", "--wait", "0.3")
    assert ended.code == 5
    assert "does not answer" in ended.err


def test_a_refusal_other_than_absence_is_not_waited_for(command: Command, server: StubServer) -> None:
    server.on("GET", "/v1/status", (403, {"error": {"code": "not_permitted", "message": "no"}}))
    assert command("status", "--wait", "30").code == 6


# -- schedules --------------------------------------------------------------------------------------------------------


def test_schedule_add_sends_everything_that_was_typed(command: Command, server: StubServer) -> None:
    server.on("POST", "/v1/schedules", (201, samples.schedule()))
    ended = command(
        *("schedule", "add", "nightly", "--host", "web1", "--host", "db1", "--cron", "30 2 * * *", "--repo", "main"),
        *("--timezone", "Europe/Berlin", "--splay", "1h30m", "--overlap", "skip", "--offline", "wait"),
        *("--retry", "3", "--retry-backoff", "2m", "--time-limit", "6h", "--stall-limit", "none"),
        *(
            "--max-lateness",
            "12h",
            "--disabled",
            "--exclude",
            "*.tmp",
            "--exclude",
            "/var/c*",
            "--exclude-file",
            "/etc/x",
        ),
        *("--exclude-caches", "--exclude-if-present", ".nobackup", "--one-file-system", "--tag", "a", "--tag", "b"),
        *("--", "/etc", os.fsdecode(b"/srv/caf\xe9"), "/back\\slash"),
    )
    assert ended.code == 0, ended.err
    assert server.asked[0].body == {
        "name": "nightly",
        "cron": "30 2 * * *",
        "repo": "main",
        "hosts": ["web1", "db1"],
        "labels": {},
        "all": False,
        "timezone": "Europe/Berlin",
        "splay": 5_400,
        "overlap": "skip",
        "offline": "wait",
        "max_lateness": 43_200,
        "retry": 3,
        "retry_backoff": 120,
        "time_limit": 21_600,
        "stall_limit": None,
        "enabled": False,
        "spec": {
            "kind": "backup",
            "paths": ["/etc", "/srv/caf\\xe9", "/back\\\\slash"],
            "excludes": ["*.tmp", "/var/c*"],
            "exclude_files": ["/etc/x"],
            "exclude_if_present": [".nobackup"],
            "exclude_caches": True,
            "one_file_system": True,
            "tags": ["a", "b"],
            "files_from": [],
            "exclude_larger_than": None,
            "skip_if_unchanged": False,
            "dry_run": False,
            "tuning": None,
            "stdin_command": None,
            "stdin_name": None,
        },
        "retention": None,
        "guards": None,
        "hooks": None,
    }


def test_schedule_add_with_little_leaves_the_rest_to_the_server(command: Command, server: StubServer) -> None:
    server.on("POST", "/v1/schedules", (201, samples.schedule()))
    command(
        "schedule",
        "add",
        "n",
        "/etc",
        "--label",
        "role=web",
        "--every",
        "15m",
        "--repo",
        "main",
        "--timezone",
        "server",
    )
    body = server.asked[0].body
    assert (body["cron"], body["labels"], body["timezone"], body["max_lateness"]) == (
        "@every 15m",
        {"role": "web"},
        None,
        None,
    )
    assert (body["overlap"], body["offline"], body["enabled"], body["splay"]) == ("queue", "run", True, 0)


def test_schedule_add_says_what_will_happen(command: Command, server: StubServer) -> None:
    targets = (api.Target(name="web1", online=True), api.Target(name="db1", online=False))
    view = samples.schedule(targets=targets, hosts=("web1", "db1"), warnings=("db1 has no restic",))
    server.on("POST", "/v1/schedules", (201, view))
    ended = command("schedule", "add", "nightly", "/etc", "--host", "web1", "--cron", "30 2 * * *", "--repo", "main")
    for told in (
        "nightly: at 02:30 every day, Europe/Berlin",
        "saves /etc, /home to main, on web1, db1",
        "Sat 2026-03-28 02:30:00 +01:00",
        "Sun 2026-03-29 03:00:00 +02:00",
        "1 of 2 hosts online; offline: db1",
    ):
        assert told in ended.out
    assert "warning: db1 has no restic" in ended.err


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        ((), "no host is a target now"),
        ((api.Target(name="web1", online=True),), "web1 is online"),
        (tuple(api.Target(name=f"h{n}", online=True) for n in range(1_200)), "all 1,200 hosts are online"),
        ((api.Target(name="web1", online=False),), "web1 is offline; once it knows the schedule it runs by itself"),
        (
            tuple(api.Target(name=f"h{n}", online=False) for n in range(9)),
            "0 of 9 hosts online; offline: h0, h1, h2, h3, h4 and 4 more",
        ),
    ],
)
def test_whether_the_hosts_are_there(command: Command, server: StubServer, targets: Any, told: str) -> None:
    server.on("GET", "/v1/schedules/nightly", samples.schedule(targets=targets))
    assert told in " ".join(command("schedule", "show", "nightly").out.split())


def test_slots_name_the_host_and_the_splayed_time_where_they_differ(command: Command, server: StubServer) -> None:
    slot = samples.slots()[0]
    other = msgspec.structs.replace(slot, host="web1", runs_at=slot.utc.replace(minute=47))
    server.on("GET", "/v1/schedules/nightly/next?count=2", [slot, other])
    server.on("GET", "/v1/schedules/nightly", samples.schedule(timezone="host"))
    out = command("schedule", "next", "nightly", "--count", "2").out
    assert "HOST" in out
    assert "web1" in out
    assert "01:47:00" in out


def test_edit_sends_only_what_changes_and_shows_old_and_new(command: Command, server: StubServer) -> None:
    server.on("GET", "/v1/schedules/nightly", samples.schedule())
    server.on("PATCH", f"/v1/schedules/{samples.schedule().id}", samples.schedule(cron="0 4 * * *"))
    ended = command(
        *("schedule", "edit", "nightly", "--cron", "0 4 * * *", "--label", "role=web", "--path", "/srv"),
        *(
            "--exclude",
            "",
            "--max-lateness",
            "1d",
            "--no-one-file-system",
            "--exclude-caches",
            "--name",
            "late",
            "--disabled",
        ),
    )
    assert ended.code == 0
    assert server.asked[1].body == {
        "name": "late",
        "cron": "0 4 * * *",
        "hosts": [],
        "labels": {"role": "web"},
        "all": False,
        "max_lateness": 86_400,
        "enabled": False,
        "paths": ["/srv"],
        "excludes": [],
        "exclude_caches": True,
        "one_file_system": False,
    }
    assert ended.err.splitlines() == [
        "where: web1 → hosts with role=web",
        "name: nightly → late",
        "when: 30 2 * * * → 0 4 * * *",
        "max lateness: none → 1d",
        "enabled: yes → no",
        "paths: /etc, /home → /srv",
        "excludes: *.tmp → none",
        "exclude caches: no → yes",
    ]


def test_an_edit_that_changes_nothing_asks_for_nothing(command: Command, server: StubServer) -> None:
    server.on("GET", "/v1/schedules/nightly", samples.schedule())
    ended = command("schedule", "edit", "nightly", "--cron", "30 2 * * *", "--host", "web1", "--max-lateness", "none")
    assert ended.code == 0
    assert "nothing changes" in ended.err
    assert [asked.method for asked in server.asked] == ["GET"]


def test_an_edit_can_go_back_to_the_servers_zone(command: Command, server: StubServer) -> None:
    server.on("GET", "/v1/schedules/nightly", samples.schedule())
    server.on("PATCH", f"/v1/schedules/{samples.schedule().id}", samples.schedule())
    assert "zone: Europe/Berlin → the server's" in command("schedule", "edit", "nightly", "--timezone", "server").err
    assert server.asked[1].body == {"timezone": None}


def test_run_without_wait_says_what_each_job_waits_for(command: Command, server: StubServer) -> None:
    server.on("POST", "/v1/schedules/nightly/run", (201, [samples.job(Status.QUEUED)]))
    ended = command("schedule", "run", "nightly", "--host", "web1")
    assert server.asked[0].body == {"host": "web1"}
    assert ended.out == "job 3f2a91c0 web1: backup queued, waits for host web1, which is offline\n"


# -- what comes from elsewhere ----------------------------------------------------------------------------------------


def test_no_text_from_elsewhere_reaches_a_terminal_as_it_is(command: Command, server: StubServer) -> None:
    evil = "\x1b]0;owned\x07\r\u202e"
    server.on("GET", "/v1/hosts", [samples.host(name=evil, restic_version=evil, labels={evil: evil})])
    server.on("GET", "/v1/hosts/x", samples.host(name=evil, os=evil, restic_problem=evil, refused_entries=(evil,)))
    server.on("GET", "/v1/schedules", [samples.schedule(name=evil, repo=evil)])
    server.on("GET", "/v1/schedules/x", samples.schedule(name=evil, words=evil, paths=(evil,), warnings=(evil,)))
    server.on("GET", "/v1/jobs/x", samples.job(Status.FAILED, error=Failure(code="x", message=evil, lines=(evil,))))
    server.on("GET", "/v1/status", samples.status_view(problems=(evil,)))
    server.on("GET", "/v1/repos", (400, {"error": {"code": "invalid_input", "message": evil}}))
    for words in (
        *(("host", "list"), ("host", "show", "x"), ("schedule", "list"), ("schedule", "show", "x")),
        *(("job", "show", "x"), ("status",), ("repo", "list")),
    ):
        ended = command(*words)
        assert not set("\x1b\x07\r\u202e") & set(ended.out + ended.err), words
        assert "\\x1b]0;owned" in (ended.out + ended.err).replace("\n", "").replace(" ", ""), words


def test_the_keys_that_others_rely_on_are_there(command: Command, server: StubServer) -> None:
    """The issue's own list. Keys are only ever added."""
    wanted = {
        "job": "id kind host schedule slot actor_kind status created_at started_at finished_at exit_code snapshot_id"
        " error stats",
        "host": "name labels online last_seen_at agent_version restic_version schedule_version"
        " applied_schedule_version",
        "schedule": "id name enabled kind cron timezone repo paths excludes tags revision next",
    }
    answers: dict[str, Any] = {"job": samples.job(), "host": samples.host(), "schedule": samples.schedule()}
    for noun, keys in wanted.items():
        server.on("GET", f"/v1/{noun}s/x", answers[noun])
        found = command(noun, "show", "x", "--json").json
        assert isinstance(found, dict)
        assert set(keys.split()) <= set(found)
        if noun == "schedule":
            assert {"utc", "local"} <= set(found["next"][0])
        if noun == "job":
            assert found["slot"].endswith("Z")
