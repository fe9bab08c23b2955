"""The snapshots of each repository, as they were when it was last listed. Owns the table `snapshots`.

A snapshot never changes, so a new list is a difference: what came is added, what went is taken away, in one
transaction. What came or went without a job of ours that explains it is another program's work, and an event. It
refuses to know when lists are made (`server.upkeep`) and how rows come here (`listings`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Row, Select, func, or_, select, tuple_

from restic_manager.domain.errors import InputError, NotFoundError
from restic_manager.domain.pathtext import text_to_path
from restic_manager.domain.results import ListStats, SnapshotRow
from restic_manager.domain.specs import SnapshotsSpec
from restic_manager.restic.command import JOB_TAG, SCHEDULE_TAG
from restic_manager.server.store import listings, strangers
from restic_manager.server.store.job_rows import JobRow
from restic_manager.server.store.references import chunks, names_of
from restic_manager.server.store.repos import RepoRow
from restic_manager.server.store.schema import repos, snapshots

MIN_ID: Final = 4
"""The fewest characters of a snapshot's id that count as a reference."""
MAX_DEPTH: Final = 400
"""Folders above a path that is looked for."""

_LONGEST_ID: Final = 64
_PLACE: Final = (snapshots.c.time.type, snapshots.c.id.type, snapshots.c.repo_id.type)
_HEX: Final = frozenset("0123456789abcdef")
_texts: Final = msgspec.json.Decoder(tuple[str, ...])


class StoredSnapshot(Struct, frozen=True, kw_only=True):
    """One snapshot as it is kept. paths: path text, as far as restic knows them. tags: without our own."""

    repo_id: str
    id: str
    time: datetime
    restic_host: str
    schedule_id: str | None
    job_id: str | None
    username: str
    paths: tuple[str, ...]
    tags: tuple[str, ...]
    tree: str | None
    parent: str | None
    original: str | None
    program: str | None
    files: int | None
    size: int | None
    data_added: int | None


class Wanted(Struct, frozen=True, kw_only=True):
    """Which snapshots: all that fit everything that is said. path: they hold it. latest: of each repository, restic
    host and schedule only the newest of them.
    """

    repo_id: str | None = None
    restic_host: str | None = None
    schedule_id: str | None = None
    path: str | None = None
    tag: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    latest: bool = False


class Place(NamedTuple):
    """Where a page ended: its last snapshot, in the order of lists."""

    time: datetime
    id: str
    repo_id: str


# -- keeping the list -------------------------------------------------------------------------------------------------


def note_changed(tx: Connection, repo_id: str, now: datetime) -> None:
    """Given a repository whose snapshots a job may have changed, note it: its list is old."""
    tx.execute(repos.update().where(repos.c.id == repo_id).values(changed_at=now))


def is_stale(repo: RepoRow) -> bool:
    """Given a repository, return whether a job may have changed its snapshots since they were listed."""
    return repo.listed_at is None or (repo.changed_at is not None and repo.changed_at >= repo.listed_at)


def take_list(tx: Connection, job: JobRow, *, now: datetime) -> None:
    """Given a `snapshots` job that has succeeded, make what it listed the list of its repository.

    Not where it was asked for some of them only, where rows are missing, or where a newer list is there already: then
    the list stays as it is, and as old as it is. The list is as of the job's order: what changed later keeps it stale.
    """
    if job.spec != SnapshotsSpec() or not isinstance(job.state.result, ListStats):
        return
    if listings.kept(tx, job.id) != job.state.result.rows:
        return
    as_of = job.state.sent_at or job.created_at
    before: datetime | None = tx.execute(select(repos.c.listed_at).where(repos.c.id == job.repo_id)).scalar_one()
    if before is not None and before >= as_of:
        return
    listed = {row.id: row for rows in listings.rows_of(tx, job.id) for row in rows if isinstance(row, SnapshotRow)}
    mine = snapshots.c.repo_id == job.repo_id
    had = {row.id: row.original for row in tx.execute(select(snapshots.c.id, snapshots.c.original).where(mine))}
    gone = sorted(had.keys() - listed.keys())
    came = [_columns(job.repo_id, row) for id_, row in listed.items() if id_ not in had]
    for part in chunks(gone):
        tx.execute(snapshots.delete().where(mine, snapshots.c.id.in_(part)))
    if came:
        tx.execute(snapshots.insert(), came)
    tx.execute(repos.update().where(repos.c.id == job.repo_id).values(listed_at=as_of))
    if before is not None and (came or gone):
        strangers.note(
            tx,
            job.repo_id,
            came=[
                strangers.Came(row["id"], row["restic_host"], row["schedule_id"], row["job_id"], row["original"])
                for row in came
            ],
            gone=[strangers.Gone(id_, had[id_]) for id_ in gone],
            since=before,
            now=now,
        )


