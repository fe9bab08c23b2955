"""What the agent need not remember any longer is forgotten: at its start, and while it lives, a little at a time.

Owns the task that does it: an agent may run for years, so its start alone is no occasion. What is old is decided by
`records` and `retelling`.
"""

from __future__ import annotations

import functools
import logging
from datetime import datetime
from typing import Final

import trio

from restic_manager.agent import records, retelling
from restic_manager.agent.journal import Journal
from restic_manager.domain.errors import StorageError
from restic_manager.runtime.clock import Clock

logger = logging.getLogger(__name__)

EVERY: Final = 6 * 3_600.0
"""Seconds from one round to the next."""


async def keep_house(journal: Journal, clock: Clock) -> None:
    """Forget what is old now and every so often, for ever. What the journal does not take has to wait."""
    while True:
        try:
            await forget_old(journal, clock.now())
        except StorageError as error:
            logger.warning("what is old stays in the journal for now: %s", error.message)
        await trio.sleep(EVERY)


async def forget_old(journal: Journal, now: datetime) -> None:
    """Forget jobs and fates that are old, in small transactions: what has to be journaled now never waits for it."""
    for forget in (records.forget_old_jobs, retelling.forget_old_fates):
        while await journal.write(functools.partial(forget, now=now)):
            pass
