"""What opens a repository: given, referred to, changed, or come with a job and kept in memory alone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from restic_manager.domain.errors import ConflictError, InputError
from restic_manager.domain.model import Kind, Offline, RepoAccess, Status
from restic_manager.domain.retention import Retention
from restic_manager.domain.specs import PruneSpec, SnapshotsSpec
from restic_manager.protocol.api import JobRequest, MaintenanceRequest, SecretsRequest
from restic_manager.protocol.codec import decode_entry
from restic_manager.protocol.messages import CAP_KINDS, CAP_REFERENCES, CAP_STANDING_ORDERS, CommandRun, ScheduleSet
from restic_manager.server.per_job import MOST, PerJob
from restic_manager.server.store import repo_changes, repo_secrets, repos, retention_advice, secret_changes
from restic_manager.server.store.repo_secrets import Login, Opening
from tests.server.rows import START
from tests.server.world import World, open_world

ALL = (CAP_KINDS, CAP_STANDING_ORDERS, CAP_REFERENCES)


async def add(world: World, name: str = "main", url: str = "rest:http://nas:8000/", **fields: Any) -> str:
    given: dict[str, Any] = {"password": "pw-of-the-repo", "env": {}, **fields}
    seal, now = world.services.sealer.seal, world.now()
    added = await world.write(lambda tx: repos.add(tx, name=name, url=url, seal=seal, now=now, **given))
    return added.repo.id


async def opened(world: World, repo_id: str, **how: Any) -> RepoAccess:
    return await world.read(lambda tx: repos.access(tx, repo_id, world.services.sealer.unseal, **how))


async def set_secrets(world: World, repo_id: str, **what: Any) -> secret_changes.Reset:
    sealer, now = world.services.sealer, world.now()
    return await world.write(
        lambda tx: secret_changes.set_secrets(
            tx, repos.get(tx, repo_id), SecretsRequest(**what), seal=sealer.seal, unseal=sealer.unseal, now=now
        )
    )


async def maintain(world: World, repo_id: str, **what: Any) -> repo_changes.Maintained:
    sealer, now = world.services.sealer, world.now()
    return await world.write(
        lambda tx: repo_changes.maintain(
            tx,
            repos.get(tx, repo_id),
            MaintenanceRequest(**what),
            seal=sealer.seal,
            unseal=sealer.unseal,
            now=now,
            default_zone="UTC",
        )
    )


@pytest.mark.parametrize(
    ("url", "user", "key"),
    [
        ("rest:http://h/", "RESTIC_REST_USERNAME", "RESTIC_REST_PASSWORD"),
        ("s3:s3.amazonaws.com/b", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        ("b2:bucket:/x", "B2_ACCOUNT_ID", "B2_ACCOUNT_KEY"),
        ("azure:box:/", "AZURE_ACCOUNT_NAME", "AZURE_ACCOUNT_KEY"),
        ("swift:box:/", "OS_USERNAME", "OS_PASSWORD"),
    ],
)
def test_a_login_goes_where_the_scheme_has_it(url: str, user: str, key: str) -> None:
    assert repo_secrets.with_login(url, Opening(), Login("me", "pw")).env == {user: "me", key: "pw"}
    referred = repo_secrets.with_login(url, Opening(), Login("me", password_from="agent-env:K"))
    assert (referred.env, referred.env_from) == ({user: "me"}, {key: "agent-env:K"})
    with pytest.raises(InputError, match=f"{key} both give it"):
        repo_secrets.with_login(url, Opening(env={key: "x"}), Login("me", "pw"))
    replaced = repo_secrets.replace_login(url, referred, Login(password="new"))
    assert (replaced.env, replaced.env_from) == ({user: "me", key: "new"}, {})


def test_a_login_where_there_is_none_is_refused_without_showing_it() -> None:
    for url in ("/srv/repo", "sftp:u@h:/x", "rclone:r:x"):
        with pytest.raises(InputError, match="are for") as caught:
            repo_secrets.with_login(url, Opening(), Login("me", "very-secret"))
        assert "very-secret" not in caught.value.message
    with pytest.raises(InputError, match="keep only one"):
        repo_secrets.with_login("rest:http://h/", Opening(), Login("me", "pw", "agent-env:K"))
    for holder in (Opening(password="very-secret"), Login("me", "very-secret")):
        assert "very-secret" not in repr(holder)


class TestReferences:
    async def test_a_repository_whose_secrets_the_server_never_had(self, tmp_path: Path, autojump_clock: Any) -> None:
        async with open_world(tmp_path) as world:
            repo_id = await add(
                world,
                password=None,
                password_from="agent-file:/etc/restic/pw",
                login=Login("web", password_from="agent-command:nas"),
            )
            assert await opened(world, repo_id) == RepoAccess(
                repo_id=repo_id,
                url="rest:http://nas:8000/",
                password_from="agent-file:/etc/restic/pw",
                env={"RESTIC_REST_USERNAME": "web"},
                env_from={"RESTIC_REST_PASSWORD": "agent-command:nas"},
            )
            row = await world.read(lambda tx: repos.get(tx, repo_id))
            assert row.password_from == "agent-file:/etc/restic/pw"
            assert row.env_names == ("RESTIC_REST_USERNAME",)
            assert row.env_from == {"RESTIC_REST_PASSWORD": "agent-command:nas"}

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"password": "p", "password_from": "agent-env:P"}, "keep only one"),
            ({"password": None, "password_from": "/etc/pw"}, "is written agent-file:"),
            ({"env": {"B2_ACCOUNT_KEY": "1"}, "env_from": {"B2_ACCOUNT_KEY": "agent-env:K"}}, "keep only one"),
            ({"env_from": {"LD_PRELOAD": "agent-env:K"}}, "LD_PRELOAD is not one that a repository may bring"),
            ({"env_from": {"B2_ACCOUNT_KEY": "agent-file:pw"}}, "variable B2_ACCOUNT_KEY: .* whole path"),
            (
                {"env": {"HTTPS_PROXY": "http://p/"}, "env_from": {"B2_ACCOUNT_KEY": "agent-env:K"}},
                "HTTPS_PROXY decides who gets to see",
            ),
        ],
    )
    async def test_what_is_refused(
        self, tmp_path: Path, autojump_clock: Any, fields: dict[str, Any], said: str
    ) -> None:
        async with open_world(tmp_path) as world:
            with pytest.raises(InputError, match=said):
                await add(world, **fields)
            assert await world.read(repos.all_repos) == []

    async def test_only_an_agent_that_looks_secrets_up_is_sent_them(self, tmp_path: Path, autojump_clock: Any) -> None:
        async with open_world(tmp_path) as world:
            host_id = await world.join("web1")
            repo_id = await add(world, password=None, password_from="agent-env:P")
            await world.schedule("nightly", "web1", repo="main")
            async with world.agent(host_id, capabilities=ALL[:2]) as old:
                (entry,) = [decode_entry(raw) for raw in (await old.hear(ScheduleSet)).entries]
                assert entry.offline is Offline.RUN
                assert entry.standing_order is None
                job = await world.dispatcher.ask(JobRequest(spec=SnapshotsSpec(), repo=repo_id, host=host_id))
                await world.settled()
                state = (await world.job(job.id)).state
                assert (state.status, state.error and state.error.code) == (Status.FAILED, "agent_too_old")
            async with world.agent(host_id, capabilities=ALL) as new:
                (entry,) = [decode_entry(raw) for raw in (await new.hear(ScheduleSet)).entries]
                assert entry.standing_order is not None
                assert entry.standing_order.repo.password_from == "agent-env:P"
                await world.dispatcher.ask(JobRequest(spec=SnapshotsSpec(), repo=repo_id, host=host_id))
                order = await new.hear(CommandRun)
                assert (order.repo.password, order.repo.password_from) == (None, "agent-env:P")


class TestSetSecret:
    async def test_what_is_not_named_stays(self, tmp_path: Path, autojump_clock: Any) -> None:
        async with open_world(tmp_path) as world:
            repo_id = await add(world, env={"AWS_REGION": "eu-1"}, login=Login("web", "old-login"))
            done = await set_secrets(world, repo_id, user_password="new-login")
            assert done.changed == ("RESTIC_REST_PASSWORD is set",)
            access = await opened(world, repo_id)
            assert access.password == "pw-of-the-repo"
            assert access.env == {
                "AWS_REGION": "eu-1",
                "RESTIC_REST_USERNAME": "web",
                "RESTIC_REST_PASSWORD": "new-login",
            }
            done = await set_secrets(
                world, repo_id, password_from="agent-env:P", env_from={"AWS_REGION": "agent-env:R"}
            )
            assert done.changed == ("the password comes from the host", "AWS_REGION is taken from the host")
            access = await opened(world, repo_id)
            assert (access.password, access.password_from) == (None, "agent-env:P")
            assert access.env_from == {"AWS_REGION": "agent-env:R"}
            done = await set_secrets(world, repo_id, password="given-again", unset=("AWS_REGION",))
            assert done.changed == ("the password is set", "AWS_REGION is removed")
            access = await opened(world, repo_id)
            assert (access.password, access.env_from) == ("given-again", {})
            assert (await set_secrets(world, repo_id, password="given-again")).changed == ()
            stored = b"".join(path.read_bytes() for path in tmp_path.glob("server.db*"))
            for secret in (b"pw-of-the-repo", b"old-login", b"new-login", b"given-again"):
                assert secret not in stored

    @pytest.mark.parametrize(
        ("what", "said"),
        [
            ({}, "say what is to be set"),
            ({"password": "p", "password_from": "agent-env:P"}, "keep only one"),
            ({"unset": ("NOPE",)}, "has no variable NOPE"),
            ({"env": {"AWS_REGION": "x"}, "unset": ("AWS_REGION",)}, "set and removed"),
            ({"env": {"PATH": "x"}}, "PATH is not one"),
            ({"env": {"GOGC": "1"}, "env_from": {"GOGC": "agent-env:G"}}, "comes from the host as well"),
            ({"user_password": "x", "env": {"RESTIC_REST_PASSWORD": "y"}}, "both give it"),
        ],
    )
    async def test_what_is_refused_changes_nothing(
        self, tmp_path: Path, autojump_clock: Any, what: dict[str, Any], said: str
    ) -> None:
        async with open_world(tmp_path) as world:
            repo_id = await add(world, env={"AWS_REGION": "eu-1"})
            before = await opened(world, repo_id)
            with pytest.raises(InputError, match=said):
                await set_secrets(world, repo_id, **what)
            assert await opened(world, repo_id) == before

    async def test_hosts_hear_of_it(self, tmp_path: Path, autojump_clock: Any) -> None:
        async with open_world(tmp_path) as world:
            host_id, repo_id = await world.join("web1"), await add(world)
            await world.schedule("nightly", "web1", repo="main")
            async with world.agent(host_id, capabilities=ALL) as agent:
                first = await agent.hear(ScheduleSet)
                done = await set_secrets(world, repo_id, password="the-new-one")
                assert done.hosts == [host_id]
                world.hub.sets_changed(done.hosts)
                again = await agent.hear(ScheduleSet)
                assert again.version == first.version + 1
                (entry,) = [decode_entry(raw) for raw in again.entries]
                assert entry.standing_order is not None
                assert entry.standing_order.repo.password == "the-new-one"


class TestMaintainer:
    async def test_its_references_count_before_what_all_have(self, tmp_path: Path, autojump_clock: Any) -> None:
        async with open_world(tmp_path) as world:
            await world.join("nas1")
            repo_id = await add(world, login=Login("web", "append-only-login"))
            await maintain(
                world,
                repo_id,
                maintainer="nas1",
                maintainer_url="rest:http://127.0.0.1:8001/",
                maintainer_env_from={"RESTIC_REST_PASSWORD": "agent-file:/root/nas"},
            )
            access = await opened(world, repo_id, maintaining=True)
            assert access.url == "rest:http://127.0.0.1:8001/"
            assert access.env == {"RESTIC_REST_USERNAME": "web"}
            assert access.env_from == {"RESTIC_REST_PASSWORD": "agent-file:/root/nas"}
            assert (await opened(world, repo_id)).env["RESTIC_REST_PASSWORD"] == "append-only-login"
            with pytest.raises(InputError, match="HTTP_PROXY decides"):
                await set_secrets(world, repo_id, env={"HTTP_PROXY": "http://elsewhere/"})
            await maintain(world, repo_id, maintainer_env_from={})
            assert (await opened(world, repo_id, maintaining=True)).env["RESTIC_REST_PASSWORD"] == "append-only-login"

    async def test_a_login_that_comes_with_the_job_is_kept_in_memory_until_its_end(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        login = {"RESTIC_REST_USERNAME": "boss", "RESTIC_REST_PASSWORD": "may-delete-everything"}
        async with open_world(tmp_path) as world:
            host_id, repo_id = await world.join("nas1"), await add(world)
            await maintain(world, repo_id, maintainer="nas1", maintainer_per_job=True)
            async with world.agent(host_id, capabilities=ALL) as agent:
                job = await world.dispatcher.ask(
                    JobRequest(spec=PruneSpec(), repo=repo_id, host=host_id, maintainer_env=login)
                )
                order = await agent.hear(CommandRun)
                assert order.repo.env == login
                assert len(world.dispatcher.per_job) == 1
                await agent.finish(order, outcome=world_done())
                await world.settled()
                assert (await world.job(job.id)).status is Status.SUCCEEDED
                assert len(world.dispatcher.per_job) == 0
            stored = b"".join(path.read_bytes() for path in tmp_path.glob("server.db*"))
            assert b"may-delete-everything" not in stored
            assert "may-delete" not in repr(world.dispatcher.per_job)

    async def test_without_it_the_job_ends_with_a_sentence(self, tmp_path: Path, autojump_clock: Any) -> None:
        async with open_world(tmp_path) as world:
            host_id, repo_id = await world.join("nas1"), await add(world)
            await maintain(world, repo_id, maintainer="nas1", maintainer_per_job=True)
            async with world.agent(host_id, capabilities=ALL) as agent:
                job = await world.dispatcher.ask(JobRequest(spec=PruneSpec(), repo=repo_id, host=host_id))
                await world.settled()
                state = (await world.job(job.id)).state
                assert state.status is Status.FAILED
                assert state.error is not None
                assert state.error.code == "login_forgotten"
                assert "--maintainer-env-file" in state.error.message
                assert await agent.hears_nothing(CommandRun)

    async def test_what_runs_by_cron_cannot_have_a_login_brought(self, tmp_path: Path, autojump_clock: Any) -> None:
        async with open_world(tmp_path) as world:
            await world.join("nas1")
            repo_id = await add(world)
            with pytest.raises(InputError, match=r"prune of main is to run by cron.*--prune none") as caught:
                await maintain(world, repo_id, maintainer="nas1", maintainer_per_job=True, prune="@weekly")
            assert "--maintainer-env-from" in caught.value.message
            await maintain(world, repo_id, maintainer="nas1", prune="@weekly", stats="@weekly")
            with pytest.raises(InputError, match="prune of main"):
                await maintain(world, repo_id, maintainer_per_job=True)
            await maintain(world, repo_id, maintainer_per_job=True, prune=None)
            kept = await world.read(lambda tx: repo_changes.schedules_of(tx, repos.get(tx, repo_id)))
            assert set(kept) == {Kind.STATS}

    async def test_nothing_is_forgotten_by_itself_where_nobody_brings_the_login(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        async with open_world(tmp_path) as world:
            host_id, repo_id = await world.join("nas1"), await add(world, append_only=True)
            await maintain(world, repo_id, maintainer="nas1", maintainer_per_job=True)
            await world.schedule("nightly", "nas1", repo="main", retention=Retention(last=2))
            said = await world.read(lambda tx: retention_advice.repo_warnings(tx, repos.get(tx, repo_id)))
            assert "nothing is forgotten there by itself" in said[0]
            async with world.agent(host_id, capabilities=ALL) as agent:
                (job,) = await world.dispatcher.run_schedule("nightly", "nas1")
                await agent.finish(await agent.hear(CommandRun), outcome=world_done())
                await world.settled()
                assert (await world.job(job.id)).status is Status.SUCCEEDED
                assert await agent.hears_nothing(CommandRun)

    async def test_a_server_started_again_ends_the_jobs_whose_login_it_forgot(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        async with open_world(tmp_path) as world:
            host_id, repo_id = await world.join("nas1"), await add(world)
            await maintain(world, repo_id, maintainer="nas1", maintainer_per_job=True)
            asked = JobRequest(spec=PruneSpec(), repo=repo_id, host=host_id, maintainer_env={"GOGC": "50"})
            async with world.agent(host_id, capabilities=ALL) as agent:
                sent = await world.dispatcher.ask(asked)
                await agent.hear(CommandRun)
            queued = await world.dispatcher.ask(asked)
            await trio.sleep(1)
        credentials = world.credentials
        async with open_world(tmp_path, start=START + timedelta(hours=1)) as world:
            world.credentials.update(credentials)
            async with world.agent(host_id, capabilities=ALL):
                await world.settled()
                for job in (sent, queued):
                    state = (await world.job(job.id)).state
                    assert state.error is not None, job
                    assert (state.status, state.error.code) == (Status.FAILED, "login_forgotten")

    async def test_a_login_is_for_the_maintainers_work_alone(self, tmp_path: Path, autojump_clock: Any) -> None:
        async with open_world(tmp_path) as world:
            host_id, other, repo_id = await world.join("nas1"), await world.join("web1"), await add(world)
            await maintain(world, repo_id, maintainer="nas1")
            async with world.agent(host_id, capabilities=ALL), world.agent(other, capabilities=ALL):
                for request in (
                    JobRequest(spec=PruneSpec(), repo=repo_id, host="web1", maintainer_env={"GOGC": "1"}),
                    JobRequest(spec=SnapshotsSpec(), repo=repo_id, host="nas1", maintainer_env={"GOGC": "1"}),
                ):
                    with pytest.raises(InputError, match=r"what the maintainer of main does \(nas1\)"):
                        await world.dispatcher.ask(request)
                with pytest.raises(InputError, match="LD_PRELOAD"):
                    await world.dispatcher.ask(
                        JobRequest(spec=PruneSpec(), repo=repo_id, host="nas1", maintainer_env={"LD_PRELOAD": "x"})
                    )
            assert len(world.dispatcher.per_job) == 0


def world_done() -> Any:
    from tests.server.world import DONE

    return msgspec.structs.replace(DONE, snapshot_id=None, stats=None)


def test_there_are_not_more_logins_than_fit() -> None:
    kept = PerJob()
    for number in range(MOST):
        kept.keep(str(number), {"A": "1"})
    with pytest.raises(ConflictError, match="wait for some to end"):
        kept.keep("one more", {"A": "1"})
    kept.drop("0")
    kept.keep("one more", {"A": "1"})
    assert kept.find("one more") == {"A": "1"}
    assert kept.find("0") is None
