"""What an order says that the wish had left open, where the access is, and what can never be an order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from trio.testing import MockClock

from restic_manager.domain.errors import ConflictError, InputError, NotFoundError
from restic_manager.domain.model import BackupSpec, Failure, InitSpec, Kind, Limits, Outcome, Spec, Status
from restic_manager.domain.results import CheckStats
from restic_manager.domain.retention import Retention
from restic_manager.domain.specs import (
    CheckSpec,
    CopySpec,
    DiffSpec,
    ForgetPolicy,
    ForgetSpec,
    LsSpec,
    Part,
    PruneSpec,
    RestoreSpec,
    StatsSpec,
    TagSpec,
    VerifySpec,
)
from restic_manager.protocol.api import JobRequest, PreviewRequest
from restic_manager.protocol.messages import CAP_KINDS, CommandRun
from restic_manager.server.store import host_changes, hosts, repos, schema
from restic_manager.server.store.repo_secrets import MAINTAINER_ENV
from tests.server.careful import GOOD, ends, fleet, of_kind, set_repo, well, wish
from tests.server.world import World

BACKUP = BackupSpec(paths=("/etc",))
KEEP = Retention(daily=7)


async def host_id(world: World, name: str) -> str:
    return await world.read(lambda tx: hosts.resolve(tx, name).id)


# -- filling ----------------------------------------------------------------------------------------------------------


async def test_a_forget_is_told_what_the_hosts_schedules_say(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a", "b") as (world, agents):
        mine = await world.schedule("mine", "a", retention=KEEP)
        await world.schedule("theirs", "b", retention=KEEP)
        await world.schedule("everything", "a")
        await world.dispatcher.run_schedule("mine", None)
        backup = await agents["a"].hear(CommandRun)
        await ends(agents["a"], backup)
        order = await agents["a"].hear(CommandRun)
        wanted = ForgetSpec(
            policies=(ForgetPolicy(schedule_id=mine, restic_host="a", keep=KEEP, newest_good=GOOD.snapshot_id),)
        )
        assert order.spec == wanted
        assert (await world.job(order.job_id)).spec == wanted
        # It is sent again as it was, whatever the schedule says by then.
        await world.write(lambda tx: tx.execute(schema.schedules.update().values(retention=None)).rowcount)
        head = agents["a"].head()
        await agents["a"].link.close()
        async with world.agent(agents["a"].host_id, outbox=head, capabilities=(CAP_KINDS,)) as again:
            assert (await again.hear(CommandRun)).spec == wanted


async def test_a_forget_without_any_rules_fails_with_a_sentence(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a") as (world, agents):
        await world.schedule("nightly", "a")
        job_id = await wish(world, ForgetSpec(), "a")
        assert await agents["a"].hears_nothing(CommandRun)
        state = (await world.job(job_id)).state
        assert state.error is not None
        assert (state.status, state.error.code) == (Status.FAILED, "no_retention")
        assert state.error.message == "no schedule of a on repo keeps by rules: nothing to forget"


async def test_the_maintainer_forgets_for_everybody_with_its_own_access(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with fleet(tmp_path, "a", "b", "keeper") as (world, agents):
        schedule_id = await world.schedule("nightly", "a", "b", retention=KEEP)
        await set_repo(
            world,
            append_only=True,
            maintainer_id=await host_id(world, "keeper"),
            maintainer_url="/srv/the-same-by-another-way",
        )

        def seal(tx: Any) -> None:
            repo = repos.resolve(tx, "repo")
            text = msgspec.json.encode({"RESTIC_REST_USERNAME": "keeper"})
            sealed = world.services.sealer.seal(repo.id, MAINTAINER_ENV, text)
            values = {"owner_id": repo.id, "purpose": MAINTAINER_ENV, "sealed": sealed, "changed_at": world.now()}
            tx.execute(schema.secrets.insert().values(**values))

        await world.write(seal)
        await wish(world, ForgetSpec())
        order = await agents["keeper"].hear(CommandRun)
        assert isinstance(order.spec, ForgetSpec)
        assert [(one.schedule_id, one.restic_host) for one in order.spec.policies] == sorted(
            [(schedule_id, "a"), (schedule_id, "b")],
            key=lambda pair: agents[pair[1]].host_id,
        )
        assert (order.repo.url, order.repo.env) == (
            "/srv/the-same-by-another-way",
            {"RESTIC_REST_USERNAME": "keeper"},
        )
        await ends(agents["keeper"], order, well())
        # What is not its maintainer's work it does like anybody.
        await wish(world, StatsSpec(), "keeper")
        plain = await agents["keeper"].hear(CommandRun)
        assert (plain.repo.url, plain.repo.env) == ("/srv/repo", {})


async def test_a_rolling_check_goes_on_where_the_last_good_one_was(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a") as (world, agents):
        read: list[Part | None] = []
        damaged = Outcome(
            status=Status.FAILED,
            exit_code=1,
            error=Failure(code="repo_damaged", message="a pack is damaged"),
            result=CheckStats(errors=1),
        )
        for outcome in (well(), damaged, well(), well(), well()):
            await wish(world, CheckSpec(rolling=3), "a")
            order = await agents["a"].hear(CommandRun)
            assert isinstance(order.spec, CheckSpec)
            read.append(order.spec.read)
            await ends(agents["a"], order, outcome)
        assert [part and part.number for part in read] == [1, 2, 2, 3, 1]
        assert {part and part.of for part in read} == {3}
        await wish(world, CheckSpec(rolling=5), "a")
        order = await agents["a"].hear(CommandRun)
        assert order.spec == CheckSpec(rolling=5, read=Part(number=1, of=5))


@pytest.mark.parametrize(
    "spec",
    [VerifySpec(), RestoreSpec(target="/tmp/x"), LsSpec(), DiffSpec(), TagSpec(add=("seen",))],
    ids=lambda spec: type(spec).__name__,
)
async def test_the_newest_is_the_newest_of_the_host_itself(
    tmp_path: Path, autojump_clock: MockClock, spec: Spec
) -> None:
    async with fleet(tmp_path, "a") as (world, agents):
        await world.write(lambda tx: host_changes.rename(tx, hosts.resolve(tx, "a"), "renamed", now=world.now()))
        await wish(world, spec, "renamed")
        order = await agents["a"].hear(CommandRun)
        assert order.spec == msgspec.structs.replace(spec, restic_host="a")


async def test_a_new_repository_takes_the_chunker_of_another(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a") as (world, agents):
        first = await world.repo("first")
        await set_repo(world, chunker_from=first)
        made = await world.dispatcher.init_repo("repo", "a")
        order = await agents["a"].hear(CommandRun)
        assert order.source is not None
        assert (order.job_id, order.spec, order.source.url) == (made.id, InitSpec(chunker_from=first), "/srv/first")


async def test_an_agent_that_does_not_know_the_kind_is_not_sent_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path) as (world, _):
        old = await world.join("old")
        job_id = await wish(world, PruneSpec(), "old")
        async with world.agent(old) as agent:
            assert await agent.hears_nothing(CommandRun)
            state = (await world.job(job_id)).state
            assert state.error is not None
            assert (state.status, state.error.code) == (Status.FAILED, "agent_too_old")
            with pytest.raises(ConflictError, match="too old for prune"):
                await wish(world, PruneSpec(), "old")


# -- asking -----------------------------------------------------------------------------------------------------------


async def test_what_is_asked_for_is_checked_first(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a") as (world, _):
        cases: list[tuple[type[Exception], str, JobRequest]] = [
            (NotFoundError, "nowhere", JobRequest(spec=PruneSpec(), repo="nowhere", host="a")),
            (NotFoundError, "nobody", JobRequest(spec=PruneSpec(), repo="repo", host="nobody")),
            (NotFoundError, "nobody", JobRequest(spec=LsSpec(), repo="repo", host="a", of_host="nobody")),
            (InputError, "a host's", JobRequest(spec=PruneSpec(), repo="repo", host="a", of_host="a")),
            (InputError, "onto itself", JobRequest(spec=CopySpec(from_repo="repo"), repo="repo", host="a")),
            (InputError, "which host", JobRequest(spec=BACKUP, repo="repo")),
            (InputError, "which host", JobRequest(spec=RestoreSpec(snapshot="0badcafe", target="/x"), repo="repo")),
            (InputError, "'x'", JobRequest(spec=LsSpec(snapshot="x"), repo="repo", host="a")),
            (ConflictError, "no host uses repository repo yet", JobRequest(spec=StatsSpec(), repo="repo")),
        ]
        for error, shown, request in cases:
            with pytest.raises(error, match=shown):
                await world.dispatcher.ask(request)
        await set_repo(world, append_only=True)
        with pytest.raises(ConflictError, match="no maintainer"):
            await wish(world, PruneSpec())
        query = schema.jobs.select()
        assert await world.read(lambda tx: tx.execute(query).all()) == []


async def test_a_host_is_chosen_that_is_there_and_suits_best(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a", "b", "keeper") as (world, agents):
        schedule_id = await world.schedule("nightly", "a", "b")
        await set_repo(world, maintainer_id=await host_id(world, "keeper"), append_only=True)

        async def doer(spec: Spec, **more: Any) -> str:
            job = await world.job(await wish(world, spec, **more))
            return next(name for name, agent in agents.items() if agent.host_id == job.host_id)

        assert await doer(PruneSpec()) == "keeper"
        assert await doer(CheckSpec()) == "keeper"
        assert await doer(LsSpec(), of_host="b") == "b"
        assert await doer(LsSpec(), of_host="a", of_schedule="nightly") == "a"
        asked = (await of_kind(world, Kind.LS))[-1].spec
        assert asked == LsSpec(restic_host="a", schedule_id=schedule_id)
        await agents["b"].link.close()
        await world.settled()
        assert await doer(LsSpec(), of_host="b") != "b"


async def test_snapshots_of_a_host_that_is_gone_are_asked_for_by_its_name(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with fleet(tmp_path, "a") as (world, _):
        await world.join("gone")
        await world.write(lambda tx: host_changes.remove(tx, hosts.resolve(tx, "gone"), now=world.now()))
        job_id = await wish(world, LsSpec(), "a", of_host="gone")
        assert (await world.job(job_id)).spec == LsSpec(restic_host="gone")


async def test_limits_of_a_wish_travel_with_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a") as (world, agents):
        await wish(world, PruneSpec(), "a", time_limit=60, lock_wait=30)
        limits = (await agents["a"].hear(CommandRun)).limits
        assert (limits.time_limit, limits.lock_wait, limits.stall_limit) == (60, 30, None)


async def test_every_order_says_how_long_a_lock_is_waited_for(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a") as (world, agents):
        for spec, wait in ((LsSpec(), 30), (PruneSpec(), 60), (BackupSpec(paths=("/etc",)), 300)):
            job_id = await wish(world, spec, "a")
            order = await agents["a"].hear(CommandRun)
            assert (order.job_id, order.limits) == (job_id, Limits(lock_wait=wait))
            assert (await world.job(job_id)).limits == Limits(), "what was asked for stays what it was"
            await ends(agents["a"], order)


async def test_a_preview_says_what_would_go_host_by_host(tmp_path: Path, autojump_clock: MockClock) -> None:
    assert PreviewRequest().host is None
    async with fleet(tmp_path, "a") as (world, agents):
        await world.join("away")
        schedule_id = await world.schedule("nightly", "a", "away", retention=KEEP)
        await world.schedule("everything", "a")
        made = await world.dispatcher.preview_forget("nightly", None)
        told = {}
        for _ in made:
            order = await agents["a"].hear(CommandRun)
            assert isinstance(order.spec, ForgetSpec)
            assert order.spec.dry_run
            (policy,) = order.spec.policies
            assert (policy.schedule_id, policy.keep) == (schedule_id, KEEP)
            told[policy.restic_host] = order.job_id
            await ends(agents["a"], order, well())
        assert told.keys() == {"a", "away"}
        assert set(told.values()) == {job.id for job in made}
        with pytest.raises(ConflictError, match="keeps everything"):
            await world.dispatcher.preview_forget("everything", None)
        await world.join("other")
        with pytest.raises(InputError, match="not a host of"):
            await world.dispatcher.preview_forget("nightly", "other")
