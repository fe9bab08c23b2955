"""What an operator does to a host: invite, label, rename, remove. Owns who becomes or stops being a host.

Every change that alters which schedules a host has returns the ids of the hosts whose set changed. It refuses to know
sessions: closing one, or telling it of a new set, is for whoever calls.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import Connection, select

from restic_manager.domain.errors import ConflictError, InputError
from restic_manager.domain.model import new_id
from restic_manager.domain.names import MAX_LABELS, check_label_key, check_labels, check_name
from restic_manager.domain.selectors import selects
from restic_manager.protocol.jointoken import make_token
from restic_manager.server.store import credentials, events, hosts, jobs, membership, schedules
from restic_manager.server.store.hosts import HostRow
from restic_manager.server.store.membership import Member
from restic_manager.server.store.references import refuse_taken_name
from restic_manager.server.store.ripple import Ripple
from restic_manager.server.store.schema import assignments as assignment_rows
from restic_manager.server.store.schema import host_labels, invites
from restic_manager.server.store.schema import hosts as host_rows
from restic_manager.server.store.schema import repos as repo_rows

INVITE_LIFETIME: Final = timedelta(hours=1)


class Invited(NamedTuple):
    """A join token (shown this once), whose it is, and what the operator should know about it."""

    host: HostRow
    token: str
    expires_at: datetime
    rejoin: bool
    note: str | None
    changed: list[str]


class Made(NamedTuple):
    """A host that nobody has joined as, what to say of its name, and the ids of hosts whose schedule set changed."""

    host: HostRow
    note: str | None
    changed: list[str]


def token_sha256(token: str) -> str:
    """Given a join token, return what is stored of it."""
    return hashlib.sha256(token.encode("utf-8", errors="surrogatepass")).hexdigest()


def invite(
    tx: Connection,
    *,
    name: str,
    labels: Mapping[str, str],
    now: datetime,
    default_zone: str,
    pins: Sequence[str] = (),
    repo_ids: Sequence[str] | None = None,
) -> Invited:
    """Given a name, make a join token for the host of that name: a new one, or a known one that joins again.

    pins: of the server's certificate, told by the token. repo_ids: repositories that the join brings. Earlier tokens of
    the host that were not used die. Raise
    InputError for what cannot be a name or label.
    """
    check_name(name, "host")
    check_labels(labels)
    known = hosts.by_name(tx, name)
    note = None
    if known is None:
        host, note, changed = make(tx, name=name, labels=labels, now=now, default_zone=default_zone)
        host_id = host.id
    else:
        host_id = known.id
        _end_invites(tx, host_id, now)
        changed = label(tx, known, put=labels, remove=(), now=now, default_zone=default_zone)
    token = make_token(secrets.token_bytes(32), pins).text
    expires_at = now + INVITE_LIFETIME
    tx.execute(
        invites.insert().values(
            id=new_id(),
            token_sha256=token_sha256(token),
            host_id=host_id,
            created_at=now,
            expires_at=expires_at,
            repositories=None if repo_ids is None else msgspec.json.encode(tuple(repo_ids)).decode(),
        )
    )
    rejoin = known is not None and known.joined_at is not None
    events.record(
        tx,
        now=now,
        actor="operator",
        what="host_invited",
        host_id=host_id,
        detail=f"{name} was invited to join {'again' if rejoin else 'for the first time'}",
    )
    return Invited(hosts.get(tx, host_id), token, expires_at, rejoin, note, changed)


def make(tx: Connection, *, name: str, labels: Mapping[str, str], now: datetime, default_zone: str) -> Made:
    """Given a name that no host has, and labels, make a host of it; both are known to be good."""
    host_id, note = _new_host(tx, name, now)
    host = hosts.get(tx, host_id)
    changed = label(tx, host, put=labels, remove=(), now=now, default_zone=default_zone, is_new=True)
    return Made(hosts.get(tx, host_id), note, changed)


def label(
    tx: Connection,
    host: HostRow,
    *,
    put: Mapping[str, str],
    remove: Sequence[str],
    now: datetime,
    default_zone: str,
    is_new: bool = False,
) -> list[str]:
    """Given labels to set and names of labels to take away, change them, and with them which schedules the host has.

    Return the ids of hosts whose set changed (this one or none). Raise InputError for what cannot be a label, and for
    one that is to be set and taken away at once.
    """
    check_labels(put)
    for key in remove:
        check_label_key(key)
        if key in put:
            raise InputError(f"the label {key} is to be set and to be removed: decide on one")
    after = {key: value for key, value in host.labels.items() if key not in remove} | dict(put)
    if len(after) > MAX_LABELS:
        raise InputError(f"{host.name} would have {len(after)} labels: a host has at most {MAX_LABELS}")
    if after != host.labels:
        tx.execute(host_labels.delete().where(host_labels.c.host_id == host.id))
        if after:
            tx.execute(
                host_labels.insert(),
                [{"host_id": host.id, "key": key, "value": value} for key, value in sorted(after.items())],
            )
    elif not is_new:
        return []
    return _follow_rules(tx, host, after, now=now, default_zone=default_zone)


def rename(tx: Connection, host: HostRow, name: str, *, now: datetime) -> HostRow:
    """Given a new name, give it to the host; its id, its ledger and its restic host name stay."""
    check_name(name, "host")
    if name == host.name:
        return host
    refuse_taken_name(tx, host_rows, name, "host")
    tx.execute(host_rows.update().where(host_rows.c.id == host.id).values(name=name))
    events.record(
        tx, now=now, actor="operator", what="host_renamed", host_id=host.id, detail=f"{host.name} is now {name}"
    )
    return hosts.get(tx, host.id)


def revoke(tx: Connection, host: HostRow, *, now: datetime) -> None:
    """Given a host, let its credentials and open tokens die; it stays as it is, and is invited when it may come back.

    Raise ConflictError when it has never joined: then an invite is all there is, and a newer one ends that.
    """
    if host.joined_at is None:
        raise ConflictError(
            f"{host.name} has not joined yet, so there is nothing to revoke: `restic-manager host remove {host.name}` "
            "ends its invite"
        )
    credentials.end(tx, host.id, "revoked", now=now)
    _end_invites(tx, host.id, now)
    if host.revoked_at is None:
        tx.execute(host_rows.update().where(host_rows.c.id == host.id).values(revoked_at=now))
        detail = f"{host.name} was revoked: its agent is refused until it joins again"
        events.record(tx, now=now, actor="operator", what="host_revoked", host_id=host.id, detail=detail)


def _end_invites(tx: Connection, host_id: str, now: datetime) -> None:
    tx.execute(
        invites.update()
        .where(invites.c.host_id == host_id, invites.c.used_at.is_(None), invites.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )


def remove(tx: Connection, host: HostRow, *, now: datetime) -> Ripple:
    """Given a host, remove it: its credential and tokens die, its schedules end for it, its jobs get their verdict, and
    it maintains nothing any more. Its history stays (`purging` takes that away).

    Return what that verdict calls for outside the database.
    """
    membership.leave_all(tx, host.id, now=now)
    ripple = jobs.host_removed(tx, host.id, now)
    credentials.end(tx, host.id, "removed", now=now)
    tx.execute(host_rows.update().where(host_rows.c.id == host.id).values(removed_at=now))
    _end_invites(tx, host.id, now)
    tx.execute(repo_rows.update().where(repo_rows.c.maintainer_id == host.id).values(maintainer_id=None))
    events.record(
        tx, now=now, actor="operator", what="host_removed", host_id=host.id, detail=f"{host.name} was removed"
    )
    return ripple


def _new_host(tx: Connection, name: str, now: datetime) -> tuple[str, str | None]:
    """Store a host that nobody has joined as; its restic host name is its own for ever. Return its id and a note."""
    host_id = new_id()
    digits = host_id.replace("-", "")
    restic_host, note = name, None
    length = 6
    while tx.execute(select(host_rows.c.id).where(host_rows.c.restic_host == restic_host)).first() is not None:
        restic_host = f"{name}-{digits[:length]}"
        length += 2
        note = (
            f"another host was called {name} before, and its snapshots keep that name: in the repositories this one is "
            f"{restic_host}"
        )
    tx.execute(host_rows.insert().values(id=host_id, name=name, restic_host=restic_host, created_at=now))
    return host_id, note


def _follow_rules(
    tx: Connection, host: HostRow, labels: Mapping[str, str], *, now: datetime, default_zone: str
) -> list[str]:
    """Bring the host in line with every rule that looks at labels, or at nothing. Only what differs is touched."""
    query = select(assignment_rows.c.schedule_id).where(
        assignment_rows.c.host_id == host.id, assignment_rows.c.valid_to.is_(None)
    )
    has = set(tx.execute(query).scalars())
    changed: list[str] = []
    for schedule in schedules.of_rules(tx):
        wanted = selects(schedule.rule, host_id=host.id, labels=labels)
        if wanted and schedule.id not in has:
            member = Member(host.id, membership.usable_zone(host.timezone))
            changed = membership.enter(tx, schedule, [member], now=now, default_zone=default_zone)
        elif not wanted and schedule.id in has:
            changed = membership.leave(tx, schedule.id, [host.id], now=now)
    return changed
