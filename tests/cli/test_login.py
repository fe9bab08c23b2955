"""Servers elsewhere: login, contexts, and which server is asked with which token."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from restic_manager.client import Client, ServerAddress
from restic_manager.domain.errors import InputError, NotPermittedError
from restic_manager.domain.roles import Role
from restic_manager.domain.tokens import operator_token
from restic_manager.protocol import api
from tests.cli.conftest import Command
from tests.cli.stub_server import StubServer, serving_tcp

TOKEN, OTHER = operator_token(b"1" * 32), operator_token(b"2" * 32)
WHO = api.WhoView(name="ana", role=Role.OPERATOR, origin="127.0.0.1")


class Elsewhere:
    def __init__(self, stub: StubServer, port: int) -> None:
        self.stub, self.url = stub, f"http://127.0.0.1:{port}"
        self.name = f"127.0.0.1:{port}"
        stub.on("GET", "/v1/whoami", WHO)
        stub.on("GET", "/v1/hosts", [])

    @property
    def said(self) -> list[str | None]:
        return [asked.authorization for asked in self.stub.asked]


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    with serving_tcp() as (stub, port):
        yield Elsewhere(stub, port)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where contexts are; and no data directory is named, so that they count."""
    monkeypatch.delenv("RESTIC_MANAGER_DATA_DIR")
    return tmp_path / "config" / "restic-manager" / "contexts.json"


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return str(path)


def test_login_tries_the_token_and_keeps_it_for_this_user_alone(
    command: Command, elsewhere: Elsewhere, kept: Path, token_file: str
) -> None:
    ended = command("login", elsewhere.url, "--token-file", token_file)
    assert (ended.code, ended.out) == (
        0,
        f"ana (role operator) at {elsewhere.url}; commands ask it from now on (context {elsewhere.name})\n",
    )
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert command("host", "list").code == 0
    assert elsewhere.said == [f"Bearer {TOKEN}"] * 2
    assert TOKEN not in ended.out + ended.err
    assert [path.name for path in kept.parent.iterdir()] == ["contexts.json"]


def test_what_is_refused_is_not_kept(command: Command, elsewhere: Elsewhere, kept: Path, token_file: str) -> None:
    refusal = {"error": {"code": "revoked_token", "message": "the token ana was revoked"}}
    elsewhere.stub.on("GET", "/v1/whoami", (401, refusal))
    ended = command("login", elsewhere.url, "--token-file", token_file)
    assert (ended.code, ended.err) == (6, "error: the token ana was revoked\n")
    assert not kept.exists()


@pytest.mark.parametrize(
    ("token", "says"),
    [(TOKEN[:-1], "mistyped or not complete"), ("", "no operator's token"), ("rmi1-x", "a join token")],
)
def test_a_mistyped_token_is_told_before_anybody_is_asked(
    command: Command, elsewhere: Elsewhere, token_file: str, token: str, says: str
) -> None:
    Path(token_file).write_text(token)
    ended = command("login", elsewhere.url, "--token-file", token_file)
    assert ended.code == 6
    assert says in ended.err
    assert not token or token not in ended.err
    assert elsewhere.said == []


def test_the_token_comes_from_the_environment_or_standard_input(
    command: Command, elsewhere: Elsewhere, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TOKEN.encode() + b"\n")))
    assert command("login", elsewhere.url).code == 0
    monkeypatch.setenv("RESTIC_MANAGER_OPERATOR_TOKEN", OTHER)
    assert command("login", elsewhere.url, "--name", "second").code == 0
    assert elsewhere.said == [f"Bearer {TOKEN}", f"Bearer {OTHER}"]


def test_contexts_are_listed_used_and_removed(
    command: Command, elsewhere: Elsewhere, kept: Path, token_file: str
) -> None:
    for name in ("one", "two"):
        assert command("login", elsewhere.url, "--token-file", token_file, "--name", name).code == 0
    listed = command("context", "list", "--json")
    assert listed.json == [
        {"name": "one", "server": elsewhere.url, "current": False},
        {"name": "two", "server": elsewhere.url, "current": True},
    ]
    assert command("context", "use", "one").code == 0
    assert json.loads(kept.read_text())["current"] == "one"
    assert command("context", "use", "three").code == 4
    assert command("context", "remove", "one").code == 0
    assert json.loads(kept.read_text())["current"] is None
    assert list(json.loads(kept.read_text())["contexts"]) == ["two"]
    assert command("context", "use", "two").code == 0
    assert command("context", "use", "none").code == 0
    for words in (["list"], ["list", "--json"]):
        shown = command("context", *words)
        assert TOKEN not in shown.out + shown.err


