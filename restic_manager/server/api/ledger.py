"""`/v1/schedules/{ref}/history` and `…/why`: what became of every slot, and of one. Thin over `store.ledger`.

A schedule or host that was removed can be asked about too: its history stays.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct
from sqlalchemy import Connection

from restic_manager.domain.errors import InputError, NotFoundError
from restic_manager.domain.ledger import Entry
from restic_manager.domain.model import Instant
from restic_manager.domain.telling import sentence
from restic_manager.protocol.api import HistoryEntry, WhyView
from restic_manager.server.api.operations import Call, Operation
from restic_manager.server.services import Services
from restic_manager.server.store import hosts, ledger, schema
from restic_manager.server.store.fates import Pair
from restic_manager.server.store.hosts import HostRow
from restic_manager.server.store.references import names_of, resolve_ever


class HistoryQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of the history: of one host, slots from `since` to `until`, at most `limit` entries."""

    host: str | None = None
    since: Instant | None = None
    until: Instant | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100


class WhyQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which slot: RFC 3339, or the clock on the wall in the schedule's zone; on which host, where there are several."""

    at: Annotated[str, Meta(min_length=1, max_length=64)]
    host: str | None = None


async def history(services: Services, call: Call[None, HistoryQuery]) -> list[HistoryEntry]:
    """Return the newest entries."""
    now, online, query = services.clock.now(), services.hub.online_hosts(), call.query

    def ask(tx: Connection) -> list[HistoryEntry]:
        schedule_id = resolve_ever(tx, schema.schedules, call.path["ref"], "schedule")
        found = ledger.page(
            tx,
            schedule_id,
            _hosts(tx, schedule_id, query.host),
            since=query.since,
            until=query.until or now,
            limit=query.limit,
            now=now,
            online=online,
        )
        return [_view(placed.entry, placed.host.name) for placed in found]

    return await services.store.read(ask)


async def why(services: Services, call: Call[None, WhyQuery]) -> WhyView:
    """Return what became of one slot."""
    now, online, query = services.clock.now(), services.hub.online_hosts(), call.query
    return await services.store.read(lambda tx: _why(tx, call.path["ref"], query, now=now, online=online))


def _why(tx: Connection, reference: str, query: WhyQuery, *, now: datetime, online: frozenset[str]) -> WhyView:
    schedule_id = resolve_ever(tx, schema.schedules, reference, "schedule")
    name = names_of(tx, schema.schedules, [schedule_id])[schedule_id]
    candidates = _hosts(tx, schedule_id, query.host)
    if not candidates:
        raise NotFoundError(f"schedule {name} never had a host: it has no slots")
    if len(candidates) > 1:
        shown = ", ".join(host.name for host in candidates[:5])
        more = f" and {len(candidates) - 5} more" if len(candidates) > 5 else ""
        raise InputError(f"{name} has slots on {len(candidates)} hosts ({shown}{more}): say which one with --host")
    (host,) = candidates
    pair = Pair(schedule_id, host.id)
    slot, timing = ledger.find_slot(tx, pair, query.at, host=host)
    story = ledger.story(tx, pair, slot, timing, host=host, now=now, online=online)
    return WhyView(
        sentence=sentence(story),
        schedule=name,
        host=host.name,
        slot=slot,
        local=slot.astimezone(ZoneInfo(timing.timezone)).isoformat(),
        coalesced=story.coalesced,
        entry=_planned(slot, host.name) if story.entry is None else _view(story.entry, host.name),
    )


def _hosts(tx: Connection, schedule_id: str, reference: str | None) -> list[HostRow]:
    """Return the hosts whose slots are asked for."""
    ever = hosts.of_schedule(tx, schedule_id)
    if reference is None:
        return ever
    host_id = resolve_ever(tx, schema.hosts, reference, "host")
    found = [host for host in ever if host.id == host_id]
    if not found:
        raise NotFoundError(f"host {reference[:80]!r} does not have this schedule, and never had")
    return found


def _view(entry: Entry, host: str) -> HistoryEntry:
    return HistoryEntry(
        slot=entry.first,
        last_slot=None if entry.count == 1 else entry.last,
        fate=entry.fate.value,
        count=entry.count,
        job_id=entry.job_id,
        host=host,
        reason=entry.reason,
        into=entry.into,
        evidence=entry.evidence,
        attempts=entry.attempts,
        status=entry.status,
    )


def _planned(slot: datetime, host: str) -> HistoryEntry:
    return HistoryEntry(
        slot=slot,
        last_slot=None,
        fate="planned",
        count=1,
        job_id=None,
        host=host,
        reason=None,
        into=None,
        evidence=None,
        attempts=(),
        status=None,
    )


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/schedules/{ref}/history",
        name="schedule_history",
        summary="What became of every slot up to now, the newest first, over all its hosts",
        handler=history,
        query=HistoryQuery,
        response=list[HistoryEntry],
    ),
    Operation(
        method="GET",
        path="/v1/schedules/{ref}/why",
        name="schedule_why",
        summary="What became of one slot, in one sentence with the evidence",
        handler=why,
        query=WhyQuery,
        response=WhyView,
    ),
)
