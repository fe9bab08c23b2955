"""`/v1/repos`: add, list, show, remove. Thin over `store.repos`; creating a repository is a job (`api.jobs`).

Owns how a repository looks to an operator: never with a secret in it, except a password made here, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection

from restic_manager.protocol.api import RepoRequest, RepoView
from restic_manager.server.api.operations import Call, Operation
from restic_manager.server.services import Services
from restic_manager.server.store import repos
from restic_manager.server.store.repos import RepoRow, RepoUse

_UNUSED: Final = RepoUse((), (), None)


async def add(services: Services, call: Call[RepoRequest, None]) -> RepoView:
    """Store a repository."""
    request, now, sealer = call.body, services.clock.now(), services.sealer

    def change(tx: Connection) -> RepoView:
        added = repos.add(
            tx,
            name=request.name,
            url=request.url,
            password=request.password,
            env=request.env,
            seal=sealer.seal,
            now=now,
        )
        view = views(tx, [added.repo])[0]
        return msgspec.structs.replace(view, generated_password=added.generated_password, note=added.note)

    return await services.store.write(change)


async def list_repos(services: Services, call: Call[None, None]) -> list[RepoView]:  # noqa: ARG001 - a handler's form
    """Return every repository."""
    return await services.store.read(lambda tx: views(tx, repos.all_repos(tx)))


async def show(services: Services, call: Call[None, None]) -> RepoView:
    """Return one repository."""
    return await services.store.read(lambda tx: views(tx, [repos.resolve(tx, call.path["ref"])])[0])


async def remove(services: Services, call: Call[None, None]) -> RepoView:
    """Remove a repository that nothing uses, and return it."""
    now = services.clock.now()

    def change(tx: Connection) -> RepoView:
        repo = repos.resolve(tx, call.path["ref"])
        view = views(tx, [repo])[0]
        repos.remove(tx, repo, now=now)
        return view

    return await services.store.write(change)


def views(tx: Connection, rows: Sequence[RepoRow]) -> list[RepoView]:
    """Given repositories, return how an operator sees them, in the same order."""
    uses = repos.uses(tx, rows[0].id if len(rows) == 1 else None)
    found: list[RepoView] = []
    for row in rows:
        use = uses.get(row.id, _UNUSED)
        found.append(
            RepoView(
                id=row.id,
                name=row.name,
                url=row.url,
                env_names=row.env_names,
                created_at=row.created_at,
                schedules=use.schedules,
                hosts=use.hosts,
                last_job_at=use.last_job_at,
            )
        )
    return found


OPERATIONS: Final = (
    Operation(
        method="POST",
        path="/v1/repos",
        name="repo_add",
        summary="Store a repository and its secrets; without a password one is made and answered once",
        handler=add,
        request=RepoRequest,
        response=RepoView,
        status=201,
    ),
    Operation(
        method="GET",
        path="/v1/repos",
        name="repo_list",
        summary="Every repository",
        handler=list_repos,
        response=list[RepoView],
    ),
    Operation(
        method="GET",
        path="/v1/repos/{ref}",
        name="repo_show",
        summary="One repository",
        handler=show,
        response=RepoView,
    ),
    Operation(
        method="DELETE",
        path="/v1/repos/{ref}",
        name="repo_remove",
        summary="Remove a repository that no schedule and no unfinished job uses; answers with it as it was",
        handler=remove,
        response=RepoView,
    ),
)
