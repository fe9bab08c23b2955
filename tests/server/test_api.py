"""The operators' API: hosts, repositories and schedules as an operator's program sees them, and what it refuses."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy
import trio
from starlette.types import ASGIApp

from restic_manager.config import ServerConfig
from restic_manager.domain.errors import StorageError
from restic_manager.domain.model import Timing, new_id
from restic_manager.protocol.api import HostView, InviteView, NextSlot, RepoView, ScheduleView
from restic_manager.protocol.messages import RefusedEntry, ScheduleAck
from restic_manager.runtime.clock import DrivenClock
from restic_manager.server.api import coming
from restic_manager.server.api.app import build_api
from restic_manager.server.dispatch import Dispatcher
from restic_manager.server.hub import Hub
from restic_manager.server.services import Services
from restic_manager.server.store import assignments, hosts, schema
from restic_manager.server.store.writer import open_store
from tests.server.rows import SEALER, START, add_schedule, greet, sha
from tests.support.asgi import Answer, ask

BACKUP = {"kind": "backup", "paths": ["/etc"]}
NIGHTLY = {"name": "nightly", "cron": "30 2 * * *", "repo": "main", "spec": BACKUP, "all": True}


class RecordingHub(Hub):
    """A hub without links that keeps whom it was asked to ring and to close."""

    def __init__(self) -> None:
        super().__init__()
        self.rung: list[str] = []
        self.closed: list[str] = []
        self.there: frozenset[str] = frozenset()

    def online_hosts(self) -> frozenset[str]:
        return self.there

    def sets_changed(self, host_ids: Any) -> None:
        self.rung += host_ids

    def close(self, host_id: str, reason: str, *, refused: Any = None) -> None:
        assert reason
        self.closed.append(host_id)


class Api:
    """The application, and short ways to ask it."""

    def __init__(self, app: ASGIApp, services: Services, hub: RecordingHub) -> None:
        self.app, self.services, self.hub = app, services, hub

    async def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        dashed = {name.replace("_", "-"): value for name, value in headers.items()}
        return await ask(self.app, method, f"/v1/{path}", body, headers=dashed)

    async def well(self, method: str, path: str, body: Any = None) -> Any:
        """Ask for what must succeed; return the JSON, checked to have the declared type where one is known."""
        answer = await self(method, path, body)
        assert answer.status in {200, 201}, answer.body
        assert answer.headers["content-type"] == "application/json"
        return answer.json

    async def host(self, name: str, **labels: str) -> str:
        """Invite a host and let it join; return its id."""
        token = (await self.well("POST", "hosts/invite", {"name": name, "labels": labels}))["token"]
        credential = sha(new_id())
        now = self.services.clock.now()
        joined = await self.services.store.write(lambda tx: hosts.redeem(tx, sha(token), credential, now))
        return joined.host_id  # type: ignore[union-attr]  # it has just been invited


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    start = trio.current_time()
    clock = DrivenClock(START, lambda: trio.current_time() - start)
    config = ServerConfig(data_dir=tmp_path, timezone="Europe/Berlin")
    async with open_store(tmp_path / "server.db", clock=clock) as store:
        hub = RecordingHub()
        services = Services(
            store=store,
            hub=hub,
            dispatcher=Dispatcher(store=store, hub=hub, clock=clock, sealer=SEALER),
            clock=clock,
            sealer=SEALER,
            config=config,
            started_at=START,
            listening="127.0.0.1:8787",
        )
        yield Api(build_api(services), services, hub)


@pytest.fixture
async def fleet(api: Api) -> Api:
    """Two hosts and a repository."""
    await api.host("web1", tier="web")
    await api.host("db1", tier="db")
    await api.well("POST", "repos", {"name": "main", "url": "/srv/backups", "password": "hunter2-password"})
    api.hub.rung.clear()
    return api


# -- hosts ------------------------------------------------------------------------------------------------------------


async def test_invite(api: Api) -> None:
    answer = await api("POST", "hosts/invite", {"name": "web1", "labels": {"tier": "web"}})
    assert answer.status == 201
    view = msgspec.convert(answer.json, InviteView)
    assert view.command == f"restic-manager agent --server ws://127.0.0.1:8787 --token {view.token}"
    assert view.expires_at - START - timedelta(hours=1) < timedelta(seconds=20)
    assert (view.name, view.rejoin, view.note) == ("web1", False, None)
    host = msgspec.convert(await api.well("GET", "hosts/web1"), HostView)
    assert (host.state, host.online, host.labels, host.restic_host) == ("invited", False, {"tier": "web"}, "web1")


async def test_the_command_names_the_public_url(api: Api) -> None:
    config = replace(api.services.config, public_url="wss://backup.example.org/fleet")
    app = build_api(replace(api.services, config=config))
    view = (await ask(app, "POST", "/v1/hosts/invite", {"name": "web1"})).json
    assert view["command"] == f"restic-manager agent --server wss://backup.example.org/fleet --token {view['token']}"


async def test_hosts_are_listed_shown_labelled_renamed_and_removed(fleet: Api) -> None:
    ids = {row["name"]: row["id"] for row in await fleet.well("GET", "hosts")}
    assert list(ids) == ["db1", "web1"]
    fleet.hub.there = frozenset({ids["web1"]})
    assert [row["online"] for row in await fleet.well("GET", "hosts")] == [False, True]
    view = await fleet.well("POST", "hosts/web1/labels", {"set": {"site": "b"}, "remove": ["tier"]})
    assert (view["labels"], view["online"]) == ({"site": "b"}, True)
    assert (await fleet.well("POST", f"hosts/{ids['web1'][:8]}/rename", {"name": "www"}))["name"] == "www"
    assert (await fleet("GET", "hosts/web1")).status == 404
    assert (await fleet("POST", "hosts/www/rename", {"name": "db1"})).status == 409
    removed = await fleet.well("DELETE", "hosts/www")
    assert (removed["id"], removed["name"]) == (ids["web1"], "www")
    assert fleet.hub.closed == [ids["web1"]]
    assert [row["name"] for row in await fleet.well("GET", "hosts")] == ["db1"]
    assert (await fleet("DELETE", "hosts/www")).code == "not_found"


async def test_a_host_shows_what_its_agent_said(fleet: Api) -> None:
    schedule = await fleet.well("POST", "schedules", NIGHTLY)
    host = await fleet.services.store.read(lambda tx: hosts.resolve(tx, "web1"))
    refused = (
        RefusedEntry(schedule_id=schedule["id"], code="bad_zone", reason="no such zone here"),
        RefusedEntry(schedule_id="gone", code="bad", reason="odd"),
    )
    said = ScheduleAck(epoch="e", version=2, refused=refused)
    await fleet.services.store.write(lambda tx: greet(tx, host, START, restic_version="0.18.0"))
    await fleet.services.store.write(lambda tx: assignments.note_ack(tx, host.id, said, START))
    view = await fleet.well("GET", "hosts/web1")
    assert (view["restic_version"], view["applied_schedule_version"], view["clock_skew"]) == ("0.18.0", 2, 0.0)
    assert view["refused_entries"] == ["nightly: no such zone here", "gone: odd"]


async def test_labels_ring_the_host_whose_schedules_changed(fleet: Api) -> None:
    await fleet.well("POST", "schedules", {**NIGHTLY, "all": False, "labels": {"site": "b"}})
    fleet.hub.rung.clear()
    await fleet.well("POST", "hosts/web1/labels", {"set": {"note": "x"}})
    assert fleet.hub.rung == []
    view = await fleet.well("POST", "hosts/web1/labels", {"set": {"site": "b"}})
    assert fleet.hub.rung == [view["id"]]


async def test_an_invite_says_which_repositories_the_join_will_bring(api: Api) -> None:
    async def brings(**wish: Any) -> list[str]:
        return list((await api.well("POST", "hosts/invite", {"name": "web1", **wish}))["repositories"])

    assert await brings() == []
    for name in ("main", "nas", "cloud"):
        await api.well("POST", "repos", {"name": name, "url": f"/srv/{name}", "password": "hunter2-password"})
    assert await brings() == ["cloud", "main", "nas"]
    assert await brings(repos=["nas"]) == ["nas"]
    wish = {
        "name": "n",
        "cron": "@daily",
        "repo": "main",
        "hosts": ["web1"],
        "spec": {"kind": "backup", "paths": ["/e"]},
    }
    await api.well("POST", "schedules", wish)
    assert await brings() == ["main"]
    assert await brings(repos=["cloud", "nas"]) == ["cloud", "nas"]
    assert (await api("POST", "hosts/invite", {"name": "web1", "repos": ["none"]})).status == 404


# -- repositories -----------------------------------------------------------------------------------------------------


async def test_repositories_are_added_listed_shown_and_removed(api: Api) -> None:
    request = {"name": "main", "url": "rest:https://me:sesame@host/", "env": {"AWS_SESSION_TOKEN": "opens"}}
    added = msgspec.convert(await api.well("POST", "repos", request), RepoView)
    assert added.generated_password is not None
    assert added.url == "rest:https://host/"
    assert added.note is not None
    assert added.env_names == ("AWS_SESSION_TOKEN", "RESTIC_REST_PASSWORD", "RESTIC_REST_USERNAME")
    for answer in (await api.well("GET", "repos/main"), (await api.well("GET", "repos"))[0]):
        view = msgspec.convert(answer, RepoView)
        assert (view.generated_password, view.note) == (None, None)
        assert (view.schedules, view.hosts, view.last_job_at) == ((), (), None)
    assert (await api.well("DELETE", f"repos/{added.id}"))["name"] == "main"
    assert await api.well("GET", "repos") == []


async def test_a_repository_in_use_stays(fleet: Api) -> None:
    await fleet.well("POST", "schedules", NIGHTLY)
    answer = await fleet("DELETE", "repos/main")
    assert (answer.status, answer.code) == (409, "conflict")
    assert "nightly" in answer.message
    view = await fleet.well("GET", "repos/main")
    assert (view["schedules"], view["hosts"]) == (["nightly"], ["db1", "web1"])


async def test_no_answer_ever_holds_a_secret(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = ("hunter2-password", "sesame-opens", "url-sesame")
    await api.host("web1")
    request = {
        "name": "main",
        "url": "rest:https://me:url-sesame@host/",
        "password": "hunter2-password",
        "env": {"AWS_SESSION_TOKEN": "sesame-opens"},
    }
    answers = [
        await api("POST", "repos", request),
        await api("POST", "repos", request),
        await api("POST", "repos", {**request, "name": "-x"}),
        await api("POST", "repos", {**request, "name": "x", "url": "s3:https://me:url-sesame@host/b"}),
        await api("POST", "repos", {**request, "name": "x", "env": {"LD_PRELOAD": "sesame-opens"}}),
        await api("POST", "repos", {**request, "name": "x", "env": {"AWS_SESSION_TOKEN": ["sesame-opens"]}}),
        await api("POST", "repos", {**request, "name": "x", "password": ["hunter2-password"]}),
        await api("POST", "repos", {**request, "name": "x", "password": "hunter2-password\0"}),
        await api("POST", "repos", b'{"name": "x", "password": "hunter2-password'),
        await api("POST", "schedules", NIGHTLY),
        *[await api("GET", path) for path in ("repos", "repos/main", "schedules", "hosts", "status", "jobs", "server")],
        await api("POST", "schedules/nightly/run", {}),
        await api("POST", "repos/main/init", {"host": "web1"}),
        await api("GET", "jobs"),
        await api("DELETE", "repos/main"),
    ]
    assert {answer.status for answer in answers} >= {200, 201, 400, 409}
    assert 500 not in {answer.status for answer in answers}
    for answer in answers:
        for secret in secrets:
            assert secret not in answer.body.decode()
    for secret in secrets:
        assert secret not in caplog.text


# -- schedules --------------------------------------------------------------------------------------------------------


async def test_add_says_what_will_happen(fleet: Api) -> None:
    web1 = (await fleet.well("GET", "hosts/web1"))["id"]
    fleet.hub.there = frozenset({web1})
    answer = await fleet("POST", "schedules", {**NIGHTLY, "timezone": "Europe/Berlin"})
    assert answer.status == 201
    view = msgspec.convert(answer.json, ScheduleView)
    assert (view.name, view.enabled, view.kind, view.repo, view.revision) == ("nightly", True, "backup", "main", 1)
    assert view.paths == ("/etc",)
    assert [(target.name, target.online) for target in view.targets] == [("db1", False), ("web1", True)]
    assert "Europe/Berlin" in view.words
    assert [slot.local for slot in view.next] == [f"2026-03-0{day}T02:30:00+01:00" for day in (2, 3, 4, 5, 6)]
    assert view.next[0].utc.isoformat() == "2026-03-02T01:30:00+00:00"
    assert {(slot.host, slot.runs_at) for slot in view.next} == {(None, None)}
    assert view.warnings == ()
    assert len(set(fleet.hub.rung)) == 2


async def test_schedules_are_listed_shown_edited_and_removed(fleet: Api) -> None:
    added = await fleet.well("POST", "schedules", NIGHTLY)
    await fleet.well("POST", "schedules", {**NIGHTLY, "name": "hourly", "cron": "@hourly", "enabled": False})
    assert [row["name"] for row in await fleet.well("GET", "schedules")] == ["hourly", "nightly"]
    assert (await fleet.well("GET", "schedules"))[1] == await fleet.well("GET", f"schedules/{added['id']}")
    assert (await fleet.well("GET", "schedules/hourly"))["next"] == []
    fleet.hub.rung.clear()
    change = {"cron": "0 4 * * *", "paths": ["/srv"], "hosts": ["web1"], "timezone": "UTC", "enabled": False}
    edited = await fleet.well("PATCH", "schedules/nightly", change)
    assert {name: edited[name] for name in change} == change
    assert (edited["hosts"], edited["all"], edited["revision"]) == (["web1"], False, 2)
    assert len(fleet.hub.rung) == 2
    fleet.hub.rung.clear()
    assert await fleet.well("PATCH", "schedules/nightly", {}) == edited
    assert fleet.hub.rung == []
    assert await fleet.well("DELETE", "schedules/nightly") == edited
    assert len(fleet.hub.rung) == 1
    assert (await fleet("GET", "schedules/nightly")).status == 404


async def test_the_coming_slots_of_hosts_that_differ_are_told_by_host(fleet: Api) -> None:
    await fleet.services.store.write(lambda tx: greet(tx, hosts.resolve(tx, "web1"), START, timezone="Asia/Tokyo"))
    await fleet.well("POST", "schedules", {**NIGHTLY, "timezone": "host"})
    slots = msgspec.convert(await fleet.well("GET", "schedules/nightly/next?count=4"), list[NextSlot])
    assert [(slot.host, slot.local) for slot in slots] == [
        ("web1", "2026-03-02T02:30:00+09:00"),
        ("db1", "2026-03-02T02:30:00+01:00"),
        ("web1", "2026-03-03T02:30:00+09:00"),
        ("db1", "2026-03-03T02:30:00+01:00"),
    ]


async def test_splay_is_shown_where_it_is_one_answer(fleet: Api) -> None:
    await fleet.well("POST", "schedules", {**NIGHTLY, "all": False, "hosts": ["web1"], "splay": 3600})
    view = msgspec.convert(await fleet.well("GET", "schedules/nightly"), ScheduleView)
    offsets = {slot.runs_at - slot.utc for slot in view.next if slot.runs_at}
    assert len(offsets) == 1
    assert timedelta() < offsets.pop() < timedelta(hours=1)
    assert "up to 1h later" in view.words
    view = msgspec.convert(await fleet.well("PATCH", "schedules/nightly", {"all": True}), ScheduleView)
    assert {slot.runs_at for slot in view.next} == {None}


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"all": False, "labels": {"tier": "mail"}}, "tier=mail"),
        ({"timezone": "host"}, "db1, web1 is not known: Europe/Berlin"),
        ({"cron": "*/5 * * * *", "splay": 600}, "splay (10m)"),
        ({"max_lateness": 5}, "max lateness of 5s"),
        ({"all": False, "hosts": ["new"]}, "new has never joined"),
    ],
)
async def test_what_is_allowed_but_odd_is_warned_of(fleet: Api, fields: dict[str, Any], shown: str) -> None:
    await fleet.well("POST", "hosts/invite", {"name": "new"})
    if "new" not in fields.get("hosts", ()):
        await fleet.well("DELETE", "hosts/new")
    (warning,) = (await fleet.well("POST", "schedules", {**NIGHTLY, **fields}))["warnings"]
    assert shown in warning


async def test_a_schedule_without_hosts_still_shows_its_slots(fleet: Api) -> None:
    nobody = {"all": False, "labels": {"tier": "mail"}}
    assert len((await fleet.well("POST", "schedules", {**NIGHTLY, **nobody, "cron": "0 3 * * thu"}))["next"]) == 5
    for number, fields in enumerate(({"cron": "H H * * *"}, {"timezone": "host"})):
        request = {**NIGHTLY, **nobody, **fields, "name": f"n{number}"}
        assert (await fleet.well("POST", "schedules", request))["next"] == []


@pytest.mark.parametrize("fields", [{"cron": "99 * * * *"}, {"repo": "no"}, {"hosts": ["no"], "all": False}])
async def test_a_refused_schedule_rings_nobody(fleet: Api, fields: dict[str, Any]) -> None:
    answer = await fleet("POST", "schedules", {**NIGHTLY, **fields})
    assert answer.status in {400, 404}
    assert fleet.hub.rung == []
    assert await fleet.well("GET", "schedules") == []


async def test_questions_do_not_grow_with_the_fleet(fleet: Api) -> None:
    """Lists ask the database a number of questions that does not depend on how many rows there are."""
    store = fleet.services.store

    async def count(path: str) -> int:
        seen: list[str] = []

        def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
            seen.append(statement)

        sqlalchemy.event.listen(store._reading, "before_cursor_execute", note)
        await fleet.well("GET", path)
        sqlalchemy.event.remove(store._reading, "before_cursor_execute", note)
        return len(seen)

    await fleet.well("POST", "schedules", NIGHTLY)
    before = [await count(path) for path in ("hosts", "repos", "schedules")]

    def grow(tx: Any) -> None:
        rows = [{"id": new_id(), "name": f"h{n}", "restic_host": f"h{n}", "created_at": START} for n in range(300)]
        tx.execute(schema.hosts.insert(), rows)
        for number in range(20):
            add_schedule(tx, f"s{number}")

    await store.write(grow)
    assert [await count(path) for path in ("hosts", "repos", "schedules")] == before


# -- coming slots -----------------------------------------------------------------------------------------------------


def runner(name: str, cron: str = "0 3 * * *", zone: str = "UTC", splay: int = 0) -> coming.Runner:
    return coming.Runner(name, Timing(cron=cron, timezone=zone, anchor=START, splay=splay))


def test_hosts_alike_are_told_once() -> None:
    alike = [runner(f"h{number}", splay=number) for number in range(10)]
    slots = coming.coming(alike, after=START, count=3)
    assert [slot.utc.day for slot in slots] == [2, 3, 4]
    assert {(slot.host, slot.runs_at) for slot in slots} == {(None, None)}
    slots = coming.coming([*alike, runner("x", "0 4 * * *", splay=60)], after=START, count=2)
    assert [slot.host for slot in slots] == ["h0 and 9 more", "x"]
    assert slots[1].runs_at == slots[1].utc + timedelta(seconds=60)


def test_a_thousand_different_hosts_are_not_all_looked_at() -> None:
    runners = [runner(f"h{number:04}", f"{number % 60} {number // 60 % 24} * * *") for number in range(1_000)]
    slots = coming.coming(runners, after=START, count=500)
    assert len(slots) == 500
    assert len({slot.host for slot in slots}) == coming.LOOKED_AT
    assert all(one.utc <= other.utc for one, other in pairwise(slots))


def test_what_never_comes_is_nothing() -> None:
    assert coming.coming([], after=START, count=5) == ()
    last = datetime.max.replace(tzinfo=START.tzinfo)
    assert coming.coming([runner("a")], after=last, count=5) == ()
    assert coming.soonest_gap(runner("a").timing, after=last) is None


# -- requests that are not right --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "expected", "shown"),
    [
        ("POST", "hosts/invite", b"", (400, "invalid_input"), "name"),
        ("POST", "hosts/invite", b"{", (400, "invalid_input"), "not valid"),
        ("POST", "hosts/invite", b"[]", (400, "invalid_input"), "object"),
        ("POST", "hosts/invite", b"\xff\xfe", (400, "invalid_input"), "not valid"),
        (
            "POST",
            "hosts/invite",
            b'{"name": "a", "x": ' + b"[" * 2_000 + b"]" * 2_000 + b"}",
            (400, "invalid_input"),
            "",
        ),
        ("POST", "hosts/invite", {"name": "a", "colour": "red"}, (400, "invalid_input"), "colour"),
        ("POST", "hosts/invite", {"name": 7}, (400, "invalid_input"), "name: expected `str`"),
        ("POST", "hosts/invite", {"name": "a\0b"}, (400, "invalid_input"), "NUL"),
        ("POST", "hosts/invite", {"name": "-x"}, (400, "invalid_input"), "'-x'"),
        ("POST", "schedules", {**NIGHTLY, "splay": -1}, (400, "invalid_input"), "splay"),
        ("POST", "schedules", {**NIGHTLY, "spec": {"kind": "rm -rf"}}, (400, "invalid_input"), "rm -rf"),
        ("POST", "schedules", {**NIGHTLY, "cron": "99 * * * *"}, (400, "bad_schedule"), "99"),
        ("PATCH", "schedules/nightly", {"cron": "0 0 * * *"}, (404, "not_found"), "nightly"),
        ("GET", "schedules/nightly/next?count=0", None, (400, "invalid_input"), "count"),
        ("GET", "schedules/nightly/next?count=x", None, (400, "invalid_input"), "count"),
        ("GET", "schedules/nightly/next?cuont=1", None, (400, "invalid_input"), "cuont"),
        ("GET", "schedules/nightly/next?count=1&count=2", None, (400, "invalid_input"), "twice"),
        ("GET", "hosts?limit=3", None, (400, "invalid_input"), "limit"),
        ("GET", "hosts/" + "x" * 5_000, None, (404, "not_found"), "xxx"),
        ("GET", "nowhere", None, (404, "not_found"), "/v1/nowhere"),
        ("PUT", "hosts", None, (405, "method_not_allowed"), "PUT"),
        ("POST", "hosts/invite", b'{"name": "' + b"x" * (1 << 20) + b'"}', (413, "too_large"), "1048576"),
    ],
)
async def test_refusals(api: Api, method: str, path: str, *, body: Any, expected: tuple[int, str], shown: str) -> None:
    answer = await api(method, path, body)
    assert (answer.status, answer.code) == expected
    assert shown in answer.message
    assert len(answer.body) < 2_000
    assert await api.well("GET", "hosts") == []


async def test_what_a_web_page_sends_is_refused(api: Api) -> None:
    body = {"name": "web1"}
    assert (await api("POST", "hosts/invite", body, origin="https://evil.example")).status == 403
    assert (await api("GET", "hosts", sec_fetch_site="same-origin")).code == "not_permitted"
    assert await api.well("GET", "hosts") == []
    assert (await api("GET", "hosts", sec_fetch_site="none")).status == 200
    assert (await api("POST", "hosts/invite", body, content_type="text/plain")).status == 201


async def test_a_bug_is_told_as_such_and_nothing_of_it(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(tx: Any) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("restic_manager.server.store.hosts.all_hosts", broken)
    answer = await api("GET", "hosts")
    assert (answer.status, answer.code) == (500, "internal")
    assert "secret detail" not in answer.message
    assert "secret detail" in caplog.text
    assert (await api("GET", "repos")).status == 200


@pytest.mark.parametrize(("code", "status"), [("storage_full", 507), ("storage_locked", 503)])
async def test_a_store_that_cannot_be_written_is_told(
    api: Api, monkeypatch: pytest.MonkeyPatch, code: str, status: int
) -> None:
    async def full(change: object) -> None:
        raise StorageError("the disk is full", code=code)

    monkeypatch.setattr(api.services.store, "write", full)
    answer = await api("POST", "hosts/invite", {"name": "web1"})
    assert (answer.status, answer.code) == (status, code)
