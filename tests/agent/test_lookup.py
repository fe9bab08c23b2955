"""Secrets looked up on the host: found, or a sentence that names the reference and never what was there."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio

from restic_manager.agent import lookup as looking
from restic_manager.agent.lookup import Lookup, SecretMissingError
from restic_manager.agent.tool import ResticTool
from restic_manager.domain.errors import InputError, NotPermittedError
from restic_manager.domain.model import RepoAccess, Status
from restic_manager.domain.specs import CopySpec, SnapshotsSpec
from restic_manager.protocol.messages import CommandRun
from restic_manager.runtime.redact import MASK, Redactor
from tests.support.fake_restic import install, make_repo

SECRET = "s3cr3t-of-the-host"


class Host:
    """A data directory, a folder outside it, and a Lookup in them."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.etc = folder / "etc"
        for one in (self.data, self.etc, self.data / "secrets", self.data / "commands"):
            one.mkdir()
        self.redactor = Redactor()
        self.environ = {"PATH": os.environ["PATH"], "RM_PW": SECRET, "EMPTY": "", "HIDDEN": "not for commands"}
        self.lookup = Lookup(data_dir=self.data, environ=self.environ, find_command=self.find, redactor=self.redactor)

    def find(self, name: str) -> Path:
        if name == "forbidden":
            raise NotPermittedError("not here")
        return self.data / "commands" / name

    def file(self, name: str, text: str | bytes, mode: int = 0o600, folder: Path | None = None) -> str:
        path = (folder or self.etc) / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return f"agent-file:{path}"

    def command(self, name: str, script: str) -> str:
        path = self.data / "commands" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
        return f"agent-command:{name}"

    async def password(self, reference: str) -> str | None:
        with trio.fail_after(20):
            return (await self.lookup.open(RepoAccess(repo_id="r", url="/x", password_from=reference))).password


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


async def test_each_form_gives_its_secret_without_the_line_end(host: Host) -> None:
    assert await host.password(host.file("pw", f"{SECRET}\n")) == SECRET
    assert await host.password(host.file("pw", SECRET, folder=host.data / "secrets")) == SECRET
    assert await host.password("agent-env:RM_PW") == SECRET
    assert await host.password(host.command("give", f"echo {SECRET}")) == SECRET
    assert host.redactor.text(f"a {SECRET} b") == f"a {MASK} b"


async def test_everything_of_an_access_is_looked_up_once(host: Host) -> None:
    count = host.etc / "count"
    command = host.command("give", f"echo x >> {count}; echo {SECRET}")
    access = RepoAccess(
        repo_id="r",
        url="rest:http://h/",
        password_from=command,
        env={"RESTIC_REST_USERNAME": "web1"},
        env_from={"RESTIC_REST_PASSWORD": command, "B2_ACCOUNT_KEY": "agent-env:RM_PW"},
    )
    opened = await host.lookup.open(access)
    assert opened == RepoAccess(
        repo_id="r",
        url="rest:http://h/",
        password=SECRET,
        env={"RESTIC_REST_USERNAME": "web1", "RESTIC_REST_PASSWORD": SECRET, "B2_ACCOUNT_KEY": SECRET},
    )
    assert count.read_text() == "x\n"
    assert access.password is None  # what was sent is as it was


async def test_what_needs_no_looking_up_is_the_same_but_not_shown(host: Host) -> None:
    access = RepoAccess(repo_id="r", url="/x", password="from-the-server")
    assert await host.lookup.open(access) is access
    assert host.redactor.text("from-the-server") == MASK


@pytest.mark.parametrize("letter", ["x", "é"])
async def test_a_secret_has_so_many_characters(host: Host, letter: str) -> None:
    assert await host.password(host.file("pw", letter * looking.LONGEST + "\n")) == letter * looking.LONGEST
    with pytest.raises(SecretMissingError, match=f"at most {looking.LONGEST} characters"):
        await host.password(host.file("pw", letter * (looking.LONGEST + 1)))


