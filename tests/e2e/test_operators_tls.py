"""Operators elsewhere over TLS, as they work: a token, a pin once, and nobody in between is told anything."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from restic_manager.client import Client, ServerAddress
from restic_manager.client.exchange import LOOK_SECONDS, is_vouched_for, shown_pin
from restic_manager.domain.errors import UntrustedError
from restic_manager.protocol.jointoken import is_pin
from tests.e2e.stage import CHECKOUT, Stage, free_port, stage
from tests.support.tls import good_pair

pytestmark = pytest.mark.timeout(240)


def remote(folder: Path, *words: str, token: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command as somebody at another machine would: no data directory, no socket."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("RESTIC_MANAGER_")}
    env |= {"XDG_CONFIG_HOME": str(folder / "config"), "HOME": str(folder), **more}
    argv = [sys.executable, str(CHECKOUT / "restic_manager.py"), *words]
    return subprocess.run(argv, input=token, env=env, capture_output=True, text=True, timeout=60, check=False)


def open_server(here: Stage, *flags: str) -> str:
    """Start a server with a door for operators on TCP; return its URL."""
    port = free_port()
    here.start_server("--api-listen", f"127.0.0.1:{port}", *flags)
    return f"https://127.0.0.1:{port}"


def test_a_pin_once_and_then_commands_as_at_home(tmp_path: Path) -> None:
    with stage(tmp_path) as here:
        url = open_server(here, "--tls", "auto")
        assert here.server is not None
        assert f"operators' API {url};" in here.server.said()
        token = here.json("token", "create", "ana", "--role", "viewer")["token"]
        pin = here.json("server", "cert", "show")["pin"]
        ask = partial(remote, tmp_path)
        unknown = ask("login", url, token=token)
        assert unknown.returncode == 5, unknown.stderr
        assert "the system's CAs do not vouch for the certificate" in unknown.stderr
        assert "login URL --pin PIN" in unknown.stderr
        wrong = ask("login", url, "--pin", "a" * 52, token=token)
        assert wrong.returncode == 5, wrong.stderr
        assert pin in wrong.stderr
        assert "Nothing was said to it" in wrong.stderr
        mistyped = ask("login", url, "--pin", pin[:-1], token=token)
        assert (mistyped.returncode, "52 letters" in mistyped.stderr) == (2, True)
        assert here.json("audit", "list", "--who", "nobody") == []
        assert ask("login", url, "--pin", pin.upper(), token=token).returncode == 0
        listed = ask("host", "list", "--json")
        assert (listed.returncode, json.loads(listed.stdout)) == (0, [])
        assert ask("host", "invite", "web1").returncode == 6
        # While the server changes its certificate both pins are kept by who logs in, and hold.
        coming = here.json("server", "cert", "rotate", "--overlap", "1h")["next_pin"]
        assert ask("login", url, token=token).returncode == 0
        kept = json.loads((tmp_path / "config" / "restic-manager" / "contexts.json").read_text())
        assert kept["contexts"][url.removeprefix("https://")]["pins"] == [pin, coming]
        here.ok("server", "cert", "rotate", "--finish")
        assert ask("host", "list").returncode == 0
        assert shown_pin(ServerAddress.parse(url), timeout=LOOK_SECONDS) == coming
        # In a script nothing has to be kept.
        elsewhere = tmp_path / "ci"
        script = {"RESTIC_MANAGER_OPERATOR_TOKEN": token, "RESTIC_MANAGER_SERVER_PIN": coming}
        assert remote(elsewhere, "host", "list", "--server", url, **script).returncode == 0
        assert not elsewhere.exists()
        script["RESTIC_MANAGER_SERVER_PIN"] = pin
        assert remote(elsewhere, "host", "list", "--server", url, **script).returncode == 5
        assert "Traceback" not in here.server.said()
        assert token not in here.server.said()


def test_without_tls_the_door_says_what_it_speaks(tmp_path: Path) -> None:
    with stage(tmp_path) as here:
        url = open_server(here, "--tls", "auto")
        connection = http.client.HTTPConnection("127.0.0.1", ServerAddress.parse(url).port, timeout=10)
        connection.request("GET", "/v1/hosts")
        answer = connection.getresponse()
        assert (answer.status, json.load(answer)["error"]["code"]) == (400, "tls_needed")
        token = here.json("token", "create", "ana", "--role", "viewer")["token"]
        plain = remote(tmp_path, "login", url.replace("https", "http"), token=token)
        assert (plain.returncode, "has to begin with https://" in plain.stderr) == (2, True), plain.stderr


def test_a_certificate_that_cas_vouch_for_needs_no_pin(tmp_path: Path) -> None:
    certificate, key = good_pair(tmp_path / "tls")
    with stage(tmp_path) as here:
        url = open_server(here, "--tls-cert", str(certificate), "--tls-key", str(key))
        token = here.json("token", "create", "ana", "--role", "viewer")["token"]
        believed = {"SSL_CERT_FILE": str(certificate)}
        assert remote(tmp_path, "login", url, token=token, **believed).returncode == 0
        assert remote(tmp_path, "host", "list", **believed).returncode == 0
        assert remote(tmp_path, "host", "list").returncode == 5


def test_somebody_in_between_hears_nothing(tmp_path: Path) -> None:
    with stage(tmp_path) as here:
        address = ServerAddress.parse(open_server(here, "--tls", "auto"))
        pin = here.json("server", "cert", "show")["pin"]
        token = here.json("token", "create", "ana", "--role", "viewer")["token"]
        assert is_pin(pin)
        assert not is_vouched_for(address, timeout=LOOK_SECONDS)
        assert here.server is not None
        here.server.stop()
        other = Stage(tmp_path / "other")
        other.folder.mkdir(exist_ok=True)
        try:
            other.start_server("--api-listen", f"127.0.0.1:{address.port}", "--tls", "auto")
            with pytest.raises(UntrustedError):
                Client(
                    ServerAddress(host="127.0.0.1", port=address.port, secure=True, token=token, pins=(pin,))
                ).hosts()
            assert other.json("audit", "list") == []  # nobody's token came there
        finally:
            other.stop_all()
