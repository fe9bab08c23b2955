"""`schedule history` and `schedule why`: what became of every slot, and of one. Owns their options and their table."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from restic_manager.cli.command import Operator, operator_command
from restic_manager.cli.render import Column
from restic_manager.cli.text import short, when

if TYPE_CHECKING:
    from restic_manager.protocol.api import HistoryEntry

MOST = 1_000

HostOption = Annotated[str | None, typer.Option("--host", metavar="H", help="Only on this host.", show_default=False)]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]


def add_history(app: typer.Typer) -> None:
    """Given the commands of `schedule`, add these."""
    operator_command(
        app,
        "history",
        examples="""
      restic-manager schedule history nightly --since 7d
      restic-manager schedule history nightly --host web1 --since 2026-11-01
    """,
    )(history)
    operator_command(
        app,
        "why",
        examples="""
      restic-manager schedule why nightly --host web1 --at '2026-11-20 02:00'
      restic-manager schedule why nightly --at 2026-11-20T02:00:00Z
    """,
    )(why)


def history(
    operator: Operator,
    name: NameArgument,
    *,
    host: HostOption = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="WHEN",
            help="Slots from then on: 7d or 12h ago, a date (UTC), or RFC 3339.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[str, typer.Option("--limit", metavar="N", help="At most so many entries (1 to 1000).")] = "50",
) -> None:
    """List what became of a schedule's slots up to now, newest first: every slot has exactly one fate.

    ran · coalesced (a later slot took its place) · missed · skipped · rejected; pending is due and not decided yet,
    unknown is past due on a host that cannot be heard. A run's retries stand in its slot's line.
    """
    from restic_manager.cli.typed import since_when, whole_number

    most = whole_number(limit, "--limit", least=1, most=MOST)
    begin = None if since is None else since_when(since, operator.now())
    entries = operator.client.history(name, host=host, since=begin, limit=most)
    if operator.as_json:
        operator.screen.data(entries)
        return
    now = operator.now()
    operator.screen.table(
        [Column("SLOT (UTC)", keep=True), "HOST", Column("FATE", keep=True), Column("JOB", keep=True), "WHY"],
        (
            (f"{entry.slot:%Y-%m-%d %H:%M:%S}", entry.host, _fate(entry), _job(entry), _why(entry, now))
            for entry in entries
        ),
        empty="no slot has come due yet",
    )
    if len(entries) == most:
        operator.screen.note(f"only the newest {most:,} are shown: --limit N for more")


def why(
    operator: Operator,
    name: NameArgument,
    *,
    host: HostOption = None,
    at: Annotated[
        str,
        typer.Option(
            "--at",
            metavar="INSTANT",
            help="The slot: RFC 3339, or '2026-11-20 18:00' in the schedule's own zone; within a minute.",
            show_default=False,
        ),
    ],
) -> None:
    """Say in one sentence what became of one slot, with the evidence. Ends with 4 where there is no such slot."""
    found = operator.client.why(name, at=at, host=host)
    if operator.as_json:
        operator.screen.data(found)
    else:
        operator.screen.say(found.sentence)


def _fate(entry: HistoryEntry) -> str:
    return entry.fate if entry.count == 1 else f"{entry.fate} ×{entry.count:,}"  # noqa: RUF001 - so many times


def _job(entry: HistoryEntry) -> str:
    if entry.job_id is None:
        return ""
    more = f" +{len(entry.attempts) - 1}" if len(entry.attempts) > 1 else ""
    return f"{short(entry.job_id)}{more}"


def _why(entry: HistoryEntry, now: datetime) -> str:
    through = "" if entry.last_slot is None else f"through {entry.last_slot:%m-%d %H:%M:%S}"
    if entry.status is not None:
        why = str(entry.status)
    elif entry.into is not None:
        why = f"into {entry.into:%m-%d %H:%M:%S}"
    elif entry.fate == "pending":
        why = f"due {when(entry.slot, now)}"
    else:
        why = entry.reason or ""
    return ", ".join(part for part in (through, why) if part)
