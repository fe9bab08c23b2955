"""The janitor: notes who is there, gives up on hosts that stayed away, ends pauses, and keeps history in its limits.

One task that sleeps until the next thing is due (a bell tells of pauses). What is kept how long is `store.history`. It
decides only when.
"""

from __future__ import annotations

import functools
import logging
from datetime import timedelta
from typing import Final

import trio
from sqlalchemy import Connection, select

from restic_manager.domain.errors import StorageError
from restic_manager.domain.instants import duration_text
from restic_manager.server.services import Services
from restic_manager.server.store import (
    expiry,
    history,
    hosts,
    jobs,
    listings,
    pause_changes,
    pauses,
    pending,
    purging,
    relisting,
)
from restic_manager.server.store.job_rows import UNFINISHED
from restic_manager.server.store.ripple import Ripple
from restic_manager.server.store.schema import hosts as host_rows
from restic_manager.server.store.schema import jobs as job_table

logger = logging.getLogger(__name__)

SEEN_SECONDS: Final = 60.0
"""How often it is stored that the hosts online were seen: how exact `last seen` is after a crash."""
LOST_SECONDS: Final = 600.0
"""How often hosts that are away are looked at, and everything is looked over for what no bell told."""
PRUNE_SECONDS: Final = 6 * 3_600.0
"""How often history is pruned."""
_PAIRS_AT_ONCE: Final = 100


class Janitor:
    """Keeps the server's rows in order. `run` is its task."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._looked_over = False

    async def run(self) -> None:
        """Do what is due, for ever. What fails for want of the store is tried again when it is next due."""
        work = {
            self.note_seen: SEEN_SECONDS,
            self.give_up: LOST_SECONDS,
            self.expire: LOST_SECONDS,
            self.end_pauses: LOST_SECONDS,  # at the latest: a wall clock that is set rings no bell
            self.forget_listings: LOST_SECONDS,
            self.prune: PRUNE_SECONDS,
            self.purge: LOST_SECONDS,
        }
        now = trio.current_time()
        due = {task: now + seconds for task, seconds in work.items()}
        due[self.end_pauses] = now
        while True:
            task = min(due, key=lambda each: due[each])
            with trio.move_on_at(due[task]):
                await self._services.pauses_changed.wait()
                task = self.end_pauses
            pause: float | None = None
            try:
                pause = await task()
            except StorageError as error:
                logger.warning("janitor: %s", error.message)
            due[task] = trio.current_time() + (work[task] if pause is None else min(pause, work[task]))

    async def note_seen(self) -> None:
        """Store that the hosts online now were seen."""
        online, now = self._services.hub.online_hosts(), self._services.clock.now()
        if online:
            await self._services.store.write(lambda tx: hosts.note_seen(tx, online, now))

    async def give_up(self) -> None:
        """End as interrupted what was handed to hosts that stayed away past `lost_after`.

        Time in which this server did not run does not count: nobody could come back to it.
        """
        services = self._services
        services.dispatcher.look_everywhere()
        now = services.clock.now()
        away = timedelta(seconds=services.config.lost_after)
        if now - services.started_at < away:
            return
        online = services.hub.online_hosts()

        def change(tx: Connection) -> Ripple:
            ripple = Ripple()
            handed = (
                select(job_table.c.host_id)
                .distinct()
                .where(job_table.c.status.in_(UNFINISHED), job_table.c.sent_at.is_not(None))
            )
            query = select(host_rows.c.id).where(host_rows.c.id.in_(handed), host_rows.c.last_seen_at < now - away)
            for host_id in tx.execute(query).scalars().all():
                if host_id not in online:
                    message = f"the host has been away for more than {duration_text(away)}: how it ended is not known"
                    ripple.add(jobs.end_unfinished(tx, host_id, code="host_lost", message=message, now=now))
            return ripple

        services.dispatcher.apply(await services.store.write(change))

    async def expire(self) -> None:
        """End what was wanted long ago from hosts that are away. As above, only time in which we ran counts."""
        services = self._services
        now, after = services.clock.now(), timedelta(seconds=services.config.request_expires)
        uptime, online = now - services.started_at, services.hub.online_hosts()

        def change(tx: Connection) -> Ripple:
            ripple = Ripple()
            if uptime >= expiry.UNLOCK_WAITS:
                ripple.add(expiry.give_up_unlocks(tx, online=online, now=now))
            if uptime >= after:
                ripple.add(expiry.expire(tx, online=online, after=after, now=now))
            return ripple

        if uptime >= min(after, expiry.UNLOCK_WAITS):
            services.dispatcher.apply(await services.store.write(change))

    async def end_pauses(self) -> float | None:
        """End the pauses whose end has come; return in how many seconds the next one ends, None for none."""
        services = self._services
        now = services.clock.now()
        if not self._looked_over:
            services.hub.sets_changed(await services.store.write(lambda tx: pause_changes.look_over(tx, now=now)))
            self._looked_over = True
        next_end = await services.store.read(pauses.next_end)
        if next_end is not None and next_end <= now:
            services.hub.sets_changed(await services.store.write(lambda tx: pause_changes.end_due(tx, now=now)))
            next_end = await services.store.read(pauses.next_end)
        return None if next_end is None else max(0.0, (next_end - services.clock.now()).total_seconds())

    async def forget_listings(self) -> None:
        """Take away what is of no use after an hour: rows of listing jobs, machines that waited for approval; and old
        jobs that only listed for the server.
        """
        now = self._services.clock.now()
        await self._services.store.write(lambda tx: pending.forget(tx, now))
        while await self._services.store.write(lambda tx: listings.prune(tx, now)):
            pass
        while await self._services.store.write(lambda tx: relisting.prune(tx, now)) == history.BITE:
            pass

    async def purge(self) -> None:
        """Take the history of removed hosts away where that was asked for and cut short."""
        store, now = self._services.store, self._services.clock.now()
        for host_id in await store.read(purging.asked):
            while await store.write(functools.partial(purging.bite, host_id=host_id, now=now)):
                pass

    async def prune(self) -> None:
        """Bring history within its limits, in bites that hold nobody up."""
        store, now = self._services.store, self._services.clock.now()
        pairs = await store.read(history.pairs)
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            part = pairs[start : start + _PAIRS_AT_ONCE]
            await store.write(functools.partial(history.forget_fates, pairs=part, now=now))
            while surplus := await store.read(functools.partial(history.surplus, pairs=part, now=now)):
                await store.write(functools.partial(history.forget_jobs, job_ids=surplus))
        while surplus := await store.read(lambda tx: history.surplus_of_none(tx, now)):
            await store.write(functools.partial(history.forget_jobs, job_ids=surplus))
        while await store.write(lambda tx: history.forget_logs(tx, now)) == history.BITE:
            pass
        while await store.write(lambda tx: history.forget_rest(tx, now)) == history.BITE:
            pass
        while await store.write(lambda tx: history.forget_audit(tx, now)) == history.AUDIT_BITE:
            pass
