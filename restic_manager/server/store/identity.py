"""What this database is: its epoch, and the proof that the sealing key fits it. Owns the `server` row.

Refuses to know where the key file is, and when a new epoch is due.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import sqlalchemy
from sqlalchemy import Connection

from restic_manager.domain.errors import StorageError
from restic_manager.domain.model import new_id
from restic_manager.secrets import Sealer
from restic_manager.server.store import events
from restic_manager.server.store.schema import events as event_rows
from restic_manager.server.store.schema import server

_NEW_EPOCH: Final = "new_epoch"
_OWNER: Final = "server"
_PURPOSE: Final = "key-check"
_PROOF: Final = b"restic-manager"


def epoch(tx: Connection) -> str:
    """Return the epoch of this store."""
    return str(tx.execute(sqlalchemy.select(server.c.epoch)).scalar_one())


def new_epoch(tx: Connection, *, now: datetime, reason: str) -> str:
    """Given why this store is an old copy, give it a new epoch and return that."""
    fresh = new_id()
    tx.execute(server.update().values(epoch=fresh))
    events.record(tx, now=now, actor="server", what=_NEW_EPOCH, detail=reason)
    return fresh


def latest_epoch_since(tx: Connection, instant: datetime) -> datetime | None:
    """Given an instant, return when this store last got a new epoch, None if not since then."""
    query = sqlalchemy.select(sqlalchemy.func.max(event_rows.c.at)).where(
        event_rows.c.at > instant, event_rows.c.what == _NEW_EPOCH
    )
    found: datetime | None = tx.execute(query).scalar()
    return found


def has_key(tx: Connection) -> bool:
    """Return whether a sealing key has been used with this database (then a missing key file must not be made anew)."""
    return tx.execute(sqlalchemy.select(server.c.key_check)).scalar_one() is not None


def prove_key_anew(tx: Connection, sealer: Sealer) -> None:
    """Given a sealer that this database was sealed with, let its newest key be the one that proves that."""
    tx.execute(server.update().values(key_check=sealer.seal(_OWNER, _PURPOSE, _PROOF)))


def prove_key(tx: Connection, sealer: Sealer) -> None:
    """Given the sealer at hand, return if this database was sealed with it; the first one is taken as the right one.

    Raise StorageError when it is another key.
    """
    check = tx.execute(sqlalchemy.select(server.c.key_check)).scalar_one()
    if check is None:
        tx.execute(server.update().values(key_check=sealer.seal(_OWNER, _PURPOSE, _PROOF)))
        return
    try:
        sealer.unseal(_OWNER, _PURPOSE, check)
    except StorageError:
        raise StorageError(
            "the key file is not the one this database was sealed with: put the right one back from your copy (the "
            "database and the key belong together)",
            code="storage_key",
        ) from None
