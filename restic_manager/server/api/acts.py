"""One operation that somebody asked for, and what the audit says of it.

Owns that a change and its row are one transaction, and that a refusal has a row too. It refuses to know HTTP, what the
operation does, and who may ask for it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from sqlalchemy import Connection

from restic_manager.domain.errors import ManagerError, NotPermittedError, StorageError
from restic_manager.domain.roles import Role
from restic_manager.domain.selectors import TargetRule
from restic_manager.runtime.redact import Redactor, cut_userinfo
from restic_manager.server.api import subjects
from restic_manager.server.store import audit
from restic_manager.server.store.audit import Entry
from restic_manager.server.store.writer import Change

if TYPE_CHECKING:
    from restic_manager.server.services import Services

logger = logging.getLogger(__name__)
T = TypeVar("T")

_SECRET_FIELDS: Final = frozenset({"password", "user_password", "env", "maintainer_env"})
_NUL: Final = str.maketrans({"\0": "\ufffd"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asks. name: the user of the socket, or a token's. origin: from where, for people. scope: which hosts its
    token is for; None for all. token_id: None at the socket.
    """

    name: str
    role: Role
    origin: str
    expires_at: datetime | None = None
    scope: TargetRule | None = None
    token_id: str | None = None


class Act:
    """One request of one operator. `within` makes a change write its own row."""

    def __init__(self, services: Services, asker: Asker, *, operation: str, path: str, changes: bool) -> None:
        """Given who asks for which operation, hold that. path: the operation's, with its {parameters}."""
        self.asker = asker
        self._services = services
        self._operation = operation
        self._sort = subjects.sort_of(path)
        self._changes = changes
        self._reference: str | None = None
        self._secrets: tuple[str, ...] = ()
        self._noted = False

    def about(self, path: dict[str, str], body: msgspec.Struct | None) -> None:
        """Given what the request says, know what it is about, and what of it must not be repeated."""
        reference = path.get("ref")
        if reference is None and body is not None:
            # What is made has no path yet; a wish names its repository.
            reference = getattr(body, "name", None) or getattr(body, "repo", None)
        self._reference = reference
        if body is not None:
            self._secrets = tuple(_secrets(msgspec.to_builtins(body)))

    def within(
        self, change: Change[T], *, before: Mapping[str, str] | None = None, after: Mapping[str, str] | None = None
    ) -> Change[T]:
        """Given a change, return it with the audit's row of it, in the same transaction.

        before, after: the facts of what is no row of the store, as they were and are.
        """
        now = self._services.clock.now()  # here: the change runs in the writer's thread

        def audited(tx: Connection) -> T:
            sort, known = self._sort or "", None
            if self._reference is not None:
                known = subjects.find(tx, sort, self._reference)
            there, serial = subjects.look(tx, sort, known), subjects.newest_job(tx)
            value = change(tx)
            if known is None and self._reference is not None:
                known = subjects.find(tx, sort, self._reference)
            now_there = subjects.look(tx, sort, known)
            self._record(
                tx,
                now=now,
                label=now_there.label,
                known=known,
                before={**there.facts, **(before or {})},
                after={**now_there.facts, **subjects.jobs_since(tx, serial), **(after or {})},
            )
            self._noted = True
            return value

        return audited

    async def failed(self, error: ManagerError) -> None:
        """Given how it ended, write that down: whatever was not permitted, and every change that was not made."""
        if self._noted or isinstance(error, StorageError):
            return
        if not self._changes and not isinstance(error, NotPermittedError):
            return

        now = self._services.clock.now()

        def note(tx: Connection) -> None:
            known, label = None, self._sort
            if self._sort is not None and self._reference is not None:
                known = subjects.find(tx, self._sort, self._reference)
                label = f"{self._sort} {self._reference[:120]}" if known is None else None
            if self._sort is not None and label is None:
                label = subjects.look(tx, self._sort, known).label
            self._record(tx, now=now, label=label, known=known, outcome=error.code, message=error.message)

        try:
            await self._services.store.write(note)
        except StorageError as problem:
            logger.warning(
                "audit: %s by %s (%s) is not in it: %s", self._operation, self.asker.name, error.code, problem
            )

    def _record(
        self,
        tx: Connection,
        *,
        now: datetime,
        label: str | None,
        known: str | None,
        before: dict[str, str] | None = None,
        after: dict[str, str] | None = None,
        outcome: str = "done",
        message: str | None = None,
    ) -> None:
        redactor = Redactor(self._secrets)

        def clean(facts: dict[str, str] | None) -> dict[str, str]:
            # Of rows, not of requests: what is secret is not in them, and a short secret must not garble them.
            return {name: cut_userinfo(value).translate(_NUL) for name, value in (facts or {}).items()}

        entry = Entry(
            who=self.asker.name,
            role=self.asker.role,
            origin=self.asker.origin,
            operation=self._operation,
            object=None if label is None else redactor.text(label).translate(_NUL),
            object_id=known,
            before=clean(before),
            after=clean(after),
            outcome=outcome,
            message=None if message is None else redactor.text(message).translate(_NUL),
        )
        audit.record(tx, entry, now=now)


def _secrets(value: Any, *, inside: bool = False) -> Iterator[str]:
    """Yield every text that stands in a field whose content is secret."""
    match value:
        case str() if inside:
            yield value
        case dict():
            for name, item in value.items():
                yield from _secrets(item, inside=inside or name in _SECRET_FIELDS)
        case list() | tuple():
            for item in value:
                yield from _secrets(item, inside=inside)
