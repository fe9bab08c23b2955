"""What operators ask for, as jobs: on which repository, of whose snapshots, on which host, and whether it can be.

Everything is checked before anything is stored. Who is there is an argument; when a job is sent is the dispatcher's.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from msgspec.structs import replace
from sqlalchemy import Connection, select

from restic_manager.domain.errors import ConflictError, InputError, NotFoundError
from restic_manager.domain.model import Actor, Kind, Limits, Spec, kind_of, new_id
from restic_manager.domain.specs import BackupSpec, CopySpec, ForgetSpec, InitSpec
from restic_manager.protocol.api import JobRequest
from restic_manager.protocol.messages import CAP_KINDS
from restic_manager.restic.checks import check_repo_env, check_wish
from restic_manager.server.store import assignments, filling, hosts, inits, job_rows, jobs, relisting, repos, schedules
from restic_manager.server.store import snapshots as snapshot_rows
from restic_manager.server.store.hosts import HostRow
from restic_manager.server.store.job_rows import JobRow
from restic_manager.server.store.repos import RepoRow
from restic_manager.server.store.schema import hosts as host_table
from restic_manager.server.store.schema import snapshots as snapshot_table

_MAINTAINING: Final = frozenset({Kind.FORGET, Kind.PRUNE, Kind.CHECK, Kind.TAG})
"""What the maintainer of an append-only repository does before anybody else."""
_DELETING: Final = frozenset({Kind.FORGET, Kind.PRUNE, Kind.TAG})
"""What nobody but the maintainer can do there."""
_ON_FILES: Final = frozenset({Kind.BACKUP, Kind.RESTORE})
"""What is about a host's own files: which host is not for us to choose."""


def ask(tx: Connection, request: JobRequest, *, online: Container[str], now: datetime) -> JobRow:
    """Given what an operator wants, store the job that does it and return it.

    Raise InputError for what cannot be right, NotFoundError for a name that is none, ConflictError where nobody is
    there to do it, or where it is about to be done.
    """
    repo = repos.resolve(tx, request.repo)
    spec = _checked(tx, request, repo)
    host = _host(tx, request.host, kind_of(spec)) if request.host is not None else None
    host_id = _chosen(tx, spec, repo, online) if host is None else host.id
    return job_rows.insert(
        tx,
        job_id=new_id(),
        spec=spec,
        host_id=host_id,
        repo_id=repo.id,
        actor=Actor.OPERATOR,
        now=now,
        limits=Limits(time_limit=request.time_limit, lock_wait=request.lock_wait),
    )


def check_login(tx: Connection, job: JobRow, login: Mapping[str, str]) -> None:
    """Given a job and the login that came with it, raise InputError unless it is the maintainer's work and can be used.

    Never shows it.
    """
    repo = repos.get(tx, job.repo_id)
    if not repos.is_maintaining(repo, job.host_id, job.kind):
        who = "nobody" if repo.maintainer_id is None else hosts.get(tx, repo.maintainer_id).name
        raise InputError(
            f"a login of its own is for what the maintainer of {repo.name} does ({who}): a {job.kind} by "
            f"{hosts.get(tx, job.host_id).name} is not that. Leave it out, or name the maintainer"
        )
    check_repo_env(login)


def preview_forget(
    tx: Connection, schedule_ref: str, host_ref: str | None, *, online: Container[str], now: datetime
) -> list[JobRow]:
    """Given a schedule (and one of its hosts), store a dry run of its retention for that host, or for each; return
    them. Who is there does it: what would be removed can be told by any host.

    Raise as `ask`, and ConflictError where the schedule keeps everything.
    """
    schedule = schedules.resolve(tx, schedule_ref)
    if schedule.retention is None:
        raise ConflictError(
            f"schedule {schedule.name} keeps everything: give it a retention first (schedule edit --keep-daily 14, say)"
        )
    of = targets(tx, schedule, host_ref)
    able = [host_id for host_id in _able(tx, schedule.repo_id) if host_id in online]
    made: list[JobRow] = []
    for host_id in of:
        policies = filling.policies_of(tx, [(schedule, host_id, hosts.get(tx, host_id).restic_host)], schedule.repo_id)
        doer = host_id if host_id in able or not able else able[0]
        made.append(
            job_rows.insert(
                tx,
                job_id=new_id(),
                spec=ForgetSpec(policies=policies, dry_run=True),
                host_id=doer,
                repo_id=schedule.repo_id,
                actor=Actor.OPERATOR,
                now=now,
            )
        )
    return made


def targets(tx: Connection, schedule: schedules.ScheduleRow, host_ref: str | None) -> list[str]:
    """Given a schedule (and one of its hosts), return the ids of the hosts it runs on now, or of that one.

    Raise InputError for a host that is not one of the schedule's, ConflictError when it has none.
    """
    found = assignments.hosts_of(tx, schedule.id)
    if host_ref is not None:
        host = hosts.resolve(tx, host_ref)
        if host.id not in found:
            raise InputError(f"{host.name} is not a host of schedule {schedule.name}: add it there first")
        found = [host.id]
    if not found:
        raise ConflictError(f"schedule {schedule.name} has no hosts now: there is nothing to run it on")
    return found


