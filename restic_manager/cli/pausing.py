"""What pausing and resuming say, whatever they are of. Owns the words; it refuses to know which slots that means."""

from __future__ import annotations

from datetime import datetime

from restic_manager.cli.command import Operator
from restic_manager.cli.text import moment
from restic_manager.domain.errors import InputError
from restic_manager.domain.instants import parse_duration, parse_instant
from restic_manager.protocol.api import PauseRequest, PauseView

FLEET = "the fleet"


def request(reason: str, until: str | None, lasting: str | None) -> PauseRequest:
    """Given what was typed, return the request; raise InputError, naming the option, if it is wrong."""
    if until is not None and lasting is not None:
        raise InputError(f"--until {until} and --for {lasting}: choose one")
    if len(reason) > 200:
        raise InputError(f"--reason: {len(reason)} characters are too many: at most 200")
    try:
        if until is not None:
            return PauseRequest(reason=reason, until=parse_instant(until))
        seconds = None if lasting is None else int(parse_duration(lasting).total_seconds())
    except InputError as error:
        raise InputError(f"{'--until' if until is not None else '--for'}: {error.message}") from None
    return PauseRequest(reason=reason, seconds=seconds)


def told(operator: Operator, name: str, pauses: tuple[PauseView, ...]) -> None:
    """Given what was paused or resumed and the pauses that hold it now, say so."""
    if operator.as_json:
        operator.screen.data(pauses)
        return
    now = operator.now()
    for pause in pauses:
        operator.screen.say(f"{name} is paused: {pause_words(pause, now)}")
    if not pauses:
        operator.screen.say(f"{name} is not paused: the next slots run")


def pause_words(pause: PauseView, now: datetime) -> str:
    """Given a pause, return of what it is, why, since when and until when."""
    what = {"fleet": FLEET, "host": f"host {pause.host}", "schedule": f"schedule {pause.schedule}"}[pause.scope]
    why = f" ({pause.reason})" if pause.reason else ""
    ends = "until it is resumed" if pause.until is None else f"until {moment(pause.until, now)}"
    return f"{what}{why}, since {moment(pause.since, now)}, {ends}"
