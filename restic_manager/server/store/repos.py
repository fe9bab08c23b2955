"""Repositories. Owns the table `repos`: what may be added, what uses one, when one may go.

What opens one is `repo_secrets`; it comes out only in `access`, which is what travels to a host. Removal is soft, and
keeps the sealed password: it may be the only copy there is. It refuses to know who asks, and how restic is run.
"""

from __future__ import annotations

import secrets as random
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, bindparam, func, select

from restic_manager.domain.errors import ConflictError, InputError, NotFoundError
from restic_manager.domain.model import Kind, RepoAccess, Status, new_id
from restic_manager.domain.names import check_name
from restic_manager.protocol.api import DEFAULT_MAX_PARALLEL
from restic_manager.server.store import events, repo_secrets
from restic_manager.server.store.references import refuse_taken_name, resolve_id
from restic_manager.server.store.repo_secrets import Login, Opening, Seal, Unseal
from restic_manager.server.store.schema import assignments, hosts, jobs, repos, schedules

_names = msgspec.json.Decoder(tuple[str, ...])
_maps = msgspec.json.Decoder(dict[str, str])

_BY_ID = select(repos).where(repos.c.id == bindparam("repo_id"))


NO_LOGIN: Final = Login()


class RepoRow(Struct, frozen=True, kw_only=True):
    """One repository, without its secrets. Its columns are told in `schema`."""

    id: str
    name: str
    url: str
    env_names: tuple[str, ...]
    password_from: str | None = None
    env_from: dict[str, str] = {}
    created_at: datetime
    removed_at: datetime | None
    append_only: bool = False
    max_parallel: int = DEFAULT_MAX_PARALLEL
    chunker_from: str | None = None
    maintainer_id: str | None = None
    maintainer_url: str | None = None
    maintainer_env_names: tuple[str, ...] = ()
    maintainer_env_from: dict[str, str] = {}
    maintainer_per_job: bool = False
    part_read: int | None = None
    parts: int | None = None
    listed_at: datetime | None = None
    changed_at: datetime | None = None
    deletion: str | None = None
    probed_at: datetime | None = None


class RepoUse(NamedTuple):
    """What uses a repository now: names of schedules and of the hosts they run on; when it last had a job."""

    schedules: tuple[str, ...]
    hosts: tuple[str, ...]
    last_job_at: datetime | None


class Added(NamedTuple):
    """A new repository, the password if it was made here (it is shown this once), and what was done to the URL."""

    repo: RepoRow
    generated_password: str | None
    note: str | None


def add(
    tx: Connection,
    *,
    name: str,
    url: str,
    password: str | None,
    env: Mapping[str, str],
    seal: Seal,
    now: datetime,
    append_only: bool = False,
    max_parallel: int = DEFAULT_MAX_PARALLEL,
    chunker_from: str | None = None,
    password_from: str | None = None,
    env_from: Mapping[str, str] | None = None,
    login: Login = NO_LOGIN,
) -> Added:
    """Given a repository and what opens it, store it; without a password and a reference to one, make one.

    chunker_from: by its name or id. login: at the place where it is kept. Raise InputError naming what cannot be used
    (never showing a secret), ConflictError for a name in use, NotFoundError for a repository to take the chunker's
    parameters from that is none.
    """
    check_name(name, "repository")
    refuse_taken_name(tx, repos, name, "repository")
    if password is not None and password_from is not None:
        raise InputError("the password is given, and comes from the host as well: keep only one")
    generated = random.token_urlsafe(32) if password is None and password_from is None else None
    opening = Opening(
        password=generated or password, password_from=password_from, env=env, env_from=dict(env_from or {})
    )
    plain_url, opening, moved = repo_secrets.with_url_login(url, opening)
    opening = repo_secrets.with_login(plain_url, opening, login)
    repo_secrets.check(opening, url=plain_url, whose=name)
    repo_id = new_id()
    tx.execute(
        repos.insert().values(
            id=repo_id,
            name=name,
            url=plain_url,
            created_at=now,
            append_only=append_only,
            max_parallel=max_parallel,
            chunker_from=None if chunker_from is None else resolve(tx, chunker_from).id,
        )
    )
    repo_secrets.store(tx, repo_id, opening, seal=seal, now=now)
    events.record(tx, now=now, actor="operator", what="repo_added", detail=f"repository {name} at {plain_url}")
    note = None
    if moved:
        note = f"the credentials in the URL were moved to the sealed variables {' and '.join(moved)}"
    return Added(get(tx, repo_id), generated, note)


def access(
    tx: Connection, repo_id: str, unseal: Unseal, *, maintaining: bool = False, per_job: Mapping[str, str] | None = None
) -> RepoAccess:
    """Given a repository (removed ones too), return what restic needs to open it; raise NotFoundError if unknown.

    maintaining, per_job: as `repo_secrets.access`. Raise KeyError if its secrets are gone.
    """
    get(tx, repo_id)
    return repo_secrets.access(tx, repo_id, unseal, maintaining=maintaining, per_job=per_job)


