"""Short ways to put hosts, repositories and schedules into a store, for the tests of what is done with them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from restic_manager.domain.model import BackupSpec
from restic_manager.protocol.api import ScheduleEdit, ScheduleRequest
from restic_manager.protocol.messages import Hello, Joined, OutboxHead
from restic_manager.secrets import Sealer
from restic_manager.server.store import host_changes, hosts, repos, schedule_changes, schedules
from restic_manager.server.store.hosts import HostRow
from restic_manager.server.store.repos import RepoRow
from restic_manager.server.store.schedule_changes import Changed

SEALER = Sealer(b"k" * 32)
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ZONE = "Europe/Berlin"


def at(seconds: float) -> datetime:
    """Return the instant this many seconds after the start."""
    return START + timedelta(seconds=seconds)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def invite(tx: Connection, name: str, now: datetime = START, **labels: str) -> host_changes.Invited:
    return host_changes.invite(tx, name=name, labels=labels, now=now, default_zone=ZONE)


def join(tx: Connection, name: str, now: datetime = START, **labels: str) -> HostRow:
    """Invite a host and let it join with the credential `<name>-credential`."""
    invited = invite(tx, name, now, **labels)
    answer = hosts.redeem(tx, sha(invited.token), sha(f"{name}-credential"), now)
    assert isinstance(answer, Joined), answer
    return hosts.get(tx, invited.host.id)


def hello(**fields: Any) -> Hello:
    told: dict[str, Any] = {
        "protocol": 1,
        "agent_version": "0.1.0",
        "os": "Linux",
        "timezone": "Europe/Berlin",
        "tzdata": "2026a",
        "boot_id": "boot",
        "instance_id": "instance",
        "journal_id": "journal",
        "outbox": OutboxHead(),
        "clock": START,
    }
    return Hello(**{**told, **fields})


def greet(tx: Connection, host: HostRow, now: datetime = START, **fields: Any) -> bool:
    return hosts.note_hello(tx, host.id, hello(**fields), clock_offset=0.0, now=now)


def add_repo(tx: Connection, name: str = "main", url: str = "/srv/backups", **fields: Any) -> RepoRow:
    given: dict[str, Any] = {"password": "hunter2", "env": {}, "seal": SEALER.seal, "now": START}
    return repos.add(tx, name=name, url=url, **{**given, **fields}).repo


def add_schedule(tx: Connection, name: str = "nightly", now: datetime = START, **fields: Any) -> Changed:
    given: dict[str, Any] = {"cron": "30 2 * * *", "repo": "main", "spec": BackupSpec(paths=("/etc",))}
    if not fields.keys() & {"hosts", "labels", "all"}:
        given["all"] = True
    return schedule_changes.add(tx, ScheduleRequest(name=name, **{**given, **fields}), now=now, default_zone=ZONE)


def edit_schedule(tx: Connection, schedule: str = "nightly", now: datetime = START, **fields: Any) -> Changed:
    return schedule_changes.edit(
        tx, schedules.resolve(tx, schedule), ScheduleEdit(**fields), now=now, default_zone=ZONE
    )
