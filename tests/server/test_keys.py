"""A new key for everything sealed: while the server runs, cut off at any point, or kept elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
from sqlalchemy import Connection, select

from restic_manager.domain.errors import ConflictError, StorageError
from restic_manager.runtime.clock import SystemClock
from restic_manager.runtime.keyplace import choose_key
from restic_manager.secrets import Sealer, key_text, new_key, open_sealer, read_keys, write_keys
from restic_manager.server import keys as keeping
from restic_manager.server.backup import make_copy
from restic_manager.server.keys import Keys
from restic_manager.server.places import DATABASE, KEY_FILE
from restic_manager.server.restore import restore_copy
from restic_manager.server.store import repo_secrets, repos
from restic_manager.server.store.schema import secrets
from restic_manager.server.store.writer import Store, open_store
from tests.server.rows import START

T = TypeVar("T")
SECRETS = ("first-password", "second-password", "third-password")


def plainly(change: T) -> T:
    return change


@asynccontextmanager
async def opened(folder: Path, **choice: Any) -> AsyncIterator[tuple[Store, Keys, Sealer]]:
    """A server's store and key, as a start opens them."""
    folder.mkdir(exist_ok=True)
    with trio.fail_after(30):
        async with open_store(folder / DATABASE, clock=SystemClock(), threads=False) as store:
            keys = Keys(folder / KEY_FILE, choose_key({}, **{"file": None, "command": None, **choice}))
            yield store, keys, await keys.open(store)


async def fill(store: Store, sealer: Sealer) -> None:
    def change(tx: Connection) -> None:
        for number, password in enumerate(SECRETS):
            env = {"AWS_REGION": "eu"}
            repos.add(tx, name=f"repo-{number}", url="/srv/x", password=password, env=env, seal=sealer.seal, now=START)

    await store.write(change)


async def passwords(store: Store, unseal: Callable[[str, str, bytes], bytes]) -> list[str | None]:
    def question(tx: Connection) -> list[str | None]:
        return [repo_secrets.access(tx, one.id, unseal).password for one in repos.all_repos(tx)]

    return await store.read(question)


async def sealed(store: Store) -> list[bytes]:
    return list(await store.read(lambda tx: tx.execute(select(secrets.c.sealed)).scalars().all()))


