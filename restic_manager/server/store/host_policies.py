"""What hosts have told of their own policies, and who would refuse what is asked of them.

Decides what deserves a warning, from the rows. A host that says nothing is not warned of; the refusal itself is the
agent's, whatever stands here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import Connection, select

from restic_manager.domain.policy import kind_word
from restic_manager.server.store import repos
from restic_manager.server.store.schedules import ScheduleRow
from restic_manager.server.store.schema import hosts

_words: Final = msgspec.json.Decoder(tuple[str, ...])
_NAMED: Final = 5


class Told(NamedTuple):
    """A host's name, and the kinds it has said that its policy allows."""

    name: str
    kinds: Collection[str]


def all_told(tx: Connection) -> dict[str, Told]:
    """Return what every host has told of its policy, by id; those that say nothing are not in it."""
    query = select(hosts.c.id, hosts.c.name, hosts.c.kinds).where(
        hosts.c.kinds.is_not(None), hosts.c.removed_at.is_(None)
    )
    return {row.id: Told(row.name, _words.decode(row.kinds)) for row in tx.execute(query)}


def warnings(
    tx: Connection, schedule: ScheduleRow, running: Iterable[str], told: Mapping[str, Told]
) -> tuple[str, ...]:
    """Given a schedule, the ids of its hosts and what hosts have told, return who will refuse its jobs, or the forget
    after them, in a sentence each.

    In an append-only repository its maintainer forgets for the others.
    """
    asked = list(running)
    found = refusing(asked, kind_word(schedule.spec), told)
    if schedule.retention is None:
        return found
    repo = repos.get(tx, schedule.repo_id)
    if repo.append_only:
        asked = [] if repo.maintainer_id is None else [repo.maintainer_id]
    return (*found, *refusing(asked, "forget", told))


def refusing(host_ids: Iterable[str], word: str, told: Mapping[str, Told]) -> tuple[str, ...]:
    """Given hosts and a kind word, return the sentence that names those that will refuse it; none if none will."""
    names = sorted(told[host_id].name for host_id in host_ids if host_id in told and word not in told[host_id].kinds)
    if not names:
        return ()
    shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    said = f"{shown} will refuse {word}: the policy there does not allow it"
    return (f"{said} (on the host: restic-manager agent policy allow-kind {word})",)
