"""Failed attempts to be let in, by network. Decides how long each has to wait for its refusal; waits for nobody.

Who has the right token is never held up, whatever others at the same address try. It refuses to know tokens.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

FREE: Final = 3
"""Failures that are answered at once: anybody mistypes."""
FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 10.0
FORGOTTEN_AFTER: Final = 600.0
"""Seconds without a failure after which a network begins anew."""
WAITING_AT_ONCE: Final = 4
"""Refusals of one network under way at a time; further ones are turned away unheard."""
NETWORKS: Final = 4_096
"""Networks remembered; the one that failed longest ago is forgotten first."""


@dataclass(slots=True)
class _Network:
    failures: int = 0
    last: float = 0.0
    waiting: int = 0
    unheard: int = 0


class Attempts:
    """What has failed lately. Times are seconds of one monotonic clock, handed in."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._networks: OrderedDict[str, _Network] = OrderedDict()

    def may_be_heard(self, network: str) -> bool:
        """Given who failed, return whether a refusal is to be given and written down; else it is only counted."""
        known = self._networks.get(network)
        if known is None or known.waiting < WAITING_AT_ONCE:
            return True
        known.unheard += 1
        return False

    def failed(self, network: str, now: float) -> float:
        """Given who failed and when, return how many seconds its refusal is to wait; `refused` has to follow."""
        known = self._networks.pop(network, None) or _Network()
        if now - known.last > FORGOTTEN_AFTER and not known.waiting:
            known = _Network()
        self._networks[network] = known
        known.failures += 1
        known.last = now
        known.waiting += 1
        while len(self._networks) > NETWORKS:
            self._networks.popitem(last=False)
        over = known.failures - FREE
        return 0.0 if over <= 0 else min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(over - 1, 30))

    def refused(self, network: str) -> int:
        """The refusal was given: return how many further attempts were turned away unheard since the last one."""
        known = self._networks.get(network)
        if known is None:
            return 0
        known.waiting = max(0, known.waiting - 1)
        unheard, known.unheard = known.unheard, 0
        return unheard
