"""Hosts: who may come in, with what, how often, and what an operator does to them. Run over both ways of a store."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import Connection

from restic_manager.domain.errors import ConflictError, InputError, NotFoundError
from restic_manager.protocol.messages import Joined, Refused
from restic_manager.runtime.clock import SystemClock
from restic_manager.server.store import assignments, events, host_changes, hosts, schema
from restic_manager.server.store.hosts import HostRow
from restic_manager.server.store.writer import Store, open_store
from tests.server.rows import START, ZONE, add_repo, add_schedule, at, edit_schedule, greet, hello, invite, join, sha


@pytest.fixture(params=[True, False], ids=["threads", "inline"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path / "server.db", clock=SystemClock(), threads=request.param) as opened:
        yield opened


def code(answer: object) -> str:
    return answer.code if isinstance(answer, Refused) else "joined"


# -- joining ----------------------------------------------------------------------------------------------------------


async def test_a_token_is_random_stored_hashed_and_good_for_an_hour(store: Store) -> None:
    first, second = [await store.write(lambda tx: invite(tx, "web1")) for _ in range(2)]
    for invited in (first, second):
        assert re.fullmatch(r"rmi1-[a-z2-7]{52}-[a-z2-7]{6}", invited.token)
        assert invited.expires_at == START + timedelta(hours=1)
        assert host_changes.token_sha256(invited.token) == sha(invited.token)
    assert first.token != second.token
    stored = "".join(path.read_bytes().decode("latin-1") for path in store.path.parent.glob("server.db*"))
    assert sha(first.token) in stored
    assert first.token not in stored
    assert first.token.removeprefix("rmi1-") not in stored


STEPS: list[tuple[str, list[tuple[str, float, str, str]]]] = [
    ("repeated after a crash", [("t1", 0, "a", "joined"), ("t1", 1, "a", "joined"), ("t1", 3599, "a", "joined")]),
    ("another agent with the token", [("t1", 0, "a", "joined"), ("t1", 1, "b", "used"), ("t1", 2, "a", "joined")]),
    ("too late", [("t1", 3600, "a", "expired")]),
    ("repeated too late", [("t1", 0, "a", "joined"), ("t1", 3600, "a", "expired")]),
    ("a token never given out", [("other", 0, "a", "invalid")]),
    ("an earlier unused token", [("t1", 0, "-", ""), ("t2", 1, "a", "joined"), ("t1", 2, "b", "revoked")]),
    (
        "a rejoin ends the credential of the first",
        [("t1", 0, "a", "joined"), ("t2", 1, "b", "joined"), ("t1", 2, "a", "revoked"), ("t2", 3, "b", "joined")],
    ),
    (
        "the answer of the first was lost, and its token expired",
        [("t1", 0, "a", "joined"), ("t2", 4000, "a", "joined"), ("t2", 4001, "a", "joined")],
    ),
    (
        "a credential that was replaced does not come back by a new token",
        [("t1", 0, "a", "joined"), ("t2", 1, "b", "joined"), ("t3", 2, "a", "invalid"), ("t3", 3, "c", "joined")],
    ),
]


@pytest.mark.parametrize(("steps"), [steps for _, steps in STEPS], ids=[name for name, _ in STEPS])
async def test_joins(store: Store, steps: list[tuple[str, float, str, str]]) -> None:
    """Each step: a token (invited when first named), seconds since the start, a credential, the answer's code."""
    tokens: dict[str, str] = {"other": "rmi1-never"}
    ids = set()
    for token, seconds, credential, expected in steps:
        if token not in tokens:
            given_out = START if token == "t1" else at(seconds)
            invited = await store.write(partial(invite, name="web1", now=given_out))
            tokens[token] = invited.token
            ids.add(invited.host.id)
        if not expected:
            continue
        hashed = sha(tokens[token])
        joining = partial(hosts.redeem, token_sha256=hashed, credential_sha256=sha(credential), now=at(seconds))
        answer = await store.write(joining)
        assert code(answer) == expected
        if isinstance(answer, Joined):
            assert answer.host_id in ids
            admitted = await store.read(partial(hosts.admit_credential, credential_sha256=sha(credential)))
            assert isinstance(admitted, HostRow)
            assert admitted.id == answer.host_id
        else:
            assert answer.retry is False
            assert len(answer.message) > 20
    assert len(ids) <= 1, "a host that joins again keeps its id"


async def test_what_the_join_door_is_told_before_a_credential(store: Store) -> None:
    invited = await store.write(lambda tx: invite(tx, "web1"))
    hashed = sha(invited.token)

    def admit(seconds: float) -> Callable[[Connection], str]:
        return lambda tx: code(hosts.admit_token(tx, hashed, at(seconds)))

    assert await store.read(admit(0)) == "joined"
    await store.write(lambda tx: hosts.redeem(tx, hashed, sha("a"), at(1)))
    assert await store.read(admit(2)) == "joined", "whether the same agent repeats itself is known at the join only"
    assert await store.read(admit(3600)) == "expired"
    await store.write(lambda tx: host_changes.remove(tx, hosts.get(tx, invited.host.id), now=at(3)))
    assert await store.read(admit(4)) == "revoked"


