"""From what an operator types to an id: exact name first, then the unique beginning of an id. Owns that rule in SQL.

Only what is not removed can be referred to, but for the questions about what was. It refuses to know what the rows are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar

import sqlalchemy
from sqlalchemy import Connection, Table

from restic_manager.domain.errors import ConflictError, NotFoundError
from restic_manager.domain.names import MIN_PREFIX, id_prefix

T = TypeVar("T")

_PLURALS: Final = {"host": "hosts", "repository": "repositories", "schedule": "schedules"}
_NOUNS: Final = {"host": "host", "repository": "repo", "schedule": "schedule"}
_CHUNK: Final = 500


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Given values, yield them in slices small enough for one statement's parameters in any engine."""
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


def resolve_id(tx: Connection, table: Table, reference: str, what: str) -> str:
    """Given a name or enough of an id, return the id; raise NotFoundError for none or several."""
    found = id_of_name(tx, table, reference)
    if found is not None:
        return found
    prefix = id_prefix(reference)
    if prefix is not None:
        # "g" sorts after every digit of an id, so this range is the prefix, and an index answers it.
        matches = tx.execute(
            sqlalchemy.select(table.c.id, table.c.name)
            .where(table.c.id >= prefix, table.c.id < prefix + "g", table.c.removed_at.is_(None))
            .order_by(table.c.name)
            .limit(4)
        ).all()
        if len(matches) == 1:
            return str(matches[0].id)
        if matches:
            shown = ", ".join(f"{row.name} ({row.id[:13]}…)" for row in matches[:3])
            raise NotFoundError(f"{reference!r} fits several {_PLURALS[what]} ({shown}): write more of the id")
    raise NotFoundError(
        f"there is no {what} {reference[:80]!r} (neither a name nor the first {MIN_PREFIX} or more digits of an id): "
        f"`restic-manager {_NOUNS[what]} list` shows what there is"
    )


def resolve_ever(tx: Connection, table: Table, reference: str, what: str) -> str:
    """As `resolve_id`; and of what was removed, return the id for its whole name or id, the last one of that name."""
    try:
        return resolve_id(tx, table, reference, what)
    except NotFoundError:
        gone = sqlalchemy.select(table.c.id).where(
            (table.c.name == reference) | (table.c.id == reference), table.c.removed_at.is_not(None)
        )
        found: str | None = tx.execute(gone.order_by(table.c.removed_at.desc()).limit(1)).scalar()
        if found is None:
            raise
        return found


def id_of_name(tx: Connection, table: Table, name: str) -> str | None:
    """Given a name, return the id of what has it now, None if nothing has."""
    return tx.execute(
        sqlalchemy.select(table.c.id).where(table.c.name == name, table.c.removed_at.is_(None))
    ).scalar_one_or_none()


def refuse_taken_name(tx: Connection, table: Table, name: str, what: str) -> None:
    """Given a name for something new, return if it is free; raise ConflictError if not.

    There is one writer, so what is looked up in its transaction stays true until the COMMIT.
    """
    if id_of_name(tx, table, name) is not None:
        raise ConflictError(f"there is already a {what} {name!r}: choose another name, or remove that one first")


def names_of(tx: Connection, table: Table, ids: Iterable[str]) -> dict[str, str]:
    """Given ids, return the names of those there are, removed ones too."""
    found: dict[str, str] = {}
    for part in chunks(sorted(set(ids))):
        query = sqlalchemy.select(table.c.id, table.c.name).where(table.c.id.in_(part))
        found.update((row.id, row.name) for row in tx.execute(query))
    return found
