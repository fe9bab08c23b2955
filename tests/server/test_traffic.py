"""Traffic control over the wire: who is on a repository with whom, in which order, and what the others are told."""

from __future__ import annotations

from pathlib import Path

import trio
from msgspec.structs import replace
from sqlalchemy import Connection, event
from trio.testing import MockClock

from restic_manager.domain.model import Actor, BackupSpec, Status, new_id
from restic_manager.domain.specs import CheckSpec, CopySpec, LocksSpec, LsSpec, PruneSpec, RestoreSpec, UnlockSpec
from restic_manager.protocol.messages import CommandRun
from restic_manager.runtime.clock import SystemClock
from restic_manager.server.store import job_rows, questions, queue, repos
from restic_manager.server.store.writer import open_store
from tests.server.careful import ends, fleet, set_repo, waits_for, well, wish
from tests.server.rows import START, add_repo, at, join

BACKUP = BackupSpec(paths=("/etc",))
RESTORE = RestoreSpec(snapshot="0badcafe", target="/tmp/restored")
LS = LsSpec(snapshot="0badcafe")


async def test_at_most_so_many_and_whose_turn_it_is_then(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a", "b", "c", "d") as (world, agents):
        await set_repo(world, max_parallel=2)
        ids = {name: await wish(world, BACKUP, name) for name in agents}
        first, second = await agents["a"].hear(CommandRun), await agents["b"].hear(CommandRun)
        assert await agents["c"].hears_nothing(CommandRun)
        assert await agents["d"].hears_nothing(CommandRun)
        said = await waits_for(world, ids["c"])
        assert said is not None
        assert said.startswith("one of the 2 jobs that may be on repository repo at once: job ")
        assert said.endswith(" and 1 more")
        await ends(agents["b"], second)
        third = await agents["c"].hear(CommandRun)
        assert await agents["d"].hears_nothing(CommandRun)
        await set_repo(world, max_parallel=3)
        world.dispatcher.look_at([(await world.job(first.job_id)).repo_id])
        assert (await agents["d"].hear(CommandRun)).job_id == ids["d"]
        assert third.job_id == ids["c"]


async def test_a_prune_runs_alone_and_in_its_turn(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a", "b", "c") as (world, agents):
        backup = await wish(world, BACKUP, "a")
        prune = await wish(world, PruneSpec(), "b")
        late = await wish(world, BACKUP, "c")
        order = await agents["a"].hear(CommandRun)
        assert await agents["b"].hears_nothing(CommandRun)
        assert await agents["c"].hears_nothing(CommandRun)
        short = backup[:8]
        assert await waits_for(world, prune) == f"job {short} (backup on a): this needs repository repo to itself"
        assert await waits_for(world, late) == f"job {prune[:8]} (prune on b), which needs repository repo to itself"
        await ends(agents["a"], order)
        alone = await agents["b"].hear(CommandRun)
        assert await agents["c"].hears_nothing(CommandRun)
        await ends(agents["b"], alone, well())
        assert (await agents["c"].hear(CommandRun)).job_id == late


async def test_a_restore_goes_before_everything_that_waits(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a", "b", "c") as (world, agents):
        await set_repo(world, max_parallel=1)
        await wish(world, BACKUP, "a")
        order = await agents["a"].hear(CommandRun)
        prune, restore = await wish(world, PruneSpec(), "b"), await wish(world, RESTORE, "c")
        await ends(agents["a"], order)
        assert (await agents["c"].hear(CommandRun)).job_id == restore
        assert await agents["b"].hears_nothing(CommandRun)
        assert (await world.job(prune)).status is Status.QUEUED


async def test_readers_beside_the_heavy_job(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a") as (world, agents):
        await set_repo(world, max_parallel=9)
        await wish(world, BACKUP, "a")
        ids = [await wish(world, LS, "a") for _ in range(5)]
        orders = [await agents["a"].hear(CommandRun) for _ in range(5)]
        assert [order.job_id for order in orders[1:]] == ids[:4]
        assert await agents["a"].hears_nothing(CommandRun)
        said = await waits_for(world, ids[4])
        assert said is not None
        assert said.endswith(": a host reads for 4 at a time")
        await ends(agents["a"], orders[2], well())
        assert (await agents["a"].hear(CommandRun)).job_id == ids[4]


async def test_several_readers_of_one_host_are_sent_at_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Queued while the host was away: behind a head that reads there is another."""
    async with fleet(tmp_path) as (world, _):
        host_id = await world.join("a")
        for _ in range(3):
            await wish(world, LS, "a")
        async with world.agent(host_id, capabilities=("kinds",)) as agent:
            assert len({(await agent.hear(CommandRun, within=1)).job_id for _ in range(3)}) == 3


async def test_a_copy_occupies_both_repositories(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a", "b", "c") as (world, agents):
        await world.repo("second")
        copy = await wish(world, CopySpec(from_repo="repo"), "a", repo="second")
        order = await agents["a"].hear(CommandRun)
        source = order.source
        assert source is not None
        assert (order.job_id, order.repo.url, source.url) == (copy, "/srv/second", "/srv/repo")
        check = await wish(world, CheckSpec(), "b")
        assert await agents["b"].hears_nothing(CommandRun)
        assert "(copy on a): this needs repository repo to itself" in (await waits_for(world, check) or "")
        assert await agents["c"].hears_nothing(CommandRun)
        await ends(agents["a"], order, well())
        assert (await agents["b"].hear(CommandRun)).job_id == check


async def test_looking_at_locks_and_an_operators_unlock_wait_for_nobody(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with fleet(tmp_path, "a", "b") as (world, agents):
        await wish(world, PruneSpec(), "a")
        await agents["a"].hear(CommandRun)
        for spec in (LocksSpec(), UnlockSpec()):
            job_id = await wish(world, spec, "b")
            assert (await agents["b"].hear(CommandRun)).job_id == job_id


async def test_a_job_whose_host_is_busy_holds_up_nobody_until_it_has_waited_long(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with fleet(tmp_path, "a", "b") as (world, agents):
        await world.repo("other")
        await wish(world, BACKUP, "a", repo="other")
        long = await agents["a"].hear(CommandRun)
        prune = await wish(world, PruneSpec(), "a")
        await wish(world, BACKUP, "b")
        await ends(agents["b"], await agents["b"].hear(CommandRun))
        await trio.sleep(questions.PATIENCE.total_seconds() + 1)
        late = await wish(world, BACKUP, "b")
        assert await agents["b"].hears_nothing(CommandRun)
        assert (await waits_for(world, late) or "").startswith(f"job {prune[:8]} (prune on a), which needs")
        await ends(agents["a"], long)
        order = await agents["a"].hear(CommandRun)
        assert order.job_id == prune
        await ends(agents["a"], order, well())
        assert (await agents["b"].hear(CommandRun)).job_id == late


async def test_what_has_waited_long_for_a_busy_host_keeps_one_place_and_not_the_repository(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with fleet(tmp_path, "a", "b", "c", "d") as (world, agents):
        await world.repo("other")
        await set_repo(world, max_parallel=2)
        await wish(world, BACKUP, "a", repo="other")
        long = await agents["a"].hear(CommandRun)
        old = [await wish(world, BACKUP, "a") for _ in range(3)]
        await trio.sleep(questions.PATIENCE.total_seconds() - 60)
        for name in ("b", "c"):
            await wish(world, BACKUP, name)
        orders = {name: await agents[name].hear(CommandRun) for name in ("b", "c")}
        late = await wish(world, BACKUP, "d")
        await trio.sleep(61)
        await ends(agents["b"], orders["b"])
        assert await agents["d"].hears_nothing(CommandRun)
        assert (await waits_for(world, late) or "").startswith(f"job {old[0][:8]} (backup on a)")
        await ends(agents["c"], orders["c"])
        assert (await agents["d"].hear(CommandRun)).job_id == late
        await ends(agents["a"], long)
        assert (await agents["a"].hear(CommandRun)).job_id == old[0]


async def test_who_leaves_lets_go_of_its_turn(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fleet(tmp_path, "a", "b", "c") as (world, agents):
        await wish(world, BACKUP, "a")
        order = await agents["a"].hear(CommandRun)
        prune, late = await wish(world, PruneSpec(), "b"), await wish(world, BACKUP, "c")
        assert await agents["c"].hears_nothing(CommandRun)
        await agents["b"].link.close()
        assert (await agents["c"].hear(CommandRun)).job_id == late
        assert await waits_for(world, prune) == "b to come online"
        await ends(agents["a"], order)


async def test_a_turn_is_not_lost_with_a_host_that_gets_another_job(tmp_path: Path, autojump_clock: MockClock) -> None:
    """The prune would be next on `repo`, but in this very moment its host gets what is older, elsewhere."""
    async with fleet(tmp_path, "a", "b") as (world, agents):
        await world.repo("other")
        await set_repo(world, max_parallel=1)
        await wish(world, BACKUP, "b")
        first = await agents["b"].hear(CommandRun)
        await wish(world, PruneSpec(), "b", repo="other")
        await wish(world, PruneSpec(), "b")
        late = await wish(world, LS, "a")
        assert await agents["a"].hears_nothing(CommandRun)
        await ends(agents["b"], first)
        assert (await agents["b"].hear(CommandRun)).repo.url == "/srv/other"
        assert (await agents["a"].hear(CommandRun, within=1)).job_id == late


async def test_a_long_queue_is_not_read_whole_for_each_turn(tmp_path: Path) -> None:
    """A thousand backups wait on one repository: what ends there costs as much as with ten."""

    async def statements(count: int) -> int:
        async with open_store(tmp_path / f"{count}.db", clock=SystemClock(), threads=False) as store:

            def change(tx: Connection) -> int:
                add_repo(tx)
                repo_id = repos.resolve(tx, "main").id
                ids = [join(tx, f"h{number}").id for number in range(count)]
                for host_id in ids:
                    job_rows.insert(
                        tx,
                        job_id=new_id(),
                        spec=BACKUP,
                        host_id=host_id,
                        repo_id=repo_id,
                        actor=Actor.OPERATOR,
                        now=START,
                    )
                sent = queue.take(tx, [], repo_ids=[repo_id], online=set(ids), now=at(1))
                assert [order.job.serial for order in sent] == [1, 2, 3, 4]
                over = replace(sent[0].job.state, status=Status.SUCCEEDED)
                job_rows.save(tx, sent[0].job.id, over)
                asked: list[object] = []

                def note(*given: object) -> None:
                    asked.append(given[2])

                event.listen(tx.engine, "before_cursor_execute", note)
                again = queue.take(tx, [], repo_ids=[repo_id], online=set(ids), now=at(2))
                event.remove(tx.engine, "before_cursor_execute", note)
                assert [order.job.serial for order in again] == [5]
                return len(asked)

            return await store.write(change)

    assert await statements(1_000) == await statements(10) < 20
