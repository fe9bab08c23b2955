"""What the API carries of operators: their tokens, who they are, and the audit of what they did."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from restic_manager.domain.model import Instant
from restic_manager.domain.roles import Role


class WhoView(Struct, frozen=True, kw_only=True):
    """Who asks: the user of the socket, or the name of a token; with what role, and until when.

    pins: those of the server's own certificate, the next one's among them; none where it has none, or one that CAs
    vouch for.
    """

    name: str
    role: Role
    origin: str
    expires_at: Instant | None = None
    pins: tuple[str, ...] = ()


class TokenRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token for an operator elsewhere. seconds: how long it is good for; null for until it is revoked.

    hosts (names) or labels: which hosts it is for, those with all of the labels; none of both: all hosts.
    """

    name: str
    role: Role
    hosts: Annotated[tuple[str, ...], Meta(max_length=1_000)] = ()
    labels: Annotated[dict[str, str], Meta(max_length=64)] = {}
    seconds: Annotated[int, Meta(ge=60, le=3_660 * 86_400)] | None = None


class TokenView(Struct, frozen=True, kw_only=True):
    """One operator's token, without what it is. token: itself, only in the answer that makes it.

    last_used_at is exact to a minute. hosts, labels: which hosts it is for; none of both: all.
    """

    id: str
    name: str
    role: Role
    hosts: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    created_at: Instant
    created_by: str
    expires_at: Instant | None
    revoked_at: Instant | None
    last_used_at: Instant | None
    last_used_from: str | None
    token: str | None = None


class AuditView(Struct, frozen=True, kw_only=True):
    """One row of the audit. The order of the fields is part of it: see `docs/security.md`.

    outcome: `done`, or the code of the error that it ended with. before, after: of what was acted on, only what is
    different. hash: SHA-256, in hex, of this object's JSON without its `hash`; previous: the hash of the row before.
    """

    seq: int
    at: Instant
    who: str
    role: Role | None
    origin: str
    operation: str
    object: str | None
    object_id: str | None
    before: dict[str, str]
    after: dict[str, str]
    outcome: str
    message: str | None
    previous: str
    hash: str


class AuditCheck(Struct, frozen=True, kw_only=True):
    """What walking the audit's chain found. broken: the first row that does not fit, with what is wrong in `problem`.

    last, hash: the newest row. Whoever keeps these elsewhere can tell later whether rows were cut off or written anew.
    """

    rows: int
    first: int | None
    last: int | None
    hash: str | None
    broken: int | None = None
    problem: str | None = None
