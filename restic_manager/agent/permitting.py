"""Between an order and restic: nothing starts that this host's policy does not allow. Promise 3.

Owns the questions that are put to the policy for each order, and the refusal as an outcome. The answers are
`domain.policy`'s; where paths lead is `resolving`'s. Refuses to know queues, reports and how restic is run. What the
server sends is believed in nothing here: an order that cannot be judged is refused.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import trio

from restic_manager.agent import executables, repositories
from restic_manager.agent.carrying import Carries, Permit, ResticFacts
from restic_manager.agent.hooks import HookRunner
from restic_manager.agent.joblog import Stream
from restic_manager.agent.journal import Journal
from restic_manager.agent.policy_file import RESTORES, Loaded, PolicyBook
from restic_manager.agent.resolving import first, followed, leads_to, links_below, listed
from restic_manager.domain import policy as policies
from restic_manager.domain.errors import InputError, ManagerError, NotPermittedError
from restic_manager.domain.model import Failure, Outcome, Progress, Status
from restic_manager.domain.policy import Denied, place_of
from restic_manager.domain.results import Row
from restic_manager.domain.specs import BackupSpec, RestoreSpec, VerifySpec
from restic_manager.protocol.messages import CommandRun
from restic_manager.runtime.clock import Clock
from restic_manager.runtime.redact import Redactor

logger = logging.getLogger(__name__)

T = TypeVar("T")

_looking: Final = trio.CapacityLimiter(8)
"""Looking at files can hang for ever on a dead mount; so it has threads of its own, never those of the journal."""


@dataclass(frozen=True, slots=True)
class Places:
    """The agent's own folders on this host."""

    data_dir: Path

    @property
    def restores(self) -> str:
        """Where restores go that the policy does not send elsewhere: as a plain path, links before it followed."""
        return f"{followed(str(self.data_dir))}/{RESTORES}"

    @property
    def hooks(self) -> Path:
        """Where hooks are."""
        return self.data_dir / executables.HOOKS

    @property
    def commands(self) -> Path:
        """Where commands are."""
        return self.data_dir / executables.COMMANDS


def find_command(book: PolicyBook, places: Places, name: str) -> Path:
    """Given the policy, the agent's folders and a command's name, return the program that it is; raise
    NotPermittedError unless the policy allows it, and it can be trusted. Touches the disk.
    """
    loaded = book.current()
    denied = policies.deny_command(loaded.policy, name)
    if denied is not None:
        raise book.refusal(denied, loaded)
    return executables.find(places.commands, name)


