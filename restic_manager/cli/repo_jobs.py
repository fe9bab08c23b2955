"""`repo locks`, `unlock`, `probe`, `stats` and `copy`: what is done to a whole repository by a job.

Owns their options.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Annotated

import typer

from restic_manager.cli.command import Operator, WaitOption, YesOption, operator_command
from restic_manager.cli.spec_options import WhichOptions, value

if TYPE_CHECKING:
    from restic_manager.protocol.api import JobView, SizeView

NameArgument = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
HostOption = Annotated[str | None, value("--host", "H", "Ask on this host; else the server chooses.")]


def add_jobs(app: typer.Typer) -> None:
    """Given the commands of `repo`, add these."""
    operator_command(app, "locks", examples="restic-manager repo locks main")(locks)
    operator_command(app, "unlock", examples="restic-manager repo unlock main")(unlock)
    operator_command(app, "probe", examples="restic-manager repo probe nas --host web1")(probe)
    operator_command(
        app,
        "stats",
        examples="""
      restic-manager repo stats main
      restic-manager repo stats main --refresh --wait
    """,
    )(stats)
    operator_command(
        app,
        "copy",
        examples="""
      restic-manager repo copy main offsite --host nas1 --of-host web1 --wait
    """,
    )(copy)


def locks(operator: Operator, name: NameArgument, *, host: HostOption = None) -> int:
    """List the locks there are on a repository now, whoever's they are. Takes none and removes none."""
    from restic_manager.cli.listing import asked, collected
    from restic_manager.cli.text import short, when
    from restic_manager.domain.results import LockRow
    from restic_manager.domain.specs import LocksSpec
    from restic_manager.protocol.api import JobRequest

    job = asked(operator, JobRequest(spec=LocksSpec(), repo=name, host=host))
    found, _, code = collected(operator, job, LockRow)
    if operator.as_json:
        if code == 0:
            operator.screen.data([row.lock for row in found])
        return code
    now = operator.now()
    if code == 0:
        operator.screen.table(
            ["ID", "MACHINE", "PID", "USER", "TAKEN", "KIND"],
            (
                (
                    short(row.lock.id),
                    row.lock.hostname,
                    str(row.lock.pid),
                    row.lock.username,
                    when(row.lock.time, now),
                    "exclusive" if row.lock.exclusive else "shared",
                )
                for row in found
            ),
            empty=f"there is no lock on {name}",
        )
    return code


def unlock(
    operator: Operator,
    name: NameArgument,
    *,
    host: HostOption = None,
    remove_all: Annotated[
        bool, typer.Option("--remove-all", help="Live locks too, which breaks what holds them. Asks on a terminal.")
    ] = False,
    yes: YesOption = False,
) -> int | None:
    """Remove stale locks: older than 30 minutes, or of a process of that host that is gone.

    A lock that a host of ours left behind is removed by the server itself; see `repo locks`.
    """
    from restic_manager.cli.job_run import must_be_meant
    from restic_manager.domain.specs import UnlockSpec

    spec = UnlockSpec(remove_all=remove_all)
    must_be_meant(operator, spec, yes=yes)
    question = f"remove all locks from {name}, live ones too? It breaks what runs there, also of other programs"
    if remove_all and not operator.agrees(question, yes=yes):
        return None
    from restic_manager.cli.listing import asked
    from restic_manager.cli.progress import wait_for
    from restic_manager.protocol.api import JobRequest

    job = asked(operator, JobRequest(spec=spec, repo=name, host=host))
    (job,), code = wait_for(operator, [job])
    _say(operator, job, waited=True)
    return code


def probe(operator: Operator, name: NameArgument, *, host: HostOption = None) -> int | None:
    """Find out whether hosts could delete in a repository: append-only is worth what the storage refuses.

    A host makes a snapshot of one small file for it and tries to forget it again, with the login that every host has.
    Nothing else is touched. Where that is refused, as it should be, the small snapshot stays and is used again.
    """
    from restic_manager.cli.listing import asked
    from restic_manager.cli.progress import ending, wait_for
    from restic_manager.domain.results import ProbeStats
    from restic_manager.domain.specs import ProbeSpec
    from restic_manager.protocol.api import JobRequest

    job = asked(operator, JobRequest(spec=ProbeSpec(), repo=name, host=host))
    (job,), code = wait_for(operator, [job])
    if operator.as_json:
        operator.screen.data(job)
        return code
    found = job.result.deletion if isinstance(job.result, ProbeStats) else "unknown"
    said = {
        "refused": f"{name}: {job.host} cannot delete there, its storage refuses",
        "possible": f"{name}: {job.host} CAN delete there: who has that host has the backups",
        "unknown": f"{name}: not known: {ending(job)}",
    }
    operator.screen.say(said[found])
    return code


