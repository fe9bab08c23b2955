"""The server's own copy: whole, of one moment, private; put in place only when it is good, in a new epoch."""

from __future__ import annotations

import contextlib
import io
import os
import sqlite3
import stat
import tarfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import sqlalchemy

from restic_manager.domain.errors import ConflictError, InputError, ManagerError, StorageError
from restic_manager.runtime import datadir
from restic_manager.secrets import open_sealer
from restic_manager.server.backup import make_copy
from restic_manager.server.certificates import OwnCertificate
from restic_manager.server.places import CERTIFICATE, CERTIFICATES, DATABASE, KEY_FILE, NEXT_CERTIFICATE, RESTORING
from restic_manager.server.restore import refuse_what_is_lost, restore_copy
from restic_manager.server.store import engine, events, host_changes, identity, migrations, repos
from restic_manager.server.store.schema import events as event_rows

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def a_server(data: Path, *, hosts: int = 3) -> Path:
    """A data directory as a server leaves it, with a secret in it."""
    datadir.prepare(data)
    engine.make_private(data / DATABASE)
    with engine.writing_engine(data / DATABASE).connect() as connection:
        migrations.bring_up(connection, data / DATABASE, now=NOW)
        with connection.begin():
            sealer = open_sealer(data / KEY_FILE, create=True)
            identity.prove_key(connection, sealer)
            for number in range(hosts):
                host_changes.invite(connection, name=f"web{number}", labels={}, now=NOW, default_zone="UTC")
            repos.add(connection, name="main", url="/srv/r", password="the-password", env={}, seal=sealer.seal, now=NOW)
    return data


def epoch_and_events(data: Path) -> tuple[str, list[str]]:
    with engine.reading_engine(data / DATABASE).connect() as connection, connection.begin():
        return identity.epoch(connection), [event.what for event in events.latest(connection, limit=10)]


def content(data: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in data.iterdir() if path.is_file() and ".lock" not in path.name}


