"""The link in virtual time: messages, put or close, heartbeats, half-open ends, and how it ends."""

from __future__ import annotations

import msgspec
import pytest
import trio
import trio.testing

from restic_manager.domain.errors import RefusedError
from restic_manager.link import Admission, Knock, Link, LinkClosed, answer, channel, dial
from restic_manager.protocol import codec
from restic_manager.protocol.codec import WireError, encode
from restic_manager.protocol.messages import MAX_MESSAGE, Ack, Error, Goodbye, Heartbeat, Refused, ScheduleFired
from tests.support.linked import START, Pair, gated_streams, linked, virtual_clock


async def closed(link: Link) -> LinkClosed:
    """Receive until the link is over and return how."""
    with pytest.raises(LinkClosed) as caught:  # noqa: PT012 - reads whatever comes before the end
        while True:
            await link.receive()
    return caught.value


def big(size: int) -> Goodbye | Error:
    return Error(code="x", message="y" * min(size, 16_000))


async def test_messages_arrive_in_order_with_their_frames(autojump_clock: trio.testing.MockClock) -> None:
    async with linked() as pair:
        for number in range(200):
            assert pair.server.put(Ack(through=number))
        got = [await pair.agent.receive() for _ in range(200)]
    assert [incoming.message.through for incoming in got] == list(range(200))
    assert got[7].frame == encode(Ack(through=7))


async def test_an_encoded_frame_goes_out_as_it_is(autojump_clock: trio.testing.MockClock) -> None:
    frame = '{"type":"goodbye","reason":"ü","later":1}'
    async with linked() as pair:
        await pair.agent.send_frame(frame)
        assert (await pair.server.receive()) == (Goodbye(reason="ü"), frame)


async def test_what_is_not_ours_to_say_is_delivered_as_an_error(autojump_clock: trio.testing.MockClock) -> None:
    async with linked() as pair:
        await pair.agent.send_frame('{"type":"no.such.type"}')
        await pair.agent.send_frame('{"type":"job.finished","seq":4}')
        await pair.agent.send(Goodbye(reason="still here"))
        unknown, invalid, after = [(await pair.server.receive()).message for _ in range(3)]
    assert isinstance(unknown, WireError)
    assert unknown.code == "unknown_type"
    assert isinstance(invalid, WireError)
    assert (invalid.code, invalid.seq, invalid.durable) == ("invalid", 4, True)
    assert after == Goodbye(reason="still here")


@pytest.mark.parametrize("frame", ["nonsense", "[1]", '"text"', "[" * 990 + "]" * 990])
async def test_a_frame_that_is_no_message_at_all_closes_with_1007(
    autojump_clock: trio.testing.MockClock, frame: str
) -> None:
    async with linked() as pair:
        await pair.agent.send_frame(frame)
        incoming = await pair.server.receive()
        assert isinstance(incoming.message, WireError)
        assert incoming.message.fatal
        assert (await closed(pair.agent)).code == 1007
        assert (await closed(pair.server)).code == 1007
        assert not pair.server.put(Ack(through=1))


async def test_heartbeats_are_sent_and_not_delivered(autojump_clock: trio.testing.MockClock) -> None:
    async with linked() as pair:
        pair.agent.start_heartbeat(15, virtual_clock())
        pair.server.start_heartbeat(15, virtual_clock())
        await trio.sleep(300)
        pair.agent.put(Goodbye(reason="after five minutes"))
        assert (await pair.server.receive()).message == Goodbye(reason="after five minutes")
        assert not pair.agent.closed
        assert not pair.server.closed


