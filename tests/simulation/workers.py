"""Processes that play seeds, and shrink those that fail.

Every one is a fresh interpreter whose sets have one order, for that is part of what a seed repeats.
"""

from __future__ import annotations

import faulthandler
import gc
import logging
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.simulation.faults import Fault, Setting
from tests.simulation.mistakes import planted
from tests.simulation.play import Result, simulate
from tests.simulation.shrink import kinds, shrink

_HASHES = "PYTHONHASHSEED"


@dataclass(frozen=True)
class Order:
    """One seed to play.

    faults: these, not the seed's own. mistake: what is wrong with the product. watchdog: real seconds one play may
    take. shrink: real seconds for shrinking what fails, 0 for none. keep: the folder for its databases.
    """

    setting: Setting
    faults: tuple[Fault, ...] | None = None
    mistake: str | None = None
    full_trace: bool = False
    watchdog: float = 1_800.0
    shrink: float = 0.0
    keep: Path | None = None


@dataclass(frozen=True)
class Played:
    """What became of an order, and of the short list of faults that still fails (None: all well, or not asked)."""

    result: Result
    short: Result | None = None


def play(order: Order) -> Played:
    """Given an order, play it in this process."""
    with planted(order.mistake):
        keep = None if order.keep is None else order.keep / f"seed-{order.setting.seed}"
        result = _watched(order, order.faults, keep=keep)
        if not result.violations or not order.shrink:
            return Played(result)
        return Played(result, _shrunk(order, result))


def _shrunk(order: Order, result: Result) -> Result:
    """Shrink to what fails in a way the whole list failed in, too; return what becomes of it."""
    wanted, until = kinds(result.violations), time.monotonic() + order.shrink
    short = result

    def fails(faults: list[Fault]) -> bool:
        nonlocal short
        found = _watched(order, faults)
        if kinds(found.violations).isdisjoint(wanted):
            return False
        short = found
        return True

    shrink(result.faults, fails, goes_on=lambda: time.monotonic() < until)
    return short


def _watched(order: Order, faults: Sequence[Fault] | None, *, keep: Path | None = None) -> Result:
    faulthandler.dump_traceback_later(order.watchdog, exit=True)
    try:
        return simulate(order.setting, faults, full_trace=order.full_trace, keep=keep)
    finally:
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def open_workers(processes: int | None = None, *, log: bool = False) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of so many processes (None: one for each core). log: they let the product log."""
    before = os.environ.get(_HASHES)
    os.environ[_HASHES] = "0"  # read by an interpreter when it starts: ours has started
    try:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes or os.cpu_count(), context, _prepare, (log,)) as pool:
            yield pool
    finally:
        if before is None:
            del os.environ[_HASHES]
        else:
            os.environ[_HASHES] = before


def _prepare(log: bool) -> None:
    gc.set_threshold(200_000, 50, 50)  # a run makes much and keeps little: looking for cycles is a tenth of its time
    if log:
        logging.basicConfig(level=logging.INFO)
    else:
        logging.disable(logging.CRITICAL)