Make = Callable[[Host], str]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(lambda host: f"agent-file:{host.etc}/none", "no such file", id="missing"),
        pytest.param(lambda host: host.file("pw", ""), "it is empty", id="empty"),
        pytest.param(lambda host: host.file("pw", "\n \n"), "it is empty", id="blank"),
        pytest.param(lambda host: host.file("pw", SECRET, 0o644), "chmod 600", id="readable by all"),
        pytest.param(lambda host: host.file("pw", SECRET, 0o620), "chmod 600", id="writable by a group"),
        pytest.param(lambda host: host.file("id", f"-----BEGIN\n{SECRET}\n-----END"), "one line", id="a key"),
        pytest.param(lambda host: host.file("pw", "x" * 4_097), "one line", id="too long"),
        pytest.param(lambda host: host.file("pw", "x" * 1_000_000), "one line", id="far too long"),
        pytest.param(lambda host: host.file("pw", b"\xff\xfe"), "UTF-8", id="not text"),
        pytest.param(lambda host: host.file("pw", SECRET + "\0"), "one line", id="a NUL"),
        pytest.param(lambda host: f"agent-file:{host.etc}", "regular file|Is a directory", id="a folder"),
        pytest.param(
            lambda host: host.file("agent-identity.json", SECRET, folder=host.data), "agent's own", id="identity"
        ),
        pytest.param(lambda _: "agent-env:NOT_THERE", "no such variable", id="no variable"),
        pytest.param(lambda _: "agent-env:EMPTY", "it is empty", id="empty variable"),
        pytest.param(lambda _: "agent-command:none", "cannot be started", id="no command"),
        pytest.param(lambda host: host.command("bad", f"echo {SECRET} >&2; exit 3"), "exit code 3", id="failing"),
        pytest.param(lambda host: host.command("bad", "kill -9 $$"), "signal 9", id="killed"),
        pytest.param(lambda host: host.command("bad", "true"), "it is empty", id="silent"),
        pytest.param(lambda host: host.command("two", f"echo {SECRET}; echo more"), "one line", id="two lines"),
    ],
)
async def test_what_gives_no_secret_is_named_with_the_remedy(host: Host, make: Make, said: str) -> None:
    reference = make(host)
    with pytest.raises(SecretMissingError, match=said) as caught:
        await host.password(reference)
    assert caught.value.code == "secret_missing"
    assert reference in caught.value.message
    assert SECRET not in caught.value.message
    assert caught.value.__suppress_context__


async def test_a_link_to_the_agents_own_files_is_seen_through(host: Host) -> None:
    host.file("agent.key", SECRET, folder=host.data)
    (host.etc / "link").symlink_to(host.data / "agent.key")
    with pytest.raises(SecretMissingError, match="agent's own"):
        await host.password(f"agent-file:{host.etc}/link")
    host.file("pw", SECRET)
    (host.etc / "good").symlink_to(host.etc / "pw")
    assert await host.password(f"agent-file:{host.etc}/good") == SECRET
    (host.etc / "round").symlink_to(host.etc / "round")
    with pytest.raises(SecretMissingError, match="cannot be read"):
        await host.password(f"agent-file:{host.etc}/round")


async def test_a_pipe_that_nobody_writes_to_does_not_hang(host: Host) -> None:
    os.mkfifo(host.etc / "pipe", 0o600)
    with pytest.raises(SecretMissingError, match="regular file"):
        await host.password(f"agent-file:{host.etc}/pipe")


async def test_a_command_that_does_not_end_is_ended(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "COMMAND_WITHIN", 0.2)
    with pytest.raises(SecretMissingError, match=r"did not end within 0\.2 s"):
        await host.password(host.command("slow", "exec sleep 60"))


async def test_a_command_sees_a_plain_environment(host: Host) -> None:
    seen = host.etc / "seen"
    await host.password(host.command("look", f"env > {seen}; echo x"))
    names = {line.partition("=")[0] for line in seen.read_text().splitlines()}
    assert "PATH" in names
    assert not names & {"HIDDEN", "RM_PW"}


async def test_a_command_that_the_host_does_not_allow(host: Host) -> None:
    with pytest.raises(NotPermittedError, match="not here"):
        await host.password("agent-command:forbidden")


