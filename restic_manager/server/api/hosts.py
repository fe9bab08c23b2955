"""`/v1/hosts`: invite, list, show, label, rename, remove. Thin over `store.hosts` and `store.host_changes`.

Owns how a host looks to an operator. After a commit it rings who has to look again; it decides nothing else.
"""

from __future__ import annotations

import functools
import shlex
import socket
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final

from msgspec import Meta, Struct
from sqlalchemy import Connection

from restic_manager.domain.pausing import Scope
from restic_manager.domain.policy import check_kind_words
from restic_manager.protocol.api import HostView, InviteRequest, InviteView, LabelRequest, RenameRequest
from restic_manager.protocol.messages import Refused
from restic_manager.server.api.operations import Call, Operation
from restic_manager.server.api.pauses import of_target
from restic_manager.server.api.scoping import within
from restic_manager.server.services import Services
from restic_manager.server.store import credentials, grants, host_changes, hosts, pauses, proofs, purging, repos, schema
from restic_manager.server.store.host_changes import Invited
from restic_manager.server.store.hosts import HostRow
from restic_manager.server.store.references import names_of
from restic_manager.server.store.ripple import Ripple


async def invite(services: Services, call: Call[InviteRequest, None]) -> InviteView:
    """Make a join token."""
    request, now, zone = call.body, services.clock.now(), services.config.timezone
    pins = services.pins()

    def change(tx: Connection) -> Invited:
        check_kind_words(request.allow)
        return host_changes.invite(
            tx,
            name=request.name,
            labels=request.labels,
            now=now,
            default_zone=zone,
            pins=pins,
            repo_ids=tuple(dict.fromkeys(repos.resolve(tx, ref).id for ref in request.repos)) or None,
        )

    invited = await services.store.write(call.act.within(change))
    services.hub.sets_changed(invited.changed)
    url, doubt = _url_for_hosts(services)
    note = "; ".join(said for said in (invited.note, doubt) if said) or None
    digest = host_changes.token_sha256(invited.token)
    brought = await services.store.read(lambda tx: grants.brought(tx, invited.host.id, digest))
    return InviteView(
        name=invited.host.name,
        token=invited.token,
        expires_at=invited.expires_at,
        command=shlex.join(["restic-manager", "agent", "--server", url, "--token", invited.token, *_allowing(request)]),
        rejoin=invited.rejoin,
        repositories=tuple(sorted(repo.name for repo in brought)),
        note=note,
    )


def _allowing(request: InviteRequest) -> list[str]:
    """Return the words that let the host do more than is safe: to be seen by whoever pastes them, and written there."""
    return ["--allow", ",".join(dict.fromkeys(request.allow))] if request.allow else []


def _url_for_hosts(services: Services) -> tuple[str, str | None]:
    """Return what hosts are told to dial, and what to say of it where that had to be guessed."""
    if services.config.public_url is not None:
        return services.config.public_url, None
    scheme = "ws" if services.config.tls.mode == "off" else "wss"
    host, _, port = services.listening.rpartition(":")
    if host not in {"0.0.0.0", "[::]"}:  # noqa: S104 - compared with, not bound
        return f"{scheme}://{services.listening}", None
    own = socket.gethostname()
    doubt = f"the line dials {own}, this machine's own name: start the server with --public-url if hosts know another"
    return f"{scheme}://{own}:{port}", doubt


async def list_hosts(services: Services, call: Call[None, None]) -> list[HostView]:
    """Return every host that the asker may see."""
    online, now, asker = services.hub.online_hosts(), services.clock.now(), call.act.asker

    def question(tx: Connection) -> list[HostView]:
        rows = hosts.all_hosts(tx) if asker.scope is None else within(tx, asker.name, asker.scope).rows
        return views(tx, rows, online, now)

    return await services.store.read(question)


async def show(services: Services, call: Call[None, None]) -> HostView:
    """Return one host."""
    online, now = services.hub.online_hosts(), services.clock.now()
    return await services.store.read(lambda tx: views(tx, [hosts.resolve(tx, call.path["ref"])], online, now)[0])


async def label(services: Services, call: Call[LabelRequest, None]) -> HostView:
    """Change a host's labels."""
    now, zone, online = services.clock.now(), services.config.timezone, services.hub.online_hosts()

    def change(tx: Connection) -> tuple[list[str], HostView]:
        host = hosts.resolve(tx, call.path["ref"])
        changed = host_changes.label(tx, host, put=call.body.set, remove=call.body.remove, now=now, default_zone=zone)
        return changed, views(tx, [hosts.get(tx, host.id)], online, now)[0]

    changed, view = await services.store.write(call.act.within(change))
    services.hub.sets_changed(changed)
    return view


