"""What one link takes, at its bounds and just past them: pieces, bytes, frames and characters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from restic_manager.link import Admission, Knock, Link, LinkClosed, answer, meter, sluice, wire
from restic_manager.link.meter import FrameMeter, Overrun
from restic_manager.link.sluice import Sluice
from restic_manager.protocol import codec
from restic_manager.protocol.messages import MAX_MESSAGE, Goodbye
from tests.hostile.raw import PING, TEXT, frame, request
from tests.support.linked import gated_streams

HELLO = b'{"type":"goodbye","reason":"whole"}'


class Ends(NamedTuple):
    """A peer that writes what it likes, and the link that reads it."""

    peer: trio.abc.Stream
    link: Link


@asynccontextmanager
async def listening() -> AsyncIterator[Ends]:
    """Yield a server's link whose peer has been let in."""
    ours, theirs, *_ = gated_streams()
    done = trio.Event()

    async def serve(task_status: trio.TaskStatus[Link]) -> None:
        async def admit(knock: Knock) -> Admission[Knock]:
            return knock, codec.from_agent

        async with answer(theirs, admit=admit, remote="peer") as answered:
            assert answered is not None
            task_status.started(answered[1])
            await done.wait()

    async def swallow() -> None:
        try:
            while await ours.receive_some():
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async with trio.open_nursery() as nursery:
        await ours.send_all(request("secret"))
        link = await nursery.start(serve)
        nursery.start_soon(swallow)
        yield Ends(ours, link)
        done.set()
        await ours.aclose()


async def closed(link: Link) -> LinkClosed:
    with pytest.raises(LinkClosed) as caught:  # noqa: PT012 - reads whatever comes before the end
        while True:
            await link.receive()
    return caught.value


def in_pieces(count: int) -> bytes:
    """The same message in so many frames, most of them empty."""
    rest = b"".join(frame(b"", 0, fin=number == count) for number in range(2, count + 1))
    return frame(HELLO, TEXT, fin=count == 1) + rest


async def test_a_message_comes_in_so_many_frames_and_not_in_one_more(autojump_clock: MockClock) -> None:
    with trio.fail_after(60):
        async with listening() as (peer, link):
            await peer.send_all(in_pieces(meter.MAX_PARTS))
            assert (await link.receive()).message == Goodbye(reason="whole")
            await peer.send_all(in_pieces(meter.MAX_PARTS + 1))
            end = await closed(link)
    assert (end.code, end.reason) == (1008, "a message in over 1024 frames")


async def test_a_message_has_so_many_bytes_and_not_one_more(autojump_clock: MockClock) -> None:
    """Bytes are counted when a frame says how many it has: nothing of it is waited for."""
    with trio.fail_after(60):
        async with listening() as (peer, link):
            text = '{"type":"goodbye","reason":1,"x":"' + "\U0001f4be" * (MAX_MESSAGE - 36) + '"}'
            payload = text.encode()
            assert MAX_MESSAGE - 2 <= len(text) <= MAX_MESSAGE
            assert meter.MAX_BYTES - 200 < len(payload) <= meter.MAX_BYTES
            await peer.send_all(frame(payload))
            assert (await link.receive()).message.code == "invalid"
            head = frame(b"")[:1] + b"\xff" + (meter.MAX_BYTES + 1).to_bytes(8, "big") + b"\0\0\0\0"
            await peer.send_all(head)
            end = await closed(link)
    assert end.code == 1009


async def test_a_frame_at_the_limit_of_characters_is_read_and_one_past_it_closes(autojump_clock: MockClock) -> None:
    with trio.fail_after(60):
        async with listening() as (peer, link):
            fits = HELLO + b" " * (MAX_MESSAGE - len(HELLO))
            await peer.send_all(frame(fits))
            assert (await link.receive()).message == Goodbye(reason="whole")
            await peer.send_all(frame(fits + b" "))
            end = await closed(link)
    assert end.code == 1009