def test_there_and_back(tmp_path: Path) -> None:
    data = a_server(tmp_path / "old")
    made = make_copy(data, tmp_path / "copy.tar", force=False, now=NOW)
    assert (made.database.hosts, made.database.repos, made.database.jobs) == (3, 1, 0)
    assert stat.S_IMODE((tmp_path / "copy.tar").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.tar", "old"], "nothing else is left behind"
    with tarfile.open(tmp_path / "copy.tar") as archive:
        assert archive.getnames() == ["manifest.json", DATABASE, KEY_FILE]
    new = tmp_path / "new"
    done = restore_copy(tmp_path / "copy.tar", new, force=False, now=NOW + timedelta(days=1))
    assert done.aside == []
    assert done.database == made.database
    epoch, told = epoch_and_events(new)
    assert epoch == done.epoch != made.database.epoch
    assert told[:2] == ["new_epoch", "restored"]
    assert sorted(path.name for path in new.iterdir()) == [DATABASE, KEY_FILE, "server.lock"]
    for name in (DATABASE, KEY_FILE):
        assert stat.S_IMODE((new / name).stat().st_mode) == 0o600
    with engine.writing_engine(new / DATABASE).connect() as connection:
        migrations.bring_up(connection, new / DATABASE, now=NOW)
        with connection.begin():
            sealer = open_sealer(new / KEY_FILE, create=False)
            identity.prove_key(connection, sealer)
            repo = repos.resolve(connection, "main")
            assert repos.access(connection, repo.id, sealer.unseal).password == "the-password"


def test_the_certificate_hosts_know_goes_along_and_never_replaces_one(tmp_path: Path) -> None:
    data = a_server(tmp_path / "old")
    own = OwnCertificate(data, now=NOW)
    own.rotate(NOW, timedelta(days=30))
    make_copy(data, tmp_path / "copy.tar", force=False, now=NOW)
    new = tmp_path / "new"
    restore_copy(tmp_path / "copy.tar", new, force=False, now=NOW)
    assert OwnCertificate(new, now=NOW).pins_at(NOW) == own.pins_at(NOW)
    for path in CERTIFICATES:
        assert stat.S_IMODE((new / path).stat().st_mode) == 0o600
    # Hosts have moved on to another since the copy was made: what is there is what they know.
    own.finish(NOW)
    restore_copy(tmp_path / "copy.tar", data, force=True, now=NOW)
    assert OwnCertificate(data, now=NOW).pins_at(NOW) == own.pins_at(NOW)


def test_a_copy_taken_while_the_next_certificate_takes_its_place_is_the_next_one_twice(tmp_path: Path) -> None:
    own = OwnCertificate(tmp_path, now=NOW)
    own.rotate(NOW, timedelta(days=30))
    (tmp_path / CERTIFICATE).write_bytes((tmp_path / NEXT_CERTIFICATE).read_bytes())
    assert OwnCertificate(tmp_path, now=NOW).pins_at(NOW) == own.pins_at(NOW)[1:]


def test_a_copy_made_while_it_is_written_to_is_of_one_moment(tmp_path: Path) -> None:
    """Each transaction adds two events: a copy never has an odd number of them."""
    data = a_server(tmp_path / "data")
    stop = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        with engine.writing_engine(data / DATABASE).connect() as connection:
            while not stop.is_set():
                with connection.begin():
                    for half in ("a", "b"):
                        events.record(connection, now=NOW, actor="test", what="pair", detail=half)
                written += 2

    writer = threading.Thread(target=write)
    writer.start()
    counts = []
    try:
        for number in range(8):
            make_copy(data, tmp_path / f"{number}.tar", force=False, now=NOW)
            restore_copy(tmp_path / f"{number}.tar", tmp_path / f"back-{number}", force=False, now=NOW)
            with engine.reading_engine(tmp_path / f"back-{number}" / DATABASE).connect() as tx, tx.begin():
                query = sqlalchemy.select(sqlalchemy.func.count()).where(event_rows.c.what == "pair")
                counts.append(tx.execute(query).scalar_one())
    finally:
        stop.set()
        writer.join()
    assert all(count % 2 == 0 for count in counts)
    assert counts == sorted(counts)
    assert 0 < counts[-1] <= written


def test_what_is_there_is_replaced_only_when_asked(tmp_path: Path) -> None:
    data = a_server(tmp_path / "data")
    target = tmp_path / "copy.tar"
    target.write_bytes(b"something else")
    with pytest.raises(ConflictError, match="--force"):
        make_copy(data, target, force=False, now=NOW)
    assert target.read_bytes() == b"something else"
    make_copy(data, target, force=True, now=NOW)
    other = a_server(tmp_path / "other", hosts=1)
    before = content(other)
    with pytest.raises(ConflictError, match="--force"):
        restore_copy(target, other, force=False, now=NOW)
    assert content(other) == before
    done = restore_copy(target, other, force=True, now=NOW)
    kept = {Path(path).name: Path(path).read_bytes() for path in done.aside}
    assert kept[f"{DATABASE}.replaced-20260301T120000Z"] == before[DATABASE]
    assert kept[f"{KEY_FILE}.replaced-20260301T120000Z"] == before[KEY_FILE]
    refuse_what_is_lost(other)


def test_nobody_restores_under_a_running_server(tmp_path: Path) -> None:
    data = a_server(tmp_path / "data")
    make_copy(data, tmp_path / "copy.tar", force=False, now=NOW)
    before = content(data)
    with datadir.lock(data, "server"), pytest.raises(StorageError, match="another server runs"):
        restore_copy(tmp_path / "copy.tar", data, force=True, now=NOW)
    assert content(data) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_restores_is_the_servers_own(tmp_path: Path) -> None:
    make_copy(a_server(tmp_path / "old"), tmp_path / "copy.tar", force=False, now=NOW)
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    os.chown(data, 12_345, 54_321)
    restore_copy(tmp_path / "copy.tar", data, force=False, now=NOW)
    assert {(path.stat().st_uid, path.stat().st_gid) for path in data.iterdir()} == {(12_345, 54_321)}


def rewritten(source: Path, target: Path, **changed: bytes) -> Path:
    """Write a copy anew with other bytes for some of its files."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for entry in old.getmembers():
            file = old.extractfile(entry)
            assert file is not None
            data = changed.get(entry.name.replace(".", "_"), file.read())
            entry.size = len(data)
            new.addfile(entry, io.BytesIO(data))
    return target


@pytest.mark.parametrize("spoil", ["cut", "bits", "key", "manifest", "newer", "no_tar", "folder", "missing"])
def test_a_bad_copy_changes_nothing(tmp_path: Path, spoil: str) -> None:
    good = tmp_path / "good.tar"
    made = make_copy(a_server(tmp_path / "old"), good, force=False, now=NOW)
    bad = tmp_path / "bad.tar"
    raw = good.read_bytes()
    match spoil:
        case "cut":
            bad.write_bytes(raw[: len(raw) // 2])
        case "bits":
            at = raw.index(b"SQLite format 3") + 9_000
            bad.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        case "key":
            rewritten(good, bad, server_key=b"rmk1-" + b"A" * 43 + b"=\n")
        case "manifest":
            rewritten(good, bad, manifest_json=b"{")
        case "newer":
            rewritten(good, bad, manifest_json=msgspec.json.encode(msgspec.structs.replace(made, form=2)))
        case "no_tar":
            bad.write_bytes(b"this is no copy")
        case "folder":
            bad.mkdir()
        case _:
            pass
    data = a_server(tmp_path / "data", hosts=1)
    before = content(data)
    with pytest.raises(ManagerError) as caught:
        restore_copy(bad, data, force=True, now=NOW)
    assert str(bad) in caught.value.message
    assert content(data) == before
    assert not list(data.glob(".restoring*"))
    if spoil == "newer":
        assert caught.value.code == "storage_newer"


def test_a_copy_of_a_newer_database_is_refused(tmp_path: Path) -> None:
    data = a_server(tmp_path / "data")
    with sqlite3.connect(data / DATABASE) as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    db.close()
    with pytest.raises(StorageError) as caught:
        make_copy(data, tmp_path / "copy.tar", force=False, now=NOW)
    assert caught.value.code == "storage_newer"
    assert not (tmp_path / "copy.tar").exists()


@pytest.mark.parametrize("what", ["nothing", "no key", "a folder", "damaged"])
def test_what_cannot_be_copied_is_said(tmp_path: Path, what: str) -> None:
    data = tmp_path / "data"
    target = tmp_path / "copy.tar"
    if what != "nothing":
        a_server(data, hosts=200)
    if what == "no key":
        (data / KEY_FILE).unlink()
    if what == "a folder":
        target.mkdir()
    if what == "damaged":
        raw = bytearray((data / DATABASE).read_bytes())
        raw[20_480:24_576] = b"\xee" * 4_096
        (data / DATABASE).write_bytes(raw)
    with pytest.raises(InputError if what == "a folder" else StorageError):
        make_copy(data, target, force=False, now=NOW)
    assert not target.is_file()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_restore_that_was_cut_off_is_noticed_and_can_be_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = a_server(tmp_path / "data")
    make_copy(data, tmp_path / "copy.tar", force=False, now=NOW)
    place = Path.replace
    moves = 0

    class Cut(BaseException):
        pass

    def replace(self: Path, target: Path) -> Path:
        nonlocal moves
        moves += 1
        if moves == cut_at:
            raise Cut
        return place(self, target)

    for cut_at in range(1, 7):
        moves = 0
        monkeypatch.setattr(Path, "replace", replace)
        with contextlib.suppress(Cut):
            restore_copy(tmp_path / "copy.tar", data, force=True, now=NOW + timedelta(seconds=cut_at))
        monkeypatch.undo()
        if (data / RESTORING).exists():
            with pytest.raises(StorageError, match="cut off"):
                refuse_what_is_lost(data)
        done = restore_copy(tmp_path / "copy.tar", data, force=True, now=NOW + timedelta(minutes=cut_at))
        refuse_what_is_lost(data)
        assert epoch_and_events(data)[0] == done.epoch
    assert moves < 6, "every place where it can be cut was tried"


@pytest.mark.parametrize("how", ["gone", "empty"])
def test_a_server_without_its_database_does_not_begin_anew(tmp_path: Path, how: str) -> None:
    data = a_server(tmp_path / "data")
    refuse_what_is_lost(data)
    (data / DATABASE).unlink()
    if how == "empty":
        (data / DATABASE).touch()
    with pytest.raises(StorageError, match="server restore") as caught:
        refuse_what_is_lost(data)
    assert caught.value.code == "storage_lost"
    (data / KEY_FILE).unlink()
    refuse_what_is_lost(data)  # said so by a person: begin with nothing


def test_a_migration_keeps_the_database_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = a_server(tmp_path / "data")
    path = data / DATABASE
    newest = migrations.REVISIONS[-1]
    monkeypatch.setattr(migrations, "REVISIONS", (*migrations.REVISIONS, "9998"))

    def upgrade(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("UPDATE server SET epoch = 'half way'")
        raise RuntimeError("the migration fails")

    monkeypatch.setattr(migrations, "_upgrade", upgrade)
    before = epoch_and_events(data)
    for _ in range(2):  # the second finds the copy of the first
        with engine.writing_engine(path).connect() as connection, pytest.raises(RuntimeError, match="fails"):
            migrations.bring_up(connection, path, now=NOW)
    assert epoch_and_events(data) == before
    kept = data / f"{DATABASE}.before-9998"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    with sqlite3.connect(kept) as db:
        assert db.execute("SELECT version_num FROM alembic_version").fetchone() == (newest,)
        assert db.execute("SELECT COUNT(*) FROM hosts").fetchone() == (3,)
    db.close()
