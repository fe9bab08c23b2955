"""A gate with a pretend restic behind it: what was asked of it, and what it was let through with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trio

from restic_manager.agent.carrying import Permit, ResticFacts
from restic_manager.agent.journal import open_journal
from restic_manager.agent.permitting import Gate, Places
from restic_manager.agent.policy_file import book_of
from restic_manager.domain.model import Outcome, RepoAccess, Spec, Status
from restic_manager.protocol.messages import CommandRun
from restic_manager.runtime.clock import SystemClock
from restic_manager.runtime.redact import Redactor

REPO = RepoAccess(repo_id="r1", url="/srv/repo", password="right-horse")


@dataclass
class PretendRestic:
    """Carries nothing out. `then` is the outcome, or what is awaited for it."""

    ran: list[tuple[CommandRun, Permit]] = field(default_factory=list)
    asked: list[CommandRun] = field(default_factory=list)
    safe: bool = True
    then: Callable[[], Awaitable[Outcome]] | None = None
    outcome: Outcome = field(default_factory=lambda: Outcome(status=Status.SUCCEEDED, snapshot_id="ab" * 32))

    async def run(self, order: CommandRun, *, permit: Permit, **_: Any) -> Outcome:
        self.ran.append((order, permit))
        return self.outcome if self.then is None else await self.then()

    async def facts(self) -> ResticFacts:
        return ResticFacts("0.18.0", None)

    async def restores_over_links(self) -> bool:
        return self.safe

    async def end_left_over(self, job_ids: Sequence[str]) -> None:
        pass

    async def look_up(self, order: CommandRun, pid: int | None) -> str | None:
        self.asked.append(order)
        return None


class Gatehouse:
    """One host: its data directory, its policy, its gate."""

    def __init__(self, folder: Path, gate: Gate, inner: PretendRestic) -> None:
        self.data = folder
        self.gate = gate
        self.inner = inner
        self.lines: list[str] = []
        self.stop = trio.Event()
        self.heard = trio.Event()

    def policy(self, text: str) -> None:
        path = self.data / "agent-policy.toml"
        path.write_text(text)
        path.chmod(0o600)

    def program(self, place: str, script: str) -> Path:
        path = self.data / place
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
        return path

    def order(self, spec: Spec, **facts: Any) -> CommandRun:
        said: dict[str, Any] = {"repo": REPO, "restic_host": "web1", "ordered_at": datetime(2026, 1, 1, tzinfo=UTC)}
        return CommandRun(job_id="j1", spec=spec, **(said | facts))

    async def run(self, spec: Spec, **facts: Any) -> Outcome:
        async def take(_stream: str, lines: Sequence[str]) -> None:
            self.lines += lines
            self.heard.set()

        async def no_rows(_rows: object) -> None:
            raise AssertionError

        with trio.fail_after(30):
            return await self.gate.run(
                self.order(spec, **facts),
                on_lines=take,
                on_progress=lambda _: None,
                on_rows=no_rows,
                on_spawned=lambda _: None,
                stop=self.stop,
            )

    async def refused(self, spec: Spec, **facts: Any) -> str:
        """Run it; it is refused before anything is spawned. Return the reason."""
        before = len(self.inner.ran)
        outcome = await self.run(spec, **facts)
        assert outcome.status is Status.FAILED
        assert outcome.error is not None
        assert outcome.error.code == "not_permitted"
        assert len(self.inner.ran) == before
        return outcome.error.message

    async def allowed(self, spec: Spec, **facts: Any) -> tuple[CommandRun, Permit]:
        """Run it; it reaches restic. Return what did."""
        outcome = await self.run(spec, **facts)
        assert outcome.error is None
        return self.inner.ran[-1]


@asynccontextmanager
async def gatehouse(tmp_path: Path, *, joined_with: Sequence[str] = ("/srv/repo",)) -> AsyncIterator[Gatehouse]:
    """Given a folder, open the house of a host that joined with these repositories."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700, exist_ok=True)
    inner = PretendRestic()
    async with open_journal(folder / "agent.db") as journal:
        gate = Gate(
            inner,
            book=book_of(folder, None),
            places=Places(folder),
            journal=journal,
            clock=SystemClock(),
            joined_with=joined_with,
            redactor=Redactor(["looked-up-here"]),
        )
        yield Gatehouse(folder, gate, inner)