def is_maintaining(repo: RepoRow, host_id: str, kind: Kind) -> bool:
    """Given who is to do what on a repository, return whether that is done as its maintainer, who may delete there.

    A probe asks what any host may: so the maintainer does it as they would.
    """
    return kind.exclusive and kind is not Kind.PROBE and host_id == repo.maintainer_id


def needs_login(repo: RepoRow, kind: Kind) -> bool:
    """Given a kind of job that the maintainer does, return whether it needs a login that an operator has to bring."""
    return repo.maintainer_per_job and is_maintaining(repo, repo.maintainer_id or "", kind)


def get(tx: Connection, repo_id: str) -> RepoRow:
    """Given an id, return the repository, removed or not; raise NotFoundError if there never was one."""
    row = tx.execute(_BY_ID, {"repo_id": repo_id}).mappings().first()
    if row is None:
        raise NotFoundError(f"there is no repository {repo_id[:80]!r}")
    return _row(row)


def resolve(tx: Connection, reference: str) -> RepoRow:
    """Given a name or the beginning of an id, return the repository; raise NotFoundError for none or several."""
    return get(tx, resolve_id(tx, repos, reference, "repository"))


def all_repos(tx: Connection) -> list[RepoRow]:
    """Return every repository that is not removed, by name."""
    query = select(repos).where(repos.c.removed_at.is_(None)).order_by(repos.c.name)
    return [_row(row) for row in tx.execute(query).mappings()]


def uses(tx: Connection, repo_id: str | None = None) -> dict[str, RepoUse]:
    """Return what uses each repository (or the one named) now, by id; those that nothing ever used are left out."""
    live = select(schedules.c.repo_id, schedules.c.name).where(schedules.c.removed_at.is_(None))
    running = (
        select(schedules.c.repo_id, hosts.c.name)
        .distinct()
        .join(assignments, assignments.c.schedule_id == schedules.c.id)
        .join(hosts, hosts.c.id == assignments.c.host_id)
        .where(schedules.c.removed_at.is_(None), assignments.c.valid_to.is_(None))
    )
    # Its own newest serial each: an index answers that without walking through all jobs. The server's own lists are no
    # use of it.
    mine = jobs.alias()
    highest = (
        select(mine.c.serial)
        .where(mine.c.repo_id == repos.c.id, mine.c.kind != Kind.SNAPSHOTS.value)
        .order_by(mine.c.serial.desc())
        .limit(1)
        .scalar_subquery()
    )
    newest = select(repos.c.id, jobs.c.created_at).select_from(repos).join(jobs, jobs.c.serial == highest)
    if repo_id is not None:
        live, running = live.where(schedules.c.repo_id == repo_id), running.where(schedules.c.repo_id == repo_id)
        newest = newest.where(repos.c.id == repo_id)
    by_schedule = _grouped(tx.execute(live).all())
    by_host = _grouped(tx.execute(running).all())
    made = {row.id: row.created_at for row in tx.execute(newest)}
    return {
        id_: RepoUse(by_schedule.get(id_, ()), by_host.get(id_, ()), made.get(id_))
        for id_ in by_schedule.keys() | by_host.keys() | made.keys()
    }


def remove(tx: Connection, repo: RepoRow, *, now: datetime) -> None:
    """Given a repository, remove it; raise ConflictError while a schedule or an unfinished job uses it."""
    using = uses(tx, repo.id).get(repo.id, RepoUse((), (), None)).schedules
    if using:
        shown = ", ".join(using[:5]) + (f" and {len(using) - 5} more" if len(using) > 5 else "")
        raise ConflictError(
            f"the repository {repo.name} is used by the schedules {shown}: give them another repository, or remove "
            "them first"
        )
    unfinished = tx.execute(
        select(func.count())
        .select_from(jobs)
        .where(jobs.c.repo_id == repo.id, jobs.c.status.in_([Status.QUEUED.value, Status.RUNNING.value]))
    ).scalar_one()
    if unfinished:
        raise ConflictError(
            f"the repository {repo.name} has {unfinished} unfinished jobs: wait for them, or cancel them first"
        )
    tx.execute(repos.update().where(repos.c.id == repo.id).values(removed_at=now))
    events.record(tx, now=now, actor="operator", what="repo_removed", detail=f"repository {repo.name} at {repo.url}")


def _grouped(rows: Any) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for repo_id, name in rows:
        found.setdefault(repo_id, []).append(name)
    return {repo_id: tuple(sorted(names)) for repo_id, names in found.items()}


def _row(row: Any) -> RepoRow:
    lists = {name: _names.decode(row[name]) for name in ("env_names", "maintainer_env_names")}
    maps = {name: _maps.decode(row[name]) for name in ("env_from", "maintainer_env_from")}
    return RepoRow(**{**row, **lists, **maps})
