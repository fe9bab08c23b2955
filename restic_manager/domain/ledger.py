"""The ledger as it is read: every slot of a schedule on a host up to now, each in exactly one entry.

What was recorded is taken as it is; what no row holds yet is said from what the server knows: skipped while disabled,
unknown while the host is away, pending while it is there. Decides from values alone; it refuses to know rows, names and
sentences.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from msgspec import Struct

from restic_manager.domain.firing import OFFSET_LIMIT, Interval
from restic_manager.domain.instants import slot_text
from restic_manager.domain.model import Evidence, Fate, Status
from restic_manager.domain.spans import SECOND, Stretch, carve, shifted, slots_of, timetable

PAST_DUE: Final = timedelta(seconds=60)
"""A slot not heard of this long after it was to run is past due."""
NEVER_TOLD: Final = timedelta(days=7)
"""A slot a connected host has not told of for this long, while it told of later ones, is given up."""


class EntryFate(StrEnum):
    """What an entry says of its slots: a recorded fate, or that there is none yet."""

    RAN = "ran"
    COALESCED = "coalesced"
    MISSED = "missed"
    SKIPPED = "skipped"
    REJECTED = "rejected"
    PENDING = "pending"
    UNKNOWN = "unknown"


class Fated(Struct, frozen=True, kw_only=True):
    """One recorded fate: slots from first to last of a revision. `by`: who recorded it, the agent or the server."""

    first: datetime
    last: datetime
    count: int
    revision: int
    fate: Fate
    reason: str | None = None
    job_id: str | None = None
    into: datetime | None = None
    evidence: Evidence | None = None
    by: str = "agent"


class Chain(Struct, frozen=True):
    """A slot's job and its further attempts, in order, and where the newest of them stands."""

    attempts: tuple[str, ...]
    status: Status


class Presence(Struct, frozen=True, kw_only=True):
    """How a host is to be heard. away_since: when it was last heard; None if never, or while it is there.

    refused: why its agent cannot use the schedule as it is now. clock_offset: seconds its clock is ahead of ours.
    """

    online: bool
    away_since: datetime | None = None
    removed: bool = False
    refused: str | None = None
    clock_offset: float = 0.0


class Entry(Struct, frozen=True, kw_only=True):
    """One fate and the slots it is the fate of."""

    first: datetime
    last: datetime
    count: int
    fate: EntryFate
    revision: int
    reason: str | None = None
    job_id: str | None = None
    into: datetime | None = None
    evidence: Evidence | None = None
    attempts: tuple[str, ...] = ()
    status: Status | None = None


def read(
    intervals: Sequence[Interval],
    fated: Sequence[Fated],
    chains: Mapping[str, Chain],
    *,
    since: datetime,
    until: datetime,
    now: datetime,
    presence: Presence,
    decided_through: datetime | None,
) -> list[Entry]:
    """Given what is known of one schedule on one host, return the entries of its slots in [since, until], oldest first.

    intervals: all it ever had. fated: every row with a slot in [since, until], in order; such a row is told whole.
    chains: by the rows' job ids. decided_through: the newest slot that has a fate. Slots not due yet are not listed.
    """
    entries = [_recorded(row, chains) for row in fated]
    taken = [Stretch(row.first, row.last) for row in fated]
    lasts = [stretch.last for stretch in taken]
    here = _host_now(now, presence)
    for interval in shifted(intervals, presence.clock_offset):
        after = max(interval.valid_from, since - SECOND)
        through = min(until, here - timedelta(seconds=interval.timing.splay))
        if interval.valid_to is not None:
            through = min(through, interval.valid_to)
        if after >= through:
            continue
        for low, high in carve(after, through, taken[bisect_left(lasts, after) :]):
            entries += _open(interval, low, high, here=here, presence=presence, decided_through=decided_through)
    return sorted(entries, key=lambda entry: entry.first)


def _recorded(row: Fated, chains: Mapping[str, Chain]) -> Entry:
    chain = None if row.job_id is None else chains.get(row.job_id)
    return Entry(
        first=row.first,
        last=row.last,
        count=row.count,
        fate=EntryFate(row.fate.value),
        revision=row.revision,
        reason=row.reason,
        job_id=row.job_id,
        into=row.into,
        evidence=row.evidence,
        attempts=() if chain is None else chain.attempts,
        status=None if chain is None else chain.status,
    )


def _open(
    interval: Interval,
    after: datetime,
    through: datetime,
    *,
    here: datetime,
    presence: Presence,
    decided_through: datetime | None,
) -> list[Entry]:
    """Return the entries of the slots in (after, through] of an interval, none of which has a recorded fate."""
    overdue = here - timedelta(seconds=interval.timing.splay) - PAST_DUE
    given_up = min(overdue, here - NEVER_TOLD)
    if decided_through is not None:
        given_up = min(given_up, decided_through)
    parts: list[tuple[datetime, EntryFate, str | None]] = []
    if not interval.enabled:
        parts.append((through, EntryFate.SKIPPED, interval.off_reason or "disabled"))
    elif presence.removed:
        parts.append((through, EntryFate.MISSED, "the host was removed before it told what became of it"))
    elif presence.refused is not None and interval.valid_to is None:
        parts.append((through, EntryFate.REJECTED, f"its agent cannot use the schedule: {presence.refused}"))
    else:
        if not presence.online:
            parts.append((overdue, EntryFate.UNKNOWN, _away(presence)))
        elif decided_through is not None:
            parts.append((given_up, EntryFate.MISSED, "the host has told of later slots, and never of this"))
        parts.append((through, EntryFate.PENDING, None))
    entries: list[Entry] = []
    table = timetable(interval.timing)
    for end, fate, reason in parts:
        found = None if table is None else slots_of(table, after, min(end, through))
        if found is not None:
            entries.append(
                Entry(
                    first=found.first,
                    last=found.last,
                    count=found.count,
                    fate=fate,
                    revision=interval.revision,
                    reason=reason,
                )
            )
        after = max(after, min(end, through))
    return entries


def _away(presence: Presence) -> str:
    if presence.away_since is None:
        return "host away: it has never been connected"
    return f"host away since {slot_text(presence.away_since)}"


def _host_now(now: datetime, presence: Presence) -> datetime:
    """Return what the host's clock says now, as far as its word is taken: its slots are due by that."""
    offset = timedelta(seconds=presence.clock_offset)
    return now + max(-OFFSET_LIMIT, min(OFFSET_LIMIT, offset))
