"""What operators and files give: names, URLs, paths, bodies, heads, connections. At the bound and past it."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from restic_manager import config
from restic_manager.agent import policy_file, resolving
from restic_manager.config import load_agent
from restic_manager.domain import cron_text, names
from restic_manager.domain.cron import CronError, check_expression
from restic_manager.domain.errors import ConflictError, InputError, NotPermittedError
from restic_manager.domain.model import RepoAccess, new_id
from restic_manager.domain.names import check_labels, check_name
from restic_manager.domain.specs import BackupSpec
from restic_manager.protocol import jointoken
from restic_manager.protocol.jointoken import make_token, parse_token, pin_of
from restic_manager.restic import checks, lines, spec_checks
from restic_manager.restic.checks import check_repo_url
from restic_manager.restic.lines import LineSplitter
from restic_manager.restic.spec_checks import check_path
from restic_manager.runtime import datadir
from restic_manager.server import asgi, operators, per_job
from restic_manager.server.api import operations
from restic_manager.server.api.app import build_api
from restic_manager.server.operators import serve_operators
from restic_manager.server.peers import Peer
from restic_manager.server.store import host_changes, hosts, repo_secrets, repos, schedule_checks
from tests.server.world import open_world
from tests.support.asgi import ask

Check = Callable[[int], object]


def spec_of(size: int) -> BackupSpec:
    """A backup whose JSON is so many bytes."""
    path = "/" + "x" * 4_000
    spec = BackupSpec(paths=(path,) * 60)
    missing = size - len(msgspec.json.encode(spec))
    patterns = tuple("y" * 4_000 for _ in range(missing // 4_003))
    spec = BackupSpec(paths=spec.paths, excludes=patterns)
    rest = size - len(msgspec.json.encode(spec))
    return BackupSpec(paths=spec.paths, excludes=(*patterns[:-1], patterns[-1] + "y" * rest))


EDGES: dict[str, tuple[int, Check]] = {
    "a name": (names.MAX_NAME, lambda size: check_name("n" * size, "host")),
    "labels": (names.MAX_LABELS, lambda count: check_labels({f"k{number}": "v" for number in range(count)})),
    "a label's value": (names.MAX_LABEL_VALUE, lambda size: check_labels({"k": "v" * size})),
    "a repository's URL": (checks.MAX_URL, lambda size: check_repo_url("/" + "u" * (size - 1))),
    "a path": (spec_checks._LONGEST_PATH, lambda size: check_path("/" + "p" * (size - 1), "path")),
    "a path in bytes": (
        spec_checks._LONGEST_PATH,
        lambda size: check_path("/" + "é" * ((size - 1) // 2) + "p" * ((size - 1) % 2), "path"),
    ),
    "@every": (cron_text.MAX_EVERY, lambda seconds: check_expression(f"@every {seconds}s")),
}


@pytest.mark.parametrize("what", EDGES)
def test_at_the_bound_it_is_taken_and_past_it_refused(what: str) -> None:
    bound, check = EDGES[what]
    check(bound)
    with pytest.raises((InputError, CronError)) as caught:
        check(bound + 1)
    assert len(str(caught.value)) < 500


def test_an_expression_has_so_many_characters() -> None:
    listed = ",".join(str(number % 60) for number in range(200))
    fits = (listed[: cron_text.MAX_LENGTH - 8].rstrip(",") + " * * * *").ljust(cron_text.MAX_LENGTH)
    assert len(fits) == cron_text.MAX_LENGTH
    check_expression(fits)
    with pytest.raises(CronError):
        check_expression(fits + " ")


def test_what_restic_says_in_one_line_is_kept_so_far() -> None:
    for size, whole in ((lines.MAX_RAW_LINE, True), (lines.MAX_RAW_LINE + 1, False)):
        splitter = LineSplitter()
        found: list[bytes] = []
        text = b"x" * size + b"\n"
        for at in range(0, len(text), 65_536):
            found += splitter.feed(text[at : at + 65_536])
        assert (found == [b"x" * size]) is whole
        assert len(found[0]) < lines.MAX_RAW_LINE + 100


def test_a_token_file_is_read_so_far(tmp_path: Path) -> None:
    """What comes behind is not looked at: it is no token, however it goes on."""
    token = make_token(bytes(32)).text
    path = tmp_path / "token"

    def given(size: int) -> object:
        path.write_text(token.rjust(size))
        return load_agent({}, server="ws://127.0.0.1:8787", token_file=str(path), data_dir=str(tmp_path)).token

    assert given(config._LONGEST_TOKEN) == parse_token(token)
    with pytest.raises(InputError, match=r"not whole|mistyped"):
        given(config._LONGEST_TOKEN + 2)


def test_a_token_holds_so_many_pins() -> None:
    pins = [pin_of(bytes([number])) for number in range(jointoken.MAX_PINS + 1)]
    assert parse_token(make_token(bytes(32), pins[:-1]).text).pins == tuple(pins[:-1])
    with pytest.raises(ValueError, match="at most 2 pins"):
        make_token(bytes(32), pins)
    with pytest.raises(InputError, match="not whole"):
        parse_token("-".join(("rmi1", "a" * 52, *pins, "aaaaaa")))


def test_a_sockets_path_has_so_many_bytes(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    room = datadir._LONGEST_SOCKET - len(os.fsencode(tmp_path / "server.sock")) - 1
    for more, beside_it in ((0, True), (1, False)):
        data_dir = tmp_path / ("d" * (room + more))
        data_dir.mkdir()
        place = datadir.make_socket_path(data_dir, {"XDG_RUNTIME_DIR": str(run_dir)})
        assert (place == data_dir / "server.sock") is beside_it
        assert len(os.fsencode(place)) <= datadir._LONGEST_SOCKET


def test_a_policy_file_has_so_many_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    path = folder / policy_file.NAME
    path.touch(mode=0o600)
    text = b'kinds = ["backup"]\n'
    path.write_bytes(text + b"#" * (policy_file.LONGEST - len(text)))
    assert policy_file.load(path, named=True).policy.kinds == ("backup",)
    path.write_bytes(text + b"#" * (policy_file.LONGEST - len(text) + 1))
    with pytest.raises(NotPermittedError, match="more than 1,048,576 bytes"):
        policy_file.load(path, named=True)


def test_a_file_with_paths_has_so_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolving, "LONGEST_LIST", 1_000)
    path = tmp_path / "paths"
    path.write_bytes(b"/srv\n".ljust(1_000, b"x"))
    assert next(resolving.listed([str(path)])) == "/srv"
    path.write_bytes(b"/srv\n".ljust(1_001, b"x"))
    with pytest.raises(NotPermittedError, match="too many to compare"):
        next(resolving.listed([str(path)]))


# -- the store's own --------------------------------------------------------------------------------------------------


async def test_what_a_schedule_does_takes_so_many_bytes(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        repo_id = await world.repo()
        fits, too_much = (spec_of(schedule_checks.MAX_SPEC_TEXT + more) for more in (0, 1))
        await world.read(lambda tx: schedule_checks.checked_spec(tx, fits, repo_id))
        with pytest.raises(InputError, match="put patterns in a file"):
            await world.read(lambda tx: schedule_checks.checked_spec(tx, too_much, repo_id))


async def test_a_repositorys_access_takes_so_many_bytes(tmp_path: Path, autojump_clock: MockClock) -> None:
    many = sorted(checks.ALLOWED_ENV)[:30]

    def access(env: dict[str, str]) -> RepoAccess:
        return RepoAccess(repo_id=new_id(), url="/srv/main", password="pw", env=env)

    env = dict.fromkeys(many, "x" * 4_300)
    missing = repo_secrets.MAX_ACCESS_TEXT - len(msgspec.json.encode(access(env)))
    env[many[0]] += "x" * missing
    async with open_world(tmp_path) as world:

        async def add(name: str, env: dict[str, str]) -> None:
            seal = world.services.sealer.seal
            url = "/srv/main"
            await world.write(
                lambda tx: repos.add(tx, name=name, url=url, password="pw", env=env, seal=seal, now=world.now())
            )

        with pytest.raises(InputError, match="at most 131072 are taken"):
            await add("longer", env | {many[0]: env[many[0]] + "x"})
        await add("fits", env)


async def test_an_invitation_lasts_so_long(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        _, token = await world.invite("web1")
        digest = host_changes.token_sha256(token)
        last = world.now() + host_changes.INVITE_LIFETIME
        moment = timedelta(microseconds=1)
        assert not hasattr(await world.read(lambda tx: hosts.admit_token(tx, digest, last - moment)), "retry")
        refused = await world.read(lambda tx: hosts.admit_token(tx, digest, last + moment))
        assert getattr(refused, "code", None) == "expired"


async def test_a_request_has_a_body_of_so_many_bytes(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        api = build_api(world.services)
        for more, status in ((0, 201), (1, 413)):
            body = b'{"name":"h%d"' % more
            body += b" " * (operations.MAX_BODY + more - len(body) - 1) + b"}"
            answer = await ask(api, "POST", "/v1/hosts/invite", body)
            assert answer.status == status


# -- connections ------------------------------------------------------------------------------------------------------


async def test_a_requests_head_has_so_many_bytes(autojump_clock: MockClock) -> None:
    limits = asgi.Limits()
    for more, fits in ((0, True), (1, False)):
        client, server = trio.testing.memory_stream_pair()
        start = b"GET / HTTP/1.1\r\nHost: x\r\nX-Filler: "
        # Not the end of the head yet: what is looked for there is how much of an unfinished one is kept.
        await client.send_all(start + b"y" * (limits.headers + more - len(start)))
        connection = asgi.Connection(_hello, server, limits, Peer(origin="test"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.serve)
            with trio.move_on_after(limits.idle / 2) as waited:
                said = bytes(await client.receive_some())
            if fits:
                assert waited.cancelled_caught
                await client.send_all(b"\r\n\r\n")
                said = bytes(await client.receive_some())
            assert said.startswith(b"HTTP/1.1 200" if fits else b"HTTP/1.1 4")
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("sent", "seconds"), [(b"GET / HTTP/1.1\r\n", 10.0), (b"", 10.0)])
async def test_a_head_that_does_not_come_is_waited_for_so_long(
    autojump_clock: MockClock, sent: bytes, seconds: float
) -> None:
    client, server = trio.testing.memory_stream_pair()
    connection = asgi.Connection(_hello, server, asgi.Limits(), Peer(origin="test"))
    if sent:
        await client.send_all(sent)
    began = trio.current_time()
    await connection.serve()
    assert trio.current_time() - began == pytest.approx(seconds, abs=1.1)


async def test_a_body_that_does_not_come_is_waited_for_so_long(autojump_clock: MockClock) -> None:
    client, server = trio.testing.memory_stream_pair()
    connection = asgi.Connection(_hello, server, asgi.Limits(), Peer(origin="test"))
    await client.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
    began = trio.current_time()
    await connection.serve()
    assert trio.current_time() - began == pytest.approx(asgi.Limits().body, abs=1.1)


async def _hello(scope, receive, send) -> None:  # type: ignore[no-untyped-def]  # an ASGI application
    while (event := await receive())["type"] != "http.disconnect" and event.get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.mark.parametrize(("name", "bound"), [("MAX_OF_NETWORK", 3), ("MAX_UNKNOWN", 3), ("MAX_UNKNOWN_OF_NETWORK", 3)])
async def test_over_tcp_so_many_come_in_and_not_one_more(
    monkeypatch: pytest.MonkeyPatch, name: str, bound: int
) -> None:
    """The bounds are made small; which of them it is that holds, the others being as they are, is each one's own."""
    monkeypatch.setattr(operators, name, bound)
    with trio.fail_after(20):
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_operators, _hello, listeners, stop)
            inside = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(bound)]
            for stream in inside:
                await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
            async with await trio.open_tcp_stream("127.0.0.1", port) as further:
                assert await further.receive_some() == b""
            await inside.pop().aclose()
            await trio.testing.wait_all_tasks_blocked(0.05)
            async with await trio.open_tcp_stream("127.0.0.1", port) as further:
                await further.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await further.receive_some()).startswith(b"HTTP/1.1 200")
            for stream in inside:
                await stream.aclose()
            stop.set()


def test_so_many_jobs_may_come_with_a_login() -> None:
    logins = per_job.PerJob()
    for number in range(per_job.MOST):
        logins.keep(str(number), {"AWS_ACCESS_KEY_ID": "x"})
    with pytest.raises(ConflictError, match="wait for some to end"):
        logins.keep("one more", {})
    assert logins.find("one more") is None
    logins.drop("0")
    logins.keep("one more", {})
    assert len(logins) == per_job.MOST
