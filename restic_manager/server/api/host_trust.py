"""`/v1/hosts/{ref}/rotate|revoke` and `/v1/pending`: who may be a host, and by which credential.

Thin over `store.credentials`, `store.host_changes` and `store.pending`. After a commit it tells the session it is
about; it decides nothing else.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from restic_manager.protocol.api import ApproveRequest, HostView, PendingView
from restic_manager.protocol.messages import CredentialRotate, Refused
from restic_manager.server.api.hosts import views
from restic_manager.server.api.operations import Call, Operation
from restic_manager.server.services import Services
from restic_manager.server.store import credentials, host_changes, hosts, pending
from restic_manager.server.store.pending import PendingRow


async def rotate(services: Services, call: Call[None, None]) -> HostView:
    """Have a host replace its credential; return it as it is until it has."""
    now, online = services.clock.now(), services.hub.online_hosts()

    def change(tx: Connection) -> tuple[bool, HostView]:
        host = hosts.resolve(tx, call.path["ref"])
        credentials.ask_rotation(tx, host.id, now=now)
        return credentials.rotation_asked(tx, host.id), views(tx, [hosts.get(tx, host.id)], online, now)[0]

    knows_how, view = await services.store.write(call.act.within(change))
    if knows_how:
        services.hub.send(view.id, CredentialRotate())  # else it is told after its next welcome
    return view


async def revoke(services: Services, call: Call[None, None]) -> HostView:
    """Refuse a host from now on, until it joins again."""
    now, online = services.clock.now(), services.hub.online_hosts()

    def change(tx: Connection) -> HostView:
        host = hosts.resolve(tx, call.path["ref"])
        host_changes.revoke(tx, host, now=now)
        return views(tx, [hosts.get(tx, host.id)], online - {host.id}, now)[0]

    view = await services.store.write(call.act.within(change))
    refused = Refused(code="revoked", message=credentials.past_sentence("revoked", view.name))
    services.hub.close(view.id, "this host was revoked", refused=refused)
    return view


async def list_pending(services: Services, call: Call[None, None]) -> list[PendingView]:  # noqa: ARG001 - a handler's form
    """Return the machines that wait for approval."""
    now = services.clock.now()
    return await services.store.read(lambda tx: _views(tx, pending.listed(tx, now)))


async def approve(services: Services, call: Call[ApproveRequest, None]) -> HostView:
    """Make a host of a machine that waits."""
    request, now, zone = call.body, services.clock.now(), services.config.timezone
    became: dict[str, str] = {}

    def change(tx: Connection) -> tuple[list[str], HostView]:
        row = pending.resolve(tx, call.path["ref"], now)
        made = pending.approve(tx, row, name=request.name, labels=request.labels, now=now, default_zone=zone)
        became.update(host=made.host.name, host_id=made.host.id)
        return made.changed, views(tx, [made.host], frozenset(), now)[0]

    changed, view = await services.store.write(call.act.within(change, after=became))
    services.hub.sets_changed(changed)
    return view


async def reject(services: Services, call: Call[None, None]) -> PendingView:
    """Say no to a machine that waits."""
    now = services.clock.now()

    def change(tx: Connection) -> PendingView:
        return _views(tx, [pending.reject(tx, pending.resolve(tx, call.path["ref"], now), now=now)])[0]

    return await services.store.write(call.act.within(change))


def _views(tx: Connection, rows: list[PendingRow]) -> list[PendingView]:
    """Given machines that wait, return how an operator sees them; a name that is taken, or wanted twice, is flagged."""
    taken = pending.taken_names(tx)
    wanted: dict[str, int] = {}
    for row in rows:
        wanted[row.name] = wanted.get(row.name, 0) + 1
    return [
        PendingView(
            fingerprint=row.fingerprint,
            name=row.name,
            name_taken=row.name in taken,
            name_wanted_by=wanted[row.name],
            address=row.address,
            os=row.os,
            agent_version=row.agent_version,
            first_at=row.first_at,
            last_at=row.last_at,
            expires_at=_expires(row),
            rejected_at=row.rejected_at,
        )
        for row in rows
    ]


def _expires(row: PendingRow) -> datetime:
    return row.last_at + pending.LIFETIME


OPERATIONS: Final = (
    Operation(
        method="POST",
        path="/v1/hosts/{ref}/rotate",
        name="host_rotate",
        summary="Have a host replace its credential, over its session or as soon as it has one; both hold until then",
        handler=rotate,
        response=HostView,
    ),
    Operation(
        method="POST",
        path="/v1/hosts/{ref}/revoke",
        name="host_revoke",
        summary="Refuse a host from now on, until it is invited and joins again",
        handler=revoke,
        response=HostView,
    ),
    Operation(
        method="GET",
        path="/v1/pending",
        name="pending_list",
        summary="The machines that have announced themselves and wait for approval, the first to come first",
        handler=list_pending,
        response=list[PendingView],
    ),
    Operation(
        method="POST",
        path="/v1/pending/{ref}/approve",
        name="pending_approve",
        summary="Make a host of the machine whose key has this fingerprint",
        handler=approve,
        request=ApproveRequest,
        response=HostView,
        status=201,
    ),
    Operation(
        method="POST",
        path="/v1/pending/{ref}/reject",
        name="pending_reject",
        summary="Say no to the machine whose key has this fingerprint",
        handler=reject,
        response=PendingView,
    ),
)
