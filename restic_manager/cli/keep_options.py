"""The options that say how long a schedule's snapshots are kept, and what its backups are warned for.

Owns their names and what their help says; what their values mean is `keep_request`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from restic_manager.cli.command import OptionSet
from restic_manager.cli.spec_options import value

_SPAN = "of this long back from the newest snapshot (30d, 1y6m; m is months)."


@dataclass(frozen=True, kw_only=True)
class KeepOptions(OptionSet):
    """Retention and guards of a backup schedule."""

    keep_last: Annotated[str | None, value("--keep-last", "N", "Keep each host's last N snapshots.")] = None
    keep_hourly: Annotated[str | None, value("--keep-hourly", "N", "Keep one an hour, of the last N hours.")] = None
    keep_daily: Annotated[str | None, value("--keep-daily", "N", "Keep one a day, of the last N days.")] = None
    keep_weekly: Annotated[str | None, value("--keep-weekly", "N", "Keep one a week, of the last N weeks.")] = None
    keep_monthly: Annotated[str | None, value("--keep-monthly", "N", "Keep one a month, of the last N months.")] = None
    keep_yearly: Annotated[str | None, value("--keep-yearly", "N", "Keep one a year, of the last N years.")] = None
    keep_within: Annotated[str | None, value("--keep-within", "SPAN", f"Keep everything {_SPAN}")] = None
    keep_within_hourly: Annotated[str | None, value("--keep-within-hourly", "SPAN", f"Keep one an hour {_SPAN}")] = None
    keep_within_daily: Annotated[str | None, value("--keep-within-daily", "SPAN", f"Keep one a day {_SPAN}")] = None
    keep_within_weekly: Annotated[str | None, value("--keep-within-weekly", "SPAN", f"Keep one a week {_SPAN}")] = None
    keep_within_monthly: Annotated[str | None, value("--keep-within-monthly", "SPAN", f"Keep one a month {_SPAN}")] = (
        None
    )
    keep_within_yearly: Annotated[str | None, value("--keep-within-yearly", "SPAN", f"Keep one a year {_SPAN}")] = None
    keep_tag: Annotated[
        list[str] | None, value("--keep-tag", "T", "Keep every snapshot with this tag, for ever; repeat.")
    ] = None
    guard_shrink: Annotated[
        str | None,
        value(
            "--guard-shrink",
            "PCT",
            "Warn when files or bytes fall by more than this share against the recent median; `none`: never."
            " [default: 50%]",
        ),
    ] = None
    guard_least: Annotated[
        str | None, value("--guard-least", "SIZE", "Warn when a backup has less than this; `none`, the default: never.")
    ] = None
    guard_off: Annotated[
        list[str] | None,
        value(
            "--guard-off",
            "NAME",
            "Do not warn for this: source_missing, source_unreadable, fewer_files, smaller, too_small, future_time or"
            " nothing; repeat.",
        ),
    ] = None
