"""What a token that is limited to some hosts may ask for: the second table, beside that of the roles.

An operation that is not in it is refused to such a token, whatever its role. One that is concerns hosts, which all have
to be among the token's; a list of hosts or schedules tells only of these. Decides from rows; refuses to know who asks
for what else, and what an operation does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from restic_manager.domain.errors import NotPermittedError
from restic_manager.domain.model import Kind, kind_of
from restic_manager.domain.selectors import TargetRule, selects
from restic_manager.protocol.api import JobRequest
from restic_manager.server.store import hosts, job_lists, repos, schema, snapshots
from restic_manager.server.store.hosts import HostRow
from restic_manager.server.store.references import resolve_ever, resolve_id

KINDS: Final = frozenset(
    {Kind.BACKUP, Kind.RESTORE, Kind.VERIFY, Kind.LS, Kind.FIND, Kind.DIFF, Kind.DUMP},
)
"""What a limited token may have done: nothing that concerns a repository as a whole, for others use it too."""


@dataclass(frozen=True, slots=True)
class Within:
    """The hosts that one token is for, as they are at this moment."""

    token: str
    rows: tuple[HostRow, ...]

    @property
    def ids(self) -> frozenset[str]:
        """Their ids."""
        return frozenset(row.id for row in self.rows)

    @property
    def restic_hosts(self) -> frozenset[str]:
        """What they are called in repositories."""
        return frozenset(row.restic_host or row.name for row in self.rows)

    def insist(self, host_ids: Iterable[str], what: str) -> None:
        """Given the hosts that something concerns, return if all are among these; raise NotPermittedError."""
        if not set(host_ids) <= self.ids:
            raise self.refusal(what)

    def refusal(self, what: str) -> NotPermittedError:
        """Given what was asked for, return why it is refused."""
        names = ", ".join(row.name for row in self.rows[:5]) + (", …" if len(self.rows) > 5 else "")
        return NotPermittedError(
            f"{what}: the token {self.token} is for {names or 'hosts with labels that none has now'} alone: name one "
            "of these, or ask an admin for another token"
        )


def within(tx: Connection, token: str, rule: TargetRule) -> Within:
    """Given a token's name and the rule it is limited by, return the hosts it is for now."""
    found = (host for host in hosts.all_hosts(tx) if selects(rule, host_id=host.id, labels=host.labels))
    return Within(token, tuple(found))


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as far as this table looks at it."""

    path: Mapping[str, str]
    body: Any
    query: Any


Check = Callable[[Connection, Within, Asked], None]


def refuse_out_of_scope(tx: Connection, scope: Within, operation: str, asked: Asked) -> None:
    """Given a limited token's hosts and a request, return if it stays among them; raise NotPermittedError."""
    check = SCOPED.get(operation)
    if check is None:
        raise scope.refusal(f"{operation} concerns more than some hosts")
    check(tx, scope, asked)


def is_within(tx: Connection, scope: Within, schedule_id: str) -> bool:
    """Given a schedule, return whether it has hosts, and all that have or once had it are the token's."""
    ever = {host.id for host in hosts.of_schedule(tx, schedule_id)}
    return bool(ever) and ever <= scope.ids


def _nothing(tx: Connection, scope: Within, asked: Asked) -> None:
    """It concerns no host, or tells only of the token's (the handlers of the lists see to that)."""


def _host(tx: Connection, scope: Within, asked: Asked) -> None:
    reference = asked.path["ref"]
    scope.insist([resolve_id(tx, schema.hosts, reference, "host")], f"host {reference}")


def _host_named(tx: Connection, scope: Within, asked: Asked) -> None:
    reference = asked.query.host
    if reference is None:
        raise scope.refusal("this tells of every host unless one is named (--host)")
    scope.insist([resolve_ever(tx, schema.hosts, reference, "host")], f"host {reference}")


def _schedule(tx: Connection, scope: Within, asked: Asked) -> None:
    reference = asked.path["ref"]
    if not is_within(tx, scope, resolve_ever(tx, schema.schedules, reference, "schedule")):
        raise scope.refusal(f"schedule {reference} is not one of these hosts' alone")


def _run(tx: Connection, scope: Within, asked: Asked) -> None:
    if asked.body.host is None:
        _schedule(tx, scope, asked)
    else:
        scope.insist([resolve_id(tx, schema.hosts, asked.body.host, "host")], f"host {asked.body.host}")


def _job(tx: Connection, scope: Within, asked: Asked) -> None:
    job = job_lists.resolve(tx, asked.path["ref"])
    scope.insist([job.host_id], f"job {job.id[:8]}")


def _snapshot(tx: Connection, scope: Within, asked: Asked) -> None:
    repo_id = None if asked.query.repo is None else repos.resolve(tx, asked.query.repo).id
    found = snapshots.resolve(tx, asked.path["ref"], repo_id=repo_id)
    if found.restic_host not in scope.restic_hosts:
        raise scope.refusal(f"snapshot {found.id[:8]}")


def _ask(tx: Connection, scope: Within, asked: Asked) -> None:
    """A wish: its host is named, and whatever it reads from the repository is of the token's hosts."""
    request: JobRequest = asked.body
    kind = kind_of(request.spec)
    if kind not in KINDS:
        raise scope.refusal(f"{kind} concerns all hosts of the repository")
    if request.host is None:
        raise scope.refusal("without a host (--on) the server chooses any")
    scope.insist([resolve_id(tx, schema.hosts, request.host, "host")], f"host {request.host}")
    if kind is Kind.BACKUP:
        return
    repo_id = repos.resolve(tx, request.repo).id
    named = tuple(_snapshots_of(request.spec))
    for snapshot_id in named:
        found = snapshots.resolve(tx, snapshot_id, repo_id=repo_id)
        if found.restic_host not in scope.restic_hosts:
            raise scope.refusal(f"snapshot {found.id[:8]}")
    if named:
        return
    if request.of_host is not None:
        scope.insist([resolve_ever(tx, schema.hosts, request.of_host, "host")], f"host {request.of_host}")
    elif getattr(request.spec, "restic_host", None) not in scope.restic_hosts:
        raise scope.refusal("snapshots of any host are meant unless one is named")


def _snapshots_of(spec: Any) -> Iterable[str]:
    yield from getattr(spec, "snapshots", ())
    for name in ("snapshot", "old", "new"):
        if (found := getattr(spec, name, None)) is not None:
            yield found


SCOPED: Final[dict[str, Check]] = {
    "healthz": _nothing,
    "whoami": _nothing,
    "host_list": _nothing,
    "schedule_list": _nothing,
    "host_show": _host,
    "host_pause": _host,
    "host_resume": _host,
    "schedule_show": _schedule,
    "schedule_next": _schedule,
    "schedule_history": _schedule,
    "schedule_why": _schedule,
    "schedule_run": _run,
    "snapshot_list": _host_named,
    "snapshot_show": _snapshot,
    "job_list": _host_named,
    "job_show": _job,
    "job_events": _job,
    "job_rows": _job,
    "job_cancel": _job,
    "job_ask": _ask,
}
