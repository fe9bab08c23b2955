"""Promise 3: a stolen server orders what it likes, and nothing happens on the host but refusals.

The agent is a real process under a policy of its host's; restic is a real one behind a script that writes down every
command it is started with. After each attack: nothing was started, and no file of the host's has changed.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from restic_manager.domain.hooks import Hooks
from restic_manager.domain.model import Offline, Outcome, RepoAccess, Status, Timing
from restic_manager.domain.retention import Retention
from restic_manager.domain.specs import (
    BackupSpec,
    CopySpec,
    DumpSpec,
    ForgetPolicy,
    ForgetSpec,
    PruneSpec,
    RestoreSpec,
    SnapshotsSpec,
    Spec,
    TagSpec,
    UnlockSpec,
)
from restic_manager.protocol.codec import encode_entry
from restic_manager.protocol.messages import CommandCancel, CommandRun, Entry, ScheduleSet, StandingOrder
from tests.e2e.hostile_server import HostileServer, agent_of, hostile_server
from tests.support.restic_binaries import REAL_RESTICS, RealRestic

SNAPSHOT = "ab" * 8
PLANTED = "root:$6$planted:19000"


@dataclass
class Target:
    """A host under attack: what is precious on it, and what was started there."""

    folder: Path
    server: HostileServer
    agent: trio.Process
    repo: RepoAccess

    @property
    def started(self) -> list[str]:
        """Every restic command so far."""
        path = self.folder / "started"
        return path.read_text().splitlines() if path.exists() else []

    def pictured(self) -> dict[str, str]:
        """Every file of the host's: its policy and programs, what it backs up, what it does not."""
        found: dict[str, str] = {}
        for place in (
            "etc",
            "srv",
            "elsewhere",
            "data/agent-policy.toml",
            "data/hooks",
            "data/commands",
            "data/restores",
        ):
            root = self.folder / place
            for path in [root, *root.rglob("*")]:
                facts = path.lstat()
                content = str(path.readlink()) if path.is_symlink() else ""
                content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else content
                found[str(path)] = f"{facts.st_mode} {facts.st_mtime_ns} {content}"
        return found

    async def refused(
        self, spec: Spec, repo: RepoAccess | None = None, *, code: str = "not_permitted", **facts: Any
    ) -> str:
        """Order it; it is refused, nothing is started. Return the reason."""
        before = len(self.started)
        outcome = await self.server.order(spec, repo or self.repo, **facts)
        assert (outcome.status, outcome.error is not None) == (Status.FAILED, True), (spec, outcome)
        assert outcome.error is not None
        assert outcome.error.code == code, (spec, outcome)
        assert self.started[before:] == []
        assert outcome.exit_code is None
        assert PLANTED not in outcome.error.message
        return outcome.error.message


@asynccontextmanager
async def under_attack(tmp_path: Path, real: RealRestic) -> AsyncIterator[Target]:
    """A host with a policy, a repository it uses, and a server that wants its worst. Afterwards all is as it was."""
    folder = tmp_path.resolve()
    for place in ("etc", "srv/www", "elsewhere", "data/hooks", "data/commands", "data/restores"):
        (folder / place).mkdir(parents=True)
    (folder / "data").chmod(0o700)
    (folder / "etc" / "shadow").write_text(PLANTED)
    (folder / "srv" / "www" / "index").write_text("hello")
    (folder / "srv" / "way-out").symlink_to(folder / "etc")
    (folder / "data" / "restores" / "way-out").symlink_to(folder / "etc")
    for name in ("hooks/allowed", "hooks/theirs", "commands/theirs"):
        (folder / "data" / name).write_text(f"#!/bin/sh\ntouch {folder}/elsewhere/ran\n")
        (folder / "data" / name).chmod(0o722 if name == "hooks/allowed" else 0o700)
    policy = folder / "data" / "agent-policy.toml"
    policy.write_text(f'sources = ["{folder}/srv"]\nhooks = ["allowed"]\n')
    policy.chmod(0o600)
    spy = folder / "restic"
    quoted = shlex.quote(str(folder / "started"))
    spy.write_text(f'#!/bin/sh\n[ "$1" = version ] || echo "$*" >> {quoted}\nexec {shlex.quote(str(real.path))} "$@"\n')
    spy.chmod(0o700)
    real.run(str(folder / "repo"), "init")
    repo = RepoAccess(repo_id="r1", url=str(folder / "repo"), password="pw")
    async with (
        hostile_server(str(folder / "repo")) as server,
        agent_of(server, folder / "data", spy, folder / "agent.log") as agent,
    ):
        target = Target(folder, server, agent, repo)
        await server.session()
        before = target.pictured()
        # What is allowed works: the agent is not merely broken. And it works again after all of it.
        fine = BackupSpec(paths=(f"{folder}/srv",))
        assert (await server.order(fine, repo)).status is Status.SUCCEEDED
        yield target
        assert (await server.order(fine, repo)).status is Status.SUCCEEDED
        assert target.pictured() == before
        assert agent.returncode is None
        assert not any(PLANTED in text for text in server.logs)


