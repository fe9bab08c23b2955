"""The real server as a process of this program: started, killed and started again on its files.

Everything is the product's own but sockets, threads and the wall clock. It decides nothing about when anything fails.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import trio

from restic_manager.config import ServerConfig
from restic_manager.secrets import Sealer
from restic_manager.server.agents import AgentsDoor
from restic_manager.server.api.app import build_api
from restic_manager.server.dispatch import Dispatcher
from restic_manager.server.hub import Hub
from restic_manager.server.janitor import Janitor
from restic_manager.server.services import Services
from restic_manager.server.store.writer import open_store
from restic_manager.server.upkeep import Upkeep
from tests.simulation.clocks import MachineClock
from tests.simulation.fuse import Fuse
from tests.simulation.lines import End, Line

HEARTBEAT: Final = 60.0


def copy_database(source: Path, target: Path) -> None:
    """Given a database that may be open, write a consistent copy of it."""
    for suffix in ("", "-wal", "-shm"):
        target.with_name(target.name + suffix).unlink(missing_ok=True)
    with closing(sqlite3.connect(source)) as before, closing(sqlite3.connect(target)) as after:
        before.backup(after)


class SimServer:
    """The server's machine: its files and clock stay, its process comes and goes."""

    name = "server"

    def __init__(self, folder: Path, clock: MachineClock, nursery: trio.Nursery, note: Callable[[str], None]) -> None:
        self.folder = folder
        self.clock = clock
        self.fuse: Fuse | None = None
        self.services: Services | None = None
        self.api: Any = None
        self.lives = 0
        self.restores = 0
        self._door: AgentsDoor | None = None
        self._connections: trio.Nursery | None = None
        self._nursery = nursery
        self._note = note
        self._ended = trio.Event()
        self._ended.set()
        folder.mkdir()

    @property
    def path(self) -> Path:
        return self.folder / "server.db"

    async def start(self) -> None:
        await self._ended.wait()
        self._ended = trio.Event()
        self.lives += 1
        await self._nursery.start(self._live)
        self._note(f"server starts (life {self.lives})")

    def kill(self) -> None:
        if self.fuse is not None:
            self.fuse.blow()

    async def ended(self) -> None:
        await self._ended.wait()

    def accept(self, line: Line, client: Fuse) -> End | None:
        """Given who dials over which road, return their end of a connection; None when nobody is here."""
        if self._connections is None or self._door is None or self.fuse is None or self.fuse.blown:
            return None
        ours, theirs = line.connect(client, self.fuse)
        self._connections.start_soon(self._door.handle, theirs)
        return ours

    async def _live(self, task_status: trio.TaskStatus[None]) -> None:
        fuse = self.fuse = Fuse()
        try:
            with fuse.scope:
                async with open_store(self.path, clock=self.clock, threads=False) as store:
                    commit = store._commit
                    setattr(store, "_commit", lambda batch: fuse.commit(functools.partial(commit, batch)))  # noqa: B010
                    hub = Hub()
                    sealer = Sealer(b"s" * 32)
                    services = Services(
                        store=store,
                        hub=hub,
                        dispatcher=Dispatcher(store=store, hub=hub, clock=self.clock, sealer=sealer),
                        clock=self.clock,
                        sealer=sealer,
                        config=ServerConfig(data_dir=self.folder, heartbeat_interval=HEARTBEAT),
                        started_at=self.clock.now(),
                        listening="server:8787",
                    )
                    async with trio.open_nursery() as nursery:
                        self.services, self.api = services, build_api(services)
                        self._door, self._connections = AgentsDoor(services), nursery
                        nursery.start_soon(services.dispatcher.run, name="dispatcher")
                        nursery.start_soon(Janitor(services).run, name="janitor")
                        nursery.start_soon(Upkeep(services).run, name="upkeep")
                        task_status.started()
                        await trio.sleep_forever()
        except* Exception:
            if not fuse.blown:
                raise
        finally:
            self.services = self.api = self._door = self._connections = None
            self._note("server is gone")
            self._ended.set()
