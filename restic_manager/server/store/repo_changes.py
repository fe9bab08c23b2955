"""What an operator changes of a repository: its limits, and who looks after it, how and when.

Maintenance is ordinary schedules, `REPO-prune`, `REPO-check`, `REPO-forget` and `REPO-stats` on the maintainer, and
`REPO-verify` on every host that backs up there; they are made, changed and removed here like any other. How the
maintainer reaches the repository is its own secret. It refuses to know what a maintainer's job is told of it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, select

from restic_manager.domain.errors import ConflictError, InputError
from restic_manager.domain.model import Kind
from restic_manager.domain.specs import CheckSpec, ForgetSpec, PruneSpec, Spec, StatsSpec, VerifySpec
from restic_manager.protocol.api import MaintenanceRequest, RepoEdit, ScheduleEdit, ScheduleRequest
from restic_manager.server.store import events, hosts, repos, schedule_changes, schedules, secret_changes
from restic_manager.server.store.references import id_of_name
from restic_manager.server.store.repo_secrets import Seal, Unseal
from restic_manager.server.store.repos import RepoRow
from restic_manager.server.store.schedules import ScheduleRow
from restic_manager.server.store.schema import assignments
from restic_manager.server.store.schema import hosts as host_rows
from restic_manager.server.store.schema import repos as repo_rows
from restic_manager.server.store.schema import schedules as schedule_rows

_SPECS: Final[dict[Kind, Spec]] = {
    Kind.PRUNE: PruneSpec(),
    Kind.CHECK: CheckSpec(),
    Kind.FORGET: ForgetSpec(),
    Kind.STATS: StatsSpec(),
    Kind.VERIFY: VerifySpec(),
}
MAINTENANCE: Final = tuple(_SPECS)
"""The kinds of maintenance, in the order in which they are told."""


class Maintained(NamedTuple):
    """A repository as it is now, the hosts whose schedule set changed, and what was done beside what was asked."""

    repo: RepoRow
    hosts: list[str]
    notes: tuple[str, ...]


def edit(tx: Connection, repo: RepoRow, change: RepoEdit, *, now: datetime) -> RepoRow:
    """Given what to change of a repository, change it and return the repository."""
    values = {
        name: value
        for name in ("append_only", "max_parallel")
        if (value := getattr(change, name)) is not UNSET and value != getattr(repo, name)
    }
    if values:
        tx.execute(repo_rows.update().where(repo_rows.c.id == repo.id).values(values))
        said = ", ".join(f"{name} is {value}" for name, value in values.items())
        events.record(tx, now=now, actor="operator", what="repo_edited", detail=f"repository {repo.name}: {said}")
    return repos.get(tx, repo.id)


def maintain(
    tx: Connection,
    repo: RepoRow,
    request: MaintenanceRequest,
    *,
    seal: Seal,
    unseal: Unseal,
    now: datetime,
    default_zone: str,
) -> Maintained:
    """Given who is to look after a repository and when, make it so; what the request leaves out stays.

    Raise InputError naming what cannot be (a timing, a URL, maintenance without a maintainer), NotFoundError for a host
    that is none, ConflictError where another schedule has the name.
    """
    notes = secret_changes.set_maintainer_access(tx, repo, request, seal=seal, unseal=unseal, now=now)
    maintainer = repo.maintainer_id
    if not isinstance(request.maintainer, UnsetType):
        maintainer = hosts.resolve(tx, request.maintainer).id
    if maintainer != repo.maintainer_id:
        tx.execute(repo_rows.update().where(repo_rows.c.id == repo.id).values(maintainer_id=maintainer))
    after = repos.get(tx, repo.id)
    own_way = after.maintainer_env_names or after.maintainer_env_from or after.maintainer_per_job
    if maintainer is None and (after.maintainer_url is not None or own_way):
        raise InputError(f"say who reaches {repo.name} so: it has no maintainer yet (--maintainer HOST)")
    plan = _Plan(tx, after, now=now, default_zone=default_zone)
    for kind in MAINTENANCE:
        plan.carry_out(kind, request, moved=maintainer != repo.maintainer_id)
    planned = [str(kind) for kind in schedules_of(tx, after) if repos.needs_login(after, kind)]
    if planned:
        raise InputError(
            f"{', '.join(planned)} of {repo.name} is to run by cron, and its maintainer's login comes with what an "
            f"operator asks for alone (--maintainer-per-job): say {' '.join(f'--{kind} none' for kind in planned)}, or "
            "keep the login here (--maintainer-env-file) or there (--maintainer-env-from), --no-maintainer-per-job"
        )
    if after != repo or plan.said:
        who = "nobody" if maintainer is None else hosts.get(tx, maintainer).name
        said = "".join(f", {each}" for each in plan.said)
        detail = f"repository {repo.name} is looked after by {who}{said}"
        events.record(tx, now=now, actor="operator", what="repo_maintained", detail=detail)
    return Maintained(after, sorted(plan.hosts), notes)


def schedules_of(tx: Connection, repo: RepoRow) -> dict[Kind, ScheduleRow]:
    """Given a repository, return the schedules that look after it, by kind."""
    names = {name_of(repo, kind): kind for kind in MAINTENANCE}
    query = select(schedule_rows).where(
        schedule_rows.c.repo_id == repo.id,
        schedule_rows.c.removed_at.is_(None),
        schedule_rows.c.name.in_(names),
    )
    found = {row.name: row for row in map(schedules.row_of, tx.execute(query).mappings())}
    return {kind: row for name, kind in names.items() if (row := found.get(name)) is not None and row.kind is kind}


def name_of(repo: RepoRow, kind: Kind) -> str:
    """Given a repository and a kind of maintenance, return what its schedule is called."""
    return f"{repo.name}-{kind}"


def hosts_that_back_up(tx: Connection, repo_id: str) -> dict[str, str]:
    """Given a repository, return the names of the hosts that have a backup schedule on it now, by id."""
    query = (
        select(host_rows.c.id, host_rows.c.name)
        .distinct()
        .join(assignments, assignments.c.host_id == host_rows.c.id)
        .join(schedule_rows, schedule_rows.c.id == assignments.c.schedule_id)
        .where(
            schedule_rows.c.repo_id == repo_id,
            schedule_rows.c.kind == Kind.BACKUP.value,
            schedule_rows.c.removed_at.is_(None),
            assignments.c.valid_to.is_(None),
            host_rows.c.removed_at.is_(None),
        )
        .order_by(host_rows.c.name)
    )
    return {row.id: row.name for row in tx.execute(query)}


class _Plan:
    """The schedules of one repository being brought in line with a request."""

    def __init__(self, tx: Connection, repo: RepoRow, *, now: datetime, default_zone: str) -> None:
        self._tx = tx
        self._repo = repo
        self._now = now
        self._zone = default_zone
        self._known = schedules_of(tx, repo)
        self.hosts: set[str] = set()
        self.said: list[str] = []

    def carry_out(self, kind: Kind, request: MaintenanceRequest, *, moved: bool) -> None:
        """Given a kind of maintenance, do what the request says of it. moved: to another maintainer."""
        timing: str | UnsetType | None = getattr(request, kind.value)
        known = self._known.get(kind)
        parts = request.check_parts if kind is Kind.CHECK else UNSET
        if timing is None:
            if not isinstance(parts, UnsetType) and parts is not None:
                raise InputError("a check that is not made reads no parts: leave them out, or say --check CRON")
            if known is not None:
                self.hosts |= set(schedule_changes.remove(self._tx, known, now=self._now))
                self.said.append(f"no {kind} any more")
            return
        spec = None if isinstance(parts, UnsetType) else CheckSpec(rolling=parts)
        if known is None:
            if not isinstance(timing, UnsetType):
                self._add(kind, timing, spec or _SPECS[kind])
            elif spec is not None:
                raise InputError(f"no check of {self._repo.name} is planned that could read parts: say --check CRON")
            return
        change = ScheduleEdit(
            cron=timing,
            spec=UNSET if spec is None or not isinstance(known.spec, CheckSpec) else _with_parts(known.spec, spec),
            hosts=self._targets(kind) if moved or not isinstance(timing, UnsetType) else UNSET,
        )
        changed = schedule_changes.edit(self._tx, known, change, now=self._now, default_zone=self._zone)
        self.hosts |= set(changed.hosts)
        if changed.schedule != known:
            self.said.append(f"{kind} {changed.schedule.cron}")

    def _add(self, kind: Kind, timing: str, spec: Spec) -> None:
        name = name_of(self._repo, kind)
        if id_of_name(self._tx, schedule_rows, name) is not None:
            raise ConflictError(
                f"there is a schedule {name} that does not {kind} {self._repo.name}: give it another name first"
            )
        request = ScheduleRequest(name=name, cron=timing, repo=self._repo.id, spec=spec, hosts=self._targets(kind))
        added = schedule_changes.add(self._tx, request, now=self._now, default_zone=self._zone)
        self.hosts |= set(added.hosts)
        self.said.append(f"{kind} {timing}")

    def _targets(self, kind: Kind) -> tuple[str, ...]:
        if kind is Kind.VERIFY:
            hosts_ = tuple(hosts_that_back_up(self._tx, self._repo.id))
            if not hosts_:
                raise InputError(f"no host backs up to {self._repo.name} yet: there is nothing to verify")
            return hosts_
        if self._repo.maintainer_id is None:
            raise InputError(f"say who is to {kind} {self._repo.name}: it has no maintainer yet (--maintainer HOST)")
        return (self._repo.maintainer_id,)


def _with_parts(known: CheckSpec, wanted: CheckSpec) -> CheckSpec:
    return msgspec.structs.replace(known, read=None, rolling=wanted.rolling)
