"""Host rows as values, who may come in, and what a session tells about its host. Owns reading the `hosts` table.

The credential decides who a host is; a join token lets one in once. What an operator does to a host is `host_changes`.
It refuses to know connections.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, bindparam, select

from restic_manager.domain.errors import NotFoundError
from restic_manager.protocol.messages import Hello, Joined, Refused, RefusedEntry
from restic_manager.server.store import credentials, events, membership, references
from restic_manager.server.store.credentials import INVITE_AGAIN
from restic_manager.server.store.schema import assignments, host_labels, hosts, invites

_texts: Final = msgspec.json.Decoder(tuple[str, ...])
_refused: Final = msgspec.json.Decoder(tuple[RefusedEntry, ...])

_CAPABILITIES: Final = select(hosts.c.capabilities).where(
    hosts.c.id == bindparam("host_id"), hosts.c.removed_at.is_(None)
)


class HostRow(Struct, frozen=True, kw_only=True):
    """One host as the server keeps it. clock_offset: seconds its clock was ahead of ours at its last hello."""

    id: str
    name: str
    restic_host: str
    created_at: datetime
    joined_at: datetime | None
    removed_at: datetime | None
    credential_sha256: str | None
    last_seen_at: datetime | None
    agent_version: str | None
    restic_version: str | None
    restic_problem: str | None
    os: str | None
    machine: str | None
    timezone: str | None
    tzdata: str | None
    boot_id: str | None
    instance_id: str | None
    journal_id: str | None
    capabilities: tuple[str, ...]
    clock_offset: float | None
    schedule_version: int
    applied_schedule_version: int
    applied_epoch: str | None
    refused_entries: tuple[RefusedEntry, ...]
    pins: tuple[str, ...]
    credential_at: datetime | None
    next_credential_sha256: str | None
    rotation_asked_at: datetime | None
    revoked_at: datetime | None
    purge_at: datetime | None
    kinds: tuple[str, ...] | None
    labels: dict[str, str]


class InviteRow(Struct, frozen=True, kw_only=True):
    """One join token, by its hash, and what became of it."""

    id: str
    token_sha256: str
    host_id: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None
    joined_sha256: str | None


# -- questions --------------------------------------------------------------------------------------------------------


def get(tx: Connection, host_id: str) -> HostRow:
    """Given an id, return the host, removed or not; raise NotFoundError if there never was one."""
    row = tx.execute(select(hosts).where(hosts.c.id == host_id)).mappings().first()
    if row is None:
        raise NotFoundError(f"there is no host {host_id[:80]!r}")
    return _host(row, _labels(tx, host_id).get(host_id, {}))


def by_name(tx: Connection, name: str) -> HostRow | None:
    """Given a name, return the host that has it now, None if none has."""
    row = tx.execute(select(hosts).where(hosts.c.name == name, hosts.c.removed_at.is_(None))).mappings().first()
    return None if row is None else _host(row, _labels(tx, row["id"]).get(row["id"], {}))


def resolve(tx: Connection, reference: str) -> HostRow:
    """Given a name or the beginning of an id, return the host; raise NotFoundError for none or several."""
    return get(tx, references.resolve_id(tx, hosts, reference, "host"))


def resolve_ever(tx: Connection, reference: str) -> HostRow:
    """As `resolve`; and given the whole name or id of one that was removed, that one."""
    return get(tx, references.resolve_ever(tx, hosts, reference, "host"))


def all_hosts(tx: Connection) -> list[HostRow]:
    """Return every host that is not removed, by name."""
    labels = _labels(tx)
    query = select(hosts).where(hosts.c.removed_at.is_(None)).order_by(hosts.c.name)
    return [_host(row, labels.get(row["id"], {})) for row in tx.execute(query).mappings()]


def has_capability(tx: Connection, host_id: str, capability: str) -> bool:
    """Given a host, return whether its agent has said at its last hello that it can do this; not of a removed one."""
    text: str | None = tx.execute(_CAPABILITIES, {"host_id": host_id}).scalar()
    return text is not None and capability in _texts.decode(text)


def any_pinned(tx: Connection) -> bool:
    """Return whether any host has said that it knows this server by a pin."""
    query = select(hosts.c.id).where(hosts.c.pins != "[]", hosts.c.removed_at.is_(None)).limit(1)
    return tx.execute(query).first() is not None


def of_schedule(tx: Connection, schedule_id: str) -> list[HostRow]:
    """Given a schedule, return the hosts that have or once had it, removed ones too, by name; without their labels."""
    ever = select(assignments.c.host_id).where(assignments.c.schedule_id == schedule_id)
    query = select(hosts).where(hosts.c.id.in_(ever)).order_by(hosts.c.name, hosts.c.created_at)
    return [_host(row, {}) for row in tx.execute(query).mappings()]


# -- the doors --------------------------------------------------------------------------------------------------------


def admit_credential(tx: Connection, credential_sha256: str) -> HostRow | Refused:
    """Given the hash of a credential, return whose it is, or why it does not let in."""
    owner = credentials.whose(tx, credential_sha256)
    return owner if isinstance(owner, Refused) else get(tx, owner)


def admit_token(tx: Connection, token_sha256: str, now: datetime) -> InviteRow | Refused:
    """Given the hash of a join token, return its invite, or why it does not let in. Used ones are told by `redeem`."""
    query = (
        select(invites, hosts.c.removed_at)
        .join(hosts, hosts.c.id == invites.c.host_id)
        .where(invites.c.token_sha256 == token_sha256)
    )
    row = tx.execute(query).mappings().first()
    if row is None:
        return Refused(code="invalid", message=f"this server has not given out the join token: {INVITE_AGAIN}")
    if row["removed_at"] is not None:
        return Refused(code="revoked", message=f"the host of the join token was removed: {INVITE_AGAIN}")
    if row["revoked_at"] is not None:
        return Refused(
            code="revoked", message=f"the join token was replaced by a newer one: use that, or {INVITE_AGAIN}"
        )
    if now >= row["expires_at"]:
        return Refused(code="expired", message=f"the join token has expired (it is good for an hour): {INVITE_AGAIN}")
    return InviteRow(**{name: row[name] for name in InviteRow.__struct_fields__})


def redeem(tx: Connection, token_sha256: str, credential_sha256: str, now: datetime) -> Joined | Refused:
    """Given a join token's and a credential's hash, let the host in with that credential; its old one dies.

    The same pair gets the same answer until the token expires, so that a join may be repeated after a crash anywhere.
    """
    invite = admit_token(tx, token_sha256, now)
    if isinstance(invite, Refused):
        return invite
    host = get(tx, invite.host_id)
    joined = Joined(host_id=host.id, host_name=host.name)
    if invite.joined_sha256 is not None:
        if credential_sha256 != invite.joined_sha256:
            return Refused(code="used", message=f"the join token has been used already: {INVITE_AGAIN}")
        refused = admit_credential(tx, credential_sha256)
        return refused if isinstance(refused, Refused) else joined
    owner = admit_credential(tx, credential_sha256)
    fresh = owner.code == "unknown" if isinstance(owner, Refused) else owner.id == host.id
    if not fresh:
        # Made anew for every join, so this is a copy of another agent's data directory.
        return Refused(
            code="invalid",
            message="the agent's credential has joined before: empty the agent's data directory and try again",
        )
    tx.execute(invites.update().where(invites.c.id == invite.id).values(used_at=now, joined_sha256=credential_sha256))
    join(tx, host, credential_sha256, now=now)
    return joined


def join(tx: Connection, host: HostRow, credential_sha256: str, *, now: datetime) -> None:
    """Given a host and the hash of a credential that was never used, let it in with that one and no other any more."""
    if credential_sha256 != host.credential_sha256:
        credentials.replace(tx, host.id, credential_sha256, now=now)
    if host.joined_at is None:
        tx.execute(hosts.update().where(hosts.c.id == host.id).values(joined_at=now))
        membership.begin_anew(tx, host.id, now=now)
    what, detail = (
        ("host_joined", f"{host.name} joined")
        if host.joined_at is None
        else ("host_rejoined", f"{host.name} joined again: its earlier credential is no longer valid")
    )
    events.record(tx, now=now, actor=host.name, what=what, host_id=host.id, detail=detail)


# -- what sessions tell -----------------------------------------------------------------------------------------------


def note_hello(tx: Connection, host_id: str, hello: Hello, *, clock_offset: float, now: datetime) -> bool:
    """Given a host's hello, keep what it says; return whether its schedule set changed by it (its zone is another)."""
    tx.execute(
        hosts.update()
        .where(hosts.c.id == host_id)
        .values(
            last_seen_at=now,
            agent_version=hello.agent_version,
            restic_version=hello.restic_version,
            restic_problem=hello.restic_problem,
            os=hello.os,
            machine=hello.machine,
            timezone=hello.timezone,
            tzdata=hello.tzdata,
            boot_id=hello.boot_id,
            instance_id=hello.instance_id,
            journal_id=hello.journal_id,
            capabilities=msgspec.json.encode(hello.capabilities).decode(),
            pins=msgspec.json.encode(hello.pins).decode(),
            kinds=None if hello.kinds is None else msgspec.json.encode(hello.kinds).decode(),
            clock_offset=clock_offset,
            applied_schedule_version=hello.applied_version,
            applied_epoch=hello.applied_epoch,
        )
    )
    return membership.rezone(tx, host_id, hello.timezone, now=now)


