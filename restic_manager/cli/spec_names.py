"""What an option names, asked of the server: the host's name in restic, the ids of schedules and repositories.

Owns which questions that takes. Which option belongs where is `spec_rules`.
"""

from __future__ import annotations

from typing import Any

from restic_manager.cli.spec_options import SpecOptions
from restic_manager.cli.typed import NONE
from restic_manager.client import Client


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
