"""Pausing and resuming: the fleet, a host, a schedule. Thin over `store.pause_changes`.

Owns how pauses look to an operator. After a commit it rings the hosts that have to know, and the janitor, who ends a
pause in time; it decides nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection

from restic_manager.domain.errors import InputError
from restic_manager.domain.pausing import Scope
from restic_manager.protocol.api import PauseRequest, PauseView
from restic_manager.server.api.operations import Call, Operation
from restic_manager.server.services import Services
from restic_manager.server.store import hosts, pause_changes, pauses, schedules
from restic_manager.server.store.pause_changes import FLEET, Target
from restic_manager.server.store.pauses import PauseRow

Find = Callable[[Connection, str], Target]


def view(row: PauseRow) -> PauseView:
    """Given a pause, return how an operator sees it."""
    return PauseView(
        scope=row.scope.value,
        host=row.name if row.scope is Scope.HOST else None,
        schedule=row.name if row.scope is Scope.SCHEDULE else None,
        reason=row.reason,
        since=row.since,
        until=row.until,
        who=row.who,
    )


def of_target(rows: Iterable[PauseRow], scope: Scope, target: str | None) -> tuple[PauseView, ...]:
    """Given the pauses that hold, return those that stop this host or schedule: its own, and the fleet's."""
    return tuple(view(row) for row in rows if row.scope is Scope.FLEET or (row.scope, row.target) == (scope, target))


async def list_pauses(services: Services, call: Call[None, None]) -> tuple[PauseView, ...]:  # noqa: ARG001 - a handler's form
    """Return every pause that holds."""
    now = services.clock.now()
    return await services.store.read(lambda tx: tuple(view(row) for row in pauses.holding(tx, now)))


def _host(tx: Connection, ref: str) -> Target:
    found = hosts.resolve(tx, ref)
    return Target(Scope.HOST, found.id, found.name)


def _schedule(tx: Connection, ref: str) -> Target:
    found = schedules.resolve(tx, ref)
    return Target(Scope.SCHEDULE, found.id, found.name)


def _fleet(tx: Connection, ref: str) -> Target:  # noqa: ARG001 - one form for the three
    return FLEET


def _pausing(find: Find) -> Callable[[Services, Call[PauseRequest, None]], Any]:
    async def pause(services: Services, call: Call[PauseRequest, None]) -> tuple[PauseView, ...]:
        """Pause it."""
        request, now = call.body, services.clock.now()
        until = _until(request, now)

        def change(tx: Connection, target: Target) -> list[str]:
            return pause_changes.pause(tx, target, reason=request.reason, until=until, now=now)

        return await _change(services, call, find, change, now)

    return pause


def _resuming(find: Find) -> Callable[[Services, Call[None, None]], Any]:
    async def resume(services: Services, call: Call[None, None]) -> tuple[PauseView, ...]:
        """Resume it."""
        now = services.clock.now()
        return await _change(services, call, find, lambda tx, target: pause_changes.resume(tx, target, now=now), now)

    return resume


async def _change(
    services: Services,
    call: Call[Any, None],
    find: Find,
    change: Callable[[Connection, Target], list[str]],
    now: datetime,
) -> tuple[PauseView, ...]:
    """Commit a change, ring who has to know, and return the pauses that stop the same target now."""

    def work(tx: Connection) -> tuple[list[str], tuple[PauseView, ...]]:
        target = find(tx, call.path.get("ref", ""))
        changed = change(tx, target)
        return changed, of_target(pauses.holding(tx, now), target.scope, target.id)

    changed, left = await services.store.write(call.act.within(work))
    services.hub.sets_changed(changed)
    services.pauses_changed.ring()
    return left


def _until(request: PauseRequest, now: datetime) -> datetime | None:
    if request.seconds is None:
        return request.until
    if request.until is not None:
        raise InputError("say until when or for how long, not both")
    if request.seconds == 0:
        raise InputError("a pause of 0s would be none: say how long it is to be")
    return now + timedelta(seconds=request.seconds)


def _operations(path: str, name: str, what: str, find: Find) -> tuple[Operation, ...]:
    return (
        Operation(
            method="POST",
            path=f"{path}/pause",
            name=f"{name}pause",
            summary=f"Let no slot of {what} run; what runs goes on. Answers with the pauses that hold it now",
            handler=_pausing(find),
            request=PauseRequest,
            response=tuple[PauseView, ...],
            status=201,
        ),
        Operation(
            method="POST",
            path=f"{path}/resume",
            name=f"{name}resume",
            summary=f"End the pause of {what}. Answers with the pauses that hold it still",
            handler=_resuming(find),
            response=tuple[PauseView, ...],
        ),
    )


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/pauses",
        name="pause_list",
        summary="Every pause that holds now, the oldest first",
        handler=list_pauses,
        response=tuple[PauseView, ...],
    ),
    *_operations("/v1", "", "the whole fleet", _fleet),
    *_operations("/v1/hosts/{ref}", "host_", "a host", _host),
    *_operations("/v1/schedules/{ref}", "schedule_", "a schedule", _schedule),
)