_SEEN = hosts.update().where(hosts.c.id == bindparam("seen_id")).values(last_seen_at=bindparam("seen_at"))


def note_seen(tx: Connection, host_ids: Iterable[str], now: datetime) -> None:
    """Given hosts that have a live session now, keep that they were seen."""
    seen = [{"seen_id": host_id, "seen_at": now} for host_id in host_ids]
    if seen:
        tx.execute(_SEEN, seen)


def _labels(tx: Connection, host_id: str | None = None) -> dict[str, dict[str, str]]:
    """Labels by host, of one host or of all, each sorted by name."""
    query = select(host_labels).order_by(host_labels.c.host_id, host_labels.c.key)
    if host_id is not None:
        query = query.where(host_labels.c.host_id == host_id)
    found: dict[str, dict[str, str]] = {}
    for row in tx.execute(query):
        found.setdefault(row.host_id, {})[row.key] = row.value
    return found


def _host(row: Any, labels: dict[str, str]) -> HostRow:
    return HostRow(
        **{
            **row,
            "capabilities": _texts.decode(row["capabilities"]),
            "pins": _texts.decode(row["pins"]),
            "kinds": None if row["kinds"] is None else _texts.decode(row["kinds"]),
            "refused_entries": _refused.decode(row["refused_entries"]),
            "labels": labels,
        }
    )
