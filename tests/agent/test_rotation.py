"""The agent's side of a new credential: on disk before it is told, used when the server holds it, repeatable always."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from restic_manager.agent.book import IdentityBook
from restic_manager.agent.identity import Identity, IdentityFiles, sha256_hex
from restic_manager.domain.errors import StorageError
from restic_manager.protocol.messages import (
    CAP_ROTATE,
    CredentialHeld,
    CredentialNew,
    CredentialRotate,
    CredentialUsed,
    Message,
    Refused,
)
from tests.agent.scripted import HOST, world


def on_disk(tmp_path: Path) -> Identity:
    identity = IdentityFiles(tmp_path).load()
    assert identity is not None
    return identity


def book(tmp_path: Path) -> IdentityBook:
    files = IdentityFiles(tmp_path)
    if files.load() is None:
        files.store(HOST)
    return IdentityBook(on_disk(tmp_path), files)


async def told(held: IdentityBook, message: CredentialRotate | CredentialHeld) -> list[Message]:
    said: list[Message] = []
    await held.told(message, said.append)
    return said


async def test_the_next_credential_is_on_disk_before_it_is_told(tmp_path: Path) -> None:
    held = book(tmp_path)
    (said,) = await told(held, CredentialRotate())
    assert isinstance(said, CredentialNew)
    made = on_disk(tmp_path)
    assert made.next_credential is not None
    assert sha256_hex(made.next_credential) == said.credential_sha256
    assert held.credential == made.credential == HOST.credential, "the live one is in use until the server holds both"
    assert await told(held, CredentialRotate()) == [said], "asked again it says the same"
    assert await told(book(tmp_path), CredentialRotate()) == [said], "… also after a crash"


async def test_it_is_used_from_the_moment_the_server_holds_it(tmp_path: Path) -> None:
    held = book(tmp_path)
    (said,) = await told(held, CredentialRotate())
    assert isinstance(said, CredentialNew)
    digest = said.credential_sha256
    assert await told(held, CredentialHeld(credential_sha256="0" * 64)) == [], "that is not ours"
    assert held.credential == HOST.credential
    assert await told(held, CredentialHeld(credential_sha256=digest)) == [CredentialUsed(credential_sha256=digest)]
    assert sha256_hex(held.credential) == digest
    stored = on_disk(tmp_path)
    assert (stored.credential, stored.next_credential) == (held.credential, None)
    assert stored.former_credential == HOST.credential
    assert await told(held, CredentialHeld(credential_sha256=digest)) == [CredentialUsed(credential_sha256=digest)]
    (another,) = await told(held, CredentialRotate())
    assert isinstance(another, CredentialNew)
    assert another.credential_sha256 not in {digest, sha256_hex(HOST.credential)}


async def test_what_cannot_be_stored_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    held = book(tmp_path)
    files = held._files
    assert files is not None

    def full(_identity: Identity) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(files, "store", full)
        assert await told(held, CredentialRotate()) == []
        assert "the disk is full" in caplog.text
    (said,) = await told(held, CredentialRotate())
    assert isinstance(said, CredentialNew)
    with monkeypatch.context() as patched:
        patched.setattr(files, "store", full)
        assert await told(held, CredentialHeld(credential_sha256=said.credential_sha256)) == []
    assert held.credential == HOST.credential


async def test_a_server_put_back_to_before_the_change_is_dialled_with_the_one_before(tmp_path: Path) -> None:
    held = book(tmp_path)
    assert not held.unknown(), "there is none before"
    (said,) = await told(held, CredentialRotate())
    assert isinstance(said, CredentialNew)
    await told(held, CredentialHeld(credential_sha256=said.credential_sha256))
    new = held.credential
    assert held.unknown()
    assert held.credential == HOST.credential
    assert not held.unknown()
    assert held.credential == new, "and then the one in use again"
    assert held.unknown()
    await held.welcomed()
    stored = on_disk(tmp_path)
    assert (held.credential, stored.credential, stored.next_credential) == (HOST.credential, HOST.credential, new)
    assert not held.unknown()


async def test_over_the_session_and_what_runs_goes_on(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as w:
        await w.start()
        desk = await w.connected()
        assert CAP_ROTATE in desk.hello.capabilities
        await desk.say(CredentialRotate())
        digest = (await desk.next(CredentialNew)).credential_sha256
        await desk.say(CredentialHeld(credential_sha256=digest))
        assert (await desk.next(CredentialUsed)).credential_sha256 == digest
        assert len(w.dials) == 1
        w.cut()
        await w.connected()
        assert [sha256_hex(bearer) for bearer in w.bearers] == [sha256_hex(HOST.credential), digest]


async def test_revoked_over_the_session_it_says_so_and_dials_rarely(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path) as w:
        await w.start()
        desk = await w.connected()
        w.refusal = Refused(code="revoked", message="an operator has revoked the host web1: invite it again")
        await desk.say(w.refusal)
        await trio.sleep(3600)
        assert "an operator has revoked the host web1" in caplog.text
        assert 6 <= len(w.dials) - 1 <= 12, "every 5 to 10 minutes"
        w.refusal = None
        await w.connected()
