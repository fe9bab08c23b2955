"""`/v1/audit`: what operators did and were refused; whether its chain holds; all of it. Thin over `store.audit`."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import Connection

from restic_manager.domain.model import Instant
from restic_manager.protocol.api import AuditCheck, AuditView
from restic_manager.server.api.follow import Emit, JsonLines
from restic_manager.server.api.operations import Call, Operation
from restic_manager.server.services import Services
from restic_manager.server.store import audit
from restic_manager.server.store.audit import Walk

_AT_ONCE: Final = 2_000
"""Rows read in one go: a long audit holds nobody up."""
_encoder: Final = msgspec.json.Encoder()


class AuditQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rows: since an instant, of one operator by its whole name; at most how many, the newest."""

    since: Instant | None = None
    who: Annotated[str, Meta(max_length=128)] | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100


async def list_rows(services: Services, call: Call[None, AuditQuery]) -> list[AuditView]:
    """Return the newest rows."""
    query = call.query
    return await services.store.read(lambda tx: audit.latest(tx, limit=query.limit, since=query.since, who=query.who))


async def verify(services: Services, call: Call[None, None]) -> AuditCheck:  # noqa: ARG001 - a handler's form
    """Walk the whole chain."""
    done = Walk()
    while True:
        begun = done

        def further(tx: Connection, begun: Walk = begun) -> Walk:
            return audit.walk(tx, begun, limit=_AT_ONCE)

        done = await services.store.read(further)
        if done.broken is not None or done.seq == begun.seq:
            return done.check


async def export(services: Services, call: Call[None, None]) -> JsonLines:  # noqa: ARG001 - a handler's form
    """Stream every row, the oldest first."""

    async def produce(emit: Emit) -> None:
        seq = 0
        while True:

            def page(tx: Connection, seq: int = seq) -> list[AuditView]:
                return audit.after(tx, seq, limit=_AT_ONCE)

            rows = await services.store.read(page)
            if not rows:
                return
            await emit(_encoder.encode_lines(rows))
            seq = rows[-1].seq

    return JsonLines(produce)


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/audit",
        name="audit_list",
        summary="What operators did and were refused, the newest first",
        handler=list_rows,
        query=AuditQuery,
        response=list[AuditView],
    ),
    Operation(
        method="GET",
        path="/v1/audit/verify",
        name="audit_verify",
        summary="Whether every row fits the one before, and the first that does not",
        handler=verify,
        response=AuditCheck,
    ),
    Operation(
        method="GET",
        path="/v1/audit/export",
        name="audit_export",
        summary="Every row, the oldest first, one a line",
        handler=export,
        response=AuditView,
        media_type="application/jsonl",
    ),
)
