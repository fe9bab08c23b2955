"""A repository of a real restic, something to back up, and what a run of ours tells: for the tests on real binaries."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio

from restic_manager.domain.model import Outcome, Progress, RepoAccess
from restic_manager.domain.results import Row
from restic_manager.domain.specs import BackupSpec, Spec
from restic_manager.restic.run import Binary, Task, run_task
from restic_manager.restic.version import Version
from tests.support.quick_key import make_quick
from tests.support.restic_binaries import RealRestic

PASSWORD = "right-horse"
LIMIT = 50


class World:
    """One version of restic with everything around it."""

    def __init__(self, real: RealRestic, folder: Path, templates: dict[str, Path]) -> None:
        self.real = real
        self.folder = folder
        major, minor, patch = (int(part) for part in real.version.split("."))
        self.binary = Binary(str(real.path), Version(major, minor, patch))
        self.cache = folder / "cache"
        self.cache.mkdir()
        self.data = folder / "data"
        self.data.mkdir()
        self.served = folder / "served"
        self.served.mkdir()
        self.repo = self.served / "repo"
        if real.version not in templates:
            made = templates[""] / real.version
            real.run(str(made), "init", password=PASSWORD)
            make_quick(made, PASSWORD)
            templates[real.version] = made
        self.template = templates[real.version]
        shutil.copytree(self.template, self.repo)
        self.url = str(self.repo)
        self.lines: list[tuple[str, str]] = []
        self.progress: list[Progress] = []
        self.rows: list[Row] = []
        self.pids: list[int] = []
        self.stop = trio.Event()
        self.jobs = 0

    async def take(self, stream: str, lines: Sequence[str]) -> None:
        self.lines += [(stream, line) for line in lines]

    async def take_rows(self, rows: Sequence[Row]) -> None:
        self.rows += rows

    async def run(self, spec: Spec | None = None, *, kill_after: float = 30.0, **facts: Any) -> Outcome:
        """Run a spec (by default a backup of the data) as a job of its own."""
        self.jobs += 1
        self.rows.clear()
        repo = RepoAccess(repo_id="r1", url=self.url, password=PASSWORD)
        task = Task(f"job-{self.jobs}", "sch-1", spec or BackupSpec(paths=(str(self.data),)), repo, "web1")
        with trio.fail_after(LIMIT):
            return await run_task(
                dataclasses.replace(task, **facts),
                binary=self.binary,
                cache_dir=self.cache,
                on_lines=self.take,
                on_progress=self.progress.append,
                on_rows=self.take_rows,
                on_spawned=self.pids.append,
                stop=self.stop,
                kill_after=kill_after,
            )

    async def saved(self, spec: Spec | None = None, **facts: Any) -> str:
        """Back up, and return the snapshot's id."""
        outcome = await self.run(spec, **facts)
        assert outcome.snapshot_id is not None, outcome
        (found,) = [one for one in self.snapshots() if one.startswith(outcome.snapshot_id)]
        return found

    def snapshots(self) -> list[str]:
        """The snapshots' ids, as the folder has them."""
        return [path.name for path in (self.repo / "snapshots").iterdir()]

    def plain(self, *words: str) -> str:
        """Ask the repository ourselves, past every proxy."""
        return self.real.run(str(self.repo), *words, password=PASSWORD)

    def locks(self) -> list[Path]:
        return list((self.repo / "locks").iterdir())

    def biggest_pack(self) -> Path:
        return max((path for path in (self.repo / "data").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)

    def damage(self) -> str:
        """Damage the biggest pack, and return its id."""
        pack = self.biggest_pack()
        pack.chmod(0o600)
        whole = bytearray(pack.read_bytes())
        whole[1000:1008] = bytes(byte ^ 0xFF for byte in whole[1000:1008])
        pack.write_bytes(whole)
        shutil.rmtree(self.cache)
        self.cache.mkdir()
        return pack.name

    def of(self, stream: str) -> list[str]:
        return [line for its_stream, line in self.lines if its_stream == stream]


def code_of(outcome: Outcome) -> str | None:
    """Return the failure's code."""
    return outcome.error.code if outcome.error is not None else None
