"""What became of one slot, in one sentence with the evidence. Decides the words; refuses to know rows and the present.

Times are told in the schedule's own zone, as HH:MM, with the date where it is not the slot's.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from restic_manager.domain.ledger import Entry, EntryFate
from restic_manager.domain.model import Evidence, Status
from restic_manager.domain.planning import ON_TIME

_WHAT: Final = {
    "not_running": "the agent was not running",
    "suspended": "the host was suspended",
    "clock_back": "the host's clock had been set back",
}


class Attempt(Struct, frozen=True, kw_only=True):
    """One job of a slot: its id, where it stands, why it did not succeed (a code), and when it ran."""

    job_id: str
    status: Status
    code: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class Story(Struct, frozen=True, kw_only=True):
    """All there is to say of one slot. splay: seconds it runs later than the slot, by plan.

    attempts: the slot's jobs in order. coalesced: how many earlier slots it
    stands for. before: the run of the same schedule that it waited for, if it did. successor: of a coalesced slot, the
    entry of the slot that took its place, with that slot's attempts.
    """

    host: str
    timezone: str
    slot: datetime
    splay: int
    entry: Entry | None
    catch_up: bool = False
    attempts: tuple[Attempt, ...] = ()
    coalesced: int = 0
    before: Attempt | None = None
    successor: Entry | None = None
    successor_attempts: tuple[Attempt, ...] = ()


def sentence(story: Story) -> str:
    """Given what is known of a slot, return the sentence. An entry of None: the slot is still to come."""
    clock = _Clock(story)
    head = f"{clock.slot_time()} on {story.host}: "
    entry = story.entry
    if entry is None:
        runs_at = story.slot + timedelta(seconds=story.splay)
        return head + (
            "still to come" if not story.splay else f"still to come, planned to run at {clock.time(runs_at)}"
        )
    match entry.fate:
        case EntryFate.RAN:
            clauses = [_evidence(clock, entry.evidence), *_ran(clock, story)]
        case EntryFate.COALESCED:
            clauses = [_evidence(clock, entry.evidence), *_coalesced(clock, story, entry)]
        case EntryFate.UNKNOWN:
            clauses = [f"what became of it is unknown: {entry.reason}"]
        case EntryFate.PENDING:
            clauses = ["due, and not decided yet; the host is there"]
            if story.before is not None:
                clauses.append(f"job {_short(story.before.job_id)} of the slot before is still {story.before.status}")
        case _:
            clauses = [_evidence(clock, entry.evidence), f"{entry.fate}: {entry.reason or 'no reason was given'}"]
            if story.before is not None:
                clauses.append(_still(clock, story.before))
    return head + "; ".join(clause for clause in clauses if clause)


class _Clock:
    """The clock on the wall of one story."""

    def __init__(self, story: Story) -> None:
        self._zone = ZoneInfo(story.timezone)
        self._slot = story.slot.astimezone(self._zone)

    def slot_time(self) -> str:
        """Return the slot's own time, with the zone as people there call it."""
        name = self._slot.tzname() or ""
        return f"{_clock_text(self._slot)} {f'UTC{name}' if name[:1] in '+-' else name}"

    def time(self, instant: datetime) -> str:
        """Return an instant's time, with its date where that is not the slot's."""
        local = instant.astimezone(self._zone)
        text = _clock_text(local) if self._slot.second else f"{local:%H:%M}"
        return text if local.date() == self._slot.date() else f"{local:%Y-%m-%d} {text}"


def _clock_text(local: datetime) -> str:
    return f"{local:%H:%M:%S}" if local.second else f"{local:%H:%M}"


def _evidence(clock: _Clock, evidence: Evidence | None) -> str:
    if evidence is None:
        return ""
    what = _WHAT.get(evidence.what, evidence.what)
    if evidence.since is not None and evidence.until is not None:
        return f"{what} {clock.time(evidence.since)}–{clock.time(evidence.until)}"  # noqa: RUF001 - a range of times
    if evidence.since is not None:
        return f"{what} from {clock.time(evidence.since)} on"
    return what if evidence.until is None else f"{what} until {clock.time(evidence.until)}"


def _ran(clock: _Clock, story: Story) -> list[str]:
    if not story.attempts:
        return ["it ran; its job is not kept any more"]
    first, *further = story.attempts
    clauses = [_begun(clock, story, first)]
    clauses += [
        f"attempt {number}, job {_short(attempt.job_id)}, {_ended(attempt)}"
        for number, attempt in enumerate(further, start=2)
    ]
    if story.coalesced:
        slots = "1 earlier slot" if story.coalesced == 1 else f"{story.coalesced:,} earlier slots"
        clauses.append(f"{slots} coalesced into it")
    return clauses


def _begun(clock: _Clock, story: Story, first: Attempt) -> str:
    """Say when and how the slot's first job began, and how it ended."""
    job = f"job {_short(first.job_id)}"
    if first.started_at is None:
        return f"became {job}, which {_ended(first)}" + ("" if first.status.terminal else " and has not begun")
    at = clock.time(first.started_at)
    late = first.started_at - (story.slot + timedelta(seconds=story.splay)) > ON_TIME
    if story.catch_up:
        how = f"caught up at {at} as {job}"
    elif story.before is not None and story.before.finished_at is not None:
        before = f"job {_short(story.before.job_id)} of the slot before"
        how = f"waited for {before} until {clock.time(story.before.finished_at)}; ran at {at} as {job}"
    elif late:
        how = f"ran late, at {at}, as {job}"
    else:
        how = f"ran on time as {job}"
    return f"{how}, which {_ended(first)}"


def _coalesced(clock: _Clock, story: Story, entry: Entry) -> list[str]:
    if entry.into is None:
        return [f"coalesced: {entry.reason or 'a later slot took its place'}"]
    into = f"coalesced into {clock.time(entry.into)}"
    if story.successor is None:
        return [into]
    if not story.successor_attempts:
        return [f"{into}, which was {story.successor.fate}"]
    first = story.successor_attempts[0]
    if first.started_at is None:
        return [f"{into}, which became job {_short(first.job_id)} ({first.status})"]
    return [f"{into}, which ran at {clock.time(first.started_at)} as job {_short(first.job_id)}"]


def _still(clock: _Clock, before: Attempt) -> str:
    job = f"job {_short(before.job_id)}"
    if before.finished_at is None:
        return f"{job} is still {before.status}"
    return f"{job} ran until {clock.time(before.finished_at)}"


def _ended(attempt: Attempt) -> str:
    if not attempt.status.terminal:
        return f"is {attempt.status}"
    verb = {
        Status.SUCCEEDED: "succeeded",
        Status.WARNING: "ended with a warning",
        Status.FAILED: "failed",
        Status.CANCELLED: "was cancelled",
        Status.INTERRUPTED: "was interrupted",
    }[attempt.status]
    return f"{verb} ({attempt.code})" if attempt.code and attempt.status is Status.FAILED else verb


def _short(job_id: str) -> str:
    return f"{job_id[:8]}…"
