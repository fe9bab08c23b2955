"""Secrets planted in everything that takes one, and then looked for in everything that is written, shown or running.

A whole life with real processes: repositories given and referred to, a maintainer's login for one job, tokens, jobs
that succeed and jobs that fail, a restic that shouts out all it was given, errors of every sort, a crash. Each secret
is looked for as it is and in the spellings programs give it, and may be found only where it has to be.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from restic_manager.domain.errors import ManagerError
from restic_manager.protocol import api
from tests.e2e.stage import Program, Stage, free_port, stage, until
from tests.support.restic_binaries import needs_rest_server, newest, rest_server

pytestmark = [pytest.mark.timeout(300), pytest.mark.restic, needs_rest_server]


def planted(name: str) -> str:
    """A secret that is not in the world yet, and that every spelling changes."""
    return f'{name} {secrets.token_hex(8)}/+@%"\\é'


def login(name: str) -> str:
    """One that fits into the password file of a rest-server and into a URL."""
    return f'{name}:{secrets.token_hex(8)}/+@%"\\'


def spellings(secret: str) -> set[bytes]:
    """A secret as it is, in a URL, in JSON, quoted by Python, and in base64 wherever it stands in what is encoded."""
    texts = {
        secret,
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
    }
    found = {text.encode() for text in texts}
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret.encode())
        found.add(encoded[-(-before * 8 // 6) : (before + len(secret.encode())) * 8 // 6])
    return found


class Hunt:
    """What was planted, and everything in which it may not be found."""

    def __init__(self, set_up: Stage) -> None:
        self.stage = set_up
        self.words: dict[str, set[bytes]] = {}
        self.shown: list[tuple[str, bytes]] = []
        self.processes: set[bytes] = set()

    def plant(self, name: str, secret: str | None = None) -> str:
        secret = secret or planted(name)
        self.words[name] = spellings(secret)
        return secret

    def file(self, name: str, text: str) -> str:
        path = self.stage.folder / "elsewhere" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
        path.chmod(0o600)
        return str(path)

    def type(self, *words: str, stdin: str | None = None, code: int | None = 0) -> str:
        """Type a command; keep all that it says."""
        done = self.stage.run(*words, stdin=stdin)
        if code is not None:
            assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        self.shown.append((" ".join(words), (done.stdout + done.stderr).encode()))
        return done.stdout

    def found_in(self, where: str, held: bytes) -> list[str]:
        return [f"{name} in {where}" for name, words in self.words.items() if any(word in held for word in words)]

    def in_files(self, folder: Path) -> list[str]:
        return [
            found
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.is_symlink()
            for found in self.found_in(str(path.relative_to(folder)), path.read_bytes())
        ]

    @contextmanager
    def watching(self, restics: tuple[str, ...]) -> Iterator[None]:
        """Read what every process but restic and this one was started with, as fast as that goes."""
        stop = threading.Event()

        def look() -> None:
            while not stop.wait(0.02):
                for folder in Path("/proc").iterdir():
                    if not folder.name.isdigit() or int(folder.name) == os.getpid():
                        continue
                    try:
                        environ = (folder / "environ").read_bytes()
                        # After its environment: what has become restic meanwhile is told by this.
                        cmdline = (folder / "cmdline").read_bytes()
                        self.processes.add(cmdline)
                        # restic gets its secrets by its environment: there is no other way that tells fewer. (One that
                        # is gone has no words left to tell it by.)
                        if cmdline and not any(restic.encode() in cmdline for restic in restics):
                            self.processes.add(environ)
                    except OSError:
                        continue  # it is gone

        thread = threading.Thread(target=look, name="process list")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


LEAKY = """#!{python}
import base64, json, os, sys
from urllib.parse import quote
if "version" in sys.argv:
    print("restic 0.18.0 compiled with go1.24 on linux/amd64")
    sys.exit(0)
for name, value in os.environ.items():
    if name in {{"RESTIC_PASSWORD", "RESTIC_REST_PASSWORD", "AWS_SESSION_TOKEN", "RESTIC_REPOSITORY"}}:
        for said in (value, quote(value, safe=""), quote(value), json.dumps(value), repr(value)):
            print(f"{{name}} is {{said}}.", file=sys.stderr)
            print(f"{{name}} is {{said}}.")
        basic = base64.b64encode(f"web:{{value}}".encode()).decode()
        print(f"Fatal: Authorization: Basic {{basic}}", file=sys.stderr)
        print(json.dumps({{"message_type": "error", "error": {{"message": value}}, "during": value, "item": value}}))
        print(json.dumps({{"message_type": "exit_error", "code": 1, "message": value}}), file=sys.stderr)
