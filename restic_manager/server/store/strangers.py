"""Other programs' work on a repository: snapshots that came or went without a job of ours that explains it.

Decides what explains what, and writes the rest down as one event. Better silent than wrong: where a job of ours may
have done it and does not say (it was cut off, or counts more than it names), it is taken for done by it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import Connection, Table, select

from restic_manager.domain.model import Kind, Status
from restic_manager.domain.results import ForgetStats, Result
from restic_manager.server.store import events
from restic_manager.server.store.job_rows import parts
from restic_manager.server.store.references import names_of
from restic_manager.server.store.schema import hosts, jobs, repos, schedules

EVENT: Final = "snapshots_changed"
"""What the event is called."""

_CHANGING: Final = (Kind.FORGET.value, Kind.TAG.value, Kind.COPY.value)
_LOOKED_AT: Final = 2_000
"""Jobs of a repository that are looked at; where there were more since the last list, nothing is said to be missing."""
_SLACK: Final = timedelta(hours=1)
"""Hosts' clocks, by which the ends of jobs are told, may be off so far."""
_NAMED: Final = 5
_result: Final[msgspec.json.Decoder[Result]] = msgspec.json.Decoder(Result)


class Came(NamedTuple):
    """A snapshot that was not there before."""

    id: str
    restic_host: str
    schedule_id: str | None
    job_id: str | None
    original: str | None


class Gone(NamedTuple):
    """A snapshot that is not there any more."""

    id: str
    original: str | None


class _Works(NamedTuple):
    """What our jobs may have done to the list: removed these; or (vague) nobody knows what. moved: new ids for old."""

    removed: set[str]
    vague: bool
    moved: bool


def note(
    tx: Connection, repo_id: str, *, came: Sequence[Came], gone: Sequence[Gone], since: datetime, now: datetime
) -> None:
    """Given what differs from the list as of `since`, record an event if something of it is not our doing."""
    foreign = _foreign(tx, came)
    if not foreign and not gone:
        return
    works = _works(tx, repo_id, since)
    if works.moved:
        foreign = [one for one in foreign if one.original is None]
    lengths = {len(id_) for id_ in works.removed}
    successors = {one.original for one in came if one.original is not None} if works.moved else set()
    missing = [
        one
        for one in gone
        if not works.vague
        and not any(one.id[:length] in works.removed for length in lengths)
        and not {one.id, one.original} & successors
    ]
    said = [
        *([f"{_plural(len(foreign))} came ({_listed(one.id for one in foreign)})"] if foreign else []),
        *([f"{_plural(len(missing))} went ({_listed(one.id for one in missing)})"] if missing else []),
    ]
    if said:
        name = names_of(tx, repos, [repo_id])[repo_id]
        detail = f"repository {name}: {' and '.join(said)} that no job of ours explains: something else works on it"
        events.record(tx, now=now, actor="server", what=EVENT, detail=detail)


def _foreign(tx: Connection, came: Sequence[Came]) -> list[Came]:
    """Return those that carry no tag of ours: neither of a job we know, nor of a schedule and a host we know."""
    known_jobs = _known(tx, jobs, {one.job_id for one in came if one.job_id is not None})
    rest = [one for one in came if one.job_id not in known_jobs]
    # A host that was cut off makes snapshots of which we hear later; a job's row is pruned before its snapshot.
    ours = _known(tx, schedules, {one.schedule_id for one in rest if one.schedule_id is not None})
    of_hosts = _restic_hosts(tx, {one.restic_host for one in rest})
    return [one for one in rest if one.schedule_id not in ours or one.restic_host not in of_hosts]


def _works(tx: Connection, repo_id: str, since: datetime) -> _Works:
    query = (
        select(jobs.c.kind, jobs.c.status, jobs.c.sent_at, jobs.c.finished_at, jobs.c.result)
        .where(jobs.c.repo_id == repo_id, jobs.c.kind.in_(_CHANGING))
        .order_by(jobs.c.serial.desc())
        .limit(_LOOKED_AT)
    )
    rows = [row for row in tx.execute(query) if row.sent_at is not None]
    lately = [row for row in rows if row.finished_at is None or row.finished_at >= since - _SLACK]
    works = _Works(set(), len(lately) == _LOOKED_AT, any(row.kind != Kind.FORGET.value for row in lately))
    for row in lately:
        if row.kind != Kind.FORGET.value:
            continue
        result = None if row.result is None else _result.decode(row.result)
        if isinstance(result, ForgetStats):
            if result.dry_run:
                continue
            works.removed.update(result.removed_ids)
            works = works._replace(vague=works.vague or result.removed > len(result.removed_ids))
        elif row.sent_at is not None and row.status != Status.SUCCEEDED.value:
            works = works._replace(vague=True)
    return works


def _known(tx: Connection, table: Table, ids: Collection[str]) -> set[str]:
    return {
        id_
        for part in parts(sorted(ids))
        for id_ in tx.execute(select(table.c.id).where(table.c.id.in_(part))).scalars()
    }


def _restic_hosts(tx: Connection, names: Collection[str]) -> set[str]:
    return {
        name
        for part in parts(sorted(names))
        for name in tx.execute(select(hosts.c.restic_host).where(hosts.c.restic_host.in_(part))).scalars()
    }


def _plural(count: int) -> str:
    return "1 snapshot" if count == 1 else f"{count:,} snapshots"


def _listed(ids: Iterable[str]) -> str:
    shown = [id_[:8] for id_ in ids]
    more = f" and {len(shown) - _NAMED:,} more" if len(shown) > _NAMED else ""
    return ", ".join(shown[:_NAMED]) + more
