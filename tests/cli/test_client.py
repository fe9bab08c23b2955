"""The client: which request each question becomes, and what every kind of answer becomes."""

from __future__ import annotations

import os
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from restic_manager.client import Client, ServerAddress
from restic_manager.domain.errors import (
    ConflictError,
    InputError,
    ManagerError,
    NotFoundError,
    NotPermittedError,
    StorageError,
    UnreachableError,
)
from restic_manager.domain.model import BackupSpec, Status
from restic_manager.domain.results import BytesRow, ListStats, NodeRow
from restic_manager.domain.specs import LsSpec
from restic_manager.protocol import api
from tests.cli import samples
from tests.cli.stub_server import Asked, Stream, StubServer, serving_tcp

JOB = samples.JOB_ID


@pytest.fixture
def client(server: StubServer, tmp_path: Path) -> Client:
    return Client(ServerAddress(path=tmp_path / "server.sock"), timeout=5)


def request_for(name: str) -> Any:
    spec = BackupSpec(paths=("/etc",))
    return {
        "invite": api.InviteRequest(name="web1", labels={"a": "b"}),
        "label": api.LabelRequest(set={"a": "b"}, remove=("c",)),
        "repo": api.RepoRequest(name="main", url="/srv", password="secret", env={"A": "b"}),
        "schedule": api.ScheduleRequest(name="n", cron="@daily", repo="main", spec=spec, all=True),
    }[name]


QUESTIONS: list[tuple[str, str, Any, Any, Any]] = [
    ("GET", "/v1/status", lambda c: c.status(), None, samples.status_view()),
    ("GET", "/v1/server/certificate", lambda c: c.certificate(), None, samples.certificate()),
    (
        "POST",
        "/v1/server/certificate/rotate",
        lambda c: c.rotate_certificate(api.RotateRequest(overlap=60, finish=True)),
        {"overlap": 60, "finish": True},
        samples.certificate(next_pin=None),
    ),
    ("GET", "/v1/server", lambda c: c.server(), None, samples.status_view().server),
    ("GET", "/v1/hosts", lambda c: c.hosts(), None, [samples.host()]),
    ("GET", "/v1/hosts/web1", lambda c: c.host("web1"), None, samples.host()),
    (
        "POST",
        "/v1/hosts/web1/rename",
        lambda c: c.rename_host("web1", api.RenameRequest(name="w")),
        {"name": "w"},
        samples.host(),
    ),
    (
        "POST",
        "/v1/hosts/web1/labels",
        lambda c: c.label_host("web1", request_for("label")),
        {"set": {"a": "b"}, "remove": ["c"]},
        samples.host(),
    ),
    ("DELETE", "/v1/hosts/web1", lambda c: c.remove_host("web1"), None, samples.host()),
    (
        "POST",
        "/v1/repos",
        lambda c: c.add_repo(request_for("repo")),
        {
            "name": "main",
            "url": "/srv",
            "password": "secret",
            "password_from": None,
            "user": None,
            "user_password": None,
            "user_password_from": None,
            "env": {"A": "b"},
            "env_from": {},
            "append_only": False,
            "max_parallel": 4,
            "chunker_from": None,
        },
        samples.repo(),
    ),
    (
        "PATCH",
        "/v1/repos/main",
        lambda c: c.edit_repo("main", api.RepoEdit(max_parallel=2)),
        {"max_parallel": 2},
        samples.repo(max_parallel=2),
    ),
    ("GET", "/v1/repos/main/maintenance", lambda c: c.maintenance("main"), None, samples.maintenance()),
    (
        "POST",
        "/v1/repos/main/maintenance",
        lambda c: c.maintain_repo("main", api.MaintenanceRequest(prune=None, check_parts=12)),
        {"prune": None, "check_parts": 12},
        samples.maintenance(),
    ),
    ("GET", "/v1/repos/main/sizes", lambda c: c.sizes("main"), None, samples.sizes()),
    (
        "POST",
        "/v1/schedules/nightly/forget-preview",
        lambda c: c.preview_forget("nightly", api.PreviewRequest(host="web1")),
        {"host": "web1"},
        [samples.job(Status.QUEUED)],
    ),
    ("GET", "/v1/snapshots", lambda c: c.snapshots(), None, samples.snapshots(samples.snapshot())),
    (
        "GET",
        (
            "/v1/snapshots?host=web1&repo=main&schedule=n&path=%2Fetc&tag=t&since=2026-03-01T00%3A00%3A00Z"
            "&until=2026-03-02T00%3A00%3A00Z&limit=1&latest=1&refresh=1"
        ),
        lambda c: c.snapshots(
            host="web1",
            repo="main",
            schedule="n",
            path="/etc",
            tag="t",
            since=datetime(2026, 3, 1, tzinfo=UTC),
            until=datetime(2026, 3, 2, tzinfo=UTC),
            limit=1,
            latest=True,
            refresh=True,
        ),
        None,
        samples.snapshots(),
    ),
    ("GET", "/v1/snapshots/deadbeef", lambda c: c.snapshot("deadbeef"), None, samples.snapshot()),
    ("GET", "/v1/repos", lambda c: c.repos(), None, [samples.repo()]),
    ("GET", "/v1/repos/main", lambda c: c.repo("main"), None, samples.repo()),
    ("DELETE", "/v1/repos/main", lambda c: c.remove_repo("main"), None, samples.repo()),
    (
        "POST",
        "/v1/repos/main/init",
        lambda c: c.init_repo("main", api.InitRequest(host="w")),
        {"host": "w"},
        samples.job(),
    ),
    ("GET", "/v1/schedules", lambda c: c.schedules(), None, [samples.schedule()]),
    ("GET", "/v1/schedules/nightly", lambda c: c.schedule("nightly"), None, samples.schedule()),
    (
        "PATCH",
        "/v1/schedules/nightly",
        lambda c: c.edit_schedule("nightly", api.ScheduleEdit(enabled=False, max_lateness=None)),
        {"enabled": False, "max_lateness": None},
        samples.schedule(enabled=False),
    ),
    ("DELETE", "/v1/schedules/nightly", lambda c: c.remove_schedule("nightly"), None, samples.schedule()),
    (
        "POST",
        "/v1/schedules/nightly/run",
        lambda c: c.run_schedule("nightly", api.RunRequest(host="web1")),
        {"host": "web1"},
        [samples.job(Status.QUEUED)],
    ),
    (
        "GET",
        "/v1/schedules/nightly/next?count=7",
        lambda c: c.next_slots("nightly", count=7),
        None,
        list(samples.slots()),
    ),
    ("GET", "/v1/jobs", lambda c: c.jobs(), None, [samples.job()]),
    (
        "GET",
        "/v1/jobs?host=web1&schedule=n&status=failed&limit=1000",
        lambda c: c.jobs(host="web1", schedule="n", status=Status.FAILED, limit=1_000),
        None,
        [],
    ),
    ("GET", f"/v1/jobs/{JOB}", lambda c: c.job(JOB), None, samples.job()),
    ("POST", f"/v1/jobs/{JOB}/cancel", lambda c: c.cancel_job(JOB), None, samples.job()),
    ("GET", "/v1/hosts/a%2Fb%20%C3%A9%3F", lambda c: c.host("a/b é?"), None, samples.host()),
]


