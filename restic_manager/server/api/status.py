"""`/v1/status`, `/v1/server`, `/healthz`, `/metrics`: how the fleet and the server are.

Gathers facts from rows and hub; the sentences are `problems`. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection
from starlette.responses import PlainTextResponse

from restic_manager import __version__
from restic_manager.domain.cron import Timetable
from restic_manager.domain.errors import InputError
from restic_manager.domain.model import Status, Timing
from restic_manager.protocol.api import HostLine, ServerView, StatusView
from restic_manager.server.api import repo_views
from restic_manager.server.api.operations import Call, Operation
from restic_manager.server.api.pauses import view as pause_view
from restic_manager.server.api.problems import Facts, WaitingInit, problems
from restic_manager.server.services import Services
from restic_manager.server.store import hosts, identity, job_lists, overview, pauses, proofs, schema
from restic_manager.server.store.hosts import HostRow
from restic_manager.server.store.job_lists import OfHost
from restic_manager.server.store.overview import Plan
from restic_manager.server.store.references import names_of

_DAY: Final = timedelta(hours=24)


async def server(services: Services, call: Call[None, None]) -> ServerView:  # noqa: ARG001 - a handler's form
    """Return the server itself."""
    epoch = await services.store.read(identity.epoch)
    return _server_view(services, epoch)


async def status(services: Services, call: Call[None, None]) -> StatusView:  # noqa: ARG001 - a handler's form
    """Return the fleet at a glance."""
    now, online = services.clock.now(), services.hub.online_hosts()
    return await services.store.read(lambda tx: _status(tx, services, now, online))


async def healthz(services: Services, call: Call[None, None]) -> PlainTextResponse:  # noqa: ARG001 - a handler's form
    """Answer `ok` when the store can be read; the error's status otherwise."""
    await services.store.read(identity.epoch)
    return PlainTextResponse("ok\n")


async def metrics(services: Services, call: Call[None, None]) -> PlainTextResponse:  # noqa: ARG001 - a handler's form
    """Return the server's numbers as Prometheus reads them."""
    counts = await services.store.read(job_lists.counts)
    total = await services.store.read(lambda tx: len(hosts.all_hosts(tx)))
    lines = [
        *_metric("hosts", "gauge", "Hosts that are not removed", [("", total)]),
        *_metric("hosts_online", "gauge", "Hosts with a live session", [("", services.hub.count())]),
        *_metric(
            "jobs",
            "gauge",
            "Jobs kept, by status",
            [(f'{{status="{each.value}"}}', counts.get(each, 0)) for each in Status],
        ),
        *_metric("store_commits_total", "counter", "Transactions committed", [("", services.store.commits)]),
        *_metric("store_changes_total", "counter", "Changes committed in them", [("", services.store.changes)]),
        *_metric(
            "misunderstood_messages_total",
            "counter",
            "Messages from agents that were none of the protocol",
            [("", services.hub.misunderstood)],
        ),
    ]
    return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")


def _status(tx: Connection, services: Services, now: datetime, online: frozenset[str]) -> StatusView:
    rows = hosts.all_hosts(tx)
    bad_runs, bad_total = overview.bad_last_runs(tx)
    schedules_total, schedules_enabled = overview.schedule_counts(tx)
    unfinished = job_lists.unfinished_by_host(tx)
    paused = pauses.holding(tx, now)
    trouble = repo_views.trouble(tx, now=now)
    facts = Facts(
        now=now,
        hosts=rows,
        online=online,
        schedule_names=names_of(tx, schema.schedules, {e.schedule_id for row in rows for e in row.refused_entries}),
        bad_runs=bad_runs,
        bad_runs_total=bad_total,
        inits_away=_inits_away(tx, online),
        without_hosts=overview.schedules_without_hosts(tx),
        unheard=overview.unheard(tx, online, now),
        bad_fates=overview.bad_fates(tx, now - _DAY),
        quarantined=overview.quarantined_since(tx, now - _DAY),
        pauses=[pause_view(row) for row in paused],
        damaged=trouble.damaged,
        unread=trouble.unread,
        unforgotten=trouble.unforgotten,
    )
    ended = job_lists.counts_since(tx, now - _DAY)
    return StatusView(
        server=_server_view(services, identity.epoch(tx)),
        hosts_total=len(rows),
        hosts_online=sum(row.id in online for row in rows),
        schedules_total=schedules_total,
        schedules_enabled=schedules_enabled,
        jobs_queued=sum(of_host.queued for of_host in unfinished.values()),
        jobs_running=sum(of_host.running for of_host in unfinished.values()),
        last_24h={each.value: ended.get(each, 0) for each in Status if each.terminal},
        hosts=_lines(tx, rows, online=online, unfinished=unfinished, now=now),
        problems=problems(facts),
        pauses=tuple(facts.pauses),
    )


