"""The verdict on a whole run: every invariant, judged from the rows, the journals and the book of what really ran.

Shares no code with the product. Which rooms judge what: `judge_fates` the ledger, `judge_runs` jobs, logs and acks,
`judge_traffic` who met whom on a repository, `judge_calm` that all goes on and ends when nothing is wrong any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation import judge_calm, judge_fates, judge_runs, judge_traffic, record
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.play import Result


def check(world: World, result: Result) -> None:
    """Judge the whole run; violations go into the result."""
    found = record.read(world.server.path)
    result.violations += world.book.violations
    judge_fates.judge(world, result, found)
    judge_runs.judge(world, result, found)
    judge_traffic.judge(world, result, found)
    judge_calm.judge_alive(world, result, found)
    judge_runs.judge_logs(world, result, found)
    judge_runs.judge_acks(world, result, found)
    judge_runs.judge_verdicts(world, result, found)