def test_a_job_is_asked_for_with_its_spec(client: Client, server: StubServer) -> None:
    server.on("POST", "/v1/jobs", (201, samples.job(Status.QUEUED)))
    request = api.JobRequest(spec=LsSpec(snapshot="deadbeef", path="/etc"), repo="main", of_host="web1")
    assert client.run_job(request) == samples.job(Status.QUEUED)
    body = server.asked[0].body
    assert (body["repo"], body["host"], body["of_host"]) == ("main", None, "web1")
    assert (body["spec"]["kind"], body["spec"]["snapshot"], body["spec"]["path"]) == ("ls", "deadbeef", "/etc")


def test_rows_come_as_values_and_what_only_a_later_server_knows_is_passed_over(
    client: Client, server: StubServer
) -> None:
    node = NodeRow(path="/etc/caf\\xe9", type="file", size=3)
    rows = api.RowsEvent(job_id=JOB, first=3, rows=(node, BytesRow(data=b"\x00\xff")))
    last = api.JobEvent(job=samples.job(result=ListStats(rows=4)))
    server.on("GET", f"/v1/jobs/{JOB}/rows?after=2&follow=1", Stream().put(rows, {"event": "moon"}, last).end())
    assert list(client.rows(JOB, after=2)) == [rows, last]


@pytest.mark.parametrize("question", QUESTIONS, ids=[f"{q[0]} {q[1]}" for q in QUESTIONS])
def test_a_question_is_one_request_and_its_answer_a_value(client: Client, server: StubServer, question: Any) -> None:
    method, path, ask, body, answer = question
    server.on(method, path, answer)
    assert ask(client) == answer
    assert server.asked == [Asked(method, path, body)]


