"""The life of a job: whose word wins, what is final, and what a cancel does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from restic_manager.domain import lifecycle
from restic_manager.domain.errors import ConflictError
from restic_manager.domain.lifecycle import JobState
from restic_manager.domain.model import Failure, Outcome, Status

T0 = datetime(2026, 3, 1, tzinfo=UTC)
T1 = T0 + timedelta(minutes=1)
T2 = T0 + timedelta(minutes=2)
T3 = T0 + timedelta(minutes=3)
GONE = Failure(code="host_lost", message="away for 7 days")
OUTCOMES = [status for status in Status if status.terminal]


def outcome(status: Status, *, snapshot: str | None = None) -> Outcome:
    error = None if status is Status.SUCCEEDED else Failure(code=str(status), message="it ended so")
    return Outcome(status=status, exit_code=0, error=error, snapshot_id=snapshot)


def started(state: JobState | None = None) -> JobState:
    return lifecycle.apply_started(state or JobState(sent_at=T0), started_at=T1, now=T1).state


def finished(state: JobState, said: Outcome) -> lifecycle.Step:
    return lifecycle.apply_finished(state, said, started_at=T1, finished_at=T2, now=T3)


def given_up(state: JobState) -> JobState:
    return lifecycle.apply_server_end(state, Status.INTERRUPTED, GONE, tell_host=False, now=T2).state


def test_a_job_starts_and_ends_as_its_host_says() -> None:
    running = started()
    assert (running.status, running.started_at) == (Status.RUNNING, T1)
    step = finished(running, outcome(Status.SUCCEEDED, snapshot="abcd"))
    assert step.contradiction is None
    done = step.state
    assert (done.status, done.verdict_by, done.finished_at) == (Status.SUCCEEDED, "agent", T2)
    assert (done.started_at, done.snapshot_id, done.exit_code) == (T1, "abcd", 0)


def test_a_verdict_without_a_start_counts_as_sent() -> None:
    state = finished(JobState(), outcome(Status.FAILED)).state
    assert (state.status, state.sent_at) == (Status.FAILED, T3)


@pytest.mark.parametrize("status", OUTCOMES)
def test_the_agents_late_verdict_wins_over_the_servers(status: Status) -> None:
    given = given_up(started())
    assert (given.status, given.verdict_by, given.error) == (Status.INTERRUPTED, "server", GONE)
    step = finished(given, outcome(status))
    assert (step.state.status, step.state.verdict_by) == (status, "agent")
    assert step.contradiction is None


@pytest.mark.parametrize("first", OUTCOMES)
@pytest.mark.parametrize("second", OUTCOMES)
def test_the_agents_verdict_is_final_but_for_an_identical_repeat(first: Status, second: Status) -> None:
    ended = finished(started(), outcome(first)).state
    step = finished(ended, outcome(second))
    assert step.state == ended
    assert (step.contradiction is None) == (first is second)


def test_a_verdict_that_is_none_is_a_contradiction() -> None:
    step = finished(started(), Outcome(status=Status.RUNNING))
    assert step.state == started()
    assert step.contradiction is not None


def test_a_start_reopens_what_the_server_ended_and_not_what_the_agent_ended() -> None:
    reopened = started(given_up(started()))
    assert (reopened.status, reopened.verdict_by, reopened.error, reopened.finished_at) == (
        Status.RUNNING,
        None,
        None,
        None,
    )
    over = finished(started(), outcome(Status.WARNING)).state
    assert started(over) == over


def test_the_server_ends_only_what_is_not_over() -> None:
    over = finished(started(), outcome(Status.FAILED)).state
    assert given_up(over) == over
    with pytest.raises(ValueError, match="not an outcome"):
        lifecycle.apply_server_end(JobState(), Status.RUNNING, GONE, tell_host=False, now=T0)


def cancel(state: JobState, *, slot: bool = True) -> JobState:
    return lifecycle.apply_cancel_request(state, reason="by me", host_knows_slot=slot, now=T1).state


@pytest.mark.parametrize("slot", [True, False])
def test_what_was_never_sent_is_cancelled_at_once_and_a_held_slot_is_told(slot: bool) -> None:
    state = cancel(JobState(), slot=slot)
    assert (state.status, state.verdict_by, state.tell_host) == (Status.CANCELLED, "server", slot)
    assert state.error is not None
    assert "by me" in state.error.message


@pytest.mark.parametrize("state", [JobState(sent_at=T0), started()])
def test_what_a_host_may_have_only_its_host_can_end(state: JobState) -> None:
    asked = cancel(state)
    assert asked.status is state.status
    assert (asked.cancel_requested_at, asked.cancel_reason) == (T1, "by me")
    again = lifecycle.apply_cancel_request(asked, reason="again", host_knows_slot=True, now=T2).state
    assert again == asked


@pytest.mark.parametrize("status", OUTCOMES)
def test_what_is_over_cannot_be_cancelled(status: Status) -> None:
    with pytest.raises(ConflictError, match="already over"):
        cancel(finished(started(), outcome(status)).state)


def test_the_answer_to_a_telling_keeps_the_servers_own_reason() -> None:
    error = Failure(code="repo_secrets", message="the key is another one")
    told = lifecycle.apply_server_end(JobState(), Status.FAILED, error, tell_host=True, now=T1).state
    said = Outcome(status=Status.CANCELLED, error=Failure(code="cancelled", message="never started"))
    step = lifecycle.apply_finished(told, said, started_at=None, finished_at=T2, now=T2)
    assert (step.state.status, step.state.error, step.state.tell_host) == (Status.FAILED, error, False)
    assert step.contradiction is None


def test_a_run_of_a_job_cancelled_before_it_was_sent_is_believed() -> None:
    running = started(cancel(JobState()))
    assert running.status is Status.RUNNING
    assert running.cancel_requested_at == T1
    assert not running.tell_host


def test_a_claim_makes_a_job_known_to_its_host_once() -> None:
    assert lifecycle.apply_claim(JobState(), now=T1).state.sent_at == T1
    assert lifecycle.apply_claim(JobState(sent_at=T0), now=T1).state.sent_at == T0


@pytest.mark.parametrize(
    ("status", "code", "made"),
    [
        (Status.SUCCEEDED, None, True),
        (Status.WARNING, "odd", True),
        (Status.FAILED, "repo_exists", True),
        (Status.FAILED, "wrong_password", False),
        (Status.CANCELLED, "cancelled", False),
        (Status.INTERRUPTED, "host_lost", False),
    ],
)
def test_when_an_init_has_made_its_repository(status: Status, code: str | None, made: bool) -> None:
    error = None if code is None else Failure(code=code, message="x")
    assert lifecycle.made_repository(status, error) is made


class _Steps:
    """Every way a job's life can be pushed, as functions of a state."""

    @staticmethod
    def all() -> dict[str, object]:
        return {
            "started": started,
            "claim": lambda state: lifecycle.apply_claim(state, now=T1).state,
            "given up": given_up,
            "cancel": lambda state: state if state.status.terminal else cancel(state),
            **{
                f"finished {status}": lambda state, status=status: finished(state, outcome(status)).state
                for status in OUTCOMES
            },
        }


@given(st.lists(st.sampled_from(sorted(_Steps.all())), max_size=12))
def test_whatever_comes_in_whatever_order_the_agents_first_verdict_stays(names: list[str]) -> None:
    steps = _Steps.all()
    state = JobState()
    verdict: JobState | None = None
    for name in names:
        before = state
        state = steps[name](state)  # type: ignore[operator]  # a function of a state
        if before.sent_at is not None:
            assert state.sent_at == before.sent_at
        if state.status.terminal:
            assert state.verdict_by is not None
            assert state.finished_at is not None
        else:
            assert state.verdict_by is None
        if verdict is not None:
            assert replace(state, sent_at=None, tell_host=False) == replace(verdict, sent_at=None, tell_host=False)
        elif state.verdict_by == "agent":
            verdict = state
