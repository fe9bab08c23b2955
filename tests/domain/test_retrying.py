"""Which ends are tried again: every rule by name, and whole runs against a model that plays them through."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restic_manager.domain import retrying
from restic_manager.domain.model import Status
from restic_manager.domain.retrying import LONGEST_BACKOFF, NOT_LOST, PASSING, Again, Allowed, Attempt, Enough
from restic_manager.restic.failures import REMEDIES

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TWICE = Allowed(2, 5 * MINUTE)
NONE = Allowed(0, 5 * MINUTE)

NETWORK = Attempt(status=Status.FAILED, code="network")
LOST = Attempt(status=Status.INTERRUPTED, code="agent_stopped")
MISSING = Attempt(status=Status.FAILED, code="repo_missing")


def decide(*chain: Attempt, allowed: Allowed | None = TWICE, later_slot: bool = False) -> Again | Enough:
    return retrying.decide(chain, allowed, later_slot=later_slot, now=NOW)


@pytest.mark.parametrize("code", sorted(PASSING))
def test_what_may_pass_is_tried_as_often_as_allowed_each_time_after_twice_as_long(code: str) -> None:
    failed = Attempt(status=Status.FAILED, code=code)
    first, second, third = (decide(*[failed] * count) for count in (1, 2, 3))
    assert isinstance(first, Again)
    assert isinstance(second, Again)
    assert (first.at, second.at) == (NOW + 5 * MINUTE, NOW + 10 * MINUTE)
    assert third == Enough("2 retries were made")
    assert isinstance(decide(failed, allowed=NONE), Enough)


def test_only_real_codes_may_pass() -> None:
    assert REMEDIES.keys() >= PASSING


@pytest.mark.parametrize("code", sorted(REMEDIES.keys() - PASSING))
def test_what_a_person_has_to_mend_is_not_tried_again(code: str) -> None:
    assert isinstance(decide(Attempt(status=Status.FAILED, code=code), allowed=Allowed(99, MINUTE)), Enough)


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.WARNING, Status.CANCELLED])
def test_what_did_not_fail_is_not_tried_again(status: Status) -> None:
    assert isinstance(decide(Attempt(status=status, code="network")), Enough)


@pytest.mark.parametrize("end", [NETWORK, LOST])
def test_never_after_a_snapshot_nor_when_its_end_was_asked_for(end: Attempt) -> None:
    snapshot = Attempt(status=end.status, code=end.code, has_snapshot=True)
    asked = Attempt(status=end.status, code=end.code, stop_wanted=True)
    assert decide(snapshot) == Enough("a snapshot was saved")
    assert decide(asked) == Enough("its end was asked for")


@pytest.mark.parametrize("end", [NETWORK, LOST])
def test_never_without_a_schedule_nor_when_a_later_slot_has_its_place(end: Attempt) -> None:
    assert isinstance(decide(end, allowed=None), Enough)
    assert isinstance(decide(end, later_slot=True), Enough)


def test_a_lost_run_is_made_up_for_once_and_at_once_whatever_is_allowed() -> None:
    first = decide(LOST, allowed=NONE)
    assert isinstance(first, Again)
    assert first.at is None
    assert decide(LOST, LOST, allowed=NONE) == Enough("the schedule allows no retries")
    again = decide(LOST, LOST)
    assert isinstance(again, Again)
    assert again.at == NOW + 5 * MINUTE, "the making up is not counted as a retry"


@pytest.mark.parametrize("code", sorted(NOT_LOST))
def test_what_nobody_can_make_up_for_is_not_tried_again(code: str) -> None:
    assert isinstance(decide(Attempt(status=Status.INTERRUPTED, code=code)), Enough)


def test_the_attempt_behind_an_init_is_no_retry() -> None:
    after = decide(MISSING, NETWORK)
    assert isinstance(after, Again)
    assert after.at == NOW + 5 * MINUTE
    assert retrying.wants_repository([NETWORK, MISSING])
    assert not retrying.wants_repository([MISSING, NETWORK, MISSING]), "one init a run"
    assert not retrying.wants_repository([Attempt(status=Status.FAILED, code="repo_missing", stop_wanted=True)])


def test_the_wait_has_an_end_however_often_it_is_doubled() -> None:
    last = decide(*[NETWORK] * 100, allowed=Allowed(100, timedelta(hours=6)))
    assert isinstance(last, Again)
    assert last.at == NOW + LONGEST_BACKOFF


ends = st.sampled_from(
    [
        *(Attempt(status=Status.FAILED, code=code) for code in ("network", "locked", "stalled", "wrong_password")),
        LOST,
        MISSING,
        Attempt(status=Status.INTERRUPTED, code="host_lost"),
        Attempt(status=Status.SUCCEEDED, has_snapshot=True),
        Attempt(status=Status.FAILED, code="network", has_snapshot=True),
        Attempt(status=Status.CANCELLED, code="cancelled", stop_wanted=True),
    ]
)


@given(
    script=st.lists(ends, min_size=1, max_size=12),
    retry=st.integers(0, 4),
    backoff=st.integers(1, 21_600),
    superseded_at=st.one_of(st.none(), st.integers(1, 12)),
)
def test_a_whole_run_is_as_a_plain_account_of_it(
    script: list[Attempt], retry: int, backoff: int, superseded_at: int | None
) -> None:
    """Play a run: each attempt ends as the script says while another follows. The model keeps three counters."""
    left, made_up, inits, wait = retry, False, 0, float(backoff)
    chain: list[Attempt] = []
    for end in script:
        chain.append(end)
        later = superseded_at is not None and len(chain) >= superseded_at
        decision = decide(*chain, allowed=Allowed(retry, timedelta(seconds=backoff)), later_slot=later)
        if end.code == "repo_missing":
            assert isinstance(decision, Enough)
            assert retrying.wants_repository(chain) == (inits == 0)
            inits += 1
            if inits > 1:
                return
            continue
        assert not retrying.wants_repository(chain)
        if end.has_snapshot or later or end.code in {"wrong_password", "host_lost", "cancelled"}:
            assert isinstance(decision, Enough)
            return
        if end.status is Status.INTERRUPTED and not made_up:
            made_up = True
            assert isinstance(decision, Again)
            assert decision.at is None
            continue
        if left == 0:
            assert isinstance(decision, Enough)
            return
        left -= 1
        assert isinstance(decision, Again)
        assert decision.at == NOW + timedelta(seconds=min(wait, 21_600.0))
        wait *= 2
    assert len(chain) <= 1 + retry + 1 + 1, "retries, one making up, one attempt behind an init"
