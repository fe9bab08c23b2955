"""Joining over TLS, by the token's pin: repeatable after any crash, and never at the price of a working identity."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from restic_manager.agent.book import IdentityBook
from restic_manager.agent.identity import Identity, IdentityFiles, establish, sha256_hex
from restic_manager.domain.errors import InputError, RefusedError, StorageError, UnreachableError
from restic_manager.link import Link, answer, dial
from restic_manager.protocol import codec
from restic_manager.protocol.jointoken import JoinToken, make_token
from restic_manager.protocol.messages import Join, Joined, Message, Refused
from restic_manager.runtime.tls import secure_client
from tests.support.tls import NOW, gatekeeper, own_certificate

PINS = own_certificate("server").pins_at(NOW)
TOKEN, STALE, SECOND = (make_token(letter * 32, PINS) for letter in (b"t", b"s", b"2"))


class Door:
    """The server's `/join`: remembers which hash each token was used with, as the real one does."""

    def __init__(self) -> None:
        self.used: dict[str, str] = {}
        self.joins: list[str] = []
        self.dials = 0
        self.away = 0
        self.crash_after_commit = 0

    def reply(self, token: str, join: Join) -> Message:
        self.joins.append(join.credential_sha256)
        if self.used.setdefault(token, join.credential_sha256) != join.credential_sha256:
            return Refused(code="used", message="this token was used: invite the host again")
        return Joined(host_id="host-1", host_name="web1")

    def dial(self, nursery: trio.Nursery) -> Callable[[JoinToken], AbstractAsyncContextManager[Link]]:
        @asynccontextmanager
        async def go(token: JoinToken) -> AsyncIterator[Link]:
            self.dials += 1
            if self.away:
                self.away -= 1
                raise UnreachableError("nobody there")
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(self._serve, theirs, token.text)

            async def stream() -> trio.abc.Stream:
                return await secure_client(ours, "s", token.pins)

            async with dial(
                "wss://s:1", path="/join", bearer=token.text, decoder=codec.join_answer, open_stream=stream
            ) as link:
                yield link

        return go

    async def _serve(self, stream: trio.abc.Stream, token: str) -> None:
        async def admit(_knock: object) -> tuple[None, codec.Decoder]:
            return None, codec.join_request

        async with answer(await gatekeeper("server").secure(stream), admit=admit, remote="agent") as admitted:
            assert admitted is not None
            link = admitted[1]
            join = (await link.receive()).message
            assert isinstance(join, Join)
            said = self.reply(token, join)
            if self.crash_after_commit:
                self.crash_after_commit -= 1
                return  # the join is committed, the answer is lost
            await link.send(said)
            await link.close()


async def join(door: Door, data_dir: Path, token: JoinToken | None = TOKEN) -> Identity:
    async with trio.open_nursery() as nursery:
        try:
            return await establish(IdentityFiles(data_dir), token, door.dial(nursery), reconnect_max=60)
        finally:
            nursery.cancel_scope.cancel()
    raise AssertionError("unreachable")


async def test_joins_once_and_then_needs_no_token(tmp_path: Path, autojump_clock: MockClock) -> None:
    door = Door()
    joined = await join(door, tmp_path)
    assert (joined.host_id, joined.host_name, joined.pins) == ("host-1", "web1", PINS)
    assert door.joins == [sha256_hex(joined.credential)]
    assert await join(door, tmp_path, token=None) == joined
    assert await join(door, tmp_path) == joined  # a service file may go on naming the token
    assert door.dials == 1


async def test_the_files_are_private_and_the_repr_tells_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    joined = await join(Door(), tmp_path)
    assert joined.credential not in repr(joined)
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600]


async def test_a_lost_answer_costs_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    door = Door()
    door.crash_after_commit = 2
    joined = await join(door, tmp_path)
    assert len(set(door.joins)) == 1
    assert len(door.joins) == 3
    assert sha256_hex(joined.credential) == door.joins[0]


