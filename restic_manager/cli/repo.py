"""`repo`: the repositories.

Owns how they are shown and how their secrets are taken; prints none that it was given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from restic_manager.cli.command import Operator, WaitOption, YesOption, new_app, operator_command
from restic_manager.cli.text import listing, moment, when
from restic_manager.domain.errors import InputError

if TYPE_CHECKING:
    from restic_manager.protocol.api import RepoView

app = new_app("Repositories: add, list, create, remove. NAME is a repository's name or the start of its id.")

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
    password_file: Annotated[
        str | None,
        typer.Option(
            "--password-file", metavar="F", help="Read the password from this file here; - is standard input."
        ),
    ] = None,
    generate_password: Annotated[
        bool, typer.Option("--generate-password", help="Let the server make a password, and print it once.")
    ] = False,
    env_file: Annotated[
        str | None,
        typer.Option(
            "--env-file",
            metavar="F",
            help="Read NAME=VALUE lines that restic needs (AWS_ACCESS_KEY_ID…); - is standard input.",
        ),
    ] = None,
) -> None:
    """Tell the server of a repository and what opens it. Nothing is created: the first backup does, or `repo init`.

    Without --password-file and --generate-password the password is RESTIC_PASSWORD if that is set, else asked for on a
    terminal. It is kept sealed and never shown again.
    """
    from restic_manager.cli.secret_input import STDIN, read_env_file, read_password
    from restic_manager.protocol.api import RepoRequest

    if password_file == STDIN and env_file == STDIN:
        raise InputError("--password-file - and --env-file -: only one of them can be standard input")
    env = read_env_file(env_file)
    password = read_password(operator.screen, file=password_file, generate=generate_password)
    repo = operator.client.add_repo(RepoRequest(name=name, url=url, password=password, env=env))
    if operator.as_json:
        operator.screen.data(repo)
        return
    if repo.generated_password is None:
        operator.screen.say(f"repository {repo.name} is known")
        return
    operator.screen.note(f"repository {repo.name} is known; its password, shown this once:")
    operator.screen.say(repo.generated_password)
    operator.screen.note("keep it elsewhere too: without it nobody can restore, should the server be lost")


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
    now = operator.now()
    operator.screen.fields(
        [
            ("Name", repo.name),
            ("Id", repo.id),
            ("URL", repo.url),
            ("Environment", "\n".join(f"{variable}=(sealed)" for variable in repo.env_names)),
            ("Added", moment(repo.created_at, now)),
            ("Schedules", _many(repo.schedules)),
            ("Hosts", _many(repo.hosts)),
            ("Last job", moment(repo.last_job_at, now)),
        ]
    )


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
