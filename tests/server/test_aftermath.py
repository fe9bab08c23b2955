"""What a verdict means beyond its job: guards, forgets, lists that are old, and locks that are in the way."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from sqlalchemy import select
from trio.testing import MockClock

from restic_manager.domain.guards import Guard, Guards
from restic_manager.domain.model import (
    Actor,
    BackupSpec,
    BackupStats,
    Failure,
    Kind,
    Outcome,
    Status,
    attempt_job_id,
)
from restic_manager.domain.results import Lock, RepoStats, UnlockStats
from restic_manager.domain.retention import Retention
from restic_manager.domain.specs import ForgetSpec, PruneSpec, StatsSpec, UnlockSpec
from restic_manager.protocol.messages import CAP_KINDS, CommandRun
from restic_manager.server.janitor import Janitor
from restic_manager.server.store import events, repos, sizes
from restic_manager.server.store.schema import quarantine, schedules
from tests.server.careful import GOOD, ends, fleet, locked, of_kind, set_repo, waits_for, well, wish
from tests.server.world import ScriptedAgent, World, failed

BACKUP = BackupSpec(paths=("/etc",))
KEEP = Retention(daily=7)


def backed_up(files: int, size: int, **more: Any) -> Outcome:
    stats = BackupStats(total_files_processed=files, total_bytes_processed=size)
    return Outcome(**{"status": Status.SUCCEEDED, "exit_code": 0, "snapshot_id": "5" * 64, "stats": stats, **more})


async def runs(world: World, agent: ScriptedAgent, outcome: Outcome, schedule: str = "nightly") -> str:
    """Let the schedule run once and end so; return the job's id."""
    await world.dispatcher.run_schedule(schedule, None)
    order = await agent.hear(CommandRun)
    await ends(agent, order, outcome)
    return order.job_id


# -- guards -----------------------------------------------------------------------------------------------------------