class Gate:
    """Carries orders out, as far as the host's policy lets it: refuses them, lowers them, runs their hooks."""

    def __init__(
        self,
        inner: Carries,
        *,
        book: PolicyBook,
        places: Places,
        journal: Journal,
        clock: Clock,
        joined_with: Sequence[str],
        redactor: Redactor | None = None,
    ) -> None:
        """joined_with: the places of the repositories that the join brought. redactor: knows this process's secrets."""
        self._inner = inner
        self._book = book
        self._places = places
        self._journal = journal
        self._clock = clock
        self._joined_with = frozenset(joined_with)
        self._hooks = HookRunner(places.hooks, places.data_dir, redactor=redactor)

    async def facts(self) -> ResticFacts:
        """Return what to say of restic in a hello, and of what the policy lets it do."""
        return dataclasses.replace(await self._inner.facts(), kinds=await self._kinds())

    async def _kinds(self) -> tuple[str, ...]:
        """Return the kind words that the policy allows now; none while it cannot be believed."""
        try:
            loaded = await self._look(self._book.current)
        except NotPermittedError:
            return ()
        return policies.allowed_kinds(loaded.policy)

    def jobs_at_once(self) -> int | None:
        """Return the policy's ceiling of jobs at once as far as it is known; None: there is none."""
        return self._book.concurrent_jobs()

    async def run(
        self,
        order: CommandRun,
        *,
        on_lines: Callable[[Stream, Sequence[str]], Awaitable[None]],
        on_progress: Callable[[Progress], None],
        on_rows: Callable[[Sequence[Row]], Awaitable[None]],
        on_spawned: Callable[[int], None],
        stop: trio.Event,
    ) -> Outcome:
        """Given an order, carry it out if the policy allows it: hooks, restic, hooks. Else the outcome is a refusal."""
        try:
            loaded = await self._look(self._book.current)
            await self._check_repositories(loaded, order)
            safe = await self._inner.restores_over_links()
            permitted = await self._look(functools.partial(self._permit, loaded, order, follows_links=not safe))
        except (NotPermittedError, InputError) as error:
            return _refused(order, error)
        if permitted.said:
            await on_lines("agent", permitted.said)
        carry_out = functools.partial(
            self._inner.run,
            permitted.order,
            permit=permitted.permit,
            on_lines=on_lines,
            on_progress=on_progress,
            on_rows=on_rows,
            on_spawned=on_spawned,
            stop=stop,
        )
        if order.hooks is None:
            return await carry_out()
        return await self._hooks.around(permitted.order, order.hooks, carry_out, on_lines=on_lines, stop=stop)

    async def end_left_over(self, job_ids: Sequence[str]) -> None:
        """Given ids of jobs that a dead agent was running, end what is left of their processes, hooks too."""
        await self._inner.end_left_over(job_ids)

    async def look_up(self, order: CommandRun, pid: int | None) -> str | None:
        """Given an order whose restic is gone, run the hooks that always run, and return the snapshot it made, if it
        did. Raise NotPermittedError if its repository is not one that may be asked.
        """
        loaded = await self._look(self._book.current)
        if order.hooks is not None and not order.recover:
            # This host's own order, that it had let through: what it left undone is done, whatever the policy says now.
            await self._hooks.clean_up(order, order.hooks)
        await self._check_repositories(loaded, order)
        return await self._inner.look_up(order, pid)

    async def _check_repositories(self, loaded: Loaded, order: CommandRun) -> None:
        """Raise NotPermittedError unless every repository of the order may be used; remember what a pattern lets in."""
        places = [place_of(repo.url, repo.env) for repo in (order.repo, order.source) if repo is not None]
        known = self._joined_with | await self._journal.read(repositories.known_places)
        for place in places:
            self._insist(policies.deny_repository(loaded.policy, place, known=known), loaded)
        new = [place for place in places if place not in known]
        if new:
            now = self._clock.now()

            def learn(db: sqlite3.Connection) -> None:
                repositories.learn(db, new, now)

            await self._journal.write(learn)

    def _permit(self, loaded: Loaded, order: CommandRun, *, follows_links: bool) -> _Permitted:
        """Given an order, return it as it may be carried out; raise NotPermittedError. Touches the disk.

        follows_links: this host's restic, when it restores, writes through links that are there.
        """
        policy, spec = loaded.policy, order.spec
        self._insist(policies.deny_kind(policy, spec), loaded)
        said: list[str] = []
        match spec:
            case BackupSpec():
                self._check_sources(loaded, spec)
            case RestoreSpec():
                self._check_restore(loaded, spec, follows_links=follows_links)
            case VerifySpec(live=True) if policy.sources is not None:
                # It would read the host's own files, to compare with them.
                spec = msgspec.structs.replace(spec, live=False)
                said.append(f"the host's own files are not compared with: its policy names sources ({loaded.path})")
            case _:
                pass
        for name in order.hooks.names if order.hooks is not None else ():
            self._insist(policies.deny_hook(policy, name), loaded)
            executables.find(self._places.hooks, name)
        program = None
        if isinstance(spec, BackupSpec) and spec.stdin_command is not None:
            self._insist(policies.deny_command(policy, spec.stdin_command), loaded)
            program = executables.find(self._places.commands, spec.stdin_command)
        lowered = policies.lowered(policy, spec)
        if lowered != spec:
            said.append(f"its speed is limited to what this host's policy allows ({loaded.path})")
        return _Permitted(
            msgspec.structs.replace(order, spec=lowered),
            Permit(upload_limit=policy.upload_limit, download_limit=policy.download_limit, program=program),
            tuple(said),
        )

    def _check_sources(self, loaded: Loaded, spec: BackupSpec) -> None:
        if loaded.policy.sources is None:
            return
        # The lists too are read, and what is in them may be told: restic names what it does not find.
        for text in (*spec.paths, *spec.files_from, *spec.exclude_files):
            self._insist(policies.deny_sources(loaded.policy, leads_to(text)), loaded)
        for text in (*spec.files_from, *spec.exclude_files):
            self._insist(policies.deny_sources(loaded.policy, (followed(text),)), loaded)
        for text in listed(spec.files_from):
            self._insist(policies.deny_sources(loaded.policy, leads_to(text)), loaded)

    def _check_restore(self, loaded: Loaded, spec: RestoreSpec, *, follows_links: bool) -> None:
        if spec.dry_run:
            return  # it writes nothing
        if spec.target is not None:
            base = policies.plain_path(spec.target)
            roots = [base, *(f"{base}{policies.plain_path(path)}" for path in spec.paths)]
        else:
            roots = [policies.plain_path(path) for path in spec.paths] or ["/"]
        own = self._places.restores

        def denied(paths: Sequence[str]) -> Denied | None:
            return policies.deny_targets(loaded.policy, paths, own=own)

        for root in roots:
            # Where it leads as it is, and where with its last part followed: restic may do either.
            self._insist(denied([*leads_to(root), followed(root)]), loaded)
        if denied(["/"]) is None or not (follows_links or spec.includes):
            return
        # What is chosen one by one is written below folders that were not chosen: those may be links, in any version.
        found = first(links_below(roots), lambda leads: denied([leads]) is not None)
        if found is not None:
            link, leads = found
            raise NotPermittedError(
                f"{link} is a symbolic link to {leads}, where this host's policy allows no restore "
                f"({loaded.where('restore_targets')}), and this restore could write through it: restore into an empty "
                "folder, or remove the link"
            )

    def _insist(self, denied: Denied | None, loaded: Loaded) -> None:
        if denied is not None:
            raise self._book.refusal(denied, loaded)

    async def _look(self, question: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(question, abandon_on_cancel=True, limiter=_looking)


@dataclass(frozen=True, slots=True)
class _Permitted:
    """An order as it may be carried out, and what its log is told of it."""

    order: CommandRun
    permit: Permit
    said: tuple[str, ...]


def _refused(order: CommandRun, error: ManagerError) -> Outcome:
    logger.warning("job %s is refused: %s", order.job_id, error.message)
    return Outcome(status=Status.FAILED, error=Failure(code="not_permitted", message=error.message[:8_000]))
