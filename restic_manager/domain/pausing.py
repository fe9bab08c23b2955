"""What open pauses mean for one schedule on one host: whether it runs, and if not, why not.

A pause is of the fleet, of one host or of one schedule. They lie over each other: a schedule runs on a host when it is
itself enabled and none of them holds. What is to be when those with an end have ended follows from that in advance.
Decides on values; refuses to know rows, intervals and who ends a pause.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from msgspec import Struct


class Scope(StrEnum):
    """What a pause is of."""

    FLEET = "fleet"
    HOST = "host"
    SCHEDULE = "schedule"


class Pause(Struct, frozen=True, kw_only=True):
    """A pause that holds. target: the id of the host or the schedule, None for the fleet. until: when it is to end."""

    scope: Scope
    target: str | None
    reason: str
    since: datetime
    until: datetime | None = None


class Standing(NamedTuple):
    """Whether a schedule runs on a host; and if it does not by a pause, the reason that its slots are recorded with."""

    enabled: bool
    off_reason: str | None


class Outlook(NamedTuple):
    """How a schedule stands on a host, and from which instants on it will stand otherwise if nobody says more.

    Only the last of these may be enabled: pauses that hold do nothing but end.
    """

    now: Standing
    turns: tuple[tuple[datetime, Standing], ...] = ()


_ON: Final = Standing(enabled=True, off_reason=None)


class Pauses:
    """All pauses that hold at one moment."""

    def __init__(self, pauses: Iterable[Pause]) -> None:
        """Given them, order them by what they are of."""
        self._by_target: dict[tuple[Scope, str | None], Pause] = {}
        for pause in pauses:
            known = self._by_target.get((pause.scope, pause.target))
            if known is None or pause.since < known.since:
                self._by_target[pause.scope, pause.target] = pause

    def outlook(self, schedule_id: str, host_id: str, *, enabled: bool) -> Outlook:
        """Given a schedule, whether it is itself enabled, and one of its hosts, return how it stands and will stand.

        Of several pauses the oldest gives the reason, so that one that comes on top changes nothing but the end.
        """
        if not enabled:
            return Outlook(Standing(enabled=False, off_reason=None))
        targets = ((Scope.FLEET, None), (Scope.HOST, host_id), (Scope.SCHEDULE, schedule_id))
        held = [pause for target in targets if (pause := self._by_target.get(target)) is not None]
        latest = now = _together(held)
        turns: list[tuple[datetime, Standing]] = []
        for end in sorted({pause.until for pause in held if pause.until is not None}):
            held = [pause for pause in held if pause.until is None or pause.until > end]
            standing = _together(held)
            if standing != latest:
                turns.append((end, standing))
                latest = standing
        return Outlook(now, tuple(turns))


def _together(held: Sequence[Pause]) -> Standing:
    if not held:
        return _ON
    return Standing(enabled=False, off_reason=reason_text(min(held, key=lambda pause: pause.since).reason))


def reason_text(reason: str) -> str:
    """Given the reason of a pause, return what its slots are recorded with."""
    return f"paused: {reason}" if reason else "paused"
