"""`repo edit` and `repo maintenance`: who looks after a repository, and when. Owns their options and what is offered.

What the schedules that this makes do is the server's to decide: they are ordinary ones.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restic_manager.cli.command import Operator, operator_command
from restic_manager.cli.spec_options import switch, value
from restic_manager.cli.text import when
from restic_manager.domain.errors import InputError

if TYPE_CHECKING:
    from restic_manager.protocol.api import MaintenanceRequest, MaintenanceView, RepoView

NameArgument = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]

PRUNE, CHECK, SUBSET, VERIFY = "H H * * 0", "H H * * *", 28, "H H * * 0"
"""What is offered: a prune and a proof of restore a week, a check a day that has read everything in four weeks."""


def add_upkeep(app: typer.Typer) -> None:
    """Given the commands of `repo`, add these."""
    operator_command(app, "edit", examples="restic-manager repo edit main --append-only --max-parallel 8")(edit)
    operator_command(
        app,
        "maintenance",
        examples="""
      restic-manager repo maintenance main
      restic-manager repo maintenance main --maintainer nas1 --prune '0 5 * * 0' \\
          --check 'H H * * *' --check-subset 1/28 --verify '@weekly'
      restic-manager repo maintenance main --maintainer-url /srv/main --prune none
    """,
    )(maintenance)


def edit(
    operator: Operator,
    name: NameArgument,
    *,
    append_only: Annotated[
        bool | None, switch("--append-only/--no-append-only", "Whether what its hosts get cannot delete there.")
    ] = None,
    max_parallel: Annotated[
        str | None, value("--max-parallel", "N", "Let at most so many jobs be on it at once.")
    ] = None,
) -> None:
    """Change how a repository may be used. Its URL and password stay."""
    from restic_manager.cli.typed import whole_number
    from restic_manager.protocol.api import RepoEdit

    changes: dict[str, Any] = {}
    if append_only is not None:
        changes["append_only"] = append_only
    if max_parallel is not None:
        changes["max_parallel"] = whole_number(max_parallel, "--max-parallel", least=1, most=1_000)
    if not changes:
        raise InputError("say what to change: --append-only, --no-append-only or --max-parallel N")
    repo = operator.client.edit_repo(name, RepoEdit(**changes))
    if operator.as_json:
        operator.screen.data(repo)
        return
    kind = "append-only, " if repo.append_only else ""
    operator.screen.say(f"repository {repo.name}: {kind}at most {repo.max_parallel} jobs at once")
    for warning in repo.warnings:
        operator.screen.note(f"warning: {warning}")


def maintenance(
    operator: Operator,
    name: NameArgument,
    *,
    maintainer: Annotated[str | None, value("--maintainer", "H", "The host that looks after it.")] = None,
    maintainer_url: Annotated[
        str | None, value("--maintainer-url", "U", "How that host reaches it, where it may delete; `none`: as all do.")
    ] = None,
    maintainer_env_file: Annotated[
        str | None,
        value("--maintainer-env-file", "F", "Read NAME=VALUE lines for that host alone; - is standard input."),
    ] = None,
    maintainer_env_from: Annotated[
        list[str] | None,
        value("--maintainer-env-from", "NAME=REF", "That host looks it up itself (agent-file:/path); repeat."),
    ] = None,
    per_job: Annotated[
        bool | None,
        switch(
            "--maintainer-per-job/--no-maintainer-per-job",
            "What it needs to delete comes with each `job run --maintainer-env-file`, and is never kept.",
        ),
    ] = None,
    prune: Annotated[str | None, value("--prune", "CRON", "Remove unneeded data then; `none`: never.")] = None,
    check: Annotated[str | None, value("--check", "CRON", "Check then; `none`: never.")] = None,
    check_subset: Annotated[
        str | None, value("--check-subset", "1/T", "Each check reads the next of T parts of the data; `none`: no data.")
    ] = None,
    forget: Annotated[
        str | None, value("--forget", "CRON", "Apply all retention then, beside after each backup; `none`: never.")
    ] = None,
    stats: Annotated[str | None, value("--stats", "CRON", "Measure then; `none`: never.")] = None,
    verify: Annotated[
        str | None, value("--verify", "CRON", "Let every host of it prove a restore then; `none`: never.")
    ] = None,
) -> None:
    """Say who looks after a repository and when, or (without options) show it. What is not named stays.

    Each CRON (or `@every 6h`) makes an ordinary schedule, called NAME-prune and so on, with ordinary history. H stands
    for a value of the host's own.
    """
    given = {
        "maintainer": maintainer,
        "maintainer_url": maintainer_url,
        "prune": prune,
        "check": check,
        "forget": forget,
        "stats": stats,
        "verify": verify,
    }
    more: dict[str, Any] = {}
    if maintainer_env_from is not None:
        from restic_manager.cli.secret_options import references_given

        more["maintainer_env_from"] = references_given(maintainer_env_from, "--maintainer-env-from")
    if per_job is not None:
        more["maintainer_per_job"] = per_job
    request = _request(given, more, env_file=maintainer_env_file, subset=check_subset)
    client = operator.client
    view = client.maintenance(name) if request is None else client.maintain_repo(name, request)
    if operator.as_json:
        operator.screen.data(view)
    else:
        _show(operator, view)


def offer(repo: RepoView) -> str:
    """Given a new repository, return how it can be looked after, as a command to paste and what it does."""
    needs = " --maintainer-url URL" if repo.append_only else ""
    way = "HOST needs a way to it that may delete (URL)\n" if repo.append_only else ""
    does = f"to prune {repo.name} weekly, check it daily (all its data every {SUBSET} days)\n"
    command = (
        f"  restic-manager repo maintenance {repo.name} --maintainer HOST{needs} \\\n"
        f"      --prune '{PRUNE}' --check '{CHECK}' --check-subset 1/{SUBSET}"
    )
    if repo.hosts:
        return f"{does}and prove a restore weekly:\n{way}{command} \\\n      --verify '{VERIFY}'"
    # There is nobody yet whose restore could be proven, and the server refuses to plan that.
    later = f"and once hosts back up to it, prove a restore weekly: --verify '{VERIFY}'"
    return f"{does[:-1]}:\n{way}{command}\n{later}"


def checked_words(repo: RepoView, now: datetime) -> str:
    """Given a repository, return when it was last checked, how that ended, and how far its data has been read."""
    words = "" if repo.checked_at is None else f"{repo.check_status} {when(repo.checked_at, now)}"
    if repo.parts is None:
        return words
    read = f"part {repo.part_read or 0} of {repo.parts} of the data read last"
    return f"{words}, {read}" if words else read


def probed_words(repo: RepoView, now: datetime) -> str:
    """Given a repository, return what the last probe found of its hosts' deleting there."""
    words = {"refused": "refused", "possible": "possible", "unknown": "not known"}.get(repo.deletion or "", "")
    return f"{words} to its hosts, tried {when(repo.probed_at, now)}" if words else ""


