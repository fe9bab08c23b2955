"""The program over TLS, as its users run it: one pasted line joins, a change of the certificate leaves nobody behind
who came in time, and nobody in between is told anything.
"""

from __future__ import annotations

import json
import shlex
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from restic_manager.domain.model import Status
from restic_manager.protocol.jointoken import is_pin, make_token
from tests.e2e.stage import CHECKOUT, Stage, stage, until
from tests.support.fake_restic import install
from tests.support.tls import good_pair

pytestmark = pytest.mark.timeout(240)


@contextmanager
def secure_stage(folder: Path, *flags: str) -> Iterator[Stage]:
    with stage(folder) as here:
        here.url = f"wss://127.0.0.1:{here.port}"
        here.start_server(*(flags or ("--tls", "auto")))
        yield here


def pins_of(here: Stage, name: str) -> list[str]:
    identity: dict[str, Any] = json.loads((here.folder / f"agent-{name}" / "agent-identity.json").read_text())
    return list(identity["pins"])


def holds(here: Stage, name: str, pins: list[str]) -> bool:
    return pins_of(here, name) == pins


def is_offline(here: Stage, name: str) -> bool:
    return not here.online(name)


def test_the_pasted_line_joins_and_backs_up(tmp_path: Path) -> None:
    install(tmp_path / "bin")
    with secure_stage(tmp_path) as here:
        assert here.server is not None
        assert f"agents dial wss://127.0.0.1:{here.port};" in here.server.said()
        line = here.ok("host", "invite", "web1").strip()
        words = shlex.split(line)
        assert words[:4] == ["restic-manager", "agent", "--server", here.url]
        assert words[4] == "--token"
        assert len(words) == 6
        pin = here.json("server", "cert", "show")["pin"]
        assert pin in words[5]
        here.start_agent("web1", "--token", words[5], restic=tmp_path / "bin" / "restic")
        assert pins_of(here, "web1") == [pin]
        here.add_repo()
        here.ok("schedule", "add", "nightly", "--host", "web1", "--cron", "@daily", "--repo", "main", "/etc")
        here.ok("schedule", "run", "nightly", "--wait")
        assert here.jobs(status=Status.SUCCEEDED)
        for program in (here.server, here.agents["web1"]):
            assert words[5] not in program.said()
            assert "Traceback" not in program.said()
        assert (here.data / "server-tls.pem").stat().st_mode & 0o777 == 0o600
        # Started anew, it is the same server to its hosts.
        here.server.stop()
        here.start_server("--tls", "auto")
        until("web1 to be back", lambda: here.online("web1"))
        assert here.json("server", "cert", "show")["pin"] == pin


def test_a_certificate_that_is_gone_is_said(tmp_path: Path) -> None:
    install(tmp_path / "bin")
    with secure_stage(tmp_path) as here:
        agent = here.start_agent("web1", restic=tmp_path / "bin" / "restic")
        assert here.server is not None
        here.server.stop()
        kept = (here.data / "server-tls.pem").rename(tmp_path / "kept.pem")
        server = here.start_server("--tls", "auto")
        assert f"put {here.data / 'server-tls.pem'} back from your copy" in server.said()
        until("the agent to refuse the other", lambda: "is not trusted" in agent.said())
        server.stop()
        kept.replace(here.data / "server-tls.pem")
        here.start_server("--tls", "auto")
        until("the agent to be back", lambda: here.online("web1"))


