"""Who may ask for what: every operation as nobody, viewer, operator, admin, and at the socket; tokens; the delays."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from sqlalchemy import select
from trio.testing import MockClock

from restic_manager.domain.errors import InputError, NotPermittedError
from restic_manager.domain.roles import Role
from restic_manager.domain.tokens import check_operator_token, operator_token, token_sha256
from restic_manager.server import attempts
from restic_manager.server.api import roles
from restic_manager.server.api.access import AUTHENTICATE
from restic_manager.server.api.app import build_api, operations
from restic_manager.server.api.operations import Operation
from restic_manager.server.attempts import Attempts
from restic_manager.server.peers import Peer, network_of
from restic_manager.server.store import audit, schema, tokens
from tests.server.world import World, open_world
from tests.support.asgi import Answer, ask

ROLES = ("nobody", "viewer", "operator", "admin", "socket")


class Door:
    """The operations, and somebody of every role who asks for them."""

    def __init__(self, world: World, given: dict[str, str]) -> None:
        self.world, self.given = world, given
        self.app = build_api(world.services)

    async def __call__(self, who: str, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        """Ask as somebody: the user of the socket, one of the tokens by its name, or with a token as it is written."""
        if who == "socket":
            return await ask(self.app, method, path, body)
        headers = {} if who == "nobody" else {"authorization": f"Bearer {self.given.get(who, who)}"}
        peer = more.pop("peer", None) or Peer(origin="192.0.2.7", network="192.0.2.7")
        return await ask(self.app, method, path, body, headers=headers, peer=peer)

    async def stream(self, secret: str, target: str, take: Callable[[bytes], None]) -> None:
        """Ask with a token for what does not end, and hand on its pieces until it does."""
        await ask(
            self.app,
            "GET",
            target,
            headers={"authorization": f"Bearer {secret}"},
            peer=Peer(origin="192.0.2.7", network="192.0.2.7"),
            patience=100_000,
            take=take,
        )

    async def rows(self) -> list[Any]:
        return await self.world.read(lambda tx: audit.after(tx, 0, limit=10_000))


async def token(world: World, name: str, role: Role, *, lifetime: timedelta | None = None) -> str:
    made = await world.write(
        lambda tx: tokens.create(tx, name=name, role=role, lifetime=lifetime, created_by="tests", now=world.now())
    )
    return made.token


@asynccontextmanager
async def open_door(tmp_path: Path, *, tls: bool = False) -> AsyncIterator[Door]:
    async with open_world(tmp_path, tls=tls) as world:
        yield Door(world, {role.value: await token(world, role.value, role) for role in Role})


# -- the table ---------------------------------------------------------------------------------------------------------


def test_every_operation_has_its_row_and_every_row_its_operation() -> None:
    assert {one.name for one in operations()} == roles.ROLES.keys()


def test_whatever_changes_something_is_not_for_viewers() -> None:
    for one in operations():
        if one.method != "GET":
            assert roles.ROLES[one.name] is not Role.VIEWER, one.name


def test_what_touches_trust_and_secrets_is_for_admins() -> None:
    words = re.compile(
        r"^(token|audit|certificate_rotate|key_rotate|repo_(add|edit|remove|maintain|set_secret)$"
        r"|host_(invite|label|rename|remove|rotate|revoke)|pending_(approve|reject))"
    )
    assert {name for name, role in roles.ROLES.items() if role is Role.ADMIN} == {
        one.name for one in operations() if words.match(one.name)
    }


def test_roles_cover_those_below_them() -> None:
    covered = [[one.covers(other) for other in Role] for one in Role]
    assert covered == [[True, False, False], [True, True, False], [True, True, True]]


async def test_an_operation_without_a_row_is_refused_to_everybody(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_door(tmp_path) as door:
        monkeypatch.delitem(roles.ROLES, "host_list")
        for who in ("viewer", "operator", "admin", "socket"):
            refused = await door(who, "GET", "/v1/hosts")
            assert (refused.status, refused.code) == (403, "not_permitted")
            assert "host_list" in refused.message


@pytest.mark.parametrize("operation", operations(), ids=lambda one: one.name)
async def test_every_operation_answers_each_role_as_the_table_says(
    tmp_path: Path, autojump_clock: MockClock, operation: Operation
) -> None:
    """What is let through may fail for other reasons (there is no such host): never for who asks.

    Agents are nobody here: a host's credential, also of one that was removed, and a join token open nothing.
    """
    async with open_door(tmp_path) as door:
        for who, removed in (("agent", False), ("revoked agent", True)):
            host_id = await door.world.join(who.replace(" ", "-"))
            door.given[who] = door.world.credentials[host_id]
            if removed:
                assert (await door("admin", "DELETE", "/v1/hosts/revoked-agent")).status == 200
        door.given["invited"] = (await door("admin", "POST", "/v1/hosts/invite", {"name": "new"})).json["token"]
        began = len(await door.rows())
        needed = roles.ROLES[operation.name]
        path = operation.path.replace("{ref}", "none-such")
        for who in ROLES:
            answer = await door(who, operation.method, path, {} if operation.request is not None else None)
            if who == "nobody":
                assert (answer.status, answer.code) == (401, "no_token")
                assert "login" in answer.message
            elif who == "socket" or Role(who).covers(needed):
                assert answer.status not in {401, 403}, answer.body
                assert answer.status != 500
            else:
                assert (answer.status, answer.code) == (403, "not_permitted")
                assert f"needs the role {needed}, and {who} has the role {who}" in answer.message
        for who in ("agent", "revoked agent", "invited"):
            answer = await door(who, operation.method, path, {} if operation.request is not None else None)
            assert (answer.status, answer.code) == (401, "bad_token")
            assert door.given[who] not in answer.message
        rows = (await door.rows())[began:]
        assert sum(row.outcome == "bad_token" for row in rows) == 3
        told = {(row.who, row.outcome) for row in rows if row.outcome in {"no_token", "not_permitted"}}
        refused = {(role.value, "not_permitted") for role in Role if not role.covers(needed)}
        assert told == refused | {("nobody", "no_token")}


@pytest.mark.parametrize("path", ["/", "/v1/nothing", "/v1/hosts/a/b/c", "//"])
async def test_nobody_learns_not_even_what_there_is(tmp_path: Path, autojump_clock: MockClock, path: str) -> None:
    async with open_door(tmp_path) as door:
        assert (await door("nobody", "GET", path)).status == 401
        assert (await door("viewer", "GET", path)).status == 404


async def test_a_request_without_a_peer_is_nobodys(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_door(tmp_path) as door:
        refused = await door("nobody", "GET", "/v1/whoami", peer=Peer(origin="unknown"))
        assert refused.status == 401


# -- tokens ------------------------------------------------------------------------------------------------------------


async def test_a_token_says_who_one_is(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_door(tmp_path) as door:
        view = (await door("operator", "GET", "/v1/whoami")).json
        assert view == {"name": "operator", "role": "operator", "origin": "192.0.2.7", "expires_at": None, "pins": []}
        assert (await door("socket", "GET", "/v1/whoami")).json["role"] == "admin"


async def test_a_token_is_shown_once_and_kept_as_a_hash(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_door(tmp_path) as door:
        made = (await door("admin", "POST", "/v1/tokens", {"name": "ci", "role": "viewer", "seconds": 3600})).json
        secret = made["token"]
        assert check_operator_token(secret) == secret
        assert made["created_by"] == "admin"
        assert (await door(secret, "GET", "/v1/hosts")).status == 200
        (listed,) = [one for one in (await door("admin", "GET", "/v1/tokens")).json if one["name"] == "ci"]
        assert listed["token"] is None
        assert listed["last_used_from"] == "192.0.2.7"
        assert listed["last_used_at"] is not None
        column = schema.operator_tokens.c.token_sha256
        assert token_sha256(secret) in await door.world.read(lambda tx: list(tx.execute(select(column)).scalars()))
        assert secret not in str(await door.rows())
        files = b"".join(path.read_bytes() for path in door.world.store.path.parent.iterdir())
        assert secret.encode() not in files
        assert token_sha256(secret).encode() in files


async def test_a_token_ends_when_it_expires(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_door(tmp_path) as door:
        secret = await token(door.world, "short", Role.VIEWER, lifetime=timedelta(minutes=5))
        assert (await door(secret, "GET", "/v1/hosts")).status == 200
        await trio.sleep(299)
        assert (await door(secret, "GET", "/v1/hosts")).status == 200
        await trio.sleep(1)
        refused = await door(secret, "GET", "/v1/hosts")
        assert (refused.status, refused.code) == (401, "expired_token")
        assert "the token short has expired (2026-" in refused.message


async def test_a_revoked_token_lets_nobody_in_and_its_name_is_free(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_door(tmp_path) as door:
        secret = (await door("admin", "POST", "/v1/tokens", {"name": "ci", "role": "viewer"})).json["token"]
        taken = await door("admin", "POST", "/v1/tokens", {"name": "ci", "role": "viewer"})
        assert (taken.status, taken.code) == (409, "conflict")
        gone = await door("admin", "DELETE", "/v1/tokens/ci")
        assert gone.json["revoked_at"] is not None
        refused = await door(secret, "GET", "/v1/hosts")
        assert (refused.status, refused.code) == (401, "revoked_token")
        assert (await door("admin", "DELETE", "/v1/tokens/ci")).status == 404
        again = await door("admin", "POST", "/v1/tokens", {"name": "ci", "role": "operator"})
        assert again.status == 201
        assert (await door(secret, "GET", "/v1/hosts")).status == 401
        assert (await door(again.json["token"], "GET", "/v1/hosts")).status == 200


@pytest.mark.parametrize("end", ["revoked", "expired"])
async def test_a_followed_stream_ends_with_its_token(tmp_path: Path, autojump_clock: MockClock, end: str) -> None:
    async with open_door(tmp_path) as door:
        lifetime = timedelta(hours=1) if end == "expired" else None
        secret = await token(door.world, "ana", Role.VIEWER, lifetime=lifetime)
        await door.world.join("web1")
        await door.world.repo("main")
        wish = {"repo": "main", "host": "web1", "spec": {"kind": "backup", "paths": ["/etc"]}}
        job = (await door("admin", "POST", "/v1/jobs", wish)).json["id"]
        heard: list[bytes] = []
        ended = trio.Event()

        async def follow() -> None:
            with trio.move_on_after(7_200) as patience:
                await door.stream(secret, f"/v1/jobs/{job}/events?follow=1", heard.append)
            assert not patience.cancelled_caught
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.sleep(1_800)
            assert heard
            assert not ended.is_set()
            if end == "revoked":
                assert (await door("admin", "DELETE", "/v1/tokens/ana")).status == 200
                await trio.sleep(1)
            else:
                await trio.sleep(1_801)
            assert ended.is_set()
        assert (await door(secret, "GET", "/v1/hosts")).status == 401


async def test_who_revokes_its_own_token_gets_the_answer(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_door(tmp_path) as door:
        assert (await door("admin", "DELETE", "/v1/tokens/admin")).json["revoked_at"] is not None
        assert (await door("admin", "GET", "/v1/hosts")).status == 401


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (lambda good: good[:-1], "bad_token", "mistyped or not complete"),
        (lambda good: good + "0", "bad_token", "mistyped or not complete"),
        (lambda good: good[:9] + ("A" if good[9] != "A" else "B") + good[10:], "bad_token", "mistyped"),
        (lambda good: good[:-1] + ("0" if good[-1] != "0" else "1"), "bad_token", "mistyped"),
        (lambda good: good.upper(), "bad_token", "begins with rmo1-"),
        (lambda good: "rmi1-" + good[5:], "bad_token", "a join token, which lets a host in"),
        (lambda _: operator_token(bytes(32)), "unknown_token", "has not given out"),
        (lambda _: "", "bad_token", "begins with rmo1-"),
    ],
)
async def test_a_token_that_is_none_is_told_as_such(
    tmp_path: Path, autojump_clock: MockClock, change: Any, code: str, says: str
) -> None:
    async with open_door(tmp_path) as door:
        wrong = change(door.given["viewer"])
        refused = await door(wrong, "GET", "/v1/hosts")
        assert (refused.status, refused.code) == (401, code)
        assert says in refused.message
        (row,) = [row for row in await door.rows() if row.operation == AUTHENTICATE]
        assert (row.who, row.role, row.origin) == ("nobody", None, "192.0.2.7")
        assert (row.object, row.outcome) == ("GET /v1/hosts", code)
        assert not wrong or wrong not in str(row)


@pytest.mark.parametrize("header", ["Basic dXNlcjpwYXNz", "Bearer", "rmo1-x", ""])
async def test_what_is_no_bearer_is_refused(tmp_path: Path, autojump_clock: MockClock, header: str) -> None:
    async with open_door(tmp_path) as door:
        peer = Peer(origin="192.0.2.7", network="192.0.2.7")
        refused = await ask(door.app, "GET", "/v1/hosts", headers={"authorization": header}, peer=peer)
        assert refused.status == 401


async def test_the_last_use_is_written_once_a_minute(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_door(tmp_path) as door:
        before = door.world.store.changes
        for _ in range(20):
            assert (await door("viewer", "GET", "/v1/hosts")).status == 200
        assert door.world.store.changes == before + 1
        await trio.sleep(61)
        await door("viewer", "GET", "/v1/hosts")
        assert door.world.store.changes == before + 2


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a b", "role": "viewer"},
        {"name": "x", "role": "root"},
        {"name": "x"},
        {"name": "x", "role": "viewer", "seconds": 59},
        {"name": "x", "role": "viewer", "token": "rmo1-mine"},
    ],
)
async def test_what_cannot_be_a_token_is_refused(tmp_path: Path, autojump_clock: MockClock, body: Any) -> None:
    async with open_door(tmp_path) as door:
        assert (await door("admin", "POST", "/v1/tokens", body)).status == 400
        assert len((await door("admin", "GET", "/v1/tokens")).json) == 3


def test_a_token_has_256_bits_and_a_checksum() -> None:
    secret = bytes(range(32))
    text = operator_token(secret)
    assert len(text) == 56
    assert check_operator_token(text) == text
    for place in range(len(text)):
        other = "A" if text[place] != "A" else "B"
        with pytest.raises(InputError) as caught:
            check_operator_token(text[:place] + other + text[place + 1 :])
        assert caught.value.code == "bad_token"
        assert text[5:] not in caught.value.message
    with pytest.raises(ValueError, match="32 random bytes"):
        operator_token(b"short")


# -- failed attempts ---------------------------------------------------------------------------------------------------


async def test_failures_wait_longer_and_longer_and_the_right_token_never_does(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_door(tmp_path) as door:
        waits = []
        for _ in range(12):
            began = trio.current_time()
            assert (await door("nobody", "GET", "/v1/hosts")).status == 401
            waits.append(trio.current_time() - began)
            began = trio.current_time()
            assert (await door("viewer", "GET", "/v1/hosts")).status == 200
            assert trio.current_time() == began
        assert waits == [0, 0, 0, 0.5, 1, 2, 4, 8, 10, 10, 10, 10]
        began = trio.current_time()
        elsewhere = Peer(origin="198.51.100.1", network="198.51.100.1")
        await door("nobody", "GET", "/v1/hosts", peer=elsewhere)
        assert trio.current_time() == began
        await trio.sleep(attempts.FORGOTTEN_AFTER + 1)
        began = trio.current_time()
        await door("nobody", "GET", "/v1/hosts")
        assert trio.current_time() == began


async def test_a_flood_is_turned_away_unheard_and_counted(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_door(tmp_path) as door:
        codes: list[str] = []

        async def try_once() -> None:
            codes.append((await door("nobody", "GET", "/v1/hosts")).code)

        for _ in range(attempts.FREE):
            await try_once()
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(try_once)
        assert codes.count("no_token") == attempts.FREE + attempts.WAITING_AT_ONCE
        assert codes.count("too_many_attempts") == 100 - attempts.WAITING_AT_ONCE
        told = [row for row in await door.rows() if row.operation == AUTHENTICATE]
        assert len(told) == attempts.FREE + attempts.WAITING_AT_ONCE
        says = f"{100 - attempts.WAITING_AT_ONCE} more attempts were turned away unheard"
        assert any(says in str(row.message) for row in told)
        assert (await door("admin", "GET", "/v1/hosts")).status == 200


def test_what_is_remembered_of_failures_is_bounded() -> None:
    known = Attempts()
    for number in range(attempts.NETWORKS * 2):
        known.failed(f"net{number}", float(number))
        known.refused(f"net{number}")
    assert len(known._networks) == attempts.NETWORKS
    assert known.refused("net0") == 0
    assert known.failed("net0", 0.0) == 0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("nonsense", "nonsense"),
    ],
)
def test_what_shares_its_limits(address: str, network: str) -> None:
    assert network_of(address) == network


def test_a_refusal_names_the_role() -> None:
    roles.refuse_unless_allowed("host_list", "ci", Role.VIEWER)
    with pytest.raises(NotPermittedError, match="host_remove needs the role admin, and ci has the role operator"):
        roles.refuse_unless_allowed("host_remove", "ci", Role.OPERATOR)
