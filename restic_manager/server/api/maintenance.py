"""`/v1/repos/{ref}/maintenance`: who looks after a repository, and when. Thin over `store.repo_changes`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from restic_manager.domain.model import Kind
from restic_manager.protocol.api import MaintenanceRequest, MaintenanceView
from restic_manager.server.api import repo_views, schedule_views
from restic_manager.server.api.operations import Call, Operation
from restic_manager.server.services import Services
from restic_manager.server.store import assignments, host_policies, repo_changes, repos
from restic_manager.server.store.repo_changes import MAINTENANCE, Maintained
from restic_manager.server.store.repos import RepoRow
from restic_manager.server.store.schedules import ScheduleRow

_NAMED: Final = 5


async def show(services: Services, call: Call[None, None]) -> MaintenanceView:
    """Return who looks after a repository, and when."""
    now, online = services.clock.now(), services.hub.online_hosts()
    return await services.store.read(lambda tx: _view(tx, repos.resolve(tx, call.path["ref"]), now=now, online=online))


async def change(services: Services, call: Call[MaintenanceRequest, None]) -> MaintenanceView:
    """Change what the request names."""
    now, zone, sealer = services.clock.now(), services.config.timezone, services.sealer

    def do(tx: Connection) -> Maintained:
        repo = repos.resolve(tx, call.path["ref"])
        return repo_changes.maintain(
            tx, repo, call.body, seal=sealer.seal, unseal=sealer.unseal, now=now, default_zone=zone
        )

    done = await services.store.write(call.act.within(do))
    services.hub.sets_changed(done.hosts)
    online = services.hub.online_hosts()
    return await services.store.read(
        lambda tx: _view(tx, repos.get(tx, done.repo.id), now=now, online=online, notes=done.notes)
    )


def _view(
    tx: Connection, repo: RepoRow, *, now: datetime, online: frozenset[str], notes: Sequence[str] = ()
) -> MaintenanceView:
    known = repo_changes.schedules_of(tx, repo)
    rows = [known[kind] for kind in MAINTENANCE if kind in known]
    return MaintenanceView(
        repo=repo_views.views(tx, [repo], now=now)[0],
        schedules=tuple(schedule_views.views(tx, rows, now=now, online=online)),
        warnings=(*notes, *_unverified(tx, repo, known), *_refusing(tx, rows)),
    )


def _refusing(tx: Connection, rows: Sequence[ScheduleRow]) -> list[str]:
    """Return which hosts have said that their own policy does not allow what they are to do here."""
    told = host_policies.all_told(tx)
    return [said for row in rows for said in host_policies.warnings(tx, row, assignments.hosts_of(tx, row.id), told)]


def _unverified(tx: Connection, repo: RepoRow, known: dict[Kind, ScheduleRow]) -> list[str]:
    """The hosts that back up there and came after the verify was planned: a list of hosts does not grow by itself."""
    if Kind.VERIFY not in known:
        return []
    verified = set(assignments.hosts_of(tx, known[Kind.VERIFY].id))
    missing = [name for id_, name in repo_changes.hosts_that_back_up(tx, repo.id).items() if id_ not in verified]
    if not missing:
        return []
    shown = ", ".join(missing[:_NAMED]) + (f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else "")
    return [f"{shown} back up there and are not verified: plan verify once more, and it is for all of them"]


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/repos/{ref}/maintenance",
        name="repo_maintenance",
        summary="Who looks after a repository, and by which schedules",
        handler=show,
        response=MaintenanceView,
    ),
    Operation(
        method="POST",
        path="/v1/repos/{ref}/maintenance",
        name="repo_maintain",
        summary="Say who looks after a repository, and when: makes, changes and removes those schedules",
        handler=change,
        request=MaintenanceRequest,
        response=MaintenanceView,
    ),
)
