"""`job run` and `job rows`: one job of any kind, now, and what a listing one found. Owns their options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from restic_manager.cli.command import Operator, WaitOption, YesOption, operator_command
from restic_manager.cli.spec_options import SpecOptions, value

if TYPE_CHECKING:
    from restic_manager.domain.results import Row
    from restic_manager.domain.specs import Spec
    from restic_manager.protocol.api import JobRequest, JobView


def add_run(app: typer.Typer) -> None:
    """Given the commands of `job`, add these."""
    operator_command(
        app,
        "run",
        examples="""
      restic-manager job run backup --host web1 --repo main /etc --wait
      restic-manager job run forget --host web1 --repo main
      restic-manager job run check --repo main --read-data-subset 3/12 --wait
      restic-manager job run copy --from main --repo offsite --of-host web1
    """,
    )(run)
    operator_command(app, "rows", examples="restic-manager job rows 3f2a91c0 --json")(rows)


def run(
    operator: Operator,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="backup, forget, prune, check, verify, stats, copy, unlock, restore, tag, ls, find, diff, snapshots,"
            " locks, dump, probe or init.",
            show_default=False,
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH", help="Paths on the host; of find patterns, of diff two snapshots.", show_default=False
        ),
    ] = None,
    *,
    host: Annotated[
        str | None, value("--host", "H", "Where; else the server chooses one that is online and uses the repository.")
    ] = None,
    repo: Annotated[str, value("--repo", "R", "The repository.")],
    content: SpecOptions,
    time_limit: Annotated[str | None, value("--time-limit", "D", "Stop it when it takes longer (90m, 6h).")] = None,
    lock_wait: Annotated[
        str | None,
        value("--lock-wait", "D", "Wait so long for a lock that somebody else holds; else 30s to 5m, as the kind is."),
    ] = None,
    maintainer_env_file: Annotated[
        str | None,
        value(
            "--maintainer-env-file",
            "F",
            "Read NAME=VALUE lines that the repository's maintainer needs for this job alone; kept in memory only.",
        ),
    ] = None,
    wait: WaitOption = False,
    yes: YesOption = False,
) -> int | None:
    """Do one thing on a repository, now, beside all schedules. An option that the kind does not have is refused.

    Without --snapshot, what is about one snapshot is about the newest. `forget` without --snapshot applies the
    retention of every schedule of the host there. Removing named snapshots, live locks, or restoring in place asks on a
    terminal.
    """
    import msgspec

    from restic_manager.cli.listing import asked
    from restic_manager.cli.secret_input import read_env_file
    from restic_manager.cli.text import short

    request = _request(operator, kind, words or (), content, host=host, repo=repo, limits=(time_limit, lock_wait))
    if maintainer_env_file is not None:
        login = read_env_file(maintainer_env_file, "--maintainer-env-file")
        request = msgspec.structs.replace(request, maintainer_env=login)
    must_be_meant(operator, request.spec, yes=yes)
    question = _question(request.spec, request.repo)
    if question and not operator.agrees(question, yes=yes):
        return None
    job = asked(operator, request)
    code = None
    if wait:
        job, code = _waited(operator, job)
    if operator.as_json:
        operator.screen.data(job)
        return code
    from restic_manager.cli.progress import ending

    operator.screen.say(ending(job) if wait else f"job {short(job.id)} {ending(job)}")
    return code


def rows(operator: Operator, job_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)]) -> int:
    """Print what a listing job found, row by row: ls, find, diff, snapshots, locks, a forget's fates.

    Stays until the job has ended. The server keeps rows for about an hour after that.
    """
    from restic_manager.cli.listing import listed

    return listed(operator, operator.client.job(job_id), empty="it has no rows (they are kept for about an hour)")


def _request(
    operator: Operator,
    kind: str,
    words: list[str] | tuple[str, ...],
    content: SpecOptions,
    *,
    host: str | None,
    repo: str,
    limits: tuple[str | None, str | None],
) -> JobRequest:
    """Return what to ask for; raise InputError, naming the option, if it cannot be."""
    from restic_manager.cli.spec_request import kind_named, said, spec_of
    from restic_manager.cli.typed import seconds
    from restic_manager.protocol.api import JobRequest

    chosen = kind_named(kind, scheduled=False)
    time_limit, lock_wait = limits
    found = said(chosen, content, words, scheduled=False, now=operator.now())
    bounds = {
        "time_limit": None if time_limit is None else seconds(time_limit, "--time-limit"),
        "lock_wait": None if lock_wait is None else seconds(lock_wait, "--lock-wait"),
    }
    if content.from_repo is not None:
        found["from_repo"] = content.from_repo
    if content.chunker_from is not None:
        found["chunker_from"] = operator.client.repo(content.chunker_from).id
    return JobRequest(
        spec=spec_of(chosen, found),
        repo=repo,
        host=host,
        of_host=content.of_host,
        of_schedule=content.of_schedule,
        time_limit=bounds["time_limit"],
        lock_wait=bounds["lock_wait"],
    )


def must_be_meant(operator: Operator, spec: Spec, *, yes: bool) -> None:
    """Given a spec, raise InputError where it may destroy what is in use and nobody can be asked nor has said --yes."""
    from restic_manager.domain.errors import InputError
    from restic_manager.domain.specs import RestoreSpec, UnlockSpec

    if yes or operator.screen.may_ask:
        return
    match spec:
        case RestoreSpec(in_place=True, dry_run=False):
            what = "--in-place writes over what is there"
        case UnlockSpec(remove_all=True):
            what = "--remove-all removes live locks, too"
        case _:
            return
    raise InputError(f"{what}, and nobody can be asked here: say --yes if it is meant")


def meant_again(operator: Operator, spec: Spec, repo: str, *, yes: bool) -> bool:
    """Given what a schedule is to do, return whether it is meant; raise InputError where nobody can be asked that."""
    from restic_manager.cli.spec_words import doing
    from restic_manager.domain.specs import RestoreSpec

    must_be_meant(operator, spec, yes=yes)
    if not isinstance(spec, RestoreSpec) or not spec.in_place:
        return True
    return operator.agrees(f"{doing(spec, repo)}, over what is there, each time: is that meant?", yes=yes)


def _question(spec: Spec, repo: str) -> str:
    """Return what a person is asked before this is done; nothing for what takes nothing away."""
    from restic_manager.cli.spec_words import doing
    from restic_manager.domain.specs import ForgetSpec, RestoreSpec, UnlockSpec

    match spec:
        case ForgetSpec(dry_run=False) if spec.snapshots:
            return f"{doing(spec, repo)}: go on?"
        case UnlockSpec(remove_all=True):
            return f"remove live locks from {repo}, too, which breaks what holds them?"
        case RestoreSpec(in_place=True, dry_run=False):
            return f"{doing(spec, repo)}, over what is there: go on?"
        case _:
            return ""


def _waited(operator: Operator, job: JobView) -> tuple[JobView, int]:
    """Wait for a job, its rows shown as they come where it lists something; return it and the exit code."""
    from restic_manager.cli import exits
    from restic_manager.domain.model import Kind

    if operator.as_json or job.kind not in {Kind.LS, Kind.FIND, Kind.DIFF, Kind.SNAPSHOTS, Kind.LOCKS}:
        from restic_manager.cli.progress import wait_for

        (job,), code = wait_for(operator, [job])
        return job, code
    from restic_manager.cli.listing import drained
    from restic_manager.cli.row_words import row_line

    def show(found: tuple[Row, ...]) -> None:
        for row in found:
            operator.screen.row(row_line(row))

    job = drained(operator, job, show)
    return job, exits.of_job(job)
