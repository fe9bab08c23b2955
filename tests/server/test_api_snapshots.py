"""Snapshots over HTTP: lists in pages, names of who is gone, how fresh they are, and asking for fresh ones."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from restic_manager.domain.model import Failure, Status
from restic_manager.domain.specs import SnapshotsSpec
from restic_manager.protocol.api import ListState, SnapshotsView, SnapshotView
from restic_manager.server.store import hosts, repos, schedules, snapshots
from tests.server.listed import ended, snap, snapshot_id, take
from tests.server.rows import START, at, greet
from tests.server.test_api import NIGHTLY, Api, api, fleet

__all__ = ["api", "fleet"]  # fixtures


@pytest.fixture
async def listed(fleet: Api) -> Api:
    """The fleet with a schedule and four snapshots, the newest by somebody else."""
    await fleet.well("POST", "schedules", NIGHTLY)

    def fill(tx: Any) -> None:
        ours = (f"rm:{schedules.resolve(tx, 'nightly').id}", "rmj:job-1")
        rows = [
            snap("a", 1, tags=ours),
            snap("b", 2, tags=ours, hostname="db1"),
            snap("c", 3, tags=(*ours, "mine")),
            snap("d", 4, hostname="laptop", paths=("/home",)),
        ]
        take(tx, rows, host_id=hosts.resolve(tx, "web1").id, repo_id=repos.resolve(tx, "main").id, sent=at(10))

    await fleet.services.store.write(fill)
    return fleet


async def ask(api: Api, query: str = "") -> SnapshotsView:
    return msgspec.convert(await api.well("GET", f"snapshots{query}"), SnapshotsView, strict=False)


async def names(api: Api, query: str) -> str:
    """The snapshots that a question finds, by the letters they were made from."""
    letters = {snapshot_id(letter): letter for letter in "abcdef"}
    return "".join(letters[one.id] for one in (await ask(api, query)).snapshots)


async def test_a_list_tells_names_and_how_fresh_it_is(listed: Api) -> None:
    view = await ask(listed)
    assert view.lists == (ListState(repo="main", at=at(10), stale=False),)
    assert (view.more, view.next) == (False, None)
    newest, third, *_ = view.snapshots
    assert (newest.restic_host, newest.host, newest.schedule, newest.job_id) == ("laptop", None, None, None)
    assert (third.restic_host, third.host, third.schedule, third.job_id) == ("web1", "web1", "nightly", "job-1")
    assert (third.repo, third.tags, third.time) == ("main", ("mine",), at(3))


async def test_every_question_by_names(listed: Api) -> None:
    assert await names(listed, "") == "dcba"
    assert await names(listed, "?host=web1") == "ca"
    assert await names(listed, "?host=laptop") == "d"
    assert await names(listed, "?schedule=nightly&host=db1") == "b"
    assert await names(listed, "?repo=main&tag=mine") == "c"
    assert await names(listed, "?path=/home/ann") == "d"
    assert await names(listed, "?latest=1") == "dcb"
    assert await names(listed, "?latest=1&host=web1&limit=1") == "c"
    assert await names(listed, "?since=2026-03-01T12:00:02Z&until=2026-03-01T12:00:03Z") == "cb"


async def test_who_is_gone_is_still_asked_for_by_name(listed: Api) -> None:
    await listed.well("DELETE", "hosts/db1")
    await listed.well("DELETE", "schedules/nightly")
    view = await ask(listed, "?host=db1&schedule=nightly")
    assert [(one.host, one.schedule) for one in view.snapshots] == [("db1", "nightly")]
    # Another one of that name is another host, and called otherwise in the repository.
    await listed.host("db1")
    assert await names(listed, "?host=db1") == ""
    assert (await ask(listed)).snapshots[2].host == "db1"


async def test_pages(listed: Api) -> None:
    first = await ask(listed, "?limit=3")
    assert first.more
    rest = await ask(listed, f"?limit=3&after={first.next}")
    assert [one.id for one in (*first.snapshots, *rest.snapshots)] == [snapshot_id(letter) for letter in "dcba"]
    assert (rest.more, rest.next) == (False, None)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?host=nobody", 404),
        ("?repo=nowhere", 404),
        ("?schedule=never", 404),
        ("?limit=0", 400),
        ("?limit=100000", 400),
        ("?latest=yes", 400),
        ("?since=yesterday", 400),
        ("?path=relative", 400),
        ("?tag=a,b", 400),
        ("?after=elsewhere", 400),
        ("?after=99999999999999999999999.a.b", 400),
        ("?order=up", 400),
        ("/abcd0000", 404),
        ("/latest", 404),
        ("/abcd?repo=nowhere", 404),
    ],
)
async def test_what_is_asked_wrongly_is_said(listed: Api, query: str, status: int) -> None:
    answer = await listed("GET", f"snapshots{query}")
    assert answer.status == status
    assert answer.message


async def test_one_snapshot(listed: Api) -> None:
    whole = snapshot_id("c")
    view = msgspec.convert(await listed.well("GET", f"snapshots/{whole[:8]}"), SnapshotView, strict=False)
    assert view == (await ask(listed, "?tag=mine")).snapshots[0]
    await listed.well("POST", "repos", {"name": "copy", "url": "/srv/copy"})
    await listed.services.store.write(
        lambda tx: take(tx, [snap("c", 3)], host_id=hosts.resolve(tx, "web1").id, repo_id=repos.resolve(tx, "copy").id)
    )
    answer = await listed("GET", f"snapshots/{whole}")
    assert (answer.status, answer.code) == (400, "invalid_input")
    assert "copy, main" in answer.message
    assert (await listed.well("GET", f"snapshots/{whole}?repo=copy"))["repo"] == "copy"
    await listed.well("DELETE", "repos/copy")
    assert (await listed.well("GET", f"snapshots/{whole}"))["repo"] == "main"


async def test_a_stale_list_says_why_it_is_not_made_anew(listed: Api) -> None:
    async def state(query: str = "") -> ListState:
        (found,) = (await ask(listed, query)).lists
        return found

    store = listed.services.store
    repo_id = await store.read(lambda tx: repos.resolve(tx, "main").id)
    await store.write(lambda tx: snapshots.note_changed(tx, repo_id, at(20)))
    assert (await state()).note == "no host uses it", "no agent has said that it can"
    web = await store.read(lambda tx: hosts.resolve(tx, "web1"))
    await store.write(lambda tx: greet(tx, web, START, capabilities=("kinds",)))
    assert await state("?refresh=1") == ListState(
        repo="main", at=at(10), stale=True, note="none of its hosts is online"
    )
    listed.hub.there = frozenset({web.id})
    error = Failure(code="network", message="no route to host")
    await store.write(
        lambda tx: ended(
            tx, SnapshotsSpec(), host_id=web.id, repo_id=repo_id, sent=at(30), status=Status.FAILED, error=error
        )
    )
    told = await state()
    assert told.note is not None
    assert told.note.endswith("could not list it at 2026-03-01 12:00 UTC: no route to host")
    assert told.job_id is None
    missing = Failure(code="repo_missing", message="There is no repository at this URL. If it was never …")
    await store.write(
        lambda tx: ended(
            tx, SnapshotsSpec(), host_id=web.id, repo_id=repo_id, sent=at(40), status=Status.FAILED, error=missing
        )
    )
    assert (await state()).note == "there was no repository at its URL when that was tried last"
    asked = await state("?refresh=1")
    assert asked.job_id is not None
    job = await listed.well("GET", f"jobs/{asked.job_id}")
    assert (job["kind"], job["actor_kind"], job["host"]) == ("snapshots", "server", "web1")
    assert (await state("?refresh=1")).job_id == asked.job_id, "one at a time"


async def test_a_fresh_list_is_not_made_anew(listed: Api) -> None:
    listed.hub.there = frozenset(await listed.services.store.read(lambda tx: [hosts.resolve(tx, "web1").id]))
    (state,) = (await ask(listed, "?refresh=1")).lists
    assert state == ListState(repo="main", at=at(10), stale=False)


async def test_the_servers_own_lists_are_no_news(listed: Api) -> None:
    assert await listed.well("GET", "jobs") == []
    assert [one["kind"] for one in await listed.well("GET", "jobs?kind=snapshots")] == ["snapshots"]
    assert await listed.well("GET", "jobs?kind=backup") == []
    assert len(await listed.well("GET", "jobs?kind=snapshots&repo=main")) == 1
    assert (await listed("GET", "jobs?repo=nowhere")).status == 404
    status = await listed.well("GET", "status")
    assert set(status["last_24h"].values()) == {0}
    assert [one["last_job_id"] for one in status["hosts"]] == [None, None]
    assert (await listed.well("GET", "repos/main"))["last_job_at"] is None
