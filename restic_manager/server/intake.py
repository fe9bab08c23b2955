"""The road from one session's link to the rows: bounded, in order, many a transaction, answered after the commit.

The reading task offers; when too much waits it is held up, and with it the peer, by TCP. One task takes what waits, has
it applied, and answers. A message that breaks the rows' own rules (a bug, or an attack we did not think of) is found by
taking the batch apart, and set aside alone. It refuses to know what messages mean.
"""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection

from restic_manager.domain.errors import StorageError
from restic_manager.link import Incoming
from restic_manager.protocol.codec import WireError
from restic_manager.protocol.messages import Error, Goodbye, ScheduleFired
from restic_manager.runtime.bell import Bell
from restic_manager.runtime.clock import Clock
from restic_manager.runtime.seldom import Seldom
from restic_manager.server import reports
from restic_manager.server.hub import Session
from restic_manager.server.reports import Sender, Taken
from restic_manager.server.store.ripple import Ripple
from restic_manager.server.store.writer import Store

logger = logging.getLogger(__name__)

MAX_WAITING: Final = 1_000
"""Messages of one session that may wait."""
MAX_WAITING_TEXT: Final = 4 << 20
"""Characters of one session that may wait (one message more is taken)."""
MAX_BATCH: Final = 50
"""Messages applied in one closure: the writer's other callers wait for it, and of a flood each host's in its turn."""
MAX_BATCH_TEXT: Final = 512 << 10


class Intake:
    """One session's intake. `offer` from the reading task, `run` as a task of its own."""

    def __init__(
        self, *, store: Store, clock: Clock, session: Session, sender: Sender, apply: Callable[[Ripple], None]
    ) -> None:
        self._store = store
        self._clock = clock
        self._session = session
        self._sender = sender
        self._apply = apply
        self._waiting: deque[Incoming] = deque()
        self._text = 0
        self._bell = Bell()
        self._room = Bell()
        self._rejections = Seldom(logger)
        self._failures = Seldom(logger)

    async def offer(self, incoming: Incoming) -> None:
        """Given a message, hand it in; waits while too much does."""
        while len(self._waiting) >= MAX_WAITING or self._text >= MAX_WAITING_TEXT:
            await self._room.wait()
        self._waiting.append(incoming)
        self._text += len(incoming.frame)
        self._bell.ring()

    async def run(self) -> None:
        """Take what waits, for ever; returns when the session has to end (the agent has been told why).

        Raise StorageError when the store cannot be written: the agent keeps its reports and comes again.
        """
        while True:
            await self._bell.wait()
            while self._waiting:
                batch = self._next_batch()
                taken = await self._take(batch)
                if not self._answer(taken):
                    return

    def _next_batch(self) -> list[Incoming]:
        batch: list[Incoming] = []
        text = 0
        while self._waiting and len(batch) < MAX_BATCH and text < MAX_BATCH_TEXT:
            incoming = self._waiting.popleft()
            text += len(incoming.frame)
            batch.append(incoming)
        self._text -= text
        self._room.ring()
        return batch

    async def _take(self, batch: list[Incoming]) -> Taken:
        now = self._clock.now()
        try:
            return await self._store.write(functools.partial(reports.take, batch=batch, sender=self._sender, now=now))
        except StorageError:
            raise
        except Exception:  # noqa: BLE001 - logged by `_failures`; what caused it is set aside below
            said = "link %s: %d messages could not be applied"
            self._failures.say(logging.ERROR, said, self._session.link.remote, len(batch), trace=True)
            if len(batch) == 1:
                return await self._isolate(batch[0])
        whole = Taken()
        for incoming in batch:
            taken = await self._take([incoming])
            whole.answers += taken.answers
            whole.ripple.add(taken.ripple)
            whole.running |= taken.running
            whole.end = taken.end
            if whole.end is not None:
                break
        return whole

    async def _isolate(self, incoming: Incoming) -> Taken:
        """One message alone could not be applied: it is ours to explain, and must not stop what comes behind it."""
        message = incoming.message
        reason = "the server failed while applying it: its log tells why"
        if getattr(message, "seq", None) is None:
            return Taken(answers=[Error(code="internal", message=reason, ref=_tag(message))])

        def change(tx: Connection) -> Taken:
            return reports.set_aside(tx, incoming, self._sender, reason=reason, now=self._clock.now())

        return await self._store.write(change)

    def _answer(self, taken: Taken) -> bool:
        """Say what is committed now and do what it calls for; return whether the session goes on."""
        link = self._session.link
        self._session.jobs |= taken.running
        for answer in taken.answers:
            link.put(answer)
            if isinstance(answer, ScheduleFired) and answer.answer == "rejected":
                said = "link %s: a fire was rejected (%s): %s"
                self._rejections.say(logging.INFO, said, link.remote, answer.code, answer.message)
        self._apply(taken.ripple)
        if taken.end is None:
            return True
        logger.warning("link %s: ended: %s", link.remote, taken.end.message)
        link.put(taken.end)
        link.put(Goodbye(reason=taken.end.message[:256]))
        return False


def _tag(message: object) -> str | None:
    if isinstance(message, WireError):
        return message.type
    return str(getattr(type(message), "__struct_config__").tag)  # noqa: B009 - not in msgspec's types
