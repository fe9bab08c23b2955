"""How a repository looks to an operator: never with a secret in it, and what is wrong with it in sentences.

Built for many repositories at once with a fixed number of questions. Decides what deserves a warning; changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import Connection

from restic_manager.protocol.api import RepoView
from restic_manager.server.store import relisting, repo_facts, repos, retention_advice, schema, sizes, snapshots
from restic_manager.server.store.references import names_of
from restic_manager.server.store.relisting import Failed
from restic_manager.server.store.repo_facts import LastCheck
from restic_manager.server.store.repos import RepoRow, RepoUse

OUT_OF_REACH: Final = timedelta(hours=24)
"""A list that could not be read for so long is trouble."""

_UNUSED: Final = RepoUse((), (), None)


class Trouble(NamedTuple):
    """What is wrong with repositories, in sentences that name them: damage, lists out of reach, nobody who forgets."""

    damaged: list[str]
    unread: list[str]
    unforgotten: list[str]


def views(tx: Connection, rows: Sequence[RepoRow], *, now: datetime) -> list[RepoView]:
    """Given repositories, return how an operator sees them, in the same order."""
    one = rows[0].id if len(rows) == 1 else None
    uses = repos.uses(tx, one)
    counts = snapshots.counts(tx, None if one is None else [one])
    measured = sizes.newest(tx, None if one is None else [one])
    checks = repo_facts.last_checks(tx, one)
    removed = repo_facts.locks_removed(tx, one)
    unpruned = repo_facts.unpruned(tx, one)
    unread = _unread(tx, rows, now)
    hosts = names_of(tx, schema.hosts, {row.maintainer_id for row in rows if row.maintainer_id})
    others = names_of(tx, schema.repos, {row.chunker_from for row in rows if row.chunker_from})
    found: list[RepoView] = []
    for row in rows:
        use, size, check = uses.get(row.id, _UNUSED), measured.get(row.id), checks.get(row.id)
        warnings = [
            *([_damaged(row, check)] if check is not None and check.damaged else []),
            *([unread[row.id]] if row.id in unread else []),
            *retention_advice.repo_warnings(tx, row),
            *([_never_pruned(row)] if row.id in unpruned else []),
            *([_not_append_only(row)] if row.append_only and row.deletion == "possible" else []),
        ]
        found.append(
            RepoView(
                id=row.id,
                name=row.name,
                url=row.url,
                env_names=row.env_names,
                password_from=row.password_from,
                env_from=row.env_from,
                created_at=row.created_at,
                schedules=use.schedules,
                hosts=use.hosts,
                last_job_at=use.last_job_at,
                append_only=row.append_only,
                max_parallel=row.max_parallel,
                chunker_from=others.get(row.chunker_from or ""),
                maintainer=hosts.get(row.maintainer_id or ""),
                maintainer_url=row.maintainer_url,
                maintainer_env_names=row.maintainer_env_names,
                maintainer_env_from=row.maintainer_env_from,
                maintainer_per_job=row.maintainer_per_job,
                snapshots=counts.get(row.id, 0),
                listed_at=row.listed_at,
                list_stale=snapshots.is_stale(row),
                size=None if size is None else size.size,
                measured_at=None if size is None else size.at,
                checked_at=None if check is None else check.at,
                check_status=None if check is None else check.status,
                part_read=row.part_read,
                parts=row.parts,
                locks_removed=removed.get(row.id, 0),
                deletion=row.deletion,
                probed_at=row.probed_at,
                warnings=tuple(warnings),
            )
        )
    return found


def trouble(tx: Connection, *, now: datetime) -> Trouble:
    """Return what is wrong with any repository, as far as somebody should be told without asking."""
    rows = repos.all_repos(tx)
    checks = repo_facts.last_checks(tx)
    return Trouble(
        damaged=[_damaged(row, check) for row in rows if (check := checks.get(row.id)) is not None and check.damaged],
        unread=list(_unread(tx, rows, now).values()),
        unforgotten=[said for row in rows for said in retention_advice.repo_warnings(tx, row)],
    )


def why_not(failed: Mapping[str, Failed], repo_id: str) -> str | None:
    """Given the tries to list repositories that came to nothing, return what is to be said of this one's."""
    last = failed.get(repo_id)
    if last is None:
        return None
    if last.error is not None and last.error.code == "repo_missing":
        return "there was no repository at its URL when that was tried last"
    why = "no reason was given" if last.error is None else last.error.message
    return f"job {last.job_id[:8]} could not list it at {last.at:%Y-%m-%d %H:%M} UTC: {why}"


def _unread(tx: Connection, rows: Sequence[RepoRow], now: datetime) -> dict[str, str]:
    old = [row for row in rows if (row.listed_at or row.created_at) < now - OUT_OF_REACH and snapshots.is_stale(row)]
    if not old:
        return {}
    failed = relisting.last_failures(tx, [row.id for row in old])
    return {
        row.id: f"the snapshots of repository {row.name} could not be listed for more than 24 h: {why}"
        for row in old
        if (why := why_not(failed, row.id)) is not None
    }


def _damaged(row: RepoRow, check: LastCheck) -> str:
    why = "" if check.error is None else f": {check.error.message}"
    return (
        f"repository {row.name} is damaged, as its check of {check.at:%Y-%m-%d %H:%M} UTC found "
        f"(job {check.job_id[:8]}){why}"
    )


def _not_append_only(row: RepoRow) -> str:
    when = "" if row.probed_at is None else f" of {row.probed_at:%Y-%m-%d %H:%M} UTC"
    return (
        f"repository {row.name} is called append-only, and a host could delete there, as the probe{when} found: give "
        "its hosts a login that cannot (`rest-server --append-only`, or a key without the right to delete)"
    )


def _never_pruned(row: RepoRow) -> str:
    return (
        f"nothing prunes repository {row.name}, so what is forgotten there keeps its space: plan it "
        f"(`restic-manager repo maintenance {row.name} --maintainer HOST --prune CRON`)"
    )
