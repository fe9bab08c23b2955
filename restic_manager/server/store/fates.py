"""The ledger: what became of each slot. Owns its rows; refuses to judge which fate is right."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import Connection, bindparam, select

from restic_manager.domain.firing import KnownFate
from restic_manager.domain.model import Fate
from restic_manager.protocol.messages import Evidence
from restic_manager.server.store.schema import fates


def record_ran(
    tx: Connection, *, schedule_id: str, host_id: str, revision: int, slot: datetime, job_id: str, now: datetime
) -> None:
    """Given a slot and its job, write its fate. Belongs in the transaction that makes the job."""
    tx.execute(
        fates.insert(),
        {
            "schedule_id": schedule_id,
            "host_id": host_id,
            "revision": revision,
            "first_slot": slot,
            "last_slot": slot,
            "count": 1,
            "fate": Fate.RAN.value,
            "job_id": job_id,
            "recorded_at": now,
        },
    )


def record(
    tx: Connection,
    *,
    schedule_id: str,
    host_id: str,
    revision: int,
    first: datetime,
    last: datetime,
    count: int,
    fate: Fate,
    reason: str,
    into: datetime | None,
    evidence: Evidence | None,
    now: datetime,
) -> bool:
    """Given a fate that makes no job, write it; return False where the same has been written before."""
    same = select(fates.c.id).where(
        fates.c.schedule_id == schedule_id,
        fates.c.host_id == host_id,
        fates.c.first_slot == first,
        fates.c.fate == fate.value,
        fates.c.revision == revision,
    )
    if tx.execute(same).first() is not None:
        return False
    tx.execute(
        fates.insert().values(
            schedule_id=schedule_id,
            host_id=host_id,
            revision=revision,
            first_slot=first,
            last_slot=last,
            count=count,
            fate=fate.value,
            reason=reason or None,
            into_slot=into,
            evidence=None if evidence is None else msgspec.json.encode(evidence).decode(),
            recorded_at=now,
        )
    )
    return True


_COVERING = (
    select(fates.c.fate, fates.c.reason)
    .where(
        fates.c.schedule_id == bindparam("schedule_id"),
        fates.c.host_id == bindparam("host_id"),
        fates.c.last_slot >= bindparam("slot"),
        fates.c.first_slot <= bindparam("slot"),
        fates.c.revision == bindparam("revision"),
        fates.c.fate != Fate.RAN.value,
    )
    .order_by(fates.c.last_slot)
    .limit(1)
)


def covering(tx: Connection, schedule_id: str, host_id: str, slot: datetime, revision: int) -> KnownFate | None:
    """Given a slot, return the fate without a job that the ledger holds for it in this revision, None for none."""
    found = tx.execute(
        _COVERING, {"schedule_id": schedule_id, "host_id": host_id, "slot": slot, "revision": revision}
    ).first()
    return None if found is None else KnownFate(Fate(found.fate), found.reason)


def forget_single(tx: Connection, schedule_id: str, host_id: str, slot: datetime) -> None:
    """Given a slot that turns out to have run, take back the fate of this slot alone that said otherwise."""
    tx.execute(
        fates.delete().where(
            fates.c.schedule_id == schedule_id,
            fates.c.host_id == host_id,
            fates.c.first_slot == slot,
            fates.c.last_slot == slot,
            fates.c.fate != Fate.RAN.value,
        )
    )