async def test_a_heartbeat_carries_the_wall_clock(autojump_clock: trio.testing.MockClock) -> None:
    agent_stream, server_stream, _, _ = gated_streams()
    frames: list[str] = []

    class Listening(codec.Decoder):
        def decode(self, frame: str) -> object:
            frames.append(frame)
            return super().decode(frame)

    async def admit(knock: Knock) -> Admission[None]:
        return None, Listening(Heartbeat | Goodbye)

    async def serve() -> None:
        async with answer(server_stream, admit=admit, remote="agent") as answered:
            assert answered is not None
            await closed(answered[1])

    async def open_stream() -> trio.abc.Stream:
        return agent_stream

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        async with dial(
            "ws://s", path="/agent", bearer="t", decoder=codec.from_server, open_stream=open_stream
        ) as link:
            clock = virtual_clock()
            began = clock.now()
            link.start_heartbeat(10, clock)
            await trio.sleep(25)
    clocks = [msgspec.json.decode(frame, type=Heartbeat).clock for frame in frames]
    assert [(at - began).total_seconds() for at in clocks] == [10, 20]
    assert clocks[0] > START


async def test_a_half_open_link_is_noticed_after_three_intervals(autojump_clock: trio.testing.MockClock) -> None:
    async with linked() as pair:
        pair.server.start_heartbeat(15, virtual_clock())
        pair.agent_sends.shut()  # the agent's host is gone without a word
        began = trio.current_time()
        end = await closed(pair.server)
        waited = trio.current_time() - began
    assert end.code == 1008
    assert "nothing came for 45 s" in end.reason
    assert 45 <= waited <= 46.5


async def test_any_message_counts_as_life(autojump_clock: trio.testing.MockClock) -> None:
    async with linked() as pair:
        pair.server.start_heartbeat(15, virtual_clock())
        for number in range(10):  # an agent that sends no heartbeat, only reports
            await trio.sleep(40)
            pair.agent.put(Goodbye(reason=str(number)))
            assert (await pair.server.receive()).message.reason == str(number)
        assert not pair.server.closed


async def test_a_slow_consumer_never_makes_its_peer_look_dead(autojump_clock: trio.testing.MockClock) -> None:
    async with linked() as pair:
        pair.agent.start_heartbeat(15, virtual_clock())
        pair.server.start_heartbeat(15, virtual_clock())
        for number in range(500):  # more than is read ahead
            await pair.agent.send(Goodbye(reason=str(number)))
        await trio.sleep(600)  # the server's store is busy
        got = [(await pair.server.receive()).message.reason for _ in range(500)]
        await trio.sleep(600)
        assert not pair.server.closed
        assert not pair.agent.closed
    assert got == [str(number) for number in range(500)]


