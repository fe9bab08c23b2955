"""One play: a real server, real agents and restics, and faults at random moments, all from one seed.

`play` returns what happened and what was wrong at the end. The seed fixes what is done and how long is waited in
between; what the processes are doing at that moment is theirs.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from restic_manager.domain.errors import ManagerError
from restic_manager.domain.model import Status
from restic_manager.protocol import api
from tests.e2e.stage import Program, Stage, stage, until
from tests.support.cutting_proxy import CuttingProxy, cutting_proxy
from tests.support.fake_restic import FakeRestic, install, saved_snapshots
from tests.support.restic_binaries import RealRestic

FAKES = ("fake1", "fake2")
REAL = "real1"
SECOND = timedelta(seconds=1)
_PAUSE = (0.05, 1.2)
_SETTLES_WITHIN = 90.0


@dataclass
class Played:
    """What a play did and what it found."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    snapshots: int = 0
    interrupted_with_snapshot: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def told(self) -> str:
        """Return it in a few lines."""
        lines = [
            f"seed {self.seed}: {self.faults.total()} faults in {self.seconds:.0f} s",
            f"  faults: {_counted(self.faults)}",
            f"  slots: {self.fates.total()} ({_counted(self.fates)})",
            f"  jobs: {_counted(self.statuses)}",
            f"  snapshots: {self.snapshots}, {self.interrupted_with_snapshot} of them of jobs that were interrupted",
            f"  wrong: {len(self.wrong)}",
        ]
        return "\n".join([*lines, *(f"    {each}" for each in self.wrong[:40])])


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items())) or "none"


