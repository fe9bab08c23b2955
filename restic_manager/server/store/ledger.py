"""The ledger as it is asked for: a page of one schedule's history, and everything about one slot.

Asks the rows for as much as a page needs, never for more; what the slots without a row are, `domain.ledger` decides.
"""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection, func, select

from restic_manager.domain import ledger
from restic_manager.domain.errors import InputError, NotFoundError
from restic_manager.domain.firing import Interval
from restic_manager.domain.instants import parse_instant, slot_text
from restic_manager.domain.ledger import Chain, Entry, EntryFate, Fated, Presence
from restic_manager.domain.model import Fate, Timing
from restic_manager.domain.spans import shifted, timetable
from restic_manager.domain.telling import Attempt, Story
from restic_manager.server.store import fates, history, job_rows
from restic_manager.server.store.fates import Pair
from restic_manager.server.store.hosts import HostRow
from restic_manager.server.store.intervals import of_pair
from restic_manager.server.store.job_rows import JobRow, parts
from restic_manager.server.store.schema import fates as fate_rows
from restic_manager.server.store.schema import jobs as job_table

NEAR: Final = timedelta(minutes=1)
"""How far an instant asked about may be from the slot that is meant."""
_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Placed(Struct, frozen=True):
    """An entry, and the host whose slots it is about."""

    host: HostRow
    entry: Entry


def page(
    tx: Connection,
    schedule_id: str,
    of: Sequence[HostRow],
    *,
    since: datetime | None,
    until: datetime,
    limit: int,
    now: datetime,
    online: Container[str],
) -> list[Placed]:
    """Given a schedule and hosts, return the newest entries with a slot in [since, until], newest first."""
    found = [
        _of_host(tx, schedule_id, host, since=since, until=until, limit=limit, now=now, online=online) for host in of
    ]
    merged = heapq.merge(*found, key=lambda placed: placed.entry.first, reverse=True)
    newest = list(islice(merged, limit))
    known = chains(tx, [placed.entry.job_id for placed in newest if placed.entry.job_id is not None])
    return [Placed(placed.host, _with_chain(placed.entry, known)) for placed in newest]


def chains(tx: Connection, job_ids: Iterable[str]) -> dict[str, Chain]:
    """Given ids of first jobs, return each with its further attempts."""
    return {
        job_id: Chain(tuple(row.id for row in rows), rows[-1].status) for job_id, rows in _attempts(tx, job_ids).items()
    }


def find_slot(tx: Connection, pair: Pair, asked: str, *, host: HostRow) -> tuple[datetime, Timing]:
    """Given an instant as typed, return the slot it means, and the timing the slot belongs to.

    RFC 3339, or the clock on the wall in the schedule's zone (`2026-11-20 18:00`); the nearest slot within a minute.
    Raise InputError for what is no instant, NotFoundError (which names the slots around it) where there is no slot.
    """
    owned = shifted(of_pair(tx, pair).intervals, host.clock_offset or 0.0)
    choices = _instants(asked, owned[-1].timing.timezone)
    found: list[tuple[timedelta, datetime, Timing]] = []
    for instant in choices:
        for interval in owned:
            near = [slot for slot in _around(interval, instant) if abs(slot - instant) <= NEAR]
            found += [(abs(slot - instant), slot, interval.timing) for slot in near]
        for stored in fates.overlapping(tx, pair, instant - NEAR, instant + NEAR):
            near = [slot for slot in stored.stretch if abs(slot - instant) <= NEAR]
            found += [(abs(slot - instant), slot, _timing_of(stored.fate, owned)) for slot in near]
    if not found:
        raise NotFoundError(_no_slot(asked, choices[0], owned, host.name))
    _, slot, timing = min(found, key=lambda one: (one[0], one[1]))
    return slot, timing


