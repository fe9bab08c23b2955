"""TLS over a connection: how long a handshake may take, whose turn it is, and what a client believes."""

from __future__ import annotations

import ssl

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from restic_manager.runtime.tls import (
    Gatekeeper,
    HandshakeError,
    WrongCertificateError,
    secure_client,
)
from restic_manager.runtime.trust import client_context, server_context
from tests.support.tls import NOW, gatekeeper, own_certificate

PINS = own_certificate("server").pins_at(NOW)


def ends() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    return trio.testing.memory_stream_pair()


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01\x02\x00\x01"])
async def test_a_handshake_that_takes_too_long_is_cut(first: bytes, autojump_clock: MockClock) -> None:
    ours, theirs = ends()
    if first:
        await ours.send_all(first)
    began = trio.current_time()
    with pytest.raises(HandshakeError, match="within 10 s"):
        await gatekeeper("server").secure(theirs)
    assert trio.current_time() - began == 10
    assert await ours.receive_some(1) == b""


async def test_what_is_said_after_it_arrives(autojump_clock: MockClock) -> None:
    ours, theirs = ends()
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            secured = await gatekeeper("server").secure(theirs)
            await secured.send_all(b"welcome")
            assert await secured.receive_some(9) == b"thanks"

        nursery.start_soon(serve)
        secured = await secure_client(ours, "anything", ["a" * 52, *PINS])
        assert await secured.receive_some(9) == b"welcome"
        await secured.send_all(b"thanks")


async def test_more_than_may_work_at_once_all_come_through(autojump_clock: MockClock) -> None:
    """Those who were let wait are let in, and who leaves in the middle gives his place back."""
    keeper = Gatekeeper(lambda: own_certificate("server").context(NOW), at_once=2)
    served = 0

    async def serve(stream: trio.abc.Stream) -> None:
        nonlocal served
        try:
            await keeper.secure(stream)
            served += 1
        except HandshakeError:
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for number in range(60):
            ours, theirs = ends()
            nursery.start_soon(serve, theirs)
            if number % 3 == 0:
                await ours.send_all(b"\x16garbage" * 10)
                await ours.aclose()
            else:
                nursery.start_soon(secure_client, ours, "s", PINS)
    assert served == 40


async def test_another_certificate_is_refused_by_name_and_nothing_is_sent(autojump_clock: MockClock) -> None:
    ours, theirs = ends()
    heard: list[bytes] = []

    async def serve() -> None:
        secured = await gatekeeper("another").secure(theirs)
        try:
            heard.append(bytes(await secured.receive_some(100)))
        except trio.BrokenResourceError:
            heard.append(b"")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with pytest.raises(WrongCertificateError) as caught:
            await secure_client(ours, "s", PINS)
    (theirs_pin,) = own_certificate("another").pins_at(NOW)
    assert caught.value.pin == theirs_pin
    assert theirs_pin in str(caught.value)
    assert PINS[0] in str(caught.value)
    assert heard == [b""]


@pytest.mark.parametrize("words", [b"SSH-2.0-x\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
async def test_a_server_without_tls_is_told_from_one_with(words: bytes, autojump_clock: MockClock) -> None:
    ours, theirs = ends()
    await theirs.send_all(words)
    await theirs.aclose()
    with pytest.raises(HandshakeError) as caught:
        await secure_client(ours, "s", PINS)
    assert not isinstance(caught.value, WrongCertificateError)


def test_nothing_older_than_tls_1_2() -> None:
    for context in (server_context(), client_context(pinned=True), client_context(pinned=False)):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    unpinned = client_context(pinned=False)
    assert unpinned.check_hostname
    assert unpinned.verify_mode is ssl.CERT_REQUIRED
