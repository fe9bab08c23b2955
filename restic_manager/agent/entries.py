"""Entries from the wire to plans: checked one by one: the wire is never trusted, one bad entry spoils no other.

Owns what an agent can evaluate. Refuses to know marks, journals and when anything is due.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import secrets
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Final

import msgspec
import trio

from restic_manager.domain import planning
from restic_manager.domain.cron import Timetable, every_seconds
from restic_manager.domain.errors import InputError, ManagerError
from restic_manager.domain.firing import TOLERANCE
from restic_manager.domain.model import Timing
from restic_manager.domain.planning import Plan
from restic_manager.protocol.codec import WireError, decode_entry, entry_id
from restic_manager.protocol.messages import Entry, RefusedEntry

logger = logging.getLogger(__name__)

CHECKPOINT_EVERY: Final = 50
"""How many schedules may be worked on before other tasks get their turn."""


@functools.lru_cache(maxsize=4096)
def timetable(timing: Timing) -> Timetable:
    """Given a timing, return its timetable: schedules of a fleet share few timings, and parsing costs."""
    return Timetable(timing)


def plan_of(entry: Entry) -> Plan:
    """Given an entry, return what planning needs of it; raise InputError if its timing cannot be used."""
    return Plan(
        revision=entry.revision,
        timetable=timetable(msgspec.structs.replace(entry.timing, splay=0)),
        enabled=entry.enabled,
        off_reason=entry.off_reason or planning.DISABLED,
        turns=entry.turns,
        splay=timedelta(seconds=entry.timing.splay),
        overlap=entry.overlap,
        max_lateness=None if entry.max_lateness is None else timedelta(seconds=entry.max_lateness),
    )


def usable(entry: Entry) -> None:
    """Given an entry from the wire, raise InputError unless this agent can evaluate it. The wire is never trusted."""
    plan_of(entry)
    every = every_seconds(entry.timing.cron)
    if every is not None and entry.timing.splay >= every:
        raise InputError(f"a splay of {entry.timing.splay}s does not fit into @every {every}s")
    instants = [turn.at for turn in entry.turns]
    if instants != sorted(set(instants)) or (entry.turns and entry.enabled) or any(t.enabled for t in entry.turns[:-1]):
        raise InputError("its turns are not in order of time, or one of them goes on from what is enabled already")


def localised(entry: Entry, server_ahead: timedelta) -> Entry:
    """Given an entry from the wire, return it with its turns in this host's clock, as the server judges its slots.

    server_ahead: how far the server's clock is ahead of ours. Clocks that are together but for the server's tolerance
    move nothing: so a slot at the very end of a pause is the same to both.
    """
    if not entry.turns or abs(server_ahead) <= TOLERANCE:
        return entry
    turns = tuple(msgspec.structs.replace(turn, at=turn.at - server_ahead) for turn in entry.turns)
    return msgspec.structs.replace(entry, turns=turns)


def to_local(instant: datetime, server_ahead: timedelta, now: datetime) -> datetime:
    """Given a stamp of the server's of what has happened, return it in this host's clock, never beyond now."""
    return min(instant - server_ahead, now)


async def decode_entries(raw_entries: Iterable[msgspec.Raw]) -> tuple[dict[str, Entry], list[RefusedEntry]]:
    """Given raw entries, return those this agent can use, by schedule, and the refusals with their reasons."""
    entries: dict[str, Entry] = {}
    refused: list[RefusedEntry] = []
    for number, raw in enumerate(raw_entries):
        try:
            entry = decode_entry(raw)
            usable(entry)
            if entry.schedule_id in entries:
                raise InputError("the same schedule stands twice in one set", code="duplicate")
            entries[entry.schedule_id] = entry
        except (WireError, ManagerError) as error:
            refused.append(RefusedEntry(schedule_id=entry_id(raw), code=error.code, reason=error.message[:8000]))
            logger.warning("schedule %s cannot be used here: %s", entry_id(raw), error.message)
        if number % CHECKPOINT_EVERY == CHECKPOINT_EVERY - 1:
            await trio.lowlevel.checkpoint()
    return entries, refused


def keyed_digest() -> Callable[[Entry], bytes | None]:
    """Return what tells whether an entry's standing order has changed, None for none.

    Keyed anew for each process, because it is made from secrets.
    """
    key = secrets.token_bytes(32)

    def digest(entry: Entry) -> bytes | None:
        if entry.standing_order is None:
            return None
        return hashlib.blake2b(msgspec.json.encode(entry.standing_order), key=key, digest_size=16).digest()

    return digest
