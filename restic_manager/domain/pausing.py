"""What open pauses mean for one schedule on one host: whether it runs, and if not, why not.

A pause is of the fleet, of one host or of one schedule. They lie over each other: a schedule runs on a host when it is
itself enabled and none of them holds. Decides on values; refuses to know rows, intervals and when pauses end.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct


class Scope(StrEnum):
    """What a pause is of."""

    FLEET = "fleet"
    HOST = "host"
    SCHEDULE = "schedule"


class Pause(Struct, frozen=True, kw_only=True):
    """A pause that holds. target: the id of the host or the schedule, None for the fleet."""

    scope: Scope
    target: str | None
    reason: str
    since: datetime


class Standing(NamedTuple):
    """Whether a schedule runs on a host; and if it does not by a pause, the reason that its slots are recorded with."""

    enabled: bool
    off_reason: str | None


class Pauses:
    """All pauses that hold at one moment."""

    def __init__(self, pauses: Iterable[Pause]) -> None:
        """Given them, order them by what they are of."""
        self._by_target: dict[tuple[Scope, str | None], Pause] = {}
        for pause in pauses:
            known = self._by_target.get((pause.scope, pause.target))
            if known is None or pause.since < known.since:
                self._by_target[pause.scope, pause.target] = pause

    def standing(self, schedule_id: str, host_id: str, *, enabled: bool) -> Standing:
        """Given a schedule, whether it is itself enabled, and one of its hosts, return how it stands there.

        Of several pauses the oldest gives the reason, so that one that comes on top changes nothing.
        """
        if not enabled:
            return Standing(enabled=False, off_reason=None)
        targets = ((Scope.FLEET, None), (Scope.HOST, host_id), (Scope.SCHEDULE, schedule_id))
        found = [pause for target in targets if (pause := self._by_target.get(target)) is not None]
        if not found:
            return Standing(enabled=True, off_reason=None)
        return Standing(enabled=False, off_reason=reason_text(min(found, key=lambda pause: pause.since).reason))


def reason_text(reason: str) -> str:
    """Given the reason of a pause, return what its slots are recorded with."""
    return f"paused: {reason}" if reason else "paused"
