"""What is wrong, in sentences worth reading at 3 a.m., worst first. Decides from facts; asks nobody."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from restic_manager.domain.instants import duration_text
from restic_manager.domain.model import Status
from restic_manager.protocol.api import PauseView
from restic_manager.server.store.hosts import HostRow
from restic_manager.server.store.overview import BadFates, LastRun, Unheard

CLOCK_SKEW: Final = 5.0
"""Seconds a host's clock may be off before it is told."""
MOST_OF_A_SORT: Final = 50
"""Sentences of one sort; the rest is counted."""


class WaitingInit(Struct, frozen=True, kw_only=True):
    """A job that is to create a repository, whose host is away."""

    job_id: str
    repo: str
    host: str
    sent: bool


class Facts(Struct, frozen=True, kw_only=True):
    """What the sentences are made from. hosts: those not removed. names: of schedules, by id.

    damaged, unread, unforgotten: what is wrong with repositories, said already (`repo_views`).
    """

    now: datetime
    hosts: Sequence[HostRow]
    online: frozenset[str]
    schedule_names: dict[str, str]
    bad_runs: Sequence[LastRun]
    bad_runs_total: int
    inits_away: Sequence[WaitingInit]
    without_hosts: Sequence[str]
    quarantined: dict[str, int]
    pauses: Sequence[PauseView] = ()
    unheard: Sequence[Unheard] = ()
    bad_fates: Sequence[BadFates] = ()
    damaged: Sequence[str] = ()
    unread: Sequence[str] = ()
    unforgotten: Sequence[str] = ()


def problems(facts: Facts) -> tuple[str, ...]:
    """Given the facts, return the sentences, worst first; none when nothing is known to be wrong."""
    failed = [run for run in facts.bad_runs if run.status is not Status.WARNING]
    warned = [run for run in facts.bad_runs if run.status is Status.WARNING]
    more = facts.bad_runs_total - len(facts.bad_runs)
    sorts: list[list[str]] = [
        [*facts.damaged],
        [_failed(run, facts.now) for run in failed],
        [f"{more} more schedules did not succeed on a host when they last ran there"] if more > 0 else [],
        [_away(init) for init in facts.inits_away],
        [_offline(host, facts.now) for host in facts.hosts if host.joined_at and host.id not in facts.online],
        [*_unheard(facts.unheard)],
        [_bad(bad) for bad in facts.bad_fates],
        [f"{host.name} cannot run restic: {host.restic_problem}" for host in facts.hosts if host.restic_problem],
        [*_refused(facts)],
        [*facts.unread],
        [*facts.unforgotten],
        [paused(pause) for pause in facts.pauses],
        [_warned(run, facts.now) for run in warned],
        [*_skewed(facts.hosts)],
        [
            f"{count} reports of {host.name} could not be used in the last 24 h and were set aside"
            for host in facts.hosts
            if (count := facts.quarantined.get(host.id, 0))
        ],
        [f"schedule {name} has no hosts: it runs nowhere" for name in facts.without_hosts],
        [f"{host.name} was invited and has not joined yet" for host in facts.hosts if host.joined_at is None],
    ]
    return tuple(sentence for sort in sorts for sentence in _bounded(sort))


def _bounded(sort: list[str]) -> Iterable[str]:
    yield from sort[:MOST_OF_A_SORT]
    if len(sort) > MOST_OF_A_SORT:
        yield f"… and {len(sort) - MOST_OF_A_SORT} more like the last one"


def _failed(run: LastRun, now: datetime) -> str:
    why = run.error.message if run.error is not None else "no reason was given"
    return f"the last run of {run.schedule} on {run.host} {_ended(run.status)} {_ago(run.finished_at, now)}: {why}"


def _warned(run: LastRun, now: datetime) -> str:
    why = f": {run.error.message}" if run.error is not None else ""
    return f"the last run of {run.schedule} on {run.host} was incomplete {_ago(run.finished_at, now)}{why}"


def _ended(status: Status) -> str:
    return "was interrupted" if status is Status.INTERRUPTED else "failed"


def _away(init: WaitingInit) -> str:
    if init.sent:
        return (
            f"repository {init.repo} waits for {init.host}: it was told to create it (job {init.job_id[:8]}) and is "
            f"offline; bring it back, or remove the host"
        )
    return f"repository {init.repo} is still to be created and none of its hosts is online (job {init.job_id[:8]})"


def _offline(host: HostRow, now: datetime) -> str:
    if host.revoked_at is not None:
        return f"{host.name} is revoked: it is refused until it is invited and joins again"
    if host.last_seen_at is None:
        return f"{host.name} has joined and was never connected: start its agent"
    return f"{host.name} is offline, last seen {_ago(host.last_seen_at, now)} ({_minute(host.last_seen_at)})"


def paused(pause: PauseView) -> str:
    """Given a pause, return the sentence that tells of it: one that was forgotten looks like peace."""
    what = {"fleet": "the fleet", "host": f"host {pause.host}", "schedule": f"schedule {pause.schedule}"}[pause.scope]
    ends = "until it is resumed" if pause.until is None else f"until {_minute(pause.until)}"
    why = f": {pause.reason}" if pause.reason else ""
    return f"{what} is paused since {_minute(pause.since)}, {ends}{why}"


def _unheard(unheard: Iterable[Unheard]) -> Iterable[str]:
    """One sentence a schedule, however many of its hosts are away."""
    of: dict[str, list[Unheard]] = {}
    for one in unheard:
        of.setdefault(one.schedule, []).append(one)
    for schedule, hosts in of.items():
        slots, first = sum(one.slots for one in hosts), min(one.since for one in hosts)
        where = hosts[0].host + (f" and {len(hosts) - 1:,} more hosts" if len(hosts) > 1 else "")
        yield (
            f"what became of {slots:,} slots of {schedule} is unknown since {_minute(first)}: {where} cannot be heard"
        )


def _bad(bad: BadFates) -> str:
    slots = "1 slot" if bad.slots == 1 else f"{bad.slots:,} slots"
    was = f"{'was' if bad.slots == 1 else 'were'} {bad.fate}"
    why = f": {bad.reason}" if bad.reason else ""
    return f"{slots} of {bad.schedule} on {bad.host} {was} in the last 24 h{why}"


def _refused(facts: Facts) -> Iterable[str]:
    for host in facts.hosts:
        for entry in host.refused_entries:
            name = facts.schedule_names.get(entry.schedule_id, entry.schedule_id)
            yield f"{host.name} cannot use schedule {name}: {entry.reason}"


def _skewed(hosts: Iterable[HostRow]) -> Iterable[str]:
    for host in hosts:
        if host.clock_offset is not None and abs(host.clock_offset) > CLOCK_SKEW:
            by = duration_text(timedelta(seconds=abs(host.clock_offset)))
            way = "fast" if host.clock_offset > 0 else "slow"
            yield f"the clock of {host.name} is {by} {way}: its slots run at other times than planned; set it (NTP)"


def _ago(instant: datetime | None, now: datetime) -> str:
    if instant is None:
        return "at an unknown time"
    passed = now - instant
    if passed < timedelta(minutes=1):
        return "just now"
    seconds = int(passed.total_seconds())
    coarse = seconds - seconds % (60 if seconds < 86_400 else 3_600)
    return f"{duration_text(timedelta(seconds=coarse))} ago"


def _minute(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%d %H:%M UTC")