@pytest.mark.parametrize(
    ("token", "says"),
    [
        (lambda token: token[:-1] + ("a" if token[-1] != "a" else "b"), "is mistyped"),
        (lambda token: token[:-20], "is not whole"),
        (lambda token: "rmc1-" + token[5:], "this is no join token"),
    ],
)
def test_a_mistyped_token_is_told_before_anybody_is_dialled(tmp_path: Path, token: Any, says: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, stage(tmp_path) as here:
        listener.settimeout(0.2)
        here.url = f"wss://127.0.0.1:{listener.getsockname()[1]}"
        wrong = token(make_token(b"x" * 32, ["a" * 52]).text)
        done = here.run("agent", "--server", here.url, "--token", wrong)
        assert done.returncode == 2
        assert says in done.stderr
        assert "host invite" in done.stderr
        assert done.stderr.count("\n") == 1
        assert wrong not in done.stderr
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_used_token_is_refused_with_a_helpful_line(tmp_path: Path) -> None:
    install(tmp_path / "bin")
    with secure_stage(tmp_path) as here:
        token = here.json("host", "invite", "web1")["token"]
        here.start_agent("web1", "--token", token, restic=tmp_path / "bin" / "restic")
        thief = here.start_agent("thief", "--token", token, wait=False)
        assert thief.ended() == 6
        assert "the join token has been used already: run `restic-manager host invite NAME`" in thief.said()
        bare = here.run("agent", "--server", here.url.replace("wss", "ws"), "--token", token)
        assert bare.returncode == 2
        assert f"did you mean '{here.url}'?" in bare.stderr


def test_a_change_of_the_certificate(tmp_path: Path) -> None:
    install(tmp_path / "bin")
    with secure_stage(tmp_path) as here:
        restic = tmp_path / "bin" / "restic"
        for name in ("online", "returns", "late"):
            here.start_agent(name, restic=restic)
        for name in ("returns", "late"):
            assert here.agents[name].stop() == 0
            until(f"{name} to be offline", partial(is_offline, here, name))
        old = here.json("server", "cert", "show")["pin"]
        made = here.json("server", "cert", "rotate")
        new = made["next_pin"]
        assert (made["pin"], is_pin(new), new != old) == (old, True, True)
        assert "late" in made["hosts_without_next"]
        again = here.run("server", "cert", "rotate")
        assert again.returncode == 2
        assert "being changed already" in again.stderr

        def waiting() -> list[str]:
            return list(here.json("server", "cert", "show")["hosts_without_next"])

        until("the one online to learn the next pin", lambda: waiting() == ["late", "returns"])
        here.start_agent("returns", restic=restic)
        until("the one that came back to learn it", lambda: waiting() == ["late"])
        for name in ("online", "returns"):
            assert pins_of(here, name) == [old, new]
        assert pins_of(here, "late") == [old]
        # Who is invited in between knows both.
        token = here.json("host", "invite", "fresh")["token"]
        assert old in token
        assert new in token
        # The server forgets nothing of it when it is killed.
        assert here.server is not None
        here.server.kill()
        here.start_server("--tls", "auto")
        assert waiting() == ["late"]

        ended = here.run("server", "cert", "rotate", "--finish")
        assert ended.returncode == 0
        assert "have to be invited again (`restic-manager host invite NAME`)" in ended.stderr
        assert "late" in ended.stderr
        assert not (here.data / "server-tls-next.pem").exists()
        here.start_agent("fresh", "--token", token, restic=restic)
        for name in ("online", "returns", "fresh"):
            until(f"{name} to hold the new pin alone", partial(holds, here, name, [new]))
            until(f"{name} to be back", partial(here.online, name))
        late = here.start_agent("late", restic=restic, wait=False)
        until("the late one to say what is wrong", lambda: "is not trusted" in late.said())
        assert f"its certificate's pin is {new}, and expected is {old}" in late.said()
        assert "host invite NAME" in late.said()
        assert not here.online("late")
        assert late.stop() == 0
        here.start_agent("late", "--token", here.json("host", "invite", "late")["token"], restic=restic)
        assert pins_of(here, "late") == [new]
        assert len(here.client.hosts()) == 4


class Impostor:
    """Listens where the server was, with a certificate of its own, and keeps what is said to it."""

    def __init__(self, port: int, folder: Path) -> None:
        self.heard: list[bytes] = []
        self.handshakes = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*good_pair(folder))
        self._listener = socket.create_server(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            plain.settimeout(20)
            try:
                with self._context.wrap_socket(plain, server_side=True) as secured:
                    self.handshakes += 1
                    self.heard.append(secured.recv(65_536))
            except OSError:
                self.heard.append(b"")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


def test_an_impostor_is_told_nothing_and_the_server_is_taken_back(tmp_path: Path) -> None:
    install(tmp_path / "bin")
    with secure_stage(tmp_path) as here:
        agent = here.start_agent("web1", restic=tmp_path / "bin" / "restic")
        assert here.server is not None
        here.server.stop()
        impostor = Impostor(here.port, tmp_path / "impostor")
        until("the agent to say so", lambda: "is not trusted" in agent.said())
        until("some more tries", lambda: impostor.handshakes >= 3)
        impostor.close()
        assert set(impostor.heard) == {b""}
        assert agent.said().count(" ERROR ") == 1, "loudly once; after that it goes on trying quietly"
        here.start_server("--tls", "auto")
        until("the agent to be back", lambda: here.online("web1"))


def test_a_certificate_that_the_hosts_cas_vouch_for_needs_no_pin(tmp_path: Path) -> None:
    install(tmp_path / "bin")
    certificate, key = good_pair(tmp_path / "ca")
    with secure_stage(tmp_path, "--tls-cert", str(certificate), "--tls-key", str(key)) as here:
        invited = here.json("host", "invite", "web1")
        assert len(invited["token"]) == 64, "no pin in it"
        refused = here.run("server", "cert", "rotate")
        assert refused.returncode == 2
        assert "--tls-cert" in refused.stderr
        # A system that knows this authority is one with another file of them.
        env = here.env(here.folder / "agent-web1", SSL_CERT_FILE=str(certificate))
        argv = [sys.executable, "-m", "restic_manager", *shlex.split(invited["command"])[1:]]
        with (tmp_path / "web1.log").open("wb") as log:
            process = subprocess.Popen(argv, env=env, cwd=CHECKOUT, stdout=log, stderr=log)
        try:
            until("web1 to be online", lambda: here.online("web1"))
        finally:
            process.terminate()
            process.wait(20)
        assert pins_of(here, "web1") == []
        stranger = here.start_agent("other", wait=False)
        until("it to say why not", lambda: "the system's CAs do not vouch for" in stranger.said())


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (["--tls-cert", "/nowhere/cert.pem", "--tls-key", "/nowhere/key.pem"], 2, "/nowhere/cert.pem cannot be read"),
        (["--tls-cert", "/nowhere/cert.pem"], 2, "--tls-cert without --tls-key"),
        (["--tls", "on"], 2, "neither auto nor off"),
        (["--listen", "0.0.0.0:0", "--tls", "off"], 2, "--behind-proxy"),
    ],
)
def test_tls_that_cannot_be_is_one_line_and_stores_nothing(
    tmp_path: Path, flags: list[str], code: int, says: str
) -> None:
    here = Stage(tmp_path)
    done = here.run("server", "--listen", "127.0.0.1:0", *flags)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1)
    assert says in done.stderr
    assert not here.data.exists()


def test_beyond_loopback_there_is_tls_by_itself(tmp_path: Path) -> None:
    with stage(tmp_path) as here:
        server = here.start_server("--listen", "0.0.0.0:0")
        assert "agents dial wss://0.0.0.0:" in server.said()
        invited = here.json("host", "invite", "web1")
        assert f"wss://{socket.gethostname()}:" in invited["command"]
        assert "--public-url" in invited["note"]
