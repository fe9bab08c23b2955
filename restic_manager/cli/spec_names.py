"""What an option names, asked of the server: the host's name in restic, the ids of schedules and repositories.

Owns which questions that takes. Which option belongs where is `spec_rules`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from restic_manager.cli.spec_options import SpecOptions
from restic_manager.cli.typed import NONE
from restic_manager.client import Client
from restic_manager.domain.errors import NotFoundError
from restic_manager.domain.specs import Spec
from restic_manager.protocol.api import RepoView, ScheduleView


def with_names(client: Client, spec: Spec) -> Spec:
    """Given a spec as it is kept, return it with names for a person in place of the ids of what is still there."""
    found: dict[str, str] = {}
    asks: dict[str, Callable[[str], RepoView | ScheduleView]] = {
        "from_repo": client.repo,
        "chunker_from": client.repo,
        "schedule_id": client.schedule,
    }
    for field, ask in asks.items():
        id_ = getattr(spec, field, None)
        if id_ is not None:
            try:
                found[field] = ask(id_).name
            except NotFoundError:
                continue  # what was removed is known by its id alone
    named: Spec = replace(spec, **found)
    return named


def names_found(client: Client, typed: SpecOptions) -> dict[str, Any]:
    """Given options, return the spec's fields for what they name; raise NotFoundError if there is no such thing."""
    found: dict[str, Any] = {}
    if typed.of_host is not None:
        found["restic_host"] = None if typed.of_host == NONE else client.host(typed.of_host).restic_host
    if typed.of_schedule is not None:
        found["schedule_id"] = None if typed.of_schedule == NONE else client.schedule(typed.of_schedule).id
    if typed.from_repo is not None:
        found["from_repo"] = client.repo(typed.from_repo).id
    if typed.chunker_from is not None:
        found["chunker_from"] = client.repo(typed.chunker_from).id
    return found
