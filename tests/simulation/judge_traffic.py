"""Judges the traffic: whom the server let onto a repository together, and that the rules of retention are acted on.

Only what a server ordered that knew of it all is held against it. It knows nothing of what hosts began by themselves,
of what it ordered before it was put back to a copy, or of what a host that lost its memory, or has a twin, does again:
there restic's own locks hold.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from tests.simulation.pretend import Run
from tests.simulation.record import Record
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.play import Result

PLACES: Final = 4
"""The simulated repositories have as many places as one has by default."""


def judge(world: World, result: Result, record: Record) -> None:
    """Given the record, count the runs of each kind and add to the result what is wrong with who ran beside whom."""
    by_repo: dict[str, list[Run]] = defaultdict(list)
    for run in world.book.runs:
        result.kinds[run.kind.value] += 1
        by_repo[run.repo_id].append(run)
    for runs in by_repo.values():
        _judge_repo(world, result, runs)
    _judge_retention(world, result, record)


def _judge_repo(world: World, result: Result, runs: list[Run]) -> None:
    """Given the runs on a repository in the order of their starts: at each start, who else is there by then?"""
    there: list[Run] = []
    for run in runs:
        there = [other for other in there if other.until is None or other.until > run.at]
        if _known(world, run, run.at):
            met = [other for other in there if _known(world, other, run.at)]
            alone = [other for other in met if run.kind.exclusive or other.kind.exclusive]
            result.beside = max(result.beside, len(met) + 1)
            if alone:
                result.violations.append(f"not alone on its repository: {_words(run)} and {_words(alone[0])}")
            if len(met) >= PLACES:
                result.violations.append(f"more than {PLACES} on a repository: {_words(run)} and {len(met)} more")
        there.append(run)


def _known(world: World, run: Run, at: float) -> bool:
    """Whether the server as it is at this second has ordered this run, and its host can be taken at its word."""
    if run.ordered is None or any(run.ordered <= back <= at for _, back in world.restores):
        return False
    return all(since > at for since, _, _ in world.losses.get(run.host, ()))


def _words(run: Run) -> str:
    return f"{run.kind.value} {run.job_id[:8]} on {run.host} at {run.at:.0f}"


def _judge_retention(world: World, result: Result, record: Record) -> None:
    """Where backups were made by a schedule that keeps by rules, the server has had something forgotten.

    (What a copy of the server hears again is history, and leads to nothing.)
    """
    good = {
        job["repo_id"]
        for job in record.jobs.values()
        if job["schedule_id"] in record.retaining and job["snapshot_id"] is not None
    }
    forgotten = {job["repo_id"] for job in record.jobs.values() if job["kind"] == "forget"}
    if not world.restores:
        result.violations += [f"nothing was ever forgotten on {repo_id}" for repo_id in sorted(good - forgotten)]
