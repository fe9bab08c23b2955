"""`host rotate|revoke|pending|approve|reject`: what is shown, what is asked, and what a person has to compare."""

from __future__ import annotations

from restic_manager.protocol import api
from tests.cli import samples
from tests.cli.conftest import Command
from tests.cli.stub_server import StubServer


def test_a_fingerprint_is_never_broken_in_two(command: Command, server: StubServer) -> None:
    """It is what people compare, and what they copy: whatever the machine says of itself."""
    long = "a-machine-that-gives-itself-a-very-long-name." * 3
    server.on(
        "GET", "/v1/pending", [samples.pending(), samples.pending(name=long, os=long, address="2001:db8::" + "1" * 20)]
    )
    ended = command("host", "pending")
    assert ended.out.count(samples.FINGERPRINT) == 2
    assert max(map(len, ended.out.splitlines())) <= 80


def test_a_name_that_is_taken_is_said(command: Command, server: StubServer) -> None:
    waiting = [samples.pending(name="web1", name_taken=True), samples.pending(name_wanted_by=2)]
    server.on("GET", "/v1/pending", waiting)
    ended = command("host", "pending")
    assert "name taken" in ended.out
    assert "name wanted" in ended.out
    assert f"there is a host web1 already; {samples.FINGERPRINT} does not become that one" in ended.err
    assert ended.err.count("\n") == 1


def test_what_a_machine_says_of_itself_does_not_reach_the_terminal(command: Command, server: StubServer) -> None:
    server.on("GET", "/v1/pending", [samples.pending(name="\x1b[2Jweb1\n", name_taken=True)])
    ended = command("host", "pending")
    assert "\x1b" not in ended.out + ended.err
    assert ended.err.count("\n") == 1


def test_nobody_waits(command: Command, server: StubServer) -> None:
    server.on("GET", "/v1/pending", [])
    ended = command("host", "pending")
    assert ended.out == ""
    assert "without a token announces one" in ended.err


def test_an_approval_gives_name_and_labels(command: Command, server: StubServer) -> None:
    server.on("POST", f"/v1/pending/{samples.FINGERPRINT}/approve", samples.host(name="web2"))
    ended = command("host", "approve", samples.FINGERPRINT, "--name", "web2", "--label", "a=1", "--label", "b=2")
    assert ended.code == 0
    assert "web2 is a host now" in ended.out
    assert server.asked[-1][2] == {"name": "web2", "labels": {"a": "1", "b": "2"}}
    for wrong in (("--name", " "), ("--label", "a")):
        assert command("host", "approve", samples.FINGERPRINT, *wrong).code == 2


def test_rotating_says_when(command: Command, server: StubServer) -> None:
    server.on("POST", "/v1/hosts/web1/rotate", samples.host())
    assert "web1 is told now to replace its credential" in command("host", "rotate", "web1").out
    server.on("POST", "/v1/hosts/web1/rotate", samples.host(online=False))
    assert "is told when it is online" in command("host", "rotate", "web1").out


def test_revoking_says_what_it_does_not_do(command: Command, server: StubServer) -> None:
    server.on("POST", "/v1/hosts/web1/revoke", samples.host(state="revoked", online=False))
    ended = command("host", "revoke", "web1")
    assert "`restic-manager host invite web1` lets it join again" in ended.out
    assert "is still good there" in ended.err


def test_the_page_of_a_host_tells_of_its_credential(command: Command, server: StubServer) -> None:
    shown: list[tuple[api.HostView, str]] = [
        (samples.host(credential_at=samples.ago(days=3)), "since"),
        (
            samples.host(credential_at=samples.ago(days=3), rotation_asked_at=samples.ago(hours=1)),
            "has not answered yet",
        ),
        (
            samples.host(online=False, credential_at=samples.ago(days=3), rotation_asked_at=samples.ago(hours=1)),
            "told when",
        ),
        (samples.host(state="revoked", revoked_at=samples.ago(hours=1)), "host invite web1"),
    ]
    for view, says in shown:
        server.on("GET", "/v1/hosts/web1", view)
        page = " ".join(command("host", "show", "web1").out.split())
        assert says in page
    server.on("GET", "/v1/hosts", [view])
    assert "revoked" in command("host", "list").out
