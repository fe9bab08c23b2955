"""`/v1/repos`: add, list, show, edit, remove, sizes. Thin over `store.repos` and `store.repo_changes`.

Creating a repository is a job (`api.jobs`), who looks after it is `api.maintenance`. A password made here is answered
once, and nowhere else.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import Connection

from restic_manager.protocol.api import RepoEdit, RepoRequest, RepoView, SecretsRequest, SecretsView, SizeView
from restic_manager.server.api.operations import Call, Operation
from restic_manager.server.api.repo_views import views
from restic_manager.server.services import Services
from restic_manager.server.store import repo_changes, repos, secret_changes, sizes, snapshots
from restic_manager.server.store.references import names_of
from restic_manager.server.store.repo_secrets import Login
from restic_manager.server.store.schema import hosts as host_rows


class SizesQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At most how many, the newest of them."""

    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1_000


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
            append_only=request.append_only,
            max_parallel=request.max_parallel,
            chunker_from=request.chunker_from,
            password_from=request.password_from,
            env_from=request.env_from,
            login=Login(request.user, request.user_password, request.user_password_from),
        )
        view = views(tx, [added.repo], now=now)[0]
        return msgspec.structs.replace(view, generated_password=added.generated_password, note=added.note)

    return await services.store.write(call.act.within(change))


async def list_repos(services: Services, call: Call[None, None]) -> list[RepoView]:  # noqa: ARG001 - a handler's form
    """Return every repository."""
    now = services.clock.now()
    return await services.store.read(lambda tx: views(tx, repos.all_repos(tx), now=now))


async def show(services: Services, call: Call[None, None]) -> RepoView:
    """Return one repository."""
    now = services.clock.now()
    return await services.store.read(lambda tx: views(tx, [repos.resolve(tx, call.path["ref"])], now=now)[0])


async def edit(services: Services, call: Call[RepoEdit, None]) -> RepoView:
    """Change what the request names."""
    now = services.clock.now()

    def change(tx: Connection) -> RepoView:
        repo = repo_changes.edit(tx, repos.resolve(tx, call.path["ref"]), call.body, now=now)
        return views(tx, [repo], now=now)[0]

    view = await services.store.write(call.act.within(change))
    services.dispatcher.look_everywhere()  # more may be allowed on it at once
    return view


async def set_secrets(services: Services, call: Call[SecretsRequest, None]) -> SecretsView:
    """Change what opens a repository, and let its hosts hear of it."""
    now, sealer = services.clock.now(), services.sealer

    def change(tx: Connection) -> tuple[SecretsView, list[str]]:
        repo = repos.resolve(tx, call.path["ref"])
        done = secret_changes.set_secrets(tx, repo, call.body, seal=sealer.seal, unseal=sealer.unseal, now=now)
        names = names_of(tx, host_rows, set(done.hosts))
        view = SecretsView(
            changed=done.changed,
            repo=views(tx, [done.repo], now=now)[0],
            hosts=tuple(sorted(names.values())),
        )
        return view, done.hosts

    view, hosts = await services.store.write(call.act.within(change))
    services.hub.sets_changed(hosts)
    return view


async def remove(services: Services, call: Call[None, None]) -> RepoView:
    """Remove a repository that nothing uses, and return it."""
    now = services.clock.now()

    def change(tx: Connection) -> RepoView:
        repo = repos.resolve(tx, call.path["ref"])
        view = views(tx, [repo], now=now)[0]
        repos.remove(tx, repo, now=now)
        snapshots.forget_repo(tx, repo.id)
        return view

    return await services.store.write(call.act.within(change))


async def list_sizes(services: Services, call: Call[None, SizesQuery]) -> list[SizeView]:
    """Return how large a repository was."""

    def question(tx: Connection) -> list[SizeView]:
        repo = repos.resolve(tx, call.path["ref"])
        return [
            SizeView(at=one.at, size=one.size, uncompressed=one.uncompressed, snapshots=one.snapshots)
            for one in sizes.of_repo(tx, repo.id, limit=call.query.limit)
        ]

    return await services.store.read(question)


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
        method="PATCH",
        path="/v1/repos/{ref}",
        name="repo_edit",
        summary="Change what is named; what is left out stays",
        handler=edit,
        request=RepoEdit,
        response=RepoView,
    ),
    Operation(
        method="POST",
        path="/v1/repos/{ref}/secrets",
        name="repo_set_secret",
        summary="Change what opens a repository; what is left out stays. Answers with no secret",
        handler=set_secrets,
        request=SecretsRequest,
        response=SecretsView,
    ),
    Operation(
        method="DELETE",
        path="/v1/repos/{ref}",
        name="repo_remove",
        summary="Remove a repository that no schedule and no unfinished job uses; answers with it as it was",
        handler=remove,
        response=RepoView,
    ),
    Operation(
        method="GET",
        path="/v1/repos/{ref}/sizes",
        name="repo_sizes",
        summary="How large it was each time it was measured (kind `stats`), newest first",
        handler=list_sizes,
        query=SizesQuery,
        response=list[SizeView],
    ),
)