pytestmark = [pytest.mark.parametrize("real", REAL_RESTICS[:1] + REAL_RESTICS[-1:])]


async def test_a_stolen_server_gets_nothing_but_refusals(tmp_path: Path, real: RealRestic) -> None:
    with trio.fail_after(150):
        async with under_attack(tmp_path, real) as target:
            await _kinds(target)
            await _sources(target)
            await _restores(target)
            await _repositories(target)
            await _programs(target)
            await _options(target)


async def _kinds(target: Target) -> None:
    keep = ForgetPolicy(schedule_id="s", restic_host="web1", keep=Retention(last=1))
    for spec in (
        ForgetSpec(policies=(keep,)),
        ForgetSpec(snapshots=(SNAPSHOT,)),
        PruneSpec(max_unused=0),
        TagSpec(snapshots=(SNAPSHOT,), remove=("a",)),
        UnlockSpec(remove_all=True),
    ):
        assert "restic-manager agent policy allow-kind" in await target.refused(spec)


async def _sources(target: Target) -> None:
    etc, srv = target.folder / "etc", target.folder / "srv"
    lists = srv / "www" / "index"
    for spec in (
        BackupSpec(paths=(f"{etc}/shadow",)),
        BackupSpec(paths=("/",)),
        BackupSpec(paths=(f"{srv}/../etc",)),
        BackupSpec(paths=(f"{srv}/way-out/shadow",)),
        BackupSpec(paths=(f"{srv}/www", f"{srv}2")),
        BackupSpec(files_from=(f"{etc}/shadow",)),
        BackupSpec(files_from=(f"{srv}/way-out/shadow",)),
        BackupSpec(files_from=(str(lists),)),  # it says `hello`: a path in the agent's own folder
        BackupSpec(paths=(f"{srv}/www",), exclude_files=(f"{etc}/shadow",)),
        BackupSpec(files_from=("/dev/stdin",)),
        BackupSpec(files_from=("/proc/self/environ",)),
    ):
        await target.refused(spec)


async def _restores(target: Target) -> None:
    etc, own = f"{target.folder}/etc", f"{target.folder}/data/restores"

    def into(place: str | None, *paths: str, **facts: Any) -> RestoreSpec:
        spec = RestoreSpec(snapshot=SNAPSHOT, target=place, in_place=place is None, paths=paths, overwrite="always")
        return msgspec.structs.replace(spec, **facts)

    for spec in (
        into(etc),
        into("/etc"),
        into("/"),
        into(None),
        into(None, f"{etc}/shadow"),
        into(None, f"{own}/x", f"{etc}/shadow"),
        into(f"{own}/../../etc"),
        into(f"{own}/way-out"),
        into(f"{own}/way-out/deeper"),
        into(own, "/way-out/shadow"),
        into(own, includes=("shadow",)),
        into(f"{target.folder}/data"),
        into(f"{target.folder}/data/hooks"),
        into(None, f"{target.folder}/data/agent-policy.toml"),
        into(f"{own}2"),
        into("-/etc"),
        into("--target=/etc"),
        into(etc, delete=True),
    ):
        await target.refused(spec)


