"""What opens a repository: secrets, sealed, and references to those that only its hosts have. Owns the table `secrets`
for repositories, and the columns of `repos` that say what there is.

Decides what belongs together (one password, a variable from one place only, a login in the variables that its scheme
has) and refuses it otherwise, never showing a secret. It refuses to know who asks and whom it is sent to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec
from sqlalchemy import Connection, bindparam, select

from restic_manager.domain import references
from restic_manager.domain.errors import InputError
from restic_manager.domain.model import RepoAccess
from restic_manager.restic.checks import check_password, check_repo_env, check_repo_url, hide_password
from restic_manager.server.store.schema import repos, secrets

Seal = Callable[[str, str, bytes], bytes]
Unseal = Callable[[str, str, bytes], bytes]

MAX_ACCESS_TEXT: Final = 128 << 10
"""Most bytes of JSON that a repository's access may take: with a spec beside it, it has to fit in one message."""

PASSWORD: Final = "repo-password"  # noqa: S105 - the purpose's name
ENV: Final = "repo-env"
MAINTAINER_ENV: Final = "repo-maintainer-env"
"""The purposes under which values are sealed: the last is the maintainer's own variables."""

_LOGINS: Final = {
    "rest": ("RESTIC_REST_USERNAME", "RESTIC_REST_PASSWORD"),
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "b2": ("B2_ACCOUNT_ID", "B2_ACCOUNT_KEY"),
    "azure": ("AZURE_ACCOUNT_NAME", "AZURE_ACCOUNT_KEY"),
    "swift": ("OS_USERNAME", "OS_PASSWORD"),
}
"""Where restic looks for a user and its password, by the URL's scheme."""

_env: Final = msgspec.json.Decoder(dict[str, str])
_SEALED: Final = select(secrets.c.purpose, secrets.c.sealed).where(secrets.c.owner_id == bindparam("owner_id"))
_COLUMNS: Final = select(
    repos.c.url, repos.c.password_from, repos.c.env_from, repos.c.maintainer_url, repos.c.maintainer_env_from
).where(repos.c.id == bindparam("repo_id"))


class Opening(NamedTuple):
    """What opens a repository. env_from, password_from: references. Holds secrets."""

    password: str | None = None
    password_from: str | None = None
    env: Mapping[str, str] = {}
    env_from: Mapping[str, str] = {}

    def __repr__(self) -> str:
        """Say nothing of it: this may end up in a traceback."""
        return "Opening()"


class Login(NamedTuple):
    """Who logs in where the repository is kept, apart from the repository's own password. Holds secrets."""

    user: str | None = None
    password: str | None = None
    password_from: str | None = None

    def __repr__(self) -> str:
        """Say nothing of it: this may end up in a traceback."""
        return "Login()"


def with_login(url: str, opening: Opening, login: Login) -> Opening:
    """Given a URL, what opens the repository, and a login, return the opening with the login in its variables.

    Raise InputError for a URL whose scheme has no such variables, or where a variable is given twice.
    """
    if login == Login():
        return opening
    if login.password is not None and login.password_from is not None:
        raise InputError("the login's password is given, and comes from the host as well: keep only one")
    scheme = url.partition(":")[0]
    if scheme not in _LOGINS:
        raise InputError(
            f"the repository {hide_password(url)!r} is not one that a user and password are for: those of "
            f"{', '.join(f'{one}:' for one in _LOGINS)} are"
        )
    user, password = _LOGINS[scheme]
    env, env_from = dict(opening.env), dict(opening.env_from)
    given = [(env, user, login.user), (env, password, login.password), (env_from, password, login.password_from)]
    for where, name, value in given:
        if value is None:
            continue
        if name in env or name in env_from:
            raise InputError(f"the login and the variable {name} both give it: keep only one")
        where[name] = value
    return opening._replace(env=env, env_from=env_from)


def replace_login(url: str, opening: Opening, login: Login) -> Opening:
    """Given what opens a repository now, return it with what the login names instead of what was there."""
    user, password = _LOGINS.get(url.partition(":")[0], ("", ""))
    gone = {user} if login.user is not None else set()
    if login.password is not None or login.password_from is not None:
        gone.add(password)
    kept = opening._replace(env=_without(opening.env, gone), env_from=_without(opening.env_from, gone))
    return with_login(url, kept, login)


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


def with_url_login(url: str, opening: Opening) -> tuple[str, Opening, tuple[str, ...]]:
    """Given a URL and what else opens the repository, return the URL without its login, everything that opens it, and
    the names of the variables that the login was moved to; raise InputError where one is given twice.
    """
    check_repo_url(url)
    plain, moved = without_credentials(url)
    if clash := sorted(moved.keys() & (opening.env.keys() | opening.env_from.keys())):
        raise InputError(f"the URL {hide_password(url)!r} and the variable {clash[0]} both give it: keep only one")
    return plain, opening._replace(env={**opening.env, **moved}), tuple(sorted(moved))


