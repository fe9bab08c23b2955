"""Operators elsewhere, for real: a server process with a TCP door, tokens, clients that behave badly, and the socket's
group."""

from __future__ import annotations

import grp
import os
import re
import socket
import stat
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from restic_manager.client import Client, ServerAddress
from restic_manager.domain.errors import InputError, NotPermittedError, StorageError
from restic_manager.domain.roles import Role
from restic_manager.domain.tokens import operator_token
from restic_manager.protocol import api
from restic_manager.runtime import datadir
from restic_manager.server import operators
from restic_manager.server.operators import bind_socket, group_id
from tests.e2e.stage import Program, until
from tests.server.test_app import STOPS_WITHIN, Start, start  # noqa: F401 - the fixture


def ready(program: Program) -> tuple[Client, str]:
    """Wait until the server is there; return the socket's client and the URL of the TCP door."""
    line = r"operators' socket (\S+); operators' API (http://\S+); data in \S+\n"
    found = until("the server to be ready", lambda: re.search(line, program.said()) or program.process.poll())
    assert isinstance(found, re.Match), program.said()
    return Client(ServerAddress(path=Path(found[1]), origin="the test")), found[2]


def with_token(url: str, token: str | None) -> Client:
    address = ServerAddress.parse(url)
    return Client(ServerAddress(host=address.host, port=address.port, token=token))


def test_an_operator_elsewhere_is_who_its_token_says(start: Start, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    program = start("--api-listen", "127.0.0.1:0")
    local, url = ready(program)
    made = local.create_token(api.TokenRequest(name="ana", role=Role.OPERATOR))
    assert made.token is not None
    ana = with_token(url, made.token)
    who = ana.whoami()
    assert (who.name, who.role, who.origin) == ("ana", Role.OPERATOR, "127.0.0.1")
    assert ana.hosts() == []
    with pytest.raises(NotPermittedError, match="host_invite needs the role admin, and ana has the role operator"):
        ana.invite_host(api.InviteRequest(name="web1"))
    for token, code in ((None, "no_token"), (operator_token(bytes(32)), "unknown_token")):
        with pytest.raises(NotPermittedError) as caught:
            with_token(url, token).hosts()
        assert caught.value.code == code
    local.revoke_token("ana")
    with pytest.raises(NotPermittedError, match="was revoked"):
        ana.hosts()
    me = local.whoami()
    assert me.role is Role.ADMIN
    assert f"uid {os.geteuid()}, process {os.getpid()}" in me.origin
    rows = [(row.who, row.operation, row.outcome) for row in reversed(local.audit())]
    assert rows == [
        (me.name, "token_create", "done"),
        ("ana", "host_invite", "not_permitted"),
        ("nobody", "authenticate", "no_token"),
        ("nobody", "authenticate", "unknown_token"),
        (me.name, "token_revoke", "done"),
        ("nobody", "authenticate", "revoked_token"),
    ]
    assert local.audit_check().broken is None
    assert made.token not in program.said()
    assert len(list(local.audit_lines())) == len(rows)
    assert program.stop(seconds=STOPS_WITHIN) == 0
    assert "Traceback" not in program.said()


def test_strangers_cannot_fill_the_door_nor_touch_the_socket(start: Start, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    program = start("--api-listen", "127.0.0.1:0")
    local, url = ready(program)
    made = local.create_token(api.TokenRequest(name="ana", role=Role.VIEWER))
    address = ServerAddress.parse(url)
    with ExitStack() as open_ones:
        idle = [
            open_ones.enter_context(socket.create_connection((address.host, address.port)))
            for _ in range(operators.MAX_UNKNOWN_OF_NETWORK + 10)
        ]
        until("further ones to be refused", lambda: program.said().count("refused a connection from 127.0.0.1") >= 10)
        for refused in idle[operators.MAX_UNKNOWN_OF_NETWORK :]:
            refused.settimeout(5)
            assert refused.recv(1) == b""
        assert local.hosts() == []
        began = time.monotonic()
        for slow in idle[: operators.MAX_UNKNOWN_OF_NETWORK]:
            slow.settimeout(15)
            assert slow.recv(1) == b""  # it had 10 s to say something
        assert time.monotonic() - began < 14
    assert with_token(url, made.token).hosts() == []
    assert program.stop(seconds=STOPS_WITHIN) == 0
    assert "Traceback" not in program.said()


def test_a_body_without_a_token_is_not_read(start: Start, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    program = start("--api-listen", "127.0.0.1:0")
    _, url = ready(program)
    address = ServerAddress.parse(url)
    with socket.create_connection((address.host, address.port), timeout=5) as stream:
        stream.sendall(b"POST /v1/repos HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n{")
        assert stream.recv(100).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_in_clear_it_does_not_listen_beyond_this_machine(start: Start, address: str) -> None:  # noqa: F811 - the fixture
    program = start("--api-listen", address, "--tls", "off")
    assert program.ended(seconds=STOPS_WITHIN) == 2
    assert "can be reached from other machines, and tokens and secrets would go over the network in clear" in (
        program.said()
    )


def test_a_port_that_is_taken_names_the_option(start: Start, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        program = start("--api-listen", f"127.0.0.1:{taken.getsockname()[1]}")
        assert program.ended(seconds=STOPS_WITHIN) == 1
    assert "name another address with --api-listen" in program.said()


# -- the socket's group ------------------------------------------------------------------------------------------------


def own_group() -> str:
    return grp.getgrgid(os.getegid()).gr_name


def test_the_socket_is_opened_to_a_group(start: Start, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    program = start("--api-listen", "127.0.0.1:0", "--socket-group", own_group())
    local, _ = ready(program)
    data = tmp_path / "data"
    for name, mode in (("", 0o710), ("server.sock", 0o660), ("server.db", 0o600), ("server.key", 0o600)):
        found = (data / name).stat()
        assert stat.S_IMODE(found.st_mode) == mode, name
        assert name not in {"", "server.sock"} or found.st_gid == os.getegid()
    assert local.whoami().role is Role.ADMIN
    assert program.stop(seconds=STOPS_WITHIN) == 0
    again = start("--api-listen", "127.0.0.1:0")
    ready(again)
    assert stat.S_IMODE((data / "server.sock").stat().st_mode) == 0o600


def test_a_group_that_is_not_there_is_refused_before_anything_is_made(start: Start, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    program = start("--socket-group", "no-such-group-anywhere")
    assert program.ended(seconds=STOPS_WITHIN) == 2
    assert "there is no group 'no-such-group-anywhere' on this system" in program.said()
    assert not (tmp_path / "data").exists()
    with pytest.raises(InputError):
        group_id("a\0b")


def test_a_group_that_one_may_not_give_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuses)
    with pytest.raises(StorageError, match="has to own it and be a member of that group"):
        bind_socket(tmp_path / "s", group=1)


def test_a_run_folder_may_let_a_group_through_and_nobody_else(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    with tempfile.TemporaryDirectory() as short:
        environ = {"XDG_RUNTIME_DIR": short}
        place = datadir.make_socket_path(deep, environ).parent
        assert place.parent == Path(short)
        place.chmod(0o710)
        assert datadir.make_socket_path(deep, environ).parent == place
        place.chmod(0o711)
        with pytest.raises(StorageError):
            datadir.make_socket_path(deep, environ)
