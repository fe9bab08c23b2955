"""`server`: run the control plane; and its own copy: `server backup`, `server restore`.

Owns their options and one of the two `trio.run`s of the program. Copies are made and put in place by `server.backup`
and `server.restore`, here on this machine: no server is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from restic_manager.cli import cert, server_secrets
from restic_manager.cli.command import Operator, examples_text, new_app, operator_command
from restic_manager.cli.running import LogLevelOption, run_until_stopped, start_log
from restic_manager.domain.errors import InputError

if TYPE_CHECKING:
    from restic_manager.config import ServerConfig

app = new_app(
    "Run the control plane: it knows hosts, repositories, schedules and jobs, and never touches backup data.\n\n"
    "It runs until SIGTERM or Ctrl-C: the first ends it in order, the second at once. Running backups go on without it."
)

app.add_typer(cert.app, name="cert")
app.add_typer(server_secrets.app, name="secrets")

WhereOption = Annotated[
    str | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="The server's data directory. Else RESTIC_MANAGER_DATA_DIR, else the config file's, else"
        " /var/lib/restic-manager for root and the user's state folder for others.",
        show_default=False,
    ),
]


@app.callback(
    invoke_without_command=True,
    epilog=examples_text(
        """
        restic-manager server
        restic-manager server --data-dir /srv/rm --timezone Europe/Berlin
        restic-manager server backup /mnt/usb/manager.tar
        """
    ),
)
def server(
    context: typer.Context,
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
    tls: Annotated[
        str | None,
        typer.Option(
            "--tls",
            metavar="MODE",
            help="TLS for agents: auto (by a certificate of the server's own, whose pin is in the join token) or off."
            " [default: off on loopback, else auto]",
            show_default=False,
        ),
    ] = None,
    tls_cert: Annotated[
        str | None,
        typer.Option(
            "--tls-cert",
            metavar="F",
            help="TLS by this certificate and its chain, PEM; hosts trust it by their system's CAs.",
            show_default=False,
        ),
    ] = None,
    tls_key: Annotated[
        str | None, typer.Option("--tls-key", metavar="F", help="The key of --tls-cert, PEM.", show_default=False)
    ] = None,
    behind_proxy: Annotated[
        bool,
        typer.Option(
            "--behind-proxy",
            help="A proxy speaks TLS with the hosts: --tls off is fine anywhere, and join tokens have no pin.",
        ),
    ] = False,
    api_listen: Annotated[
        str | None,
        typer.Option(
            "--api-listen",
            metavar="HOST:PORT",
            help="Answer operators here too, over TCP, if they have a token. [default: only the socket]",
            show_default=False,
        ),
    ] = None,
    socket_group: Annotated[
        str | None,
        typer.Option(
            "--socket-group",
            metavar="GROUP",
            help="Let this group's members use the operators' socket: all of them as admins. [default: only this user]",
            show_default=False,
        ),
    ] = None,
    log_level: LogLevelOption = None,
) -> int:
    """Run the control plane, unless a verb follows. The help is the group's."""
    if context.invoked_subcommand is not None:
        given = (listen, data_dir, config, timezone, public_url, tls, tls_cert, tls_key, api_listen, socket_group)
        if behind_proxy or any(value is not None for value in (*given, log_level)):
            raise InputError(
                "options stand behind the verb, as in `restic-manager server "
                f"{context.invoked_subcommand} FILE --data-dir DIR`"
            )
        return 0

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
            tls=tls,
            tls_cert=tls_cert,
            tls_key=tls_key,
            behind_proxy="yes" if behind_proxy else None,
            api_listen=api_listen,
            socket_group=socket_group,
            log_level=log_level,
        )
        start_log(loaded.log_level)
        # After the options are known to be right: these take longest to import.
        import trio

        from restic_manager.server.app import serve

        return trio.run(serve, loaded)

    return run_until_stopped(work)


@operator_command(
    app,
    "backup",
    local=True,
    examples="""
        restic-manager server backup /mnt/usb/manager.tar
        restic-manager server backup /var/backups/manager.tar --force
    """,
)
def backup(
    operator: Operator,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file to write.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    data_dir: WhereOption = None,
) -> None:
    """Copy what the server knows into one file: its database, the key that the secrets in it are sealed with, and the
    certificate by which hosts know it.

    The server may run meanwhile; the copy is of one moment. It is written whole or not at all, and only this user can
    read it. Keep it as you would keep the repositories' passwords: with it they can all be opened.
    """
    from datetime import UTC, datetime
    from pathlib import Path

    from restic_manager.server.backup import make_copy

    config, target = _config(data_dir), Path(file).absolute()
    folder = config.data_dir
    made = make_copy(folder, target, force=force, now=datetime.now(UTC), key=config.key)
    if operator.as_json:
        operator.screen.data(
            {"file": str(target), "bytes": target.stat().st_size, "data_dir": str(folder), "copy": made}
        )
        return
    held = made.database
    operator.screen.say(
        f"{target}: {held.hosts} hosts, {held.repos} repositories, {held.schedules} schedules, {held.jobs} jobs of "
        f"{folder}; "
        + (
            "and the key to their secrets: keep it as you would keep the repositories' passwords"
            if config.key.own
            else f"without the key to their secrets, which is {config.key.told}: keep that as well"
        )
    )


@operator_command(
    app,
    "restore",
    local=True,
    examples="""
        restic-manager server restore /mnt/usb/manager.tar
        restic-manager server restore /mnt/usb/manager.tar --force
    """,
)
def restore(
    operator: Operator,
    file: Annotated[str, typer.Argument(metavar="FILE", help="What `server backup` has written.")],
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Also over a server's data; that is moved aside, not removed.")
    ] = False,
    data_dir: WhereOption = None,
) -> None:
    """Put a copy of a server in place. The server must not run; start it afterwards.

    The copy is checked before anything is touched. It gets a new epoch: every agent that dials tells again what the
    copy does not know. What was changed here after the copy was made is undone: hosts removed since then are back, and
    hosts invited since then have to be invited again.
    """
    from datetime import UTC, datetime
    from pathlib import Path

    from restic_manager.server.restore import restore_copy

    config = _config(data_dir)
    done = restore_copy(Path(file).absolute(), config.data_dir, force=force, now=datetime.now(UTC), key=config.key)
    if operator.as_json:
        operator.screen.data(done)
        return
    held = done.database
    operator.screen.say(
        f"{done.data_dir} is as it was at {done.made_at:%Y-%m-%d %H:%M:%S} UTC: {held.hosts} hosts, {held.repos} "
        f"repositories, {held.schedules} schedules, {held.jobs} jobs"
    )
    for path in done.aside:
        operator.screen.say(f"what was there is kept as {path}")
    operator.screen.say(
        f"it has a new epoch, {done.epoch}: start the server, and the agents tell it what happened since; hosts "
        "removed after the copy are back, hosts invited after it have to be invited again"
    )


def _config(data_dir: str | None) -> ServerConfig:
    import os

    from restic_manager.config import load_server

    return load_server(os.environ, data_dir=data_dir)
