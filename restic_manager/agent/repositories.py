"""The repositories that this host uses: those its join brought, and those a policy has let through since.

A repository that is none of them needs a word on the host. Owns the journal's table of them. What names a place is
`domain.policy.place_of`; refuses to know who asks.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable
from datetime import datetime

import msgspec

from restic_manager.agent import records, schedule_rows
from restic_manager.agent.cutoff import Sealing, Vault
from restic_manager.agent.journal import Journal
from restic_manager.agent.standing import open_standing_order
from restic_manager.domain.errors import ManagerError
from restic_manager.domain.policy import place_of

logger = logging.getLogger(__name__)

_TAKEN = "repositories_taken"


def known_places(db: sqlite3.Connection) -> frozenset[str]:
    """Return the places this journal knows."""
    return frozenset(str(place) for (place,) in db.execute("SELECT place FROM repositories"))


def learn(db: sqlite3.Connection, places: Iterable[str], now: datetime) -> None:
    """Given places that this host uses from now on, remember them. Those it knows stay as they are."""
    db.executemany(
        "INSERT INTO repositories VALUES (?, ?) ON CONFLICT (place) DO NOTHING",
        [(place, records.to_micros(now)) for place in places],
    )


async def take_those_in_use(journal: Journal, sealing: Sealing | None, now: datetime) -> None:
    """Given the journal of an agent that was there before policies were, take the repositories of the orders it keeps
    for those it uses. Once for a journal: what comes later comes from a server that has to be asked about.
    """
    if await journal.read(lambda db: records.get_meta(db, _TAKEN)) is not None:
        return
    places: set[str] = set()
    if sealing is not None:
        sealed = await journal.read(schedule_rows.sealed_orders)
        running = await journal.read(records.running_jobs)
        for schedule_id, order in sealed:
            try:
                repo = open_standing_order(sealing, schedule_id, order).repo
            except (ManagerError, msgspec.DecodeError) as error:
                logger.warning("a standing order kept here does not open; its repository is not taken: %s", error)
                continue
            places.add(place_of(repo.url, repo.env))
        vault = Vault(sealing)
        places |= {
            place_of(repo.url, repo.env)
            for record in running
            if (kept := vault.open_order(record)) is not None
            for repo in (kept.repo, kept.source)
            if repo is not None
        }

    def write(db: sqlite3.Connection) -> None:
        learn(db, places, now)
        records.set_meta(db, _TAKEN, "1")

    await journal.write(write)
    if places:
        logger.info("repositories that this host uses already: %s", ", ".join(sorted(places)))
