"""Finds a short list of faults that does what a long one does, by leaving out. It does not know what is played."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from tests.simulation.faults import Fault


def shrink(
    faults: Sequence[Fault], fails: Callable[[list[Fault]], bool], *, goes_on: Callable[[], bool]
) -> list[Fault]:
    """Given faults with which something fails, return fewer with which it does still.

    Halves are left out first, then smaller parts, in the end single ones, until none can go, or goes_on says no.
    """
    short, size = list(faults), (len(faults) + 1) // 2
    while short:
        before, start = len(short), 0
        while start < len(short):
            if not goes_on():
                return short
            fewer = short[:start] + short[start + size :]
            if fails(fewer):
                short = fewer
            else:
                start += size
        if size == 1 and len(short) == before:
            break
        size = max(1, size // 2)
    return short


def kinds(violations: Iterable[str]) -> frozenset[str]:
    """Given violations, return what kinds of them there are: their first words, without names and numbers."""
    return frozenset(" ".join(re.findall(r"\b[a-z]+\b", line)[:3]) for line in violations)
