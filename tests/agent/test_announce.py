"""A machine without a token: what it makes, shows and stores, whatever dies on the way. In virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from restic_manager.agent.announce import FILE, WaitingFile, announce
from restic_manager.agent.identity import Identity, IdentityFiles, sha256_hex
from restic_manager.domain.errors import RefusedError, StorageError, UnreachableError, UntrustedError
from restic_manager.link import Link, answer, dial
from restic_manager.protocol import codec
from restic_manager.protocol.announcing import bytes_of, fingerprint_of, signed_bytes
from restic_manager.protocol.messages import Announce, Announced, Challenge, Joined, Message, Refused
from restic_manager.runtime.signing import is_signed
from tests.support.tls import NOW

NONCE = "n" * 52
PIN = "p" * 52
JOINED = Joined(host_id="host-1", host_name="web1")


class Door:
    """The server's `/announce`: says what a test has it say, and otherwise has the machine wait."""

    def __init__(self) -> None:
        self.heard: list[Announce] = []
        self.answers: list[Message | None] = []
        self.dials = 0
        self.trouble: list[Exception] = []

    def dial(self, nursery: trio.Nursery) -> Callable[[], AbstractAsyncContextManager[Link]]:
        @asynccontextmanager
        async def go() -> AsyncIterator[Link]:
            self.dials += 1
            if self.trouble:
                raise self.trouble.pop(0)
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(self._serve, theirs)

            async def stream() -> trio.abc.Stream:
                return ours

            async with dial(
                "ws://s:1", path="/announce", bearer=None, decoder=codec.announce_answer, open_stream=stream
            ) as link:
                yield link

        return go

    async def _serve(self, stream: trio.abc.Stream) -> None:
        async def admit(_knock: object) -> tuple[None, codec.Decoder]:
            return None, codec.announce_request

        async with answer(stream, admit=admit, remote="agent") as admitted:
            assert admitted is not None
            link = admitted[1]
            await link.send(Challenge(nonce=NONCE))
            said = (await link.receive()).message
            assert isinstance(said, Announce)
            assert is_signed(bytes_of(said.public_key), signed_bytes(said, NONCE), bytes_of(said.signature))
            self.heard.append(said)
            fingerprint = fingerprint_of(bytes_of(said.public_key))
            waits = Announced(fingerprint=fingerprint, retry_after=5, expires_at=NOW)
            reply = self.answers.pop(0) if self.answers else waits
            if reply is not None:  # None: it dies without an answer
                await link.send(reply)


async def run(door: Door, data_dir: Path, pins: tuple[str, ...] = ()) -> tuple[Identity, str]:
    """Announce until it is over; return the identity and what the person was told."""
    told: list[str] = []
    async with trio.open_nursery() as nursery:
        try:
            identity = await announce(
                IdentityFiles(data_dir),
                WaitingFile(data_dir),
                door.dial(nursery),
                pins=pins,
                say=told.append,
                reconnect_max=60,
            )
        finally:
            nursery.cancel_scope.cancel()
    return identity, "".join(told)


async def test_it_waits_and_is_let_in(tmp_path: Path, autojump_clock: MockClock) -> None:
    door = Door()
    door.answers = [Announced(fingerprint="f", retry_after=5, expires_at=NOW)] * 3 + [JOINED]
    began = trio.current_time()
    identity, told = await run(door, tmp_path, pins=(PIN,))
    assert trio.current_time() - began == pytest.approx(15, abs=1), "as often as it was told to"
    assert (identity.host_id, identity.host_name, identity.pins) == ("host-1", "web1", (PIN,))
    assert {said.credential_sha256 for said in door.heard} == {sha256_hex(identity.credential)}
    assert {said.pin for said in door.heard} == {PIN}
    fingerprint = fingerprint_of(bytes_of(door.heard[0].public_key))
    assert f"host approve {fingerprint}" in told
    assert PIN in told
    assert IdentityFiles(tmp_path).load() == identity
    assert [path.name for path in tmp_path.iterdir()] == ["agent-identity.json"], "what is over leaves nothing behind"


async def test_key_and_credential_are_private_and_on_disk_before_the_first_dial(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    seen: list[int] = []

    class Looking(Door):
        """A door in front of which the file is looked at."""

        def dial(self, nursery: trio.Nursery) -> Callable[[], AbstractAsyncContextManager[Link]]:
            assert list(tmp_path.iterdir()) == []
            go = super().dial(nursery)

            def looking() -> AbstractAsyncContextManager[Link]:
                seen.append((tmp_path / FILE).stat().st_mode & 0o777)
                return go()

            return looking

    door = Looking()
    door.answers = [JOINED]
    await run(door, tmp_path)
    assert seen == [0o600]


async def test_whatever_dies_the_same_key_and_credential_come_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    door = Door()
    door.answers = [None, None]  # the server dies, perhaps after it had committed
    with trio.move_on_after(20):
        await run(door, tmp_path)  # … and then this machine
    door.answers = [JOINED]
    identity, _ = await run(door, tmp_path)
    assert len(door.heard) > 4
    assert len({(said.public_key, said.credential_sha256) for said in door.heard}) == 1
    assert sha256_hex(identity.credential) == door.heard[0].credential_sha256


async def test_an_absent_or_crowded_server_is_waited_for(tmp_path: Path, autojump_clock: MockClock) -> None:
    door = Door()
    door.trouble = [UnreachableError("nobody there") for _ in range(5)]
    door.answers = [Refused(code="crowded", message="too many wait", retry=True, retry_after=300), JOINED]
    began = trio.current_time()
    await run(door, tmp_path)
    assert door.dials == 7
    assert 300 <= trio.current_time() - began < 700


@pytest.mark.parametrize(("code", "kept"), [("rejected", True), ("invalid", True), ("revoked", False)])
async def test_a_no_ends_it(tmp_path: Path, autojump_clock: MockClock, code: str, kept: bool) -> None:
    door = Door()
    door.answers = [Refused(code=code, message="no")]
    with pytest.raises(BaseExceptionGroup) as caught:
        await run(door, tmp_path)
    assert caught.group_contains(RefusedError)
    assert (tmp_path / FILE).exists() is kept, "a dead credential is not announced again"
    assert IdentityFiles(tmp_path).load() is None


async def test_without_a_pin_nobody_is_believed_at_first_sight(tmp_path: Path, autojump_clock: MockClock) -> None:
    door = Door()
    door.trouble = [UntrustedError("the system's CAs do not vouch for it")]
    with pytest.raises(BaseExceptionGroup) as caught:
        await run(door, tmp_path)
    assert caught.group_contains(UntrustedError)
    assert door.heard == []
    door.trouble = [UntrustedError("another certificate", pin="q" * 52)]
    door.answers = [JOINED]
    await run(door, tmp_path, pins=(PIN,))  # with one, whoever is in between may go away


async def test_a_damaged_file_says_what_to_do(tmp_path: Path, autojump_clock: MockClock) -> None:
    for content in (b"{", b'{"private_key":"AA==","credential":"x"}'):
        (tmp_path / FILE).write_bytes(content)
        with pytest.raises(StorageError, match="remove it"):
            WaitingFile(tmp_path).load_or_make()


async def test_its_repr_tells_no_secret(tmp_path: Path) -> None:
    waiting = WaitingFile(tmp_path).load_or_make()
    assert waiting.credential not in repr(waiting)
    assert repr(waiting) == f"Waiting({waiting.fingerprint})"
