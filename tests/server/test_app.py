"""The server as a process: how it starts, how it refuses to, and how it stops."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import trio

from restic_manager.client import Client, ServerAddress
from restic_manager.config import ServerConfig
from restic_manager.domain.errors import ManagerError, RefusedError, StorageError
from restic_manager.domain.model import BackupSpec
from restic_manager.link import LinkClosed, dial
from restic_manager.protocol import api, codec
from restic_manager.runtime import datadir
from restic_manager.server import operators
from restic_manager.server.app import Running, serve
from tests.e2e.stage import Program, until

LIMIT = 30
STOPS_WITHIN = 10.0
Start = Callable[..., Program]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `restic-manager server`; whatever still runs at the end is killed."""
    started: list[Program] = []
    env = {name: value for name, value in os.environ.items() if not name.startswith("RESTIC_MANAGER_")}

    def begin(*options: str, data: Path = tmp_path / "data", listen: str = "127.0.0.1:0") -> Program:
        argv = ["server", "--data-dir", str(data), "--listen", listen, *options]
        program = Program("server", argv, env, tmp_path / f"server-{len(started)}.log")
        started.append(program)
        return program

    yield begin
    for program in started:
        if program.process.poll() is None:
            program.kill()


def ready(program: Program) -> tuple[int, Client]:
    """Wait for the line that says where everything is; return the agents' port and an operator's client."""
    line = r"agents dial ws://127\.0\.0\.1:(\d+); operators' socket (\S+); data in \S+\n"
    found = until("the server to be ready", lambda: re.search(line, program.said()) or program.process.poll())
    assert isinstance(found, re.Match), program.said()
    return int(found[1]), Client(ServerAddress(path=Path(found[2]), origin="the test"))


def test_it_starts_says_where_and_stops_in_order(start: Start, tmp_path: Path) -> None:
    program = start()
    port, client = ready(program)
    view = client.server()
    assert view.listen == f"127.0.0.1:{port}"
    assert view.data_dir == str(tmp_path / "data")
    assert program.said().count("\n") == 1
    data = tmp_path / "data"
    for name, mode in (("", 0o700), ("server.db", 0o600), ("server.key", 0o600), ("server.sock", 0o600)):
        assert stat.S_IMODE((data / name).stat().st_mode) == mode, name
    assert program.stop(seconds=STOPS_WITHIN) == 0
    assert not (data / "server.sock").exists()
    assert "Traceback" not in program.said()

    again = start()
    _, client = ready(again)
    assert client.server().epoch == view.epoch
    assert again.stop(seconds=STOPS_WITHIN) == 0


def test_it_starts_again_after_being_killed(start: Start) -> None:
    first = start()
    _, client = ready(first)
    client.invite_host(api.InviteRequest(name="web1"))
    first.kill()
    second = start()
    _, client = ready(second)
    assert [host.name for host in client.hosts()] == ["web1"]
    assert second.stop(seconds=STOPS_WITHIN) == 0


def test_a_second_server_on_one_data_directory_exits_1_and_says_why(start: Start, tmp_path: Path) -> None:
    first = start()
    _, client = ready(first)
    second = start()
    assert second.ended(seconds=STOPS_WITHIN) == 1
    assert f"another server runs on the data directory {tmp_path / 'data'} (process {first.pid})" in second.said()
    assert "Traceback" not in second.said()
    assert client.server().listen  # the first has lost neither its socket nor anything else


