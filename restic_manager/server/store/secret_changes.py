"""What an operator changes of what opens a repository: `repo set-secret`, and how its maintainer reaches it.

Thin over `repo_secrets`, which says what can be. Owns that hosts hear of it: a standing order carries the access, so
their schedule sets change. It refuses to know what maintenance there is, and never changes the repository itself: what
restic opens it with is changed with restic.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple

from msgspec import UnsetType
from sqlalchemy import Connection, select

from restic_manager.domain.errors import InputError
from restic_manager.protocol.api import MaintenanceRequest, SecretsRequest
from restic_manager.server.store import events, membership, repo_secrets, repos
from restic_manager.server.store.repo_secrets import MAX_ACCESS_TEXT, Login, Opening, Seal, Unseal
from restic_manager.server.store.repos import RepoRow
from restic_manager.server.store.schema import assignments, schedules
from restic_manager.server.store.schema import repos as repo_rows

_MOST_OF_MAINTAINER: Final = MAX_ACCESS_TEXT // 2


class Reset(NamedTuple):
    """A repository as it is now, the hosts whose schedule set changed, and the names of what was set or removed."""

    repo: RepoRow
    hosts: list[str]
    changed: tuple[str, ...]


def set_secrets(
    tx: Connection, repo: RepoRow, request: SecretsRequest, *, seal: Seal, unseal: Unseal, now: datetime
) -> Reset:
    """Given what is to open a repository from now on, keep that; what the request leaves out stays.

    Raise InputError for what cannot be (never showing a secret), or when nothing is asked for.
    """
    before = repo_secrets.read(tx, repo.id, unseal)
    after = _changed(repo, before, request)
    repo_secrets.check(after, url=repo.url, whose=repo.name)
    # With the maintainer's own over it, it has to make sense as well.
    repo_secrets.check(
        repo_secrets.over(after, repo_secrets.read_maintainer(tx, repo.id, unseal)),
        url=repo.maintainer_url or repo.url,
        whose=repo.name,
        most=2 * MAX_ACCESS_TEXT,
    )
    changed = _difference(before, after)
    if not changed:
        return Reset(repo, [], ())
    repo_secrets.store(tx, repo.id, after, seal=seal, now=now)
    detail = f"repository {repo.name}: {_and(changed)}"
    events.record(tx, now=now, actor="operator", what="repo_secret_set", detail=detail)
    return Reset(repos.get(tx, repo.id), membership.touch(tx, _hosts(tx, repo.id)), changed)


def set_maintainer_access(
    tx: Connection, repo: RepoRow, request: MaintenanceRequest, *, seal: Seal, unseal: Unseal, now: datetime
) -> tuple[str, ...]:
    """Given a request, keep how the maintainer reaches the repository, a login in its URL among its secrets; return
    what is to be told. Raise InputError for what cannot be.
    """
    url = request.maintainer_url
    asked = (url, request.maintainer_env, request.maintainer_env_from, request.maintainer_per_job)
    if all(isinstance(one, UnsetType) for one in asked):
        return ()
    known = repo_secrets.read_maintainer(tx, repo.id, unseal)
    own = Opening(
        env=known.env if isinstance(request.maintainer_env, UnsetType) else request.maintainer_env,
        env_from=known.env_from if isinstance(request.maintainer_env_from, UnsetType) else request.maintainer_env_from,
    )
    plain, moved = repo.maintainer_url, tuple[str, ...]()
    if isinstance(url, str):
        if isinstance(request.maintainer_env, UnsetType):
            own = _without_url_login(url, own)
        plain, own, moved = repo_secrets.with_url_login(url, own)
    elif url is None:
        plain = None
    per_job = repo.maintainer_per_job
    if not isinstance(request.maintainer_per_job, UnsetType):
        per_job = request.maintainer_per_job
    shown = plain or repo.url
    repo_secrets.check(own, url=shown, whose=f"the maintainer of {repo.name}", most=_MOST_OF_MAINTAINER)
    whole = repo_secrets.over(repo_secrets.read(tx, repo.id, unseal), own)
    repo_secrets.check(whole, url=shown, whose=f"the maintainer of {repo.name}", most=2 * MAX_ACCESS_TEXT)
    tx.execute(
        repo_rows.update().where(repo_rows.c.id == repo.id).values(maintainer_url=plain, maintainer_per_job=per_job)
    )
    repo_secrets.store_maintainer(tx, repo.id, own, seal=seal, now=now)
    if not moved:
        return ()
    return (f"the credentials in the URL were moved to the maintainer's sealed variables {_and(moved)}",)


def _changed(repo: RepoRow, before: Opening, request: SecretsRequest) -> Opening:
    """What opens the repository after the request; raise InputError where it contradicts itself."""
    if request == SecretsRequest():
        raise InputError("say what is to be set: the password, the login, variables, or references to them")
    if request.password is not None and request.password_from is not None:
        raise InputError("the password is given, and comes from the host as well: keep only one")
    named = request.env.keys() | request.env_from.keys()
    known = before.env.keys() | before.env_from.keys()
    if both := sorted(named & set(request.unset)):
        raise InputError(f"the variable {both[0]} is set and removed: say only one of them")
    if unknown := sorted(set(request.unset) - known):
        raise InputError(f"{repo.name} has no variable {unknown[0][:80]}: there is nothing to remove")
    if twice := sorted(request.env.keys() & request.env_from.keys()):
        raise InputError(f"the variable {twice[0]} is given and comes from the host as well: keep only one")
    kept = repo_secrets.over(before, Opening(env=dict.fromkeys(request.unset, "")))
    kept = kept._replace(env={name: value for name, value in kept.env.items() if name not in set(request.unset)})
    after = repo_secrets.over(kept, Opening(env=request.env, env_from=request.env_from))
    login = Login(request.user, request.user_password, request.user_password_from)
    if login != Login():
        # Raises where the request itself gives one of the login's variables twice.
        repo_secrets.with_login(repo.url, Opening(env=request.env, env_from=request.env_from), login)
        after = repo_secrets.replace_login(repo.url, after, login)
    if request.password is not None:
        return after._replace(password=request.password, password_from=None)
    if request.password_from is not None:
        return after._replace(password=None, password_from=request.password_from)
    return after


def _difference(before: Opening, after: Opening) -> tuple[str, ...]:
    """Name what is not as it was, in words that hold no secret."""
    said = []
    if (before.password, before.password_from) != (after.password, after.password_from):
        said.append("the password is set" if after.password_from is None else "the password comes from the host")
    for name in sorted({*before.env, *before.env_from, *after.env, *after.env_from}):
        was, now = (before.env.get(name), before.env_from.get(name)), (after.env.get(name), after.env_from.get(name))
        if was != now:
            said.append(f"{name} is {_word(after, name)}")
    return tuple(said)


def _word(after: Opening, name: str) -> str:
    if name in after.env:
        return "set"
    return "taken from the host" if name in after.env_from else "removed"


def _without_url_login(url: str, own: Opening) -> Opening:
    """A login in a new URL takes the place of the one that came with the old."""
    _, moved = repo_secrets.without_credentials(url)
    return own._replace(env={name: value for name, value in own.env.items() if name not in moved})


def _hosts(tx: Connection, repo_id: str) -> list[str]:
    """The hosts that have a schedule on the repository now."""
    query = (
        select(assignments.c.host_id)
        .distinct()
        .join(schedules, schedules.c.id == assignments.c.schedule_id)
        .where(
            schedules.c.repo_id == repo_id,
            schedules.c.removed_at.is_(None),
            assignments.c.valid_to.is_(None),
        )
        .order_by(assignments.c.host_id)
    )
    return list(tx.execute(query).scalars())


def _and(names: Iterable[str]) -> str:
    return " and ".join(names)
