"""Which repositories a host may use without a further word on it: what its join tells it, once.

Owns the choice: those its invite names, else those its schedules use, else all there are. After the join the server
cannot add to them. What a host makes of them is its own policy's.
"""

from __future__ import annotations

import logging
from typing import Final

import msgspec
from sqlalchemy import Connection, select

from restic_manager.domain.errors import ManagerError
from restic_manager.domain.policy import place_of
from restic_manager.protocol.messages import Joined
from restic_manager.server.store import repos
from restic_manager.server.store.repo_secrets import Unseal
from restic_manager.server.store.repos import RepoRow
from restic_manager.server.store.schema import assignments, invites, schedules

logger = logging.getLogger(__name__)

_ids: Final = msgspec.json.Decoder(tuple[str, ...])
MOST: Final = 1_000
"""Places told to one host."""


def with_places(tx: Connection, joined: Joined, token_sha256: str | None, *, unseal: Unseal) -> Joined:
    """Given a join that was let in, by a token or (None) by a key that was approved, return it with the places of the
    repositories that the host may use.
    """
    chosen = brought(tx, joined.host_id, token_sha256)
    places: dict[str, None] = {}
    for repo in chosen:
        try:
            accesses = [repos.access(tx, repo.id, unseal)]
            if repo.maintainer_id == joined.host_id:
                accesses.append(repos.access(tx, repo.id, unseal, maintaining=True))
        except ManagerError as error:
            # The host can be told later, by its administrator; without its join it cannot be told anything.
            logger.warning("host %s is not told of repository %s: %s", joined.host_name, repo.name, error.message)
            continue
        places |= dict.fromkeys(place_of(one.url, one.env) for one in accesses)
    return msgspec.structs.replace(joined, repositories=tuple(places)[:MOST])


def brought(tx: Connection, host_id: str, token_sha256: str | None) -> list[RepoRow]:
    """Given a host and by which token it joins (None: by its key), return the repositories that this brings it now."""
    text: str | None = tx.execute(select(invites.c.repositories).where(invites.c.token_sha256 == token_sha256)).scalar()
    there = {repo.id: repo for repo in repos.all_repos(tx)}
    if text is not None:
        return [there[repo_id] for repo_id in _ids.decode(text) if repo_id in there]
    used = tx.execute(
        select(schedules.c.repo_id)
        .join(assignments, assignments.c.schedule_id == schedules.c.id)
        .where(assignments.c.host_id == host_id, assignments.c.valid_to.is_(None), schedules.c.removed_at.is_(None))
        .distinct()
    )
    found = [there[repo_id] for (repo_id,) in used if repo_id in there]
    return found or list(there.values())
