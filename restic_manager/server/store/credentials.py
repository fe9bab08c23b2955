"""Which credential lets in as which host, and how one takes the place of another. Owns those columns and what is past.

A host has one live credential; while it is being rotated the next one lets in as well, and its first use ends the one
before. Every credential that ever was valid is remembered by its hash, so that whoever still has it is told why not.
It refuses to know join tokens, messages and sessions.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

import msgspec
from sqlalchemy import Connection, select

from restic_manager.domain.errors import ConflictError
from restic_manager.protocol.messages import CAP_ROTATE, Refused
from restic_manager.server.store import events
from restic_manager.server.store.schema import hosts, past_credentials

INVITE_AGAIN: Final = "run `restic-manager host invite NAME` on the server and give the agent the new token"

Why = Literal["replaced", "rotated", "revoked", "removed"]

_PAST: Final[dict[Why, str]] = {
    "replaced": "another agent has joined as {name} since, so this credential is no longer valid",
    "rotated": "{name} has a newer credential since: this agent runs on an older copy of its data directory",
    "revoked": "an operator has revoked the host {name}: its agent is refused until it joins again",
    "removed": "the host {name} was removed from this server",
}


# -- the door ---------------------------------------------------------------------------------------------------------


def whose(tx: Connection, digest: str) -> str | Refused:
    """Given the hash of a credential, return the id of the host that it lets in as, or why it lets nobody in."""
    for column in (hosts.c.credential_sha256, hosts.c.next_credential_sha256):
        host_id: str | None = tx.execute(select(hosts.c.id).where(column == digest)).scalar()
        if host_id is not None:
            return host_id
    was = tx.execute(
        select(hosts.c.name, hosts.c.removed_at, past_credentials.c.why)
        .join(hosts, hosts.c.id == past_credentials.c.host_id)
        .where(past_credentials.c.credential_sha256 == digest)
    ).first()
    if was is None:
        return Refused(code="unknown", message=f"this server does not know the agent's credential: {INVITE_AGAIN}")
    return Refused(
        code="revoked", message=past_sentence("removed" if was.removed_at is not None else was.why, was.name)
    )


def past_sentence(why: Why, name: str) -> str:
    """Given why a credential is no longer valid and its host's name, return what its agent is told."""
    return f"{_PAST[why].format(name=name)}: {INVITE_AGAIN}"


def use(tx: Connection, host_id: str, digest: str, *, now: datetime) -> bool | Refused:
    """Given a host and the hash of the credential it came with, take note that this one was used.

    Return whether that ended the one before (a rotation is complete); or why it is no longer the host's.
    """
    owner = whose(tx, digest)
    if owner != host_id:
        return owner if isinstance(owner, Refused) else Refused(code="revoked", message="this is another host's")
    row = tx.execute(select(hosts.c.name, hosts.c.credential_sha256).where(hosts.c.id == host_id)).one()
    if row.credential_sha256 == digest:
        return False
    if row.credential_sha256 is not None:
        _retire(tx, host_id, row.credential_sha256, "rotated", now)
    _set_live(tx, host_id, digest, now)
    detail = f"{row.name} uses its new credential: the one before is no longer valid"
    events.record(tx, now=now, actor=row.name, what="credential_rotated", host_id=host_id, detail=detail)
    return True


# -- changes ----------------------------------------------------------------------------------------------------------


def replace(tx: Connection, host_id: str, digest: str, *, now: datetime) -> None:
    """Given a host that joins and the hash of its new credential, let that in from now on, and no other of the host."""
    end(tx, host_id, "replaced", now=now)
    _set_live(tx, host_id, digest, now)
    tx.execute(hosts.update().where(hosts.c.id == host_id).values(revoked_at=None))


def ask_rotation(tx: Connection, host_id: str, *, now: datetime) -> None:
    """Given a host, keep the wish that it replaces its credential; a wish that is kept already stays as it is.

    Raise ConflictError when the host has no credential.
    """
    row = tx.execute(
        select(hosts.c.name, hosts.c.credential_sha256, hosts.c.rotation_asked_at, hosts.c.revoked_at).where(
            hosts.c.id == host_id
        )
    ).one()
    if row.credential_sha256 is None:
        state = "is revoked" if row.revoked_at is not None else "has not joined yet"
        raise ConflictError(
            f"{row.name} {state}, so there is no credential to rotate: `restic-manager host invite {row.name}` lets it "
            "join with a new one"
        )
    if row.rotation_asked_at is None:
        tx.execute(hosts.update().where(hosts.c.id == host_id).values(rotation_asked_at=now))
        detail = f"{row.name} is to replace its credential"
        events.record(tx, now=now, actor="operator", what="rotation_asked", host_id=host_id, detail=detail)


def note_next(tx: Connection, host_id: str, digest: str) -> str | None:
    """Given a host that was asked to and the hash of the credential it has made, let that in, too.

    The live one stays valid until the new one is used. Return None, or why not, in a sentence. The same hash may come
    again; another one takes its place, because the host has made anew what it had not used yet.
    """
    row = tx.execute(
        select(hosts.c.credential_sha256, hosts.c.next_credential_sha256, hosts.c.rotation_asked_at).where(
            hosts.c.id == host_id
        )
    ).one()
    if digest in {row.credential_sha256, row.next_credential_sha256}:
        return None
    if row.rotation_asked_at is None or row.credential_sha256 is None:
        return "nobody has asked for a new credential"
    owner = whose(tx, digest)
    if not isinstance(owner, Refused) or owner.code != "unknown":
        return "this credential was used before: make a new one"
    tx.execute(hosts.update().where(hosts.c.id == host_id).values(next_credential_sha256=digest))
    return None


def rotation_asked(tx: Connection, host_id: str) -> bool:
    """Given a host, return whether it is still to be asked for a new credential, and knows how to make one."""
    query = select(hosts.c.capabilities).where(hosts.c.id == host_id, hosts.c.rotation_asked_at.is_not(None))
    text: str | None = tx.execute(query).scalar()
    return text is not None and CAP_ROTATE in msgspec.json.decode(text, type=tuple[str, ...])


def end(tx: Connection, host_id: str, why: Why, *, now: datetime) -> None:
    """Given a host, let none of its credentials in any more, for this reason."""
    row = tx.execute(
        select(hosts.c.credential_sha256, hosts.c.next_credential_sha256).where(hosts.c.id == host_id)
    ).one()
    for digest in row:
        if digest is not None:
            _retire(tx, host_id, digest, why, now)
    tx.execute(
        hosts.update()
        .where(hosts.c.id == host_id)
        .values(credential_sha256=None, credential_at=None, next_credential_sha256=None, rotation_asked_at=None)
    )


def forget_before(tx: Connection, instant: datetime) -> None:
    """Given an instant, forget credentials whose end is longer ago: they are refused as unknown from then on."""
    tx.execute(past_credentials.delete().where(past_credentials.c.ended_at < instant))


def _set_live(tx: Connection, host_id: str, digest: str, now: datetime) -> None:
    tx.execute(
        hosts.update()
        .where(hosts.c.id == host_id)
        .values(
            credential_sha256=digest,
            credential_at=now,
            next_credential_sha256=None,
            rotation_asked_at=None,
        )
    )


def _retire(tx: Connection, host_id: str, digest: str, why: Why, now: datetime) -> None:
    tx.execute(past_credentials.insert().values(credential_sha256=digest, host_id=host_id, ended_at=now, why=why))
