"""A token that is limited to some hosts: what it may ask for, of which hosts, and that everything else is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from restic_manager.domain.model import Kind
from restic_manager.server.api import roles
from restic_manager.server.api.app import operations
from restic_manager.server.api.operations import Operation
from restic_manager.server.api.scoping import KINDS, SCOPED
from restic_manager.server.store import schema
from tests.server.test_operator_access import Door, open_door

BACKUP = {"kind": "backup", "paths": ["/etc"]}
MINE, OTHERS = "a" * 64, "b" * 64


@asynccontextmanager
async def fleet(tmp_path: Path) -> AsyncIterator[Door]:
    """Two hosts that share a repository, a schedule each and one for both, a job each; tokens for the one of them."""
    async with open_door(tmp_path) as door:
        for name, site in (("mine", "here"), ("other", "there")):
            await door.world.join(name)
            assert (await door("admin", "POST", f"/v1/hosts/{name}/labels", {"set": {"site": site}})).status == 200
        await door.world.repo("main")
        for name, hosts in (("mine-nightly", ["mine"]), ("other-nightly", ["other"]), ("both", ["mine", "other"])):
            wish = {"name": name, "cron": "30 2 * * *", "repo": "main", "spec": BACKUP, "hosts": hosts}
            assert (await door("admin", "POST", "/v1/schedules", wish)).status == 201
        for name in ("mine", "other"):
            wish = {"repo": "main", "host": name, "spec": BACKUP}
            door.given[f"job of {name}"] = (await door("admin", "POST", "/v1/jobs", wish)).json["id"]
        await door.world.write(lambda tx: _snapshots(tx, door))
        for name, limit in (("hosts", {"hosts": ["mine"]}), ("labels", {"labels": {"site": "here"}})):
            wish = {"name": name, "role": "operator", **limit}
            door.given[name] = (await door("admin", "POST", "/v1/tokens", wish)).json["token"]
        yield door


def _snapshots(tx: Any, door: Door) -> None:
    (repo_id,) = (tx.execute(schema.repos.select()).mappings().one()["id"],)
    for snapshot_id, host in ((MINE, "mine"), (OTHERS, "other")):
        tx.execute(
            schema.snapshots.insert().values(
                repo_id=repo_id,
                id=snapshot_id,
                time=door.world.now() - timedelta(hours=1),
                restic_host=host,
                username="root",
                paths='["/etc"]',
                tags="[]",
            )
        )


def test_every_scoped_operation_is_one_that_there_is() -> None:
    assert SCOPED.keys() <= roles.ROLES.keys()
    admins = {name for name, role in roles.ROLES.items() if role.value == "admin"}
    assert not SCOPED.keys() & admins
    assert not KINDS & {Kind.FORGET, Kind.PRUNE, Kind.TAG, Kind.UNLOCK, Kind.INIT, Kind.COPY, Kind.CHECK}


@pytest.mark.parametrize("operation", operations(), ids=lambda one: one.name)
async def test_what_is_not_in_the_table_is_refused(
    tmp_path: Path, autojump_clock: MockClock, operation: Operation
) -> None:
    async with fleet(tmp_path) as door:
        path = operation.path.replace("{ref}", "other")
        needed = roles.ROLES[operation.name]
        for who in ("hosts", "labels"):
            body = _body(operation)
            answer = await door(who, operation.method, path, body)
            if operation.name in {"healthz", "whoami", "host_list", "schedule_list"}:
                assert answer.status == 200
            elif operation.name in SCOPED:
                assert answer.status in {400, 403, 404}, answer.body
            else:
                assert (answer.status, answer.code) == (403, "not_permitted"), answer.body
                assert needed.value == "admin" or "concerns more than some hosts" in answer.message


def _body(operation: Operation) -> Any:
    if operation.request is None:
        return None
    wants: dict[str, Any] = {
        "job_ask": {"repo": "main", "host": "other", "spec": BACKUP},
        "schedule_add": {"name": "x", "cron": "@daily", "repo": "main", "spec": BACKUP, "hosts": ["mine"]},
        "schedule_run": {"host": "other"},
        "repo_init": {"host": "mine"},
        "schedule_edit": {"cron": "@daily"},
    }
    return wants.get(operation.name, {})


@pytest.mark.parametrize("who", ["hosts", "labels"])
async def test_it_sees_its_own_hosts_and_no_others(tmp_path: Path, autojump_clock: MockClock, who: str) -> None:
    async with fleet(tmp_path) as door:

        async def get(path: str) -> Any:
            return await door(who, "GET", f"/v1/{path}")

        assert [host["name"] for host in (await get("hosts")).json] == ["mine"]
        assert [row["name"] for row in (await get("schedules")).json] == ["mine-nightly"]
        assert [row["id"] for row in (await get("jobs?host=mine")).json] == [door.given["job of mine"]]
        assert [row["id"] for row in (await get("snapshots?host=mine")).json["snapshots"]] == [MINE]
        allowed = (
            "hosts/mine",
            "schedules/mine-nightly",
            "schedules/mine-nightly/next",
            "schedules/mine-nightly/history",
            f"jobs/{door.given['job of mine']}",
            f"jobs/{door.given['job of mine']}/events",
            f"snapshots/{MINE}",
        )
        for path in allowed:
            assert (await get(path)).status == 200, path
        refused = (
            "hosts/other",
            "jobs",
            "jobs?host=other",
            "snapshots",
            "snapshots?host=other",
            f"snapshots/{OTHERS}",
            "schedules/both",
            "schedules/other-nightly/history",
            f"jobs/{door.given['job of other']}",
            f"jobs/{door.given['job of other']}/events",
            f"jobs/{door.given['job of other']}/rows",
            "status",
            "repos",
        )
        for path in refused:
            answer = await get(path)
            assert (answer.status, answer.code) == (403, "not_permitted"), path
            assert f"the token {who} is for mine alone" in answer.message
        told = [row for row in await door.rows() if (row.who, row.outcome) == (who, "not_permitted")]
        assert len(told) == len(refused)


WISHES: tuple[tuple[dict[str, Any], bool], ...] = (
    ({"host": "mine", "spec": BACKUP}, True),
    ({"host": "other", "spec": BACKUP}, False),
    ({"host": None, "spec": BACKUP}, False),
    ({"host": "mine", "spec": {"kind": "restore", "snapshot": MINE, "target": "/t"}}, True),
    ({"host": "mine", "spec": {"kind": "restore", "snapshot": OTHERS, "target": "/t"}}, False),
    ({"host": "mine", "spec": {"kind": "restore", "snapshot": "c" * 64, "target": "/t"}}, False),
    ({"host": "mine", "of_host": "mine", "spec": {"kind": "restore", "target": "/t"}}, True),
    ({"host": "mine", "of_host": "other", "spec": {"kind": "restore", "target": "/t"}}, False),
    ({"host": "mine", "spec": {"kind": "restore", "restic_host": "other", "target": "/t"}}, False),
    ({"host": "mine", "of_schedule": "both", "spec": {"kind": "restore", "target": "/t"}}, False),
    ({"host": "mine", "spec": {"kind": "diff", "old": MINE, "new": OTHERS}}, False),
    ({"host": "mine", "spec": {"kind": "dump", "snapshot": OTHERS, "path": "/etc/shadow"}}, False),
    ({"host": "mine", "spec": {"kind": "find", "patterns": ["*"]}}, False),
    ({"host": "mine", "spec": {"kind": "find", "patterns": ["*"], "snapshots": [MINE, OTHERS]}}, False),
    ({"host": "mine", "spec": {"kind": "forget", "snapshots": [MINE]}}, False),
    ({"host": "mine", "spec": {"kind": "prune"}}, False),
    ({"host": "mine", "spec": {"kind": "unlock"}}, False),
    ({"host": "mine", "spec": {"kind": "tag", "snapshots": [MINE], "add": ["x"]}}, False),
    ({"host": "mine", "spec": {"kind": "check"}}, False),
)


@pytest.mark.parametrize(("wish", "fine"), WISHES, ids=lambda value: str(value)[:70].replace("/", "_"))
async def test_it_has_done_what_stays_on_its_hosts(
    tmp_path: Path, autojump_clock: MockClock, wish: dict[str, Any], fine: bool
) -> None:
    async with fleet(tmp_path) as door:
        answer = await door("hosts", "POST", "/v1/jobs", {"repo": "main", **wish})
        if fine:
            assert answer.status == 201, answer.body
        else:
            assert answer.status in {403, 404}, answer.body


async def test_it_runs_cancels_and_pauses_on_its_hosts(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path) as door:

        async def post(path: str, body: Any = None) -> int:
            return (await door("hosts", "POST", f"/v1/{path}", body)).status

        assert await post("schedules/mine-nightly/run", {}) == 201
        assert await post("schedules/both/run", {"host": "mine"}) == 201
        assert await post("schedules/both/run", {"host": "other"}) == 403
        assert await post("schedules/both/run", {}) == 403
        assert await post("hosts/mine/pause", {"reason": "x"}) == 201
        assert await post("hosts/mine/resume") == 200
        assert await post("hosts/other/pause", {"reason": "x"}) == 403
        assert await post(f"jobs/{door.given['job of mine']}/cancel") == 200
        assert await post(f"jobs/{door.given['job of other']}/cancel") == 403
        assert await post("pause", {"reason": "x"}) == 403


async def test_labels_decide_anew_each_time(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path) as door:
        assert (await door("labels", "GET", "/v1/hosts/mine")).status == 200
        await door("admin", "POST", "/v1/hosts/mine/labels", {"set": {"site": "gone"}})
        refused = await door("labels", "GET", "/v1/hosts/mine")
        assert (refused.status, "hosts with labels that none has now" in refused.message) == (403, True)
        assert (await door("labels", "GET", "/v1/hosts")).json == []


async def test_a_limit_is_told_and_checked(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path) as door:
        listed = {row["name"]: row for row in (await door("admin", "GET", "/v1/tokens")).json}
        assert (listed["hosts"]["hosts"], listed["labels"]["labels"]) == (["mine"], {"site": "here"})
        assert (listed["viewer"]["hosts"], listed["viewer"]["labels"]) == ([], {})
        for wish, status in (
            ({"role": "admin", "hosts": ["mine"]}, 400),
            ({"role": "viewer", "hosts": ["mine"], "labels": {"site": "here"}}, 400),
            ({"role": "viewer", "hosts": ["none-such"]}, 404),
            ({"role": "viewer", "labels": {"-": "x"}}, 400),
        ):
            assert (await door("admin", "POST", "/v1/tokens", {"name": "x", **wish})).status == status, wish
