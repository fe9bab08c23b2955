"""Lists that would not fit their message are cut, and the message is one."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import inspect as mi
from msgspec.structs import replace

from restic_manager.protocol import codec
from restic_manager.protocol.fitting import MAX_CLAIMS, claims_that_fit, refusals_that_fit
from restic_manager.protocol.messages import MAX_MESSAGE, Hello, JobClaim, RefusedEntry, ScheduleAck
from tests.protocol.samples import AT, EPOCH, SAMPLES
from tests.protocol.shapes import fields_of


def claims(state: str, count: int) -> list[JobClaim]:
    return [JobClaim(job_id=f"{state}-{number}", state=state) for number in range(count)]  # type: ignore[arg-type]  # one of the three


class TestClaims:
    def test_the_bound_is_the_message_s(self) -> None:
        jobs = next(field.type for field in fields_of(Hello) if field.name == "jobs")
        assert isinstance(jobs, mi.VarTupleType)
        assert jobs.max_length == MAX_CLAIMS

    def test_all_when_there_is_room(self) -> None:
        known = [*claims("running", 1), *claims("finished", 3), *claims("accepted", 2)]
        assert set(claims_that_fit(known)) == set(known)

    def test_unfinished_ones_before_finished_ones(self) -> None:
        known = [*claims("finished", MAX_CLAIMS), *claims("accepted", 2), *claims("running", 1)]
        kept = claims_that_fit(known)
        assert len(kept) == MAX_CLAIMS
        assert [claim.state for claim in kept[:4]] == ["accepted", "accepted", "running", "finished"]
        assert kept[3:] == tuple(claims("finished", MAX_CLAIMS - 3))

    def test_the_hello_is_one(self) -> None:
        plain = SAMPLES["hello"]
        assert isinstance(plain, Hello)
        long = [JobClaim(job_id="j" * 64, state="finished", schedule_id="s" * 64, scheduled_at=AT)] * 3_000
        hello = replace(plain, jobs=claims_that_fit(long))
        assert codec.from_agent.decode(codec.encode(hello)) == hello


class TestRefusals:
    @pytest.mark.parametrize("count", [0, 1, 500])
    def test_all_when_there_is_room(self, count: int) -> None:
        refused = [RefusedEntry(schedule_id=f"s{number}", code="bad", reason="x" * 200) for number in range(count)]
        assert refusals_that_fit(refused) == tuple(refused)

    def test_reasons_are_shortened_before_anything_is_left_out(self) -> None:
        refused = [RefusedEntry(schedule_id=f"s{number}", code="bad", reason="x" * 8_000) for number in range(100)]
        kept = refusals_that_fit(refused)
        assert [entry.schedule_id for entry in kept] == [entry.schedule_id for entry in refused]
        assert all(entry.reason == "x" * 500 for entry in kept)

    @pytest.mark.parametrize("character", ["x", "\x01", "\U0001f4be"])
    def test_what_is_left_out_is_counted_and_the_ack_is_one(self, character: str) -> None:
        refused = [
            RefusedEntry(schedule_id=f"s{number}", code="bad", reason=character * 8_000) for number in range(20_000)
        ]
        kept = refusals_that_fit(refused)
        assert kept[-1].code == "more"
        assert int(kept[-1].reason.split()[0]) == 20_000 - (len(kept) - 1)
        assert [entry.schedule_id for entry in kept[:-1]] == [f"s{number}" for number in range(len(kept) - 1)]
        ack = ScheduleAck(epoch=EPOCH, version=1, refused=kept)
        frame = codec.encode(ack)
        assert len(frame) < MAX_MESSAGE // 2
        assert codec.from_agent.decode(frame) == ack
        assert len(msgspec.json.encode(kept)) > 200_000