def stats(
    operator: Operator,
    name: NameArgument,
    *,
    refresh: Annotated[bool, typer.Option("--refresh", help="Measure it now, by a job.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Measure it now, and wait for that.")] = False,
    host: HostOption = None,
) -> int | None:
    """Show how large a repository was each time it was measured, and how it grew.

    `repo maintenance NAME --stats CRON` measures it again and again.
    """
    code = None
    if refresh or wait:
        from restic_manager.cli.listing import asked
        from restic_manager.cli.progress import ending, wait_for
        from restic_manager.cli.text import short
        from restic_manager.domain.specs import StatsSpec
        from restic_manager.protocol.api import JobRequest

        job = asked(operator, JobRequest(spec=StatsSpec(), repo=name, host=host))
        if wait:
            (job,), code = wait_for(operator, [job])
        operator.screen.note(ending(job) if wait else f"job {short(job.id)} {ending(job)}")
    sizes = sorted(operator.client.sizes(name), key=lambda one: one.at)
    if operator.as_json:
        operator.screen.data(sizes)
    else:
        _growth(operator, sizes, name)
    return code


def copy(
    operator: Operator,
    source: Annotated[str, typer.Argument(metavar="FROM", show_default=False)],
    target: Annotated[str, typer.Argument(metavar="TO", show_default=False)],
    *,
    host: Annotated[str, value("--host", "H", "The host that copies: it reaches both.")],
    which: WhichOptions,
    wait: WaitOption = False,
) -> int | None:
    """Copy snapshots from one repository to another: all that are not there yet, or those named.

    What both hold is not sent again if the second was created with the first one's chunker parameters (`repo add
    --chunker-from`). By a schedule: `schedule add NAME --kind copy --from FROM --repo TO …`.
    """
    from restic_manager.cli.listing import asked
    from restic_manager.cli.progress import wait_for
    from restic_manager.cli.spec_rules import snapshot_id
    from restic_manager.domain.errors import InputError
    from restic_manager.domain.specs import CopySpec
    from restic_manager.protocol.api import JobRequest

    if source == target:
        raise InputError(f"{source} cannot be copied onto itself: name another repository to copy to")
    snapshots = tuple(snapshot_id(text, "--snapshot") for text in which.snapshot or ())
    if snapshots and (which.of_host or which.of_schedule):
        raise InputError("--snapshot, or --of-host and --of-schedule: choose one way to say which")
    request = JobRequest(
        spec=CopySpec(from_repo=source, snapshots=snapshots),
        repo=target,
        host=host,
        of_host=which.of_host,
        of_schedule=which.of_schedule,
    )
    job = asked(operator, request)
    code = None
    if wait:
        (job,), code = wait_for(operator, [job])
    _say(operator, job, waited=wait)
    return code


def _say(operator: Operator, job: JobView, *, waited: bool) -> None:
    from restic_manager.cli.progress import ending
    from restic_manager.cli.text import short

    if operator.as_json:
        operator.screen.data(job)
    else:
        operator.screen.say(ending(job) if waited else f"job {short(job.id)} {ending(job)}")


def _growth(operator: Operator, sizes: Sequence[SizeView], name: str) -> None:
    from restic_manager.cli.render import Column
    from restic_manager.cli.text import size

    rows = []
    before: SizeView | None = None
    for one in sizes:
        rows.append(
            (
                f"{one.at.astimezone(UTC):%Y-%m-%d %H:%M}",
                size(one.size),
                "" if before is None else _signed(one.size - before.size),
                "-" if one.uncompressed is None else size(one.uncompressed),
                f"{one.snapshots:,}",
            )
        )
        before = one
    operator.screen.table(
        [
            Column("MEASURED (UTC)", keep=True),
            Column("SIZE", right=True, keep=True),
            Column("GROWTH", right=True, keep=True),
            Column("UNCOMPRESSED", right=True, keep=True),
            Column("SNAPSHOTS", right=True, keep=True),
        ],
        rows,
        empty=f"{name} was never measured: `restic-manager repo stats {name} --wait` does",
    )


def _signed(count: int) -> str:
    from restic_manager.cli.text import size

    return f"{'-' if count < 0 else '+'}{size(abs(count))}"