def _request(
    given: dict[str, str | None], more: dict[str, Any], *, env_file: str | None, subset: str | None
) -> MaintenanceRequest | None:
    """Return the request, None if nothing was given; raise InputError, naming the option, if it is wrong."""
    from restic_manager.cli.secret_input import read_env_file
    from restic_manager.cli.typed import NONE, part_of
    from restic_manager.protocol.api import MaintenanceRequest

    changes = dict(more)
    for name, text in given.items():
        if text is not None:
            changes[name] = None if text == NONE and name != "maintainer" else text
    if env_file is not None:
        changes["maintainer_env"] = read_env_file(env_file, "--maintainer-env-file")
    if subset is not None and subset != NONE:
        number, of = part_of(subset, "--check-subset")
        if number != 1:
            raise InputError(f"--check-subset {subset}: each check reads the next part; write 1/{of} for that")
        changes["check_parts"] = of
    elif subset is not None:
        changes["check_parts"] = None
    return MaintenanceRequest(**changes) if changes else None


def _show(operator: Operator, view: MaintenanceView) -> None:
    screen, now, repo = operator.screen, operator.now(), view.repo
    screen.say(f"{repo.name}: {f'{repo.maintainer} looks after it' if repo.maintainer else 'no host looks after it'}")
    if repo.maintainer_url:
        screen.say(f"there it is reached at {repo.maintainer_url}")
    if repo.maintainer_per_job:
        screen.say("what it needs to delete comes with each job (`job run --maintainer-env-file F`), and is not kept")
    if checked := checked_words(repo, now):
        screen.say(f"checked: {checked}")
    from restic_manager.cli.render import Column
    from restic_manager.cli.spec_words import doing

    screen.table(
        ["SCHEDULE", Column("WHEN", keep=True), "DOES", Column("NEXT", keep=True)],
        (
            (
                schedule.name,
                schedule.cron,
                doing(schedule.spec, repo.name),
                when(schedule.next[0].utc, now) if schedule.enabled and schedule.next else "-",
            )
            for schedule in view.schedules
        ),
        empty=offer(repo),
    )
    for warning in dict.fromkeys((*view.warnings, *repo.warnings)):
        screen.note(f"warning: {warning}")
