"""`server`: run the control plane. Owns its options and one of the two `trio.run`s of the program."""

from __future__ import annotations

from typing import Annotated

import typer

from restic_manager.cli.command import PlainCommand, examples_text, new_app
from restic_manager.cli.running import LogLevelOption, run_until_stopped, start_log

app = new_app("Run the control plane.")


@app.command(
    "server",
    cls=PlainCommand,
    epilog=examples_text(
        """
        restic-manager server
        restic-manager server --data-dir /srv/rm --timezone Europe/Berlin
        """
    ),
)
def server(
    *,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen", metavar="HOST:PORT", help="Where agents dial in. [default: 127.0.0.1:8787]", show_default=False
        ),
    ] = None,
    data_dir: Annotated[
        str | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            help="Where everything is kept, and the operators' socket. Else RESTIC_MANAGER_DATA_DIR, else"
            " /var/lib/restic-manager for root and the user's state folder for others.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            "--config", metavar="FILE", help="Read the rest from this TOML file, table [server].", show_default=False
        ),
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(
            "--timezone",
            metavar="Z",
            help="The zone of schedules that name none. [default: this machine's]",
            show_default=False,
        ),
    ] = None,
    public_url: Annotated[
        str | None,
        typer.Option(
            "--public-url",
            metavar="URL",
            help="What `host invite` tells hosts to dial (ws:// or wss://). [default: where it listens]",
            show_default=False,
        ),
    ] = None,
    log_level: LogLevelOption = None,
) -> int:
    """Run the control plane: it knows hosts, repositories, schedules and jobs, and never touches backup data.

    It runs until SIGTERM or Ctrl-C: the first ends it in order, the second at once. Running backups go on without it.
    """

    def work() -> object:
        import os

        from restic_manager.config import load_server

        loaded = load_server(
            os.environ,
            config=config,
            listen=listen,
            data_dir=data_dir,
            timezone=timezone,
            public_url=public_url,
            log_level=log_level,
        )
        start_log(loaded.log_level)
        # After the options are known to be right: these take longest to import.
        import trio

        from restic_manager.server.app import serve

        return trio.run(serve, loaded)

    return run_until_stopped(work)
