"""Who stands at the agents' door: how many may be there that have not said a good hello, and whom they come from.

Decides who is turned away at once; counts, and waits for nobody. Sessions that stand are not counted. It refuses to
know sockets and credentials: whom a connection speaks for it is told as a text.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from restic_manager.domain.pace import Pace

MAX_UNGREETED: Final = 2_000
"""Connections that have not said a good hello yet; one more is closed at once."""
MAX_UNGREETED_OF_NETWORK: Final = 1_000
"""Of these, from one network: an address, of IPv6 a /64."""
MAX_UNGREETED_OF_BEARER: Final = 4
"""Of these, with one credential or token."""
FRUITLESS_A_SECOND: Final = 20.0
FRUITLESS_AT_ONCE: Final = 1_000.0
"""Connections of one network that ended without showing a good credential or token; beyond that, all of it wait."""
DIALS_A_SECOND: Final = 1.0
DIALS_AT_ONCE: Final = 60.0
"""Connections with one credential or token that are heard."""
REMEMBERED: Final = 16_384
"""Networks, and bearers, remembered; who was here longest ago is forgotten first."""


@dataclass(slots=True)
class _Known:
    pace: Pace
    here: int = 0


@dataclass(slots=True, eq=False)
class Newcomer:
    """One connection at the door. bearer: whom it speaks for, once that was found good."""

    network: str
    bearer: str | None = None


@dataclass
class Newcomers:
    """All of them. by_network: whether addresses tell anything; behind a proxy all have the proxy's. Times are seconds
    of one monotonic clock, handed in.
    """

    by_network: bool = True
    _networks: OrderedDict[str, _Known] = field(default_factory=OrderedDict)
    _bearers: OrderedDict[str, _Known] = field(default_factory=OrderedDict)
    _here: int = 0

    def enter(self, network: str, now: float) -> Newcomer | str:
        """Given where a connection comes from, let it in, or return why not; `leave` has to follow where it was."""
        if self._here >= MAX_UNGREETED:
            return f"{self._here} connections have said no hello yet"
        if self.by_network:
            known = _known(self._networks, network, FRUITLESS_A_SECOND, FRUITLESS_AT_ONCE, now)
            if known.here >= MAX_UNGREETED_OF_NETWORK:
                return f"{known.here} connections of its network have said no hello yet"
            if not known.pace.allows(now, 0):
                return "too many connections of its network came to nothing"
            known.here += 1
        self._here += 1
        return Newcomer(network)

    def speaks_for(self, newcomer: Newcomer, bearer: str, now: float) -> str | None:
        """Given whose credential or token it showed, note that; return why it is not heard all the same, if so."""
        known = _known(self._bearers, bearer, DIALS_A_SECOND, DIALS_AT_ONCE, now)
        newcomer.bearer = bearer
        known.here += 1
        if known.here > MAX_UNGREETED_OF_BEARER:
            return f"{known.here - 1} connections with this credential are open and have said no hello yet"
        if not known.pace.allows(now):
            return "it comes too often with this credential"
        return None

    def leave(self, newcomer: Newcomer, now: float) -> None:
        """It has said a good hello, or is gone."""
        self._here -= 1
        if (known := self._networks.get(newcomer.network)) is not None:
            known.here -= 1
            if newcomer.bearer is None:
                known.pace.take(now)
        if newcomer.bearer is not None and (bearer := self._bearers.get(newcomer.bearer)) is not None:
            bearer.here -= 1

    @property
    def here(self) -> int:
        """How many there are."""
        return self._here


def _known(all_known: OrderedDict[str, _Known], key: str, a_second: float, at_once: float, now: float) -> _Known:
    """Return what is known of a network or bearer; forget some of whom nothing is to be remembered."""
    known = all_known.get(key)
    if known is None:
        known = all_known[key] = _Known(Pace(a_second, at_once))
    all_known.move_to_end(key)
    for _ in range(2):  # the oldest: more go than come
        oldest = next(iter(all_known))
        idle = all_known[oldest].here == 0 and (all_known[oldest].pace.full(now) or len(all_known) > REMEMBERED)
        if oldest == key or not idle:
            break
        del all_known[oldest]
    return known
