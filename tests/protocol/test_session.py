"""Who may go on from where: every branch of a hello, a welcome and a sequence, on values."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from restic_manager.protocol.codec import encode
from restic_manager.protocol.messages import PROTOCOL_VERSION, Hello, OutboxHead, Refused, Welcome
from restic_manager.protocol.session import (
    Accepted,
    Holding,
    JournalRecord,
    frame_hash,
    judge_hello,
    judge_sequence,
    judge_version,
    welcome_fits,
)
from tests.protocol.samples import SAMPLES

A = "a" * 64
B = "b" * 64


HERE = "epoch-of-now"
HOLDING = Holding(epoch=HERE, version=5)


def hello(
    head: int,
    acked: int,
    acked_hash: str | None = None,
    *,
    protocol: int = PROTOCOL_VERSION,
    epoch: str | None = HERE,
    applied: tuple[str, int] | None = None,
) -> Hello:
    plain = SAMPLES["hello"]
    assert isinstance(plain, Hello)
    outbox = OutboxHead(head=head, acked=acked, acked_hash=acked_hash, epoch=epoch)
    applied_epoch, applied_version = applied or (None, 0)
    return replace(
        plain, protocol=protocol, outbox=outbox, applied_epoch=applied_epoch, applied_version=applied_version
    )


AHEAD = hello(7, 5, A, applied=(HERE, 6))
BEFORE = hello(9, 5, A, epoch="before")
SET_BEFORE = hello(7, 5, A, epoch=None, applied=("before", 9))


def record(acked_through: int, acked_hash: str | None = None) -> JournalRecord:
    return JournalRecord(acked_through=acked_through, acked_hash=acked_hash)


def on_from(
    through: int, digest: str | None, *, new: bool = False, behind: bool = False, old_copy: bool = False
) -> Accepted:
    return Accepted(
        acked_through=through, acked_hash=digest, new_journal=new, behind=behind or old_copy, old_copy=old_copy
    )


class TestVersion:
    def test_ours(self) -> None:
        assert judge_version(PROTOCOL_VERSION) is None

    @pytest.mark.parametrize(
        ("protocol", "code"), [(PROTOCOL_VERSION - 1, "too_old"), (PROTOCOL_VERSION + 1, "too_new")]
    )
    def test_others_are_told_what_to_upgrade(self, protocol: int, code: str) -> None:
        refused = judge_version(protocol)
        assert refused is not None
        assert refused.code == code
        assert not refused.retry
        assert str(protocol) in refused.message
        assert "upgrade the " in refused.message

    @pytest.mark.parametrize("known", [None, record(3, A)])
    def test_comes_before_everything_in_a_hello(self, known: JournalRecord | None) -> None:
        refused = judge_hello(hello(9, 9, B, protocol=PROTOCOL_VERSION + 1), known, HOLDING)
        assert isinstance(refused, Refused)
        assert refused.code == "too_new"


class TestHello:
    @pytest.mark.parametrize(
        ("said", "known", "accepted"),
        [
            pytest.param(hello(0, 0), None, on_from(0, None, new=True), id="a fresh journal"),
            pytest.param(hello(7, 0), None, on_from(0, None, new=True), id="fresh, but the first link came late"),
            pytest.param(AHEAD, None, on_from(5, A, new=True, old_copy=True), id="its set is ahead of the store"),
            pytest.param(BEFORE, None, on_from(5, A, new=True, behind=True), id="unknown after a restore"),
            pytest.param(SET_BEFORE, None, on_from(5, A, new=True, behind=True), id="the same, said by its set"),
            pytest.param(BEFORE, record(3, B), on_from(5, A, behind=True), id="known less of after a restore"),
            pytest.param(BEFORE, record(5, A), on_from(5, A), id="nothing was lost by the restore"),
            pytest.param(hello(5, 5, A), record(5, A), on_from(5, A), id="nothing new on either side"),
            pytest.param(hello(9, 5, A), record(5, A), on_from(5, A), id="more to come"),
            pytest.param(hello(9, 5, A), record(8, B), on_from(8, B), id="the last acks were lost on the way"),
            pytest.param(hello(9, 5, A), record(9, B), on_from(9, B), id="all is committed, no ack came"),
            pytest.param(hello(9, 5, A), record(0), on_from(5, A, old_copy=True), id="the server is an empty copy"),
            pytest.param(hello(9, 5, A), record(4, B), on_from(5, A, old_copy=True), id="the server is an old copy"),
            pytest.param(hello(5, 5, A), record(4, B), on_from(5, A, old_copy=True), id="an old copy, nothing to send"),
            pytest.param(hello(9, 5), record(5, A), on_from(5, A), id="the agent does not know the hash any more"),
            pytest.param(hello(9, 5, A), record(5), on_from(5, None), id="the server does not know the hash"),
            pytest.param(hello(9, 0), record(0), on_from(0, None), id="known, and never acked"),
        ],
    )  # fmt: skip
    def test_goes_on(self, said: Hello, known: JournalRecord | None, accepted: Accepted) -> None:
        assert judge_hello(said, known, HOLDING) == accepted

    @pytest.mark.parametrize(
        ("said", "known"),
        [
            pytest.param(hello(4, 4, A), record(5, B), id="rolled back: the server has acked past its head"),
            pytest.param(hello(0, 0), record(5, B), id="rolled back to nothing"),
            pytest.param(hello(9, 5, A), record(5, B), id="a clone: the report last acked is another one"),
            pytest.param(hello(5, 5, A), record(5, B), id="a clone with nothing to send"),
            pytest.param(hello(7, 5, A), None, id="acked in this epoch, says a journal nobody has seen"),
            pytest.param(hello(7, 5, A, applied=(HERE, 5)), None, id="the same, and its set is the one that it has"),
            pytest.param(hello(7, 5, A, epoch=None), None, id="the same, and it does not know of which epoch"),
            pytest.param(hello(7, 5, A, epoch=None, applied=(HERE, 4)), None, id="the same, and its set is older"),
        ],
    )
    def test_takes_a_new_journal(self, said: Hello, known: JournalRecord | None) -> None:
        refused = judge_hello(said, known, HOLDING)
        assert isinstance(refused, Refused)
        assert (refused.code, refused.retry, refused.retry_after) == ("rekey", True, 0)

    @settings(deadline=None)
    @given(
        st.integers(0, 5),
        st.integers(0, 5),
        st.none() | st.integers(0, 5),
        st.sampled_from([None, A, B]),
        st.sampled_from([None, A, B]),
    )
    def test_never_goes_back_behind_an_ack(
        self, acked: int, more: int, held: int | None, own: str | None, theirs: str | None
    ) -> None:
        """Whatever both remember, an accepted session loses nothing acked and goes behind no ack."""
        verdict = judge_hello(hello(acked + more, acked, own), None if held is None else record(held, theirs), HOLDING)
        if isinstance(verdict, Accepted):
            assert verdict.acked_through == max(acked, held or 0)
            assert verdict.acked_through <= acked + more
            assert verdict.old_copy == verdict.behind == ((held or 0) < acked)
        elif held is None:
            assert acked > 0
        else:
            assert held > acked + more or (held == acked and {own, theirs} == {A, B})


class TestWelcome:
    @pytest.mark.parametrize(
        ("through", "digest", "own", "fits"),
        [
            (5, A, A, True),
            (5, A, B, False),
            (5, A, None, True),
            (5, None, A, True),
            (5, None, None, True),
            (0, None, None, True),
            (9, A, A, True),
            (10, A, A, False),
            (10, None, None, False),
        ],
    )
    def test_fits(self, through: int, digest: str | None, own: str | None, fits: bool) -> None:
        plain = SAMPLES["welcome"]
        assert isinstance(plain, Welcome)
        welcome = replace(plain, acked_through=through, acked_hash=digest)
        assert welcome_fits(welcome, OutboxHead(head=9, acked=3), own) is fits

    def test_a_rolled_back_journal_that_grew_past_the_ack_is_found_by_the_agent(self) -> None:
        """Old copy at 4, then other reports 5 to 7 while the server already has 6: only the welcome's hash can tell."""
        said = hello(7, 4, A)
        verdict = judge_hello(said, record(6, B), HOLDING)
        assert isinstance(verdict, Accepted)
        plain = SAMPLES["welcome"]
        assert isinstance(plain, Welcome)
        welcome = replace(plain, acked_through=verdict.acked_through, acked_hash=verdict.acked_hash)
        assert not welcome_fits(welcome, said.outbox, A)


