"""Append-only as it is meant to be: hosts back up to a rest-server that lets them delete nothing; the maintainer can.

Real rest-server, real restic, every version: two doors to one folder, an append-only one for the hosts and one for the
maintainer, each with a login of its own. What the hosts may is the storage's word, not our policy's: that allows all.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from restic_manager.protocol import api
from tests.e2e.stage import Stage, stage
from tests.support.restic_binaries import REAL_RESTICS, RealRestic, needs_rest_server, rest_server

PASSWORD = "the-repository-password"
HOSTS_LOGIN = "what-hosts-log-in-with"
BOSS_LOGIN = "what-the-maintainer-logs-in-with"

pytestmark = [needs_rest_server, pytest.mark.timeout(300)]


class Doors:
    """A stage with an append-only door to a folder, and one beside it where the maintainer may delete."""

    def __init__(self, set_up: Stage, hosts: str, maintainer: str) -> None:
        self.stage = set_up
        self.hosts = f"rest:{hosts}"
        self.maintainer = f"rest:{maintainer}"
        self.kept = set_up.folder / "kept"
        self.source = set_up.folder / "source"
        self.source.mkdir()

    def snapshots(self) -> set[str]:
        return {path.name for path in (self.kept / "snapshots").iterdir()}

    def start_agent(self, name: str, real: RealRestic) -> None:
        policy = self.stage.folder / f"agent-{name}" / "agent-policy.toml"
        policy.parent.mkdir(mode=0o700)
        policy.write_text('kinds = ["*"]\nrepositories = ["*"]\nrestore_targets = ["*"]\n')
        policy.chmod(0o600)
        self.stage.start_agent(name, restic=real.path)

    def secret(self, host: str, name: str, text: str) -> str:
        """Write a secret onto a host; return the reference to it."""
        path = self.stage.folder / f"{host}.{name}"
        path.write_text(text + "\n")
        path.chmod(0o600)
        return f"agent-file:{path}"

    def run(self, kind: str, *words: str, fails: bool = False) -> dict[str, Any]:
        """Have a job run to its end; return it."""
        done = self.stage.run("job", "run", kind, "--repo", "main", "--wait", "--yes", "--json", *words)
        assert done.returncode == (1 if fails else 0), f"{kind}: {done.stdout}\n{done.stderr}"
        job: dict[str, Any] = self.stage.json("job", "show", str(_decoded(done.stdout)["id"]))
        return job

    def backup(self, number: int) -> str:
        (self.source / f"file-{number}").write_text(f"content {number}\n" * 1_000)
        before = self.snapshots() if self.kept.exists() and (self.kept / "snapshots").exists() else set[str]()
        assert self.run("backup", "--host", "web1", str(self.source))["status"] == "succeeded"
        (new,) = self.snapshots() - before
        return new


def _decoded(text: str) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads(text)
    return found


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[Doors]:
    with ExitStack() as stack:
        set_up = stack.enter_context(stage(tmp_path))
        kept = tmp_path / "kept"
        kept.mkdir()
        users = []
        for user, password in (("web", HOSTS_LOGIN), ("boss", BOSS_LOGIN)):
            file = tmp_path / f"{user}.htpasswd"
            digest = base64.b64encode(hashlib.sha1(password.encode(), usedforsecurity=False).digest()).decode()
            file.write_text(f"{user}:{{SHA}}{digest}\n")
            users.append(str(file))
        hosts = stack.enter_context(rest_server(kept, "--append-only", "--htpasswd-file", users[0], login=True))
        maintainer = stack.enter_context(rest_server(kept, "--htpasswd-file", users[1], login=True))
        yield Doors(set_up, hosts, maintainer)


@pytest.mark.parametrize("real", REAL_RESTICS)
def test_hosts_back_up_and_cannot_delete_and_the_maintainer_can(doors: Doors, real: RealRestic) -> None:
    set_up = doors.stage
    set_up.start_server()
    set_up.ok(
        "repo", "add", "main", doors.hosts, "--append-only",
        "--password-from", doors.secret("web1", "password", PASSWORD),
        "--user", "web", "--user-password-from", doors.secret("web1", "login", HOSTS_LOGIN),
    )  # fmt: skip
    doors.start_agent("web1", real)
    doors.start_agent("nas1", real)
    first, second = doors.backup(1), doors.backup(2)

    for kind, words in (
        ("forget", ("--snapshot", first)),
        ("tag", ("--snapshot", first, "--add", "mine")),
        ("prune", ()),
    ):
        job = doors.run(kind, "--host", "web1", *words, fails=kind != "prune")
        if kind != "prune":  # there is nothing to prune yet, and nothing was
            assert job["error"]["code"] == "access_denied", job["error"]
        assert {first, second} <= doors.snapshots(), f"{kind} by a host removed something"

    # What a probe finds: twice refused leaves one small snapshot, and nothing else is touched.
    before = doors.snapshots()  # the two, and the copy of one that a refused change of tags has left
    for _ in range(2):
        assert "web1 cannot delete there" in set_up.ok("repo", "probe", "main", "--host", "web1")
        assert len(doors.snapshots() - before) == 1
    assert set_up.json("repo", "show", "main")["deletion"] == "refused"
    url = doors.maintainer.replace("http://", f"http://boss:{BOSS_LOGIN}@")
    set_up.client.add_repo(api.RepoRequest(name="open", url=url, password=PASSWORD, append_only=True))
    assert "web1 CAN delete there" in set_up.ok("repo", "probe", "open", "--host", "web1")
    assert doors.snapshots() == before
    shown = set_up.json("repo", "show", "open")
    assert (shown["deletion"], "could delete there" in " ".join(shown["warnings"])) == ("possible", True)
    set_up.ok("repo", "remove", "open", "--yes")

    set_up.ok(
        "repo", "maintenance", "main", "--maintainer", "nas1", "--maintainer-url",
        doors.maintainer.replace("http://", "http://boss@"),
        "--maintainer-env-from", f"RESTIC_REST_PASSWORD={doors.secret('nas1', 'login', BOSS_LOGIN)}",
    )  # fmt: skip
    # Without --host: what only the maintainer can do goes to it.
    job = doors.run("forget", "--snapshot", first)
    assert job["host"] == "nas1"
    assert first not in doors.snapshots()
    assert second in doors.snapshots()
    assert doors.run("prune")["status"] == "succeeded"
    assert doors.run("check")["status"] == "succeeded"
    third = doors.backup(3)
    target = set_up.folder / "restored"
    doors.run("restore", "--host", "web1", "--snapshot", third, "--to", str(target))
    assert (target / str(doors.source).lstrip("/") / "file-3").read_text() == "content 3\n" * 1_000
    # Nowhere does the server hold any of these in the clear.
    for path in set_up.data.rglob("*"):
        if path.is_file():
            held = path.read_bytes()
            for secret in (PASSWORD, HOSTS_LOGIN, BOSS_LOGIN):
                assert secret.encode() not in held, path


@pytest.mark.parametrize("real", REAL_RESTICS[-1:])
def test_a_login_that_comes_with_each_job(doors: Doors, real: RealRestic) -> None:
    """The server holds nothing that deletes: the operator brings it with the job, and it is gone with it."""
    set_up = doors.stage
    set_up.start_server()
    hosts = doors.hosts.replace("http://", f"http://web:{HOSTS_LOGIN}@")
    set_up.add_repo("main", password=PASSWORD, url=hosts)
    set_up.ok("repo", "edit", "main", "--append-only")
    doors.start_agent("web1", real)
    doors.start_agent("nas1", real)
    first = doors.backup(1)
    set_up.ok(
        "repo", "maintenance", "main", "--maintainer", "nas1", "--maintainer-url", doors.maintainer,
        "--maintainer-per-job",
    )  # fmt: skip
    job = doors.run("forget", "--snapshot", first, fails=True)
    assert job["error"]["code"] == "login_forgotten"
    assert first in doors.snapshots()
    login = set_up.folder / "boss.env"
    login.write_text(f"RESTIC_REST_USERNAME=boss\nRESTIC_REST_PASSWORD={BOSS_LOGIN}\n")
    doors.run("forget", "--snapshot", first, "--maintainer-env-file", str(login))
    assert first not in doors.snapshots()
    for path in set_up.data.rglob("*"):
        if path.is_file():
            assert BOSS_LOGIN.encode() not in path.read_bytes(), path
