"""Many hosts on one repository: a backup each every few seconds, forget, prune and check, and who got in whose way.

    python -m tests.e2e.crowd                                  eight agents, real restic, five minutes
    python -m tests.e2e.crowd --agents 200 --fake --max-parallel 16   two hundred, the fake restic

The fake's backups keep everything: a forget after each of two hundred backups every few seconds, alone on the
repository each, is more than there are seconds.

It judges by the server's rows: no job may find a lock, exclusive kinds are alone, never more than `--max-parallel` at
once, nobody is passed by who came later, everything ends well; with a real restic its own check has the last word.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from restic_manager.domain.model import Kind
from tests.e2e.stage import Stage, stage, until
from tests.support.fake_restic import install
from tests.support.quick_key import make_quick
from tests.support.restic_binaries import RealRestic, newest

PASSWORD: Final = "pw"


@dataclass(frozen=True)
class Run:
    """One job as the server's rows tell it. Times in seconds since 1970: all processes have one machine's clock."""

    serial: int
    host: str
    kind: Kind
    status: str
    code: str | None
    created: float
    sent: float | None
    started: float | None
    finished: float | None


@dataclass
class Crowd:
    """What came of it."""

    jobs: Counter[str] = field(default_factory=Counter)
    longest_wait: float = 0.0
    most_at_once: int = 0
    wrong: list[str] = field(default_factory=list)

    def told(self) -> str:
        """Return it in a few lines."""
        counted = ", ".join(f"{count} {name}" for name, count in sorted(self.jobs.items()))
        said = f"{self.jobs.total()} jobs ({counted}); at most {self.most_at_once} at once on the repository; "
        said += f"the longest wait {self.longest_wait:.1f} s; {len(self.wrong)} wrong"
        return "\n".join([said, *(f"    {each}" for each in self.wrong[:40])])


def gather(
    folder: Path, *, agents: int, seconds: float, every: int, max_parallel: int, real: RealRestic | None
) -> Crowd:
    """Given an empty folder, let so many agents work on one repository for so long, and judge."""
    with stage(folder) as here:
        repo = folder / "repo-main"
        restic = real.path if real is not None else install(folder / "bin").path
        here.start_server()
        names = [f"host-{number:03}" for number in range(agents)]
        here.ok(
            *("repo", "add", "main", str(repo), "--password-file", "-", "--max-parallel", str(max_parallel)),
            stdin=PASSWORD + "\n",
        )
        for name in names:
            here.start_agent(name, restic=restic, wait=False)
        until("all agents to be online", lambda: here.client.status().hosts_online == agents, seconds=60 + agents)
        here.ok("repo", "init", "main", "--host", names[0], "--wait")
        if real is not None:
            make_quick(repo, PASSWORD)
        source = folder / "source"
        source.mkdir()
        for number in range(20):
            (source / f"file-{number}").write_text(f"{number}\n" * 500, encoding="utf-8")
        here.ok(
            *("schedule", "add", "often", "--all", "--every", f"{every}s", "--splay", f"{every - 1}s"),
            *("--repo", "main", *(("--keep-last", "3") if real is not None else ()), str(source)),
        )
        here.ok("repo", "maintenance", "main", "--maintainer", names[0], "--prune", "*/2 * * * *")
        here.ok("repo", "maintenance", "main", "--check", "* * * * *", "--check-subset", "1/4")
        time.sleep(seconds)
        for schedule in here.client.schedules():
            here.ok("schedule", "disable", schedule.name)
        until("all jobs to end", lambda: _idle(here), seconds=60 + 2 * agents)
        runs = read_runs(here.data / "server.db")
        crowd = judge(runs, max_parallel=max_parallel)
        if real is not None:
            real.run(str(repo), "check", "--read-data", password=PASSWORD)
        return crowd


def _idle(here: Stage) -> bool:
    status = here.client.status()
    return not status.jobs_queued and not status.jobs_running


def read_runs(database: Path) -> list[Run]:
    """Given the server's database, return every job there was."""
    query = (
        "SELECT serial, host_id, kind, status, json_extract(error, '$.code'), created_at, sent_at, started_at, "
        "finished_at FROM jobs ORDER BY serial"
    )
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        rows = db.execute(query).fetchall()
    db.close()
    return [
        Run(serial, host, Kind(kind), status, code, created / 1e6, _seconds(sent), _seconds(started), _seconds(ended))
        for serial, host, kind, status, code, created, sent, started, ended in rows
    ]