async def test_the_servers_own_proxy_does_not_see_the_hosts_credentials(host: Host) -> None:
    access = RepoAccess(
        repo_id="r",
        url="rest:http://h/",
        password="p",
        env={"HTTP_PROXY": "http://elsewhere:1/"},
        env_from={"RESTIC_REST_PASSWORD": "agent-env:RM_PW"},
    )
    with pytest.raises(InputError, match="HTTP_PROXY decides"):
        await host.lookup.open(access)


async def _ignore(*_: object) -> None: ...


def order(repo: RepoAccess, source: RepoAccess | None = None) -> CommandRun:
    return CommandRun(
        job_id="job-1",
        spec=SnapshotsSpec() if source is None else CopySpec(from_repo=source.repo_id),
        repo=repo,
        restic_host="web1",
        ordered_at=datetime(2026, 3, 1, tzinfo=UTC),
        source=source,
    )


async def test_restic_is_run_with_what_was_looked_up_on_both_repositories(host: Host, tmp_path: Path) -> None:
    fake = install(tmp_path / "bin", env=["RESTIC_PASSWORD", "RESTIC_FROM_PASSWORD"])
    make_repo(tmp_path / "repo", SECRET)
    make_repo(tmp_path / "source", "other-secret")
    host.environ["OTHER"] = "other-secret"
    tool = ResticTool(str(fake.path), cache_dir=tmp_path / "cache", kill_after=5, lookup=host.lookup)
    repo = RepoAccess(repo_id="r", url=str(tmp_path / "repo"), password_from="agent-env:RM_PW")
    source = RepoAccess(repo_id="s", url=str(tmp_path / "source"), password_from="agent-env:OTHER")
    with trio.fail_after(30):
        outcome = await tool.run(
            order(repo, source),
            on_lines=_ignore,
            on_progress=lambda _: None,
            on_rows=_ignore,
            on_spawned=lambda _: None,
            stop=trio.Event(),
        )
    assert outcome.status is Status.SUCCEEDED, outcome
    copied = next(one for one in fake.invocations() if one["argv"][0] == "copy")
    assert (copied["env"]["RESTIC_PASSWORD"], copied["env"]["RESTIC_FROM_PASSWORD"]) == (SECRET, "other-secret")


async def test_a_missing_secret_is_a_failed_job_and_no_restic(host: Host, tmp_path: Path) -> None:
    fake = install(tmp_path / "bin")
    tool = ResticTool(str(fake.path), cache_dir=tmp_path / "cache", kill_after=5, lookup=host.lookup)
    repo = RepoAccess(repo_id="r", url="/x", password_from="agent-env:NOT_THERE")
    with trio.fail_after(30):
        outcome = await tool.run(
            order(repo),
            on_lines=_ignore,
            on_progress=lambda _: None,
            on_rows=_ignore,
            on_spawned=lambda _: None,
            stop=trio.Event(),
        )
    assert outcome.status is Status.FAILED
    assert outcome.error is not None
    assert outcome.error.code == "secret_missing"
    assert [one["argv"][0] for one in fake.invocations()] == ["version"]


async def test_a_cancel_does_not_wait_for_a_slow_command(host: Host, tmp_path: Path) -> None:
    fake = install(tmp_path / "bin")
    tool = ResticTool(str(fake.path), cache_dir=tmp_path / "cache", kill_after=5, lookup=host.lookup)
    started = tmp_path / "started"
    repo = RepoAccess(repo_id="r", url="/x", password_from=host.command("slow", f"touch {started}; exec sleep 60"))
    stop = trio.Event()

    async def stop_when_started() -> None:
        while not started.exists():  # noqa: ASYNC110 - what another process does rings no bell of ours
            await trio.sleep(0.01)
        stop.set()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_when_started)
            outcome = await tool.run(
                order(repo),
                on_lines=_ignore,
                on_progress=lambda _: None,
                on_rows=_ignore,
                on_spawned=lambda _: None,
                stop=stop,
            )
    assert outcome.status is Status.CANCELLED
    assert [one["argv"][0] for one in fake.invocations()] == ["version"]