async def test_a_crash_before_the_identity_is_stored_uses_the_same_credential(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    files = IdentityFiles(tmp_path)
    made = files.candidate_for(sha256_hex(TOKEN.text))  # … and the process dies here
    joined = await join(Door(), tmp_path)
    assert joined.credential == made


async def test_a_torn_candidate_is_made_anew(tmp_path: Path, autojump_clock: MockClock) -> None:
    files = IdentityFiles(tmp_path)
    files.candidate_for(sha256_hex(TOKEN.text))
    candidate = next(tmp_path.iterdir())
    candidate.write_bytes(candidate.read_bytes()[:10])
    assert (await join(Door(), tmp_path)).host_id == "host-1"


async def test_an_absent_server_is_waited_for(tmp_path: Path, autojump_clock: MockClock) -> None:
    door = Door()
    door.away = 10
    began = trio.current_time()
    await join(door, tmp_path)
    assert door.dials == 11
    assert trio.current_time() - began < 600


async def test_a_refused_token_ends_the_first_start(tmp_path: Path, autojump_clock: MockClock) -> None:
    door = Door()
    door.used[TOKEN.text] = "0" * 64
    with pytest.raises(BaseExceptionGroup) as caught:
        await join(door, tmp_path)
    assert caught.group_contains(RefusedError)
    assert door.dials == 1


async def test_a_refused_rejoin_goes_on_with_the_identity_there_is(tmp_path: Path, autojump_clock: MockClock) -> None:
    door = Door()
    joined = await join(door, tmp_path)
    door.used[STALE.text] = "0" * 64
    assert await join(door, tmp_path, token=STALE) == joined


async def test_a_rejoin_makes_a_new_credential(tmp_path: Path, autojump_clock: MockClock) -> None:
    door = Door()
    first = await join(door, tmp_path)
    second = await join(door, tmp_path, token=SECOND)
    assert second.host_id == first.host_id
    assert second.credential != first.credential
    assert await join(door, tmp_path, token=None) == second


async def test_without_identity_and_token_it_says_what_to_do(tmp_path: Path, autojump_clock: MockClock) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        await join(Door(), tmp_path, token=None)
    assert caught.group_contains(InputError, match="host invite")


async def test_a_damaged_identity_is_refused_with_the_remedy(tmp_path: Path, autojump_clock: MockClock) -> None:
    await join(Door(), tmp_path)
    path = tmp_path / "agent-identity.json"
    path.write_bytes(b'{"host_id":1}')
    with pytest.raises(StorageError, match="invite this host again"):
        IdentityFiles(tmp_path).load()
    assert msgspec.json.decode(path.read_bytes()) == {"host_id": 1}


# -- pins -------------------------------------------------------------------------------------------------------------


async def test_next_pins_are_on_disk_before_they_are_used(tmp_path: Path, autojump_clock: MockClock) -> None:
    identity = await join(Door(), tmp_path)
    files = IdentityFiles(tmp_path)
    book = IdentityBook(identity, files)
    both = (*PINS, *own_certificate("next").pins_at(NOW))
    assert not await book.learn(())
    assert not await book.learn(PINS)
    assert await book.learn(both)
    assert book.pins == both
    assert files.load() == msgspec.structs.replace(identity, pins=both)
    assert not await book.learn(both[::-1])
    # The token names the old pin only, and a service file goes on naming the token: what was learned stays.
    assert (await join(Door(), tmp_path)).pins == both


async def test_pins_that_cannot_be_stored_are_not_held(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = await join(Door(), tmp_path)
    files = IdentityFiles(tmp_path)
    book = IdentityBook(identity, files)

    def full(_identity: Identity) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(files, "store", full)
    assert not await book.learn(own_certificate("next").pins_at(NOW))
    assert book.pins == PINS


async def test_who_goes_by_the_systems_cas_learns_no_pin(tmp_path: Path) -> None:
    identity = Identity(host_id="h", host_name="n", credential="c", token_sha256="t")
    assert not await IdentityBook(identity, IdentityFiles(tmp_path)).learn(PINS)
    assert list(tmp_path.iterdir()) == []