class TestSequence:
    @pytest.mark.parametrize(
        ("through", "seq", "gap_allowed", "turn"),
        [
            (0, 1, False, "next"),
            (5, 6, False, "next"),
            (5, 5, False, "repeat"),
            (5, 1, False, "repeat"),
            (5, 7, False, "gap"),
            (0, 2, False, "gap"),
            (5, 7, True, "next"),
            (5, 6, True, "next"),
            (5, 5, True, "repeat"),
            (2**53 - 1, 2**53, False, "next"),
        ],
    )
    def test_turn(self, through: int, seq: int, gap_allowed: bool, turn: str) -> None:
        assert judge_sequence(through, seq, gap_allowed=gap_allowed) == turn

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), max_size=12))
    def test_cut_and_repeated_in_any_way_each_report_counts_once(self, links: list[tuple[int, int]]) -> None:
        """Links break anywhere and the outbox starts again behind what was acked, or earlier when the ack was lost."""
        applied: list[int] = []
        through, count = 0, 12
        for wished, end in [*links, (1, count)]:
            start = min(wished, through + 1)
            for seq in range(start, end + 1):
                turn = judge_sequence(through, seq)
                assert turn != "gap"
                if turn == "next":
                    applied.append(seq)
                    through = seq
        assert applied == list(range(1, count + 1))


class TestFrameHash:
    def test_is_sha256_of_the_frame_as_sent(self) -> None:
        frame = encode(SAMPLES["job.log.full"])
        assert frame_hash(frame) == hashlib.sha256(frame.encode("utf-8")).hexdigest()
        assert frame_hash("é") == "4a99557e4033c3539de2eb65472017cad5f9557f7a0625a09f1c3f6e2ba69c4c"

    def test_another_sequence_is_another_report(self) -> None:
        frame = encode(SAMPLES["job.log.full"])
        assert frame_hash(frame) != frame_hash(frame.replace('"seq":11', '"seq":12'))