sys.exit(1)
"""


@pytest.fixture
def hunt(tmp_path: Path) -> Iterator[Hunt]:
    with stage(tmp_path) as set_up:
        yield Hunt(set_up)


def test_planted_secrets_are_nowhere_but_where_they_must_be(hunt: Hunt, tmp_path: Path) -> None:
    real = newest()
    assert real is not None
    set_up = hunt.stage
    leaky = tmp_path / "bin" / "restic"
    leaky.parent.mkdir()
    leaky.write_text(LEAKY.format(python=sys.executable))
    leaky.chmod(0o755)
    kept = tmp_path / "kept"
    kept.mkdir()
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("content")

    sealed = hunt.plant("sealed password")
    hosts_login = hunt.plant("hosts' login", login("l"))
    referred = hunt.plant("password on the host")
    boss_login = hunt.plant("login of one job", login("b"))
    session = hunt.plant("variable")
    changed = hunt.plant("password set later")
    htpasswd = tmp_path / "htpasswd"
    htpasswd.write_text(
        "".join(
            f"{user}:{{SHA}}{base64.b64encode(hashlib.sha1(word.encode(), usedforsecurity=False).digest()).decode()}\n"
            for user, word in (("web", hosts_login), ("boss", boss_login))
        )
    )

    with (
        rest_server(kept, "--htpasswd-file", str(htpasswd), login=True) as url,
        hunt.watching((str(real.path), str(leaky))),
    ):
        api_port = free_port()
        set_up.start_server("--log-level", "debug", "--api-listen", f"127.0.0.1:{api_port}")
        env_file = hunt.file("env", f"AWS_SESSION_TOKEN={session}")
        password_file = hunt.file("password", sealed)
        hunt.type(
            "repo", "add", "main", f"rest:{url}main", "--password-file", "-", "--env-file", env_file,
            "--user", "web", "--user-password-file", hunt.file("login", hosts_login), stdin=sealed + "\n",
        )  # fmt: skip
        hunt.type(
            "repo", "add", "referring", f"rest:{url}referring",
            "--password-from", f"agent-file:{hunt.file('host-password', referred)}",
            "--user", "web", "--user-password-from", "agent-command:login",
        )  # fmt: skip
        made = json.loads(hunt.stage.ok("repo", "add", "made", "/nowhere", "--generate-password", "--json"))
        hunt.plant("generated password", made["generated_password"])

        # -- hosts, whose tokens come by a file --------------------------------------------------------------------
        for name in ("web1", "nas1", "shouting"):
            token = set_up.json("host", "invite", name)["token"]
            hunt.plant(f"join token of {name}", token)
            data = set_up.allow(name, 'kinds = ["*"]\nrepositories = ["*"]\ncommands = ["login"]\n').parent
            commands = data / "commands"
            commands.mkdir(mode=0o700)
            command = commands / "login"
            # In a file of its own, outside of the agent's: what the command is, is not what it gives.
            command.write_text(f"#!/bin/sh\nexec cat '{hunt.file('host-login', hosts_login)}'\n")
            command.chmod(0o700)
            restic = leaky if name == "shouting" else real.path
            start(set_up, name, hunt.file(f"token-{name}", token), restic)
            identity = json.loads((data / "agent-identity.json").read_text())
            hunt.plant(f"credential of {name}", identity["credential"])

        # -- what goes well ----------------------------------------------------------------------------------------
        for repo in ("main", "referring"):
            hunt.type("job", "run", "backup", "--host", "web1", "--repo", repo, str(source), "--wait", "--json")
            hunt.type("job", "run", "snapshots", "--host", "web1", "--repo", repo, "--wait")
        hunt.type("schedule", "add", "nightly", "--repo", "main", "--cron", "@daily", "--host", "web1", str(source))
        hunt.type("repo", "maintenance", "main", "--maintainer", "nas1", "--maintainer-url", f"rest:{url}main",
                  "--maintainer-per-job")  # fmt: skip
        boss = hunt.file("boss", f"RESTIC_REST_USERNAME=boss\nRESTIC_REST_PASSWORD={boss_login}")
        hunt.type("job", "run", "prune", "--repo", "main", "--host", "nas1", "--maintainer-env-file", boss, "--wait")

        # -- what goes wrong, with the secret at hand ---------------------------------------------------------------
        hunt.type("job", "run", "prune", "--repo", "main", "--host", "nas1", "--wait", code=1)
        for repo in ("main", "referring"):
            hunt.type("job", "run", "backup", "--host", "shouting", "--repo", repo, str(source), "--wait", code=1)
        hunt.type("repo", "set-secret", "main", "--password-file", hunt.file("changed", changed))
        hunt.type("job", "run", "backup", "--host", "web1", "--repo", "main", str(source), "--wait", "--json", code=1)
        hunt.type("repo", "add", "main", "/x", "--password-file", password_file, code=None)
        hunt.type("repo", "add", "bad", "/x", "--password-file", password_file, "--env-file",
                  hunt.file("bad-env", f"LD_PRELOAD={session}"), "--json", code=2)  # fmt: skip
        hunt.type("repo", "add", "bad", "/x", "--env-file", hunt.file("no-env", session), code=2)
        # With its login in the URL: not typed here, where everybody could read it in the process list.
        with pytest.raises(ManagerError) as caught:
            set_up.client.add_repo(
                api.RepoRequest(name="bad", url=f"s3:https://u:{quote(hosts_login, safe='')}@h/x", password=sealed)
            )
        hunt.shown.append(("repo add with a login in the URL", repr(caught.value).encode()))
        url_login = url.replace("http://", f"http://web:{quote(hosts_login, safe='')}@")
        view = set_up.client.add_repo(api.RepoRequest(name="moved", url=f"rest:{url_login}moved", password=sealed))
        hunt.shown.append(("repo add that moves the login", repr(view).encode()))
        hunt.type("repo", "set-secret", "main", "--env-file", hunt.file("path", f"PATH={session}"), "--json", code=2)
        hunt.type("job", "run", "check", "--repo", "main", "--host", "nas1", "--maintainer-env-file",
                  hunt.file("bad-boss", f"LD_PRELOAD={boss_login}"), "--json", code=2)  # fmt: skip

        # -- an operator elsewhere ---------------------------------------------------------------------------------
        token = set_up.json("token", "create", "ana", "--role", "admin")["token"]
        hunt.plant("operator's token", token)
        token_file = hunt.file("operator-token", token)
        hunt.type("login", f"http://127.0.0.1:{api_port}", "--token-file", token_file, code=None)
        hunt.type("login", f"http://127.0.0.1:{api_port}", "--token-file", hunt.file("half", token[:-4]), code=None)

        # -- everything there is to see ----------------------------------------------------------------------------
        for words in (
            ("status",), ("host", "list"), ("host", "show", "web1"), ("repo", "list"), ("repo", "show", "main"),
            ("repo", "show", "referring"), ("repo", "maintenance", "main"), ("schedule", "list"), ("job", "list"),
            ("token", "list"), ("audit", "list"), ("audit", "verify"),
        ):  # fmt: skip
            hunt.type(*words, code=None)
            hunt.type(*words, "--json", code=None)
        hunt.type("audit", "export", code=None)
        for job in set_up.jobs():
            for verb in (("show",), ("show", "--json"), ("logs",)):
                hunt.type("job", verb[0], job.id, *verb[1:], code=None)
        hunt.type("server", "backup", str(tmp_path / "copy.tar"))
        hunt.type("server", "secrets", "rotate-key")

        # -- a crash in the middle, as a thief would find the disks ------------------------------------------------
        assert set_up.server is not None
        set_up.server.kill()
        for agent in set_up.agents.values():
            agent.kill()

    shouted = [line for what, said in hunt.shown if "job logs" in what for line in said.splitlines()]
    assert any(b"RESTIC_PASSWORD is ***" in line for line in shouted), "the restic that shouts was not heard"
    found = [hit for what, said in hunt.shown for hit in hunt.found_in(f"what `{what}` says", said)]
    found += [hit for held in hunt.processes for hit in hunt.found_in(f"a process: {held[:80]!r}", held)]
    for path in (*tmp_path.glob("*.log"), tmp_path / "copy.tar"):
        found += hunt.found_in(path.name, path.read_bytes())
    found += [f"{hit} of the server" for hit in hunt.in_files(set_up.data)]
    for name in set_up.agents:
        hits = hunt.in_files(tmp_path / f"agent-{name}")
        own = f"credential of {name} in agent-identity.json"
        assert own in hits, "the hunt itself is blind"
        found += [f"{hit} of agent {name}" for hit in hits if hit != own]
    assert not found, "\n".join(found)


def start(set_up: Stage, name: str, token_file: str, restic: Path) -> None:
    """Start an agent that finds its join token in a file."""
    data = set_up.folder / f"agent-{name}"
    argv = ["agent", "--server", set_up.url, "--catch-up-delay", "0s", "--reconnect-max", "2s", "--log-level", "debug",
            "--token-file", token_file, "--restic", str(restic)]  # fmt: skip
    agent = Program(f"agent {name}", argv, set_up.env(data), set_up.folder / f"agent-{name}.log")
    set_up.agents[name] = agent
    set_up.adopt(agent)
    until(f"{name} to be online", lambda: set_up.online(name))