def _seconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / 1e6


def judge(runs: Sequence[Run], *, max_parallel: int) -> Crowd:
    """Given every job on one repository, return what was wrong with how they shared it."""
    crowd = Crowd()
    for run in runs:
        crowd.jobs[f"{run.kind} {run.status}"] += 1
        if run.status not in {"succeeded", "warning"}:
            crowd.wrong.append(f"{run.kind} {run.serial} ended {run.status} ({run.code})")
        if run.sent is not None:
            crowd.longest_wait = max(crowd.longest_wait, run.sent - run.created)
    _at_once(runs, crowd, max_parallel)
    _in_turn(runs, crowd)
    return crowd


def _at_once(runs: Sequence[Run], crowd: Crowd, max_parallel: int) -> None:
    """By when each had been sent and was told to be over: nobody can have been there longer than that."""
    edges: list[tuple[float, int, Run]] = []
    for run in runs:
        if run.started is not None and run.finished is not None:
            edges += [(run.started, 1, run), (run.finished, 0, run)]
    there: dict[int, Run] = {}
    for _, begins, run in sorted(edges, key=lambda edge: edge[:2]):
        if not begins:
            there.pop(run.serial, None)
            continue
        there[run.serial] = run
        crowd.most_at_once = max(crowd.most_at_once, len(there))
        if len(there) > max_parallel:
            crowd.wrong.append(f"{len(there)} jobs at once, when {run.kind} {run.serial} began")
        if len(there) > 1 and any(other.kind.exclusive for other in there.values()):
            others = ", ".join(f"{other.kind} {other.serial}" for other in there.values() if other is not run)
            crowd.wrong.append(f"{run.kind} {run.serial} began beside {others}")


def _in_turn(runs: Sequence[Run], crowd: Crowd) -> None:
    """A job that waited may be passed by one that came later only while its own host was busy with another."""
    sent = [run for run in runs if run.sent is not None]
    by_host: dict[str, list[Run]] = {}
    for run in sent:
        by_host.setdefault(run.host, []).append(run)
    last = sorted(sent, key=lambda run: run.sent or 0.0)
    for place, run in enumerate(last):
        for later in last[max(0, place - 200) : place]:
            if later.serial <= run.serial or later.kind.exclusive or (later.sent or 0) < run.created:
                continue
            busy = any(
                other is not run and (other.sent or 0) <= (later.sent or 0) <= (other.finished or 0)
                for other in by_host[run.host]
            )
            if not busy:
                crowd.wrong.append(
                    f"{run.kind} {run.serial} was passed by {later.kind} {later.serial}, which came later"
                )


def main() -> int:
    """Gather a crowd as asked for and say what came of it."""
    parser = argparse.ArgumentParser(description="Many hosts on one repository.")
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--every", type=int, default=15)
    parser.add_argument("--max-parallel", type=int, default=4)
    parser.add_argument("--fake", action="store_true")
    asked = parser.parse_args()
    real = None if asked.fake else newest()
    if not asked.fake and real is None:
        parser.error("no restic: tests/tools/get_restic.sh has not fetched one")
    folder = Path(tempfile.mkdtemp(prefix="crowd-"))
    crowd = gather(
        folder,
        agents=asked.agents,
        seconds=asked.minutes * 60,
        every=asked.every,
        max_parallel=asked.max_parallel,
        real=real,
    )
    sys.stdout.write(crowd.told() + "\n")
    if crowd.wrong:
        sys.stdout.write(f"left in {folder}\n")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
