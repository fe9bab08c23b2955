"""What an interval becomes by itself, as its row holds it. Owns the columns `turns` and `turn_at` of `assignments`.

A pause that has an end is written into the row it stops with what holds after it, revisions included. So everybody who
reads the row knows what comes, the host first of all; when its instant has come, `membership` makes rows of it. It
refuses to know pauses and when turns are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from restic_manager.domain.model import Turn
from restic_manager.domain.pausing import Outlook, Standing

_turns: Final = msgspec.json.Decoder(tuple[Turn, ...])


def columns(outlook: Outlook, revision: int) -> dict[str, Any]:
    """Given how a schedule stands on a host and will stand, return a row's columns for it, from this revision on."""
    turns = tuple(
        Turn(at=at, revision=number, enabled=standing.enabled, off_reason=standing.off_reason)
        for number, (at, standing) in enumerate(outlook.turns, start=revision + 1)
    )
    return {
        "revision": revision,
        "enabled": outlook.now.enabled,
        "off_reason": outlook.now.off_reason,
        **columns_of(turns),
    }


def columns_of(turns: Sequence[Turn]) -> dict[str, Any]:
    """Given the turns that are to come, return the columns that hold them."""
    return {
        "turns": msgspec.json.encode(turns).decode() if turns else None,
        "turn_at": turns[0].at if turns else None,
    }


def read(text: str | None) -> tuple[Turn, ...]:
    """Given the column `turns`, return them."""
    return () if text is None else _turns.decode(text)


def outlook_of(row: Any) -> Outlook:
    """Given a row of `assignments` as a mapping, return how the schedule stands there and will stand."""
    return Outlook(
        Standing(enabled=row["enabled"], off_reason=row["off_reason"]),
        tuple((turn.at, Standing(enabled=turn.enabled, off_reason=turn.off_reason)) for turn in read(row["turns"])),
    )


def last_revision(row: dict[str, Any]) -> int:
    """Given the columns of a row, return the highest revision it stands for: its own, or that of its last turn."""
    turns = read(row["turns"])
    return turns[-1].revision if turns else int(row["revision"])