async def _repositories(target: Target) -> None:
    spec = BackupSpec(paths=(f"{target.folder}/srv",))
    for url in (
        f"{target.folder}/elsewhere",
        f"{target.repo.url}/../elsewhere",
        f"{target.repo.url}2",
        "rest:http://user:s3cret@127.0.0.1:1/",
        f"rest:http://127.0.0.1:1?@{target.repo.url}",
        f"sftp:-oProxyCommand=touch {target.folder}/elsewhere/x:/srv",
        f'rclone::sftp,ssh="touch {target.folder}/elsewhere/x":',
        "s3:https://evil.example/bucket",
    ):
        said = await target.refused(spec, RepoAccess(repo_id="r2", url=url, password="pw"))
        assert "s3cret" not in said
    other = RepoAccess(repo_id="r2", url=f"{target.folder}/elsewhere", password="pw")
    await target.refused(CopySpec(from_repo="r2"), source=other)
    await target.refused(CopySpec(from_repo="r1"), other, source=target.repo)
    for spec_ in (SnapshotsSpec(), DumpSpec(snapshot=SNAPSHOT, path="/etc/shadow")):
        await target.refused(spec_, other)
    await target.refused(spec, msgspec.structs.replace(target.repo, env={"HTTPS_PROXY": "http://evil.example"}))
    for name in ("RESTIC_PASSWORD_COMMAND", "LD_PRELOAD", "PATH", "RCLONE_SFTP_SSH", "RESTIC_CACHE_DIR"):
        lured = msgspec.structs.replace(target.repo, env={name: f"touch {target.folder}/elsewhere/x"})
        await target.refused(spec, lured, code="invalid_input")


async def _programs(target: Target) -> None:
    spec = BackupSpec(paths=(f"{target.folder}/srv",))
    for name in ("not-there", "theirs"):
        await target.refused(spec, hooks=Hooks(before=(name,)))
        await target.refused(spec, hooks=Hooks(finally_=(name,)))
        await target.refused(BackupSpec(stdin_command=name))
    # Allowed by name, but others can write it.
    assert "writable by others" in await target.refused(spec, hooks=Hooks(after=("allowed",)))


async def _options(target: Target) -> None:
    srv, witness = f"{target.folder}/srv", f"{target.folder}/elsewhere/x"
    for tag in ("a,b", "rm:another-schedule", "rmj:another-job", "a\nb", " a"):
        await target.refused(BackupSpec(paths=(srv,), tags=(tag,)), code="invalid_input")
    # A path that looks like an option is a relative one: never below what is allowed.
    for path in (f"--password-command=touch {witness}", "-x", "--stdin", "srv"):
        await target.refused(BackupSpec(paths=(path,)))
    # Values that look like options are values.
    spec = BackupSpec(paths=(srv,), tags=("--no-lock",), excludes=(f"--password-command=touch {witness}",))
    assert (await target.server.order(spec, target.repo)).status is Status.SUCCEEDED
    assert target.started[-1].endswith(f"-- {srv}")
    assert "--tag=--no-lock" in target.started[-1]


