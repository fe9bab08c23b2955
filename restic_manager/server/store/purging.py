"""Taking the history of a removed host away, in bites that hold nobody up. Owns what goes and what stays.

What stays is the host's name here and in the repositories, so that no other host ever gets it and with it the
snapshots, and the hashes of its past credentials, so that its agent is told why it is refused. Snapshots are in their
repositories: nothing here touches them. It refuses to know when it is called.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select

from restic_manager.server.store import events, history
from restic_manager.server.store.schema import (
    assignments,
    fates,
    host_labels,
    hosts,
    invites,
    jobs,
    journals,
    pauses,
    quarantine,
)
from restic_manager.server.store.schema import events as event_rows

_BITE = 2_000

_STAYS = frozenset({"id", "name", "restic_host", "created_at", "removed_at"})


def ask(tx: Connection, host_id: str, *, now: datetime) -> None:
    """Given a host that is removed, keep that its history is to go, too."""
    tx.execute(hosts.update().where(hosts.c.id == host_id, hosts.c.removed_at.is_not(None)).values(purge_at=now))


def asked(tx: Connection) -> list[str]:
    """Return the ids of hosts whose history is to go and has not gone yet."""
    return list(tx.execute(select(hosts.c.id).where(hosts.c.purge_at.is_not(None))).scalars())


def bite(tx: Connection, host_id: str, *, now: datetime) -> bool:
    """Given a host whose history is to go, take some of it away; return whether there is more."""
    found = list(tx.execute(select(jobs.c.id).where(jobs.c.host_id == host_id).limit(history.BITE)).scalars())
    if found:
        history.forget_jobs(tx, found)
        return True
    some = select(fates.c.id).where(fates.c.host_id == host_id).limit(_BITE)
    if tx.execute(fates.delete().where(fates.c.id.in_(some))).rowcount:
        return True
    for table in (assignments, host_labels, invites, journals, pauses, quarantine, event_rows):
        tx.execute(table.delete().where(table.c.host_id == host_id))
    row = tx.execute(select(hosts.c.name, hosts.c.purge_at).where(hosts.c.id == host_id)).one()
    if row.purge_at is not None:
        # Nullable columns and those with a default of their own: what a host has that never said a word.
        blank = {column.name: _blank(column) for column in hosts.c if column.name not in _STAYS}
        tx.execute(hosts.update().where(hosts.c.id == host_id).values(**blank))
        events.record(tx, now=now, actor="server", what="host_purged", detail=f"the history of {row.name} is gone")
    return False


def _blank(column: object) -> object:
    default = getattr(column, "server_default", None)
    if default is None:
        return None
    text = str(default.arg)
    return int(text) if text.isdigit() else text
