"""What an operation is about, as the audit tells it: a name, an id, and what of its row can be different afterwards.

Everything here is read from columns that never hold a secret; of secrets only that they were set, and when. It refuses
to know who acts and whether they may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, Table, func, select

from restic_manager.domain.errors import InputError, NotFoundError
from restic_manager.domain.instants import instant_text
from restic_manager.protocol import announcing
from restic_manager.server.store import job_lists, pending, repo_changes, repos, schema, tokens
from restic_manager.server.store.references import resolve_id

_MOST_JOBS: Final = 10
_LEFT_OUT: Final = {
    # What changes by itself, and what is nobody's business.
    "hosts": {
        "credential_sha256",
        "next_credential_sha256",
        "last_seen_at",
        "schedule_version",
        "applied_schedule_version",
        "applied_epoch",
    },
    "repos": {"listed_at", "changed_at", "part_read", "parts"},
    "schedules": {"revision"},
    "operator_tokens": {"token_sha256", "last_used_at", "last_used_from"},
}
_PLACES: Final = (
    ("/v1/hosts", "host"),
    ("/v1/pending", "machine"),
    ("/v1/repos", "repository"),
    ("/v1/schedules", "schedule"),
    ("/v1/tokens", "token"),
    ("/v1/jobs/", "job"),
    ("/v1/jobs", "repository"),
    ("/v1/pause", "fleet"),
    ("/v1/resume", "fleet"),
    ("/v1/server/certificate", "the certificate"),
    ("/v1/server/key", "the key"),
)


class Subject(NamedTuple):
    """One thing at one moment: what it is called, its id, and its facts as text."""

    label: str
    id: str | None
    facts: Mapping[str, str]


def sort_of(path: str) -> str | None:
    """Given an operation's path, return the sort of thing it is about; None for nothing in particular."""
    return next((sort for beginning, sort in _PLACES if path.startswith(beginning)), None)


def find(tx: Connection, sort: str, reference: str) -> str | None:
    """Given a sort and what an operator wrote, return the id of what is meant; None if there is none (yet)."""
    table = {"host": schema.hosts, "repository": schema.repos, "schedule": schema.schedules}.get(sort)
    try:
        if table is not None:
            return resolve_id(tx, table, reference, sort)
        if sort == "machine":
            return announcing.parse_fingerprint(reference)
        if sort == "token":
            return tokens.resolve(tx, reference).id
        return job_lists.resolve(tx, reference).id if sort == "job" else None
    except (NotFoundError, InputError):
        return None


def look(tx: Connection, sort: str, known: str | None) -> Subject:
    """Given a sort and an id, return it as it is now; for the fleet, and for what is not there, there is no id."""
    if known is None:
        return Subject("the fleet", None, _pauses(tx, None)) if sort == "fleet" else Subject(sort, None, {})
    facts, name = _LOOKS[sort](tx, known)
    return Subject(f"{sort} {name}", known, facts)


def newest_job(tx: Connection) -> int:
    """Return the serial of the newest job, 0 for none."""
    return tx.execute(select(func.max(schema.jobs.c.serial))).scalar() or 0


def jobs_since(tx: Connection, serial: int) -> dict[str, str]:
    """Given a serial, return the jobs made after it as facts: their ids, the first few of them."""
    rows = schema.jobs.c
    query = select(rows.id, rows.kind).where(rows.serial > serial).order_by(rows.serial)
    made = [f"{row.kind} {row.id}" for row in tx.execute(query)]
    if not made:
        return {}
    more = f" and {len(made) - _MOST_JOBS} more" if len(made) > _MOST_JOBS else ""
    return {"jobs": ", ".join(made[:_MOST_JOBS]) + more}


# -- each sort ---------------------------------------------------------------------------------------------------------


def _host(tx: Connection, known: str) -> tuple[dict[str, str], str]:
    facts = _row(tx, schema.hosts, known)
    of_host = select(schema.host_labels.c.key, schema.host_labels.c.value).where(schema.host_labels.c.host_id == known)
    facts |= {f"label {row.key}": row.value for row in tx.execute(of_host)}
    live = select(func.max(schema.invites.c.expires_at)).where(
        schema.invites.c.host_id == known, schema.invites.c.used_at.is_(None), schema.invites.c.revoked_at.is_(None)
    )
    facts |= _texts([("invited_until", tx.execute(live).scalar())])
    return facts | _pauses(tx, schema.pauses.c.host_id == known), facts["name"]


def _repo(tx: Connection, known: str) -> tuple[dict[str, str], str]:
    facts = _row(tx, schema.repos, known)
    sealed = select(schema.secrets.c.purpose, schema.secrets.c.changed_at).where(schema.secrets.c.owner_id == known)
    facts |= {f"{row.purpose} set": instant_text(row.changed_at) for row in tx.execute(sealed)}
    for kind, schedule in repo_changes.schedules_of(tx, repos.get(tx, known)).items():
        facts[f"{kind.value} by"] = f"schedule {schedule.name}, {schedule.cron}"
    return facts, facts["name"]


def _schedule(tx: Connection, known: str) -> tuple[dict[str, str], str]:
    facts = _row(tx, schema.schedules, known)
    return facts | _pauses(tx, schema.pauses.c.schedule_id == known), facts["name"]


def _token(tx: Connection, known: str) -> tuple[dict[str, str], str]:
    facts = _row(tx, schema.operator_tokens, known)
    return facts, facts["name"]


def _machine(tx: Connection, known: str) -> tuple[dict[str, str], str]:
    row = pending.find(tx, known)
    if row is None:
        return {}, known  # nobody waits under this fingerprint (any more): it was approved
    told = (("name", row.name), ("address", row.address), ("os", row.os), ("rejected_at", row.rejected_at))
    return _texts(told), known


def _job(tx: Connection, known: str) -> tuple[dict[str, str], str]:
    rows = schema.jobs.c
    query = select(rows.kind, rows.status, rows.cancel_requested_at, rows.cancel_reason).where(rows.id == known)
    row = tx.execute(query).mappings().one()
    return _texts((str(name), value) for name, value in row.items()), f"{known[:8]} ({row['kind']})"


_LOOKS: Final[dict[str, Callable[[Connection, str], tuple[dict[str, str], str]]]] = {
    "host": _host,
    "repository": _repo,
    "schedule": _schedule,
    "token": _token,
    "machine": _machine,
    "job": _job,
}


def _row(tx: Connection, table: Table, known: str) -> dict[str, str]:
    left_out = _LEFT_OUT[table.name] | {"id", "created_at"}
    columns = [column for column in table.c if column.name not in left_out]
    return _texts(
        (str(name), value)
        for name, value in tx.execute(select(*columns).where(table.c.id == known)).mappings().one().items()
    )


def _pauses(tx: Connection, of: Any) -> dict[str, str]:
    rows = schema.pauses.c
    which = rows.scope == "fleet" if of is None else of
    query = select(rows.since, rows.until, rows.reason).where(which, rows.ended_at.is_(None))
    row = tx.execute(query).first()
    if row is None:
        return {}
    return _texts([("paused_since", row.since), ("paused_until", row.until), ("pause_reason", row.reason)])


def _texts(pairs: Iterable[tuple[str, Any]]) -> dict[str, str]:
    return {name: _text(value) for name, value in pairs if value is not None}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return instant_text(value) if isinstance(value, datetime) else msgspec.json.encode(value).decode()