async def test_a_backup_that_is_much_smaller_than_usual_is_a_warning(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a") as (world, agents):
        await world.schedule("nightly", "a")
        for _ in range(3):
            job = await world.job(await runs(world, agents["a"], backed_up(100, 5_000)))
            assert job.status is Status.SUCCEEDED
        raw = backed_up(20, 900)
        job_id = await runs(world, agents["a"], raw)
        state = (await world.job(job_id)).state
        assert state.error is not None
        assert (state.status, state.error.code, state.stats) == (Status.WARNING, "guard", raw.stats)
        assert state.error.message == (
            "fewer_files: 20 files instead of about 100: 80 % fewer than usual; "
            "smaller: 900 bytes instead of about 5000: 82 % less than usual"
        )


async def test_what_was_judged_is_not_contradicted_by_its_repeat(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a") as (world, agents):
        await world.schedule("nightly", "a", guards=Guards(least=1_000))
        await world.dispatcher.run_schedule("nightly", None)
        order = await agents["a"].hear(CommandRun)
        await ends(agents["a"], order, backed_up(5, 10))
        first = await world.job(order.job_id)
        assert first.status is Status.WARNING
        await agents["a"].acked(await agents["a"].finish(order, backed_up(5, 10)))
        assert await world.job(order.job_id) == first
        assert await world.read(lambda tx: tx.execute(select(quarantine.c.reason)).all()) == []
        await agents["a"].acked(await agents["a"].finish(order, backed_up(6, 10)))
        assert await world.job(order.job_id) == first
        (reason,) = await world.read(lambda tx: tx.execute(select(quarantine.c.reason)).scalars().all())
        assert "the agent had already said" in reason


UNREADABLE = Failure(code="source_unreadable", message="2 errors while reading. Exclude them.")
ALSO_MISSING = Failure(code="source_unreadable", message="2 errors while reading. Not there: /srv. Exclude them.")
MISSING = Failure(code="source_missing", message="Not there: /srv. The snapshot is there without them.")


@pytest.mark.parametrize(
    ("off", "error", "code"),
    [
        ((), UNREADABLE, "source_unreadable"),
        ((Guard.SOURCE_UNREADABLE,), UNREADABLE, None),
        ((Guard.SOURCE_UNREADABLE,), ALSO_MISSING, "source_unreadable"),
        ((Guard.SOURCE_UNREADABLE, Guard.SOURCE_MISSING), ALSO_MISSING, None),
        ((Guard.SOURCE_UNREADABLE,), MISSING, "source_missing"),
        ((Guard.SOURCE_MISSING,), MISSING, None),
    ],
)
async def test_a_schedule_may_not_mind_what_its_agent_warns_of(
    tmp_path: Path, autojump_clock: MockClock, off: tuple[Guard, ...], error: Failure, code: str | None
) -> None:
    async with fleet(tmp_path, "a") as (world, agents):
        await world.schedule("nightly", "a", guards=Guards(off=off))
        told = backed_up(5, 10, status=Status.WARNING, error=error)
        state = (await world.job(await runs(world, agents["a"], told))).state
        assert state.status is (Status.SUCCEEDED if code is None else Status.WARNING)
        assert (state.error and state.error.code) == code


async def test_a_warning_is_told_the_rest(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a") as (world, agents):
        await world.schedule("nightly", "a", guards=Guards(least=1_000))
        told = backed_up(5, 10, status=Status.WARNING, error=UNREADABLE)
        state = (await world.job(await runs(world, agents["a"], told))).state
        assert state.error is not None
        assert (state.error.code, state.error.message) == (
            "source_unreadable",
            "2 errors while reading. Exclude them. Besides, too_small: it has 10 bytes, and at least 1000 are expected",
        )


async def test_nothing_backed_up_and_a_wrong_clock_are_warned_of(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a") as (world, agents):
        await world.schedule("nightly", "a")
        state = (await world.job(await runs(world, agents["a"], backed_up(0, 0)))).state
        assert state.error is not None
        assert state.error.message == "nothing: there was no file to back up"


# -- forgets ----------------------------------------------------------------------------------------------------------


async def test_a_good_backup_is_followed_by_a_forget(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a") as (world, agents):
        await world.schedule("nightly", "a", retention=KEEP)
        backup = await runs(world, agents["a"], GOOD)
        order = await agents["a"].hear(CommandRun)
        (forget,) = await of_kind(world, Kind.FORGET)
        assert (forget.id, forget.actor, forget.caused_by) == (order.job_id, Actor.SERVER, backup)
        await ends(agents["a"], order, well())
        assert len(await of_kind(world, Kind.FORGET)) == 1


async def test_one_forget_is_enough_for_many_backups(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a", "keeper") as (world, agents):
        for name in ("nightly", "other"):
            await world.schedule(name, "a", retention=KEEP)
        keeper = agents["keeper"].host_id
        await set_repo(world, append_only=True, maintainer_id=keeper)
        await agents["keeper"].link.close()
        await world.settled()
        backup = await runs(world, agents["a"], GOOD)
        await runs(world, agents["a"], GOOD, "other")
        (forget,) = await of_kind(world, Kind.FORGET)
        assert (forget.host_id, forget.caused_by, forget.spec) == (keeper, backup, ForgetSpec())
        async with world.agent(keeper, capabilities=(CAP_KINDS,)) as agent:
            order = await agent.hear(CommandRun)
            assert isinstance(order.spec, ForgetSpec)
            assert len(order.spec.policies) == 2
            await ends(agent, order, well())
            await runs(world, agents["a"], GOOD)
            assert len(await of_kind(world, Kind.FORGET)) == 2


@pytest.mark.parametrize("why", ["failed", "no retention", "a dry run", "nobody may"])
async def test_no_forget_follows(tmp_path: Path, autojump_clock: MockClock, why: str) -> None:
    async with fleet(tmp_path, "a") as (world, agents):
        await world.schedule("nightly", "a", retention=None if why == "no retention" else KEEP)
        if why == "a dry run":
            await world.schedule("dry", "a", retention=KEEP)
            change = {"spec": '{"kind":"backup","paths":["/etc"],"dry_run":true}'}
            await world.write(lambda tx: tx.execute(schedules.update().values(change)).rowcount)
        if why == "nobody may":
            await set_repo(world, append_only=True)
        await runs(world, agents["a"], failed("no_space") if why == "failed" else GOOD)
        assert await of_kind(world, Kind.FORGET) == []


async def test_the_maintainer_forgets_where_hosts_cannot(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a", "keeper") as (world, agents):
        await world.schedule("nightly", "a", retention=KEEP)
        await set_repo(world, append_only=True, maintainer_id=agents["keeper"].host_id)
        await runs(world, agents["a"], GOOD)
        assert isinstance((await agents["keeper"].hear(CommandRun)).spec, ForgetSpec)


# -- what is known of the repository ----------------------------------------------------------------------------------


async def test_what_changes_snapshots_makes_their_list_old(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a") as (world, agents):

        async def changed_at() -> object:
            return (await world.read(lambda tx: repos.resolve(tx, "repo"))).changed_at

        await wish(world, PruneSpec(), "a")
        await ends(agents["a"], await agents["a"].hear(CommandRun), well())
        assert await changed_at() is None
        await trio.sleep(10)
        await wish(world, BACKUP, "a")
        await ends(agents["a"], await agents["a"].hear(CommandRun), failed("network"))
        assert await changed_at() == world.now()


async def test_a_size_that_was_measured_is_kept(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a") as (world, agents):
        await wish(world, StatsSpec(), "a")
        measured = RepoStats(mode="raw-data", size=123, snapshots=4)
        await ends(agents["a"], await agents["a"].hear(CommandRun), well(measured))
        (size,) = (await world.read(sizes.newest)).values()
        assert (size.size, size.snapshots) == (123, 4)


async def test_only_a_backup_leads_to_an_init(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a") as (world, agents):
        await world.schedule("prune", "a", retry=0)
        for spec in (PruneSpec(), StatsSpec()):
            await wish(world, spec, "a")
            await ends(agents["a"], await agents["a"].hear(CommandRun), failed("repo_missing"))
        assert await of_kind(world, Kind.INIT) == []
        await wish(world, BACKUP, "a")
        await ends(agents["a"], await agents["a"].hear(CommandRun), failed("repo_missing"))
        assert len(await of_kind(world, Kind.INIT)) == 1


# -- locks ------------------------------------------------------------------------------------------------------------


def lock(world: World, hostname: str, age: timedelta = timedelta(minutes=1)) -> Lock:
    return Lock(id="a" * 64, hostname=hostname, pid=7, time=world.now() - age)


async def test_a_stale_lock_is_removed_by_its_own_host_and_the_job_tried_once_more(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with fleet(tmp_path, "a", "b") as (world, agents):
        first = await wish(world, PruneSpec(), "a")
        await ends(agents["a"], await agents["a"].hear(CommandRun), locked(lock(world, "box-b")))
        unlock = await agents["b"].hear(CommandRun)
        job = await world.job(unlock.job_id)
        assert (unlock.spec, job.actor, job.caused_by) == (UnlockSpec(), Actor.SERVER, first)
        attempt = attempt_job_id(first, 1)
        assert await waits_for(world, attempt) == f"job {job.id[:8]} (unlock on b), which is to remove a stale lock"
        told = (await world.job(first)).state.error
        assert told is not None
        assert f"Job {job.id} looks whether it is stale" in told.message
        await ends(agents["b"], unlock, well(UnlockStats(removed=1)))
        again = await agents["a"].hear(CommandRun)
        assert again.job_id == attempt
        (event,) = await world.read(lambda tx: events.latest(tx, limit=9, what="lock_removed"))
        assert event.detail == f"a stale lock was removed from repository repo by job {job.id}"
        # Once is enough.
        await ends(agents["a"], again, locked(lock(world, "box-b")))
        assert await agents["b"].hears_nothing(CommandRun)
        last = (await world.job(attempt)).state.error
        assert last is not None
        assert "already, for this run" in last.message
        assert len(await of_kind(world, Kind.PRUNE)) == 2


async def test_an_unlock_is_alone_and_waits_for_what_runs(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a", "b", "c") as (world, agents):
        await wish(world, BACKUP, "b")
        running = await agents["b"].hear(CommandRun)
        job_id = await wish(world, BACKUP, "a")
        order = await agents["a"].hear(CommandRun)
        await ends(agents["a"], order, locked(lock(world, "box-c")))
        assert await agents["c"].hears_nothing(CommandRun)
        await ends(agents["b"], running)
        await ends(agents["c"], await agents["c"].hear(CommandRun), well(UnlockStats(removed=1)))
        assert (await agents["a"].hear(CommandRun)).job_id == attempt_job_id(job_id, 1)


async def test_an_unlock_that_removes_nothing_leaves_the_ordinary_retries(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with fleet(tmp_path, "a", "b") as (world, agents):
        await world.schedule("nightly", "a", retry=1, retry_backoff=100)
        first = await runs(world, agents["a"], locked(lock(world, "box-b")))
        await ends(agents["b"], await agents["b"].hear(CommandRun), well(UnlockStats(removed=0, left=1)))
        spared = await world.job(attempt_job_id(first, 1))
        assert spared.state.error is not None
        assert (spared.status, spared.state.error.code) == (Status.CANCELLED, "superseded")
        retry = await agents["a"].hear(CommandRun, within=200)
        assert retry.job_id == attempt_job_id(first, 2)
        # Soon after one that removed nothing, none is made.
        await ends(agents["a"], retry, locked(lock(world, "box-b")))
        assert await agents["b"].hears_nothing(CommandRun, 300)
        (unlock,) = await of_kind(world, Kind.UNLOCK)
        assert unlock.status is Status.SUCCEEDED


async def test_a_strangers_lock_is_left_alone_until_it_is_old(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a") as (world, agents):
        job_id = await wish(world, PruneSpec(), "a")
        await ends(agents["a"], await agents["a"].hear(CommandRun), locked(lock(world, "stranger")))
        error = (await world.job(job_id)).state.error
        assert error is not None
        assert error.message.startswith("Another restic holds a lock. Nothing is removed: stranger, which is no host")
        assert await of_kind(world, Kind.UNLOCK) == []
        await wish(world, PruneSpec(), "a")
        old = lock(world, "stranger", timedelta(hours=3))
        await ends(agents["a"], await agents["a"].hear(CommandRun), locked(old))
        assert isinstance((await agents["a"].hear(CommandRun)).spec, UnlockSpec)


async def test_two_that_met_the_same_lock_wait_for_one_unlock(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a", "b", "c") as (world, agents):
        ids = [await wish(world, BACKUP, name) for name in ("a", "b")]
        orders = [await agents[name].hear(CommandRun) for name in ("a", "b")]
        await ends(agents["a"], orders[0], locked(lock(world, "box-c")))
        await ends(agents["b"], orders[1], locked(lock(world, "box-c")))
        (unlock,) = await of_kind(world, Kind.UNLOCK)
        await ends(agents["c"], await agents["c"].hear(CommandRun), well(UnlockStats(removed=1)))
        for name, job_id in zip(("a", "b"), ids, strict=True):
            assert (await agents[name].hear(CommandRun)).job_id == attempt_job_id(job_id, 1)
        assert (await world.job(unlock.id)).status is Status.SUCCEEDED


async def test_an_unlock_for_a_host_that_went_away_is_given_up(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a", "b") as (world, agents):
        await wish(world, BACKUP, "a")
        order = await agents["a"].hear(CommandRun)
        await agents["b"].link.close()
        await world.settled()
        await ends(agents["a"], order, locked(lock(world, "box-b")))
        (unlock,) = await of_kind(world, Kind.UNLOCK)
        assert unlock.status is Status.QUEUED
        world.nursery.start_soon(Janitor(world.services).run)
        await trio.sleep(1_300)
        assert (await world.job(unlock.id)).status is Status.CANCELLED
        assert (await world.job(attempt_job_id(order.job_id, 1))).status is Status.CANCELLED