async def test_credentials(store: Store) -> None:
    assert code(await store.read(lambda tx: hosts.admit_credential(tx, sha("never")))) == "unknown"
    host = await store.write(lambda tx: join(tx, "web1"))
    assert await store.read(lambda tx: hosts.admit_credential(tx, sha("web1-credential"))) == host
    token = (await store.write(lambda tx: invite(tx, "web1", at(10)))).token
    assert isinstance(await store.read(lambda tx: hosts.admit_credential(tx, sha("web1-credential"))), HostRow)
    await store.write(lambda tx: hosts.redeem(tx, sha(token), sha("new"), at(20)))
    old = await store.read(lambda tx: hosts.admit_credential(tx, sha("web1-credential")))
    assert code(old) == "revoked"
    assert isinstance(old, Refused)
    assert "another agent has joined" in old.message
    await store.write(lambda tx: host_changes.remove(tx, hosts.get(tx, host.id), now=at(30)))
    removed = await store.read(lambda tx: hosts.admit_credential(tx, sha("new")))
    assert code(removed) == "revoked"
    assert isinstance(removed, Refused)
    assert "was removed" in removed.message


async def test_a_credential_of_another_host_does_not_join(store: Store) -> None:
    await store.write(lambda tx: join(tx, "web1"))
    token = (await store.write(lambda tx: invite(tx, "web2"))).token
    answer = await store.write(lambda tx: hosts.redeem(tx, sha(token), sha("web1-credential"), at(1)))
    assert code(answer) == "invalid"
    assert code(await store.write(lambda tx: hosts.redeem(tx, sha(token), sha("fresh"), at(2)))) == "joined"


async def test_a_rejoin_keeps_id_labels_ledger_and_first_join(store: Store) -> None:
    before = await store.write(lambda tx: join(tx, "web1", site="berlin"))
    await store.write(add_repo)
    await store.write(lambda tx: add_schedule(tx, now=at(1)))
    history = await store.read(lambda tx: _histories(tx, before.id))
    invited = await store.write(lambda tx: invite(tx, "web1", at(100), tier="db"))
    assert invited.rejoin
    assert await store.write(lambda tx: hosts.redeem(tx, sha(invited.token), sha("b"), at(101))) == Joined(
        host_id=before.id, host_name="web1"
    )
    after = await store.read(lambda tx: hosts.get(tx, before.id))
    assert (after.joined_at, after.restic_host) == (before.joined_at, "web1")
    assert after.labels == {"site": "berlin", "tier": "db"}
    assert await store.read(lambda tx: _histories(tx, before.id)) == history


def _histories(tx: Connection, host_id: str) -> list[object]:
    query = sqlalchemy.select(schema.assignments).where(schema.assignments.c.host_id == host_id)
    return list(map(tuple, tx.execute(query)))


async def test_what_happened_before_the_first_join_is_not_the_hosts(store: Store) -> None:
    await store.write(add_repo)
    await store.write(add_schedule)
    invited = await store.write(lambda tx: invite(tx, "web1", at(0)))
    await store.write(lambda tx: add_schedule(tx, "left", at(5), hosts=("web1",)))

    def leave_and_join(tx: Connection) -> None:
        join(tx, "web2", at(6))
        edit_schedule(tx, "left", at(7), hosts=("web2",))
        hosts.redeem(tx, sha(invited.token), sha("a"), at(3000))

    await store.write(leave_and_join)
    rows = await store.read(lambda tx: _intervals(tx, invited.host.id))
    assert rows == [("nightly", at(3000), None)]


def _intervals(tx: Connection, host_id: str) -> list[tuple[object, ...]]:
    query = (
        sqlalchemy.select(schema.schedules.c.name, schema.assignments.c.valid_from, schema.assignments.c.valid_to)
        .join(schema.schedules, schema.schedules.c.id == schema.assignments.c.schedule_id)
        .where(schema.assignments.c.host_id == host_id)
        .order_by(schema.assignments.c.id)
    )
    return list(map(tuple, tx.execute(query)))


# -- names ------------------------------------------------------------------------------------------------------------