def _checked(tx: Connection, request: JobRequest, repo: RepoRow) -> Spec:
    """The spec with ids for names, if it can be done at all."""
    spec = request.spec
    kind = kind_of(spec)
    said: dict[str, str] = {}
    if request.of_host is not None:
        said["restic_host"] = _restic_host(tx, request.of_host)
    if request.of_schedule is not None:
        said["schedule_id"] = _schedule_id(tx, request.of_schedule)
    if unknown := sorted(said.keys() - set(spec.__struct_fields__)):
        whose = " and ".join({"restic_host": "a host's", "schedule_id": "a schedule's"}[name] for name in unknown)
        raise InputError(f"a {kind} cannot be asked for {whose} snapshots only: leave that out")
    if said:
        spec = replace(spec, **said)
    if isinstance(spec, CopySpec):
        source = repos.resolve(tx, spec.from_repo)
        if source.id == repo.id:
            raise InputError(f"{repo.name} cannot be copied onto itself: name another repository to copy from")
        spec = replace(spec, from_repo=source.id)
    if isinstance(spec, InitSpec):
        under_way = inits.unfinished(tx, repo.id)
        if under_way is not None:
            raise ConflictError(
                f"job {under_way} is about to create repository {repo.name} already: two at once would damage it"
            )
        chunker = spec.chunker_from
        spec = inits.spec_for(tx, repo.id) if chunker is None else InitSpec(chunker_from=repos.resolve(tx, chunker).id)
    check_wish(spec)
    if isinstance(spec, BackupSpec) and request.host is None:
        raise InputError("say on which host: a backup is of a host's own files")
    return spec


def _restic_host(tx: Connection, reference: str) -> str:
    """What a host is called in repositories, gone ones too: by its name, its id, or that name itself."""
    try:
        return hosts.resolve(tx, reference).restic_host
    except NotFoundError:
        gone = select(host_table.c.restic_host).where(host_table.c.name == reference)
        found: str | None = tx.execute(gone.order_by(host_table.c.removed_at.desc()).limit(1)).scalar()
        if found is not None:
            return found
        if snapshot_rows.knows_host(tx, reference):
            return reference
        raise


def _schedule_id(tx: Connection, reference: str) -> str:
    return schedules.resolve(tx, reference).id


def _host(tx: Connection, reference: str, kind: Kind) -> HostRow:
    """The host that was named, if its agent can do it, as far as that is known."""
    host = hosts.resolve(tx, reference)
    if kind not in {Kind.BACKUP, Kind.INIT} and host.agent_version is not None and CAP_KINDS not in host.capabilities:
        raise ConflictError(
            f"the agent of {host.name} ({host.agent_version}) is too old for {kind}: update restic-manager there"
        )
    return host


def _chosen(tx: Connection, spec: Spec, repo: RepoRow, online: Container[str]) -> str:
    """The host that is to do it where nobody said which: the first that is there of those that suit best."""
    kind = kind_of(spec)
    if kind in _ON_FILES:
        raise InputError(f"say on which host: a {kind} is about a host's own files")
    if repo.append_only and kind in _DELETING and not getattr(spec, "dry_run", False):
        if repo.maintainer_id is None:
            raise ConflictError(
                f"repository {repo.name} is append-only and has no maintainer, so nobody can {kind} there: name one "
                f"(`restic-manager repo maintenance {repo.name} --maintainer HOST`), or say the host"
            )
        return repo.maintainer_id
    able = _able(tx, repo.id) if kind is not Kind.INIT else jobs.hosts_of_repo(tx, repo.id)
    for host_id in _best_first(tx, spec, repo):
        if host_id in online and (host_id in able or hosts.has_capability(tx, host_id, CAP_KINDS)):
            return host_id
    there = next((host_id for host_id in able if host_id in online), None)
    if there is None:
        if not able:
            raise ConflictError(f"no host uses repository {repo.name} yet: say which host is to do it")
        names = sorted(host.name for host in hosts.all_hosts(tx) if host.id in able)
        raise ConflictError(
            f"of the hosts that use repository {repo.name} none is online ({', '.join(names[:6])}): wait for one, or"
            " say which other host is to do it"
        )
    return there


def _able(tx: Connection, repo_id: str) -> Sequence[str]:
    return relisting.hosts_of(tx, [repo_id]).get(repo_id, [])


def _best_first(tx: Connection, spec: Spec, repo: RepoRow) -> Iterator[str]:
    """Hosts that suit better than any: the maintainer for its own work, else the one whose snapshots it is about."""
    if repo.append_only and kind_of(spec) in _MAINTAINING and repo.maintainer_id is not None:
        yield repo.maintainer_id
    restic_host: str | None = getattr(spec, "restic_host", None)
    snapshot = getattr(spec, "snapshot", None) or next(iter(getattr(spec, "snapshots", ())), None)
    if restic_host is None and isinstance(snapshot, str):
        mine = select(snapshot_table.c.restic_host).where(
            snapshot_table.c.repo_id == repo.id,
            snapshot_table.c.id >= snapshot,
            snapshot_table.c.id < snapshot + "g",
        )
        restic_host = tx.execute(mine.limit(1)).scalar()
    if restic_host is not None:
        owner = select(host_table.c.id).where(
            host_table.c.restic_host == restic_host, host_table.c.removed_at.is_(None)
        )
        yield from tx.execute(owner).scalars()