async def test_frames_come_at_once_up_to_the_bound_and_then_at_their_pace(autojump_clock: MockClock) -> None:
    """Pings count like everything else, and nothing is dropped."""
    pings = frame(b"", PING)
    with trio.fail_after(60):
        async with listening() as (peer, link):
            began = trio.current_time()
            await peer.send_all(pings * int(sluice.FRAMES_AT_ONCE - 1) + frame(HELLO))
            await link.receive()
            assert trio.current_time() == began
            await peer.send_all(pings * int(sluice.FRAMES_A_SECOND - 1) + frame(HELLO))
            await link.receive()
            assert trio.current_time() - began == pytest.approx(1.0, abs=0.01)
            assert not link.closed


async def test_bytes_come_at_once_up_to_the_bound_and_then_at_their_pace(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sluice, "BYTES_AT_ONCE", 100_000.0)
    monkeypatch.setattr(sluice, "BYTES_A_SECOND", 10_000.0)
    with trio.fail_after(60):
        async with listening() as (peer, link):
            began = trio.current_time()
            whole = frame(HELLO + b" " * (50_000 - len(HELLO) - 8))
            assert len(whole) == 50_000
            for seconds in (0, 0, 5):
                await peer.send_all(whole)
                await link.receive()
                assert trio.current_time() - began == pytest.approx(seconds, abs=0.01)


async def test_so_many_frames_are_handed_on_at_a_time(autojump_clock: MockClock) -> None:
    """Behind them it is the others' turn: a read full of tiny frames is not worked off in one go."""
    gate = Sluice()
    assert await gate.let_through(b"GET / HTTP/1.1\r\n\r\n") == b"GET / HTTP/1.1\r\n\r\n"
    tiny = frame(b"", PING)
    assert await gate.let_through(tiny * sluice.FRAMES_A_READ) == tiny * sluice.FRAMES_A_READ
    assert gate.kept() == b""
    assert await gate.let_through(tiny * (sluice.FRAMES_A_READ + 1)) == tiny * sluice.FRAMES_A_READ
    assert gate.kept() == tiny


async def test_frames_sent_along_with_the_request_are_followed_from_the_first(autojump_clock: MockClock) -> None:
    """Who begins a frame before the upgrade does not get past the meter by that."""
    gate = Sluice()
    whole = request("x") + frame(HELLO) * 3
    cut = len(request("x")) + 10
    first = await gate.let_through(whole[:cut])
    assert first.endswith(b"\r\n\r\n")
    rest = gate.kept()
    assert bytes(first + rest) == whole[:cut]
    await gate.let_through(rest)
    await gate.let_through(whole[cut:])
    with pytest.raises(Overrun):
        await gate.let_through(b"\x81\xff" + (2**40).to_bytes(8, "big") + b"\0\0\0\0")


async def test_a_request_has_so_many_bytes_and_not_one_more(autojump_clock: MockClock) -> None:
    for more, taken in ((0, True), (1, False)):
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            one = wire.Wire(theirs, nursery)
            await ours.send_all(b"x" * (wire.HANDSHAKE_BYTES + more))
            got = 0
            try:
                while got < wire.HANDSHAKE_BYTES + more:
                    got += len(await one.receive_some())
            except trio.BrokenResourceError:
                assert not taken
            else:
                assert taken
            one.stop_tasks()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 300), st.booleans(), st.integers(0, 2**32 - 1)), min_size=1, max_size=30),
    st.lists(st.integers(1, 400), min_size=1),
    st.integers(1, 5),
)
def test_however_it_is_cut_the_meter_counts_the_same(
    frames: list[tuple[int, bool, int]], cuts: list[int], most: int
) -> None:
    whole = b"".join(
        frame(b"p" * (size % 126 if control else size), PING if control else TEXT, mask=mask.to_bytes(4, "big"))
        for size, control, mask in frames
    )
    one, told, handed, at = FrameMeter(), 0, b"", 0
    rest = b""
    turn = 0
    while at < len(whole) or rest:
        data = rest
        if not rest:
            step = cuts[turn % len(cuts)]
            data = whole[at : at + step]
            at += step
            turn += 1
        size, began = one.take(data, most)
        assert began <= most
        handed += data[:size]
        rest = data[size:]
        told += began
    assert handed == whole
    assert told == len(frames)