def test_what_a_command_says_itself_goes_before_the_context(
    command: Command, elsewhere: Elsewhere, kept: Path, token_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("login", elsewhere.url, "--token-file", token_file)
    with serving_tcp() as (stub, port):
        stub.on("GET", "/v1/hosts", [])
        other = f"http://127.0.0.1:{port}"
        assert command("host", "list", "--server", other).code == 0
        monkeypatch.setenv("RESTIC_MANAGER_OPERATOR_TOKEN", OTHER)
        assert command("host", "list", "--server", other).code == 0
        # First nothing: the token that is kept is the other server's.
        assert [asked.authorization for asked in stub.asked] == [None, f"Bearer {OTHER}"]
        monkeypatch.delenv("RESTIC_MANAGER_OPERATOR_TOKEN")
    assert command("host", "list", "--server", elsewhere.url).code == 0
    assert elsewhere.said[-1] == f"Bearer {TOKEN}"
    monkeypatch.setenv("RESTIC_MANAGER_DATA_DIR", str(kept.parent))
    assert command("host", "list").code == 5  # this machine's socket, where nobody is


def test_a_file_that_others_can_read_is_refused(
    command: Command, elsewhere: Elsewhere, kept: Path, token_file: str
) -> None:
    command("login", elsewhere.url, "--token-file", token_file)
    kept.chmod(0o640)
    ended = command("host", "list")
    assert ended.code == 1
    assert f"chmod 600 {kept}" in ended.err
    kept.chmod(0o600)
    kept.write_text('{"current": "x", "token": "' + TOKEN)
    ended = command("host", "list")
    assert ended.code == 1
    assert "is damaged" in ended.err
    assert TOKEN not in ended.err


def test_a_token_is_never_sent_in_clear_to_another_machine() -> None:
    address = ServerAddress(host="192.0.2.1", port=8788, token=TOKEN)
    with pytest.raises(InputError, match="everybody on the way could read the token") as caught:
        Client(address).hosts()
    assert TOKEN not in caught.value.message + repr(address) + str(address)
    for host in ("127.0.0.1", "::1", "localhost"):
        assert not ServerAddress(host=host, port=1).in_clear
    assert not ServerAddress(host="192.0.2.1", port=1, secure=True).in_clear


def test_too_small_a_role_is_exit_code_6_with_the_role_that_is_needed(command: Command, server: StubServer) -> None:
    says = "host_remove needs the role admin, and ci has the role viewer: ask an admin, or use another token"
    server.on("DELETE", "/v1/hosts/web1", (403, {"error": {"code": "not_permitted", "message": says}}))
    ended = command("host", "remove", "web1", "--yes")
    assert (ended.code, ended.err) == (6, f"error: {says}\n")


@pytest.mark.parametrize("code", ["no_token", "unknown_token", "expired_token", "bad_token", "too_many_attempts"])
def test_whoever_is_not_let_in_gets_exit_code_6(command: Command, server: StubServer, code: str) -> None:
    status = 429 if code == "too_many_attempts" else 401
    server.on("GET", "/v1/hosts", (status, {"error": {"code": code, "message": "no"}}))
    assert command("host", "list").code == 6
    with pytest.raises(NotPermittedError):
        Client(ServerAddress.parse(str(server_path(server)))).hosts()


def server_path(server: StubServer) -> Path:
    import os

    del server
    return Path(os.environ["RESTIC_MANAGER_DATA_DIR"]) / "server.sock"


def test_a_wrong_address_is_said(command: Command, kept: Path) -> None:
    assert command("login", "/run/socket", "--token-file", "x").code == 2
    assert "agents dial in" in command("login", "wss://x", "--token-file", "x").err
    assert command("login", "http://127.0.0.1:1", "--name", "a b", "--token-file", "x").code == 2
