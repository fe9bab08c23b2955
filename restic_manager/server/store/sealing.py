"""Every sealed value in the database, sealed again with the newest key. Refuses to know where keys are kept."""

from __future__ import annotations

from sqlalchemy import Connection, select

from restic_manager.secrets import Sealer
from restic_manager.server.store import identity
from restic_manager.server.store.schema import secrets


def seal_anew(tx: Connection, sealer: Sealer) -> int:
    """Given a sealer that opens everything, seal with its newest key what is not yet; return how many values that were.

    Raise StorageError, with nothing changed, if one of them does not open.
    """
    changed = 0
    for row in tx.execute(select(secrets.c.owner_id, secrets.c.purpose, secrets.c.sealed)).all():
        if sealer.is_newest(row.sealed):
            continue
        plaintext = sealer.unseal(row.owner_id, row.purpose, row.sealed)
        tx.execute(
            secrets.update()
            .where(secrets.c.owner_id == row.owner_id, secrets.c.purpose == row.purpose)
            .values(sealed=sealer.seal(row.owner_id, row.purpose, plaintext))
        )
        changed += 1
    identity.prove_key_anew(tx, sealer)
    return changed
