"""Becoming a host, with real processes that are killed at every point of it: whichever side dies, the same line joins.

One host comes of it each time, whose credential is the one that the agent has; and a token that cannot be used says
what to do.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.stage import CHECKOUT, Program, Stage, stage, until

pytestmark = pytest.mark.timeout(240)

JOIN: Final = "restic_manager.agent.identity"
ANNOUNCE: Final = "restic_manager.agent.announce"
LINK: Final = "restic_manager.link.channel"
AGENT_JOINS: Final = (
    f"{JOIN}:atomic_write:before:1",  # the credential is made, and not on disk
    f"{JOIN}:atomic_write:after:1",  # … and is, and nobody has heard of it
    f"{LINK}:Link.send:before:1",  # connected
    f"{LINK}:Link.send:after:1",  # the join is on its way
    f"{JOIN}:IdentityFiles.store:before:1",  # the answer has come
    f"{JOIN}:atomic_write:after:2",  # the identity is stored, and the candidate still there
    f"{JOIN}:IdentityFiles.store:after:1",
)
SERVER_JOINS: Final = (
    "restic_manager.server.store.hosts:admit_token:after:1",  # the knock
    "restic_manager.server.store.hosts:redeem:after:1",  # everything written, nothing committed
    f"{LINK}:Link.put:before:1",  # committed, and the answer not said
    f"{LINK}:Link.put:after:1",  # … and said, perhaps
)
AGENT_ANNOUNCES: Final = (
    f"{ANNOUNCE}:atomic_write:before:1",
    f"{ANNOUNCE}:atomic_write:after:1",
    f"{LINK}:Link.send:after:1",
    f"{ANNOUNCE}:IdentityFiles.store:before:1",
    f"{ANNOUNCE}:WaitingFile.forget:before:1",
    f"{ANNOUNCE}:WaitingFile.forget:after:1",
)
SERVER_ANNOUNCES: Final = (
    f"{LINK}:Link.put:after:1",  # the challenge
    "restic_manager.server.store.pending:announce:after:1",
    f"{LINK}:Link.put:before:2",  # it waits, and was not told
    "restic_manager.server.store.pending:approve:after:1",  # everything written, nothing committed
    "restic_manager.server.hub:Hub.sets_changed:before:2",  # committed, nobody was told (the first is the janitor's)
)


@contextmanager
def secure(folder: Path) -> Iterator[Stage]:
    with stage(folder) as here:
        here.url = f"wss://127.0.0.1:{here.port}"
        here.start_server("--tls", "auto")
        yield here


class Doomed(Program):
    """The program, on its way to a point at which it dies."""

    def __init__(self, here: Stage, point: str, words: list[str], data: Path) -> None:
        self.name, self.log = point, here.folder / "doomed.log"
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.dying", point, "--", *words],
                env=here.env(data),
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        here._programs.append(self)

    def died(self) -> None:
        """Wait until it has died there, and of nothing else."""
        assert self.ended() == -signal.SIGKILL, self.said()[-2000:]


def is_one_host(here: Stage, name: str) -> None:
    """There is this host, once; it is online by the credential on its disk; nothing of the join is left there."""
    until(f"{name} to be online", lambda: here.online(name))
    (view,) = [host for host in here.client.hosts() if host.name == name]
    data = here.folder / f"agent-{name}"
    assert json.loads((data / "agent-identity.json").read_text())["host_id"] == view.id
    assert not (data / "agent-identity.joining.json").exists()
    assert not (data / "agent-announcing.json").exists()


def join_words(here: Stage, token: str) -> list[str]:
    return ["agent", "--server", here.url, "--token", token, "--reconnect-max", "1s"]


def announce_words(here: Stage) -> list[str]:
    return ["agent", "--server", here.url, "--pin", here.json("server", "cert", "show")["pin"], "--reconnect-max", "1s"]


def the_fingerprint(here: Stage) -> str | None:
    waiting = here.client.pending()
    assert len(waiting) <= 1, "one machine, one entry, however often it begins anew"
    return waiting[0].fingerprint if waiting else None


def test_an_agent_that_dies_while_it_joins(tmp_path: Path) -> None:
    with secure(tmp_path) as here:
        for number, point in enumerate(AGENT_JOINS):
            name = f"web{number}"
            data = here.folder / f"agent-{name}"
            token = here.json("host", "invite", name)["token"]
            Doomed(here, point, join_words(here, token), data).died()
            agent = here.start_agent(name, "--token", token)
            is_one_host(here, name)
            assert token not in agent.said()
            agent.kill()


@pytest.mark.parametrize("point", SERVER_JOINS)
def test_a_server_that_dies_while_a_host_joins(tmp_path: Path, point: str) -> None:
    with secure(tmp_path) as here:
        token = here.json("host", "invite", "web1")["token"]
        assert here.server is not None
        here.server.stop()
        words = ["server", "--listen", f"127.0.0.1:{here.port}", "--tls", "auto"]
        server = Doomed(here, point, words, here.data)
        here.start_agent("web1", "--token", token, wait=False)
        server.died()
        here.start_server("--tls", "auto")
        is_one_host(here, "web1")


def test_an_agent_that_dies_while_it_announces_itself(tmp_path: Path) -> None:
    with secure(tmp_path) as here:
        for number, point in enumerate(AGENT_ANNOUNCES):
            name = f"web{number}"
            data = here.folder / f"agent-{name}"
            data.mkdir()
            words = announce_words(here)
            agent = Doomed(here, point, words, data)
            waits = number > 2  # it dies of the answer to its approval
            if waits:
                fingerprint = until("it to announce itself", lambda: the_fingerprint(here))
                here.ok("host", "approve", fingerprint, "--name", name)
            agent.died()
            again = Program(f"agent {name}", words, here.env(data), here.folder / f"agent-{name}.log")
            here._programs.append(again)
            if not waits:
                fingerprint = until("it to announce itself", lambda: the_fingerprint(here))
                assert f"host approve {fingerprint}" in again.said()
                here.ok("host", "approve", fingerprint, "--name", name)
            is_one_host(here, name)
            again.kill()


@pytest.mark.parametrize("point", SERVER_ANNOUNCES)
def test_a_server_that_dies_while_a_machine_announces_itself(tmp_path: Path, point: str) -> None:
    with secure(tmp_path) as here:
        assert here.server is not None
        data = here.folder / "agent-web1"
        agent_words = announce_words(here)
        here.server.stop()
        words = ["server", "--listen", f"127.0.0.1:{here.port}", "--tls", "auto"]
        server = Doomed(here, point, words, here.data)
        agent = Program("agent web1", agent_words, here.env(data), here.folder / "agent-web1.log")
        here._programs.append(agent)
        approved = "sets_changed" in point
        if approved or "approve" in point:
            here.ok("status", "--wait", "30")
            fingerprint = until("it to announce itself", lambda: the_fingerprint(here))
            assert here.run("host", "approve", fingerprint, "--name", "web1").returncode == 5
        server.died()
        here.start_server("--tls", "auto")
        hosts = [host.name for host in here.client.hosts()]
        assert hosts == (["web1"] if approved else []), "approved is what was committed"
        if not hosts:
            fingerprint = until("it to announce itself", lambda: the_fingerprint(here))
            assert f"host approve {fingerprint}" in agent.said()
            here.ok("host", "approve", fingerprint, "--name", "web1")
        is_one_host(here, "web1")


def test_a_machine_is_approved_by_what_both_sides_show(tmp_path: Path) -> None:
    with secure(tmp_path) as here:
        pin = here.json("server", "cert", "show")["pin"]
        bare = here.run("agent", "--server", here.url, "--data-dir", str(tmp_path / "agent-new"))
        assert bare.returncode == 2
        assert f"--pin {pin}" in bare.stderr
        assert "server cert show" in bare.stderr
        assert here.json("host", "pending") == [], "nothing was said to a server that nobody has vouched for"
        wrong = "a" * 52
        stranger = Program(
            "agent stranger",
            ["agent", "--server", here.url, "--pin", wrong, "--reconnect-max", "1s"],
            here.env(tmp_path / "agent-stranger"),
            tmp_path / "stranger.log",
        )
        here._programs.append(stranger)
        until("it to mistrust the server", lambda: "is not trusted" in stranger.said())
        assert here.json("host", "pending") == []
        stranger.stop()
        refused = Program(
            "agent refused", announce_words(here), here.env(tmp_path / "agent-refused"), tmp_path / "refused.log"
        )
        here._programs.append(refused)
        fingerprint = until("it to announce itself", lambda: the_fingerprint(here))
        assert fingerprint in here.ok("host", "pending")
        assert here.run("host", "approve", fingerprint[:11], "--name", "x").returncode == 2
        here.ok("host", "reject", fingerprint)
        assert refused.ended() == 6
        assert "an operator has rejected this machine's key" in refused.said()


def test_rotated_revoked_and_invited_again(tmp_path: Path) -> None:
    with secure(tmp_path) as here:
        agent = here.start_agent("web1")
        identity = here.folder / "agent-web1" / "agent-identity.json"
        before = json.loads(identity.read_text())
        here.ok("host", "rotate", "web1")
        until("it to have a new credential", lambda: here.client.host("web1").rotation_asked_at is None)
        after = json.loads(identity.read_text())
        assert (after["former_credential"], after["host_id"]) == (before["credential"], before["host_id"])
        assert after["credential"] != before["credential"]
        assert "connected to" in agent.said()
        assert agent.said().count("connected to") == 1, "the session went on"
        agent.kill()
        agent = here.start_agent("web1")
        until("it to be online", lambda: here.online("web1"))
        for secret in (before["credential"], after["credential"]):
            assert secret not in agent.said()
        here.ok("host", "revoke", "web1")
        until("it to say so", lambda: "an operator has revoked the host web1" in agent.said())
        assert not here.online("web1")
        assert here.client.host("web1").state == "revoked"
        assert "It asks again in" in agent.said()
        agent.stop()
        token = here.json("host", "invite", "web1")["token"]
        here.start_agent("web1", "--token", token)
        assert json.loads(identity.read_text())["host_id"] == before["host_id"]


def test_an_expired_token_is_refused_with_a_helpful_line(tmp_path: Path) -> None:
    with secure(tmp_path) as here:
        token = here.json("host", "invite", "web1")["token"]
        assert here.server is not None
        here.server.stop()
        with sqlite3.connect(here.data / "server.db") as db:
            db.execute("UPDATE invites SET expires_at = created_at")
        db.close()
        here.start_server("--tls", "auto")
        late = here.start_agent("web1", "--token", token, wait=False)
        assert late.ended() == 6
        assert (
            "the join token has expired (it is good for an hour): run `restic-manager host invite NAME`" in late.said()
        )
        assert token not in late.said()
