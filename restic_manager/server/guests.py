"""Requests under way, by the operator's token that let them in: so that a token's end is theirs too.

A followed stream lasts as long as what it follows; whose token is revoked or expires meanwhile must not go on reading.
Owns no connection and no token; refuses to know what is asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import trio


class Guests:
    """Who is inside. `inside` is entered for each request of a token, `turn_out` when it is revoked."""

    def __init__(self) -> None:
        """Nobody is there yet."""
        self._scopes: dict[str, set[trio.CancelScope]] = defaultdict(set)

    @contextmanager
    def inside(self, token_id: str, seconds: float | None) -> Iterator[None]:
        """Given a token and for how long it is still good (None: for ever), let one request go on until then."""
        deadline = float("inf") if seconds is None else trio.current_time() + seconds
        scope = trio.CancelScope(deadline=deadline)
        self._scopes[token_id].add(scope)
        try:
            with scope:
                yield
        finally:
            self._scopes[token_id].discard(scope)
            if not self._scopes[token_id]:
                del self._scopes[token_id]

    def turn_out(self, token_id: str) -> None:
        """Given a token that is no longer good, end what it let in. Whoever reads a stream sees it break off."""
        for scope in list(self._scopes.get(token_id, ())):
            scope.cancel()