def check(opening: Opening, *, url: str, whose: str, most: int = MAX_ACCESS_TEXT) -> None:
    """Given what opens a repository, raise InputError unless it can be used and fits in a message. whose: for words."""
    if opening.password is not None:
        check_password(opening.password)
    check_repo_env(opening.env)
    check_repo_env(dict.fromkeys(opening.env_from, ""))
    references.check_all(opening.password_from, opening.env, opening.env_from)
    whole = {**opening._asdict(), "repo_id": "-" * 36, "url": url}
    size = len(msgspec.json.encode(whole))
    if size > most:
        raise InputError(f"the URL and variables of {whose} take {size} bytes: at most {most} are taken")


def store(tx: Connection, repo_id: str, opening: Opening, *, seal: Seal, now: datetime) -> None:
    """Given a repository and everything that opens it, keep that instead of what was kept before."""
    tx.execute(
        repos.update()
        .where(repos.c.id == repo_id)
        .values(
            env_names=_json(sorted(opening.env)),
            password_from=opening.password_from,
            env_from=_json(dict(opening.env_from)),
        )
    )
    password = None if opening.password is None else opening.password.encode()
    _keep(tx, repo_id, PASSWORD, password, seal=seal, now=now)
    _keep(tx, repo_id, ENV, msgspec.json.encode(dict(opening.env)), seal=seal, now=now)


def store_maintainer(tx: Connection, repo_id: str, opening: Opening, *, seal: Seal, now: datetime) -> None:
    """Given a repository and its maintainer's own variables, keep those instead of what was kept before."""
    tx.execute(
        repos.update()
        .where(repos.c.id == repo_id)
        .values(maintainer_env_names=_json(sorted(opening.env)), maintainer_env_from=_json(dict(opening.env_from)))
    )
    sealed = msgspec.json.encode(dict(opening.env)) if opening.env else None
    _keep(tx, repo_id, MAINTAINER_ENV, sealed, seal=seal, now=now)


def read(tx: Connection, repo_id: str, unseal: Unseal) -> Opening:
    """Given a repository (a removed one too), return what opens it; raise KeyError if its secrets are gone."""
    row, sealed = _row(tx, repo_id), _sealed(tx, repo_id)
    password = None if row.password_from is not None else unseal(repo_id, PASSWORD, sealed[PASSWORD]).decode()
    return Opening(
        password=password,
        password_from=row.password_from,
        env=_env.decode(unseal(repo_id, ENV, sealed[ENV])),
        env_from=_env.decode(row.env_from),
    )


def read_maintainer(tx: Connection, repo_id: str, unseal: Unseal) -> Opening:
    """Given a repository, return the variables that its maintainer has instead of everybody's."""
    row, sealed = _row(tx, repo_id), _sealed(tx, repo_id)
    found = sealed.get(MAINTAINER_ENV)
    return Opening(
        env={} if found is None else _env.decode(unseal(repo_id, MAINTAINER_ENV, found)),
        env_from=_env.decode(row.maintainer_env_from),
    )


def access(
    tx: Connection, repo_id: str, unseal: Unseal, *, maintaining: bool = False, per_job: Mapping[str, str] | None = None
) -> RepoAccess:
    """Given a repository (a removed one too), return what restic needs to open it.

    maintaining: as its maintainer reaches it, who can do there what the others cannot. per_job: variables that came
    with the job alone, and count before all others. Raise KeyError if its secrets are gone.
    """
    row, opening = _row(tx, repo_id), read(tx, repo_id, unseal)
    if maintaining:
        opening = over(opening, read_maintainer(tx, repo_id, unseal))
    if per_job:
        opening = over(opening, Opening(env=per_job))
    return RepoAccess(
        repo_id=repo_id,
        url=row.maintainer_url or row.url if maintaining else row.url,
        password=opening.password,
        password_from=opening.password_from,
        env=dict(opening.env),
        env_from=dict(opening.env_from),
    )


def over(below: Opening, above: Opening) -> Opening:
    """Given two openings, return the first with the second's variables over its own."""
    names = above.env.keys() | above.env_from.keys()
    return below._replace(
        env={**_without(below.env, names), **above.env},
        env_from={**_without(below.env_from, names), **above.env_from},
    )


def _keep(tx: Connection, repo_id: str, purpose: str, plaintext: bytes | None, *, seal: Seal, now: datetime) -> None:
    tx.execute(secrets.delete().where(secrets.c.owner_id == repo_id, secrets.c.purpose == purpose))
    if plaintext is not None:
        tx.execute(
            secrets.insert().values(
                owner_id=repo_id, purpose=purpose, sealed=seal(repo_id, purpose, plaintext), changed_at=now
            )
        )


def _sealed(tx: Connection, repo_id: str) -> dict[str, bytes]:
    return {row.purpose: row.sealed for row in tx.execute(_SEALED, {"owner_id": repo_id})}


def _row(tx: Connection, repo_id: str) -> Any:
    return tx.execute(_COLUMNS, {"repo_id": repo_id}).one()


def _without(values: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    gone = set(names)
    return {name: value for name, value in values.items() if name not in gone}


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