def test_the_invite_and_the_whole_schedule_travel(client: Client, server: StubServer) -> None:
    invite = api.InviteView(name="web1", token="t", expires_at=samples.NOW, command="run this", rejoin=False)
    server.on("POST", "/v1/hosts/invite", (201, invite))
    server.on("POST", "/v1/schedules", (201, samples.schedule()))
    assert client.invite_host(request_for("invite")) == invite
    assert client.add_schedule(request_for("schedule")) == samples.schedule()
    assert server.asked[1].body["spec"]["kind"] == "backup"
    assert server.asked[1].body["spec"]["paths"] == ["/etc"]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_input", InputError),
        (400, "bad_schedule", InputError),
        (403, "not_permitted", NotPermittedError),
        (404, "not_found", NotFoundError),
        (409, "conflict", ConflictError),
        (503, "storage", StorageError),
        (507, "storage_full", StorageError),
        (503, "server_unreachable", UnreachableError),
        (500, "internal", ManagerError),
        (418, "teapot", ManagerError),
    ],
)
def test_a_refusal_keeps_the_servers_code_and_words(
    client: Client, server: StubServer, status: int, code: str, kind: type[ManagerError]
) -> None:
    server.on("GET", "/v1/hosts", (status, {"error": {"code": code, "message": "because of web1"}}))
    with pytest.raises(ManagerError) as caught:
        client.hosts()
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.message) == (code, "because of web1")


@pytest.mark.parametrize(
    "answer",
    [
        (502, b"<html>Bad gateway"),
        (200, b"<html>"),
        (200, b"\xff\xfe"),
        (200, b"[" * 5_000),
        (200, {"not": "a list"}),
        (200, [{"name": "half a host"}]),
    ],
)
def test_an_answer_that_is_none_of_ours_is_said_to_be_so(client: Client, server: StubServer, answer: Any) -> None:
    server.on("GET", "/v1/hosts", answer)
    with pytest.raises(ManagerError) as caught:
        client.hosts()
    assert caught.value.code == "bad_answer"


def test_fields_that_only_a_later_server_knows_are_ignored(client: Client, server: StubServer) -> None:
    import msgspec

    server.on("GET", "/v1/repos/main", {**msgspec.to_builtins(samples.repo()), "from_the_future": [1]})
    assert client.repo("main") == samples.repo()


def test_no_socket_says_where_it_looked_and_what_to_do(tmp_path: Path) -> None:
    address = ServerAddress(path=tmp_path / "none.sock", origin="the data directory X")
    with pytest.raises(UnreachableError) as caught:
        Client(address).status()
    message = caught.value.message
    assert str(tmp_path / "none.sock") in message
    assert "the data directory X" in message
    assert "no such socket" in message
    assert "--data-dir or --server" in message


def test_a_socket_left_by_a_dead_server_says_that_nobody_listens(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    with pytest.raises(UnreachableError) as caught:
        Client(ServerAddress(path=tmp_path / "dead.sock")).status()
    assert "nobody listens there" in caught.value.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use every socket")
def test_anothers_socket_says_whose_it_is(server: StubServer, tmp_path: Path) -> None:
    (tmp_path / "server.sock").chmod(0)
    with pytest.raises(UnreachableError) as caught:
        Client(ServerAddress(path=tmp_path / "server.sock")).status()
    assert "permission denied" in caught.value.message


def test_a_server_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen(1)
        with pytest.raises(UnreachableError) as caught:
            Client(ServerAddress(path=tmp_path / "silent.sock"), timeout=0.2).status()
    assert "no answer within 0.2 s" in caught.value.message


def test_a_server_that_hangs_up_is_unreachable(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as rude:
        rude.bind(str(tmp_path / "rude.sock"))
        rude.listen(1)

        def hang_up() -> None:
            connection, _ = rude.accept()
            connection.recv(10_000)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(UnreachableError) as caught:
            Client(ServerAddress(path=tmp_path / "rude.sock"), timeout=5).status()
        thread.join(5)
    assert "broke off" in caught.value.message or "reset" in caught.value.message.lower()


def test_tcp_with_a_prefix_works_as_the_socket_does() -> None:
    with serving_tcp() as (stub, port):
        stub.on("GET", "/backups/v1/hosts", [samples.host()])
        client = Client(ServerAddress.parse(f"http://127.0.0.1:{port}/backups/"), timeout=5)
        assert client.hosts() == [samples.host()]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://backup.example:8080", "http://backup.example:8080"),
        ("http://backup.example", "http://backup.example:80"),
        ("https://backup.example/x/", "https://backup.example:443/x"),
        ("http://[::1]:9", "http://[::1]:9"),
        ("/run/rm/server.sock", "/run/rm/server.sock"),
        ("unix:/run/rm/server.sock", "/run/rm/server.sock"),
    ],
)
def test_addresses_are_read(text: str, shown: str) -> None:
    assert str(ServerAddress.parse(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "server",
        "server.sock",
        "ftp://x",
        "http://",
        "http://x:y",
        "http://x:99999",
        "http://u:p@x",
        "http://x?y",
        "/a\0b",
        "ws://x:1",
    ],
)
def test_what_is_no_address_is_refused_with_where_it_stood(text: str) -> None:
    with pytest.raises(InputError) as caught:
        ServerAddress.parse(text, origin="RESTIC_MANAGER_SERVER")
    assert "RESTIC_MANAGER_SERVER" in caught.value.message


