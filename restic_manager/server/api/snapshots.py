"""`/v1/snapshots`: lists and single snapshots, as they were when their repositories were last listed.

Thin over `store.snapshots`; asking for a new list is `upkeep`. Owns how a snapshot looks to an operator: names instead
of ids and of restic's host names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final

from msgspec import Meta, Struct
from sqlalchemy import Connection, select

from restic_manager.domain.errors import InputError, NotFoundError
from restic_manager.domain.model import Instant, PathText
from restic_manager.protocol.api import ListState, SnapshotsView, SnapshotView
from restic_manager.server.api.operations import Call, Operation
from restic_manager.server.api.repo_views import why_not
from restic_manager.server.services import Services
from restic_manager.server.store import relisting, repos, schema, snapshots
from restic_manager.server.store.references import chunks, names_of, resolve_ever
from restic_manager.server.store.relisting import Asked
from restic_manager.server.store.repos import RepoRow
from restic_manager.server.store.snapshots import Place, StoredSnapshot, Wanted
from restic_manager.server.upkeep import ask_for_lists

Flag = Annotated[int, Meta(ge=0, le=1)]

_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


class SnapshotsQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which snapshots: all that fit everything that is said; removed hosts and schedules can be asked for, too.

    path: they hold it. latest, 0 or 1: only the newest of each repository, restic host and schedule. refresh, 0 or 1:
    have what is stale listed anew at once (`lists` says by which jobs). after: `next` of the page before.
    """

    host: str | None = None
    repo: str | None = None
    schedule: str | None = None
    path: PathText | None = None
    tag: str | None = None
    since: Instant | None = None
    until: Instant | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100
    latest: Flag = 0
    refresh: Flag = 0
    after: Annotated[str, Meta(max_length=256)] | None = None


class SnapshotQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """In which repository, where several have it."""

    repo: str | None = None


async def list_snapshots(services: Services, call: Call[None, SnapshotsQuery]) -> SnapshotsView:
    """Return snapshots, newest first."""
    query = call.query
    asked = await _refresh(services, query.repo) if query.refresh else {}
    online = services.hub.online_hosts()

    def question(tx: Connection) -> SnapshotsView:
        wanted = Wanted(
            repo_id=None if query.repo is None else repos.resolve(tx, query.repo).id,
            restic_host=None if query.host is None else _restic_host(tx, query.host),
            schedule_id=None
            if query.schedule is None
            else resolve_ever(tx, schema.schedules, query.schedule, "schedule"),
            path=query.path,
            tag=query.tag,
            since=query.since,
            until=query.until,
            latest=bool(query.latest),
        )
        after = None if query.after is None else _place(query.after)
        found, more = snapshots.page(tx, wanted, limit=query.limit, after=after)
        return SnapshotsView(
            snapshots=tuple(views(tx, found)),
            lists=tuple(_lists(tx, _repos(tx, query.repo), asked, online)),
            more=more,
            next=_next(found[-1]) if more else None,
        )

    return await services.store.read(question)


async def show(services: Services, call: Call[None, SnapshotQuery]) -> SnapshotView:
    """Return one snapshot."""

    def question(tx: Connection) -> SnapshotView:
        repo_id = None if call.query.repo is None else repos.resolve(tx, call.query.repo).id
        return views(tx, [snapshots.resolve(tx, call.path["ref"], repo_id=repo_id)])[0]

    return await services.store.read(question)


def views(tx: Connection, rows: Sequence[StoredSnapshot]) -> list[SnapshotView]:
    """Given snapshots, return how an operator sees them, in the same order."""
    repo_names = names_of(tx, schema.repos, {row.repo_id for row in rows})
    schedule_names = names_of(tx, schema.schedules, {row.schedule_id for row in rows if row.schedule_id})
    hosts = _host_names(tx, {row.restic_host for row in rows})
    return [
        SnapshotView(
            id=row.id,
            repo=repo_names[row.repo_id],
            time=row.time,
            host=hosts.get(row.restic_host),
            restic_host=row.restic_host,
            schedule=schedule_names.get(row.schedule_id or ""),
            job_id=row.job_id,
            paths=row.paths,
            tags=row.tags,
            username=row.username,
            files=row.files,
            size=row.size,
            data_added=row.data_added,
            tree=row.tree,
            parent=row.parent,
            original=row.original,
            program=row.program,
        )
        for row in rows
    ]


async def _refresh(services: Services, repo_ref: str | None) -> dict[str, Asked]:
    """Have every list asked for that is stale made anew; return by which job, or why not, by repository."""
    rows = await services.store.read(lambda tx: _repos(tx, repo_ref))
    stale = [row.id for row in rows if snapshots.is_stale(row)]
    return await ask_for_lists(services, stale) if stale else {}


def _repos(tx: Connection, repo_ref: str | None) -> list[RepoRow]:
    return repos.all_repos(tx) if repo_ref is None else [repos.resolve(tx, repo_ref)]


def _lists(
    tx: Connection, rows: Sequence[RepoRow], asked: Mapping[str, Asked], online: frozenset[str]
) -> list[ListState]:
    under_way = relisting.under_way(tx)
    stale = [row.id for row in rows if snapshots.is_stale(row)]
    failed = relisting.last_failures(tx, stale)
    able = relisting.hosts_of(tx, stale)
    states = []
    for row in rows:
        note = None
        if snapshots.is_stale(row):
            nobody = None if online.intersection(able[row.id]) else relisting.nobody(bool(able[row.id]))
            told = asked.get(row.id)
            note = (told.note if told is not None else None) or nobody or why_not(failed, row.id)
        states.append(
            ListState(
                repo=row.name,
                at=row.listed_at,
                stale=snapshots.is_stale(row),
                job_id=under_way.get(row.id),
                note=note,
            )
        )
    return states


def _restic_host(tx: Connection, reference: str) -> str:
    """Given a host's name or the beginning of its id, return what restic calls it; or a name only restic knows."""
    try:
        host_id = resolve_ever(tx, schema.hosts, reference, "host")
    except NotFoundError:
        if not snapshots.knows_host(tx, reference):
            raise
        return reference
    found: str = tx.execute(select(schema.hosts.c.restic_host).where(schema.hosts.c.id == host_id)).scalar_one()
    return found


def _host_names(tx: Connection, restic_hosts: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in chunks(sorted(set(restic_hosts))):
        query = select(schema.hosts.c.restic_host, schema.hosts.c.name).where(schema.hosts.c.restic_host.in_(part))
        found.update((row.restic_host, row.name) for row in tx.execute(query))
    return found


def _next(last: StoredSnapshot) -> str:
    """Where a page ended, as text; whoever asks hands it back as it is."""
    return f"{(last.time - _EPOCH) // timedelta(microseconds=1)}.{last.id}.{last.repo_id}"


def _place(text: str) -> Place:
    try:
        microseconds, id_, repo_id = text.split(".")
        return Place(_EPOCH + timedelta(microseconds=int(microseconds)), id_, repo_id)
    except (ValueError, OverflowError):
        raise InputError(f"after={text[:80]!r} is no place in a list: hand back `next` of the page before") from None


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/snapshots",
        name="snapshot_list",
        summary="Snapshots, newest first, and how fresh the lists they are from are",
        handler=list_snapshots,
        query=SnapshotsQuery,
        response=SnapshotsView,
    ),
    Operation(
        method="GET",
        path="/v1/snapshots/{ref}",
        name="snapshot_show",
        summary="One snapshot; {ref} is its id or the unique beginning of it",
        handler=show,
        query=SnapshotQuery,
        response=SnapshotView,
    ),
)
