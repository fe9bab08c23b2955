"""Upkeep: keeps what the server knows of repositories fresh. One task, that has their snapshots listed anew.

Rung whenever there is something new about any job; it then looks at which lists have got old, and asks a host for those
whose time has come. When that is decides `domain.relisting`, which host does it `store.relisting`. Refuses to know what
a list does to rows.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Final

import trio
from sqlalchemy import Connection

from restic_manager.domain.errors import StorageError
from restic_manager.domain.relisting import Standing, due_at
from restic_manager.server.services import Services
from restic_manager.server.store import relisting
from restic_manager.server.store.relisting import Asked
from restic_manager.server.store.ripple import Ripple

logger = logging.getLogger(__name__)

BREATH_SECONDS: Final = 5.0
"""However often it is rung, it looks no more often than this."""
LOOK_SECONDS: Final = 60.0
"""While a list is due it looks as often as this, rung or not: a host that came online rings nothing here."""
IDLE_SECONDS: Final = 3_600.0
"""With nothing due it looks as often as this all the same: the clock may have been set."""


class Upkeep:
    """Keeps lists fresh. `run` is its task."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._seen_stale: dict[str, tuple[datetime | None, datetime]] = {}
        """Lists seen to be old: which (by when they were made), and since when."""

    async def run(self) -> None:
        """Look whenever rung and whenever something is due, for ever. A store that fails is tried again."""
        async with self._services.hub.watch(None) as bell:
            while True:
                wait = LOOK_SECONDS
                try:
                    wait = await self.look()
                except StorageError as error:
                    logger.warning("upkeep: %s", error.message)
                await trio.sleep(min(wait, BREATH_SECONDS))
                with trio.move_on_after(max(0.0, wait - BREATH_SECONDS)):
                    await bell.wait()

    async def look(self) -> float:
        """Ask for the lists that are due; return in how many seconds the next one is, as far as is known now."""
        services = self._services
        now, online = services.clock.now(), services.hub.online_hosts()
        standings, slow = await services.store.read(
            lambda tx: (relisting.standings(tx, online=online, now=now), relisting.next_slow(tx))
        )
        when = self._due(standings, now)
        due = [repo_id for repo_id, at in when.items() if at <= now]
        if due and online:
            able = await services.store.read(lambda tx: relisting.hosts_of(tx, due))
            if within_reach := [repo_id for repo_id in due if online.intersection(able.get(repo_id, ()))]:
                await ask_for_lists(services, within_reach)
        coming = [at for at in when.values() if at > now] + ([] if slow is None or slow <= now else [slow])
        wait = LOOK_SECONDS if due else IDLE_SECONDS
        return min(wait, (min(coming) - now).total_seconds()) if coming else wait

    def _due(self, standings: list[Standing], now: datetime) -> dict[str, datetime]:
        """Return when each of these lists is to be made, those left out that wait for something."""
        # Noticed anew after each list: one that was made while things went on changing is old from then on.
        fresh = {each.repo_id: (each.listed_at, now) for each in standings if each.stale}
        known = self._seen_stale
        self._seen_stale = {
            repo_id: known[repo_id] if repo_id in known and known[repo_id][0] == seen[0] else seen
            for repo_id, seen in fresh.items()
        }
        found = {
            each.repo_id: due_at(each, stale_since=self._seen_stale.get(each.repo_id, (None, now))[1])
            for each in standings
        }
        return {repo_id: at for repo_id, at in found.items() if at is not None}


async def ask_for_lists(services: Services, repo_ids: list[str]) -> dict[str, Asked]:
    """Given repositories, have each listed now; return the job that does it, or why there is none, by repository."""
    now, online, ripple = services.clock.now(), services.hub.online_hosts(), Ripple()

    def change(tx: Connection) -> dict[str, Asked]:
        return {repo_id: relisting.ask(tx, repo_id, online=online, now=now, ripple=ripple) for repo_id in repo_ids}

    asked = await services.store.write(change)
    services.dispatcher.apply(ripple)
    return asked