def forget_repo(tx: Connection, repo_id: str) -> None:
    """Given a repository that is removed, forget its list."""
    tx.execute(snapshots.delete().where(snapshots.c.repo_id == repo_id))
    tx.execute(repos.update().where(repos.c.id == repo_id).values(listed_at=None))


def _columns(repo_id: str, row: SnapshotRow) -> dict[str, Any]:
    schedule_id, job_id, tags = _own_tags(row.tags)
    summary = row.summary
    return {
        "repo_id": repo_id,
        "id": row.id,
        "time": row.time,
        "restic_host": row.hostname,
        "schedule_id": schedule_id,
        "job_id": job_id,
        "username": row.username,
        # restic says them as they are; the text of a path has its backslashes doubled.
        "paths": _json([path.replace("\\", "\\\\") for path in row.paths]),
        "tags": _json(tags),
        "tree": row.tree,
        "parent": row.parent,
        "original": row.original,
        "program": row.program,
        "files": None if summary is None else summary.files,
        "size": None if summary is None else summary.size,
        "data_added": None if summary is None else summary.data_added,
    }


def _own_tags(tags: Iterable[str]) -> tuple[str | None, str | None, list[str]]:
    """Given tags, return the schedule and the job that ours name (the first of each), and the rest."""
    found: dict[str, str] = {}
    others: list[str] = []
    for tag in tags:
        prefix = next((own for own in (JOB_TAG, SCHEDULE_TAG) if tag.startswith(own)), None)
        named = tag[len(prefix or "") :]
        if prefix is None or prefix in found or not 0 < len(named) <= _LONGEST_ID:
            others.append(tag)
        else:
            found[prefix] = named
    return found.get(SCHEDULE_TAG), found.get(JOB_TAG), others


# -- asking for snapshots ---------------------------------------------------------------------------------------------


def page(
    tx: Connection, wanted: Wanted, *, limit: int, after: Place | None = None
) -> tuple[list[StoredSnapshot], bool]:
    """Given what is wanted, return at most `limit` snapshots, newest first, those after a place; and whether there are
    more. Raise InputError for a path or tag that cannot be one.
    """
    order = (snapshots.c.time.desc(), snapshots.c.id.desc(), snapshots.c.repo_id.desc())
    query = _wanted(wanted)
    if wanted.latest:
        rank = func.row_number().over(
            partition_by=(snapshots.c.repo_id, snapshots.c.restic_host, snapshots.c.schedule_id), order_by=order
        )
        ranked = query.add_columns(rank.label("rank")).subquery()
        newest = select(ranked.c.repo_id, ranked.c.id).where(ranked.c.rank == 1)
        query = select(snapshots).where(tuple_(snapshots.c.repo_id, snapshots.c.id).in_(newest))
    if after is not None:
        place = tuple_(snapshots.c.time, snapshots.c.id, snapshots.c.repo_id)
        # Said once more for the time alone: that is what an index answers.
        query = query.where(snapshots.c.time <= after.time, place < tuple_(*after, types=_PLACE))
    found = [_stored(row) for row in tx.execute(query.order_by(*order).limit(limit + 1))]
    return found[:limit], len(found) > limit