async def test_the_restic_host_is_unique_for_ever(store: Store) -> None:
    first = await store.write(lambda tx: join(tx, "web1"))
    assert first.restic_host == "web1"
    await store.write(lambda tx: host_changes.rename(tx, hosts.get(tx, first.id), "old", now=at(1)))
    second = await store.write(lambda tx: invite(tx, "web1", at(2)))
    assert second.host.restic_host == f"web1-{second.host.id[:6]}"
    assert second.note is not None
    assert second.host.restic_host in second.note
    await store.write(lambda tx: host_changes.remove(tx, hosts.get(tx, second.host.id), now=at(3)))
    third = await store.write(lambda tx: invite(tx, "web1", at(4)))
    assert third.host.restic_host == f"web1-{third.host.id[:6]}"
    assert third.host.id != second.host.id
    assert not third.rejoin


async def test_references(store: Store) -> None:
    ids = {name: (await store.write(partial(invite, name=name))).host.id for name in ("web1", "web2", "cafe")}

    async def resolve(reference: str) -> str:
        return (await store.read(lambda tx: hosts.resolve(tx, reference))).id

    for name, id_ in ids.items():
        assert await resolve(name) == id_
        assert await resolve(id_) == id_
        assert await resolve(id_[:13]) == id_
        assert await resolve(id_[:13].upper()) == id_
    for reference in ("", "web", "web3", ids["web1"][:3], "ffffffff-ffff", "w%", "____", "web1\0"):
        with pytest.raises(NotFoundError, match="there is no host"):
            await resolve(reference)
    removed = ids.pop("web2")
    await store.write(lambda tx: host_changes.remove(tx, hosts.get(tx, removed), now=at(1)))
    for reference in ("web2", removed, removed[:8]):
        with pytest.raises(NotFoundError):
            await resolve(reference)


async def test_a_reference_that_fits_several_says_which(store: Store) -> None:
    def insert(tx: Connection) -> None:
        for name, id_ in (("a", "abcd1111"), ("b", "abcd2222"), ("abcd", "99999999")):
            row = {"id": id_, "name": name, "restic_host": name, "created_at": START}
            tx.execute(schema.hosts.insert().values(row))

    await store.write(insert)
    assert (await store.read(lambda tx: hosts.resolve(tx, "abcd"))).name == "abcd", "a name goes before an id"
    with pytest.raises(NotFoundError, match=r"fits several hosts \(a .*b "):
        await store.read(lambda tx: hosts.resolve(tx, "ABCD"))
    assert (await store.read(lambda tx: hosts.resolve(tx, "abcd1"))).name == "a"


async def test_rename(store: Store) -> None:
    host = await store.write(lambda tx: join(tx, "web1"))
    await store.write(lambda tx: join(tx, "web2"))

    async def rename(name: str) -> HostRow:
        return await store.write(lambda tx: host_changes.rename(tx, hosts.get(tx, host.id), name, now=at(1)))

    with pytest.raises(ConflictError, match="web2"):
        await rename("web2")
    with pytest.raises(InputError, match="-x"):
        await rename("-x")
    assert (await rename("web1")).name == "web1"
    renamed = await rename("db1")
    assert (renamed.id, renamed.name, renamed.restic_host) == (host.id, "db1", "web1")
    assert isinstance(await store.read(lambda tx: hosts.admit_credential(tx, sha("web1-credential"))), HostRow)


@pytest.mark.parametrize(
    ("name", "labels"), [("", {}), ("-x", {}), ("a b", {}), ("deadbeef", {}), ("ok", {"a b": "c"}), ("ok", {"a": "\n"})]
)
async def test_a_wrong_invite_stores_nothing(store: Store, name: str, labels: dict[str, str]) -> None:
    with pytest.raises(InputError):
        await store.write(lambda tx: host_changes.invite(tx, name=name, labels=labels, now=START, default_zone=ZONE))
    assert await store.read(hosts.all_hosts) == []
    assert await store.read(lambda tx: events.latest(tx, limit=10)) == []


# -- what sessions tell, labels, removal ------------------------------------------------------------------------------


async def test_a_hello_is_kept(store: Store) -> None:
    host = await store.write(lambda tx: join(tx, "web1"))
    told = hello(
        restic_version="0.18.0",
        restic_problem="none",
        capabilities=("standing-orders",),
        applied_version=7,
        applied_epoch="e",
        timezone="Asia/Tokyo",
    )
    assert await store.write(lambda tx: hosts.note_hello(tx, host.id, told, clock_offset=1.5, now=at(9))) is False
    kept = await store.read(lambda tx: hosts.get(tx, host.id))
    assert (kept.last_seen_at, kept.clock_offset, kept.timezone) == (at(9), 1.5, "Asia/Tokyo")
    assert (kept.restic_version, kept.restic_problem, kept.capabilities) == ("0.18.0", "none", ("standing-orders",))
    assert (kept.applied_schedule_version, kept.applied_epoch, kept.journal_id) == (7, "e", "journal")
    await store.write(lambda tx: hosts.note_seen(tx, [host.id], at(20)))
    assert (await store.read(lambda tx: hosts.get(tx, host.id))).last_seen_at == at(20)
    await store.write(lambda tx: hosts.note_seen(tx, [], at(30)))


