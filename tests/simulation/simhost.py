"""The real agents as processes of this program: each started, killed and started again on its host's files.

Everything is the product's own but sockets, threads, the wall clock and restic. It decides nothing about when anything
fails.
"""

from __future__ import annotations

import functools
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import trio

from restic_manager.agent import app as agent_app
from restic_manager.agent.app import Offline
from restic_manager.agent.carrying import ResticFacts
from restic_manager.agent.identity import IdentityFiles, establish
from restic_manager.agent.journal import open_journal
from restic_manager.domain.errors import ManagerError, UnreachableError
from restic_manager.link import Link, dial
from restic_manager.protocol import codec
from restic_manager.protocol.jointoken import parse_token
from restic_manager.protocol.messages import Ack, CommandRun
from restic_manager.secrets import Sealer
from tests.simulation.clocks import MachineClock
from tests.simulation.fuse import Fuse
from tests.simulation.lines import Line
from tests.simulation.pretend import Book, PretendRestic
from tests.simulation.simserver import SimServer, copy_database

GRACE: Final = 60.0
CATCH_UP_DELAY: Final = 30.0


class _Tapped:
    """An agent's link as the agent has it; tells the harness what is received."""

    def __init__(self, link: Link, heard: Callable[[Any], None]) -> None:
        self._link = link
        self._heard = heard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    async def receive(self) -> Any:
        incoming = await self._link.receive()
        self._heard(incoming.message)
        return incoming


