"""What is refused of a schedule before it is stored, each with the value and the remedy. Decides; stores nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import msgspec
from sqlalchemy import Connection

from restic_manager.domain.cron import check_expression, check_timezone, every_seconds
from restic_manager.domain.errors import InputError
from restic_manager.domain.guards import Guards
from restic_manager.domain.hooks import Hooks
from restic_manager.domain.instants import duration_text
from restic_manager.domain.meaning import check_scheduled
from restic_manager.domain.model import Kind, Spec, kind_of
from restic_manager.domain.retention import Retention, check_retention
from restic_manager.domain.retrying import LONGEST_BACKOFF
from restic_manager.domain.specs import CopySpec
from restic_manager.restic.checks import check_wish
from restic_manager.server.store import repos
from restic_manager.server.store.schedules import HOST_ZONE, ScheduledSpec

MAX_SPEC_TEXT: Final = 256 << 10
"""Most bytes of JSON that a spec may take: an order has to fit in one message, with its repository's access."""

_MAX_CRON: Final = 256
_HASH_GROWS: Final = 8
"""A resolved `H` (`12-59/15`) is at most this much longer than it was."""


def checked_spec(tx: Connection, spec: Spec, repo_id: str) -> ScheduledSpec:
    """Given what a schedule is to do there, return it, a copy's source by its id; raise InputError if it cannot be.

    It has to be of a kind that a schedule may have, and fit in an order.
    """
    check_scheduled(spec, kind_of(spec))
    if isinstance(spec, CopySpec):
        spec = msgspec.structs.replace(spec, from_repo=repos.resolve(tx, spec.from_repo).id)
        if spec.from_repo == repo_id:
            raise InputError("a repository cannot be copied onto itself: name another one to copy from")
    if not isinstance(spec, ScheduledSpec):
        raise InputError(f"{kind_of(spec)} cannot be scheduled")
    check_wish(spec)
    size = len(msgspec.json.encode(spec))
    if size > MAX_SPEC_TEXT:
        raise InputError(
            f"the paths and patterns take {size} bytes, and at most {MAX_SPEC_TEXT} are taken: put patterns in a file "
            "on the host (--exclude-file)"
        )
    return spec


def checked_retention(kind: Kind, retention: Retention | None) -> Retention | None:
    """Given the retention of a schedule of this kind, return it; raise InputError if it cannot have it."""
    if retention is None:
        return None
    if kind is not Kind.BACKUP:
        raise InputError(f"only a backup makes snapshots to keep: leave the retention of this {kind} out")
    check_retention(retention)
    return retention


def checked_guards(kind: Kind, guards: Guards | None) -> Guards | None:
    """Given the guards of a schedule of this kind, return them; raise InputError if it cannot have them."""
    if guards is not None and kind is not Kind.BACKUP:
        raise InputError(f"only a backup has guards: leave those of this {kind} out")
    return guards


def checked_hooks(hooks: Hooks | None) -> Hooks | None:
    """Given hooks, return them, None where they name no program."""
    return hooks if hooks is not None and hooks.names else None


def checked_lateness(seconds: int | None) -> int | None:
    """Given a max lateness in seconds, return it; raise InputError if it would miss every slot."""
    if seconds == 0:
        raise InputError("a max lateness of 0s would miss every slot: write 60s or more, or none")
    return seconds


def checked_backoff(seconds: int) -> int:
    """Given a retry backoff in seconds, return it; raise InputError if it is out of bounds."""
    longest = int(LONGEST_BACKOFF.total_seconds())
    if not 1 <= seconds <= longest:
        raise InputError(f"a retry backoff of {_seconds(seconds)}: write one from 1s to {_seconds(longest)}")
    return seconds


def checked_limit(seconds: int | None, what: str) -> int | None:
    """Given a limit in seconds, return it; raise InputError if it would stop every run at once."""
    if seconds == 0:
        raise InputError(f"a {what} limit of 0s would stop every run at once: write a longer one, or none")
    return seconds


def check_timing(cron: str, timezone: str, splay: int) -> None:
    """Given a cron expression, a zone and a splay in seconds, raise InputError for what cannot be right."""
    check_expression(cron)
    if len(cron) + _HASH_GROWS * cron.upper().count("H") > _MAX_CRON:
        raise InputError(f"the schedule {cron!r} is too long for so many H: write fewer of them")
    if timezone != HOST_ZONE:
        check_timezone(timezone)
    every = every_seconds(cron)
    if every is not None and splay >= every:
        raise InputError(
            f"a splay of {_seconds(splay)} does not fit into {cron!r}: it has to be less than {_seconds(every)}"
        )


def _seconds(seconds: int) -> str:
    return duration_text(timedelta(seconds=seconds))
