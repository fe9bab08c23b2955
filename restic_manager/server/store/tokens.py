"""Operators' tokens: made, revoked, recognised. Owns the `operator_tokens` table; a token itself is never stored.

It refuses to know connections, what a role may do, and how often somebody has tried.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, select

from restic_manager.domain.errors import ConflictError, InputError, NotFoundError, NotPermittedError
from restic_manager.domain.model import new_id
from restic_manager.domain.names import check_name, id_prefix
from restic_manager.domain.roles import Role
from restic_manager.domain.selectors import TargetRule
from restic_manager.domain.tokens import SECRET_BYTES, operator_token, token_sha256
from restic_manager.server.store.schema import operator_tokens

_rule: Final = msgspec.json.Decoder(TargetRule)
USE_NOTED_EVERY: Final = timedelta(minutes=1)
_ANOTHER: Final = "ask an admin for another (`restic-manager token create`)"


class TokenRow(Struct, frozen=True, kw_only=True):
    """One operator's token as the server keeps it."""

    id: str
    name: str
    role: Role
    scope: TargetRule | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    last_used_from: str | None


class Made(NamedTuple):
    """A token, shown this once, and its row."""

    row: TokenRow
    token: str


def create(
    tx: Connection,
    *,
    name: str,
    role: Role,
    scope: TargetRule | None = None,
    lifetime: timedelta | None,
    created_by: str,
    now: datetime,
) -> Made:
    """Given a name, a role and which hosts it is for (None: all), make a token, good for its lifetime or until it is
    revoked.

    Raise InputError for what cannot be a name, and for an admin of some hosts; ConflictError while another token that
    is not revoked has the name.
    """
    check_name(name, "token")
    if role is Role.ADMIN and scope is not None:
        raise InputError("an admin's token cannot be limited to some hosts: give it the role operator, or all hosts")
    taken = select(operator_tokens.c.id).where(operator_tokens.c.name == name, operator_tokens.c.revoked_at.is_(None))
    if tx.execute(taken).first() is not None:
        raise ConflictError(f"there is already a token {name!r}: choose another name, or revoke that one first")
    token = operator_token(secrets.token_bytes(SECRET_BYTES))
    token_id = new_id()
    tx.execute(
        operator_tokens.insert().values(
            id=token_id,
            name=name,
            role=role.value,
            scope=None if scope is None else msgspec.json.encode(scope).decode(),
            token_sha256=token_sha256(token),
            created_at=now,
            created_by=created_by,
            expires_at=None if lifetime is None else now + lifetime,
        )
    )
    return Made(get(tx, token_id), token)


def revoke(tx: Connection, row: TokenRow, *, now: datetime) -> TokenRow:
    """Given a token that is not revoked, revoke it and return it."""
    tx.execute(operator_tokens.update().where(operator_tokens.c.id == row.id).values(revoked_at=now))
    return get(tx, row.id)


def get(tx: Connection, token_id: str) -> TokenRow:
    """Given an id, return the token, revoked or not; raise NotFoundError if there never was one."""
    row = tx.execute(select(operator_tokens).where(operator_tokens.c.id == token_id)).mappings().first()
    if row is None:
        raise NotFoundError(f"there is no token {token_id[:80]!r}")
    return _row(row)


def resolve(tx: Connection, reference: str) -> TokenRow:
    """Given a name or the beginning of an id, return the token that is not revoked; raise NotFoundError if none is."""
    live = select(operator_tokens).where(operator_tokens.c.revoked_at.is_(None))
    found = tx.execute(live.where(operator_tokens.c.name == reference)).mappings().all()
    prefix = id_prefix(reference)
    if not found and prefix is not None:
        rows = operator_tokens.c
        found = tx.execute(live.where(rows.id >= prefix, rows.id < prefix + "g").limit(2)).mappings().all()
    if len(found) == 1:
        return _row(found[0])
    if found:
        raise NotFoundError(f"{reference!r} fits several tokens: write more of the id")
    raise NotFoundError(
        f"there is no token {reference[:80]!r} that is not revoked: `restic-manager token list` shows what there is"
    )


def all_tokens(tx: Connection) -> list[TokenRow]:
    """Return every token there ever was, the newest first."""
    query = select(operator_tokens).order_by(operator_tokens.c.created_at.desc(), operator_tokens.c.id)
    return [_row(row) for row in tx.execute(query).mappings()]


def recognise(tx: Connection, digest: str, *, now: datetime) -> TokenRow | NotPermittedError:
    """Given a token's hash, return whose it is, or why it does not let in."""
    row = tx.execute(select(operator_tokens).where(operator_tokens.c.token_sha256 == digest)).mappings().first()
    if row is None:
        return NotPermittedError(f"this server has not given out this token: {_ANOTHER}", code="unknown_token")
    token = _row(row)
    if token.revoked_at is not None:
        return NotPermittedError(f"the token {token.name} was revoked: {_ANOTHER}", code="revoked_token")
    if token.expires_at is not None and now >= token.expires_at:
        return NotPermittedError(
            f"the token {token.name} has expired ({token.expires_at:%Y-%m-%d %H:%M} UTC): {_ANOTHER}",
            code="expired_token",
        )
    return token


def use_is_news(row: TokenRow, now: datetime) -> bool:
    """Given a token that is used now, return whether that is to be stored: at most once a minute."""
    return row.last_used_at is None or abs(now - row.last_used_at) >= USE_NOTED_EVERY


def note_used(tx: Connection, token_id: str, *, origin: str, now: datetime) -> None:
    """Given a token and from where it was used, keep that."""
    change = operator_tokens.update().where(operator_tokens.c.id == token_id)
    tx.execute(change.values(last_used_at=now, last_used_from=origin))


def _row(row: Any) -> TokenRow:
    values = {name: row[name] for name in TokenRow.__struct_fields__}
    scope = None if row["scope"] is None else _rule.decode(row["scope"])
    return TokenRow(**{**values, "role": Role(row["role"]), "scope": scope})
