"""How long a due slot waits for the server before it runs its standing order. Pure arithmetic on monotonic seconds.

A fire that nobody answered waits `grace` from when it came due, whatever the link looks like. One that was answered
waits for its `command.run` while the link is up; only the time the link has been down since the answer counts, added up
over reconnects. Refuses to know what an order is and whether there is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass
class _Waiting:
    slot: datetime
    since: float
    answered: bool = False
    down: float = 0.0  # seconds the link was down since the answer, but for the present spell
    put_off_until: float | None = None


class Grace:
    """The pending fires of a host, and when the grace of each is over. `seconds` None: never, every slot waits."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._waiting: dict[str, _Waiting] = {}
        self._down_since: float | None = 0.0

    def opened(self, schedule_id: str, slot: datetime, now: float, *, in_place: bool = False) -> None:
        """A fire is pending from now on (again and again for the same slot: nothing new).

        in_place: it has taken the place of one that was never sent, and goes on with the time that one has waited: else
        a schedule more frequent than the grace would wait for ever.
        """
        known = self._waiting.get(schedule_id)
        if self._seconds is None or (known is not None and known.slot == slot):
            return
        since = known.since if known is not None and in_place and not known.answered else now
        self._waiting[schedule_id] = _Waiting(slot, since)

    def closed(self, schedule_id: str) -> None:
        """No fire of this schedule is pending any more."""
        self._waiting.pop(schedule_id, None)

    def answered(self, schedule_id: str, now: float) -> None:
        """The server has answered: from now on it is its order that is waited for."""
        waiting = self._waiting.get(schedule_id)
        if waiting is not None and not waiting.answered:
            waiting.answered = True
            waiting.since = now

    def put_off(self, schedule_id: str, until: float) -> None:
        """It could not run now: not to be asked again before then."""
        waiting = self._waiting.get(schedule_id)
        if waiting is not None:
            waiting.put_off_until = until

    def link_up(self, now: float) -> None:
        """The link has come up: answered fires wait without counting again."""
        if self._down_since is not None:
            for waiting in self._waiting.values():
                if waiting.answered:
                    waiting.down += now - max(self._down_since, waiting.since)
            self._down_since = None

    def link_down(self, now: float) -> None:
        """The link has gone down."""
        if self._down_since is None:
            self._down_since = now

    def over(self, now: float) -> list[str]:
        """Return the schedules whose pending fire has waited long enough."""
        return [schedule_id for schedule_id in self._waiting if self._is_over(schedule_id, now)]

    def next_deadline(self) -> float | None:
        """Return the earliest instant at which a grace ends, as things stand; None for none."""
        deadlines = [self._deadline(waiting) for waiting in self._waiting.values()]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _is_over(self, schedule_id: str, now: float) -> bool:
        deadline = self._deadline(self._waiting[schedule_id])
        return deadline is not None and deadline <= now

    def _deadline(self, waiting: _Waiting) -> float | None:
        if self._seconds is None:
            return None
        if not waiting.answered:
            deadline = waiting.since + self._seconds
        elif self._down_since is None:
            return None
        else:
            deadline = max(self._down_since, waiting.since) + self._seconds - waiting.down
        return deadline if waiting.put_off_until is None else max(deadline, waiting.put_off_until)
