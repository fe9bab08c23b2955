"""`repo`: the repositories.

Owns how they are shown and how their secrets are taken; prints none that it was given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from restic_manager.cli.command import Operator, WaitOption, YesOption, new_app, operator_command
from restic_manager.cli.repo_jobs import add_jobs
from restic_manager.cli.repo_secrets import add_secrets
from restic_manager.cli.repo_upkeep import add_upkeep
from restic_manager.cli.secret_options import SecretOptions, secret_fields, variables
from restic_manager.cli.spec_options import value
from restic_manager.cli.text import listing, moment, size, when
from restic_manager.domain.errors import InputError

if TYPE_CHECKING:
    from restic_manager.protocol.api import RepoView

app = new_app("Repositories: add, list, look after, measure, copy. NAME is a repository's name or the start of its id.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]


@operator_command(
    app,
    "add",
    examples="""
      restic-manager repo add main /srv/restic --generate-password
      restic-manager repo add cloud s3:s3.example.com/backups \\
          --password-file main.pass --env-file s3.env
      pass show restic | restic-manager repo add nas rest:http://nas:8000/ \\
          --password-file -
      restic-manager repo add nas rest:https://nas:8000/web --append-only \\
          --password-from agent-file:/etc/restic/pw --user web \\
          --user-password-from agent-file:/etc/restic/nas
    """,
)
def add(
    operator: Operator,
    name: NameArgument,
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="As restic's --repo takes it; a local path is one on the hosts.", show_default=False
        ),
    ],
    *,
    secrets: SecretOptions,
    generate_password: Annotated[
        bool, typer.Option("--generate-password", help="Let the server make a password, and print it once.")
    ] = False,
    append_only: Annotated[
        bool,
        typer.Option("--append-only", help="What its hosts get cannot delete there: a maintainer forgets and prunes."),
    ] = False,
    max_parallel: Annotated[
        str | None, value("--max-parallel", "N", "Let at most so many jobs be on it at once. [default: 4]")
    ] = None,
    chunker_from: Annotated[
        str | None,
        value("--chunker-from", "R", "Create it with this repository's chunker parameters, so that copies share data."),
    ] = None,
) -> None:
    """Tell the server of a repository and what opens it. Nothing is created: the first backup does, or `repo init`.

    A login in the URL is moved to its secrets, and that is told. What comes by reference (--password-from and the like)
    stands on the hosts, and the server never sees it. Without any option for it the password is RESTIC_PASSWORD if that
    is set, else asked for on a terminal; it is kept sealed and never shown again.
    """
    from restic_manager.cli.secret_input import read_password
    from restic_manager.cli.secret_options import fields
    from restic_manager.cli.typed import whole_number
    from restic_manager.protocol.api import DEFAULT_MAX_PARALLEL, RepoRequest

    parallel = DEFAULT_MAX_PARALLEL
    if max_parallel is not None:
        parallel = whole_number(max_parallel, "--max-parallel", least=1, most=1_000)
    given = fields(secrets)
    password = None
    if secrets.password_from is None:
        password = read_password(operator.screen, file=secrets.password_file, generate=generate_password)
    elif secrets.password_file is not None or generate_password:
        raise InputError("--password-from, --password-file and --generate-password: choose one")
    request = RepoRequest(
        name=name,
        url=url,
        password=password,
        append_only=append_only,
        max_parallel=parallel,
        chunker_from=chunker_from,
        **given,
    )
    repo = operator.client.add_repo(request)
    if operator.as_json:
        operator.screen.data(repo)
        return
    if repo.generated_password is None:
        operator.screen.say(f"repository {repo.name} is known")
        _told(operator, repo)
        return
    operator.screen.note(f"repository {repo.name} is known; its password, shown this once:")
    operator.screen.say(repo.generated_password)
    operator.screen.note("keep it elsewhere too: without it nobody can restore, should the server be lost")
    _told(operator, repo)


def _told(operator: Operator, repo: RepoView) -> None:
    """Say what the server has to say of a new repository, and how it can be looked after."""
    from restic_manager.cli.repo_upkeep import offer

    for word in (repo.note, *repo.warnings):
        if word:
            operator.screen.note(f"note: {word}")
    if repo.note:
        operator.screen.note("in the URL everybody here could read them while this ran:")
        operator.screen.note("next time, --user and --user-password-file keep them out")
    operator.screen.note(offer(repo))


@operator_command(app, "list")
def list_repos(operator: Operator) -> None:
    """List all repositories: where each is, and who uses it."""
    repos = operator.client.repos()
    if operator.as_json:
        operator.screen.data(repos)
        return
    now = operator.now()
    operator.screen.table(
        ["NAME", "URL", "SCHEDULES", "HOSTS", "LAST JOB"],
        (
            (
                repo.name,
                repo.url,
                listing(list(repo.schedules), most=4),
                listing(list(repo.hosts), most=4),
                when(repo.last_job_at, now),
            )
            for repo in repos
        ),
        empty="no repositories yet: `restic-manager repo add NAME URL` tells of one",
    )


@operator_command(app, "show")
def show(operator: Operator, name: NameArgument) -> None:
    """Show one repository, without its secrets."""
    repo = operator.client.repo(name)
    if operator.as_json:
        operator.screen.data(repo)
        return
    from restic_manager.cli.repo_upkeep import checked_words, probed_words

    now = operator.now()
    snapshots = ""
    if repo.listed_at is not None:
        stale = ", changed since" if repo.list_stale else ""
        snapshots = f"{repo.snapshots:,}, listed {when(repo.listed_at, now)}{stale}"
    operator.screen.fields(
        [
            ("Name", repo.name),
            ("Id", repo.id),
            ("URL", repo.url),
            *secret_fields(repo),
            ("Append-only", "yes: its hosts cannot delete there" if repo.append_only else ""),
            ("Deleting", probed_words(repo, now)),
            ("At once", f"at most {repo.max_parallel} jobs, and alone what has to be"),
            ("Chunker of", repo.chunker_from or ""),
            ("Added", moment(repo.created_at, now)),
            ("Schedules", _many(repo.schedules)),
            ("Hosts", _many(repo.hosts)),
            ("Last job", moment(repo.last_job_at, now)),
            ("Snapshots", snapshots),
            ("Size", "" if repo.size is None else f"{size(repo.size)}, measured {when(repo.measured_at, now)}"),
            ("Checked", checked_words(repo, now)),
            ("Maintainer", repo.maintainer or ""),
            ("Its URL", repo.maintainer_url or ""),
            ("Its environment", variables(repo.maintainer_env_names, repo.maintainer_env_from)),
            ("Its login", "comes with each job, and is not kept" if repo.maintainer_per_job else ""),
            ("Stale locks", f"{repo.locks_removed} removed so far" if repo.locks_removed else ""),
            ("Warnings", "\n".join(repo.warnings)),
        ]
    )


add_secrets(app)
add_upkeep(app)
add_jobs(app)


@operator_command(app, "init", examples="restic-manager repo init main --host web1 --wait")
def init(
    operator: Operator,
    name: NameArgument,
    *,
    host: Annotated[
        str, typer.Option("--host", metavar="H", help="The host that shall create it.", show_default=False)
    ],
    wait: WaitOption = False,
) -> int | None:
    """Create the repository, by a job on one host.

    Seldom needed: a backup that finds no repository leads to one `init`, alone, and then to another attempt.
    """
    from restic_manager.protocol.api import InitRequest

    job = operator.client.init_repo(name, InitRequest(host=host))
    code = None
    if wait:
        from restic_manager.cli.progress import wait_for

        (job,), code = wait_for(operator, [job])
    if operator.as_json:
        operator.screen.data(job)
        return code
    from restic_manager.cli.progress import ending
    from restic_manager.cli.text import short

    operator.screen.say(ending(job) if wait else f"job {short(job.id)} {ending(job)}")
    return code


@operator_command(app, "remove")
def remove(operator: Operator, name: NameArgument, *, yes: YesOption = False) -> None:
    """Forget a repository and its secrets. What is stored in it stays where it is.

    Asks on a terminal. Refused while a schedule uses it.
    """
    if not yes and operator.screen.may_ask:
        known = operator.client.repo(name)
        if not operator.agrees(f"forget repository {known.name} ({known.url}) and its password?", yes=yes):
            return
        name = known.id
    repo: RepoView = operator.client.remove_repo(name)
    if operator.as_json:
        operator.screen.data(repo)
        return
    operator.screen.say(f"repository {repo.name} is forgotten; its data is still at {repo.url}")


def _many(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"