def play(folder: Path, *, seed: int, kills: int, real: RealRestic | None) -> Played:
    """Given an empty folder, play so many faults and return what came of it."""
    began = time.monotonic()
    with ExitStack() as stack:
        here = stack.enter_context(stage(folder))
        proxy = stack.enter_context(cutting_proxy(here.port))
        here.url = f"ws://127.0.0.1:{proxy.port}"
        disk = stack.enter_context(small_disk(folder / f"agent-{FAKES[1]}"))
        chance = random.Random(seed)  # noqa: S311 - to be repeated
        actor = _Actor(here, proxy, Played(seed), chance=chance, real=real, disk=disk)
        actor.set_up()
        for _ in range(kills):
            time.sleep(actor.chance.uniform(*_PAUSE))
            actor.fault()
        actor.heal()
        actor.judge()
    actor.played.seconds = time.monotonic() - began
    return actor.played


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """Mount a small disk at the folder for the block; hand out None where that is not possible."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class _Actor:
    """Does one thing after the other to the stage."""

    def __init__(
        self,
        here: Stage,
        proxy: CuttingProxy,
        played: Played,
        *,
        chance: random.Random,
        real: RealRestic | None,
        disk: Path | None,
    ) -> None:
        self.here = here
        self.proxy = proxy
        self.played = played
        self.chance = chance
        self.real = real
        self.disk = disk
        self.fakes: dict[str, FakeRestic] = {}
        self.repos: dict[str, Path] = {}
        self.hosts = [*FAKES, *([REAL] if real else [])]

    # -- before and after ----------------------------------------------------------------------------------------------

    def set_up(self) -> None:
        here = self.here
        source = here.folder / "source"
        source.mkdir()
        for number in range(8):
            (source / f"file-{number}").write_bytes(os.urandom(20_000))
        steps = [
            [{"stderr": f"line {line}"} for line in range(20)] + [{"sleep": pause}, {"run": True}]
            for pause in (0.0, 0.3, 0.7, 1.5, 0.1)
        ]
        here.start_server()
        for name in self.hosts:
            if name != REAL:
                # Turns, so that durations differ; the last one would go on for ever, so there are many.
                turns = [{"steps": self.chance.choice(steps)} for _ in range(400)]
                self.fakes[name] = install(here.folder / f"bin-{name}", backup=turns)
            here.start_agent(name, restic=self._restic(name))
            self.repos[name] = here.add_repo(name)
            here.ok("repo", "init", name, "--host", name, "--wait")
        for name in self.hosts:
            words = ("schedule", "add", f"every-{name}", "--host", name, "--every", "1s", "--repo", name)
            here.ok(*words, str(source))

    def heal(self) -> None:
        """Everything is well again, and everybody has said what there is to say."""
        self.proxy.up()
        self.proxy.go_on()
        if self._dead(self.here.server):
            self._start_server()
        for name in self.hosts:
            if self._dead(self.here.agents[name]):
                self._start_agent(name)
        try:
            until("all agents", lambda: all(self.here.online(name) for name in self.hosts), seconds=_SETTLES_WITHIN)
        except AssertionError:
            self._alive()
            self.played.wrong += [
                f"{name} did not come back: {self.here.agents[name].said()[-600:]!r}"
                for name in self.hosts
                if not self.here.online(name)
            ]
        time.sleep(2.5)  # a few slots more, in peace: what stays stuck now is stuck
        for name in self.hosts:
            self.here.ok("schedule", "disable", f"every-{name}")
        with suppress(AssertionError):
            until("all to be over", self._all_over, seconds=_SETTLES_WITHIN)

    def _all_over(self) -> bool:
        return all(job.status.terminal for job in all_jobs(self.here)) and not any(map(self._open_fires, self.hosts))

    def _open_fires(self, name: str) -> int:
        """How many fires and reports this agent has not got rid of, by its own journal."""
        path = self.here.folder / f"agent-{name}" / "agent.db"
        with sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5) as db:
            found = db.execute("SELECT (SELECT COUNT(*) FROM fires) + (SELECT COUNT(*) FROM outbox)").fetchone()
        db.close()
        return int(found[0])

    # -- faults --------------------------------------------------------------------------------------------------------

    def fault(self) -> None:
        """One fault of a random sort."""
        self._alive()
        faults: list[tuple[str, int, Callable[[], bool]]] = [
            ("server killed", 5, self._kill_server),
            ("agent killed", 5, self._kill_agent),
            ("restic killed", 5, self._kill_restic),
            ("links cut", 4, self._cut),
            ("links down", 2, self._down),
            ("links held", 2, self._hold),
            ("frozen", 2, self._freeze),
            ("both killed", 2, self._kill_both),
            ("disk full", 1, self._fill),
            ("read-only", 1, self._read_only),
        ]
        while True:
            name, _, does = self.chance.choices(faults, [weight for _, weight, _ in faults])[0]
            if does():
                self.played.faults[name] += 1
                return

    def _alive(self) -> None:
        """Whoever is not running now died by itself."""
        for program in (self.here.server, *self.here.agents.values()):
            if program is not None and program.process.poll() is not None:
                self.played.wrong.append(
                    f"{program.name} ended by itself ({program.process.returncode}): {program.said()[-600:]!r}"
                )
                if program is self.here.server:
                    self._start_server()
                else:
                    self._start_agent(program.name.removeprefix("agent "))

    def _kill_server(self) -> bool:
        assert self.here.server is not None
        self.here.server.kill()
        time.sleep(self.chance.choice([0.0, 0.0, 0.5, 3.0]))
        self._start_server()
        return True

    def _kill_agent(self) -> bool:
        name = self.chance.choice(self.hosts)
        self.here.agents[name].kill()
        time.sleep(self.chance.choice([0.0, 0.0, 0.5, 3.0]))
        self._start_agent(name)
        return True

    def _kill_both(self) -> bool:
        name = self.chance.choice(self.hosts)
        assert self.here.server is not None
        self.here.server.kill()
        self.here.agents[name].kill()
        self._start_agent(name)
        self._start_server()
        return True

    def _kill_restic(self) -> bool:
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            found = restics([self.here.agents[name].pid for name in self.hosts])
            if found:
                with suppress(ProcessLookupError):
                    os.kill(self.chance.choice(found), signal.SIGKILL)
                return True
            time.sleep(0.01)
        return False

    def _cut(self) -> bool:
        return self.proxy.cut() > 0

    def _down(self) -> bool:
        self.proxy.down()
        time.sleep(self.chance.uniform(0.2, 3.0))
        self.proxy.up()
        return True

    def _hold(self) -> bool:
        self.proxy.hold()
        time.sleep(self.chance.uniform(0.2, 2.0))
        if self.chance.random() < 0.5:
            self.proxy.cut()
        self.proxy.go_on()
        return True

    def _freeze(self) -> bool:
        program = self.chance.choice([self.here.server, *self.here.agents.values()])
        assert program is not None
        program.process.send_signal(signal.SIGSTOP)
        time.sleep(self.chance.uniform(0.2, 2.5))
        program.process.send_signal(signal.SIGCONT)
        return True

    def _fill(self) -> bool:
        if self.disk is None:
            return False
        filler = self.disk / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"x" * 512):
                pass
        time.sleep(self.chance.uniform(0.5, 3.0))
        if self.chance.random() < 0.3:
            self.here.agents[FAKES[1]].kill()
        filler.unlink()
        if self._dead(self.here.agents[FAKES[1]]):
            self._start_agent(FAKES[1])
        return True

    def _read_only(self) -> bool:
        if self.disk is None:
            return False
        agent = self.here.agents[FAKES[1]]
        agent.kill()
        # Restics it left behind may still hold files of its folder open; then it stays as it is.
        done = subprocess.run(["mount", "-o", "remount,ro", str(self.disk)], capture_output=True, check=False)
        if done.returncode == 0:
            self._start_agent(FAKES[1])
            code = self.here.agents[FAKES[1]].ended()
            if code != 1 or "read-only" not in self.here.agents[FAKES[1]].said().lower():
                self.played.wrong.append(f"on a read-only disk the agent ended {code}")
            subprocess.run(["mount", "-o", "remount,rw", str(self.disk)], check=True)
        self._start_agent(FAKES[1])
        return True

    # -- processes -----------------------------------------------------------------------------------------------------

    def _dead(self, program: Program | None) -> bool:
        return program is None or program.process.poll() is not None

    def _start_server(self) -> None:
        self.here.start_server()

    def _start_agent(self, name: str) -> None:
        self.here.start_agent(name, restic=self._restic(name), wait=False)

    def _restic(self, name: str) -> Path | str:
        if name == REAL:
            assert self.real is not None
            return self.real.path
        return self.fakes[name].path

    # -- judging -------------------------------------------------------------------------------------------------------

    def judge(self) -> None:
        """Look at rows, repositories and journals, and write down everything that must not be."""
        played = self.played
        jobs = all_jobs(self.here)
        played.statuses.update(job.status.value for job in jobs)
        for job in jobs:
            if not job.status.terminal:
                played.wrong.append(f"job {job.id} of {job.host} is {job.status} still")
        for name in self.hosts:
            if left := self._open_fires(name):
                played.wrong.append(f"{name} has {left} fires or reports left")
            self._judge_slots(name, [job for job in jobs if job.host == name])
            self._judge_runs(name, [job for job in jobs if job.host == name and job.kind == "backup"])
        kept = fetch(self.here, "SELECT COUNT(*) FROM quarantine")[0][0]
        if kept:
            reasons = {str(row[0]) for row in fetch(self.here, "SELECT reason FROM quarantine")}
            played.wrong.append(f"{kept} reports were set aside: {sorted(reasons)[:5]}")
        for program in (self.here.server, *self.here.agents.values()):
            assert program is not None
            if "Traceback" in (said := program.said()):
                played.wrong.append(f"{program.name}: {said[said.index('Traceback') :][:1_500]}")

    def _judge_slots(self, name: str, jobs: list[api.JobView]) -> None:
        fates: dict[datetime, list[str]] = {}
        for job in jobs:
            if job.slot is not None:
                fates.setdefault(job.slot, []).append("ran")
        rows = fetch(
            self.here,
            "SELECT first_slot, count, fate FROM fates JOIN schedules ON schedules.id = schedule_id"
            " WHERE fate != 'ran' AND schedules.name = ?",
            f"every-{name}",
        )
        for first, count, fate in rows:
            for number in range(int(count)):
                slot = datetime.fromtimestamp(int(first) / 1e6, UTC) + SECOND * number
                fates.setdefault(slot, []).append(str(fate))
        for slot, found in sorted(fates.items()):
            self.played.fates.update(found[:1])
            if len(found) > 1:
                self.played.wrong.append(f"{name}: slot {slot:%H:%M:%S} has {len(found)} fates: {', '.join(found)}")
        slot, last = min(fates), max(fates)
        while slot <= last:
            if slot not in fates:
                self.played.wrong.append(f"{name}: slot {slot:%H:%M:%S} is lost")
            slot += SECOND

    def _judge_runs(self, name: str, jobs: list[api.JobView]) -> None:
        wrong = self.played.wrong
        if name == REAL:
            assert self.real is not None
            repo = str(self.repos[name])
            self.real.run(repo, "unlock")
            snapshots = json.loads(self.real.run(repo, "snapshots", "--json"))
            checked = self.real.run(repo, "check", check=False)
            if "no errors were found" not in checked:
                wrong.append(f"restic check: {checked[-600:]}")
        else:
            snapshots = saved_snapshots(self.repos[name])
            ran = Counter(record["env"]["RESTIC_MANAGER_JOB_ID"] for record in self.fakes[name].invocations("backup"))
            wrong += [f"{name}: job {job_id} ran {count} times" for job_id, count in ran.items() if count > 1]
        made = Counter(tag[4:] for each in snapshots for tag in each["tags"] if tag.startswith("rmj:"))
        self.played.snapshots += made.total()
        wrong += [f"{name}: job {job_id} has {count} snapshots" for job_id, count in made.items() if count > 1]
        known = {job.id: job for job in jobs}
        wrong += [
            f"{name}: a snapshot of job {each}, which the server does not know" for each in made if each not in known
        ]
        bare = [job.id for job in jobs if job.status is Status.SUCCEEDED and job.id not in made]
        wrong += [f"{name}: job {job_id} succeeded without a snapshot" for job_id in bare]
        self.played.interrupted_with_snapshot += sum(
            job.status is Status.INTERRUPTED and job.id in made for job in jobs
        )


def all_jobs(here: Stage) -> list[api.JobView]:
    """Return every job: the list alone is bounded."""
    try:
        ids = [str(row[0]) for row in fetch(here, "SELECT id FROM jobs ORDER BY serial")]
        listed = {job.id: job for job in here.jobs()}
        return [listed.get(job_id) or here.client.job(job_id) for job_id in ids]
    except ManagerError as error:
        raise AssertionError(f"the server does not answer: {error}") from error


def fetch(here: Stage, query: str, *values: str) -> list[tuple[Any, ...]]:
    """Ask the server's database itself."""
    with sqlite3.connect(f"file:{here.data / 'server.db'}?mode=ro", uri=True, timeout=10) as db:
        found = db.execute(query, values).fetchall()
    db.close()
    return found


def restics(agents: list[int]) -> list[int]:
    """Return the processes that an agent has started for a job."""
    found = []
    for pid in agents:
        with suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                children = (task / "children").read_text(encoding="ascii").split()
                found += [int(child) for child in children if _carries_a_job(child)]
    return found


def _carries_a_job(pid: str) -> bool:
    try:
        return b"RESTIC_MANAGER_JOB_ID=" in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
