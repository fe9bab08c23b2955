"""Lists that may be longer than one message can carry, cut so that what matters most is in it.

A message over its bounds would end the session, and be said again in the next one, for ever. Decides what is left out,
and says so where nothing else would; knows no journal and no link.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from restic_manager.domain.results import Row
from restic_manager.protocol.messages import MAX_ENTRIES_TEXT, MAX_ROWS, MAX_ROWS_TEXT, JobClaim, RefusedEntry

MAX_CLAIMS: Final = 2_000
"""Jobs in one hello: the bound of `Hello.jobs`."""
MAX_REASON: Final = 500
"""Characters of one refused entry's reason, when there are too many of them."""


def claims_that_fit(claims: Iterable[JobClaim]) -> tuple[JobClaim, ...]:
    """Given all jobs an agent knows, return those a hello carries: unfinished ones first.

    A finished job left out here is told by its report, which waits in the outbox.
    """
    ordered = sorted(claims, key=lambda claim: claim.state == "finished")
    return tuple(ordered[:MAX_CLAIMS])


def refusals_that_fit(refused: Sequence[RefusedEntry]) -> tuple[RefusedEntry, ...]:
    """Given all entries an agent cannot use, return what its ack carries.

    When that is not all, reasons are shortened first, and a last one with code `more` counts what is left out.
    """
    if _how_many_fit(refused) == len(refused):
        return tuple(refused)
    short = [replace(entry, reason=entry.reason[:MAX_REASON]) for entry in refused]
    count = _how_many_fit(short)
    kept = short[:count]
    if count < len(short):
        rest = f"{len(short) - count} more entries cannot be used: the agent's log names them"
        kept.append(RefusedEntry(schedule_id="?", code="more", reason=rest))
    return tuple(kept)


def rows_that_fit(rows: Iterable[Row]) -> Iterator[tuple[Row, ...]]:
    """Given rows, each far smaller than a message, return them in order, cut into what one `job.rows` carries."""
    part: list[Row] = []
    room = MAX_ROWS_TEXT
    for row in rows:
        size = len(msgspec.json.encode(row)) + 1
        if part and (size > room or len(part) == MAX_ROWS):
            yield tuple(part)
            part, room = [], MAX_ROWS_TEXT
        part.append(row)
        room -= size
    if part:
        yield tuple(part)


def _how_many_fit(entries: Sequence[RefusedEntry]) -> int:
    room = MAX_ENTRIES_TEXT
    for count, entry in enumerate(entries):
        room -= len(msgspec.json.encode(entry)) + 1
        if room < 0:
            return count
    return len(entries)