async def test_a_peer_that_died_behind_a_slow_consumer_is_noticed_later(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with linked() as pair:
        for number in range(200):
            await pair.agent.send(Goodbye(reason=str(number)))
        pair.server.start_heartbeat(15, virtual_clock())
        await trio.sleep(200)
        pair.agent_sends.shut()
        assert not pair.server.closed
        began = trio.current_time()
        await closed(pair.server)
        assert 45 <= trio.current_time() - began <= 47


async def test_a_stuck_write_is_noticed_after_three_intervals(autojump_clock: trio.testing.MockClock) -> None:
    async with linked() as pair, trio.open_nursery() as nursery:

        async def talk() -> None:
            for _ in range(30):
                pair.agent.put(Goodbye(reason="still talking"))
                await trio.sleep(5)

        pair.server_sends.shut()
        nursery.start_soon(talk)
        began = trio.current_time()
        pair.server.start_heartbeat(15, virtual_clock())
        end = await closed(pair.server)
        assert (end.code, end.reason) == (1008, "nothing could be sent for 45 s")
        assert 45 <= trio.current_time() - began <= 15 + 45 + 1 + channel.CLOSE_SECONDS
        nursery.cancel_scope.cancel()


async def test_both_ends_notice_a_path_that_carries_one_way_only(autojump_clock: trio.testing.MockClock) -> None:
    async with linked() as pair:
        pair.agent.start_heartbeat(15, virtual_clock())
        pair.server_sends.shut()
        began = trio.current_time()
        pair.server.start_heartbeat(15, virtual_clock())
        assert (await closed(pair.agent)).code == 1008
        assert (await closed(pair.server)).code == 1008
        assert trio.current_time() - began <= 62


async def test_a_peer_that_does_not_read_loses_its_link_and_blocks_nobody(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with linked() as pair:
        pair.server_sends.shut()
        began = trio.current_time()
        sent = 0
        while pair.server.put(Ack(through=sent)):
            sent += 1
        assert trio.current_time() == began
        assert sent == channel.MAX_QUEUED
        assert not pair.server.put(Ack(through=0))
        end = await closed(pair.server)
        assert end.code == 1013
        with pytest.raises(LinkClosed):
            await pair.server.send(Ack(through=0))


async def test_the_queue_is_bounded_in_characters_too(autojump_clock: trio.testing.MockClock) -> None:
    async with linked() as pair:
        pair.server_sends.shut()
        large = ScheduleFired(
            schedule_id="s" * 8,
            revision=1,
            scheduled_at=START,
            answer="rejected",
            code="x",
            message="m" * (MAX_MESSAGE // 2),
        )
        sent = 0
        while pair.server.put(large):
            sent += 1
        assert 14 <= sent <= 18


async def test_one_message_always_fits_an_empty_queue(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "MAX_QUEUED_TEXT", 10)
    async with linked() as pair:
        assert pair.server.put(Error(code="x", message="far more than ten characters"))
        assert (await pair.agent.receive()).message.code == "x"


async def test_send_waits_for_room(autojump_clock: trio.testing.MockClock) -> None:
    async with linked() as pair:
        pair.server_sends.shut()
        total = 3 * channel.MAX_QUEUED
        async with trio.open_nursery() as nursery:

            async def send_all() -> None:
                for number in range(total):
                    await pair.server.send(Ack(through=number))

            nursery.start_soon(send_all)
            await trio.testing.wait_all_tasks_blocked()
            pair.server_sends.open()
            got = [(await pair.agent.receive()).message.through for _ in range(total)]
        assert got == list(range(total))
        assert not pair.server.closed


async def test_a_sender_waiting_for_room_is_told_of_the_end(autojump_clock: trio.testing.MockClock) -> None:
    async with linked() as pair:
        pair.server_sends.shut()
        ended: list[LinkClosed] = []

        async def send_all() -> None:
            try:
                while True:
                    await pair.server.send(Ack(through=1))
            except LinkClosed as error:
                ended.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all)
            await trio.testing.wait_all_tasks_blocked()
            assert not ended
            await pair.server.close(1001, "enough", drain=1)
        assert ended[0].code == 1001


async def test_close_sends_what_is_queued_first(autojump_clock: trio.testing.MockClock) -> None:
    async with linked() as pair:
        for number in range(100):
            pair.server.put(Ack(through=number))
        pair.server.put(Goodbye(reason="draining"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.server.close, 1001, "the server restarts")
            got = [(await pair.agent.receive()).message for _ in range(101)]
            end = await closed(pair.agent)
    assert got[-1] == Goodbye(reason="draining")
    assert (end.code, end.reason) == (1001, "the server restarts")


async def test_close_is_bounded_when_the_peer_is_stuck(autojump_clock: trio.testing.MockClock) -> None:
    async with linked() as pair:
        pair.server_sends.shut()
        pair.server.put(Ack(through=1))
        began = trio.current_time()
        await pair.server.close(1001, "bye", drain=5)
        assert trio.current_time() - began <= 5 + channel.CLOSE_SECONDS
        assert (await closed(pair.server)).code == 1001


async def test_what_came_before_the_peers_close_is_still_received(autojump_clock: trio.testing.MockClock) -> None:
    async with linked() as pair:
        for number in range(40):
            await pair.agent.send(Goodbye(reason=str(number)))
        await pair.agent.close(1000, "done")
        assert pair.server.closed
        assert not pair.server.put(Ack(through=1))
        got = [(await pair.server.receive()).message.reason for _ in range(40)]
        end = await closed(pair.server)
    assert got == [str(number) for number in range(40)]
    assert (end.code, end.reason) == (1000, "done")


async def one_session(body: object, *, cancel: bool = False) -> LinkClosed:
    """Run one server-side block that ends as told; return how the agent saw its end."""
    agent_stream, server_stream, _, _ = gated_streams()
    caught: list[Exception] = []

    async def admit(knock: Knock) -> Admission[None]:
        return None, codec.from_agent

    async def serve(task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope)
            try:
                async with answer(server_stream, admit=admit, remote="agent") as answered:
                    assert answered is not None
                    answered[1].put(Ack(through=1))
                    if isinstance(body, Exception):
                        raise body
                    if cancel:
                        await trio.sleep_forever()
            except RuntimeError as error:
                caught.append(error)

    async def open_stream() -> trio.abc.Stream:
        return agent_stream

    async with trio.open_nursery() as nursery:
        scope = await nursery.start(serve)
        async with dial(
            "ws://s", path="/agent", bearer="t", decoder=codec.from_server, open_stream=open_stream
        ) as link:
            assert (await link.receive()).message == Ack(through=1)
            if cancel:
                scope.cancel()
            end = await closed(link)
    assert caught == ([body] if isinstance(body, Exception) else [])
    return end


async def test_the_end_of_the_block_closes_with_1000(autojump_clock: trio.testing.MockClock) -> None:
    assert (await one_session(None)).code == 1000


async def test_an_error_in_the_block_closes_with_1011_and_leaves_as_it_is(
    autojump_clock: trio.testing.MockClock,
) -> None:
    assert (await one_session(RuntimeError("a bug"))).code == 1011


async def test_cancelling_the_block_says_goodbye_after_what_is_queued(autojump_clock: trio.testing.MockClock) -> None:
    assert (await one_session(None, cancel=True)).code == 1001


async def test_a_connection_that_breaks_has_no_code(autojump_clock: trio.testing.MockClock) -> None:
    agent_stream, server_stream, _, _ = gated_streams()

    async def admit(knock: Knock) -> Admission[None]:
        return None, codec.from_agent

    async def serve() -> None:
        async with answer(server_stream, admit=admit, remote="agent") as answered:
            assert answered is not None
            assert (await closed(answered[1])).code is None

    async def open_stream() -> trio.abc.Stream:
        return agent_stream

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        async with dial(
            "ws://s", path="/agent", bearer="t", decoder=codec.from_server, open_stream=open_stream
        ) as link:
            await trio.aclose_forcefully(agent_stream)
            assert (await closed(link)).code is None


async def test_a_refusal_reaches_the_dialler_with_code_reason_and_whether_to_retry(
    autojump_clock: trio.testing.MockClock,
) -> None:
    agent_stream, server_stream, _, _ = gated_streams()
    seen: list[Knock] = []

    async def admit(knock: Knock) -> Admission[None]:
        seen.append(knock)
        return Refused(code="expired", message="this token has expired: ask for a new one", retry=True)

    async def serve() -> None:
        async with answer(server_stream, admit=admit, remote="10.0.0.9") as answered:
            assert answered is None

    async def open_stream() -> trio.abc.Stream:
        return agent_stream

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with pytest.raises(RefusedError) as caught:
            async with dial("ws://s", path="/join", bearer="abc", decoder=codec.join_answer, open_stream=open_stream):
                pytest.fail("was let in")
        nursery.cancel_scope.cancel()
    assert (caught.value.code, caught.value.retry) == ("expired", True)
    assert caught.value.message == "this token has expired: ask for a new one"
    assert seen == [Knock(path="/join", bearer="abc", remote="10.0.0.9")]


async def test_both_ends_leave_no_task_behind(autojump_clock: trio.testing.MockClock) -> None:
    async def session(pair: Pair) -> None:
        pair.agent.start_heartbeat(5, virtual_clock())
        pair.server.start_heartbeat(5, virtual_clock())
        await trio.sleep(20)

    before = trio.lowlevel.current_statistics().tasks_living
    async with linked() as pair:
        await session(pair)
    assert trio.lowlevel.current_statistics().tasks_living == before