def _lines(
    tx: Connection, rows: Iterable[HostRow], *, online: frozenset[str], unfinished: dict[str, OfHost], now: datetime
) -> tuple[HostLine, ...]:
    newest = overview.newest_jobs(tx)
    successes = overview.last_successes(tx)
    proven = proofs.newest(tx)
    following = next_slots(overview.plans(tx), now)
    lines = []
    for row in rows:
        last = newest.get(row.id)
        of_host = unfinished.get(row.id, OfHost(0, 0))
        lines.append(
            HostLine(
                name=row.name,
                online=row.id in online,
                last_seen_at=row.last_seen_at,
                last_job_id=None if last is None else last.job_id,
                last_job_status=None if last is None else last.status,
                last_job_at=None if last is None else last.at,
                last_success_at=successes.get(row.id),
                next_slot=following.get(row.id),
                running=of_host.running,
                queued=of_host.queued,
                proven_at=None if (proof := proven.get(row.id)) is None else proof.at,
            )
        )
    return tuple(lines)


def next_slots(plans: Iterable[Plan], now: datetime) -> dict[str, datetime]:
    """Given who runs what, return each host's next slot. Timings alike in all but the splay are looked at once."""
    known: dict[tuple[str, str, datetime], datetime | None] = {}
    found: dict[str, datetime] = {}
    for host_id, timing in plans:
        key = (timing.cron, timing.timezone, timing.anchor)
        if key not in known:
            known[key] = _next_slot(timing, now)
        slot = known[key]
        if slot is not None and (host_id not in found or slot < found[host_id]):
            found[host_id] = slot
    return found


def _next_slot(timing: Timing, now: datetime) -> datetime | None:
    try:
        return Timetable(timing).first_after(now)
    except InputError:  # a zone that this machine's tables do not know any more: it has no slot here
        return None


def _inits_away(tx: Connection, online: frozenset[str]) -> list[WaitingInit]:
    away = [job for job in overview.unfinished_inits(tx) if job.host_id not in online]
    hosts_ = names_of(tx, schema.hosts, {job.host_id for job in away})
    repos = names_of(tx, schema.repos, {job.repo_id for job in away})
    return [
        WaitingInit(
            job_id=job.id, repo=repos[job.repo_id], host=hosts_[job.host_id], sent=job.state.sent_at is not None
        )
        for job in away
    ]


def _server_view(services: Services, epoch: str) -> ServerView:
    return ServerView(
        version=__version__,
        epoch=epoch,
        started_at=services.started_at,
        timezone=services.config.timezone,
        listen=services.listening,
        data_dir=str(services.config.data_dir),
    )


def _metric(name: str, kind: str, words: str, values: Iterable[tuple[str, int]]) -> list[str]:
    full = f"restic_manager_{name}"
    head = [f"# HELP {full} {words}.", f"# TYPE {full} {kind}"]
    return head + [f"{full}{labels} {value}" for labels, value in values]


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/server",
        name="server_show",
        summary="The server itself",
        handler=server,
        response=ServerView,
    ),
    Operation(
        method="GET",
        path="/v1/status",
        name="status",
        summary="The whole fleet at a glance, and what is wrong with it, worst first",
        handler=status,
        response=StatusView,
    ),
    Operation(
        method="GET",
        path="/healthz",
        name="healthz",
        summary="`ok` while the store can be read",
        handler=healthz,
        response=str,
        media_type="text/plain",
    ),
    Operation(
        method="GET",
        path="/metrics",
        name="metrics",
        summary="The server's numbers, in Prometheus's text format",
        handler=metrics,
        response=str,
        media_type="text/plain",
    ),
)
