"""The agents' door in virtual time: joining, hello and welcome, one process an identity, and being offline at once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import trio
from sqlalchemy import select
from trio.testing import MockClock

from restic_manager.domain.errors import RefusedError
from restic_manager.domain.model import Status
from restic_manager.link import LinkClosed
from restic_manager.protocol.messages import (
    CommandRun,
    Error,
    Goodbye,
    Heartbeat,
    JobClaim,
    JobFinished,
    Join,
    Joined,
    OutboxHead,
    Refused,
    ScheduleAck,
    ScheduleSet,
)
from restic_manager.server import newcomers
from restic_manager.server.store import events, host_changes, hosts, identity
from restic_manager.server.store.schema import jobs
from tests.server.world import DONE, START, ScriptedAgent, World, claim, open_world, slot_after, slot_job_id

DIGEST = hashlib.sha256(b"a-new-credential").hexdigest()


async def one_host(world: World, name: str = "web1") -> tuple[str, str]:
    host_id = await world.join(name)
    await world.repo()
    return host_id, await world.schedule("minutely", name)


async def closing_code(agent: ScriptedAgent) -> int | None:
    with pytest.raises(LinkClosed) as caught:  # noqa: PT012 - reads whatever comes before the end
        while True:
            await agent.hear(Heartbeat)
    return caught.value.code


async def join(world: World, token: str, digest: str = DIGEST) -> Joined | Refused:
    async with world.link(token, path="/join") as link:
        await link.send(Join(protocol=1, agent_version="0.1.0", credential_sha256=digest))
        with trio.fail_after(10):
            answer = (await link.receive()).message
        assert isinstance(answer, Joined | Refused)
        return answer


# -- joining --------------------------------------------------------------------------------------------------------


async def test_a_token_lets_a_host_join_once_and_again_with_the_same_credential(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        host_id, token = await world.invite("web1")
        first = await join(world, token)
        assert first == Joined(host_id=host_id, host_name="web1")
        assert await join(world, token) == first
        other = await join(world, token, "0" * 64)
        assert isinstance(other, Refused)
        assert other.code == "used"
        world.credentials[host_id] = "a-new-credential"
        async with world.agent(host_id) as agent:
            assert world.hub.online(host_id)
            assert agent.host_id == host_id


@pytest.mark.parametrize(("seconds", "bearer", "code"), [(0, "no-such-token", "invalid"), (3_601, None, "expired")])
async def test_a_bad_token_is_refused_before_anything_is_said(
    tmp_path: Path, autojump_clock: MockClock, seconds: int, bearer: str | None, code: str
) -> None:
    async with open_world(tmp_path) as world:
        _, token = await world.invite("web1")
        await trio.sleep(seconds)
        with pytest.raises(RefusedError) as caught:
            await join(world, bearer or token)
        assert caught.value.code == code


async def test_joining_again_ends_the_session_of_the_old_credential(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            again, token = await world.invite("web1")
            assert again == host_id
            assert isinstance(await join(world, token), Joined)
            assert "credential" in (await agent.hear(Goodbye)).reason
            assert not world.hub.online(host_id)
            with pytest.raises(RefusedError) as caught:
                async with world.agent(host_id):
                    pass
            assert caught.value.code == "revoked"


# -- hello and welcome ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("credential", ["wrong", "credential-of-web2"])
async def test_a_wrong_credential_is_refused_before_a_link_is_made(
    tmp_path: Path, autojump_clock: MockClock, credential: str
) -> None:
    async with open_world(tmp_path) as world:
        await one_host(world)
        with pytest.raises(RefusedError) as caught:
            async with world.link(credential):
                pass
        assert (caught.value.code, caught.value.retry) == ("unknown", False)


async def test_a_welcome_tells_where_to_go_on_and_the_set_follows(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        async with world.link(world.credentials[host_id]) as link:
            agent = ScriptedAgent(world, host_id, link)
            welcome = await agent.greet()
            assert (welcome.host_id, welcome.host_name, welcome.acked_through) == (host_id, "web1", 0)
            assert welcome.epoch == await world.read(identity.epoch)
            assert (welcome.clock, welcome.heartbeat_interval) == (world.now(), 15.0)
            assert welcome.reconnect_spread >= 5
            said = await agent.hear(ScheduleSet)
            assert len(said.entries) == 1
            assert schedule_id in bytes(said.entries[0]).decode()
            await link.send(ScheduleAck(epoch=said.epoch, version=said.version))
            await world.settled()
            row = await world.read(lambda tx: hosts.get(tx, host_id))
            assert (row.applied_schedule_version, row.applied_epoch) == (said.version, said.epoch)
        known = {"applied_epoch": said.epoch, "applied_version": said.version}
        async with world.agent(host_id, **known) as agent:
            assert await agent.hears_nothing(ScheduleSet), "the agent has this set already"
            await world.schedule("another", "web1")
            assert len((await agent.hear(ScheduleSet)).entries) == 2
        async with world.agent(host_id, applied_epoch="another-epoch", applied_version=said.version + 1) as agent:
            assert len((await agent.hear(ScheduleSet)).entries) == 2


@pytest.mark.parametrize(("protocol", "code"), [(2, "too_new")])
async def test_another_protocol_is_refused_plainly(
    tmp_path: Path, autojump_clock: MockClock, protocol: int, code: str
) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.link(world.credentials[host_id]) as link:
            agent = ScriptedAgent(world, host_id, link)
            await link.send(agent.hello(protocol=protocol))
            refused = await agent.hear(Refused)
            assert (refused.code, refused.retry) == (code, False)
            assert await closing_code(agent) == 1008
        assert not world.hub.online(host_id)


async def test_whoever_says_nothing_or_something_else_first_is_turned_away(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.link(world.credentials[host_id]) as link:
            began = trio.current_time()
            assert await closing_code(ScriptedAgent(world, host_id, link)) == 1008
            assert 9 <= trio.current_time() - began <= 15
        for frame in ('{"type":"goodbye","reason":"first"}', '{"type":"nonsense"}', '{"type":"hello"}'):
            async with world.link(world.credentials[host_id]) as link:
                agent = ScriptedAgent(world, host_id, link)
                await link.send_frame(frame)
                assert (await agent.hear(Error)).code == "out_of_order"
                assert await closing_code(agent) == 1008
        async with world.agent(host_id):
            assert world.hub.online(host_id)


async def test_a_closed_link_is_offline_at_once_and_stamped(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            await trio.sleep(100)
            await agent.link.close()
            await world.settled()
            assert not world.hub.online(host_id)
            seen = (await world.read(lambda tx: hosts.get(tx, host_id))).last_seen_at
            assert seen == world.now()


async def test_a_half_open_link_is_offline_after_three_heartbeats(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.link(world.credentials[host_id]) as link:
            agent = ScriptedAgent(world, host_id, link)
            await link.send(agent.hello())  # and no heartbeat ever after
            await trio.sleep(40)
            assert world.hub.online(host_id)
            await trio.sleep(10)
            assert not world.hub.online(host_id)


async def test_the_server_stops_with_a_goodbye_and_1001(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            world.nursery.start_soon(world.door.drain)
            assert "stops" in (await agent.hear(Goodbye)).reason
            assert await closing_code(agent) == 1001
        with pytest.raises(RefusedError) as caught:
            async with world.agent(host_id):
                pass
        assert (caught.value.code, caught.value.retry) == ("draining", True)


async def test_a_removed_host_is_sent_away(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            await world.write(lambda tx: host_changes.remove(tx, hosts.get(tx, host_id), now=world.now()))
            world.hub.close(host_id, "this host was removed")
            assert await closing_code(agent) == 1001
        with pytest.raises(RefusedError) as caught:
            async with world.agent(host_id):
                pass
        assert caught.value.code in {"revoked", "unknown"}


async def test_a_credential_that_dies_between_door_and_hello_is_refused(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.link(world.credentials[host_id]) as link:
            late = ScriptedAgent(world, host_id, link)
            await world.settled()
            _, token = await world.invite("web1")
            assert isinstance(await join(world, token), Joined)
            await link.send(late.hello())
            assert (await late.hear(Refused)).code == "revoked"
        assert not world.hub.online(host_id)


# -- one process an identity ----------------------------------------------------------------------------------------


async def test_the_same_instance_replaces_its_session(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as old, world.agent(host_id) as new:
            assert await closing_code(old) == 1001
            assert world.hub.online(host_id)
            await world.dispatcher.run_schedule("minutely", None)
            await new.hear(CommandRun)


async def test_another_instance_is_refused_while_the_first_answers(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as first, world.link(world.credentials[host_id]) as link:
            second = ScriptedAgent(world, host_id, link)
            await link.send(second.hello(instance_id="another"))
            refused = await second.hear(Refused)
            assert (refused.code, refused.retry) == ("duplicate", True)
            await world.dispatcher.run_schedule("minutely", None)
            await first.hear(CommandRun)  # the first one goes on
        told = await world.read(lambda tx: events.latest(tx, limit=5, what="duplicate"))
        assert [event.host_id for event in told] == [host_id]


async def test_another_instance_comes_in_when_the_first_is_silent(tmp_path: Path, autojump_clock: MockClock) -> None:
    """The machine was cut off and restarted: its old connection is still open here, and nobody is at its end."""
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id):
            gate = world.agent_gate
            gate.shut()
            began = trio.current_time()
            async with world.agent(host_id, instance_id="after-the-restart"):
                assert trio.current_time() - began >= 5
                current = world.hub.current(host_id)
                assert current is not None
                assert current.instance_id == "after-the-restart"
                row = await world.read(lambda tx: hosts.get(tx, host_id))
                assert row.clock_offset == 0, "the wait for the first is not the second one's clock"
            gate.open()


# -- journals -------------------------------------------------------------------------------------------------------


async def test_a_rolled_back_journal_is_asked_to_take_a_new_id(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            await world.dispatcher.run_schedule("minutely", None)
            order = await agent.hear(CommandRun)
            await agent.start(order)
            await agent.acked(await agent.finish(order, DONE))
        async with world.link(world.credentials[host_id]) as link:
            copy = ScriptedAgent(world, host_id, link)
            await link.send(copy.hello(outbox=OutboxHead(head=1, acked=1)))
            refused = await copy.hear(Refused)
            assert (refused.code, refused.retry) == ("rekey", True)
        assert len(await world.read(lambda tx: events.latest(tx, limit=5, what="rekey"))) == 1


async def test_a_new_journal_interrupts_what_the_old_one_was_handed(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        await trio.sleep(60)
        async with world.agent(host_id) as agent:
            fired = await agent.fire(schedule_id, slot_after(START, 60))
            order = await agent.hear(CommandRun)
            await agent.acked(await agent.start(order))
            (waiting,) = await world.dispatcher.run_schedule("minutely", None)
        async with world.agent(host_id, journal_id="a-fresh-one") as agent:
            job = await world.job(fired.job_id or "")
            assert (job.status, job.state.verdict_by) == (Status.INTERRUPTED, "server")
            assert job.state.error is not None
            assert job.state.error.code == "journal_lost"
            # what was never sent is not lost with the journal
            assert (await agent.hear(CommandRun)).job_id == waiting.id


async def test_after_a_rekey_what_the_agent_still_has_goes_on(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            await world.dispatcher.run_schedule("minutely", None)
            order = await agent.hear(CommandRun)
            await agent.acked(await agent.start(order))
        async with world.agent(host_id, journal_id="rekeyed", jobs=(claim(order),)) as agent:
            assert (await world.job(order.job_id)).status is Status.RUNNING
            await agent.acked(await agent.finish(order, DONE))
            assert (await world.job(order.job_id)).status is Status.SUCCEEDED


async def test_an_old_copy_of_the_store_gets_a_new_epoch_and_everyone_says_hello_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        other_id = await world.join("web2")
        before = await world.read(identity.epoch)
        async with world.agent(other_id) as other:
            async with world.link(world.credentials[host_id]) as link:
                agent = ScriptedAgent(world, host_id, link)
                head = OutboxHead(head=9, acked=7, acked_hash="f" * 64, epoch=before)
                welcome = await agent.greet(outbox=head, applied_epoch=before, applied_version=99)
                assert welcome.epoch != before
                assert welcome.acked_through == 7
                assert (await agent.hear(ScheduleSet)).epoch == welcome.epoch
            assert "epoch" in (await other.hear(Goodbye)).reason


async def test_the_job_list_is_taken_before_anything_is_sent(tmp_path: Path, autojump_clock: MockClock) -> None:
    """The agent runs a slot by its standing order: nothing else may be sent to the host beside it."""
    async with open_world(tmp_path) as world:
        host_id, schedule_id = await one_host(world)
        (waiting,) = await world.dispatcher.run_schedule("minutely", None)
        await trio.sleep(90)
        slot = slot_after(START, 60)
        job_id = slot_job_id(schedule_id, host_id, slot)
        mine = JobClaim(job_id=job_id, state="running", schedule_id=schedule_id, scheduled_at=slot)
        async with world.agent(host_id, jobs=(mine,)) as agent:
            assert await agent.hears_nothing(CommandRun, 10)
            assert (await world.job(job_id)).slot == slot
            await agent.report(
                lambda seq: JobFinished(
                    seq=seq,
                    job_id=job_id,
                    outcome=DONE,
                    started_at=START,
                    finished_at=world.now(),
                    schedule_id=schedule_id,
                    scheduled_at=slot,
                )
            )
            assert (await agent.hear(CommandRun)).job_id == waiting.id


async def test_a_hello_that_claims_another_hosts_job_is_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        thief_id = await world.join("thief")
        async with world.agent(host_id) as agent:
            await world.dispatcher.run_schedule("minutely", None)
            order = await agent.hear(CommandRun)
            async with world.link(world.credentials[thief_id]) as link:
                thief = ScriptedAgent(world, thief_id, link)
                await link.send(thief.hello(jobs=(claim(order),)))
                assert (await thief.hear(Refused)).code == "invalid"
            assert not world.hub.online(thief_id)
            assert world.hub.online(host_id)
            owners = await world.read(lambda tx: tx.execute(select(jobs.c.host_id)).scalars().all())
            assert owners == [host_id]


# -- limits ---------------------------------------------------------------------------------------------------------


async def test_only_so_many_may_be_undecided_at_once(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newcomers, "MAX_UNGREETED", 3)
    async with open_world(tmp_path) as world:
        host_id, _ = await one_host(world)
        async with world.agent(host_id) as agent:
            async with world.stream() as a, world.stream() as b, world.stream() as c, world.stream() as d:
                closed = 0
                for stream in (a, b, c, d):
                    with trio.move_on_after(1):
                        closed += await stream.receive_some() == b""
                assert closed == 1
                await world.dispatcher.run_schedule("minutely", None)
                await agent.hear(CommandRun)  # a session is not counted, and goes on
            await trio.sleep(20)
            async with world.link(world.credentials[host_id]):
                pass


async def test_a_stuck_agent_loses_its_link_and_holds_up_nobody(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        stuck_id, _ = await one_host(world)
        other_id = await world.join("web2")
        async with world.agent(other_id) as other, world.agent(stuck_id):
            gate = world.server_gate
            gate.shut()
            sent = 0
            while world.hub.send(stuck_id, Error(code="x", message="y" * 8_000)):
                sent += 1
                assert sent < 10_000
            await trio.sleep(10)
            assert not world.hub.online(stuck_id)
            await world.repo("second")
            await world.schedule("others", "web2", repo="second")
            await world.dispatcher.run_schedule("others", None)
            assert (await other.hear(CommandRun)).repo.url == "/srv/second"
            gate.open()
