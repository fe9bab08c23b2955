"""The server's composition root: what there is, in which order it starts, and in which order it stops.

The nursery tree of a running server is this file. The first signal drains: both doors stop taking newcomers, agents are
told goodbye (1001), operators' requests finish, the store commits what it was given. The second cancels. It decides
nothing about hosts, schedules or jobs.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from restic_manager import __version__
from restic_manager.config import ServerConfig
from restic_manager.domain.errors import ManagerError
from restic_manager.runtime import datadir
from restic_manager.runtime.clock import Clock, SystemClock
from restic_manager.runtime.groups import plain
from restic_manager.runtime.signals import StopSignals, watch_signals
from restic_manager.runtime.tls import Gatekeeper
from restic_manager.server.agents import AgentsDoor
from restic_manager.server.api.app import build_api
from restic_manager.server.certificates import OwnCertificate, ServerCertificate, load_given
from restic_manager.server.dispatch import Dispatcher
from restic_manager.server.hub import Hub
from restic_manager.server.janitor import Janitor
from restic_manager.server.keys import Keys
from restic_manager.server.operators import TLS_NEEDED, bind_socket, group_id, serve_operators
from restic_manager.server.places import CERTIFICATE, DATABASE, KEY_FILE
from restic_manager.server.restore import refuse_what_is_lost
from restic_manager.server.services import Services
from restic_manager.server.store import hosts
from restic_manager.server.store.writer import Store, open_store
from restic_manager.server.upkeep import Upkeep

logger = logging.getLogger(__name__)

_FILES: Final = 65_536
"""Open files wanted: one for each agent, and some."""


@dataclass(frozen=True)
class Running:
    """Where a running server answers: `listening` as HOST:PORT for agents, `socket` for operators, `api` as HOST:PORT
    for operators over TCP, None where they are not let in that way.
    """

    listening: str
    socket: Path
    api: str | None = None


async def serve(
    config: ServerConfig,
    *,
    clock: Clock | None = None,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Given its config, run the server until a signal ends it.

    Raise InputError when the certificate it was given cannot be used, or there is no such group as its socket is to be
    open to; StorageError when the data directory or what is in it cannot be used (another server has it, the disk is
    full, the key does not fit), ManagerError with code `address_in_use` when its port is taken.
    """
    clock = clock or SystemClock()
    given = _given_certificate(config, clock)
    if config.socket_group is not None:
        group_id(config.socket_group)  # before anything is made: a name that is none must not leave half a server
    datadir.prepare(config.data_dir)
    with datadir.lock(config.data_dir, "server"):
        refuse_what_is_lost(config.data_dir)
        _raise_file_limit()
        try:
            own = "auto" in {config.tls.mode, config.api_tls.mode}
            tls = OwnCertificate(config.data_dir, now=clock.now()) if own else given
            async with open_store(config.data_dir / DATABASE, clock=clock) as store:
                await _serve_with(store, config, clock, tls, task_status)
        except BaseExceptionGroup as group:
            raise plain(group) from None


async def _serve_with(
    store: Store,
    config: ServerConfig,
    clock: Clock,
    tls: ServerCertificate | None,
    task_status: trio.TaskStatus[Running],
) -> None:
    keys = Keys(config.data_dir / KEY_FILE, config.key)
    sealer = await keys.open(store)
    await _warn_of_lost_certificate(store, tls, config.data_dir / CERTIFICATE)
    async with (
        _tcp_listeners(config.listen_host, config.listen_port, "--listen") as listeners,
        _api_listeners(config) as api_listeners,
        _operators_listener(config) as (socket, listener),
    ):
        hub = Hub()
        services = Services(
            store=store,
            hub=hub,
            dispatcher=Dispatcher(store=store, hub=hub, clock=clock, sealer=sealer),
            clock=clock,
            sealer=sealer,
            keys=keys,
            config=config,
            started_at=clock.now(),
            listening=_address(listeners[0]),
            tls=tls,
        )
        running = Running(services.listening, socket, _address(api_listeners[0]) if api_listeners else None)
        async with trio.open_nursery() as server:
            stop = await server.start(watch_signals, name="signals")
            server.start_soon(_cancel_at, stop, server.cancel_scope, name="second signal")
            server.start_soon(services.dispatcher.run, name="dispatcher")
            server.start_soon(Janitor(services).run, name="janitor")
            server.start_soon(Upkeep(services).run, name="upkeep")
            await _keep_doors(
                services=services,
                listeners=listeners,
                operators_listener=listener,
                api_listeners=api_listeners,
                running=running,
                stop=stop,
                task_status=task_status,
            )
            server.cancel_scope.cancel()