async def rename(services: Services, call: Call[RenameRequest, None]) -> HostView:
    """Give a host another name."""
    now, online = services.clock.now(), services.hub.online_hosts()

    def change(tx: Connection) -> HostView:
        host = host_changes.rename(tx, hosts.resolve(tx, call.path["ref"]), call.body.name, now=now)
        return views(tx, [host], online, now)[0]

    return await services.store.write(call.act.within(change))


class RemoveQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """purge, 0 or 1: take its history away, too (and of one that was removed before, by its whole name or id)."""

    purge: Annotated[int, Meta(ge=0, le=1)] = 0


async def remove(services: Services, call: Call[None, RemoveQuery]) -> HostView:
    """Remove a host, and return it as it was."""
    now, online, purge = services.clock.now(), services.hub.online_hosts(), bool(call.query.purge)
    purged: dict[str, str] = {}

    def change(tx: Connection) -> tuple[HostView, Ripple]:
        host = hosts.resolve_ever(tx, call.path["ref"]) if purge else hosts.resolve(tx, call.path["ref"])
        view = views(tx, [host], online, now)[0]
        ripple = host_changes.remove(tx, host, now=now) if host.removed_at is None else Ripple()
        if purge:
            purging.ask(tx, host.id, now=now)
            purged["purged"] = f"{host.name} ({host.id})"
        return view, ripple

    view, ripple = await services.store.write(call.act.within(change, after=purged))
    refused = Refused(code="revoked", message=credentials.past_sentence("removed", view.name))
    services.hub.close(view.id, "this host was removed from the server", refused=refused)
    services.dispatcher.apply(ripple)
    while purge and await services.store.write(functools.partial(purging.bite, host_id=view.id, now=now)):
        pass  # what is left when this is cut short is the janitor's
    return view


def views(tx: Connection, rows: Sequence[HostRow], online: frozenset[str], now: datetime) -> list[HostView]:
    """Given hosts, return how an operator sees them, in the same order. online: the ids of those with a session."""
    paused = pauses.holding(tx, now)
    refused = {entry.schedule_id for row in rows for entry in row.refused_entries}
    names = names_of(tx, schema.schedules, refused)
    proven = proofs.newest(tx)
    return [
        HostView(
            id=row.id,
            name=row.name,
            labels=row.labels,
            online=row.id in online,
            state="invited" if row.joined_at is None else "joined" if row.revoked_at is None else "revoked",
            last_seen_at=row.last_seen_at,
            joined_at=row.joined_at,
            agent_version=row.agent_version,
            restic_version=row.restic_version,
            restic_problem=row.restic_problem,
            restic_host=row.restic_host,
            os=row.os,
            timezone=row.timezone,
            clock_skew=row.clock_offset,
            schedule_version=row.schedule_version,
            applied_schedule_version=row.applied_schedule_version,
            refused_entries=tuple(
                f"{names.get(entry.schedule_id, entry.schedule_id)}: {entry.reason}" for entry in row.refused_entries
            ),
            proven_at=None if (proof := proven.get(row.id)) is None else proof.at,
            proven_job_id=None if proof is None else proof.job_id,
            pauses=of_target(paused, Scope.HOST, row.id),
            credential_at=row.credential_at,
            rotation_asked_at=row.rotation_asked_at,
            revoked_at=row.revoked_at,
            kinds=row.kinds,
        )
        for row in rows
    ]


OPERATIONS: Final = (
    Operation(
        method="POST",
        path="/v1/hosts/invite",
        name="host_invite",
        summary="Make a single-use token with which a host joins, or a known host joins again",
        handler=invite,
        request=InviteRequest,
        response=InviteView,
        status=201,
    ),
    Operation(
        method="GET",
        path="/v1/hosts",
        name="host_list",
        summary="Every host",
        handler=list_hosts,
        response=list[HostView],
    ),
    Operation(
        method="GET", path="/v1/hosts/{ref}", name="host_show", summary="One host", handler=show, response=HostView
    ),
    Operation(
        method="DELETE",
        path="/v1/hosts/{ref}",
        name="host_remove",
        summary="Remove a host: its credential dies, its schedules and jobs end; answers with it as it was",
        handler=remove,
        query=RemoveQuery,
        response=HostView,
    ),
    Operation(
        method="POST",
        path="/v1/hosts/{ref}/labels",
        name="host_label",
        summary="Set and take away labels",
        handler=label,
        request=LabelRequest,
        response=HostView,
    ),
    Operation(
        method="POST",
        path="/v1/hosts/{ref}/rename",
        name="host_rename",
        summary="Give a host another name; its id, ledger and name in the repositories stay",
        handler=rename,
        request=RenameRequest,
        response=HostView,
    ),
)