async def test_everything_is_sealed_with_the_new_key_and_the_old_one_is_forgotten(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as (store, keys, sealer):
        await fill(store, sealer)
        (old,) = read_keys(tmp_path / "data" / KEY_FILE)
        assert await keys.rotate(store, plainly) == 2 * len(SECRETS)
        (new,) = read_keys(tmp_path / "data" / KEY_FILE)
        assert new != old
        assert await passwords(store, sealer.unseal) == list(SECRETS)
        assert await passwords(store, Sealer(new).unseal) == list(SECRETS)
        for value in await sealed(store):
            assert Sealer(new).is_newest(value)
        with pytest.raises(StorageError):
            await passwords(store, Sealer(old).unseal)
    async with opened(tmp_path / "data") as (store, keys, sealer):
        assert await passwords(store, sealer.unseal) == list(SECRETS)
        assert sealer.keys == 1
        assert await keys.rotate(store, plainly) == 2 * len(SECRETS)


class _CutError(Exception):
    """The process is gone here."""


@pytest.mark.parametrize("at", ["before the file", "after the file", "in the transaction", "before the file's end"])
async def test_a_crash_at_any_point_loses_nothing(tmp_path: Path, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    async with opened(data) as (store, keys, sealer):
        await fill(store, sealer)
        before = read_keys(data / KEY_FILE)
        written: list[list[bytes]] = []

        def write(path: Path, given: list[bytes]) -> None:
            if at == "before the file" or (at == "before the file's end" and written):
                raise _CutError
            write_keys(path, given)
            written.append(given)
            if at == "after the file":
                raise _CutError

        def within(change: Any) -> Any:
            def cut(tx: Connection) -> int:
                change(tx)
                raise _CutError

            return cut if at == "in the transaction" else change

        monkeypatch.setattr(keeping, "write_keys", write)
        with pytest.raises(_CutError):
            await keys.rotate(store, within)
        monkeypatch.undo()
    async with opened(data) as (store, keys, sealer):
        assert await passwords(store, sealer.unseal) == list(SECRETS)
        (now,) = read_keys(data / KEY_FILE)
        assert (now == before[0]) is (at == "before the file")
        for value in await sealed(store):
            assert Sealer(now).is_newest(value)
        await keys.rotate(store, plainly)
        assert await passwords(store, sealer.unseal) == list(SECRETS)


async def test_a_change_that_failed_is_finished_by_the_next(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as (store, keys, sealer):
        await fill(store, sealer)

        def full(_: Any) -> Any:
            def fail(_tx: Connection) -> int:
                raise StorageError("the disk is full")

            return fail

        for _ in range(12):  # more than a key file may hold
            with pytest.raises(StorageError, match="full"):
                await keys.rotate(store, full)
            assert len(read_keys(tmp_path / "data" / KEY_FILE)) == 2
            assert await passwords(store, sealer.unseal) == list(SECRETS)
        await keys.rotate(store, plainly)
        assert len(read_keys(tmp_path / "data" / KEY_FILE)) == 1


async def test_a_key_that_is_kept_elsewhere_is_changed_there(tmp_path: Path) -> None:
    data, theirs = tmp_path / "data", tmp_path / "key"
    first, second = new_key(), new_key()
    write_keys(theirs, [first])
    async with opened(data, file=str(theirs)) as (store, keys, sealer):
        await fill(store, sealer)
        with pytest.raises(ConflictError, match=r"make-key.*first line, above the old one"):
            await keys.rotate(store, plainly)
    assert not (data / KEY_FILE).exists()
    write_keys(theirs, [second, first])
    async with opened(data, file=str(theirs)) as (store, _, sealer):
        assert await passwords(store, Sealer(second).unseal) == list(SECRETS)
    assert len(read_keys(theirs)) == 2, "what is not ours is not written to"
    write_keys(theirs, [second])
    async with opened(data, file=str(theirs)) as (store, _, sealer):
        assert await passwords(store, sealer.unseal) == list(SECRETS)
    write_keys(theirs, [new_key()])
    async with open_store(data / DATABASE, clock=SystemClock(), threads=False) as store:
        with pytest.raises(StorageError, match="not the one this database was sealed with"):
            await Keys(data / KEY_FILE, choose_key({}, file=str(theirs), command=None)).open(store)


async def test_a_copy_of_a_server_whose_key_is_elsewhere_does_not_hold_it(tmp_path: Path) -> None:
    data, theirs, copy = tmp_path / "data", tmp_path / "key", tmp_path / "copy.tar"
    key = new_key()
    write_keys(theirs, [key])
    choice = choose_key({}, file=str(theirs), command=None)
    async with opened(data, file=str(theirs)) as (store, _, sealer):
        await fill(store, sealer)
        manifest = make_copy(data, copy, force=False, now=START, key=choice)
    assert KEY_FILE not in manifest.files
    assert key_text(key).encode() not in copy.read_bytes()
    with pytest.raises(StorageError, match="does not hold the key"):
        restore_copy(copy, tmp_path / "new", force=False, now=START)
    restore_copy(copy, tmp_path / "new", force=False, now=START, key=choice)
    async with opened(tmp_path / "new", file=str(theirs)) as (store, _, sealer):
        assert await passwords(store, sealer.unseal) == list(SECRETS)


async def test_values_of_the_first_release_are_sealed_anew_at_a_start(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with opened(data) as (store, _, sealer):
        await fill(store, sealer)
        old = {value: b"\x01" + value[5:] for value in await sealed(store)}

        def age(tx: Connection) -> None:
            for value, nameless in old.items():
                tx.execute(secrets.update().where(secrets.c.sealed == value).values(sealed=nameless))

        await store.write(age)
        assert await passwords(store, sealer.unseal) == list(SECRETS)
    async with opened(data) as (store, _, sealer):
        assert all(sealer.is_newest(value) for value in await sealed(store))
        assert open_sealer(data / KEY_FILE, create=False).keys == 1
