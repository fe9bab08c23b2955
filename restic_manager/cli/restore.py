"""`restore`: bring files back, onto any host. Owns the command; what is shown and asked before is `restore_preview`."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Annotated

import typer

from restic_manager.cli.command import Operator, WaitOption, YesOption, new_app, operator_command
from restic_manager.cli.spec_options import RestoreOptions, value

if TYPE_CHECKING:
    from restic_manager.domain.specs import RestoreSpec
    from restic_manager.protocol.api import SnapshotView

app = new_app("Bring files back, onto any host.")


@operator_command(
    app,
    "restore",
    examples="""
      restic-manager restore latest --host web1 --path /etc --to /tmp/back
      restic-manager restore latest --host web1 --at '2026-11-20 18:00' \\
          --to /srv/back --on-host web2 --wait
      restic-manager restore deadbeef --in-place --path /srv/www --wait
      restic-manager restore latest --host db1 --path /etc/fstab --stdout
    """,
)
def restore(
    operator: Operator,
    snapshot: Annotated[
        str,
        typer.Argument(
            metavar="SNAPSHOT",
            help="The id of one (or the start of it), or `latest` of --host: its newest that is of --path.",
            show_default=False,
        ),
    ],
    *,
    host: Annotated[
        str | None, value("--host", "H", "Whose snapshot; a host that is gone by its name in restic.")
    ] = None,
    repo: Annotated[str | None, value("--repo", "R", "From this repository; else from whichever has it.")] = None,
    at: Annotated[
        str | None, value("--at", "TIME", "With `latest`: as it was then ('2026-11-20 18:00' here, or RFC 3339).")
    ] = None,
    path: Annotated[
        list[str] | None, value("--path", "P", "Only this file or folder and what is below it; repeat. Else all.")
    ] = None,
    on_host: Annotated[
        str | None, value("--on-host", "OTHER", "Onto this host. Else onto the one it is a snapshot of.")
    ] = None,
    choices: RestoreOptions,
    stdout: Annotated[
        bool,
        typer.Option("--stdout", help="Write the one file that --path names to standard output, and nothing else."),
    ] = False,
    max_size: Annotated[
        str | None, value("--max-size", "SIZE", "With --stdout: refuse a longer file. [default: 64M]")
    ] = None,
    wait: WaitOption = False,
    yes: YesOption = False,
) -> int | None:
    """Restore a snapshot, or parts of it: into a folder of a host (--to), or over what is there (--in-place).

    On a terminal it shows first what would come back and what happens to what is there (with restic 0.17 or newer on
    the host by a dry run), and asks; in place it asks for the host's name. Without a terminal --in-place needs --yes. A
    folder has to be empty or absent unless --overwrite says what is to happen.
    """
    from restic_manager.cli.snapshot_pick import at_instant, pick
    from restic_manager.domain.errors import InputError

    instant = None if at is None else at_instant(at)
    if stdout:
        _check_alone(choices, path or [], as_json=operator.as_json)
        if operator.screen.shows and not yes:
            raise InputError(
                "--stdout would write the file to this terminal, which may obey what is in it: send it to a file or a"
                " pipe (> FILE), or say --yes"
            )
        spec_of_file = _file(path or [], max_size)
        found = pick(operator, snapshot, host=host, repo=repo, at=instant, paths=spec_of_file[:1])
        return _to_stdout(operator, found, spec_of_file, on_host)
    if max_size is not None:
        raise InputError(f"--max-size {max_size} is for --stdout: leave it out, or add that")
    spec = _spec(operator, choices, path or [])
    from restic_manager.cli.job_run import must_be_meant

    must_be_meant(operator, spec, yes=yes)
    found = pick(operator, snapshot, host=host, repo=repo, at=instant, paths=spec.paths)
    return _restore(operator, found, spec, on_host=on_host, wait=wait, yes=yes)


def _restore(
    operator: Operator, snapshot: SnapshotView, spec: RestoreSpec, *, on_host: str | None, wait: bool, yes: bool
) -> int | None:
    from msgspec.structs import replace

    from restic_manager.cli.listing import asked
    from restic_manager.cli.progress import ending, wait_for
    from restic_manager.cli.restore_preview import agreed, onto
    from restic_manager.cli.text import short
    from restic_manager.protocol.api import JobRequest

    target = onto(operator, snapshot, on_host)
    request = JobRequest(spec=replace(spec, snapshot=snapshot.id), repo=snapshot.repo, host=target)
    if operator.screen.may_ask and not yes:
        code = agreed(operator, snapshot, request)
        if code is not None:
            return code
    job = asked(operator, request)
    result = None
    if wait:
        (job,), result = wait_for(operator, [job])
    if operator.as_json:
        operator.screen.data(job)
    else:
        operator.screen.say(ending(job) if wait else f"job {short(job.id)} {ending(job)}")
    return result


def _spec(operator: Operator, choices: RestoreOptions, paths: list[str]) -> RestoreSpec:
    """Return what is to be restored, still without its snapshot; raise InputError, naming the option, if it cannot."""
    from restic_manager.cli.spec_options import SpecOptions
    from restic_manager.cli.spec_request import said, spec_of
    from restic_manager.domain.model import Kind
    from restic_manager.domain.specs import RestoreSpec

    typed = SpecOptions(**{field.name: getattr(choices, field.name) for field in fields(choices)})
    spec = spec_of(Kind.RESTORE, said(Kind.RESTORE, typed, paths, scheduled=False, now=operator.now()))
    if not isinstance(spec, RestoreSpec):
        raise TypeError("a restore's options make a restore")
    return spec


def _check_alone(choices: RestoreOptions, paths: list[str], *, as_json: bool) -> None:
    """Raise InputError, naming it, for what says nothing beside --stdout, and unless exactly one path is given."""
    from restic_manager.domain.errors import InputError

    given = [f"--{field.name.replace('_', '-')}" for field in fields(choices) if getattr(choices, field.name)]
    if given or as_json:
        other = given[0] if given else "--json"
        raise InputError(f"--stdout and {other}: --stdout writes one file's bytes and nothing else; leave one out")
    if len(paths) != 1:
        raise InputError(f"--stdout writes one file: say which by one --path, not {len(paths)}")


def _file(paths: list[str], max_size: str | None) -> tuple[str, int | None]:
    from restic_manager.cli.typed import byte_count, host_path

    return host_path(paths[0], "--path"), None if max_size is None else byte_count(max_size, "--max-size")


def _to_stdout(operator: Operator, snapshot: SnapshotView, file: tuple[str, int | None], on_host: str | None) -> int:
    from restic_manager.cli.listing import asked, written
    from restic_manager.domain.specs import DumpSpec
    from restic_manager.protocol.api import JobRequest

    path, limit = file
    spec = DumpSpec(snapshot=snapshot.id, path=path)
    if limit is not None:
        spec = DumpSpec(snapshot=snapshot.id, path=path, limit=limit)
    return written(operator, asked(operator, JobRequest(spec=spec, repo=snapshot.repo, host=on_host)))
