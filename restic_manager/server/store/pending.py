"""Machines that have announced themselves and wait for a word. Owns the table `pending_hosts` and its limits.

Who waits is known by its key; what it is called is a wish of its own, and never makes it a host that is there already.
An entry goes an hour after it was last heard of, or when it is approved: then it is a host, and known by its
credential. It refuses to know connections, and whether a signature is good.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from msgspec import Struct
from sqlalchemy import Connection, func, select

from restic_manager.domain.errors import ConflictError, InputError, NotFoundError
from restic_manager.domain.names import check_labels, check_name
from restic_manager.protocol.announcing import parse_fingerprint
from restic_manager.protocol.messages import Announce, Announced, Joined, Refused
from restic_manager.server.store import credentials, events, host_changes, hosts
from restic_manager.server.store.hosts import HostRow
from restic_manager.server.store.schema import hosts as host_rows
from restic_manager.server.store.schema import pending_hosts

LIFETIME: Final = timedelta(hours=1)
"""So long after it was last heard of an entry is kept."""
MOST_AT_ONE_ADDRESS: Final = 10
MOST: Final = 500
ASK_AGAIN: Final = 5
"""Seconds after which who waits asks again; more where many do."""
ASKING_A_SECOND: Final = 20
"""How many of those who wait may ask in one second."""
_CROWDED_PAUSE: Final = 300
_HEARD: Final = timedelta(minutes=1)
"""How exact it is kept when an entry was last heard of."""


class PendingRow(Struct, frozen=True, kw_only=True):
    """One machine that waits. rejected_at: an operator has said no, and it is told so."""

    fingerprint: str
    public_key: str
    credential_sha256: str
    name: str
    os: str
    agent_version: str
    address: str
    network: str
    first_at: datetime
    last_at: datetime
    rejected_at: datetime | None


class Approved(NamedTuple):
    """Who a machine has become, what to say of its name, and the ids of hosts whose schedule set changed."""

    host: HostRow
    note: str | None
    changed: list[str]


# -- the agents' side -------------------------------------------------------------------------------------------------


def announce(
    tx: Connection, said: Announce, *, fingerprint: str, address: str, network: str, now: datetime
) -> Announced | Joined | Refused:
    """Given an announcement whose signature is good, the fingerprint of its key and where it comes from, take it.

    Return who it is now, if it was approved; else when to ask again, or why not. The same may come any number of times.
    """
    owner = credentials.whose(tx, said.credential_sha256)
    if isinstance(owner, str):
        return Joined(host_id=owner, host_name=hosts.get(tx, owner).name)
    if owner.code != "unknown":
        return owner
    forget(tx, now)
    known = find(tx, fingerprint)
    if known is not None and known.rejected_at is not None:
        return Refused(
            code="rejected",
            message=f"an operator has rejected this machine's key ({fingerprint}): ask the server's administrator",
        )
    told = {
        "credential_sha256": said.credential_sha256,
        "name": said.name,
        "os": said.os,
        "agent_version": said.agent_version,
        "address": address,
        "network": network,
    }
    if known is None:
        crowd = _crowd(tx, network)
        if crowd is not None:
            return Refused(code="crowded", message=crowd, retry=True, retry_after=_CROWDED_PAUSE)
        tx.execute(
            pending_hosts.insert().values(
                fingerprint=fingerprint, public_key=said.public_key, first_at=now, last_at=now, **told
            )
        )
    elif now - known.last_at >= _HEARD or any(getattr(known, name) != value for name, value in told.items()):
        tx.execute(pending_hosts.update().where(pending_hosts.c.fingerprint == fingerprint).values(last_at=now, **told))
    waiting: int = tx.execute(select(func.count()).select_from(pending_hosts)).scalar_one()
    return Announced(
        fingerprint=fingerprint,
        retry_after=max(ASK_AGAIN, math.ceil(waiting / ASKING_A_SECOND)),
        expires_at=now + LIFETIME,
    )


def _crowd(tx: Connection, network: str) -> str | None:
    """Return why one more cannot wait, None if it can."""
    query = select(func.count()).select_from(pending_hosts)
    if tx.execute(query).scalar_one() >= MOST:
        return f"{MOST} machines wait for approval already, and no more may: try again later, or join with a token"
    if tx.execute(query.where(pending_hosts.c.network == network)).scalar_one() >= MOST_AT_ONE_ADDRESS:
        return (
            f"{MOST_AT_ONE_ADDRESS} machines at this address wait for approval already, and no more may: have some of "
            "them approved or rejected, or join with a token"
        )
    return None


# -- the operators' side ----------------------------------------------------------------------------------------------


def find(tx: Connection, fingerprint: str) -> PendingRow | None:
    """Given a fingerprint, return what waits under it, None for nothing."""
    query = select(pending_hosts).where(pending_hosts.c.fingerprint == fingerprint)
    row = tx.execute(query).mappings().first()
    return None if row is None else PendingRow(**row)


def resolve(tx: Connection, text: str, now: datetime) -> PendingRow:
    """Given a fingerprint as an operator wrote it, return what waits under it; raise NotFoundError, InputError."""
    fingerprint = parse_fingerprint(text)
    row = find(tx, fingerprint)
    if row is None or row.last_at + LIFETIME <= now:
        raise NotFoundError(
            f"no machine waits with the fingerprint {fingerprint}: `restic-manager host pending` lists those that do "
            "(what has not been heard of for an hour is forgotten)"
        )
    return row


def listed(tx: Connection, now: datetime) -> list[PendingRow]:
    """Return all that wait, those that came first before others."""
    query = (
        select(pending_hosts)
        .where(pending_hosts.c.last_at > now - LIFETIME)
        .order_by(pending_hosts.c.first_at, pending_hosts.c.fingerprint)
    )
    return [PendingRow(**row) for row in tx.execute(query).mappings()]


def taken_names(tx: Connection) -> set[str]:
    """Return the names that hosts have now."""
    return set(tx.execute(select(host_rows.c.name).where(host_rows.c.removed_at.is_(None))).scalars())


def approve(
    tx: Connection,
    row: PendingRow,
    *,
    name: str | None,
    labels: Mapping[str, str],
    now: datetime,
    default_zone: str,
) -> Approved:
    """Given who waits, make it a host, called what it calls itself or this name; its credential lets in from now on.

    Raise InputError for what cannot be a name or label, ConflictError for a name that a host has: that host is never
    replaced in this way.
    """
    called = row.name if name is None else name
    try:
        check_name(called, "host")
    except InputError as error:
        remedy = "" if name is not None else ": say what it is to be called with --name"
        raise InputError(f"{error.message}{remedy}") from None
    check_labels(labels)
    if hosts.by_name(tx, called) is not None:
        raise ConflictError(
            f"there is a host {called!r} already, and this machine does not take its place: give it another name with "
            f"--name; or, if it is that host, reject it and run `restic-manager host invite {called}`"
        )
    made = host_changes.make(tx, name=called, labels=labels, now=now, default_zone=default_zone)
    hosts.join(tx, made.host, row.credential_sha256, now=now)
    tx.execute(pending_hosts.delete().where(pending_hosts.c.fingerprint == row.fingerprint))
    detail = f"{called} was approved by its fingerprint {row.fingerprint} (it calls itself {row.name[:80]})"
    events.record(tx, now=now, actor="operator", what="host_approved", host_id=made.host.id, detail=detail)
    return Approved(hosts.get(tx, made.host.id), made.note, made.changed)


def reject(tx: Connection, row: PendingRow, *, now: datetime) -> PendingRow:
    """Given who waits, say no: it is told so for as long as it is remembered. Return it as it is then."""
    tx.execute(
        pending_hosts.update()
        .where(pending_hosts.c.fingerprint == row.fingerprint)
        .values(rejected_at=row.rejected_at or now)
    )
    found = find(tx, row.fingerprint)
    if found is None:
        raise ValueError("it was there, in this transaction")
    return found


def forget(tx: Connection, now: datetime) -> None:
    """Forget what has not been heard of for long enough."""
    tx.execute(pending_hosts.delete().where(pending_hosts.c.last_at <= now - LIFETIME))
