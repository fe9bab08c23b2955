"""Credentials over their life: rotated over a session, revoked, forgotten; at the door and on the rows."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path

import pytest
import trio
from sqlalchemy import Connection, func, select
from trio.testing import MockClock

from restic_manager.domain.errors import ConflictError, RefusedError
from restic_manager.link import LinkClosed
from restic_manager.protocol.messages import (
    CAP_ROTATE,
    CommandRun,
    CredentialHeld,
    CredentialNew,
    CredentialRotate,
    CredentialUsed,
    Error,
    Refused,
)
from restic_manager.server.janitor import Janitor
from restic_manager.server.store import credentials, events, history, host_changes, hosts, purging, schema
from tests.server.rows import hello, sha
from tests.server.test_operator_access import open_door
from tests.server.world import DONE, World, open_world, slot_after

KNOWS = {"capabilities": (CAP_ROTATE,)}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def code_at_the_door(world: World, credential: str) -> str:
    try:
        async with world.link(credential):
            return "in"
    except RefusedError as refused:
        return f"{refused.code}, try again" if refused.retry else refused.code


async def ask(world: World, host_id: str) -> None:
    """What `host rotate` does."""
    await world.write(lambda tx: credentials.ask_rotation(tx, host_id, now=world.now()))
    world.hub.send(host_id, CredentialRotate())


# -- rotating ---------------------------------------------------------------------------------------------------------


async def test_both_hold_until_the_new_one_was_used_and_the_session_goes_on(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        host_id = await world.join("web1")
        old = world.credentials[host_id]
        async with world.agent(host_id, **KNOWS) as agent:
            await ask(world, host_id)
            await agent.hear(CredentialRotate)
            await agent.link.send(CredentialNew(credential_sha256=digest("next")))
            assert (await agent.hear(CredentialHeld)).credential_sha256 == digest("next")
            assert [await code_at_the_door(world, one) for one in (old, "next")] == ["in", "in"]
            await agent.link.send(CredentialUsed(credential_sha256=digest("next")))
            await world.settled()
            assert [await code_at_the_door(world, one) for one in (old, "next")] == ["revoked", "in"]
            assert world.hub.online(host_id), "the session goes on"
            assert not agent.link.closed
        host = await world.read(lambda tx: hosts.get(tx, host_id))
        assert (host.rotation_asked_at, host.next_credential_sha256) == (None, None)
        assert [row.what for row in await world.read(lambda tx: events.latest(tx, limit=1))] == ["credential_rotated"]


async def test_a_hello_by_the_new_one_ends_the_old_one(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id = await world.join("web1")
        old = world.credentials[host_id]
        await ask(world, host_id)
        async with world.agent(host_id, **KNOWS) as agent:
            await agent.hear(CredentialRotate)  # it was away when it was asked
            await agent.link.send(CredentialNew(credential_sha256=digest("next")))
            await agent.hear(CredentialHeld)
        # … it dies here, having stored the new one
        world.credentials[host_id] = "next"
        async with world.agent(host_id, **KNOWS) as agent:
            assert await code_at_the_door(world, old) == "revoked"
            assert await agent.hears_nothing(CredentialRotate)


async def test_an_agent_that_dies_on_the_way_is_asked_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id = await world.join("web1")
        await ask(world, host_id)
        for made in ("one", "one", "another"):  # asked, it says the same again; one that lost it makes another
            async with world.agent(host_id, **KNOWS) as agent:
                await agent.hear(CredentialRotate)
                await agent.link.send(CredentialNew(credential_sha256=digest(made)))
                assert (await agent.hear(CredentialHeld)).credential_sha256 == digest(made)
        assert await code_at_the_door(world, "one") == "unknown"
        assert await code_at_the_door(world, "another") == "in"


async def test_who_does_not_know_how_is_never_asked(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id = await world.join("web1")
        await ask(world, host_id)
        async with world.agent(host_id) as agent:
            assert await agent.hears_nothing(CredentialRotate)


async def test_nobody_replaces_a_credential_unasked_or_by_a_used_one(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, other_id = await world.join("web1"), await world.join("web2")
        async with world.agent(host_id, **KNOWS) as agent:
            await agent.link.send(CredentialNew(credential_sha256=digest("mine")))
            assert "nobody has asked" in (await agent.hear(Error)).message
            await agent.link.send(CredentialUsed(credential_sha256=digest("mine")))
            await agent.hear(Error)
            await ask(world, host_id)
            used = digest(world.credentials[other_id])
            await agent.link.send(CredentialNew(credential_sha256=used))
            assert "used before" in (await agent.hear(Error)).message
            await agent.link.send(CredentialUsed(credential_sha256=used))
            assert "another host's" in (await agent.hear(Error)).message
        assert await code_at_the_door(world, "mine") == "unknown"
        assert await code_at_the_door(world, world.credentials[other_id]) == "in"


async def test_a_rejoin_ends_a_rotation(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id = await world.join("web1")
        await ask(world, host_id)
        async with world.agent(host_id, **KNOWS) as agent:
            await agent.link.send(CredentialNew(credential_sha256=digest("next")))
            await agent.hear(CredentialHeld)
        _, token = await world.invite("web1")
        now = world.now()
        await world.write(lambda tx: hosts.redeem(tx, sha(token), digest("rejoined"), now))
        assert await code_at_the_door(world, "next") == "revoked"
        assert await code_at_the_door(world, "rejoined") == "in"


async def test_what_cannot_be_rotated_says_what_to_do(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id, _ = await world.invite("web1")
        with pytest.raises(ConflictError, match=r"has not joined yet.*host invite web1"):
            await ask(world, host_id)


# -- revoking ---------------------------------------------------------------------------------------------------------


async def test_a_revoked_host_is_cut_off_told_and_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id = await world.join("web1")
        async with world.agent(host_id, **KNOWS) as agent:
            host = await world.read(lambda tx: hosts.get(tx, host_id))
            await world.write(lambda tx: host_changes.revoke(tx, host, now=world.now()))
            told = Refused(code="revoked", message=credentials.past_sentence("revoked", "web1"))
            world.hub.close(host_id, "revoked", refused=told)
            said = await agent.hear(Refused)
            assert (said.code, said.retry) == ("revoked", False)
            assert "host invite" in said.message
            with pytest.raises(LinkClosed, match="1008"):
                await agent.hear(Refused)
        await world.settled()
        assert not world.hub.online(host_id)
        assert await code_at_the_door(world, world.credentials[host_id]) == "revoked"
        host = await world.read(lambda tx: hosts.get(tx, host_id))
        assert host.revoked_at is not None
        _, token = await world.invite("web1")
        now = world.now()
        await world.write(lambda tx: hosts.redeem(tx, sha(token), digest("new"), now))
        back = await world.read(lambda tx: hosts.get(tx, host_id))
        assert (back.id, back.revoked_at, back.credential_sha256) == (host_id, None, digest("new"))
        assert await code_at_the_door(world, world.credentials[host_id]) == "revoked", "for good"


async def test_revoked_between_the_knock_and_the_hello(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id = await world.join("web1")
        async with world.link(world.credentials[host_id]) as link:
            host = await world.read(lambda tx: hosts.get(tx, host_id))
            await world.write(lambda tx: host_changes.revoke(tx, host, now=world.now()))
            await link.send(hello(instance_id="of web1", clock=world.now()))
            said = (await link.receive()).message
            assert isinstance(said, Refused)
            assert said.code == "revoked"
        await world.settled()
        assert not world.hub.online(host_id)


async def test_an_open_token_dies_with_a_revocation(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id = await world.join("web1")
        _, token = await world.invite("web1")
        host = await world.read(lambda tx: hosts.get(tx, host_id))
        await world.write(lambda tx: host_changes.revoke(tx, host, now=world.now()))
        refused = await world.read(lambda tx: hosts.admit_token(tx, sha(token), world.now()))
        assert isinstance(refused, Refused)
        assert refused.code == "revoked"


# -- removing, with history and without --------------------------------------------------------------------------------

OF_HOSTS = (
    schema.jobs,
    schema.fates,
    schema.assignments,
    schema.invites,
    schema.journals,
    schema.host_labels,
    schema.events,
)


async def counted(world: World, host_id: str) -> dict[str, int]:
    """How many rows each table has of a host."""

    def count(tx: Connection) -> dict[str, int]:
        return {
            table.name: tx.execute(
                select(func.count()).select_from(table).where(table.c.host_id == host_id)
            ).scalar_one()
            for table in OF_HOSTS
        }

    return await world.read(count)


async def one_with_a_past(world: World, name: str) -> str:
    """Make a host that has labels and has run a slot; return its id."""
    host_id = await world.join(name)
    schedule_id = await world.schedule(f"of-{name}", name)

    def label(tx: Connection) -> None:
        host = hosts.get(tx, host_id)
        host_changes.label(tx, host, put={"a": "1"}, remove=(), now=world.now(), default_zone="UTC")

    await world.write(label)
    begun = world.now()
    async with world.agent(host_id) as agent:
        await trio.sleep(61)
        await agent.fire(schedule_id, slot_after(begun, 60))
        order = await agent.hear(CommandRun)
        await agent.start(order)
        await agent.acked(await agent.finish(order, DONE))
    return host_id


async def test_history_stays_unless_it_is_purged(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        await world.repo()
        gone, stays = await one_with_a_past(world, "web1"), await one_with_a_past(world, "web2")
        before, others = await counted(world, gone), await counted(world, stays)
        assert all(before.values()), before
        await world.write(lambda tx: host_changes.remove(tx, hosts.get(tx, gone), now=world.now()))
        after = await counted(world, gone)
        assert after == {**before, "events": after["events"]}, "history stays"
        assert not await world.read(purging.asked)
        await world.write(lambda tx: purging.ask(tx, gone, now=world.now()))
        assert await world.write(lambda tx: purging.bite(tx, gone, now=world.now()))
        assert await world.read(purging.asked) == [gone], "cut short: the janitor knows of it"
        await Janitor(world.services).purge()
        assert not await world.read(purging.asked)
        assert not any((await counted(world, gone)).values())
        assert await counted(world, stays) == others
        left = await world.read(lambda tx: hosts.get(tx, gone))
        assert (left.name, left.restic_host, left.agent_version, left.capabilities) == ("web1", "web1", None, ())
        assert (left.schedule_version, left.applied_schedule_version) == (1, 0)
        assert await code_at_the_door(world, world.credentials[gone]) == "revoked"
        again = await world.join("web1")
        assert (await world.read(lambda tx: hosts.get(tx, again))).restic_host != "web1", "its snapshots stay its own"


async def test_who_is_not_removed_is_not_purged(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id = await world.join("web1")
        await world.write(lambda tx: purging.ask(tx, host_id, now=world.now()))
        assert not await world.read(purging.asked)


async def test_a_past_credential_is_forgotten_with_the_rest_of_history(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        host_id = await world.join("web1")
        await world.write(lambda tx: host_changes.revoke(tx, hosts.get(tx, host_id), now=world.now()))
        ended = world.now()
        await world.write(lambda tx: history.forget_rest(tx, ended + history.HISTORY))
        assert await code_at_the_door(world, world.credentials[host_id]) == "revoked"
        await world.write(lambda tx: history.forget_rest(tx, ended + history.HISTORY + timedelta(seconds=1)))
        assert await code_at_the_door(world, world.credentials[host_id]) == "unknown"


# -- the operators' side ----------------------------------------------------------------------------------------------


async def test_an_operator_rotates_and_revokes(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_door(tmp_path) as door:
        world = door.world
        host_id = await world.join("web1")
        async with world.agent(host_id, **KNOWS) as agent:
            view = (await door("admin", "POST", "/v1/hosts/web1/rotate")).json
            assert view["rotation_asked_at"] is not None
            await agent.hear(CredentialRotate)
            view = (await door("admin", "POST", "/v1/hosts/web1/revoke")).json
            assert (view["state"], view["online"], view["rotation_asked_at"]) == ("revoked", False, None)
            assert (await agent.hear(Refused)).code == "revoked"
        status = (await door("admin", "GET", "/v1/status")).json
        assert "web1 is revoked: it is refused until it is invited and joins again" in status["problems"]
        again = await door("admin", "POST", "/v1/hosts/web1/rotate")
        assert (again.status, again.code) == (409, "conflict")
        invited = (await door("admin", "POST", "/v1/hosts/invite", {"name": "web1"})).json
        assert invited["rejoin"]
        now = world.now()
        await world.write(lambda tx: hosts.redeem(tx, sha(invited["token"]), digest("b"), now))
        assert (await door("viewer", "GET", "/v1/hosts/web1")).json["state"] == "joined"


async def test_a_removed_host_is_purged_by_its_whole_name(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_door(tmp_path) as door:
        await door.world.repo()
        host_id = await one_with_a_past(door.world, "web1")
        assert (await door("admin", "DELETE", "/v1/hosts/web1")).status == 200
        assert (await door("admin", "DELETE", "/v1/hosts/web1")).status == 404
        assert (await door("admin", "DELETE", "/v1/hosts/web1?purge=2")).status == 400
        assert (await door("admin", "DELETE", "/v1/hosts/web1?purge=1")).json["id"] == host_id
        assert not any((await counted(door.world, host_id)).values())


async def test_one_is_removed_and_purged_at_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_door(tmp_path) as door:
        await door.world.repo()
        host_id = await one_with_a_past(door.world, "web1")
        async with door.world.agent(host_id, journal_id="another") as agent:
            assert (await door("admin", "DELETE", "/v1/hosts/web1?purge=1")).status == 200
            assert (await agent.hear(Refused)).code == "revoked"
        assert not any((await counted(door.world, host_id)).values())
        assert (await door("viewer", "GET", "/v1/hosts")).json == []
