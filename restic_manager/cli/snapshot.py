"""`snapshot`: what there is to restore. Owns listing and showing snapshots, and looking into them.

What changes them is `snapshot_change`, which one is meant `snapshot_pick`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restic_manager.cli.command import Operator, new_app, operator_command
from restic_manager.cli.snapshot_change import add_changes
from restic_manager.cli.spec_options import value
from restic_manager.cli.text import listing, moment, short, size

if TYPE_CHECKING:
    from restic_manager.protocol.api import SnapshotView

app = new_app("What there is to restore. ID is a snapshot's id or the start of it, or `latest` with --host.")

MOST = 100_000
DEFAULT_LIMIT = 50

IdArgument = Annotated[str, typer.Argument(metavar="ID", show_default=False)]
HostOption = Annotated[str | None, value("--host", "H", "Of this host; one that is gone by its name in restic.")]
RepoOption = Annotated[str | None, value("--repo", "R", "In this repository.")]
SinceOption = Annotated[str | None, value("--since", "WHEN", "From then on: 7d or 12h ago, a date (UTC), or RFC 3339.")]
UntilOption = Annotated[str | None, value("--until", "WHEN", "Until then.")]


@operator_command(
    app,
    "list",
    examples="""
      restic-manager snapshot list --host web1 --since 30d
      restic-manager snapshot list --latest
      restic-manager snapshot list --repo main --refresh --limit 1000 --json
    """,
)
def list_snapshots(
    operator: Operator,
    *,
    host: HostOption = None,
    repo: RepoOption = None,
    schedule: Annotated[str | None, value("--schedule", "S", "Of this schedule.")] = None,
    path: Annotated[str | None, value("--path", "P", "That hold this path of the hosts.")] = None,
    tag: Annotated[str | None, value("--tag", "T", "With this tag.")] = None,
    latest: Annotated[
        bool, typer.Option("--latest", help="Only the newest of each repository, host and schedule.")
    ] = False,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[str, typer.Option("--limit", metavar="N", help="At most so many, newest first.")] = str(
        DEFAULT_LIMIT
    ),
    refresh: Annotated[
        bool, typer.Option("--refresh", help="List anew what may have changed; waits for that up to 60 s.")
    ] = False,
) -> None:
    """List snapshots, newest first, as they were when the server last listed their repository.

    How long ago that was is said on standard error. It lists anew by itself soon after every job that changes them.
    """
    from restic_manager.cli.snapshot_pick import paged, say_freshness
    from restic_manager.cli.typed import host_path, since_when, whole_number

    now = operator.now()
    asked: dict[str, Any] = {
        "host": host,
        "repo": repo,
        "schedule": schedule,
        "path": None if path is None else host_path(path, "--path"),
        "tag": tag,
        "since": None if since is None else since_when(since, now, "--since"),
        "until": None if until is None else since_when(until, now, "--until"),
        "latest": latest,
    }
    most = whole_number(limit, "--limit", least=1, most=MOST)
    view = paged(operator, limit=most, refresh=refresh, **asked)
    if operator.as_json:
        operator.screen.data(view.snapshots)
        return
    _table(operator, view.snapshots)
    if view.more:
        operator.screen.note(f"only the newest {len(view.snapshots):,} are shown: --limit N for more")
    say_freshness(operator, view.lists)


@operator_command(app, "show")
def show(operator: Operator, snapshot: IdArgument, *, host: HostOption = None, repo: RepoOption = None) -> None:
    """Show one snapshot: whose it is, what is in it, which job made it."""
    from restic_manager.cli.snapshot_pick import pick

    found = pick(operator, snapshot, host=host, repo=repo)
    if operator.as_json:
        operator.screen.data(found)
    else:
        operator.screen.fields(_page(found, operator.now()))


@operator_command(
    app,
    "ls",
    examples="""
      restic-manager snapshot ls deadbeef /etc
      restic-manager snapshot ls latest --host web1 /srv --recursive
    """,
)
def ls(
    operator: Operator,
    snapshot: IdArgument,
    path: Annotated[
        str | None, typer.Argument(metavar="PATH", help="The folder: absolute. Else the top.", show_default=False)
    ] = None,
    *,
    host: HostOption = None,
    repo: RepoOption = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Everything below the folder, too.")] = False,
) -> int:
    """List one folder of a snapshot, row by row as restic finds them. Times are UTC.

    A byte of a name that is not UTF-8 is shown as \\xHH, a backslash doubled.
    """
    from restic_manager.cli.listing import asked, listed
    from restic_manager.cli.snapshot_pick import pick
    from restic_manager.cli.typed import host_path
    from restic_manager.domain.specs import LsSpec
    from restic_manager.protocol.api import JobRequest

    folder = "/" if path is None else host_path(path, "the folder")
    found = pick(operator, snapshot, host=host, repo=repo, paths=() if path is None else (folder,))
    spec = LsSpec(snapshot=found.id, path=folder, recursive=recursive)
    return listed(operator, asked(operator, JobRequest(spec=spec, repo=found.repo)), empty=f"{folder} is empty")


@operator_command(
    app,
    "find",
    examples="""
      restic-manager snapshot find 'report*.pdf' --host web1
      restic-manager snapshot find /etc/passwd --repo main --since 30d
    """,
)
def find(
    operator: Operator,
    patterns: Annotated[
        list[str],
        typer.Argument(
            metavar="PATTERN", help="A glob on the name, or on the whole path if it has a slash.", show_default=False
        ),
    ],
    *,
    host: HostOption = None,
    repo: RepoOption = None,
    snapshot: Annotated[list[str] | None, value("--snapshot", "ID", "Look in this snapshot alone; repeat.")] = None,
    since: Annotated[
        str | None, value("--since", "WHEN", "Files changed from then on: 7d ago, a date (UTC), RFC 3339.")
    ] = None,
    until: Annotated[str | None, value("--until", "WHEN", "Files changed until then.")] = None,
    ignore_case: Annotated[bool, typer.Option("--ignore-case", "-i", help="A is a, too.")] = False,
) -> int:
    """Find files in snapshots: a row for each file and snapshot, as restic finds them.

    Without --repo it looks in the only repository there is, or that the host uses.
    """
    from restic_manager.cli.listing import asked, listed
    from restic_manager.cli.snapshot_pick import only_repo, pick_all
    from restic_manager.cli.spec_options import SpecOptions
    from restic_manager.cli.spec_request import said, spec_of
    from restic_manager.domain.errors import InputError
    from restic_manager.domain.model import Kind
    from restic_manager.protocol.api import JobRequest

    options = SpecOptions(since=since, until=until, ignore_case=ignore_case)
    found = said(Kind.FIND, options, patterns, scheduled=False, now=operator.now())
    if snapshot:
        if host is not None:
            raise InputError(f"--snapshot and --host {host}: choose one way to say which")
        chosen = pick_all(operator, snapshot)
        found["snapshots"] = tuple(one.id for one in chosen)
        repo = repo or chosen[0].repo
    request = JobRequest(spec=spec_of(Kind.FIND, found), repo=only_repo(operator, repo, host), of_host=host)
    return listed(operator, asked(operator, request), empty="nothing was found")


@operator_command(app, "diff", examples="restic-manager snapshot diff 0123abcd deadbeef")
def diff(
    operator: Operator,
    older: Annotated[str, typer.Argument(metavar="OLDER", show_default=False)],
    newer: Annotated[str, typer.Argument(metavar="NEWER", show_default=False)],
    *,
    metadata: Annotated[bool, typer.Option("--metadata", help="Also where only rights or times differ.")] = False,
) -> int:
    """Say what differs between two snapshots: + new, - gone, M content, T type, U rights or times, ? damaged."""
    from restic_manager.cli.listing import asked, listed
    from restic_manager.cli.snapshot_pick import pick_all
    from restic_manager.domain.errors import InputError
    from restic_manager.domain.specs import DiffSpec
    from restic_manager.protocol.api import JobRequest

    both = pick_all(operator, [older, newer])
    if len(both) != 2:
        raise InputError(f"{older} and {newer} are the same snapshot: there is nothing to compare")
    spec = DiffSpec(old=both[0].id, new=both[1].id, metadata=metadata)
    return listed(operator, asked(operator, JobRequest(spec=spec, repo=both[0].repo)), empty="nothing differs")


add_changes(app)


def _table(operator: Operator, snapshots: tuple[SnapshotView, ...]) -> None:
    from restic_manager.cli.render import Column

    operator.screen.table(
        [
            Column("ID", keep=True),
            Column("TIME (UTC)", keep=True),
            "HOST",
            "REPO",
            "SCHEDULE",
            Column("SIZE", keep=True),
            "PATHS",
        ],
        (
            (
                short(one.id),
                f"{one.time.astimezone(UTC):%Y-%m-%d %H:%M}",
                one.host or one.restic_host,
                one.repo,
                one.schedule or "-",
                "-" if one.size is None else size(one.size),
                listing(list(one.paths), most=3),
            )
            for one in snapshots
        ),
        empty="no such snapshots",
    )


def _page(one: SnapshotView, now: datetime) -> list[tuple[str, str]]:
    from restic_manager.cli.snapshot_pick import of_whom

    return [
        ("Id", one.id),
        ("Time", moment(one.time, now)),
        ("Host", of_whom(one)),
        ("In restic", one.restic_host),
        ("Repository", one.repo),
        ("Schedule", one.schedule or ""),
        ("Job", one.job_id or ""),
        ("Paths", "\n".join(one.paths)),
        ("Tags", "\n".join(one.tags)),
        ("Files", "" if one.files is None else f"{one.files:,}"),
        ("Size", "" if one.size is None else size(one.size)),
        ("New data", "" if one.data_added is None else size(one.data_added)),
        ("User", one.username),
        ("Parent", one.parent or ""),
        ("Original", one.original or ""),
        ("Tree", one.tree or ""),
        ("Made by", one.program or ""),
    ]