class SimHost:
    """One host: its files, clock and road stay, its agent comes and goes."""

    def __init__(
        self,
        name: str,
        folder: Path,
        clock: MachineClock,
        *,
        server: SimServer,
        book: Book,
        nursery: trio.Nursery,
        seed: int,
        offline: bool,
        repo_missing: bool,
        note: Callable[[str], None],
    ) -> None:
        self.name = name
        self.folder = folder
        self.clock = clock
        self.line = Line(lambda text: note(f"{name}: {text}"))
        self.fuse: Fuse | None = None
        self.token: str | None = None
        self.host_id: str | None = None
        self.lives = 0
        self.suspended = False
        self.acked: dict[str, int] = {}
        self.orders: dict[str, float] = {}
        self._journal_id: str | None = None
        self.slots: Any = None
        self.runner: Any = None
        self._drain = trio.Event()
        self._server = server
        self._book = book
        self._nursery = nursery
        self._seed = seed
        self._offline = offline
        self._repo_missing = repo_missing
        self._tell = note
        self._ended = trio.Event()
        self._ended.set()
        folder.mkdir()

    def _note(self, text: str) -> None:
        self._tell(f"{self.name}: {text}")

    @property
    def journal(self) -> Path:
        return self.folder / "agent.db"

    @property
    def alive(self) -> bool:
        return not self._ended.is_set()

    async def start(self) -> None:
        """Start the agent (after the one before is gone)."""
        await self._ended.wait()
        self._ended = trio.Event()
        self._drain = trio.Event()
        self.lives += 1
        self.fuse = Fuse()
        self._nursery.start_soon(self._live, self.fuse, name=f"{self.name} life {self.lives}")

    def kill(self) -> None:
        if self.fuse is not None:
            self.fuse.blow()

    def stop(self) -> None:
        """Ask it to end, as systemd would."""
        self._drain.set()

    async def ended(self) -> None:
        await self._ended.wait()

    async def _live(self, fuse: Fuse) -> None:
        self._note(f"agent starts (life {self.lives})")
        try:
            with fuse.scope:
                await self._be_agent(fuse)
        except* (ManagerError, sqlite3.Error) as group:
            if not fuse.blown:
                self._note(f"agent failed: {group.exceptions[0]!r}")
        except* Exception:
            if not fuse.blown:
                raise
        finally:
            self._note("agent is gone")
            self._ended.set()

    async def _be_agent(self, fuse: Fuse) -> None:
        identity = await establish(
            IdentityFiles(self.folder),
            None if self.token is None else parse_token(self.token),
            lambda token: self._dial(fuse, "/join", token.text, codec.join_answer),
            reconnect_max=60.0,
        )
        self.host_id, self.token = identity.host_id, None
        restic = PretendRestic(
            self._book,
            self.name,
            self.lives,
            self._seed,
            repo_missing=self._repo_missing,
            orders=self.orders,
            now=self.clock.now,
            note=self._note,
        )
        async with open_journal(self.journal, threads=False) as journal:
            commit = journal._commit
            setattr(journal, "_commit", lambda change: fuse.commit(functools.partial(commit, change)))  # noqa: B010
            async with trio.open_nursery() as nursery:

                async def live() -> None:
                    await agent_app.live(
                        identity,
                        journal,
                        self.clock,
                        dial_agent=lambda credential: self._dial(fuse, "/agent", credential, codec.from_server),
                        restic=restic,
                        restic_facts=_facts,
                        offline=Offline(Sealer(b"a" * 32), GRACE, timedelta(days=30)) if self._offline else None,
                        drain=self._drain,
                        reconnect_max=60.0,
                        catch_up_delay=CATCH_UP_DELAY,
                    )
                    nursery.cancel_scope.cancel()

                nursery.start_soon(live, name=f"{self.name} agent")

    @asynccontextmanager
    async def _dial(self, fuse: Fuse, path: str, bearer: str, decoder: codec.Decoder) -> AsyncIterator[Link]:
        async def open_stream() -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            while self.suspended:  # noqa: ASYNC110 - a frozen machine: nothing can wake it
                await trio.sleep(1)
            end = self._server.accept(self.line, fuse) if self.line.up and not fuse.blown else None
            if end is None:
                raise UnreachableError("nobody there")
            return end

        link: AbstractAsyncContextManager[Link] = dial(
            "ws://server:8787", path=path, bearer=bearer, decoder=decoder, open_stream=open_stream
        )
        async with link as ours:
            self._note(f"linked {path}")
            self._journal_id = None
            heard = functools.partial(self._heard, restores=self._server.restores)
            yield _Tapped(ours, heard)  # type: ignore[misc]  # it is the link, but for one listener

    def _heard(self, message: Any, *, restores: int) -> None:
        if isinstance(message, CommandRun) and not message.recover:
            self.orders[message.job_id] = trio.current_time()
        # What was under way from a server that has since been put back to a copy promises nothing any more.
        if isinstance(message, Ack) and restores == self._server.restores:
            if self._journal_id is None:
                self._journal_id = self.journal_id()
            self.acked[self._journal_id] = max(message.through, self.acked.get(self._journal_id, 0))

    def journal_id(self) -> str:
        """Return the id of the journal on disk (it never changes while a link stands)."""
        with closing(sqlite3.connect(self.journal)) as db:
            return str(db.execute("SELECT value FROM meta WHERE key = 'journal_id'").fetchone()[0])

    def twin(self, folder: Path) -> SimHost:
        """Return another machine with a copy of this one's disk, as a cloned virtual machine is one."""
        twin = SimHost(
            self.name,
            folder,
            self.clock.another(),
            server=self._server,
            book=self._book,
            nursery=self._nursery,
            seed=self._seed,
            offline=self._offline,
            repo_missing=self._repo_missing,
            note=lambda text: self._note(f"(twin) {text}"),
        )
        twin.lives = 1_000 + self.lives
        for path in self.folder.iterdir():
            if path.name.startswith("agent-identity"):
                shutil.copyfile(path, folder / path.name)
        copy_database(self.journal, twin.journal)
        return twin

    def forget(self) -> None:
        """The data directory is lost."""
        shutil.rmtree(self.folder)
        self.folder.mkdir()


async def _facts() -> ResticFacts:
    return ResticFacts("0.18.0", None)