def resolve(tx: Connection, reference: str, *, repo_id: str | None = None) -> StoredSnapshot:
    """Given an id or the beginning of one, return the snapshot (of this repository).

    Raise NotFoundError for none, InputError naming the candidates for several, or the repositories it is in.
    """
    prefix = reference.lower()
    query = _wanted(Wanted(repo_id=repo_id))
    # "g" sorts after every digit of an id, so this range is the prefix, and an index answers it.
    query = query.where(snapshots.c.id >= prefix, snapshots.c.id < prefix + "g").order_by(snapshots.c.id).limit(5)
    usable = MIN_ID <= len(prefix) <= _LONGEST_ID and _HEX.issuperset(prefix)
    found = [_stored(row) for row in tx.execute(query)] if usable else []
    if not found:
        raise NotFoundError(
            f"no listed snapshot has the id {reference[:80]!r} (write the first {MIN_ID} or more digits of one): "
            "`restic-manager snapshot list` shows what there is"
        )
    if len(found) == 1:
        return found[0]
    names = names_of(tx, repos, {row.repo_id for row in found})
    if len({row.id for row in found}) == 1:
        where = ", ".join(sorted(names.values()))
        raise InputError(f"snapshot {found[0].id[:8]} is in several repositories ({where}): say which one")
    shown = ", ".join(f"{row.id[:12]} of {row.time:%Y-%m-%d %H:%M} in {names[row.repo_id]}" for row in found[:4])
    more = " and more" if len(found) > 4 else ""
    raise InputError(f"{reference!r} fits several snapshots ({shown}{more}): write more of the id")


def knows_host(tx: Connection, restic_host: str) -> bool:
    """Given a name, return whether any snapshot was made under it."""
    return tx.execute(select(snapshots.c.id).where(snapshots.c.restic_host == restic_host).limit(1)).first() is not None


def counts(tx: Connection, repo_ids: Sequence[str] | None = None) -> dict[str, int]:
    """Return how many snapshots each repository (of these) has, by id; those without any are left out."""
    query = select(snapshots.c.repo_id, func.count().label("count")).group_by(snapshots.c.repo_id)
    parts = [query] if repo_ids is None else [query.where(snapshots.c.repo_id.in_(part)) for part in chunks(repo_ids)]
    return {row[0]: row[1] for part in parts for row in tx.execute(part)}


def _wanted(wanted: Wanted) -> Select[Any]:
    columns = snapshots.c
    query = select(snapshots)
    if wanted.repo_id is not None:
        query = query.where(columns.repo_id == wanted.repo_id)
    if wanted.restic_host is not None:
        query = query.where(columns.restic_host == wanted.restic_host)
    if wanted.schedule_id is not None:
        query = query.where(columns.schedule_id == wanted.schedule_id)
    if wanted.since is not None:
        query = query.where(columns.time >= wanted.since)
    if wanted.until is not None:
        query = query.where(columns.time <= wanted.until)
    if wanted.tag is not None:
        query = query.where(_holds(columns.tags, _checked_tag(wanted.tag)))
    if wanted.path is not None:
        query = query.where(or_(*(_holds(columns.paths, path) for path in _with_parents(wanted.path))))
    return query


def _holds(column: Any, text: str) -> Any:
    """Whether a JSON list of texts has this one. Told by a REPLACE that does something: unlike LIKE it is exact."""
    return func.replace(column, _json(text), "") != column


def _checked_tag(tag: str) -> str:
    if "," in tag or not tag:
        raise InputError(f"{tag[:80]!r} is no tag: restic's tags are not empty and have no comma in them")
    return tag


def _with_parents(path: str) -> Iterator[str]:
    """Given a path's text, return it and the folders above it, as they are stored."""
    # What is not UTF-8 in a snapshot's paths is lost: restic writes U+FFFD for each such byte.
    seen = text_to_path(path).decode("utf-8", errors="surrogateescape")
    known = "".join("\ufffd" if "\udc80" <= letter <= "\udcff" else letter for letter in seen).replace("\\", "\\\\")
    if not known.startswith("/") or known.count("/") > MAX_DEPTH:
        raise InputError(f"{path[:80]!r} is no absolute path of at most {MAX_DEPTH} folders: write it from / on")
    folder = known.rstrip("/")
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]
    yield "/"


def _stored(row: Row[Any]) -> StoredSnapshot:
    found = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it, the underscore keeps it off column names
    values = {name: found[name] for name in StoredSnapshot.__struct_fields__}
    return StoredSnapshot(**{**values, "paths": _texts.decode(found["paths"]), "tags": _texts.decode(found["tags"])})


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
