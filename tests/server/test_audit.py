"""The audit: a row with every change and every refusal, a chain that shows what was done to it, and no secret in it."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from sqlalchemy import Connection
from trio.testing import MockClock

from restic_manager.domain.errors import StorageError
from restic_manager.domain.roles import Role
from restic_manager.protocol.announcing import base32, fingerprint_of
from restic_manager.protocol.api import AuditCheck, AuditView
from restic_manager.protocol.messages import Announce
from restic_manager.runtime.logs import set_up_logging
from restic_manager.runtime.redact import Redactor
from restic_manager.runtime.signing import public_key
from restic_manager.server.api.app import operations
from restic_manager.server.store import audit, engine, history, hosts, migrations, pending, schema
from restic_manager.server.store.audit import FIRST, Entry, Walk
from tests.server.test_operator_access import Door, open_door
from tests.server.world import World

NOW = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
BACKUP = {"kind": "backup", "paths": ["/etc"]}
NIGHTLY = {"name": "nightly", "cron": "30 2 * * *", "repo": "main", "spec": BACKUP, "hosts": ["web1"]}


async def changes(door: Door, since: int) -> list[AuditView]:
    return await door.world.read(lambda tx: audit.after(tx, since, limit=1_000))


async def machine_waits(world: World, name: str) -> str:
    """Let a machine wait for approval; return its fingerprint."""
    key = public_key(name.ljust(32).encode())
    fingerprint = fingerprint_of(key)
    said = Announce(
        protocol=1,
        agent_version="0.1.0",
        public_key=base32(key),
        credential_sha256=hashlib.sha256(name.encode()).hexdigest(),
        name=name,
        os="Linux",
        signature="a" * 103,
    )
    now = world.now()
    await world.write(
        lambda tx: pending.announce(
            tx, said, fingerprint=fingerprint, address="192.0.2.9", network="192.0.2.9", now=now
        )
    )
    return fingerprint


# -- what is written ---------------------------------------------------------------------------------------------------


async def test_every_change_has_one_row_with_what_was_before_and_after(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """A day of an admin: each operation that changes something, done once, and its row looked at."""
    done: set[str] = set()
    async with open_door(tmp_path, tls=True) as door:
        seq = 0

        async def act(name: str, method: str, path: str, body: Any = None, *, status: int = 200) -> AuditView:
            nonlocal seq
            answer = await door("admin", method, f"/v1/{path}", body)
            assert answer.status == status, answer.body
            (row,) = await changes(door, seq)
            seq = row.seq
            assert (row.operation, row.who, row.role, row.origin) == (name, "admin", Role.ADMIN, "192.0.2.7")
            assert (row.outcome, row.message) == ("done", None)
            done.add(name)
            return row

        row = await act("host_invite", "POST", "hosts/invite", {"name": "web1", "labels": {"a": "1"}}, status=201)
        assert row.object == "host web1"
        assert row.before == {}
        assert {"name": "web1", "label a": "1"}.items() <= row.after.items()
        host_id = row.object_id
        row = await act("host_label", "POST", "hosts/web1/labels", {"set": {"a": "2"}})
        assert (row.before, row.after, row.object_id) == ({"label a": "1"}, {"label a": "2"}, host_id)
        row = await act("host_rename", "POST", "hosts/web1/rename", {"name": "www"})
        assert (row.before, row.after, row.object_id) == ({"name": "web1"}, {"name": "www"}, host_id)
        await act("host_rename", "POST", "hosts/www/rename", {"name": "web1"})
        repo = {"name": "main", "url": "rest:http://u:geheim99@nas:8000/", "password": "hunter2-password"}
        row = await act("repo_add", "POST", "repos", repo, status=201)
        assert row.after["url"] == "rest:http://nas:8000/"
        assert {"repo-password set", "repo-env set"} <= row.after.keys()
        secrets = {"password": "another-secret", "env_from": {"AWS_REGION": "agent-env:R"}}
        row = await act("repo_set_secret", "POST", "repos/main/secrets", secrets)
        assert (row.before["env_from"], row.after["env_from"]) == ("{}", '{"AWS_REGION":"agent-env:R"}')
        assert "another-secret" not in repr(row)
        row = await act("repo_edit", "PATCH", "repos/main", {"append_only": True})
        assert (row.before, row.after) == ({"append_only": "false"}, {"append_only": "true"})
        row = await act("schedule_add", "POST", "schedules", NIGHTLY, status=201)
        assert (row.object, row.after["cron"]) == ("schedule nightly", "30 2 * * *")
        row = await act("schedule_edit", "PATCH", "schedules/nightly", {"cron": "0 3 * * *"})
        assert (row.before["cron"], row.after["cron"]) == ("30 2 * * *", "0 3 * * *")
        row = await act("schedule_run", "POST", "schedules/nightly/run", {}, status=201)
        assert row.after["jobs"].startswith("backup ")
        job_id = row.after["jobs"].split()[1]
        row = await act("job_cancel", "POST", f"jobs/{job_id}/cancel")
        assert (row.before["status"], row.after["status"], row.object_id) == ("queued", "cancelled", job_id)
        row = await act("repo_maintain", "POST", "repos/main/maintenance", {"maintainer": "web1", "prune": "0 4 * * 0"})
        assert row.after["prune by"] == "schedule main-prune, 0 4 * * 0"
        assert row.after["maintainer_id"] == host_id
        row = await act("pause", "POST", "pause", {"reason": "storm"}, status=201)
        assert (row.object, row.before, row.after["pause_reason"]) == ("the fleet", {}, "storm")
        row = await act("resume", "POST", "resume")
        assert (row.before["pause_reason"], row.after) == ("storm", {})
        for what, ref in (("host", "web1"), ("schedule", "nightly")):
            row = await act(f"{what}_pause", "POST", f"{what}s/{ref}/pause", {"reason": "x"}, status=201)
            assert row.after["pause_reason"] == "x"
            row = await act(f"{what}_resume", "POST", f"{what}s/{ref}/resume")
            assert row.before["pause_reason"] == "x"
        wish = {"repo": "main", "host": "web1", "spec": BACKUP}
        row = await act("job_ask", "POST", "jobs", wish, status=201)
        assert row.object == "repository main"
        assert row.after["jobs"].startswith("backup ")
        await act("schedule_remove", "DELETE", "schedules/main-prune")
        await act("schedule_edit", "PATCH", "schedules/nightly", {"retention": {"last": 3}})
        row = await act("schedule_forget_preview", "POST", "schedules/nightly/forget-preview", {}, status=201)
        assert row.after["jobs"].startswith("forget ")
        row = await act("schedule_remove", "DELETE", "schedules/nightly")
        assert "removed_at" in row.after
        row = await act(
            "repo_add", "POST", "repos", {"name": "spare", "url": "/srv/s", "password": "pw-pw-pw"}, status=201
        )
        row = await act("repo_init", "POST", "repos/spare/init", {"host": "web1"}, status=201)
        assert row.after["jobs"].startswith("init ")
        digest, now = "ab" * 32, door.world.now()
        await door.world.write(lambda tx: hosts.join(tx, hosts.resolve(tx, "web1"), digest, now=now))
        row = await act("host_rotate", "POST", "hosts/web1/rotate")
        assert (row.before, list(row.after)) == ({}, ["rotation_asked_at"])
        row = await act("host_revoke", "POST", "hosts/web1/revoke")
        assert {"credential_at", "rotation_asked_at"} <= row.before.keys()
        assert list(row.after) == ["revoked_at"]
        assert digest not in str(row)
        for verdict in ("approve", "reject"):
            fingerprint = await machine_waits(door.world, verdict)
            body = {"name": "web7"} if verdict == "approve" else None
            path = f"pending/{fingerprint.upper()}/{verdict}"
            row = await act(f"pending_{verdict}", "POST", path, body, status=201 if verdict == "approve" else 200)
            assert (row.object, row.object_id) == (f"machine {fingerprint}", fingerprint)
            assert (row.after.get("host"), "rejected_at" in row.after) in {("web7", False), (None, True)}
        row = await act("host_remove", "DELETE", "hosts/web1")
        assert (row.before.get("removed_at"), "removed_at" in row.after) == (None, True)
        await act("repo_remove", "DELETE", "repos/spare")
        row = await act("token_create", "POST", "tokens", {"name": "ci", "role": "viewer"}, status=201)
        assert (row.object, row.after["role"]) == ("token ci", "viewer")
        row = await act("token_revoke", "DELETE", "tokens/ci")
        assert "revoked_at" in row.after
        autojump_clock.autojump_threshold = math.inf  # it is made in a thread, for which virtual time does not wait
        row = await act("certificate_rotate", "POST", "server/certificate/rotate", {"overlap": 3_600})
        assert (row.object, row.before, list(row.after)) == ("the certificate", {}, ["next_pin"])
        row = await act("key_rotate", "POST", "server/key/rotate")
        assert (row.object, row.before, row.after) == ("the key", {}, {})
        check = (await door("admin", "GET", "/v1/audit/verify")).json
        assert (check["rows"], check["last"], check["broken"]) == (seq, seq, None)
    assert done == {one.name for one in operations() if one.method != "GET"}


async def test_a_change_that_fails_has_a_row_and_a_question_has_none(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_door(tmp_path) as door:
        assert (await door("admin", "GET", "/v1/hosts/none-such")).status == 404
        assert await changes(door, 0) == []
        assert (await door("socket", "POST", "/v1/hosts/none-such/rename", {"name": "x"})).status == 404
        assert (await door("admin", "POST", "/v1/hosts/invite", {"name": "-"})).status == 400
        assert (await door("viewer", "POST", "/v1/hosts/invite", {"name": "mine"})).status == 403
        rows = await changes(door, 0)
        assert [(row.who, row.operation, row.object, row.outcome) for row in rows] == [
            ("tester", "host_rename", "host none-such", "not_found"),
            ("admin", "host_invite", "host -", "invalid_input"),
            ("viewer", "host_invite", "host", "not_permitted"),
        ]
        assert all(row.message for row in rows)


async def test_a_row_that_cannot_be_written_undoes_the_change(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_door(tmp_path) as door:

        def fails(*args: Any, **named: Any) -> None:
            raise StorageError("the disk is full", code="storage_full")

        monkeypatch.setattr(audit, "record", fails)
        assert (await door("admin", "POST", "/v1/hosts/invite", {"name": "web1"})).status == 507
        monkeypatch.undo()
        assert (await door("admin", "GET", "/v1/hosts")).json == []


async def test_rows_are_listed_by_time_and_by_who(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_door(tmp_path) as door:
        for who in ("admin", "socket"):
            await door(who, "POST", "/v1/hosts/invite", {"name": f"of-{who}"})
            await trio.sleep(60)
        since = door.world.now()
        await door("admin", "POST", "/v1/hosts/invite", {"name": "late"})

        async def asked(query: str) -> list[Any]:
            return [row["object"] for row in (await door("admin", "GET", f"/v1/audit?{query}")).json]

        assert await asked("") == ["host late", "host of-socket", "host of-admin"]
        assert await asked("who=tester") == ["host of-socket"]
        assert await asked("limit=1") == ["host late"]
        assert await asked(f"since={since:%Y-%m-%dT%H:%M:%SZ}") == ["host late"]
        assert (await door("admin", "GET", "/v1/audit?limit=0")).status == 400


# -- the chain ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def tx(tmp_path: Path) -> Any:
    with engine.writing_engine(tmp_path / "server.db").connect() as connection:
        migrations.bring_up(connection, tmp_path / "server.db", now=NOW)
        with connection.begin():
            yield connection


def put(tx: Connection, number: int, *, at: datetime = NOW) -> None:
    for each in range(number):
        entry = Entry(
            who="ana",
            role=Role.ADMIN,
            origin="socket",
            operation="host_label",
            object=f"host h{each}",
            before={"same": "x", "a": "1"},
            after={"same": "x", "a": "2", "b": "ü"},
        )
        audit.record(tx, entry, now=at + timedelta(seconds=each))


def verified(tx: Connection, *, at_once: int = 3) -> AuditCheck:
    done = Walk()
    while True:
        begun, done = done, audit.walk(tx, done, limit=at_once)
        if done.broken is not None or done.seq == begun.seq:
            return done.check


def test_a_whole_chain_fits_and_anybody_can_check_it(tx: Connection) -> None:
    assert verified(tx) == AuditCheck(rows=0, first=None, last=None, hash=None)
    put(tx, 10)
    check = verified(tx)
    assert (check.rows, check.first, check.last, check.broken) == (10, 1, 10, None)
    previous = FIRST
    for row in audit.after(tx, 0, limit=100):
        line = msgspec.json.encode(row).decode()
        body, _, told = line.rpartition(',"hash":"')
        assert hashlib.sha256((body + "}").encode()).hexdigest() == told[:64]
        assert json.loads(line)["previous"] == previous
        assert (row.before, row.after) == ({"a": "1"}, {"a": "2", "b": "ü"})
        previous = row.hash
    assert check.hash == previous


COLUMNS = [column.name for column in schema.audit.c if column.name != "seq"]


@pytest.mark.parametrize("column", COLUMNS)
def test_a_row_that_was_changed_is_found(tx: Connection, column: str) -> None:
    put(tx, 9)
    value: Any = {"at": NOW, "before": "{}", "after": "{}", "role": "viewer"}.get(column, "other")
    tx.execute(schema.audit.update().where(schema.audit.c.seq == 5).values({column: value}))
    check = verified(tx)
    assert check.broken == 5
    assert check.rows == 4
    assert check.problem


def test_a_row_written_anew_with_its_own_hash_is_found_at_the_next(tx: Connection) -> None:
    put(tx, 9)
    row = msgspec.structs.replace(audit.after(tx, 4, limit=1)[0], who="bob")
    change = {"who": "bob", "hash": audit.hash_of(row)}
    tx.execute(schema.audit.update().where(schema.audit.c.seq == 5).values(change))
    check = verified(tx)
    assert check.broken == 6
    assert "does not name the hash of the row before" in str(check.problem)


@pytest.mark.parametrize(("gone", "broken", "says"), [(5, 6, "rows 5 to 5 are missing"), (1, 2, "rows 1 to 1")])
def test_a_row_that_was_taken_out_is_found(tx: Connection, gone: int, broken: int, says: str) -> None:
    put(tx, 9)
    tx.execute(schema.audit.delete().where(schema.audit.c.seq == gone))
    check = verified(tx)
    assert check.broken == broken
    assert says in str(check.problem)


def test_old_rows_go_and_a_row_says_so(tx: Connection) -> None:
    put(tx, 20)
    now = NOW + timedelta(days=500)
    kept = audit.after(tx, 10, limit=1)[0]
    assert audit.forget(tx, before=NOW + timedelta(seconds=10), keep=1_000, limit=4, now=now) == 4
    assert audit.forget(tx, before=NOW + timedelta(seconds=10), keep=1_000, limit=100, now=now) == 6
    assert audit.forget(tx, before=NOW + timedelta(seconds=10), keep=1_000, limit=100, now=now) == 0
    check = verified(tx)
    assert (check.first, check.last, check.rows, check.broken) == (kept.seq, 22, 12, None)
    assert audit.latest(tx, limit=1)[0].after["seq"] == "10"
    assert audit.forget(tx, before=NOW, keep=5, limit=100, now=now) == 7
    assert verified(tx).broken is None
    put(tx, 3)
    assert verified(tx).broken is None
    tx.execute(schema.audit.delete().where(schema.audit.c.seq <= 19))
    assert "no row says that they were taken away" in str(verified(tx).problem)


def test_the_check_of_the_page_on_security_works(tx: Connection, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    script = page.split("```python\n")[1].split("```")[0]
    put(tx, 5)
    export = tmp_path / "audit.jsonl"

    def checked(content: bytes) -> int:
        export.write_bytes(content)
        argv = [sys.executable, "-c", script, str(export)]
        return subprocess.run(argv, check=False, capture_output=True, timeout=30).returncode

    whole = msgspec.json.Encoder().encode_lines(audit.after(tx, 0, limit=10))
    assert checked(whole) == 0
    assert checked(whole.replace(b'"h3"', b'"h4"').replace(b"host h3", b"host h4")) == 1
    lines = whole.splitlines(keepends=True)
    assert checked(b"".join(lines[:2] + lines[3:])) == 1
    assert f"{history.HISTORY.days} days, or beyond {history.AUDIT_MOST:,}" in page


def test_long_texts_are_cut(tx: Connection) -> None:
    audit.record(tx, Entry(who="w" * 9_999, role=None, origin="o", operation="x", message="m" * 9_999), now=NOW)
    (row,) = audit.latest(tx, limit=1)
    assert len(row.who) == len(row.message or "") == audit.LONGEST
    assert row.who.endswith("…")


# -- secrets -----------------------------------------------------------------------------------------------------------


async def test_planted_secrets_are_nowhere(tmp_path: Path, autojump_clock: MockClock, world_log: StringIO) -> None:
    """After a scenario that says each secret wherever it can be said, rightly and wrongly."""
    password, value, login, keeper = "pass-PLANTED-1", "value-PLANTED-2", "login-PLANTED-3", "keeper-PLANTED-4"
    async with open_door(tmp_path) as door:
        answers = [await door("admin", "POST", "/v1/hosts/invite", {"name": "web1"})]
        invite = answers.pop().json["token"]
        made = (await door("admin", "POST", "/v1/tokens", {"name": "ci", "role": "viewer"})).json["token"]
        repo = {
            "name": "main",
            "url": f"rest:http://user:{login}@nas:8000/x",
            "password": password,
            "env": {"AWS_SECRET_ACCESS_KEY": value},
        }
        maintain = {
            "maintainer": "web1",
            "prune": "0 4 * * 0",
            "maintainer_url": f"rest:http://user:{keeper}@nas:8000/x",
            "maintainer_env": {"AWS_SECRET_ACCESS_KEY": value},
        }
        for who in ("admin", "viewer", "nobody", made, made[:-1], "admin"):
            answers += [
                await door(who, "POST", "/v1/repos", repo),
                await door(who, "POST", "/v1/repos", {**repo, "colour": password}),
                await door(who, "POST", "/v1/repos", {**repo, "env": {value: 7}}),
                await door(who, "POST", "/v1/repos/main/maintenance", maintain),
                await door(who, "POST", "/v1/repos/gone/maintenance", maintain),
                await door(who, "PATCH", "/v1/repos/main", {"max_parallel": 2}),
            ]
        for path in ("audit", "audit/export", "tokens", "repos", "repos/main", "repos/main/maintenance", "status"):
            answers.append(await door("admin", "GET", f"/v1/{path}"))
        rows = str(await changes(door, 0))
        assert len(await changes(door, 0)) > 30
        texts = [answer.body.decode() for answer in answers]
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    for secret in (password, value, login, keeper, invite, made, *door.given.values()):
        assert secret not in rows
        assert secret.encode() not in files
        assert secret not in world_log.getvalue()
        told = [text for text in texts if secret in text]
        assert not told, (secret, told)


@pytest.fixture
def world_log() -> Any:
    """The program's own log at its most talkative, as text."""
    root, stream = logging.getLogger(), StringIO()
    before = list(root.handlers), root.level
    set_up_logging("debug", Redactor(), stream=stream)
    yield stream
    logging.captureWarnings(capture=False)
    logging.raiseExceptions = True
    root.handlers[:], root.level = before
