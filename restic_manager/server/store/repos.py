"""Repositories and their secrets. Owns the tables `repos` and `secrets`: what may be added, what opens a repository.

Secrets go in sealed and come out only in `access`, which is what travels to a host. A password inside a URL is moved to
the sealed variables. Removal is soft, and keeps the sealed password: it may be the only copy there is. It refuses to
know who asks, and how restic is run.
"""

from __future__ import annotations

import secrets as random
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, bindparam, func, select

from restic_manager.domain.errors import ConflictError, InputError, NotFoundError
from restic_manager.domain.model import Kind, RepoAccess, Status, new_id
from restic_manager.domain.names import check_name
from restic_manager.protocol.api import DEFAULT_MAX_PARALLEL
from restic_manager.restic.checks import check_password, check_repo_env, check_repo_url, hide_password
from restic_manager.server.store import events
from restic_manager.server.store.references import refuse_taken_name, resolve_id
from restic_manager.server.store.schema import assignments, hosts, jobs, repos, schedules, secrets

Seal = Callable[[str, str, bytes], bytes]
Unseal = Callable[[str, str, bytes], bytes]

MAX_ACCESS_TEXT: Final = 128 << 10
"""Most bytes of JSON that a repository's access may take: with a spec beside it, it has to fit in one message."""

MAINTAINER_ENV: Final = "repo-maintainer-env"
"""The purpose under which the maintainer's own variables are sealed."""

_PASSWORD: Final = "repo-password"  # noqa: S105 - the purpose's name
_ENV: Final = "repo-env"
_env = msgspec.json.Decoder(dict[str, str])
_names = msgspec.json.Decoder(tuple[str, ...])


_BY_ID = select(repos).where(repos.c.id == bindparam("repo_id"))
_SECRETS = select(secrets.c.purpose, secrets.c.sealed).where(secrets.c.owner_id == bindparam("owner_id"))


class RepoRow(Struct, frozen=True, kw_only=True):
    """One repository, without its secrets. Its columns are told in `schema`."""

    id: str
    name: str
    url: str
    env_names: tuple[str, ...]
    created_at: datetime
    removed_at: datetime | None
    append_only: bool = False
    max_parallel: int = DEFAULT_MAX_PARALLEL
    chunker_from: str | None = None
    maintainer_id: str | None = None
    maintainer_url: str | None = None
    maintainer_env_names: tuple[str, ...] = ()
    part_read: int | None = None
    parts: int | None = None
    listed_at: datetime | None = None
    changed_at: datetime | None = None


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
) -> Added:
    """Given a repository and its secrets, store it; without a password, make one.

    chunker_from: by its name or id. Raise InputError naming what cannot be used (never showing a secret),
    ConflictError for a name in use, NotFoundError for a repository to take the chunker's parameters from that is none.
    """
    check_name(name, "repository")
    refuse_taken_name(tx, repos, name, "repository")
    check_repo_url(url)
    plain_url, moved = without_credentials(url)
    if clash := sorted(moved.keys() & env.keys()):
        raise InputError(f"the URL {hide_password(url)!r} and the variable {clash[0]} both give it: keep only one")
    everything = {**env, **moved}
    check_repo_env(everything)
    generated = random.token_urlsafe(32) if password is None else None
    final = generated if password is None else password
    check_password(final or "")
    row = RepoRow(
        id=new_id(),
        name=name,
        url=plain_url,
        env_names=tuple(sorted(everything)),
        created_at=now,
        removed_at=None,
        append_only=append_only,
        max_parallel=max_parallel,
        chunker_from=None if chunker_from is None else resolve(tx, chunker_from).id,
    )
    size = len(msgspec.json.encode(RepoAccess(repo_id=row.id, url=plain_url, password=final or "", env=everything)))
    if size > MAX_ACCESS_TEXT:
        raise InputError(f"the URL and variables of {name} take {size} bytes: at most {MAX_ACCESS_TEXT} are taken")
    tx.execute(
        repos.insert().values(
            id=row.id,
            name=name,
            url=plain_url,
            env_names=msgspec.json.encode(row.env_names).decode(),
            created_at=now,
            append_only=append_only,
            max_parallel=max_parallel,
            chunker_from=row.chunker_from,
        )
    )
    sealed = {_PASSWORD: (final or "").encode(), _ENV: msgspec.json.encode(everything)}
    for purpose, plaintext in sealed.items():
        tx.execute(
            secrets.insert().values(
                owner_id=row.id, purpose=purpose, sealed=seal(row.id, purpose, plaintext), changed_at=now
            )
        )
    events.record(tx, now=now, actor="operator", what="repo_added", detail=f"repository {name} at {plain_url}")
    note = None
    if moved:
        note = f"the credentials in the URL were moved to the sealed variables {' and '.join(sorted(moved))}"
    return Added(row, generated, note)


def without_credentials(url: str) -> tuple[str, dict[str, str]]:
    """Given a checked URL, return it without user and password, and the variables that restic finds those in.

    Raise InputError for a password in a URL whose scheme has no such variables.
    """
    if url.startswith("rest:"):
        parts = urlsplit(url.removeprefix("rest:"))
        userinfo, at, host = parts.netloc.rpartition("@")
        if not at:
            return url, {}
        user, _, password = userinfo.partition(":")
        moved = {"RESTIC_REST_USERNAME": unquote(user), "RESTIC_REST_PASSWORD": unquote(password)}
        return "rest:" + urlunsplit(parts._replace(netloc=host)), {
            name: value for name, value in moved.items() if value
        }
    if hide_password(url) != url:
        raise InputError(
            f"the repository URL {hide_password(url)!r} has a password in it: leave it out and give it as a variable "
            "(--env-file)"
        )
    return url, {}


def access(tx: Connection, repo_id: str, unseal: Unseal, *, maintaining: bool = False) -> RepoAccess:
    """Given a repository (removed ones too), return what restic needs to open it; raise NotFoundError if unknown.

    maintaining: as its maintainer reaches it, who can do there what the others cannot.
    """
    repo = get(tx, repo_id)
    found = tx.execute(_SECRETS, {"owner_id": repo_id}).all()
    sealed = {row.purpose: row.sealed for row in found}
    env = _env.decode(unseal(repo_id, _ENV, sealed[_ENV]))
    if maintaining and MAINTAINER_ENV in sealed:
        env |= _env.decode(unseal(repo_id, MAINTAINER_ENV, sealed[MAINTAINER_ENV]))
    return RepoAccess(
        repo_id=repo_id,
        url=repo.maintainer_url or repo.url if maintaining else repo.url,
        password=unseal(repo_id, _PASSWORD, sealed[_PASSWORD]).decode(),
        env=env,
    )


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
    return RepoRow(**{**row, **lists})