def test_a_port_that_is_taken_is_a_clear_error(start: Start, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        program = start(listen=address)
        assert program.ended(seconds=STOPS_WITHIN) == 1
    assert f"cannot listen on {address}: another program does" in program.said()
    assert "Traceback" not in program.said()
    assert not (tmp_path / "data" / "server.sock").exists()


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--timezone", "Europe/Berln"], 2, "Europe/Berln"),
        (["--log-level", "loud"], 2, "'loud' is not a log level"),
        (["--public-url", "http://x"], 2, "did you mean 'ws://x'?"),
        (["--config", "/nowhere.toml"], 2, "/nowhere.toml"),
    ],
)
def test_what_it_cannot_be_told_is_one_line_and_stores_nothing(
    options: list[str], code: int, says: str, start: Start, tmp_path: Path
) -> None:
    program = start(*options)
    assert program.ended(seconds=STOPS_WITHIN) == code
    assert says in program.said()
    assert program.said().count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_a_data_directory_that_is_a_file_is_a_clear_error(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    program = start(data=tmp_path / "file")
    assert program.ended(seconds=STOPS_WITHIN) == 1
    assert str(tmp_path / "file") in program.said()
    assert (tmp_path / "file").read_text() == "precious"


def test_a_missing_key_is_not_made_anew(start: Start, tmp_path: Path) -> None:
    first = start()
    ready(first)
    first.stop(seconds=STOPS_WITHIN)
    (tmp_path / "data" / "server.key").unlink()
    second = start()
    assert second.ended(seconds=STOPS_WITHIN) == 1
    assert "server.key" in second.said()
    assert not (tmp_path / "data" / "server.key").exists()


def test_another_key_is_refused(start: Start, tmp_path: Path) -> None:
    for name in ("data", "other"):
        program = start(data=tmp_path / name)
        ready(program)
        program.stop(seconds=STOPS_WITHIN)
    (tmp_path / "other" / "server.key").replace(tmp_path / "data" / "server.key")
    program = start()
    assert program.ended(seconds=STOPS_WITHIN) == 1
    assert "key" in program.said()
    assert "Traceback" not in program.said()


def test_a_long_data_directory_still_has_a_socket_that_is_found(start: Start, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 70) / ("e" * 70)
    program = start(data=deep)
    _, client = ready(program)
    assert client.address.path == datadir.socket_path(deep)
    assert client.server().data_dir == str(deep)
    program.stop(seconds=STOPS_WITHIN)
    assert client.address.path is not None
    client.address.path.parent.rmdir()


def test_followers_and_silent_connections_do_not_hold_up_the_stop(start: Start) -> None:
    program = start()
    port, client = ready(program)
    assert client.address.path is not None
    with socket.create_connection(("127.0.0.1", port)), socket.socket(socket.AF_UNIX) as operator:
        operator.connect(str(client.address.path))
        operator.sendall(b"GET /v1/ser")
        began = time.monotonic()
        assert program.stop(seconds=STOPS_WITHIN) == 0
        assert time.monotonic() - began < STOPS_WITHIN / 2
    assert "Traceback" not in program.said()


def test_a_followed_job_does_not_hold_up_the_stop(start: Start) -> None:
    program = start()
    _, client = ready(program)
    client.invite_host(api.InviteRequest(name="web1"))
    client.add_repo(api.RepoRequest(name="repo", url="/srv/repo", password="secret"))
    client.add_schedule(
        api.ScheduleRequest(
            name="nightly", cron="0 2 * * *", repo="repo", spec=BackupSpec(paths=("/etc",)), hosts=("web1",)
        )
    )
    (job,) = client.run_schedule("nightly", api.RunRequest())
    events = client.events(job.id, follow=True, logs=True)
    assert isinstance(next(events), api.JobEvent)
    began = time.monotonic()
    assert program.stop(seconds=STOPS_WITHIN) == 0
    assert time.monotonic() - began < operators.FINISH_SECONDS
    assert list(events) == [], "it is a whole answer, though not the end of the job"


def test_garbage_at_both_doors_leaves_it_working(start: Start) -> None:
    program = start()
    port, client = ready(program)
    assert client.address.path is not None
    garbage = [os.urandom(3_000), b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n", b"\x16\x03\x01\x02\x00", b"{}\n" * 1000, b""]
    for data in garbage:
        with socket.create_connection(("127.0.0.1", port)) as agent, socket.socket(socket.AF_UNIX) as operator:
            agent.sendall(data)
            operator.connect(str(client.address.path))
            operator.sendall(data)
    assert client.server().listen
    assert program.stop(seconds=STOPS_WITHIN) == 0
    assert "Traceback" not in program.said()


def test_what_was_answered_before_a_stop_is_stored(start: Start) -> None:
    program = start()
    _, client = ready(program)
    answered: list[str] = []

    def invite() -> None:
        for number in range(10_000):
            try:
                answered.append(client.invite_host(api.InviteRequest(name=f"host{number}")).name)
            except ManagerError:
                return

    inviting = threading.Thread(target=invite)
    inviting.start()
    until("the first answers", lambda: len(answered) >= 20)
    assert program.stop(seconds=STOPS_WITHIN) == 0
    inviting.join(LIMIT)
    assert 20 <= len(answered) < 10_000
    again = start()
    _, client = ready(again)
    assert set(answered) <= {host.name for host in client.hosts()}
    again.stop(seconds=STOPS_WITHIN)


def test_the_log_has_no_secret_and_one_line_a_record(start: Start) -> None:
    program = start("--log-level", "debug")
    port, client = ready(program)
    token = client.invite_host(api.InviteRequest(name="web1")).token

    async def knock() -> None:
        with trio.fail_after(LIMIT):
            for bearer, path in ((token, "/join"), ("wrong-token-of-mine", "/join"), ("wrong-credential", "/agent")):
                try:
                    async with dial(f"ws://127.0.0.1:{port}", path=path, bearer=bearer, decoder=codec.join_answer):
                        pass
                except RefusedError as refused:
                    assert refused.code in {"unknown", "invalid"}  # noqa: PT017 - one of the three is let in

    trio.run(knock)
    program.stop(seconds=STOPS_WITHIN)
    assert token not in program.said()
    assert "wrong-token-of-mine" not in program.said()
    records = program.said().splitlines()
    assert len(records) > 5
    records.remove(next(line for line in records if line.startswith("restic-manager 0")))
    assert all(re.match(r"\d{4}-\d\d-\d\dT\S+Z [A-Z]+ \S+: ", record) for record in records)


# -- in this process ---------------------------------------------------------------------------------------------------


def config(folder: Path) -> ServerConfig:
    return ServerConfig(data_dir=folder / "data", listen_port=0)


async def test_a_signal_says_goodbye_to_a_link_with_1001(tmp_path: Path) -> None:
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            running: Running = await nursery.start(serve, config(tmp_path))
            token = await trio.to_thread.run_sync(invite, running)
            async with dial(f"ws://{running.listening}", path="/join", bearer=token, decoder=codec.join_answer) as link:
                signal.raise_signal(signal.SIGTERM)
                with pytest.raises(LinkClosed) as caught:
                    await link.receive()
    assert caught.value.code == 1001


def invite(running: Running) -> str:
    client = Client(ServerAddress(path=running.socket, origin="the test"))
    return client.invite_host(api.InviteRequest(name="web1")).token


async def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, config(tmp_path))
            began = trio.current_time()
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
    assert trio.current_time() - began < 3


async def test_cancelling_it_leaves_nothing_behind(tmp_path: Path) -> None:
    with trio.fail_after(LIMIT):
        for _ in range(2):
            async with trio.open_nursery() as nursery:
                running: Running = await nursery.start(serve, config(tmp_path))
                assert running.socket.exists()
                nursery.cancel_scope.cancel()
            assert not running.socket.exists()


async def test_its_errors_come_without_groups_round_them(tmp_path: Path) -> None:
    with trio.fail_after(LIMIT):
        with datadir_held(tmp_path / "data"), pytest.raises(StorageError) as locked:
            await serve(config(tmp_path))
        assert locked.value.code == "storage_locked"
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(ManagerError) as in_use:
                await serve(ServerConfig(data_dir=tmp_path / "data", listen_port=port))
        assert in_use.value.code == "address_in_use"


def datadir_held(path: Path) -> AbstractContextManager[None]:
    datadir.prepare(path)
    return datadir.lock(path, "server")