def story(
    tx: Connection,
    pair: Pair,
    slot: datetime,
    timing: Timing,
    *,
    host: HostRow,
    now: datetime,
    online: Container[str],
) -> Story:
    """Given a slot and its timing, return all there is to say of it."""
    entry = _entry_at(tx, pair, slot, host=host, now=now, online=online)
    if entry is None and slot < history.kept_from(tx, pair, now):
        raise NotFoundError(f"what became of {slot_text(slot)} on {host.name} is too long ago: it is not kept any more")
    told = Story(host=host.name, timezone=timing.timezone, slot=slot, splay=timing.splay, entry=entry)
    if entry is None:
        return told
    jobs = _attempts(tx, [entry.job_id] if entry.job_id is not None else [])
    own = jobs.get(entry.job_id or "", [])
    told = replace(
        told,
        catch_up=bool(own) and own[0].trigger == "catch-up",
        attempts=tuple(_attempt(row) for row in own),
        coalesced=_swallowed(tx, pair, slot) if own else 0,
        before=_before(tx, pair, entry, own, timing),
    )
    if entry.into is None:
        return told
    successor = _entry_at(tx, pair, entry.into, host=host, now=now, online=online)
    if successor is None:
        return told
    of_successor = _attempts(tx, [successor.job_id] if successor.job_id is not None else [])
    rows = of_successor.get(successor.job_id or "", [])
    return replace(told, successor=successor, successor_attempts=tuple(_attempt(row) for row in rows))


def _of_host(
    tx: Connection,
    schedule_id: str,
    host: HostRow,
    *,
    since: datetime | None,
    until: datetime,
    limit: int,
    now: datetime,
    online: Container[str],
) -> list[Placed]:
    """Return the newest entries of one host, newest first, at most `limit`; their jobs are not looked up."""
    pair = Pair(schedule_id, host.id)
    rows = [stored.fate for stored in fates.page(tx, pair, since=since or _EVER, until=until, limit=limit)]
    begins = max(since or _EVER, history.kept_from(tx, pair, now))
    if len(rows) == limit:
        begins = max(begins, rows[0].first)
    entries = _read(tx, pair, rows, host=host, since=begins, until=until, now=now, online=online)
    return [Placed(host, entry) for entry in reversed(entries[-limit:])]


def _entry_at(
    tx: Connection, pair: Pair, slot: datetime, *, host: HostRow, now: datetime, online: Container[str]
) -> Entry | None:
    """Return the entry that holds a slot, None for a slot that is still to come."""
    stored = fates.at(tx, pair, slot)
    rows = [] if stored is None else [stored.fate]
    if stored is None and slot < history.kept_from(tx, pair, now):
        return None
    entries = _read(tx, pair, rows, host=host, since=slot, until=slot, now=now, online=online)
    return None if not entries else _with_chain(entries[0], chains(tx, [row.job_id for row in rows if row.job_id]))


def _read(
    tx: Connection,
    pair: Pair,
    rows: Sequence[Fated],
    *,
    host: HostRow,
    since: datetime,
    until: datetime,
    now: datetime,
    online: Container[str],
) -> list[Entry]:
    refused = next((entry.reason for entry in host.refused_entries if entry.schedule_id == pair.schedule_id), None)
    here = host.id in online
    presence = Presence(
        online=here,
        away_since=None if here else host.last_seen_at,
        removed=host.removed_at is not None,
        refused=refused,
        clock_offset=host.clock_offset or 0.0,
    )
    return ledger.read(
        of_pair(tx, pair).intervals,
        rows,
        {},
        since=since,
        until=until,
        now=now,
        presence=presence,
        decided_through=fates.newest(tx, pair, now),
    )


def _with_chain(entry: Entry, known: dict[str, Chain]) -> Entry:
    chain = None if entry.job_id is None else known.get(entry.job_id)
    return entry if chain is None else replace(entry, attempts=chain.attempts, status=chain.status)


def _attempts(tx: Connection, job_ids: Iterable[str]) -> dict[str, list[JobRow]]:
    """Return the jobs of each chain in order, by the id of its first job."""
    found: dict[str, list[JobRow]] = {}
    for part in parts(sorted(set(job_ids))):
        for column in (job_table.c.id, job_table.c.attempt_of):
            for row in tx.execute(select(job_table).where(column.in_(part))):
                job = job_rows.row_of(row)
                found.setdefault(job.attempt_of or job.id, []).append(job)
    for rows in found.values():
        rows.sort(key=lambda job: job.serial)
    return found


