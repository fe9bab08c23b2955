"""`/v1/schedules`: add, list, show, edit, remove, next. Thin over `store.schedule_changes` and `api.schedule_views`.

Running one now is a job (`api.jobs`). After a commit it rings the hosts whose set changed; it decides nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

from msgspec import Meta, Struct
from sqlalchemy import Connection

from restic_manager.protocol.api import NextSlot, ScheduleEdit, ScheduleRequest, ScheduleView
from restic_manager.server.api import schedule_views
from restic_manager.server.api.operations import Call, Operation
from restic_manager.server.api.scoping import is_within, within
from restic_manager.server.services import Services
from restic_manager.server.store import schedule_changes, schedules
from restic_manager.server.store.schedule_changes import Changed


class NextQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many coming slots."""

    count: Annotated[int, Meta(ge=1, le=1_000)] = 5


async def add(services: Services, call: Call[ScheduleRequest, None]) -> ScheduleView:
    """Store a schedule."""
    now, zone = services.clock.now(), services.config.timezone
    return await _change(services, call, lambda tx: schedule_changes.add(tx, call.body, now=now, default_zone=zone))


async def list_schedules(services: Services, call: Call[None, None]) -> list[ScheduleView]:
    """Return every schedule that the asker may see."""
    now, online, asker = services.clock.now(), services.hub.online_hosts(), call.act.asker

    def question(tx: Connection) -> list[ScheduleView]:
        rows = schedules.all_schedules(tx)
        if asker.scope is not None:
            scope = within(tx, asker.name, asker.scope)
            rows = [row for row in rows if is_within(tx, scope, row.id)]
        return schedule_views.views(tx, rows, now=now, online=online)

    return await services.store.read(question)


async def show(services: Services, call: Call[None, None]) -> ScheduleView:
    """Return one schedule."""
    now, online = services.clock.now(), services.hub.online_hosts()
    return await services.store.read(
        lambda tx: schedule_views.view(tx, schedules.resolve(tx, call.path["ref"]), now=now, online=online)
    )


async def edit(services: Services, call: Call[ScheduleEdit, None]) -> ScheduleView:
    """Change what the request names."""
    now, zone = services.clock.now(), services.config.timezone
    return await _change(
        services,
        call,
        lambda tx: schedule_changes.edit(
            tx, schedules.resolve(tx, call.path["ref"]), call.body, now=now, default_zone=zone
        ),
    )


async def remove(services: Services, call: Call[None, None]) -> ScheduleView:
    """Remove a schedule, and return it as it was."""
    now, online = services.clock.now(), services.hub.online_hosts()

    def change(tx: Connection) -> tuple[list[str], ScheduleView]:
        schedule = schedules.resolve(tx, call.path["ref"])
        view = schedule_views.view(tx, schedule, now=now, online=online)
        return schedule_changes.remove(tx, schedule, now=now), view

    changed, view = await services.store.write(call.act.within(change))
    services.hub.sets_changed(changed)
    return view


async def next_slots(services: Services, call: Call[None, NextQuery]) -> tuple[NextSlot, ...]:
    """Return the coming slots."""
    now = services.clock.now()
    return await services.store.read(
        lambda tx: schedule_views.next_slots(
            tx, schedules.resolve(tx, call.path["ref"]), now=now, count=call.query.count
        )
    )


async def _change(services: Services, call: Call[Any, None], change: Callable[[Connection], Changed]) -> ScheduleView:
    """Commit a change, ring the hosts it touched, and return the schedule as it is now.

    The view is built by a reader: it may take long for a large fleet, and must not hold up the writer.
    """
    changed = await services.store.write(call.act.within(change))
    services.hub.sets_changed(changed.hosts)
    now, online = services.clock.now(), services.hub.online_hosts()
    return await services.store.read(
        lambda tx: schedule_views.view(tx, schedules.get(tx, changed.schedule.id), now=now, online=online)
    )


OPERATIONS: Final = (
    Operation(
        method="POST",
        path="/v1/schedules",
        name="schedule_add",
        summary="Store a schedule; its hosts are told at once",
        handler=add,
        request=ScheduleRequest,
        response=ScheduleView,
        status=201,
    ),
    Operation(
        method="GET",
        path="/v1/schedules",
        name="schedule_list",
        summary="Every schedule",
        handler=list_schedules,
        response=list[ScheduleView],
    ),
    Operation(
        method="GET",
        path="/v1/schedules/{ref}",
        name="schedule_show",
        summary="One schedule",
        handler=show,
        response=ScheduleView,
    ),
    Operation(
        method="PATCH",
        path="/v1/schedules/{ref}",
        name="schedule_edit",
        summary="Change what is named; what is left out stays",
        handler=edit,
        request=ScheduleEdit,
        response=ScheduleView,
    ),
    Operation(
        method="DELETE",
        path="/v1/schedules/{ref}",
        name="schedule_remove",
        summary="Remove a schedule; its history stays; answers with it as it was",
        handler=remove,
        response=ScheduleView,
    ),
    Operation(
        method="GET",
        path="/v1/schedules/{ref}/next",
        name="schedule_next",
        summary="The coming slots over all its hosts, the soonest first",
        handler=next_slots,
        query=NextQuery,
        response=tuple[NextSlot, ...],
    ),
)