async def test_labels_decide_membership_and_touch_nobody_else(store: Store) -> None:
    await store.write(add_repo)
    for name in ("web1", "web2"):
        await store.write(partial(join, name=name, tier="web"))
    web = await store.write(lambda tx: add_schedule(tx, "web", at(1), labels={"tier": "web"}))
    both = await store.write(lambda tx: add_schedule(tx, "both", at(1), labels={"tier": "web", "site": "b"}))
    assert both.hosts == []
    before = {host.id: host for host in await store.read(hosts.all_hosts)}
    web1, web2 = (host.id for host in sorted(before.values(), key=lambda host: host.name))

    async def label(put: dict[str, str], remove: tuple[str, ...] = (), seconds: float = 10) -> list[str]:
        return await store.write(
            lambda tx: host_changes.label(
                tx, hosts.get(tx, web1), put=put, remove=remove, now=at(seconds), default_zone=ZONE
            )
        )

    assert await label({"site": "b"}) == [web1]
    assert await label({"site": "b"}) == []
    assert await label({"note": "x"}) == []
    assert await store.read(lambda tx: assignments.hosts_of(tx, both.schedule.id)) == [web1]
    assert await label({}, ("tier",), 20) == [web1]
    assert await store.read(lambda tx: assignments.hosts_of(tx, both.schedule.id)) == []
    assert await store.read(lambda tx: assignments.hosts_of(tx, web.schedule.id)) == [web2]
    after = await store.read(lambda tx: hosts.get(tx, web2))
    assert after.schedule_version == before[web2].schedule_version
    assert (await store.read(lambda tx: hosts.get(tx, web1))).labels == {"note": "x", "site": "b"}
    with pytest.raises(InputError, match="tier"):
        await label({"tier": "x"}, ("tier",))
    with pytest.raises(InputError, match="at most 64"):
        await label({f"k{number}": "" for number in range(63)})


async def test_removal_is_soft_and_ends_everything_of_the_host(store: Store) -> None:
    await store.write(add_repo)
    host = await store.write(lambda tx: join(tx, "web1"))
    schedule = await store.write(lambda tx: add_schedule(tx, now=at(1), hosts=("web1",)))
    await store.write(lambda tx: host_changes.remove(tx, hosts.get(tx, host.id), now=at(50)))
    assert await store.read(hosts.all_hosts) == []
    kept = await store.read(lambda tx: hosts.get(tx, host.id))
    assert (kept.removed_at, kept.credential_sha256) == (at(50), None)
    (interval,) = await store.read(lambda tx: assignments.of(tx, schedule.schedule.id, host.id))
    assert (interval.valid_from, interval.valid_to) == (at(1), at(50))
    again = await store.write(lambda tx: invite(tx, "web1", at(60)))
    assert again.host.id != host.id
    assert await store.read(lambda tx: assignments.hosts_of(tx, schedule.schedule.id)) == [], "schedules refer to ids"


async def test_a_zone_that_changes_is_a_new_revision_for_that_host_alone(store: Store) -> None:
    await store.write(add_repo)
    one, two = [await store.write(partial(join, name=name)) for name in ("one", "two")]
    own = (await store.write(lambda tx: add_schedule(tx, "own", at(1), timezone="host"))).schedule
    await store.write(lambda tx: add_schedule(tx, "fixed", at(1), timezone="UTC"))
    assert await store.write(lambda tx: greet(tx, one, at(5), timezone=ZONE)) is False, "the server's zone until then"
    version = (await store.read(lambda tx: hosts.get(tx, one.id))).schedule_version
    assert await store.write(lambda tx: greet(tx, one, at(10), timezone="Asia/Tokyo")) is True
    assert await store.write(lambda tx: greet(tx, one, at(11), timezone="Asia/Tokyo")) is False
    assert await store.write(lambda tx: greet(tx, one, at(12), timezone="No/Where")) is False
    intervals = await store.read(lambda tx: assignments.of(tx, own.id, one.id))
    assert [(i.revision, i.timing.timezone, i.valid_from, i.valid_to) for i in intervals] == [
        (1, ZONE, at(1), at(10)),
        (2, "Asia/Tokyo", at(10), None),
    ]
    assert [i.revision for i in await store.read(lambda tx: assignments.of(tx, own.id, two.id))] == [1]
    assert (await store.read(lambda tx: hosts.get(tx, one.id))).schedule_version == version + 1
    assert await store.write(lambda tx: greet(tx, two, at(20), timezone="UTC")) is True
    assert [i.revision for i in await store.read(lambda tx: assignments.of(tx, own.id, two.id))] == [1, 3]
    greet_unknown = await store.write(lambda tx: greet(tx, two, at(30), timezone="../etc/passwd"))
    assert greet_unknown is False