def _attempt(job: JobRow) -> Attempt:
    state = job.state
    return Attempt(
        job_id=job.id,
        status=job.status,
        code=None if state.error is None else state.error.code,
        started_at=state.started_at,
        finished_at=state.finished_at,
    )


def _swallowed(tx: Connection, pair: Pair, slot: datetime) -> int:
    """Return how many slots were coalesced into this one: those before it, back to the one that was decided else."""
    query = select(func.sum(fate_rows.c.count)).where(
        fate_rows.c.schedule_id == pair.schedule_id,
        fate_rows.c.host_id == pair.host_id,
        fate_rows.c.last_slot < slot,
        fate_rows.c.fate == Fate.COALESCED.value,
        fate_rows.c.into_slot == slot,
    )
    return int(tx.execute(query).scalar() or 0)


def _before(tx: Connection, pair: Pair, entry: Entry, own: Sequence[JobRow], timing: Timing) -> Attempt | None:
    """Return the run of the same schedule that was still going when this slot was due, None for none."""
    query = select(job_table).where(
        job_table.c.schedule_id == pair.schedule_id, job_table.c.host_id == pair.host_id, job_table.c.slot < entry.first
    )
    if own:
        query = query.where(job_table.c.serial < own[0].serial)
    row = tx.execute(query.order_by(job_table.c.serial.desc()).limit(1)).first()
    if row is None:
        return None
    last = _attempts(tx, [row.id])[row.id][-1]
    ended = last.state.finished_at
    due = entry.first + timedelta(seconds=timing.splay)
    overlapped = last.state.started_at is not None and (ended is None or ended > due)
    concerned = bool(own) or entry.fate is EntryFate.PENDING or (entry.reason or "").startswith("overlap")
    return _attempt(last) if overlapped and concerned else None


def _instants(asked: str, zone: str) -> list[datetime]:
    """Return the instant a text means; two where the clock on the wall shows it twice."""
    try:
        wall = datetime.fromisoformat(asked.strip().replace("\0", "NUL"))
    except ValueError:
        wall = None
    if wall is None or wall.tzinfo is not None or len(asked.strip()) <= len("2026-11-20"):
        try:
            return [parse_instant(asked.strip())]
        except InputError:
            raise InputError(
                f"{asked!r} is not an instant: write it like 2026-11-20T18:00:00Z, or 2026-11-20 18:00 in the "
                f"schedule's zone ({zone})"
            ) from None
    try:
        passes = {wall.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1)}
    except OverflowError:
        raise InputError(f"{asked!r} is not an instant: it is beyond the years 1 to 9999") from None
    return sorted(passes)


def _around(interval: Interval, instant: datetime) -> list[datetime]:
    """Return an interval's last slot at or before an instant and its first one after, those there are."""
    table = timetable(interval.timing)
    if table is None:
        return []
    ends = interval.valid_to
    earlier = table.last_through(instant if ends is None else min(instant, ends))
    later = table.first_after(max(instant, interval.valid_from))
    found = [] if earlier is None or earlier <= interval.valid_from else [earlier]
    return found if later is None or (ends is not None and later > ends) else [*found, later]


def _timing_of(fate: Fated, owned: Sequence[Interval]) -> Timing:
    return next((one.timing for one in reversed(owned) if one.revision == fate.revision), owned[-1].timing)


def _no_slot(asked: str, instant: datetime, owned: Sequence[Interval], host: str) -> str:
    slots = {slot for interval in owned for slot in _around(interval, instant)}
    zone = ZoneInfo(owned[-1].timing.timezone)
    around = [
        max((slot for slot in slots if slot <= instant), default=None),
        min((slot for slot in slots if slot > instant), default=None),
    ]
    texts = [f"{slot.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}" for slot in around if slot is not None]
    return f"there is no slot at {asked} on {host}" + (
        f": the slots around it are {' and '.join(texts)}"
        if len(texts) == 2
        else f": the nearest one is {texts[0]}"
        if texts
        else ", nor any around it"
    )
