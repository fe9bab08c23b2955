"""Machines without a token at the agents' door, and what an operator makes of them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from restic_manager.domain.errors import ConflictError, InputError, NotFoundError
from restic_manager.link import ANNOUNCE_PATH
from restic_manager.protocol import codec
from restic_manager.protocol.announcing import base32, fingerprint_of, signed_bytes
from restic_manager.protocol.messages import Announce, Announced, Challenge, Error, Joined, Message, Refused
from restic_manager.runtime.signing import public_key, sign
from restic_manager.server.agents import AgentsDoor
from restic_manager.server.store import events, host_changes, hosts, pending, schema
from tests.server.test_operator_access import open_door
from tests.server.world import World, open_world
from tests.support.tls import own_certificate


class Machine:
    """One that has a key and a credential, and says what a test makes it say."""

    def __init__(self, name: str, *, key: bytes | None = None) -> None:
        self.name = name
        self.key = key or hashlib.sha256(name.encode()).digest()
        self.credential = f"credential-of-{name}"
        self.fingerprint = fingerprint_of(public_key(self.key))

    def announcement(self, nonce: str, **changes: Any) -> Announce:
        said = Announce(
            protocol=1,
            agent_version="0.1.0",
            public_key=base32(public_key(self.key)),
            credential_sha256=hashlib.sha256(self.credential.encode()).hexdigest(),
            name=self.name,
            os="Linux",
            signature="",
        )
        said = msgspec.structs.replace(said, **changes)
        return msgspec.structs.replace(said, signature=base32(sign(self.key, signed_bytes(said, nonce))))

    async def says(self, world: World, *, nonce: str | None = None, spoil: Any = None, **changes: Any) -> Message:
        """Announce itself once, and return the answer. spoil: what to do to the signed announcement."""
        async with world.link(None, path=ANNOUNCE_PATH, decoder=codec.announce_answer) as link:
            challenge = (await link.receive()).message
            assert isinstance(challenge, Challenge)
            said = self.announcement(nonce or challenge.nonce, **changes)
            await link.send(said if spoil is None else spoil(said))
            answer = (await link.receive()).message
            assert isinstance(answer, Message)
            return answer


async def approve(world: World, machine: Machine, name: str | None = None, **labels: str) -> pending.Approved:
    def change(tx: Any) -> pending.Approved:
        row = pending.resolve(tx, machine.fingerprint, world.now())
        return pending.approve(tx, row, name=name, labels=labels, now=world.now(), default_zone="UTC")

    return await world.write(change)


async def refusal(machine: Machine, world: World, **how: Any) -> Refused:
    said = await machine.says(world, **how)
    assert isinstance(said, Refused), said
    assert len(said.message) > 20
    return said


async def waiting(world: World) -> list[str]:
    return [row.name for row in await world.read(lambda tx: pending.listed(tx, world.now()))]


async def test_it_waits_is_approved_and_is_a_host_however_often_it_asks(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        await world.repo()
        machine = Machine("web1")
        for _ in range(2):
            said = await machine.says(world)
            assert isinstance(said, Announced)
            assert (said.fingerprint, said.retry_after) == (machine.fingerprint, pending.ASK_AGAIN)
            assert said.expires_at == world.now() + timedelta(hours=1)
        assert await waiting(world) == ["web1"]
        made = await approve(world, machine, tier="web")
        assert (made.host.name, made.host.labels, made.note) == ("web1", {"tier": "web"}, None)
        assert await waiting(world) == []
        for _ in range(2):
            said = await machine.says(world)
            assert said == Joined(host_id=made.host.id, host_name="web1", repositories=("/srv/repo",))
        world.credentials[made.host.id] = machine.credential
        async with world.agent(made.host.id):
            assert world.hub.online(made.host.id)
        whats = [row.what for row in await world.read(lambda tx: events.latest(tx, limit=9, host_id=made.host.id))]
        assert whats == ["host_approved", "host_joined"]


async def test_what_it_announced_last_is_what_holds(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        machine = Machine("web1")
        await machine.says(world)
        machine.credential = "made anew"
        await machine.says(world, os="another system")
        host = (await approve(world, machine)).host
        assert host.credential_sha256 == hashlib.sha256(b"made anew").hexdigest()
        assert isinstance(await machine.says(world), Joined)


async def test_a_signature_covers_every_field_and_one_connection(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        machine, other = Machine("web1"), Machine("web2")
        changed: dict[str, Any] = {
            "agent_version": "9",
            "public_key": base32(public_key(other.key)),
            "credential_sha256": "0" * 64,
            "name": "web2",
            "os": "x",
            "pin": "a" * 52,
        }
        assert set(changed) == set(Announce.__struct_fields__) - {"protocol", "signature"}
        for field, value in changed.items():

            def spoil(said: Announce, field: str = field, value: str = value) -> Announce:
                return msgspec.structs.replace(said, **{field: value})

            assert (await refusal(machine, world, spoil=spoil)).code == "invalid", field
        assert (await refusal(machine, world, nonce=base32(bytes(32)))).code == "invalid", "said before, by somebody"
        assert (await refusal(machine, world, spoil=no_base32)).code == "invalid"
        assert await waiting(world) == []


def no_base32(said: Announce) -> Announce:
    """Its last letter has bits that no encoder writes."""
    return msgspec.structs.replace(said, signature=said.signature[:-1] + "b")


async def test_another_protocol_is_refused_as_everywhere(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        assert (await refusal(Machine("web1"), world, protocol=2)).code == "too_new"


async def test_what_is_no_announcement_ends_the_connection(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with (
        open_world(tmp_path) as world,
        world.link(None, path=ANNOUNCE_PATH, decoder=codec.announce_answer) as link,
    ):
        await link.receive()
        await link.send_frame('{"type":"join","protocol":1,"agent_version":"x","credential_sha256":"' + "0" * 64 + '"}')
        said = (await link.receive()).message
        assert isinstance(said, Error | codec.WireError)


async def test_a_certificate_that_is_not_ours_is_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        own = own_certificate("server")
        world.door = AgentsDoor(replace(world.services, tls=own))
        (pin,) = own.pins_at(world.now())
        seen = await refusal(Machine("web1"), world, pin="a" * 52)
        assert (seen.code, seen.retry) == ("wrong_pin", True)
        assert isinstance(await Machine("web1").says(world, pin=pin), Announced)
        assert isinstance(await Machine("web2").says(world), Announced), "it goes by the system's CAs"


async def test_it_is_forgotten_an_hour_after_it_was_last_heard_of(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        stays, goes = Machine("stays"), Machine("goes")
        await stays.says(world)
        await goes.says(world)
        await trio.sleep(1800)
        await stays.says(world)
        await trio.sleep(1799)
        assert sorted(await waiting(world)) == ["goes", "stays"]
        await trio.sleep(1)
        assert await waiting(world) == ["stays"]
        with pytest.raises(NotFoundError, match="host pending"):
            await approve(world, goes)
        await world.write(lambda tx: pending.forget(tx, world.now()))
        assert await world.read(lambda tx: pending.find(tx, goes.fingerprint)) is None


async def test_a_rejected_key_is_told_so_for_an_hour(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        machine = Machine("web1")
        await machine.says(world)

        def reject(tx: Any) -> object:
            return pending.reject(tx, pending.resolve(tx, machine.fingerprint, world.now()), now=world.now())

        await world.write(reject)
        said = await refusal(machine, world)
        assert (said.code, said.retry) == ("rejected", False)
        await trio.sleep(1800)
        assert (await refusal(machine, world)).code == "rejected"
        await trio.sleep(1800)
        assert isinstance(await machine.says(world), Announced), "asking does not keep it rejected for ever"


async def test_an_address_and_all_together_have_their_limit(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world(tmp_path) as world:
        machines = [Machine(f"m{number}") for number in range(pending.MOST_AT_ONE_ADDRESS + 1)]
        for machine in machines[:-1]:
            assert isinstance(await machine.says(world), Announced)
        said = await refusal(machines[-1], world)
        assert (said.code, said.retry) == ("crowded", True)
        assert said.retry_after is not None
        assert isinstance(await machines[0].says(world), Announced), "who waits already is heard"
        monkeypatch.setattr(pending, "MOST", pending.MOST_AT_ONE_ADDRESS)
        digest = hashlib.sha256(b"x").hexdigest()
        announcement = machines[-1].announcement(base32(bytes(32)), credential_sha256=digest)

        def elsewhere(tx: Any) -> Message:
            return pending.announce(
                tx, announcement, fingerprint="f", address="198.51.100.7", network="198.51.100.7", now=world.now()
            )

        full = await world.write(elsewhere)
        assert isinstance(full, Refused)
        assert "10 machines wait for approval already, and no more may" in full.message
        monkeypatch.undo()
        assert isinstance(await world.write(elsewhere), Announced), "another address has a limit of its own"


async def test_behind_a_proxy_each_counts_for_itself(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        config = replace(world.services.config, behind_proxy=True)
        world.door = AgentsDoor(replace(world.services, config=config))
        for number in range(pending.MOST_AT_ONE_ADDRESS + 1):
            assert isinstance(await Machine(f"m{number}").says(world), Announced)


async def test_many_are_asked_to_ask_less_often(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        machine = Machine("web1")

        def crowd(tx: Any) -> None:
            rows = [
                {
                    "fingerprint": str(number),
                    "public_key": "",
                    "credential_sha256": str(number),
                    "name": "n",
                    "os": "",
                    "agent_version": "",
                    "address": "",
                    "network": str(number),
                    "first_at": world.now(),
                    "last_at": world.now(),
                }
                for number in range(pending.MOST - 1)
            ]
            tx.execute(schema.pending_hosts.insert(), rows)

        await world.write(crowd)
        said = await machine.says(world)
        assert isinstance(said, Announced)
        assert said.retry_after == pending.MOST / pending.ASKING_A_SECOND


async def test_a_name_that_exists_is_never_taken_over(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        host_id = await world.join("web1")
        await world.invite("web2")
        for name in ("web1", "web2"):
            machine = Machine(name, key=name.ljust(32).encode())
            await machine.says(world, credential_sha256=hashlib.sha256(b"new " + name.encode()).hexdigest())
            with pytest.raises(ConflictError, match=r"does not take its place.*--name.*host invite"):
                await approve(world, machine)
            with pytest.raises(ConflictError):
                await approve(world, machine, name="web1")
        assert sorted(await waiting(world)) == ["web1", "web2"]
        made = await approve(world, Machine("web1", key=b"web1".ljust(32)), name="web3")
        assert (made.host.name, made.host.id != host_id) == ("web3", True)
        untouched = await world.read(lambda tx: hosts.get(tx, host_id))
        assert untouched.credential_sha256 == hashlib.sha256(world.credentials[host_id].encode()).hexdigest()


async def test_what_a_machine_calls_itself_may_be_no_name(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        machine = Machine("-rf\n/")
        await machine.says(world)
        with pytest.raises(InputError, match="--name"):
            await approve(world, machine)
        with pytest.raises(InputError):
            await approve(world, machine, name="../x")
        assert (await approve(world, machine, name="web1")).host.name == "web1"


async def test_one_that_was_revoked_or_removed_stays_out(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        machine = Machine("web1")
        await machine.says(world)
        host = (await approve(world, machine)).host
        await world.write(lambda tx: host_changes.revoke(tx, hosts.get(tx, host.id), now=world.now()))
        assert (await refusal(machine, world)).code == "revoked"
        await world.write(lambda tx: host_changes.remove(tx, hosts.get(tx, host.id), now=world.now()))
        assert "was removed" in (await refusal(machine, world)).message
        assert await waiting(world) == []


async def test_schedules_reach_it_by_its_labels_from_the_approval_on(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        await world.repo()
        await world.join("other")
        schedule_id = await world.schedule("by-label", labels={"tier": "web"})
        machine = Machine("web1")
        await machine.says(world)
        made = await approve(world, machine, tier="web")
        assert made.changed == [made.host.id]
        members = await world.read(lambda tx: [row.id for row in hosts.of_schedule(tx, schedule_id)])
        assert members == [made.host.id]


async def test_the_operators_view(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_door(tmp_path) as door:
        await door.world.join("web1")
        machines = [Machine(name, key=key * 32) for name, key in (("web1", b"a"), ("db", b"b"), ("db", b"c"))]
        for number, machine in enumerate(machines):
            machine.credential = f"credential {number}"
            await machine.says(door.world)
        listed = (await door("viewer", "GET", "/v1/pending")).json
        told = [(row["fingerprint"], row["name"], row["name_taken"], row["name_wanted_by"]) for row in listed]
        assert sorted(told) == sorted(
            (machine.fingerprint, machine.name, machine.name == "web1", 2 if machine.name == "db" else 1)
            for machine in machines
        )
        path = f"/v1/pending/{machines[1].fingerprint}"
        assert (await door("operator", "POST", f"{path}/approve", {})).status == 403
        part = await door("admin", "POST", f"/v1/pending/{machines[1].fingerprint[:12]}/approve", {})
        assert (part.status, part.code) == (400, "invalid_input")
        assert "all of it is needed" in part.body.decode()
        made = await door("admin", "POST", f"{path}/approve", {"labels": {"a": "1"}})
        assert made.status == 201
        assert (made.json["name"], made.json["state"], made.json["labels"]) == ("db", "joined", {"a": "1"})
        assert (await door("admin", "POST", f"{path}/approve", {})).status == 404
        other = f"/v1/pending/{machines[2].fingerprint}"
        assert (await door("admin", "POST", f"{other}/approve", {})).code == "conflict"
        assert (await door("admin", "POST", f"{other}/reject")).json["rejected_at"] is not None
