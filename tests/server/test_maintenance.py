"""Who looks after a repository: its schedules made, changed and removed; its own way there, sealed; warnings."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import sqlalchemy
from sqlalchemy import select

from restic_manager.domain.model import Failure, Kind, Status
from restic_manager.domain.results import CheckStats, RepoStats, UnlockStats, VerifyStats
from restic_manager.domain.specs import CheckSpec, SnapshotsSpec, StatsSpec, UnlockSpec, VerifySpec
from restic_manager.protocol.api import MaintenanceRequest, MaintenanceView, RepoView, ScheduleView, SizeView
from restic_manager.server.api.repo_views import views
from restic_manager.server.store import events, hosts, repo_changes, repo_secrets, repos, sizes, snapshots
from restic_manager.server.store.schema import secrets
from tests.server.listed import ended, snap, snapshot_id, take
from tests.server.rows import SEALER, START, at
from tests.server.test_api import NIGHTLY, Api, api, fleet

__all__ = ["api", "fleet"]  # fixtures

WEEKLY, DAILY = "0 3 * * 0", "0 4 * * *"


async def maintain(fleet: Api, **request: Any) -> MaintenanceView:
    return msgspec.convert(await fleet.well("POST", "repos/main/maintenance", request), MaintenanceView, strict=False)


async def refused(fleet: Api, **request: Any) -> str:
    answer = await fleet("POST", "repos/main/maintenance", request)
    assert answer.status in {400, 404, 409}, answer.body
    return answer.message


async def schedule(fleet: Api, name: str) -> ScheduleView:
    return msgspec.convert(await fleet.well("GET", f"schedules/{name}"), ScheduleView, strict=False)


async def repo(fleet: Api, name: str = "main") -> RepoView:
    return msgspec.convert(await fleet.well("GET", f"repos/{name}"), RepoView, strict=False)


def kinds(view: MaintenanceView) -> dict[str, str]:
    return {one.name: one.cron for one in view.schedules}


async def test_maintenance_is_ordinary_schedules(fleet: Api) -> None:
    view = await maintain(fleet, maintainer="db1", prune=WEEKLY, check=DAILY, check_parts=28, stats="@weekly")
    assert kinds(view) == {"main-prune": WEEKLY, "main-check": DAILY, "main-stats": "@weekly"}
    assert view.repo.maintainer == "db1"
    check = await schedule(fleet, "main-check")
    assert (check.kind, check.spec, check.hosts) == (Kind.CHECK, CheckSpec(rolling=28), ("db1",))
    assert [target.name for target in (await schedule(fleet, "main-prune")).targets] == ["db1"]
    assert len(fleet.hub.rung) >= 1
    again = msgspec.convert(await fleet.well("GET", "repos/main/maintenance"), MaintenanceView, strict=False)
    assert kinds(again) == kinds(view)
    (event,) = await fleet.services.store.read(lambda tx: events.latest(tx, limit=1, what="repo_maintained"))
    assert event.detail == (f"repository main is looked after by db1, prune {WEEKLY}, check {DAILY}, stats @weekly")


async def test_what_is_left_out_stays_and_null_removes(fleet: Api) -> None:
    await maintain(fleet, maintainer="db1", prune=WEEKLY, check=DAILY, check_parts=28)
    ids = {name: (await schedule(fleet, name)).id for name in ("main-prune", "main-check")}
    view = await maintain(fleet, prune=DAILY)
    assert kinds(view) == {"main-prune": DAILY, "main-check": DAILY}
    assert {one.name: one.id for one in view.schedules} == ids, "the same schedules, with their history"
    view = await maintain(fleet, check_parts=None)
    assert (await schedule(fleet, "main-check")).spec == CheckSpec()
    view = await maintain(fleet, check=None, prune=None)
    assert kinds(view) == {}
    assert (await fleet("GET", "schedules/main-check")).status == 404
    await maintain(fleet, check=None)


async def test_another_maintainer_takes_all_of_it_over(fleet: Api) -> None:
    await maintain(fleet, maintainer="db1", prune=WEEKLY, check=DAILY)
    view = await maintain(fleet, maintainer="web1")
    assert view.repo.maintainer == "web1"
    assert [[target.name for target in one.targets] for one in view.schedules] == [["web1"], ["web1"]]


async def test_verify_is_for_all_that_back_up_there(fleet: Api) -> None:
    assert "no host backs up" in await refused(fleet, verify="@weekly")
    await fleet.well("POST", "schedules", {**NIGHTLY, "all": False, "hosts": ["web1"]})
    view = await maintain(fleet, verify="@weekly")
    assert [target.name for target in view.schedules[0].targets] == ["web1"]
    assert view.warnings == ()
    await fleet.well("POST", "schedules", {**NIGHTLY, "name": "other", "all": False, "hosts": ["db1"]})
    view = msgspec.convert(await fleet.well("GET", "repos/main/maintenance"), MaintenanceView, strict=False)
    assert "db1 back up there and are not verified" in view.warnings[0]
    view = await maintain(fleet, verify="@weekly")
    assert [target.name for target in view.schedules[0].targets] == ["db1", "web1"]
    assert view.warnings == ()


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"prune": WEEKLY}, "has no maintainer yet"),
        ({"maintainer": "nobody", "prune": WEEKLY}, "nobody"),
        ({"maintainer": "db1", "prune": "every sunday"}, "every sunday"),
        ({"maintainer": "db1", "check_parts": 12}, "no check of main is planned"),
        ({"maintainer": "db1", "check": None, "check_parts": 12}, "reads no parts"),
        ({"maintainer": "db1", "check_parts": 0}, "check_parts"),
        ({"maintainer_url": "rest:http://localhost:8001/"}, "has no maintainer yet"),
        ({"maintainer": "db1", "maintainer_url": "sftp.command=x"}, "sftp.command"),
        ({"maintainer": "db1", "maintainer_env": {"LD_PRELOAD": "/x"}}, "LD_PRELOAD"),
        ({"maintainer": None}, "maintainer"),
        ({"maintainers": "db1"}, "maintainers"),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(fleet: Api, request_: Any, says: str) -> None:
    before = await repo(fleet)
    assert says in await refused(fleet, **request_)
    assert await repo(fleet) == before
    assert await fleet.well("GET", "schedules") == []


async def test_a_schedule_of_that_name_is_not_touched(fleet: Api) -> None:
    await fleet.well("POST", "schedules", {**NIGHTLY, "name": "main-prune"})
    assert "give it another name" in await refused(fleet, maintainer="db1", prune=WEEKLY)
    assert (await schedule(fleet, "main-prune")).kind is Kind.BACKUP
    assert (await repo(fleet)).maintainer is None


async def test_the_maintainers_way_there_is_its_own_and_sealed(fleet: Api) -> None:
    url = "rest:http://keeper:sesame-opens@localhost:8001/main/"
    view = await maintain(
        fleet, maintainer="db1", maintainer_url=url, maintainer_env={"RESTIC_CACERT": "/etc/ca-sesame.pem"}
    )
    assert view.repo.maintainer_url == "rest:http://localhost:8001/main/"
    assert view.repo.maintainer_env_names == ("RESTIC_CACERT", "RESTIC_REST_PASSWORD", "RESTIC_REST_USERNAME")
    assert "moved to the maintainer's sealed variables RESTIC_REST_PASSWORD and" in view.warnings[0]
    assert b"sesame" not in msgspec.json.encode(view)
    stored = b"".join(path.read_bytes() for path in fleet.services.store.path.parent.glob("server.db*"))
    assert b"sesame-opens" not in stored
    assert b"ca-sesame" not in stored
    # A new password in the URL; the rest of the variables stays.
    await maintain(fleet, maintainer_url="rest:http://keeper:other@localhost:8001/main/")
    assert await _env(fleet) == {
        "RESTIC_CACERT": "/etc/ca-sesame.pem",
        "RESTIC_REST_USERNAME": "keeper",
        "RESTIC_REST_PASSWORD": "other",
    }
    clash = await refused(fleet, maintainer_url=url, maintainer_env={"RESTIC_REST_PASSWORD": "x"})
    assert "both give it" in clash
    assert "sesame" not in clash
    view = await maintain(fleet, maintainer_url=None, maintainer_env={})
    assert (view.repo.maintainer_url, view.repo.maintainer_env_names, view.repo.maintainer) == (None, (), "db1")
    assert await _env(fleet) is None


async def _env(fleet: Api) -> dict[str, str] | None:
    def question(tx: Any) -> dict[str, str] | None:
        row = repos.resolve(tx, "main")
        sealed = tx.execute(
            select(secrets.c.sealed).where(
                secrets.c.owner_id == row.id, secrets.c.purpose == repo_secrets.MAINTAINER_ENV
            )
        ).scalar()
        if sealed is None:
            return None
        return msgspec.json.decode(SEALER.unseal(row.id, repo_secrets.MAINTAINER_ENV, sealed), type=dict[str, str])

    return await fleet.services.store.read(question)


async def test_a_removed_maintainer_maintains_nothing(fleet: Api) -> None:
    await maintain(fleet, maintainer="db1", prune=WEEKLY)
    await fleet.well("DELETE", "hosts/db1")
    assert (await repo(fleet)).maintainer is None


# -- repositories -----------------------------------------------------------------------------------------------------


async def test_a_repository_says_what_it_may(fleet: Api) -> None:
    request = {
        "name": "second",
        "url": "/srv/second",
        "append_only": True,
        "max_parallel": 2,
        "chunker_from": "main",
    }
    added = await fleet.well("POST", "repos", request)
    assert (added["append_only"], added["max_parallel"], added["chunker_from"]) == (True, 2, "main")
    shown = await repo(fleet, "second")
    assert (shown.append_only, shown.max_parallel, shown.chunker_from) == (True, 2, "main")
    edited = await fleet.well("PATCH", "repos/second", {"append_only": False, "max_parallel": 9})
    assert (edited["append_only"], edited["max_parallel"]) == (False, 9)
    assert await fleet.well("PATCH", "repos/second", {}) == edited
    for wrong in ({"max_parallel": 0}, {"max_parallel": "many"}, {"url": "/elsewhere"}):
        assert (await fleet("PATCH", "repos/second", wrong)).status == 400
    assert (await fleet("PATCH", "repos/third", {})).status == 404
    missing = await fleet("POST", "repos", {**request, "name": "third", "chunker_from": "nowhere"})
    assert (missing.status, "nowhere" in missing.message) == (404, True)
    assert (await fleet("GET", "repos/third")).status == 404


async def test_a_repository_says_what_is_known_of_it(fleet: Api) -> None:
    store = fleet.services.store

    def fill(tx: Any) -> None:
        host, row = hosts.resolve(tx, "web1"), repos.resolve(tx, "main")
        where: dict[str, Any] = {"host_id": host.id, "repo_id": row.id}
        take(tx, [snap(1), snap(2)], sent=at(5), **where)
        sizes.note(
            tx, ended(tx, StatsSpec(), result=RepoStats(mode="raw-data", size=7, snapshots=2), **where), now=at(9)
        )
        ended(tx, CheckSpec(), result=CheckStats(), finished=at(10), **where)
        ended(tx, CheckSpec(), status=Status.CANCELLED, finished=at(11), **where)
        for removed in (2, 0, 3):
            ended(tx, UnlockSpec(), result=UnlockStats(removed=removed), **where)
        snapshots.note_changed(tx, row.id, at(20))

    await store.write(fill)
    view = await repo(fleet)
    assert (view.snapshots, view.listed_at, view.list_stale) == (2, at(5), True)
    assert (view.size, view.measured_at) == (7, at(9))
    assert (view.checked_at, view.check_status) == (at(10), Status.SUCCEEDED)
    assert view.locks_removed == 5
    assert view.warnings == ()
    assert (await fleet.well("GET", "repos"))[0] == await fleet.well("GET", "repos/main")
    found = msgspec.convert(await fleet.well("GET", "repos/main/sizes"), list[SizeView], strict=False)
    assert found == [SizeView(at=at(9), size=7, uncompressed=None, snapshots=2)]
    assert (await fleet("GET", "repos/main/sizes?limit=0")).status == 400


async def test_many_repositories_take_few_questions(fleet: Api) -> None:
    """A list of many takes as many questions as one of few."""
    counted: list[int] = []

    def ask(tx: Any) -> int:
        asked: list[str] = []

        def note(conn: Any, cursor: Any, statement: str, *rest: Any) -> None:
            asked.append(statement)

        sqlalchemy.event.listen(tx, "before_cursor_execute", note)
        views(tx, repos.all_repos(tx), now=START)
        sqlalchemy.event.remove(tx, "before_cursor_execute", note)
        return len(asked)

    for name in ("r2", "r3"):
        await fleet.well("POST", "repos", {"name": name, "url": f"/srv/{name}"})
    counted.append(await fleet.services.store.read(ask))
    for number in range(30):
        await fleet.well("POST", "repos", {"name": f"more{number}", "url": f"/srv/more{number}"})
    counted.append(await fleet.services.store.read(ask))
    assert counted[0] == counted[1]


# -- what is wrong ----------------------------------------------------------------------------------------------------


async def problems(fleet: Api) -> list[str]:
    found: list[str] = (await fleet.well("GET", "status"))["problems"]
    return found


async def test_damage_is_the_worst_there_is(fleet: Api) -> None:
    def damage(tx: Any) -> None:
        host, row = hosts.resolve(tx, "web1"), repos.resolve(tx, "main")
        error = Failure(code="repo_damaged", message="2 damaged packs: 3 files in 1 snapshots need them")
        where: dict[str, Any] = {"host_id": host.id, "repo_id": row.id}
        ended(tx, CheckSpec(), status=Status.FAILED, error=error, finished=at(10), **where)

    await fleet.services.store.write(damage)
    assert "repository main is damaged, as its check of 2026-03-01 12:00 UTC found" in (await problems(fleet))[0]
    assert "3 files in 1 snapshots" in (await repo(fleet)).warnings[0]
    await fleet.services.store.write(
        lambda tx: ended(tx, CheckSpec(), host_id=hosts.resolve(tx, "web1").id, repo_id=repos.resolve(tx, "main").id)
    )
    assert not [one for one in await problems(fleet) if "damaged" in one]


async def test_retention_that_nobody_applies_is_told(fleet: Api) -> None:
    await fleet.well("POST", "schedules", {**NIGHTLY, "retention": {"daily": 7}})
    assert not [one for one in await problems(fleet) if "maintainer" in one]
    assert "nothing prunes repository main" in (await repo(fleet)).warnings[0]
    await fleet.well("PATCH", "repos/main", {"append_only": True})
    assert [one for one in await problems(fleet) if "append-only and has no maintainer" in one]
    view = await schedule(fleet, "nightly")
    assert [one for one in view.warnings if "append-only" in one]
    assert view.keeps == "keeps one a day for the last 7 days with snapshots"
    await maintain(fleet, maintainer="db1", prune=WEEKLY)
    assert not [one for one in await problems(fleet) if "append-only" in one]
    assert (await repo(fleet)).warnings == ()


async def test_a_list_out_of_reach_is_told_after_a_day(fleet: Api) -> None:
    def fail(tx: Any) -> None:
        host, row = hosts.resolve(tx, "web1"), repos.resolve(tx, "main")
        where: dict[str, Any] = {"host_id": host.id, "repo_id": row.id}
        take(tx, [snap(1)], sent=at(-100_000), **where)
        snapshots.note_changed(tx, row.id, at(-90_000))
        error = Failure(code="password", message="the password is wrong")
        ended(tx, SnapshotsSpec(), status=Status.FAILED, error=error, sent=at(-60), **where)

    await fleet.services.store.write(fail)
    (told,) = [one for one in await problems(fleet) if "could not be listed" in one]
    assert "main could not be listed for more than 24 h" in told
    assert "the password is wrong" in told
    assert (await repo(fleet)).warnings == (told,)
    await fleet.services.store.write(
        lambda tx: take(
            tx, [], sent=at(-10), host_id=hosts.resolve(tx, "web1").id, repo_id=repos.resolve(tx, "main").id
        )
    )
    assert not [one for one in await problems(fleet) if "could not be listed" in one]


# -- proofs -----------------------------------------------------------------------------------------------------------


async def test_a_host_says_when_it_was_last_proven(fleet: Api) -> None:
    def verified(runner: str, finished: float, name: object, **fields: Any) -> Any:
        def change(tx: Any) -> str:
            spec = fields.pop("spec", VerifySpec())
            result = VerifyStats(snapshot=snapshot_id(name), files=3)
            given: dict[str, Any] = {"result": result, "finished": at(finished)} | fields
            host_id, repo_id = hosts.resolve(tx, runner).id, repos.resolve(tx, "main").id
            return ended(tx, spec, host_id=host_id, repo_id=repo_id, **given).id

        return change

    async def proven() -> dict[str, Any]:
        return {one["name"]: one["proven_at"] for one in await fleet.well("GET", "hosts")}

    store = fleet.services.store
    assert await proven() == {"db1": None, "web1": None}
    await store.write(
        lambda tx: take(
            tx,
            [snap("of web1"), snap("of db1", hostname="db1")],
            host_id=hosts.resolve(tx, "web1").id,
            repo_id=repos.resolve(tx, "main").id,
        )
    )
    job = await store.write(verified("web1", 100, "of web1"))
    await store.write(verified("web1", 200, "of web1", status=Status.FAILED))
    view = await fleet.well("GET", "hosts/web1")
    assert (view["proven_at"], view["proven_job_id"]) == ("2026-03-01T12:01:40Z", job)
    # A snapshot of another host, which may be gone.
    await store.write(verified("web1", 300, "of db1"))
    assert await proven() == {"db1": "2026-03-01T12:05:00Z", "web1": "2026-03-01T12:01:40Z"}
    # A snapshot that is not listed (any more): what the order said, else who did it.
    await store.write(verified("web1", 400, "forgotten", spec=VerifySpec(restic_host="db1")))
    assert (await proven())["db1"] == "2026-03-01T12:06:40Z"
    await store.write(verified("db1", 500, "forgotten"))
    assert (await proven())["db1"] == "2026-03-01T12:08:20Z"
    (line,) = [one for one in (await fleet.well("GET", "status"))["hosts"] if one["name"] == "db1"]
    assert line["proven_at"] == "2026-03-01T12:08:20Z"


def test_the_kinds_of_maintenance_have_their_own_timings() -> None:
    """Each is a field of the request: what is told as maintenance can be asked for."""
    assert {kind.value for kind in repo_changes.MAINTENANCE} <= set(MaintenanceRequest.__struct_fields__)
