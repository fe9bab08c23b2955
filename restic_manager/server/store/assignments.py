"""Who runs what when, as read: the intervals of every (schedule, host), and the schedule set of one host.

The set is what `schedule.set` says to that host: what is in force, what has ended since the version it applied, and
standing orders with the secrets they need. Changes are `membership`. It refuses to know sessions and when to send.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, func, select

from restic_manager.domain.lock_waits import with_lock_wait
from restic_manager.domain.model import Kind, Offline, RepoAccess, Timing, Turn
from restic_manager.domain.specs import needs_programs
from restic_manager.protocol.codec import encode_entry
from restic_manager.protocol.messages import (
    CAP_HOOKS,
    MAX_ENTRIES_TEXT,
    Ended,
    Entry,
    RefusedEntry,
    ScheduleAck,
    ScheduleSet,
    StandingOrder,
)
from restic_manager.server.store import closing, identity, repos, turns
from restic_manager.server.store.references import chunks
from restic_manager.server.store.repo_secrets import Unseal
from restic_manager.server.store.schedules import ScheduleRow, row_of
from restic_manager.server.store.schema import assignments, fates, hosts, schedules

_ENDED_TEXT = 160
"""About how many characters one ended entry takes in a message."""


class Assignment(Struct, frozen=True, kw_only=True):
    """One interval of one (schedule, host): its slots are those in (valid_from, valid_to]; null while in force.

    turns: what it becomes by itself. While it is in force, it ends where the first of these begins.
    """

    schedule_id: str
    host_id: str
    revision: int
    timing: Timing
    enabled: bool
    off_reason: str | None
    valid_from: datetime
    valid_to: datetime | None
    turns: tuple[Turn, ...] = ()


def of(tx: Connection, schedule_id: str, host_id: str) -> list[Assignment]:
    """Given a schedule and a host, return all its intervals, the oldest first."""
    query = select(assignments).where(assignments.c.schedule_id == schedule_id, assignments.c.host_id == host_id)
    query = query.order_by(assignments.c.id)
    return [_assignment(row) for row in tx.execute(query).mappings()]


def in_force(tx: Connection, schedule_ids: Sequence[str]) -> dict[str, list[Assignment]]:
    """Given schedules, return by id what is in force of each, one a host."""
    found: dict[str, list[Assignment]] = {schedule_id: [] for schedule_id in schedule_ids}
    for part in chunks(schedule_ids):
        query = select(assignments).where(assignments.c.schedule_id.in_(part), assignments.c.valid_to.is_(None))
        for row in tx.execute(query).mappings():
            found[row["schedule_id"]].append(_assignment(row))
    return found


def hosts_of(tx: Connection, schedule_id: str) -> list[str]:
    """Given a schedule, return the ids of the hosts that run it now."""
    query = (
        select(assignments.c.host_id)
        .where(assignments.c.schedule_id == schedule_id, assignments.c.valid_to.is_(None))
        .order_by(assignments.c.host_id)
    )
    return list(tx.execute(query).scalars())


def schedule_set(
    tx: Connection,
    host_id: str,
    *,
    epoch: str,
    standing_orders: bool,
    unseal: Unseal,
    now: datetime,
    references: bool = True,
) -> tuple[int, list[Entry], list[Ended]]:
    """Given a host, return the version of its set, every entry of it, and what ended since the version it has applied.

    decided_through is never after `now`: a clock that was fast has decided more than it could know. epoch: this
    store's. standing_orders: whether this agent runs them; only then secrets are opened. references:
    whether it looks up what they only refer to; it gets no other orders then.
    """
    host = tx.execute(
        select(
            hosts.c.schedule_version,
            hosts.c.applied_schedule_version,
            hosts.c.applied_epoch,
            hosts.c.restic_host,
            hosts.c.capabilities,
        ).where(hosts.c.id == host_id)
    ).one()
    # Of this revision: what a host that was away told of an old one's slots, after that had ended, says nothing of the
    # new one's.
    decided = (
        select(func.max(fates.c.last_slot))
        .where(
            fates.c.schedule_id == assignments.c.schedule_id,
            fates.c.host_id == assignments.c.host_id,
            fates.c.revision == assignments.c.revision,
            fates.c.last_slot > assignments.c.valid_from,  # where the index ends the search
        )
        .scalar_subquery()
    )
    mine = select(assignments, decided.label("decided_through")).where(
        assignments.c.host_id == host_id, assignments.c.valid_to.is_(None)
    )
    found = {row["schedule_id"]: row for row in tx.execute(mine).mappings()}
    capabilities = msgspec.json.decode(host.capabilities, type=tuple[str, ...])
    opened: dict[str, RepoAccess] = {}
    entries: list[Entry] = []
    for schedule in _schedules(tx, list(found)):
        row = found[schedule.id]
        order = None
        # Only a backup adds to a repository and asks nobody: everything else needs the server, which knows who else is
        # there, and which retention and which part of the data it is about.
        offline = schedule.offline if schedule.kind is Kind.BACKUP else Offline.WAIT
        programs = schedule.hooks is not None or needs_programs(schedule.spec)
        if programs and CAP_HOOKS not in capabilities:
            offline = Offline.WAIT  # it would run without them; the server tells it, and everybody, why not
        if standing_orders and offline is Offline.RUN:
            if schedule.repo_id not in opened:
                opened[schedule.repo_id] = repos.access(tx, schedule.repo_id, unseal)
            if references or not opened[schedule.repo_id].referenced:
                order = StandingOrder(
                    spec=schedule.spec,
                    repo=opened[schedule.repo_id],
                    restic_host=host.restic_host,
                    limits=with_lock_wait(schedule.limits, schedule.kind),
                    hooks=schedule.hooks,
                )
        entries.append(
            Entry(
                schedule_id=schedule.id,
                name=schedule.name,
                revision=row["revision"],
                timing=_timing(row),
                enabled=row["enabled"],
                off_reason=row["off_reason"],
                overlap=schedule.overlap,
                offline=offline,
                max_lateness=schedule.max_lateness,
                effective_from=row["valid_from"],
                decided_through=None if row["decided_through"] is None else min(row["decided_through"], now),
                standing_order=order,
                turns=turns.read(row["turns"]),
            )
        )
    # An agent that has applied nothing has nothing that could have ended; one of another epoch may have anything.
    known = host.applied_schedule_version if host.applied_epoch == epoch else 0
    ended = [] if host.applied_epoch is None else _ended(tx, host_id, since=known, but_not=found.keys())
    return host.schedule_version, entries, ended


def set_message_parts(version: int, epoch: str, entries: Iterable[Entry], ended: Iterable[Ended]) -> list[ScheduleSet]:
    """Given a set, return the messages that carry it, each about MAX_ENTRIES_TEXT characters at most, at least one."""
    parts: list[tuple[list[msgspec.Raw], list[Ended]]] = [([], [])]
    room = MAX_ENTRIES_TEXT

    def take(size: int) -> tuple[list[msgspec.Raw], list[Ended]]:
        nonlocal room
        if size > room and room < MAX_ENTRIES_TEXT:
            parts.append(([], []))
            room = MAX_ENTRIES_TEXT
        room -= size
        return parts[-1]

    for entry in entries:
        raw = encode_entry(entry)
        take(len(memoryview(raw)) + 1)[0].append(raw)
    for gone in ended:
        take(_ENDED_TEXT)[1].append(gone)
    return [
        ScheduleSet(epoch=epoch, version=version, part=number, parts=len(parts), entries=tuple(some), ended=tuple(gone))
        for number, (some, gone) in enumerate(parts, start=1)
    ]


def note_ack(tx: Connection, host_id: str, ack: ScheduleAck, now: datetime) -> None:
    """Given what an agent says it has applied, keep that, and the entries it cannot use; close what it is rid of."""
    note_applied(tx, host_id, epoch=ack.epoch, version=ack.version, now=now)
    tx.execute(
        hosts.update()
        .where(hosts.c.id == host_id)
        .values(
            applied_schedule_version=ack.version,
            applied_epoch=ack.epoch,
            refused_entries=msgspec.json.encode(ack.refused).decode(),
            last_seen_at=now,
        )
    )


def note_applied(tx: Connection, host_id: str, *, epoch: str | None, version: int, now: datetime) -> None:
    """Given which set an agent has applied, close the slots of intervals that ended since the one known so far.

    Belongs before that knowledge is replaced: in an ack, and in a hello, which says it when the ack was lost.
    """
    known = tx.execute(select(hosts).where(hosts.c.id == host_id)).one()
    if epoch is None or epoch != identity.epoch(tx):
        return
    since = known.applied_schedule_version if known.applied_epoch == epoch else 0
    if version > since:
        refused = msgspec.json.decode(known.refused_entries, type=tuple[RefusedEntry, ...])
        closing.close_ended(
            tx,
            host_id,
            since=since,
            through=version,
            refused={entry.schedule_id: entry.reason for entry in refused},
            clock_offset=known.clock_offset or 0.0,
            now=now,
        )


def _schedules(tx: Connection, schedule_ids: Sequence[str]) -> list[ScheduleRow]:
    found: list[ScheduleRow] = []
    for part in chunks(schedule_ids):
        query = select(schedules).where(schedules.c.id.in_(part))
        found += [row_of(row) for row in tx.execute(query).mappings()]
    return sorted(found, key=lambda schedule: schedule.name)


def _ended(tx: Connection, host_id: str, *, since: int, but_not: Iterable[str]) -> list[Ended]:
    """What the host ran in a version after `since` and does not run now, with when it ended."""
    query = (
        select(assignments.c.schedule_id, func.max(assignments.c.valid_to).label("ended_at"))
        .where(assignments.c.host_id == host_id, assignments.c.ended_version > since)
        .group_by(assignments.c.schedule_id)
        .order_by(assignments.c.schedule_id)
    )
    running = set(but_not)
    return [
        Ended(schedule_id=row.schedule_id, ended_at=row.ended_at)
        for row in tx.execute(query)
        if row.schedule_id not in running
    ]


def _timing(row: Any) -> Timing:
    return Timing(cron=row["cron"], timezone=row["timezone"], anchor=row["anchor"], splay=row["splay"])


def _assignment(row: Any) -> Assignment:
    return Assignment(
        schedule_id=row["schedule_id"],
        host_id=row["host_id"],
        revision=row["revision"],
        timing=_timing(row),
        enabled=row["enabled"],
        off_reason=row["off_reason"],
        valid_from=row["valid_from"],
        valid_to=row["valid_to"],
        turns=turns.read(row["turns"]),
    )