@pytest.mark.parametrize("ref", ["", ".", ".."])
def test_a_name_that_would_be_another_path_is_refused(client: Client, server: StubServer, ref: str) -> None:
    with pytest.raises(InputError):
        client.remove_host(ref)
    assert server.asked == []


def test_text_that_is_not_utf8_is_refused_before_anything_is_sent(client: Client, server: StubServer) -> None:
    odd = os.fsdecode(b"caf\xe9")
    for ask in (
        lambda: client.host(odd),
        lambda: client.jobs(host=odd),
        lambda: client.invite_host(api.InviteRequest(name=odd)),
    ):
        with pytest.raises(InputError) as caught:
            ask()
        assert "UTF-8" in caught.value.message
    assert server.asked == []


# -- streams ----------------------------------------------------------------------------------------------------------

EVENTS = f"/v1/jobs/{JOB}/events?follow=1&logs=1&attempts=0"


def test_events_come_one_by_one_while_the_stream_is_open(client: Client, server: StubServer) -> None:
    stream = Stream()
    server.on("GET", EVENTS, stream)
    running = api.JobEvent(job=samples.job(Status.RUNNING))
    events = client.events(JOB, follow=True)
    stream.put(running)
    assert next(events) == running
    stream.put(samples.line(1))
    assert next(events) == samples.line(1)
    # A line in two pieces, and two lines in one; an empty line keeps the stream warm.
    stream.put(b'{"event":"gap","job_', b'id":"x","lines":3}\n\n{"event":"gap","job_id":"x","lines":4}\n').end()
    assert list(events) == [api.GapEvent(job_id="x", lines=3), api.GapEvent(job_id="x", lines=4)]


def test_an_event_that_only_a_later_server_knows_is_left_out(client: Client, server: StubServer) -> None:
    server.on("GET", EVENTS, Stream().put({"event": "hologram", "job_id": JOB}, samples.line(1)).end())
    assert list(client.events(JOB, follow=True)) == [samples.line(1)]


def test_an_event_that_is_wrong_is_an_error(client: Client, server: StubServer) -> None:
    server.on("GET", EVENTS, Stream().put({"event": "log", "line": "no number"}).end())
    with pytest.raises(ManagerError) as caught:
        list(client.events(JOB, follow=True))
    assert caught.value.code == "bad_answer"


def test_a_stream_that_breaks_off_is_unreachable_after_what_came(client: Client, server: StubServer) -> None:
    server.on("GET", EVENTS, Stream().put(samples.line(1)).cut())
    events = client.events(JOB, follow=True)
    assert next(events) == samples.line(1)
    with pytest.raises(UnreachableError):
        next(events)


def test_a_stream_of_a_job_that_is_not_there_is_refused_at_once(client: Client, server: StubServer) -> None:
    server.on("GET", EVENTS, (404, {"error": {"code": "not_found", "message": "no job"}}))
    with pytest.raises(NotFoundError):
        next(client.events(JOB, follow=True))


def test_a_long_log_is_read_whole(client: Client, server: StubServer) -> None:
    stream = Stream()
    for start in range(0, 20_000, 500):
        stream.put(b"".join(_encoded(samples.line(number)) for number in range(start + 1, start + 501)))
    server.on("GET", f"/v1/jobs/{JOB}/events?follow=0&logs=1&attempts=0", stream.end())
    lines = [event.line for event in client.events(JOB) if isinstance(event, api.LogEvent)]
    assert lines == list(range(1, 20_001))


def _encoded(event: api.LogEvent) -> bytes:
    import msgspec

    return msgspec.json.encode(event) + b"\n"


def test_a_queue_that_is_full_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    """A Unix socket answers EAGAIN at once to a socket with a timeout of Python's; the kernel's own waits."""
    path = tmp_path / "busy.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        outcome: list[str] = []

        def ask() -> None:
            try:
                Client(ServerAddress(path=path), timeout=5).hosts()
            except UnreachableError as error:
                outcome.append(error.message)

        thread = threading.Thread(target=ask)
        thread.start()
        first, _ = busy.accept()
        second, _ = busy.accept()
        assert second.recv(4) == b"GET "
        first.close()
        second.close()
        thread.join(10)
        assert "broke off" in outcome[0] or "reset" in outcome[0].lower()


def test_a_queue_that_stays_full_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "busy.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        with pytest.raises(UnreachableError, match=r"no answer within 0\.3 s"):
            Client(ServerAddress(path=path), timeout=0.3).hosts()
