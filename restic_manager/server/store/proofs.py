"""When a backup of each host was last proven restorable: the newest good `verify` of a snapshot of it. Reads only.

Whose proof it is, is whose snapshot it was: a host may prove another's, one that is gone, say. Where the snapshot is
not listed any more, the order's word counts, and last the host that did it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, Select, select

from restic_manager.domain.model import Kind, Spec, Status
from restic_manager.domain.results import Result, VerifyStats
from restic_manager.domain.specs import VerifySpec
from restic_manager.server.store.references import chunks
from restic_manager.server.store.schema import hosts, jobs, snapshots

LOOKED_AT: Final = 3
"""Of each host's own verifies the newest so many are looked at: one of them may be of another host's snapshot."""

_WHOLE: Final = 64
"""Digits of a whole snapshot id."""
_spec: Final[msgspec.json.Decoder[Spec]] = msgspec.json.Decoder(Spec)
_result: Final[msgspec.json.Decoder[Result]] = msgspec.json.Decoder(Result)


class Proof(NamedTuple):
    """A verify that went well."""

    at: datetime
    job_id: str


def newest(tx: Connection) -> dict[str, Proof]:
    """Return the newest proof of each host that has one, by the host's id."""
    rows = [row for nth in range(LOOKED_AT) for row in tx.execute(_nth_newest(nth))]
    names = _restic_hosts(tx)
    listed = _listed(tx, rows)
    found: dict[str, Proof] = {}
    for row in rows:
        owner = _owner(row, listed, names)
        if owner not in found or row.finished_at > found[owner].at:
            found[owner] = Proof(row.finished_at, row.id)
    return found


def _nth_newest(nth: int) -> Select[Any]:
    """Each host's nth newest good verify: one step in an index a host."""
    mine = jobs.alias()
    serial = (
        select(mine.c.serial)
        .where(
            mine.c.host_id == hosts.c.id,
            mine.c.kind == Kind.VERIFY.value,
            mine.c.status == Status.SUCCEEDED.value,
        )
        .order_by(mine.c.serial.desc())
        .limit(1)
        .offset(nth)
        .scalar_subquery()
    )
    columns = (jobs.c.id, jobs.c.host_id, jobs.c.finished_at, jobs.c.spec, jobs.c.result, jobs.c.repo_id)
    return select(*columns).select_from(hosts).join(jobs, jobs.c.serial == serial)


def _owner(row: Any, listed: dict[tuple[str, str], str], names: dict[str, str]) -> str:
    result = None if row.result is None else _result.decode(row.result)
    shown = listed.get((row.repo_id, result.snapshot)) if isinstance(result, VerifyStats) else None
    if shown is None:
        spec = _spec.decode(row.spec)
        shown = spec.restic_host if isinstance(spec, VerifySpec) else None
    host_id: str = row.host_id
    return names.get(shown or "", host_id)


def _listed(tx: Connection, rows: Iterable[Any]) -> dict[tuple[str, str], str]:
    """Return the restic hosts of the snapshots that were verified, by repository and as the verdict names them."""
    named: dict[str, set[str]] = {}
    for row in rows:
        result = None if row.result is None else _result.decode(row.result)
        if isinstance(result, VerifyStats):
            named.setdefault(row.repo_id, set()).add(result.snapshot)
    found: dict[tuple[str, str], str] = {}
    for repo_id, ids in named.items():
        query = select(snapshots.c.id, snapshots.c.restic_host).where(snapshots.c.repo_id == repo_id)
        whole = [id_ for id_ in ids if len(id_) == _WHOLE]
        for part in chunks(sorted(whole)):
            for row in tx.execute(query.where(snapshots.c.id.in_(part))):
                found[repo_id, row.id] = row.restic_host
        for id_ in ids.difference(whole):  # restic 0.14 tells beginnings
            beginning = query.where(snapshots.c.id >= id_, snapshots.c.id < id_ + "g")
            for row in tx.execute(beginning.limit(1)):
                found[repo_id, id_] = row.restic_host
    return found


def _restic_hosts(tx: Connection) -> dict[str, str]:
    return {row.restic_host: row.id for row in tx.execute(select(hosts.c.restic_host, hosts.c.id))}