async def _keep_doors(
    *,
    services: Services,
    listeners: list[trio.SocketListener],
    operators_listener: trio.SocketListener,
    api_listeners: list[trio.SocketListener],
    running: Running,
    stop: StopSignals,
    task_status: trio.TaskStatus[Running],
) -> None:
    """Keep both doors open until the first signal, then close them: agents get their goodbye while requests finish.

    Over TCP operators have a door of their own: whoever crowds that one does not crowd the socket.
    """
    close_operators = trio.Event()
    agents_door = AgentsDoor(services)
    api = build_api(services)
    async with trio.open_nursery() as operators:
        await operators.start(serve_operators, api, [operators_listener], close_operators, name="operators' door")
        if api_listeners:
            on_tcp = partial(serve_operators, gatekeeper=_operators_gatekeeper(services))
            await operators.start(on_tcp, api, api_listeners, close_operators, name="operators' door on TCP")
        async with trio.open_nursery() as agents:
            await agents.start(agents_door.serve, listeners, name="agents' door")
            _say_where(services.config, running)
            task_status.started(running)
            await stop.drain.wait()
            close_operators.set()
            await agents_door.drain()
            agents.cancel_scope.cancel()
        services.hub.end_watches()


def _operators_gatekeeper(services: Services) -> Gatekeeper | None:
    """Return who speaks TLS with operators that come over TCP; None where nobody does."""
    tls = services.tls
    if tls is None or services.config.api_tls.mode == "off":
        return None
    return Gatekeeper(lambda: tls.context(services.clock.now()), plain_words=TLS_NEEDED)


async def _cancel_at(stop: StopSignals, scope: trio.CancelScope) -> None:
    await stop.cancel.wait()
    scope.cancel()


def _given_certificate(config: ServerConfig, clock: Clock) -> ServerCertificate | None:
    """Return the certificate an administrator gave, before anything else is touched; None where there is none."""
    choice = config.api_tls if config.tls.mode == "off" else config.tls
    if choice.certificate is None or choice.key is None:
        return None
    return load_given(choice.certificate, choice.key, now=clock.now())


async def _warn_of_lost_certificate(store: Store, tls: ServerCertificate | None, path: Path) -> None:
    """Say it where hosts know this server by a certificate that is not there any more."""
    if isinstance(tls, OwnCertificate) and tls.made_anew and await store.read(hosts.any_pinned):
        logger.error(
            "the certificate by which hosts know this server is gone, and another was made: put %s back from your copy "
            "and start the server again, or invite every host again",
            path,
        )


@contextlib.asynccontextmanager
async def _tcp_listeners(host: str, port: int, option: str) -> AsyncIterator[list[trio.SocketListener]]:
    where = f"{host}:{port}"
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ManagerError(
                f"cannot listen on {where}: another program does; end it, or name another address with {option}",
                code="address_in_use",
            ) from error
        raise ManagerError(f"cannot listen on {where}: {error.strerror or error}", code="address_unusable") from error
    try:
        yield listeners
    finally:
        for listener in listeners:
            listener.socket.close()


@contextlib.asynccontextmanager
async def _api_listeners(config: ServerConfig) -> AsyncIterator[list[trio.SocketListener]]:
    if config.api_listen is None:
        yield []
        return
    async with _tcp_listeners(*config.api_listen, "--api-listen") as listeners:
        yield listeners


@contextlib.asynccontextmanager
async def _operators_listener(config: ServerConfig) -> AsyncIterator[tuple[Path, trio.SocketListener]]:
    group = None if config.socket_group is None else group_id(config.socket_group)
    path = datadir.make_socket_path(config.data_dir, os.environ)
    listener = bind_socket(path, group=group)
    try:
        yield path, listener
    finally:
        listener.socket.close()
        path.unlink(missing_ok=True)


def _address(listener: trio.SocketListener) -> str:
    host, port = listener.socket.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _say_where(config: ServerConfig, running: Running) -> None:
    """Tell the person who started it, whatever the log level, where everything is."""
    agents = "ws" if config.tls.mode == "off" else "wss"
    operators = "http" if config.api_tls.mode == "off" else "https"
    api = "" if running.api is None else f"operators' API {operators}://{running.api}; "
    sys.stderr.write(
        f"restic-manager {__version__}: agents dial {agents}://{running.listening}; "
        f"operators' socket {running.socket}; {api}data in {config.data_dir}\n"
    )
    sys.stderr.flush()


def _raise_file_limit() -> None:
    """Allow as many open files as the system lets us, up to what a large fleet needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