async def test_what_no_agent_can_understand_changes_nothing(tmp_path: Path, real: RealRestic) -> None:
    with trio.fail_after(150):
        async with under_attack(tmp_path, real) as target:
            server, before = target.server, len(target.started)
            order = CommandRun(
                job_id="malformed",
                spec=BackupSpec(paths=(f"{target.folder}/srv",)),
                repo=target.repo,
                restic_host="web1",
                ordered_at=datetime.now(UTC),
            )
            whole = json.loads(msgspec.json.encode(order))

            def changed(**facts: Any) -> str:
                return json.dumps({**whole, **facts})

            spec = whole["spec"]
            for frame in (
                changed(hooks={"before": ["../../bin/sh"]}),
                changed(hooks={"finally": ["-c touch x"]}),
                changed(spec={**spec, "stdin_command": "/bin/sh"}),
                changed(spec={**spec, "kind": "run", "command": "touch x"}),
                changed(spec={**spec, "paths": "/etc"}),
                changed(spec={**spec, "paths": ["/x" * 9_000]}),
                changed(spec={"kind": "restore", "snapshot": "latest --target=/", "in_place": True}),
                changed(repo=None),
                changed(job_id="x" * 65),
                changed(ordered_at="yesterday"),
                '{"type":"shell","command":"touch x"}',
                '{"type":"joined","host_id":"h","host_name":"n","repositories":["*"]}',
            ):
                heard = len(server.errors)
                link = await server.session()
                await link.send_frame(frame)
                await server.until(f"an answer to {frame[:80]}", lambda: len(server.errors) > heard)  # noqa: B023 - awaited here
            for frame in ("{", "[]", "null", '"x"', "[" * 100_000, '{"type":' * 20_000, '{"type":"\ud800"}'[:9] + "}"):
                hellos = len(server.hellos)
                link = await server.session()
                await link.send_frame(frame)
                await server.until("the agent to dial again", lambda: len(server.hellos) > hellos)  # noqa: B023 - awaited here
            assert target.started[before:] == []
            assert "malformed" not in server.finished


async def test_ids_of_others_and_of_the_past_start_nothing(tmp_path: Path, real: RealRestic) -> None:
    with trio.fail_after(150):
        async with under_attack(tmp_path, real) as target:
            server, repo = target.server, target.repo
            spec = BackupSpec(paths=(f"{target.folder}/srv",))
            assert (await server.order(spec, repo, job_id="mine")).status is Status.SUCCEEDED
            before = len(target.started)
            # A known id is answered, whatever it is to mean now.
            again = await server.order(RestoreSpec(snapshot=SNAPSHOT, in_place=True), repo, job_id="mine")
            assert again.status is Status.SUCCEEDED
            # Looking up a run that never was, in a repository of the server's choice.
            other = RepoAccess(repo_id="r2", url=f"{target.folder}/elsewhere", password="pw")
            looked = await server.order(spec, other, job_id="never", recover=True)
            assert looked.status is Status.INTERRUPTED
            link = await server.session()
            await link.send(CommandCancel(job_id="somebody-elses", reason="x"))
            await server.until("the tombstone", lambda: "somebody-elses" in server.finished)
            assert (await server.order(spec, repo, job_id="somebody-elses")).status is Status.CANCELLED
            assert target.started[before:] == []


async def test_a_standing_order_is_no_way_round(tmp_path: Path, real: RealRestic) -> None:
    """The server sends its order with a schedule, and then is silent: the agent runs by itself, and refuses."""
    with trio.fail_after(150):
        async with under_attack(tmp_path, real) as target:
            server, before = target.server, len(target.started)
            now = datetime.now(UTC)
            entry = Entry(
                schedule_id="s1",
                name="nightly",
                revision=1,
                timing=Timing(cron="@every 10s", timezone="UTC", anchor=now - timedelta(hours=1)),
                enabled=True,
                offline=Offline.RUN,
                effective_from=now,
                standing_order=StandingOrder(
                    spec=RestoreSpec(snapshot=SNAPSHOT, target=f"{target.folder}/etc", overwrite="always"),
                    repo=target.repo,
                    restic_host="web1",
                ),
            )
            link = await server.session()
            await link.send(ScheduleSet(epoch="epoch-1", version=2, entries=(encode_entry(entry),)))
            await server.until("a fire", lambda: server.fires)
            known = set(server.finished)
            await server.until("the refusal", lambda: set(server.finished) - known)
            outcome: Outcome = server.finished[(set(server.finished) - known).pop()]
            assert outcome.error is not None
            assert outcome.error.code == "not_permitted"
            assert target.started[before:] == []
            await link.send(ScheduleSet(epoch="epoch-1", version=3))
            await server.until("the empty set to be applied", lambda: any(ack.version == 3 for ack in server.acks))
