"""`token` and `audit`: how they look, what scripts get, and exit codes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from restic_manager.domain.roles import Role
from restic_manager.domain.tokens import operator_token
from restic_manager.protocol import api
from tests.cli.conftest import Command
from tests.cli.stub_server import Stream, StubServer

NOW = datetime.now(UTC)
TOKEN = operator_token(b"1" * 32)


def token(**changes: Any) -> api.TokenView:
    plain = api.TokenView(
        id="0a1b2c3d-0000-4000-8000-000000000001",
        name="ci",
        role=Role.VIEWER,
        created_at=NOW,
        created_by="root",
        expires_at=None,
        revoked_at=None,
        last_used_at=None,
        last_used_from=None,
    )
    return msgspec.structs.replace(plain, **changes)


def row(**changes: Any) -> api.AuditView:
    plain = api.AuditView(
        seq=7,
        at=datetime.now(UTC) - timedelta(days=5, minutes=5),
        who="ana",
        role=Role.ADMIN,
        origin="192.0.2.7",
        operation="host_label",
        object="host web1",
        object_id="x",
        before={"label a": "1"},
        after={"label a": "2"},
        outcome="done",
        message=None,
        previous="0" * 64,
        hash="f" * 64,
    )
    return msgspec.structs.replace(plain, **changes)


def test_a_token_is_printed_alone_on_standard_output(command: Command, server: StubServer) -> None:
    made = token(token=TOKEN, expires_at=NOW + timedelta(days=90, minutes=1))
    server.on("POST", "/v1/tokens", (201, made))
    ended = command("token", "create", "ci", "--role", "viewer", "--expires", "90d")
    assert (ended.code, ended.out) == (0, TOKEN + "\n")
    assert "shown this once; its role is viewer" in ended.err
    wanted = {"name": "ci", "role": "viewer", "hosts": [], "labels": {}, "seconds": 90 * 86_400}
    assert server.asked[-1].body == wanted
    assert command("token", "create", "ci", "--role", "viewer", "--json").json == msgspec.json.decode(
        msgspec.json.encode(made)
    )
    assert server.asked[-1].body["seconds"] is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--role", "root"], "--role root: one of viewer, operator, admin"),
        ([], "missing option '--role'"),
        (["--role", "viewer", "--expires", "long"], "--expires"),
        (["--role", "viewer", "--expires", "5s"], "--expires 5s: at least 1m"),
    ],
)
def test_what_is_no_token_is_said(command: Command, server: StubServer, words: list[str], says: str) -> None:
    ended = command("token", "create", "ci", *words)
    assert ended.code == 2
    assert says in ended.err
    assert server.asked == []


def test_tokens_are_listed_with_their_state(command: Command, server: StubServer) -> None:
    tokens = [
        token(),
        token(name="old", labels={"db": "1"}, expires_at=NOW - timedelta(days=1)),
        token(
            name="gone",
            hosts=("web1",),
            revoked_at=NOW,
            last_used_at=NOW - timedelta(hours=2),
            last_used_from="192.0.2.7",
        ),
    ]
    server.on("GET", "/v1/tokens", tokens)
    out = command("token", "list").out
    assert [line.split()[1:5] for line in out.splitlines()[1:]] == [
        ["ci", "viewer", "all", "good"],
        ["old", "viewer", "db=1", "expired"],
        ["gone", "viewer", "web1", "revoked"],
    ]
    assert "192.0.2.7" in out
    assert command("token", "list", "--json").json == msgspec.json.decode(msgspec.json.encode(tokens))


def test_a_token_is_revoked(command: Command, server: StubServer) -> None:
    server.on("DELETE", "/v1/tokens/ci", token(revoked_at=NOW))
    assert command("token", "revoke", "ci").out == "the token ci is revoked\n"


def test_the_audit_is_listed(command: Command, server: StubServer) -> None:
    server.on("GET", "/v1/audit?who=ana&limit=5", [row(), row(seq=6, outcome="not_permitted", before={}, after={})])
    ended = command("audit", "list", "--who", "ana", "--limit", "5")
    first, second = ended.out.splitlines()[1:]
    assert first.split() == ["7", "5", "d", "ago", "ana", "host_label", "host", "web1", "done", "label", "a"]
    assert "not_permitted" in second
    assert command("audit", "list", "--who", "ana", "--limit", "5", "--json").json[0]["after"] == {"label a": "2"}  # type: ignore[index]  # an array
    assert command("audit", "list", "--limit", "0").code == 2
    assert command("audit", "list", "--since", "yesterday").code == 2


@pytest.mark.parametrize(
    ("check", "code", "says"),
    [
        (
            api.AuditCheck(rows=9, first=1, last=9, hash="ab" * 32),
            0,
            "all 9 rows fit, 1 to 9; the hash of the last is ab",
        ),
        (api.AuditCheck(rows=0, first=None, last=None, hash=None), 0, "there are no rows yet"),
        (
            api.AuditCheck(rows=4, first=1, last=4, hash="x", broken=5, problem="it was changed"),
            1,
            "row 5 does not fit: it was changed; 4 rows before it do",
        ),
    ],
)
def test_a_broken_chain_is_exit_code_1(
    command: Command, server: StubServer, check: api.AuditCheck, code: int, says: str
) -> None:
    server.on("GET", "/v1/audit/verify", check)
    ended = command("audit", "verify")
    assert ended.code == code
    assert says in ended.out
    told = command("audit", "verify", "--json")
    assert (told.code, told.json) == (code, msgspec.to_builtins(check))


def test_an_export_is_byte_for_byte_what_the_server_says(command: Command, server: StubServer) -> None:
    lines = [msgspec.json.encode(row(seq=number)) for number in (1, 2)] + [
        b'{"seq":3,"of":"a later version","hash":"x"}'
    ]
    server.on("GET", "/v1/audit/export", lambda _: Stream().put(*(line + b"\n" for line in lines)).end())
    ended = command("audit", "export")
    assert (ended.code, ended.out.encode()) == (0, b"\n".join(lines) + b"\n")
    server.on("GET", "/v1/audit/export", lambda _: Stream().put(lines[0] + b"\n").cut())
    assert command("audit", "export").code == 5
