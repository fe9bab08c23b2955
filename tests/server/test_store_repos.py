"""Repositories: what is refused, where secrets go, and that they come out in one place only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from restic_manager.domain.errors import ConflictError, InputError, NotFoundError, StorageError
from restic_manager.domain.model import Actor, BackupSpec, RepoAccess, Status, new_id
from restic_manager.runtime.clock import SystemClock
from restic_manager.secrets import Sealer
from restic_manager.server.store import events, identity, job_rows, repos, schedule_changes, schedules, schema
from restic_manager.server.store.writer import Store, open_store
from tests.server.rows import SEALER, START, add_schedule, at, join


@pytest.fixture(params=[True, False], ids=["threads", "inline"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path / "server.db", clock=SystemClock(), threads=request.param) as opened:
        yield opened


async def add(store: Store, **fields: Any) -> repos.Added:
    given: dict[str, Any] = {
        "name": "main",
        "url": "/srv/backups",
        "password": "hunter2-password",
        "env": {},
        "seal": SEALER.seal,
        "now": START,
    }
    return await store.write(lambda tx: repos.add(tx, **{**given, **fields}))


async def test_secrets_come_back_only_in_the_access(store: Store) -> None:
    added = await add(store, url="s3:https://s3.example.org/bucket", env={"AWS_SECRET_ACCESS_KEY": "sesame-opens"})
    assert added.generated_password is None
    assert await store.read(lambda tx: repos.access(tx, added.repo.id, SEALER.unseal)) == RepoAccess(
        repo_id=added.repo.id,
        url="s3:https://s3.example.org/bucket",
        password="hunter2-password",
        env={"AWS_SECRET_ACCESS_KEY": "sesame-opens"},
    )
    assert added.repo.env_names == ("AWS_SECRET_ACCESS_KEY",)
    stored = b"".join(path.read_bytes() for path in store.path.parent.glob("server.db*"))
    assert b"s3.example.org" in stored
    assert b"hunter2-password" not in stored
    assert b"sesame-opens" not in stored
    told = repr(added) + repr(await store.read(lambda tx: events.latest(tx, limit=10)))
    assert "hunter2-password" not in told
    assert "sesame-opens" not in told


async def test_a_sealed_secret_does_not_open_for_another_repository(store: Store) -> None:
    first, second = (await add(store)).repo, (await add(store, name="other")).repo

    def swap(tx: Connection) -> None:
        tx.execute(schema.secrets.delete().where(schema.secrets.c.owner_id == second.id))
        tx.execute(schema.secrets.update().values(owner_id=second.id))

    await store.write(swap)
    with pytest.raises(StorageError):
        await store.read(lambda tx: repos.access(tx, second.id, SEALER.unseal))
    assert first.id != second.id


async def test_a_password_is_made_where_none_is_given(store: Store) -> None:
    one, two = await add(store, password=None), await add(store, name="two", password=None)
    assert one.generated_password is not None
    assert len(one.generated_password) == 43
    assert one.generated_password != two.generated_password
    access = await store.read(lambda tx: repos.access(tx, one.repo.id, SEALER.unseal))
    assert access.password == one.generated_password


@pytest.mark.parametrize(
    ("url", "plain", "env"),
    [
        (
            "rest:https://me:se%40same@host:8000/x/",
            "rest:https://host:8000/x/",
            {"RESTIC_REST_USERNAME": "me", "RESTIC_REST_PASSWORD": "se@same"},
        ),
        ("rest:http://me@host/", "rest:http://host/", {"RESTIC_REST_USERNAME": "me"}),
        ("rest:https://me:a@b@[::1]:8000/", "rest:https://[::1]:8000/", None),
        ("rest:https://host:8000/", "rest:https://host:8000/", {}),
        ("sftp:me@host:/srv", "sftp:me@host:/srv", {}),
    ],
)
async def test_credentials_in_a_url_are_sealed_and_told(
    store: Store, url: str, plain: str, env: dict[str, str] | None
) -> None:
    added = await add(store, url=url)
    assert added.repo.url == plain
    access = await store.read(lambda tx: repos.access(tx, added.repo.id, SEALER.unseal))
    if env is None:
        env = {"RESTIC_REST_USERNAME": "me", "RESTIC_REST_PASSWORD": "a@b"}
    assert access.env == env
    assert (added.note is None) == (not env)
    for name in env:
        assert name in (added.note or "")
        assert name in added.repo.env_names


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"name": "-x"}, "'-x'"),
        ({"name": "deadbeef"}, "deadbeef"),
        ({"url": "relative/path"}, "relative/path"),
        ({"url": ""}, "empty"),
        ({"url": "ftp:host"}, "ftp:host"),
        ({"url": "s3:https://me:sesame@host/bucket"}, "***"),
        ({"url": "rest:https://me:sesame@host/", "env": {"RESTIC_REST_PASSWORD": "x"}}, "RESTIC_REST_PASSWORD"),
        ({"env": {"LD_PRELOAD": "sesame"}}, "LD_PRELOAD"),
        ({"env": {"RESTIC_PASSWORD": "sesame"}}, "RESTIC_PASSWORD"),
        ({"env": {"AWS_SESSION_TOKEN": "sesame\0"}}, "AWS_SESSION_TOKEN"),
        ({"password": ""}, "empty"),
        ({"password": "sesame\0"}, "password"),
        ({"env": {"AWS_SESSION_TOKEN": "x" * (128 << 10)}}, "at most"),
    ],
)
async def test_what_cannot_be_used_is_named_and_stores_nothing(
    store: Store, fields: dict[str, Any], shown: str
) -> None:
    with pytest.raises(InputError) as caught:
        await add(store, **fields)
    assert shown in caught.value.message
    assert "sesame" not in caught.value.message
    assert await store.read(repos.all_repos) == []
    assert await store.read(lambda tx: tx.execute(schema.secrets.select()).all()) == []


async def test_a_name_is_taken_until_its_repository_is_removed(store: Store) -> None:
    first = (await add(store)).repo
    with pytest.raises(ConflictError, match="main"):
        await add(store)
    await store.write(lambda tx: repos.remove(tx, first, now=at(1)))
    with pytest.raises(NotFoundError, match="main"):
        await store.read(lambda tx: repos.resolve(tx, "main"))
    second = (await add(store)).repo
    assert second.id != first.id
    access = await store.read(lambda tx: repos.access(tx, first.id, SEALER.unseal))
    assert access.password == "hunter2-password", "the only copy there may be of it is kept"


async def test_what_is_in_use_is_not_removed(store: Store) -> None:
    repo = (await add(store)).repo
    host = await store.write(lambda tx: join(tx, "web1"))
    schedule = (await store.write(add_schedule)).schedule

    def use(tx: Connection) -> repos.RepoUse:
        return repos.uses(tx, repo.id)[repo.id]

    assert await store.read(use) == repos.RepoUse(("nightly",), ("web1",), None)
    with pytest.raises(ConflictError, match="nightly"):
        await store.write(lambda tx: repos.remove(tx, repo, now=at(1)))
    await store.write(lambda tx: schedule_changes.remove(tx, schedules.get(tx, schedule.id), now=at(2)))

    def queue(tx: Connection) -> str:
        return job_rows.insert(
            tx,
            job_id=new_id(),
            spec=BackupSpec(paths=("/etc",)),
            host_id=host.id,
            repo_id=repo.id,
            actor=Actor.OPERATOR,
            now=at(3),
        ).id

    job = await store.write(queue)
    assert await store.read(use) == repos.RepoUse((), (), at(3))
    with pytest.raises(ConflictError, match="1 unfinished"):
        await store.write(lambda tx: repos.remove(tx, repo, now=at(4)))
    finished = schema.jobs.update().where(schema.jobs.c.id == job).values(status=Status.SUCCEEDED.value)
    await store.write(lambda tx: tx.execute(finished).rowcount)
    await store.write(lambda tx: repos.remove(tx, repo, now=at(5)))
    assert await store.read(repos.all_repos) == []


async def test_what_uses_repositories_is_told_for_all_at_once(store: Store) -> None:
    for name in ("one", "two", "unused"):
        await add(store, name=name)
    await store.write(lambda tx: join(tx, "web1", tier="web"))
    await store.write(lambda tx: join(tx, "web2"))
    await store.write(lambda tx: add_schedule(tx, "a", repo="one", labels={"tier": "web"}))
    await store.write(lambda tx: add_schedule(tx, "b", repo="one"))
    await store.write(lambda tx: add_schedule(tx, "c", repo="two", hosts=("web2",)))
    names = {repo.id: repo.name for repo in await store.read(repos.all_repos)}
    assert {names[id_]: use for id_, use in (await store.read(repos.uses)).items()} == {
        "one": repos.RepoUse(("a", "b"), ("web1", "web2"), None),
        "two": repos.RepoUse(("c",), ("web2",), None),
    }


async def test_the_sealing_key_is_proven(store: Store) -> None:
    assert await store.read(identity.has_key) is False
    await store.write(lambda tx: identity.prove_key(tx, SEALER))
    assert await store.read(identity.has_key) is True
    await store.write(lambda tx: identity.prove_key(tx, SEALER))
    with pytest.raises(StorageError, match="belong together") as caught:
        await store.write(lambda tx: identity.prove_key(tx, Sealer(b"x" * 32)))
    assert caught.value.code == "storage_key"


async def test_a_new_epoch_is_on_record(store: Store) -> None:
    before = await store.read(identity.epoch)
    fresh = await store.write(lambda tx: identity.new_epoch(tx, now=at(1), reason="web1 was acked more than we hold"))
    assert fresh != before
    assert await store.read(identity.epoch) == fresh
    (event,) = await store.read(lambda tx: events.latest(tx, limit=10, what="new_epoch"))
    assert event.detail == "web1 was acked more than we hold"


async def test_events_are_found_and_forgotten_oldest_first(store: Store) -> None:
    for second in range(5):
        host_id, detail = str(second % 2), str(second)
        told = partial(events.record, now=at(second), actor="server", what="w", detail=detail, host_id=host_id)
        await store.write(told)

    async def latest(**fields: Any) -> list[str]:
        return [event.detail for event in await store.read(lambda tx: events.latest(tx, **fields))]

    assert await latest(limit=2) == ["4", "3"]
    assert await latest(limit=9, host_id="1") == ["3", "1"]
    assert await store.write(lambda tx: events.forget_before(tx, at(3), limit=2)) == 2
    assert await latest(limit=9) == ["4", "3", "2"]
    assert await store.write(lambda tx: events.forget_before(tx, at(3), limit=2)) == 1
