"""`agent`: run on a host; and what that host allows: `agent policy`.

Owns the options and one of the two `trio.run`s of the program.
"""

from __future__ import annotations

from typing import Annotated

import typer

from restic_manager.cli import policy as policy_commands
from restic_manager.cli.command import examples_text, new_app
from restic_manager.cli.running import LogLevelOption, run_until_stopped, start_log
from restic_manager.domain.errors import InputError

app = new_app(
    "Run on a host: keep its schedules, run its backups, report to the server, also after the server was away.\n\n"
    "It runs until SIGTERM or Ctrl-C: the first lets what runs come to its end in order, the second stops it."
)

app.add_typer(policy_commands.app, name="policy")


@app.callback(
    invoke_without_command=True,
    epilog=examples_text(
        """
        restic-manager agent --server ws://127.0.0.1:8787 --token T  the first time
        restic-manager agent --server ws://127.0.0.1:8787            from then on
        restic-manager agent --server wss://backup.example.org       announce, wait
        restic-manager agent policy show      what the server may do here
        """
    ),
)
def agent(
    context: typer.Context,
    *,
    server: Annotated[
        str | None,
        typer.Option(
            "--server", metavar="URL", help="The server to dial: ws://HOST:PORT or wss://HOST.", show_default=False
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="T",
            help="What `host invite` printed; needed once, works once. Else RESTIC_MANAGER_TOKEN. Without one a new"
            " machine announces itself, and waits for `host approve`.",
            show_default=False,
        ),
    ] = None,
    token_file: Annotated[
        str | None, typer.Option("--token-file", metavar="F", help="Read the token from this file.", show_default=False)
    ] = None,
    pin: Annotated[
        str | None,
        typer.Option(
            "--pin",
            metavar="PIN",
            help="Without a token: the pin of the server's certificate, as `server cert show` tells it there.",
            show_default=False,
        ),
    ] = None,
    data_dir: Annotated[
        str | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            help="Where the credential and the journal are kept. Else RESTIC_MANAGER_DATA_DIR, else"
            " /var/lib/restic-manager for root and the user's state folder for others.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            "--config", metavar="FILE", help="Read the rest from this TOML file, table [agent].", show_default=False
        ),
    ] = None,
    restic: Annotated[
        str | None,
        typer.Option(
            "--restic", metavar="PATH", help="The restic to run. [default: the one on PATH]", show_default=False
        ),
    ] = None,
    policy: policy_commands.PolicyOption = None,
    allow: Annotated[
        str | None,
        typer.Option(
            "--allow",
            metavar="KINDS",
            help="When joining: let the server run these kinds of job here too, such as forget,prune. This is written"
            " into the host's policy.",
            show_default=False,
        ),
    ] = None,
    reconnect_max: Annotated[
        str | None,
        typer.Option(
            "--reconnect-max", metavar="D", help="Longest pause between two dials. [default: 60s]", show_default=False
        ),
    ] = None,
    catch_up_delay: Annotated[
        str | None,
        typer.Option(
            "--catch-up-delay",
            metavar="D",
            help="How long missed slots wait after the start for the network; 0s for not at all. [default: 30s]",
            show_default=False,
        ),
    ] = None,
    offline_grace: Annotated[
        str | None,
        typer.Option(
            "--offline-grace",
            metavar="D",
            help="How long a due slot waits for the server before it runs without it. [default: 60s]",
            show_default=False,
        ),
    ] = None,
    offline_lease: Annotated[
        str | None,
        typer.Option(
            "--offline-lease",
            metavar="D",
            help="How long slots run without the server since it was last heard. [default: 30d]",
            show_default=False,
        ),
    ] = None,
    no_offline: Annotated[
        bool,
        typer.Option("--no-offline", help="Keep no repository passwords here, and always wait for the server."),
    ] = False,
    reset_journal: Annotated[
        bool,
        typer.Option(
            "--reset-journal",
            help="If the journal is damaged, move it aside and begin a fresh one. A whole one is left as it is.",
        ),
    ] = False,
    log_level: LogLevelOption = None,
) -> int:
    """Run on a host, unless a verb follows. The help is the group's."""
    if context.invoked_subcommand is not None:
        given = (server, token, token_file, data_dir, config, restic, policy, allow, reconnect_max, catch_up_delay)
        if no_offline or reset_journal or any(v is not None for v in (*given, offline_grace, offline_lease, log_level)):
            raise InputError("options stand behind the verb, as in `restic-manager agent policy show --data-dir DIR`")
        return 0

    def work() -> object:
        import dataclasses
        import os

        from restic_manager.config import load_agent

        loaded = load_agent(
            os.environ,
            config=config,
            server=server,
            token=token,
            token_file=token_file,
            pin=pin,
            data_dir=data_dir,
            restic=restic,
            policy=policy,
            allow=allow,
            reconnect_max=reconnect_max,
            catch_up_delay=catch_up_delay,
            offline="no" if no_offline else None,
            offline_grace=offline_grace,
            offline_lease=offline_lease,
            log_level=log_level,
        )
        loaded = dataclasses.replace(loaded, reset_journal=reset_journal)
        redactor = start_log(loaded.log_level, None if loaded.token is None else loaded.token.text)
        # After the options are known to be right: these take longest to import.
        import trio

        from restic_manager.agent.app import run_agent

        return trio.run(run_agent, loaded, redactor)

    return run_until_stopped(work)
