"""The life of a job as the server keeps it: which report or request changes what, and whose word wins.

queued → running → one outcome. The agent's verdict is final but for an identical repeat; a verdict the server gave
itself (host removed, away too long, an init that failed) gives way to whatever the agent says later. Decides on values
only; refuses to know rows, messages and who is online.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from restic_manager.domain.errors import ConflictError
from restic_manager.domain.model import BackupStats, Failure, Outcome, Status, fingerprint
from restic_manager.domain.results import Result

REPO_MISSING: Final = "repo_missing"
"""The code of a failed backup whose repository does not exist yet: it leads to an init."""
REPO_EXISTS: Final = "repo_exists"
"""The code of an init that found the repository there: as good as done for whoever waits for it."""
INIT_FAILED: Final = "init_failed"
"""The code of an attempt whose init did not make the repository."""

_LONGEST_MESSAGE: Final = 8_000

Judge = Literal["agent", "server"]


class JobState(Struct, frozen=True, kw_only=True):
    """What may change in a job's life. Times as their author's clock told them; sent_at is the server's.

    sent_at: first handed to the host's session, or first known to be with the host; None = the host cannot know of it,
    unless it is a slot's job. tell_host: it ended here and the host still has to be told. told: the fingerprint of the
    agent's own verdict, where the server's guards made something else of it.
    """

    status: Status = Status.QUEUED
    verdict_by: Judge | None = None
    sent_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    snapshot_id: str | None = None
    error: Failure | None = None
    stats: BackupStats | None = None
    result: Result | None = None
    cancel_requested_at: datetime | None = None
    cancel_reason: str | None = None
    tell_host: bool = False
    told: str | None = None


class Step(Struct, frozen=True):
    """What became of a job: the state after it, and why the report was not believed, if it was not."""

    state: JobState
    contradiction: str | None = None


def apply_started(state: JobState, *, started_at: datetime, now: datetime) -> Step:
    """Given the agent's word that the job runs, return the step. Reopens what the server had ended by itself."""
    if state.status.terminal and state.verdict_by == "agent":
        return Step(state)  # a repeat from before the verdict: the verdict stands
    return Step(
        replace(
            state,
            status=Status.RUNNING,
            verdict_by=None,
            sent_at=state.sent_at or now,
            started_at=started_at if state.started_at is None else min(started_at, state.started_at),
            finished_at=None,
            exit_code=None,
            error=None,
            tell_host=False,
        )
    )


def apply_finished(
    state: JobState,
    outcome: Outcome,
    *,
    started_at: datetime | None,
    finished_at: datetime,
    now: datetime,
    judge: Callable[[Outcome], Outcome] = lambda outcome: outcome,
) -> Step:
    """Given the agent's verdict, return the step. A second, different verdict of the agent is a contradiction.

    judge: what the server makes of a verdict that it believes; it is asked once, and a repeat is compared with what the
    agent had said itself.

    `cancelled, never started` for a job that the server has ended and told the host about is the answer to the telling:
    the server's own reason stays.
    """
    if not outcome.status.terminal:
        return Step(state, f"{outcome.status} is not an outcome")
    if state.status.terminal and state.verdict_by == "agent":
        same = _outcome(state) == outcome if state.told is None else state.told == fingerprint(outcome)
        return Step(state, None if same else f"the agent had already said {state.status}, now {outcome.status}")
    if state.status.terminal and outcome.status is Status.CANCELLED and started_at is None:
        return Step(replace(state, tell_host=False, sent_at=state.sent_at or now))
    judged = judge(outcome)
    return Step(
        replace(
            state,
            status=judged.status,
            verdict_by="agent",
            sent_at=state.sent_at or now,
            started_at=started_at or state.started_at,
            finished_at=finished_at,
            exit_code=judged.exit_code,
            snapshot_id=judged.snapshot_id,
            error=judged.error,
            stats=judged.stats,
            result=judged.result,
            tell_host=False,
            told=None if judged == outcome else fingerprint(outcome),
        )
    )


def apply_claim(state: JobState, *, now: datetime) -> Step:
    """Given the agent's word at hello that it has this job, return the step: the server must not send it as new."""
    return Step(state if state.sent_at else replace(state, sent_at=now))


def apply_cancel_request(state: JobState, *, reason: str, host_knows_slot: bool, now: datetime) -> Step:
    """Given an operator's wish, return the step; raise ConflictError when the job is over.

    Never sent: cancelled at once, and the host is told where it holds the slot (host_knows_slot). Sent: only the host
    can say how it ended, so the request is kept and repeated until it does.
    """
    if state.status.terminal:
        raise ConflictError(f"the job is already over ({state.status}): there is nothing to cancel")
    if state.cancel_requested_at is None:
        state = replace(state, cancel_requested_at=now, cancel_reason=reason)
    if state.sent_at is not None or state.status is Status.RUNNING:
        return Step(state)
    return apply_server_end(
        state,
        Status.CANCELLED,
        Failure(code="cancelled", message=f"cancelled before it was sent to its host: {reason}"),
        tell_host=host_knows_slot,
        now=now,
    )


def apply_cancel_expired(state: JobState) -> Step:
    """Given that a wish to cancel has waited too long for its host, return the step that drops it."""
    return Step(replace(state, cancel_requested_at=None, cancel_reason=None))


def apply_server_end(state: JobState, status: Status, error: Failure, *, tell_host: bool, now: datetime) -> Step:
    """Given an outcome the server gives by itself (with its evidence in `error`), return the step.

    Changes nothing about a job that is over.
    """
    if not status.terminal:
        raise ValueError(f"{status} is not an outcome")
    if state.status.terminal:
        return Step(state)
    return Step(
        replace(state, status=status, verdict_by="server", finished_at=now, error=error, tell_host=tell_host),
    )


def annotated(state: JobState, text: str) -> JobState:
    """Given a job that failed by its agent's word, return it with what the server knows of that in its message."""
    if state.error is None:
        raise ValueError("only what went wrong can be told more of")
    told = state.told or fingerprint(_outcome(state))
    error = replace(state.error, message=f"{state.error.message} {text}"[:_LONGEST_MESSAGE])
    return replace(state, error=error, told=told)


def made_repository(status: Status, error: Failure | None) -> bool:
    """Given how an init ended, return whether its repository is there now, so that those who wait may go on."""
    return status in {Status.SUCCEEDED, Status.WARNING} or (error is not None and error.code == REPO_EXISTS)


def _outcome(state: JobState) -> Outcome:
    return Outcome(
        status=state.status,
        exit_code=state.exit_code,
        error=state.error,
        snapshot_id=state.snapshot_id,
        stats=state.stats,
        result=state.result,
    )
