"""`repo add` by reference, `repo set-secret`, a maintainer's login: what is sent, and that nothing secret is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from restic_manager.cli import exits
from restic_manager.protocol.api import MaintenanceView, SecretsView
from tests.cli import samples
from tests.cli.conftest import Command
from tests.cli.stub_server import StubServer


def written(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_repo_add_by_reference_sends_no_secret(command: Command, server: StubServer) -> None:
    server.on("POST", "/v1/repos", (201, samples.repo()))
    ended = command(
        "repo", "add", "nas", "rest:https://nas/", "--password-from", "agent-file:/etc/pw", "--user", "web",
        "--user-password-from", "agent-command:nas", "--env-from", "GOGC=agent-env:GOGC",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    body = server.asked[0].body
    assert (body["password"], body["password_from"]) == (None, "agent-file:/etc/pw")
    assert (body["user"], body["user_password"], body["user_password_from"]) == ("web", None, "agent-command:nas")
    assert body["env_from"] == {"GOGC": "agent-env:GOGC"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--password-from", "agent-env:P", "--generate-password"], "choose one"),
        (["--password-file", "-", "--user-password-file", "-"], "only one of them can be standard input"),
        (["--generate-password", "--env-from", "hunter2"], "write NAME=REF"),
        (["--generate-password", "--env-from", "A=hunter2"], "--env-from A: .* is written agent-file:"),
        (["--generate-password", "--env-from", "A=agent-env:A", "--env-from", "A=agent-env:B"], "given twice"),
    ],
)
def test_what_contradicts_itself_is_asked_nobody(
    command: Command, server: StubServer, words: list[str], said: str
) -> None:
    import re

    ended = command("repo", "add", "nas", "rest:https://nas/", *words)
    assert ended.code == exits.USAGE
    assert re.search(said, " ".join(ended.err.split())), ended.err
    assert "hunter2" not in ended.err
    assert server.asked == []


def view(*changed: str, hosts: tuple[str, ...] = ("web1",)) -> Any:
    repo = msgspec.convert(msgspec.to_builtins(samples.repo()), type(samples.repo()))
    return SecretsView(changed=changed, repo=repo, hosts=hosts)


def test_set_secret_sends_what_is_named_and_shows_only_that_it_was_set(
    command: Command, server: StubServer, tmp_path: Path
) -> None:
    server.on("POST", "/v1/repos/main/secrets", (200, view("the password is set", "AWS_SESSION_TOKEN is removed")))
    ended = command(
        "repo", "set-secret", "main", "--password-file", written(tmp_path, "pw", "hunter2\n"), "--unset",
        "AWS_SESSION_TOKEN", "--env-file", written(tmp_path, "env", "AWS_REGION=eu\n"),
    )  # fmt: skip
    assert ended.code == 0, ended.err
    body = server.asked[0].body
    assert (body["password"], body["unset"], body["env"]) == ("hunter2", ["AWS_SESSION_TOKEN"], {"AWS_REGION": "eu"})
    assert ended.out == "repository main: the password is set, AWS_SESSION_TOKEN is removed\n"
    assert "told to web1" in ended.err
    assert "hunter2" not in ended.out + ended.err
    server.on("POST", "/v1/repos/main/secrets", (200, view(hosts=())))
    ended = command("repo", "set-secret", "main", "--user", "web")
    assert "nothing was changed" in ended.out


def test_set_secret_without_anything_to_set(command: Command, server: StubServer, tmp_path: Path) -> None:
    ended = command("repo", "set-secret", "main")
    assert (ended.code, "--password-from REF" in " ".join(ended.err.split())) == (exits.USAGE, True)
    empty = written(tmp_path, "empty", "\n")
    ended = command("repo", "set-secret", "main", "--password-file", empty)
    assert (ended.code, "nothing in it" in ended.err) == (exits.USAGE, True)
    assert server.asked == []


def test_a_maintainer_by_reference_and_with_a_login_for_each_job(
    command: Command, server: StubServer, tmp_path: Path
) -> None:
    shown = MaintenanceView(repo=msgspec.structs.replace(samples.repo(), maintainer_per_job=True), schedules=())
    server.on("POST", "/v1/repos/main/maintenance", (200, shown))
    ended = command(
        "repo", "maintenance", "main", "--maintainer-env-from", "RESTIC_REST_PASSWORD=agent-file:/root/nas",
        "--maintainer-per-job",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    body = server.asked[0].body
    assert body == {
        "maintainer_env_from": {"RESTIC_REST_PASSWORD": "agent-file:/root/nas"},
        "maintainer_per_job": True,
    }
    assert "comes with each job" in ended.out
    server.on("POST", "/v1/jobs", (201, samples.job()))
    boss = written(tmp_path, "boss", "RESTIC_REST_PASSWORD=hunter2\n")
    ended = command("job", "run", "prune", "--repo", "main", "--host", "nas1", "--maintainer-env-file", boss)
    assert ended.code == 0, ended.err
    assert server.asked[-1].body["maintainer_env"] == {"RESTIC_REST_PASSWORD": "hunter2"}
    assert "hunter2" not in ended.out + ended.err
